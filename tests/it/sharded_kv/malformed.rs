//! What is no request ends its own connection, with an error that says why, and nothing else.

use super::{Client, Server, server};
use coring_tests::random::Random;
use coring_tests::{check, note, proc, rounds};
use std::io::{Read, Write};
use std::net::Shutdown;

/// Sends bytes and reads what comes until the server ends the connection.
fn send_and_read(port: u16, bytes: &[u8], end: bool) -> Vec<u8> {
    let mut client = Client::connect(port);
    // The server may hang up before it has read all.
    let _ = client.stream.get_mut().write_all(bytes);
    if end {
        let _ = client.stream.get_mut().shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = client.stream.read_to_end(&mut answer);
    answer
}

#[test]
fn each_kind_ends_its_connection_with_an_error() {
    // Goal: each kind of malformed request is answered with a protocol error, behind the answers to what came before it,
    // and the connection ends. What follows it is not run.
    // Method: each between good requests, on a server of two cores, beside a connection that goes on.
    check(|| {
        let server = server!(Server::start(2, [""; 0]));
        let mut other = server.client();
        let long = "x".repeat(70_000);
        let cases = [
            ("*x\r\n", "invalid multibulk length"),
            ("*99999999999\r\n", "invalid multibulk length"),
            ("*1\r\n:1\r\n", "expected '$', got ':'"),
            ("*1\r\n*1\r\n*1\r\n*1\r\n", "expected '$', got '*'"),
            ("*1\r\n$-5\r\n", "invalid bulk length"),
            ("*1\r\n$999999999999\r\n", "invalid bulk length"),
            ("*1\r\n$4\r\nPINGPING", "expected CRLF"),
            ("SET k \"unclosed\r\n", "unbalanced quotes"),
            (&*long, "too big inline request"),
        ];
        for (number, (bytes, refusal)) in cases.iter().enumerate() {
            note(format!("{bytes:.40?}"));
            // Of both cores.
            let before = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n";
            let all = format!("{before}{bytes}*2\r\n$4\r\nINCR\r\n$3\r\nbad\r\n");
            let answer = send_and_read(server.port, all.as_bytes(), false);
            let text = String::from_utf8_lossy(&answer);
            let expected = format!("+OK\r\n:{}\r\n-ERR Protocol error: {refusal}", number + 1);
            assert!(text.starts_with(&expected), "{bytes:.40?}: {text:?}");
            assert!(text.ends_with("\r\n") && text.matches("\r\n").count() == 3);
            assert_eq!(other.ask(&["GET", "a"]), "$1\r\n1\r\n");
            assert_eq!(other.ask(&["EXISTS", "bad"]), ":0\r\n");
        }
        // What a page in a browser can send.
        let http = send_and_read(server.port, b"POST / HTTP/1.1\r\nINCR bad\r\n", false);
        assert_eq!(
            (http, other.ask(&["EXISTS", "bad"])),
            (vec![], ":0\r\n".into())
        );
    });
}

#[test]
fn random_bytes_disturb_nobody_else() {
    // Goal: whatever bytes come on one connection, another one goes on, and nothing is left of the first: neither
    // memory nor a descriptor.
    // Method: good requests with random damage, sent from many connections one after the other; a connection of ours
    // is asked in between; /proc is looked at before and after.
    check(|| {
        let server = server!(Server::start(2, [""; 0]));
        let mut other = server.client();
        let mut random = Random::new();
        let mut good = Vec::new();
        for words in [
            &["SET", "k", "value"][..],
            &["MGET", "a", "b", "c"],
            &["SUBSCRIBE", "news", "more"],
            &["LPUSH", "l", "1", "2"],
            &["HELLO", "3"],
            &["PUBLISH", "news", "x"],
        ] {
            good.extend(super::request(words));
        }
        // Answered, so it is accepted.
        other.ask(&["PING"]);
        let descriptors = proc::fds_of(server.child.id());
        for round in 0..rounds(200, 5000) {
            let mut bytes = good.clone();
            for _ in 0..1 + random.below(8) {
                if bytes.is_empty() {
                    break;
                }
                let at = random.below(bytes.len());
                match random.below(3) {
                    0 => bytes[at] = random.bits().to_le_bytes()[0],
                    1 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            send_and_read(server.port, &bytes, true);
            let value = round.to_string();
            assert_eq!(other.ask(&["SET", "mine", &value]), "+OK\r\n");
            let expected = format!("${}\r\n{value}\r\n", value.len());
            assert_eq!(other.ask(&["GET", "mine"]), expected);
        }
        coring_tests::until_outside("all descriptors are closed", || {
            proc::fds_of(server.child.id()) == descriptors
        });
        let kib = proc::rss_kib_of(server.child.id());
        assert!(kib < 200 << 10, "{kib} KiB after all");
        assert_eq!(server.end(), Some(0));
    });
}

#[test]
fn announced_lengths_take_no_memory() {
    // Goal: memory is taken for bytes that came: announcing 64 MiB, or a million arguments, costs nothing.
    // Method: 200 connections announce both and wait; /proc tells how much the server has.
    check(|| {
        let server = server!(Server::start(1, [""; 0]));
        let mut other = server.client();
        other.ask(&["PING"]);
        let before = proc::rss_kib_of(server.child.id());
        let waiting: Vec<_> = (0..200)
            .map(|_| {
                let mut client = server.client();
                let bytes = b"*1048576\r\n$67108864\r\nfew";
                client.send_bytes(bytes).expect("the server reads");
                client
            })
            .collect();
        let clients = || other.ask(&["INFO"]).contains("connected_clients:201\r\n");
        coring_tests::until_outside("all are connected", clients);
        let after = proc::rss_kib_of(server.child.id());
        assert!(after < before + (40 << 10), "{before} KiB, then {after}");
        drop(waiting);
    });
}
