//! Killed at any moment, the server loses nothing that it has acknowledged.

use super::{Client, Server, server};
use coring_tests::random::Random;
use coring_tests::{check, note, rounds};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
const KEYS: usize = 16;
/// The most requests that one client sends before it reads the answers.
const PIPELINE: usize = 24;

/// What one client knows of its own keys, which nobody else writes: what was acknowledged, and what was sent.
#[derive(Clone, Default)]
struct Known {
    counter: Bounds,
    list: Bounds,
    texts: [Bounds; KEYS],
    both: Bounds,
    /// Numbers the texts.
    next: u64,
}

/// The last value that was acknowledged, and the last one that was sent: what is there is one of them or between.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    acknowledged: u64,
    sent: u64,
}

impl Bounds {
    #[track_caller]
    fn check(&mut self, what: &str, found: u64) {
        assert!(
            (self.acknowledged..=self.sent).contains(&found),
            "{what}: {found} is there, acknowledged was {}, sent {}",
            self.acknowledged,
            self.sent
        );
        // What a killed server has kept is the truth from now on.
        (self.acknowledged, self.sent) = (found, found);
    }
}

/// One write of a client.
#[derive(Clone, Copy)]
enum Write {
    Count,
    Append,
    Text(usize, u64),
    /// One value under two keys, of different cores as a rule.
    Both(u64),
}

impl Known {
    fn choose(&mut self, random: &mut Random) -> Write {
        self.next += 1;
        match random.below(4) {
            0 => {
                self.counter.sent += 1;
                Write::Count
            }
            1 => {
                self.list.sent += 1;
                Write::Append
            }
            2 => {
                let key = random.below(KEYS);
                self.texts[key].sent = self.next;
                Write::Text(key, self.next)
            }
            _ => {
                self.both.sent = self.next;
                Write::Both(self.next)
            }
        }
    }

    /// The command, whose padding makes records of many sizes.
    fn words(&self, client: usize, write: Write, padding: usize) -> Vec<Vec<u8>> {
        let words = match write {
            Write::Count => vec!["INCR".to_owned(), format!("counter:{client}")],
            Write::Append => vec![
                "RPUSH".to_owned(),
                format!("list:{client}"),
                self.list.sent.to_string(),
            ],
            Write::Text(key, value) => vec![
                "SET".to_owned(),
                format!("text:{client}:{key}"),
                format!("{value} {}", "x".repeat(padding)),
            ],
            Write::Both(value) => vec![
                "MSET".to_owned(),
                format!("one:{client}"),
                value.to_string(),
                format!("other:{client}"),
                value.to_string(),
            ],
        };
        words.into_iter().map(String::into_bytes).collect()
    }

    fn acknowledge(&mut self, write: Write) {
        match write {
            Write::Count => self.counter.acknowledged += 1,
            Write::Append => self.list.acknowledged += 1,
            Write::Text(key, value) => self.texts[key].acknowledged = value,
            Write::Both(value) => self.both.acknowledged = value,
        }
    }

