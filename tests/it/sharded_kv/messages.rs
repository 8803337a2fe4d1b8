//! Publishing and subscribing, over cores and connections.

use super::{Client, Server, request, server};
use coring_tests::{check, note};
use std::thread;

#[track_caller]
fn expect_push(client: &mut Client, kind: &str, parts: &[&str]) {
    let mut expected = format!("{kind}{}\r\n", parts.len());
    for part in parts {
        match part.strip_prefix(':') {
            Some(_) => expected += &format!("{part}\r\n"),
            None => expected += &format!("${}\r\n{part}\r\n", part.len()),
        }
    }
    let answer = client.answer().expect("a message");
    assert_eq!(String::from_utf8_lossy(&answer), expected);
}

#[test]
fn every_subscriber_has_every_message_in_order() {
    // Goal: subscribers on all cores get what publishers on all cores publish, each publisher's in its order, once; and
    // PUBLISH tells how many they are. RESP2 and RESP3.
    // Method: 8 subscribers of two channels each, 4 publishers with numbered messages.
    check(|| {
        let server = server!(Server::start(3, [""; 0]));
        let (subscribers, publishers, messages) = (8, 4, 200);
        let mut ready: Vec<_> = (0..subscribers)
            .map(|number| {
                let mut client = server.client();
                let kind = if number % 2 == 0 { "*" } else { ">" };
                if kind == ">" {
                    assert!(client.ask(&["HELLO", "3"]).starts_with("%7"));
                }
                let bytes = request(&["SUBSCRIBE", "news", "weather", "news"]);
                client.send_bytes(&bytes).expect("the server reads");
                expect_push(&mut client, kind, &["subscribe", "news", ":1"]);
                expect_push(&mut client, kind, &["subscribe", "weather", ":2"]);
                expect_push(&mut client, kind, &["subscribe", "news", ":2"]);
                (client, kind)
            })
            .collect();
        thread::scope(|scope| {
            for publisher in 0..publishers {
                let mut client = server.client();
                scope.spawn(move || {
                    for number in 0..messages {
                        let channel = ["news", "weather"][number % 2];
                        let message = format!("{publisher} {number}");
                        let reached = client.ask(&["PUBLISH", channel, &message]);
                        assert_eq!(reached, format!(":{subscribers}\r\n"));
                    }
                });
            }
            for (client, _) in &mut ready {
                scope.spawn(|| {
                    let mut next = vec![[0, 1]; publishers];
                    for _ in 0..publishers * messages {
                        let answer = client.answer().expect("a message");
                        let text = String::from_utf8(answer).expect("text");
                        let parts: Vec<_> = text.split("\r\n").collect();
                        let channel = usize::from(parts[4] == "weather");
                        let (publisher, number) = parts[6].split_once(' ').expect("two numbers");
                        let publisher: usize = publisher.parse().expect("a number");
                        let expected = &mut next[publisher][channel];
                        assert_eq!(number.parse(), Ok(*expected), "{text:?}");
                        *expected += 2;
                    }
                });
            }
        });
        for (client, kind) in &mut ready {
            client
                .send_bytes(&request(&["UNSUBSCRIBE", "news"]))
                .expect("open");
            expect_push(client, kind, &["unsubscribe", "news", ":1"]);
            if *kind == "*" {
                assert!(
                    client
                        .ask(&["GET", "k"])
                        .starts_with("-ERR Can't execute 'get'")
                );
                assert_eq!(client.ask(&["PING"]), "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
            } else {
                assert_eq!(client.ask(&["GET", "k"]), "_\r\n");
            }
        }
        let mut publisher = server.client();
        assert_eq!(publisher.ask(&["PUBLISH", "news", "x"]), ":0\r\n");
        drop(ready);
        coring_tests::until_outside("nobody listens any more", || {
            publisher.ask(&["PUBLISH", "weather", "x"]) == ":0\r\n"
        });
    });
}

#[test]
fn a_slow_subscriber_is_cut_off() {
    // Goal: a subscriber that does not read is cut off when too much waits for it; it holds up neither the publisher nor
    // another subscriber, which misses nothing.
    // Method: one reads and one does not, while messages of 1 MiB are published until only one is reached.
    check(|| {
        let server = server!(Server::start(2, [""; 0]));
        let [mut slow, mut quick] = [(); 2].map(|()| {
            let mut client = server.client();
            client.ask(&["SUBSCRIBE", "news"]);
            client
        });
        let mut publisher = server.client();
        let message = "x".repeat(1 << 20);
        let mut published = 0;
        loop {
            let reached = publisher.ask(&["PUBLISH", "news", &message]);
            published += 1;
            let answer = quick.answer().expect("it reads");
            assert!(answer.len() > message.len());
            if reached == ":1\r\n" {
                break;
            }
            assert!(published < 500, "it is cut off at some time");
        }
        note(format!("cut off after {published} messages"));
        let end = (0..published).find_map(|_| slow.answer().err());
        assert!(end.is_some(), "the connection has ended");
    });
}
