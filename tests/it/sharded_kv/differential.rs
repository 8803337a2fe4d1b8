//! The same commands to this server and to a real redis-server: the same answers.

use super::{Client, Server, server};
use coring_tests::command::exists;
use coring_tests::port::Port;
use coring_tests::random::Random;
use coring_tests::{check, note, rounds, skip};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// A redis-server of our own, that keeps nothing.
struct Redis {
    child: Child,
    port: Port,
}

impl Redis {
    fn start() -> Self {
        let port = Port::take();
        let child = Command::new("redis-server")
            .args(["--port", &port.number().to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("it is on the path");
        coring_tests::until_outside("redis-server listens", || {
            TcpStream::connect(("127.0.0.1", port.number())).is_ok()
        });
        Self { child, port }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "-1",
    "2",
    "-3",
    "10",
    "100000",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775",
    "92233720368547758080",
    "01",
    "1.5",
    "x",
];

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len())]
}

/// A key of a few, so that commands meet; of texts, lists and either.
fn key(random: &mut Random) -> String {
    let kind = pick(random, &["text", "list", "any"]);
    format!("{kind}:{}", random.below(5))
}

fn value(random: &mut Random) -> String {
    match random.below(4) {
        0 => String::new(),
        1 => "with\r\nlines \"and quotes\"".to_owned(),
        _ => pick(random, &NUMBERS).to_owned(),
    }
}

/// A command, good or not.
fn command(random: &mut Random) -> Vec<String> {
    let names = [
        "GET",
        "SET",
        "SET",
        "SET",
        "DEL",
        "EXISTS",
        "INCR",
        "INCRBY",
        "DECR",
        "DECRBY",
        "EXPIRE",
        "PEXPIRE",
        "PEXPIREAT",
        "PERSIST",
        "TTL",
        "MGET",
        "MSET",
        "LPUSH",
        "RPUSH",
        "LPOP",
        "RPOP",
        "LRANGE",
        "LLEN",
        "ECHO",
        "PING",
        "DBSIZE",
        "FLUSHALL",
        "PUBLISH",
        "SELECT",
        "UNSUBSCRIBE",
        "nonsense",
    ];
    let name = pick(random, &names);
    let mut words = vec![name.to_owned()];
    // Everything is gone too often otherwise.
    if name == "FLUSHALL" && !random.one_in(20) {
        return vec!["DBSIZE".to_owned()];
    }
    let number = |random: &mut Random| pick(random, &NUMBERS).to_owned();
    match name {
        "MGET" | "DEL" | "EXISTS" => (0..=random.below(4)).for_each(|_| words.push(key(random))),
        "MSET" => (0..=random.below(3)).for_each(|_| words.extend([key(random), value(random)])),
        "LPUSH" | "RPUSH" => {
            words.push(key(random));
            (0..=random.below(3)).for_each(|_| words.push(value(random)));
        }
        "SET" => {
            words.extend([key(random), value(random)]);
            for _ in 0..random.below(4) {
                let options = [
                    "NX", "xx", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT", "what",
                ];
                let option = pick(random, &options);
                words.push(option.to_owned());
                if option.ends_with("AT") {
                    // Both keep what has ended until they come across it, each at another time.
                    words.push("5000000000000".to_owned());
                } else if option.starts_with(['E', 'P']) && !random.one_in(10) {
                    words.push(lifetime(random));
                }
            }
        }
        "EXPIRE" | "PEXPIRE" | "PEXPIREAT" => words.extend([key(random), lifetime(random)]),
        "INCRBY" | "DECRBY" => words.extend([key(random), number(random)]),
        "LPOP" | "RPOP" if random.one_in(2) => words.extend([key(random), number(random)]),
        "LRANGE" => words.extend([key(random), number(random), number(random)]),
        "ECHO" | "PING" => words.push(value(random)),
        "PUBLISH" => words.extend([key(random), value(random)]),
        "SELECT" => words.push(pick(random, &["0", "99999", "x"]).to_owned()),
        "DBSIZE" | "FLUSHALL" | "UNSUBSCRIBE" => {}
        _ => words.push(key(random)),
    }
    // Too few or too many words; but no word that would be a time of a few milliseconds.
    if random.one_in(15) {
        match random.below(2) {
            0 if words.len() > 1 => drop(words.pop()),
            _ if !["UNSUBSCRIBE", "SET", "EXPIRE", "PEXPIRE", "PEXPIREAT"].contains(&name) => {
                words.push(value(random))
            }
            _ => {}
        }
    }
    words
}