    /// Writes until the connection breaks.
    fn write(&mut self, number: usize, port: u16, mut random: Random, total: &AtomicU64) {
        let mut client = Client::connect(port);
        loop {
            let mut bytes = Vec::new();
            let writes: Vec<_> = (0..=random.below(PIPELINE))
                .map(|_| {
                    let write = self.choose(&mut random);
                    let size = [0, 10, 500, 20_000][random.below(4)];
                    bytes.extend(super::request(&self.words(number, write, size)));
                    write
                })
                .collect();
            if client.send_bytes(&bytes).is_err() {
                return;
            }
            for write in writes {
                let Ok(answer) = client.answer() else { return };
                assert_ne!(answer[0], b'-', "{}", String::from_utf8_lossy(&answer));
                self.acknowledge(write);
                total.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Reads everything back.
    fn check(&mut self, number: usize, client: &mut Client) {
        self.counter
            .check("counter", text(client, &format!("counter:{number}")));
        let list = client.ask(&["LRANGE", &format!("list:{number}"), "0", "-1"]);
        let elements: Vec<u64> = list
            .lines()
            .filter(|line| !line.starts_with(['*', '$']))
            .map(|line| line.parse().expect("a number"))
            .collect();
        let expected: Vec<u64> = (1..=elements.len() as u64).collect();
        assert_eq!(
            elements, expected,
            "the list has each element once, in order"
        );
        self.list.check("list", elements.len() as u64);
        for (key, bounds) in self.texts.iter_mut().enumerate() {
            bounds.check("text", text(client, &format!("text:{number}:{key}")));
        }
        let mut both = self.both;
        both.check("one", text(client, &format!("one:{number}")));
        self.both
            .check("other", text(client, &format!("other:{number}")));
        // One half may have survived without the other when neither was acknowledged.
        self.both.acknowledged = self.both.acknowledged.min(both.acknowledged);
        self.both.sent = self.both.sent.max(both.sent);
    }
}

/// The number that a text begins with; 0 when there is none.
fn text(client: &mut Client, key: &str) -> u64 {
    let answer = client.ask(&["GET", key]);
    match answer.split_once("\r\n") {
        Some(("$-1", _)) => 0,
        Some((_, text)) => {
            let number = text.split_ascii_whitespace().next();
            number.expect("a text").parse().expect("a number")
        }
        None => panic!("no answer: {answer:?}"),
    }
}

/// Noise: a stranger that writes as fast as it can, and is not checked.
struct Noise(Option<Child>);

impl Noise {
    fn start(port: u16) -> Self {
        let arguments = "-n 100000000 -c 8 -P 4 -r 1000 -d 100 -q -t set,incr,lpush";
        let child = Command::new("redis-benchmark")
            .args(["-p", &port.to_string()])
            .args(arguments.split(' '))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.ok())
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Lets time pass, up to so much; the moment is what is random here.
fn until_a_random_moment(random: &mut Random, most: Duration) {
    let wait = most.mul_f64(random.below(1000) as f64 / 1000.0);
    let start = Instant::now();
    while start.elapsed() < wait {
        thread::yield_now();
    }
}

#[test]
fn every_acknowledged_write_survives() {
    // Goal: with `--fsync always`, a server that is killed at any moment - while it serves, while it starts - has every
    // acknowledged write when it starts again, with any number of cores; each record once, in order, nothing invented.
    // Method: clients write keys of their own, pipelined, and note what was acknowledged and what was sent;
    // redis-benchmark writes, too. SIGKILL after a random number of acknowledgements. Then the server is started again,
    // one time in three killed during that as well, and every key is read back. 100 rounds in the heavy lane.
    check(|| {
        let mut random = Random::new();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        let mut known = vec![Known::default(); CLIENTS];
        let (mut acknowledged, mut killed_starting) = (0, 0);
        let rounds = rounds(4, 100);
        for round in 0..rounds {
            while random.one_in(3) {
                let arguments = Server::log_arguments(&file, "always");
                let mut starting = server!(Server::launch(1 + random.below(3), arguments));
                until_a_random_moment(&mut random, Duration::from_millis(60));
                starting.kill();
                killed_starting += 1;
            }
            let cores = 1 + random.below(3);
            note(format!(
                "round {round}: {cores} cores, {acknowledged} so far"
            ));
            let mut server = server!(Server::logging(cores, &file, "always"));
            let mut reader = server.client();
            for (number, known) in known.iter_mut().enumerate() {
                known.check(number, &mut reader);
            }
            let noise = Noise::start(server.port);
            let (port, total) = (server.port, AtomicU64::new(0));
            let enough = random.below(3000) as u64;
            thread::scope(|scope| {
                for (number, known) in known.iter_mut().enumerate() {
                    let (random, total) = (random.fork(), &total);
                    scope.spawn(move || known.write(number, port, random, total));
                }
                while total.load(Ordering::Relaxed) < enough {
                    thread::yield_now();
                }
                server.kill();
            });
            drop(noise);
            acknowledged += total.load(Ordering::Relaxed);
            // What the noise has left is not wanted: the files would grow from round to round.
            let server = server!(Server::logging(cores, &file, "always"));
            let mut cleaner = server.client();
            for (number, known) in known.iter_mut().enumerate() {
                known.check(number, &mut cleaner);
            }
            cleaner.ask(&["DEL", "mylist", "counter:__rand_int__"]);
        }
        println!(
            "{rounds} rounds, {acknowledged} acknowledged writes, all there; killed while starting {killed_starting} times"
        );
    });
}
