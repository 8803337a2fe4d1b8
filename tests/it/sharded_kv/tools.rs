//! Redis's own tools against the server.

use super::{Server, server};
use coring_tests::command::{exists, run};
use coring_tests::{check, skip};
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn redis_cli() {
    // Goal: redis-cli works: commands as words, commands as lines of its input, a mass insertion with --pipe, RESP3.
    // Method: as said, and what it prints.
    check(|| {
        if !exists("redis-cli") {
            skip!("no redis-cli");
        }
        let server = server!(Server::start(2, [""; 0]));
        let port = server.port.to_string();
        let cli = |words: &[&str]| {
            let ended = run(["redis-cli", "-p", &port].iter().chain(words));
            ended.assert_success();
            ended.stdout
        };
        assert_eq!(cli(&["ping"]), "PONG\n");
        assert_eq!(cli(&["set", "k", "a b", "EX", "100"]), "OK\n");
        assert_eq!(cli(&["-3", "get", "k"]), "a b\n");
        assert_eq!(cli(&["ttl", "k"]), "100\n");
        assert_eq!(cli(&["rpush", "l", "1", "2", "3"]), "3\n");
        assert_eq!(cli(&["lrange", "l", "0", "-1"]), "1\n2\n3\n");
        assert!(cli(&["info"]).contains("cores:2"));
        assert!(cli(&["command", "count"]).trim().parse::<u32>().is_ok());
        let mut pipe = Command::new("redis-cli")
            .args(["-p", &port, "--pipe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it is on the path");
        let mut input = pipe.stdin.take().expect("piped");
        for number in 0..10_000 {
            let key = format!("key:{number}");
            let bytes = super::request(&["SET", &key, "x"]);
            input.write_all(&bytes).expect("it reads");
        }
        drop(input);
        let output = pipe.wait_with_output().expect("our child");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("errors: 0, replies: 10000"), "{text}");
        assert_eq!(cli(&["dbsize"]), "10002\n");
    });
}

#[test]
fn redis_benchmark() {
    // Goal: redis-benchmark finds nothing wrong: all its tests that there are commands for, alone and pipelined, by
    // clients of every core, with and without a log.
    // Method: it ends well, and prints a rate for each.
    check(|| {
        if !exists("redis-benchmark") {
            skip!("no redis-benchmark");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        let servers = [
            server!(Server::start(1, [""; 0])),
            server!(Server::start(3, [""; 0])),
            server!(Server::logging(2, &file, "everysec")),
        ];
        let tests = "ping,set,get,incr,lpush,rpush,lpop,rpop,lrange,mset";
        for server in servers {
            for pipeline in ["1", "16"] {
                let ended = run([
                    "redis-benchmark",
                    "-p",
                    &server.port.to_string(),
                    "-n",
                    "2000",
                    "-r",
                    "1000",
                    "-P",
                    pipeline,
                    "--csv",
                    "-t",
                    tests,
                ]);
                ended.assert_success();
                let lines = ended.stdout.lines().count();
                assert!(lines >= 14, "a line a test: {ended:#?}");
                assert!(!ended.stderr.contains("rror"), "{ended:#?}");
            }
            assert_eq!(server.end(), Some(0));
        }
    });
}
