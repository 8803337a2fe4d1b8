//! What the server makes of its files: whole ones, torn ones, damaged ones, and those of others.

use super::{Client, Server, server};
use coring_tests::random::Random;
use coring_tests::{check, note, rounds};
use std::fs;
use std::path::{Path, PathBuf};

/// The logs of the one generation that there is, in order.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("our folder");
    let mut logs: Vec<_> = entries
        .map(|entry| entry.expect("our folder").path())
        .filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            ending.is_some_and(|ending| ending.parse::<u32>().is_ok())
        })
        .collect();
    logs.sort();
    logs
}

fn number(client: &mut Client, key: &str) -> u64 {
    let answer = client.ask(&["GET", key]);
    let text = answer.split("\r\n").nth(1).unwrap_or_default();
    if text.is_empty() {
        0
    } else {
        text.parse().expect("a number")
    }
}

/// A log of one core with so many frames: the counter has that value.
fn counted(file: &Path, frames: u64) -> Option<()> {
    let server = Server::logging(1, file, "always")?;
    let mut client = server.client();
    for expected in 1..=frames {
        assert_eq!(client.ask(&["INCR", "n"]), format!(":{expected}\r\n"));
    }
    assert_eq!(server.end(), Some(0));
    Some(())
}

#[test]
fn everything_comes_back_with_any_number_of_cores() {
    // Goal: what was there is there again: every type, times of expiry, binary keys; removed and expired keys are not.
    // With another number of cores each time, and after an orderly end with each policy.
    // Method: writes of every kind, then restarts.
    check(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        let mut server = server!(Server::logging(2, &file, "no"));
        let mut client = server.client();
        for number in 0..500 {
            let key = format!("key:{number}");
            assert_eq!(client.ask(&["SET", &key, &key]), "+OK\r\n");
            client.ask(&["RPUSH", "all", &key]);
        }
        let binary = [0u8, 13, 10, 255, b'*', b'$'];
        client
            .try_ask(&[b"SET", &binary[..], &binary])
            .expect("it answers");
        client.ask(&["SET", "long", "x", "EX", "1000"]);
        client.ask(&["SET", "short", "1", "PX", "1"]);
        client.ask(&["MSET", "gone", "1", "gone:2", "2", "stays", "3"]);
        client.ask(&["DEL", "gone", "gone:2"]);
        client.ask(&["EXPIRE", "key:1", "1000"]);
        client.ask(&["SET", "key:2", "new", "KEEPTTL"]);
        client.ask(&["LPOP", "all", "2"]);
        for _ in 0..3 {
            client.ask(&["INCRBY", "counter", "7"]);
        }
        coring_tests::until_outside("it has expired", || {
            client.ask(&["GET", "short"]) == "$-1\r\n"
        });
        // Ended before, and counted from one again: not a continuation of the old one.
        client.ask(&["INCR", "short"]);
        for (cores, policy) in [(3, "always"), (1, "everysec"), (4, "no"), (4, "always")] {
            note(format!("restart with {cores} cores, {policy}"));
            assert_eq!(server.end(), Some(0));
            server = server!(Server::logging(cores, &file, policy));
            assert_eq!(logs(folder.path()).len(), cores);
            client = server.client();
            assert_eq!(client.ask(&["DBSIZE"]), ":506\r\n");
            for number in (0..500).filter(|number| *number != 2) {
                let key = format!("key:{number}");
                assert_eq!(
                    client.ask(&["GET", &key]),
                    format!("${}\r\n{key}\r\n", key.len())
                );
            }
            assert_eq!(client.ask(&["GET", "key:2"]), "$3\r\nnew\r\n");
            assert_eq!(client.ask(&["LLEN", "all"]), ":498\r\n");
            assert_eq!(
                client.ask(&["LRANGE", "all", "0", "0"]),
                "*1\r\n$5\r\nkey:2\r\n"
            );
            let text = client.try_ask(&[b"GET", &binary[..]]).expect("it answers");
            assert_eq!(text, [b"$6\r\n", &binary[..], b"\r\n"].concat());
            assert_eq!(
                (number(&mut client, "counter"), number(&mut client, "short")),
                (21, 1)
            );
            for key in ["long", "key:1"] {
                let left = client.ask(&["TTL", key]);
                let left: u32 = left[1..].trim_end().parse().expect("seconds");
                assert!((900..=1000).contains(&left), "{key}: {left}");
            }
            assert_eq!(client.ask(&["TTL", "stays"]), ":-1\r\n");
        }
        client.ask(&["FLUSHALL"]);
        assert_eq!(server.end(), Some(0));
        let server = server!(Server::logging(2, &file, "no"));
        assert_eq!(server.client().ask(&["DBSIZE"]), ":0\r\n");
    });
}