/// Times that have passed, or will not pass while the test runs: the two servers have two clocks.
fn lifetime(random: &mut Random) -> String {
    let times = [
        "100000000",
        "5000000000000",
        "0",
        "-1",
        "-100000000000",
        "x",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775",
    ];
    pick(random, &times).to_owned()
}

/// The numbers in a remaining time differ by what passed between the two.
fn same(words: &[String], ours: &[u8], theirs: &[u8]) -> bool {
    let time = |answer: &[u8]| -> Option<i64> {
        let text = std::str::from_utf8(answer).ok()?;
        text.strip_prefix(':')?.trim_end().parse().ok()
    };
    if words[0] == "TTL"
        && let (Some(ours), Some(theirs)) = (time(ours), time(theirs))
    {
        return ours.signum() == theirs.signum() && (ours - theirs).abs() <= 30;
    }
    ours == theirs
}

#[test]
fn answers_are_those_of_redis() {
    // Goal: every command answers as Redis does, byte for byte: values, nulls, errors and their words; RESP2 and RESP3;
    // with all keys on one core, and over several, where commands of several keys are taken apart.
    // Method: random commands, good and bad, pipelined in random portions to both; the answers are compared.
    check(|| {
        if !exists("redis-server") {
            skip!("no redis-server");
        }
        let redis = Redis::start();
        let mut random = Random::new();
        let mut compared = 0;
        for cores in [1, 2, 3] {
            for version in ["2", "3"] {
                note(format!("{cores} cores, RESP{version}"));
                let server = server!(Server::start(cores, [""; 0]));
                let mut clients = [server.client(), Client::connect(redis.port.number())];
                for client in &mut clients {
                    client.ask(&["FLUSHALL"]);
                    client.ask(&["HELLO", version]);
                }
                let mut history = Vec::new();
                for _ in 0..rounds(300, 10_000) {
                    let commands: Vec<_> = (0..=random.below(12))
                        .map(|_| command(&mut random))
                        .collect();
                    let bytes: Vec<u8> = commands
                        .iter()
                        .flat_map(|words| super::request(words))
                        .collect();
                    for client in &mut clients {
                        client.send_bytes(&bytes).expect("it reads");
                    }
                    for words in commands {
                        let [ours, theirs] = clients.each_mut().map(|client| {
                            let answer = client.answer();
                            answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
                        });
                        history.push(words.clone());
                        assert!(
                            same(&words, &ours, &theirs),
                            "{words:?}\nours:   {:?}\nRedis': {:?}\nbefore:\n  {}",
                            String::from_utf8_lossy(&ours),
                            String::from_utf8_lossy(&theirs),
                            about(&history, &words),
                        );
                        compared += 1;
                    }
                }
            }
        }
        println!("{compared} answers compared");
    });
}

/// The commands about the first key of this one.
fn about(history: &[Vec<String>], words: &[String]) -> String {
    let there = |one: &&Vec<String>| {
        words.get(1).is_none_or(|key| one.contains(key)) || one[0] == "FLUSHALL"
    };
    let found: Vec<_> = history
        .iter()
        .filter(there)
        .map(|one| format!("{one:?}"))
        .collect();
    found[found.len().saturating_sub(40)..].join("\n  ")
}