#[test]
fn a_torn_tail_is_dropped() {
    // Goal: a log that ends in the middle of a write starts with all whole writes before it, and says what it dropped.
    // Method: a log of a counter, cut off at random lengths: the counter has the number of whole frames.
    check(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        server!(counted(&file, 40));
        let (log, manifest) = (
            logs(folder.path()).remove(0),
            fs::read(&file).expect("it is there"),
        );
        let whole = fs::read(&log).expect("it is there");
        // From the file: where each frame ends.
        let mut ends = vec![0];
        while let Some(header) = whole[ends[ends.len() - 1]..].first_chunk::<8>() {
            let length = usize::try_from(u64::from_le_bytes(*header)).expect("small");
            ends.push(ends[ends.len() - 1] + 16 + length);
        }
        assert_eq!((ends.len(), ends[40]), (41, whole.len()));
        let mut random = Random::new();
        for _ in 0..rounds(15, 300) {
            let length = random.below(whole.len() + 1);
            note(format!("cut off at {length}"));
            fs::write(&log, &whole[..length]).expect("our file");
            fs::write(&file, &manifest).expect("our file");
            let expected = ends.iter().filter(|end| **end <= length).count() - 1;
            let mut server = server!(Server::logging(1 + random.below(2), &file, "always"));
            assert_eq!(number(&mut server.client(), "n"), expected as u64);
            server.kill();
            let said = server.complaints().contains("cut off; dropped");
            assert_eq!(said, !ends.contains(&length), "cut off at {length}");
        }
    });
}

#[test]
fn damage_refuses_the_start() {
    // Goal: a changed byte anywhere in a log refuses the start, naming file and place, and changes no file. What was
    // acknowledged is never dropped silently.
    // Method: a bit flipped at random places, the header of the first frame and the last byte among them.
    check(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        server!(counted(&file, 20));
        let log = logs(folder.path()).remove(0);
        let whole = fs::read(&log).expect("it is there");
        let mut random = Random::new();
        let some = (0..rounds(15, 300)).map(|_| random.below(whole.len()));
        let places: Vec<_> = (0..17).chain([whole.len() - 1]).chain(some).collect();
        for place in places {
            note(format!("byte {place} changed"));
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << (place % 8);
            fs::write(&log, &damaged).expect("our file");
            let mut server = server!(Server::launch(2, Server::log_arguments(&file, "always")));
            let code = server.child.wait().expect("our child").code();
            let text = server.complaints();
            assert_eq!(code, Some(1), "byte {place}: {text}");
            for word in [
                "damaged at byte",
                "nothing was changed",
                &log.display().to_string(),
            ] {
                assert!(text.contains(word), "byte {place}, {word:?}: {text}");
            }
            assert!(!text.contains("panicked"), "{text}");
            assert_eq!(fs::read(&log).expect("it is there"), damaged);
        }
        fs::write(&log, &whole).expect("our file");
        let server = server!(Server::logging(2, &file, "always"));
        assert_eq!(number(&mut server.client(), "n"), 20);
    });
}

#[test]
fn logs_without_their_file_refuse_the_start() {
    // Goal: when FILE is gone and logs are there, nothing is lost by starting with nothing: the start is refused, and what it says
    // is enough to have everything back. Logs without a byte, which an interrupted first start leaves, are no reason.
    // Method: FILE is removed, and written again by the words of the refusal.
    check(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        for ending in ["1.0", "1.1"] {
            fs::write(folder.path().join(format!("log.{ending}")), "").expect("our folder");
        }
        let server = server!(Server::logging(2, &file, "always"));
        assert_eq!(number(&mut server.client(), "n"), 0);
        drop(server);
        let server = server!(Server::logging(2, &file, "always"));
        (0..20).for_each(|_| drop(server.client().ask(&["INCR", "n"])));
        drop(server);
        fs::remove_file(&file).expect("our file");
        let mut server = server!(Server::launch(2, Server::log_arguments(&file, "always")));
        assert_eq!(server.child.wait().expect("our child").code(), Some(1));
        let text = server.complaints();
        assert!(text.contains("missing, but log.2."), "{text}");
        let quoted: Vec<_> = text.split('"').skip(1).step_by(2).collect();
        fs::write(
            &file,
            format!("{}\n{}\n{} 2\n", quoted[0], quoted[1], quoted[2]),
        )
        .expect("our folder");
        let server = server!(Server::logging(2, &file, "always"));
        assert_eq!(number(&mut server.client(), "n"), 20);
    });
}

#[test]
fn files_of_others_are_left_alone() {
    // Goal: a file that is no log of this server is refused and not touched; so is a log that another server uses.
    // Method: a file with other text; a second server with the same file.
    check(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        for text in [
            "",
            "*1\r\n$4\r\nPING\r\n",
            "coring sharded_kv log, format 1\nshards 1\n",
        ] {
            fs::write(&file, text).expect("our file");
            let mut server = server!(Server::launch(1, Server::log_arguments(&file, "no")));
            assert_eq!(server.child.wait().expect("our child").code(), Some(1));
            assert!(server.complaints().contains("not a log of this server"));
            assert_eq!(fs::read_to_string(&file).expect("it is there"), text);
        }
        fs::remove_file(&file).expect("our file");
        let server = server!(Server::logging(1, &file, "always"));
        let mut client = server.client();
        client.ask(&["SET", "k", "v"]);
        let mut second = server!(Server::launch(1, Server::log_arguments(&file, "always")));
        assert_eq!(second.child.wait().expect("our child").code(), Some(1));
        assert!(second.complaints().contains("another server uses it"));
        assert_eq!(client.ask(&["GET", "k"]), "$1\r\nv\r\n");
        assert_eq!(server.end(), Some(0));
    });
}

#[test]
fn a_log_that_cannot_be_written_ends_the_server() {
    // Goal: when the log cannot be written the server says why and ends, with an error: what it could not log it has not
    // acknowledged, and what it has acknowledged is there at the next start.
    // Method: files may not grow past a limit, and the signal for it is ignored; clients write until they are cut off.
    check(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        // In blocks of 512 bytes.
        let limited = "trap '' XFSZ; ulimit -f 100; exec \"$@\"";
        let wrapper = ["sh", "-c", limited, "sh"];
        let arguments = Server::log_arguments(&file, "always");
        let mut server = server!(Server::launch_under(&wrapper, 2, arguments));
        server.wait();
        let port = server.port;
        let clients: Vec<_> = (0..3)
            .map(|number| {
                std::thread::spawn(move || {
                    let (mut client, mut acknowledged) = (Client::connect(port), 0);
                    let value = "x".repeat(100);
                    loop {
                        let key = format!("key:{number}:{acknowledged}");
                        match client.try_ask(&["SET", &key, &value]) {
                            Ok(answer) if answer == b"+OK\r\n" => acknowledged += 1,
                            _ => return acknowledged,
                        }
                        assert!(acknowledged < 10_000, "the limit is reached at some time");
                    }
                })
            })
            .collect();
        let acknowledged: Vec<u64> = clients
            .into_iter()
            .map(|client| client.join().expect("no panic"))
            .collect();
        assert_eq!(server.child.wait().expect("our child").code(), Some(1));
        let text = server.complaints();
        assert!(text.contains("the log cannot be written"), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        let server = server!(Server::logging(1, &file, "always"));
        let mut client = server.client();
        for (number, acknowledged) in acknowledged.into_iter().enumerate() {
            note(format!("client {number}: {acknowledged} acknowledged"));
            for key in 0..acknowledged {
                let there = client.ask(&["EXISTS", &format!("key:{number}:{key}")]);
                assert_eq!(there, ":1\r\n");
            }
        }
    });
}

#[test]
fn an_orderly_end_keeps_everything() {
    // Goal: SIGTERM in the middle of work: what was answered is there afterwards, with each policy, and the exit is
    // clean. Clients get whole answers, then the end.
    // Method: clients that count while the signal comes.
    check(|| {
        let folder = tempfile::tempdir().expect("a folder");
        for policy in ["always", "everysec", "no"] {
            let file = folder.path().join(policy);
            let server = server!(Server::logging(2, &file, policy));
            let port = server.port;
            let idle = server.client();
            let clients: Vec<_> = (0..4)
                .map(|number| {
                    std::thread::spawn(move || {
                        let (mut client, mut last) = (Client::connect(port), 0);
                        let key = format!("n{number}");
                        while let Ok(answer) = client.try_ask(&["INCR", &key]) {
                            let text = String::from_utf8(answer).expect("text");
                            last = text[1..].trim_end().parse().expect("a number");
                        }
                        last
                    })
                })
                .collect();
            let mut watcher = server.client();
            coring_tests::until_outside("all count", || {
                (0..4).all(|key| number(&mut watcher, &format!("n{key}")) > 50)
            });
            assert_eq!(server.end(), Some(0), "{policy}");
            drop(idle);
            let server = server!(Server::logging(2, &file, policy));
            let mut client = server.client();
            for (key, last) in clients.into_iter().enumerate() {
                let last: u64 = last.join().expect("no panic");
                let found = number(&mut client, &format!("n{key}"));
                assert!(
                    found == last || found == last + 1,
                    "{policy}: {found}, answered {last}"
                );
            }
        }
    });
}
