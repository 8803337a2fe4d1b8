//! Races between a cancellation and a completion: thousands of rounds in which every byte, connection, descriptor
//! and slot is accounted for.

use coring::coro;
use coring::fs::{File, OpenOptions};
use coring::io::is_cancelled;
use coring::net::Shutdown;
use coring_tests::random::{Random, pattern};
use coring_tests::tcp::{connect, listen, pair, pair_of_ours};
use coring_tests::{alone, check, in_flight, note, proc, rounds, runtime};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

fn yield_some(random: &mut Random, most: usize) {
    for _ in 0..random.below(most + 1) {
        coro::yield_now();
    }
}

#[test]
fn no_byte_is_lost_to_a_cancelled_read() {
    // Goal: a read that is cancelled returns the bytes that had arrived, or leaves them in the socket; in order,
    // none twice.
    // Method: one socket, one victim after the other, each cancelled at a random moment while a thread sends a
    // known stream of bytes. What all victims got, and then the rest, must be that stream.
    check(|| {
        let mut random = Random::new();
        let rounds = rounds(4000, 100_000);
        let message = pattern(1, rounds * 2);
        let (ours, theirs) = pair();
        let sent = message.clone();
        let sender = thread::spawn(move || {
            for bytes in sent.chunks(3) {
                (&theirs).write_all(bytes).unwrap();
                if bytes[0] & 7 == 0 {
                    thread::yield_now();
                }
            }
            theirs.shutdown(Shutdown::Write).unwrap();
        });
        let (arrived, cancelled) = runtime(1).run(|| {
            let ours = Rc::new(ours);
            let arrived = Rc::new(RefCell::new(Vec::new()));
            let mut cancelled = 0;
            for _ in 0..rounds {
                let (stream, arrived) = (Rc::clone(&ours), Rc::clone(&arrived));
                let victim = coro::spawn(move || {
                    let mut buffer = [0; 5];
                    let bytes = (&*stream).read(&mut buffer)?;
                    arrived.borrow_mut().extend_from_slice(&buffer[..bytes]);
                    std::io::Result::Ok(())
                });
                yield_some(&mut random, 3);
                victim.cancel();
                match victim.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        assert!(is_cancelled(&error), "{error}");
                        cancelled += 1;
                    }
                    // Cancelled before its first turn.
                    Err(error) => assert!(matches!(error, coro::JoinError::Cancelled)),
                }
            }
            let mut arrived = arrived.borrow_mut();
            (&*ours).read_to_end(&mut arrived).unwrap();
            assert_eq!(in_flight(), 0);
            (std::mem::take(&mut *arrived), cancelled)
        });
        sender.join().unwrap();
        println!("{cancelled} of {rounds} reads were refused");
        assert_eq!(arrived.len(), message.len(), "every byte once");
        assert!(arrived == message, "in order");
    });
}

#[test]
fn a_cancelled_write_reports_what_it_sent() {
    // Goal: a write that is cancelled half-way says how much the kernel took: exactly that arrives.
    // Method: writes of random size towards a peer that reads slowly, cancelled at random; the sums are compared.
    check(|| {
        let mut random = Random::new();
        runtime(1).run(|| {
            let (mut partial, rounds) = (0, rounds(2000, 20_000));
            for round in 0..rounds {
                note(format!("round {round}"));
                let (ours, theirs) = pair_of_ours();
                let (ours, bytes) = (Rc::new(ours), 1 + random.below(6 << 20));
                let stream = Rc::clone(&ours);
                let writer = coro::spawn(move || (&*stream).write(&vec![7; bytes]));
                let most = random.below(200);
                let slow = coro::spawn(move || {
                    let (mut buffer, mut total) = (vec![0; 64 * 1024], 0);
                    for turn in 0.. {
                        match (&theirs).read(&mut buffer).unwrap() {
                            0 => break,
                            bytes => total += bytes,
                        }
                        if turn < most {
                            coro::yield_now();
                        }
                    }
                    total
                });
                yield_some(&mut random, 60);
                writer.cancel();
                let reported = match writer.join() {
                    Ok(Ok(sent)) => sent,
                    Ok(Err(error)) => {
                        assert!(is_cancelled(&error), "{error}");
                        0
                    }
                    Err(_) => 0,
                };
                partial += usize::from(reported > 0 && reported < bytes);
                ours.shutdown(Shutdown::Write).unwrap();
                assert_eq!(
                    slow.join().unwrap(),
                    reported,
                    "of {bytes}, in round {round}"
                );
            }
            println!("{partial} of {rounds} writes were cut half-way");
            assert_eq!(in_flight(), 0);
        });
    });
}

#[test]
fn no_connection_is_lost_to_a_cancelled_accept() {
    // Goal: a connection that an accept took while it was cancelled is returned, not dropped.
    // Method: a thread connects again and again, and sends the number of each connection; acceptors are cancelled at
    // random. Every number must come out, and every descriptor be closed in the end.
    alone(|| {
        let mut random = Random::new();
        let connections = rounds(2000, 20_000);
        runtime(1).run(|| {
            let before = proc::fds();
            let (listener, address) = listen();
            let listener = Rc::new(listener);
            let (slots, permits) = mpsc::sync_channel::<()>(64);
            let client = thread::spawn(move || {
                for number in 0..u32::try_from(connections).unwrap() {
                    // At most so many are under way: the backlog is bounded.
                    slots.send(()).unwrap();
                    (&connect(address))
                        .write_all(&number.to_le_bytes())
                        .unwrap();
                }
            });
            let seen = Rc::new(RefCell::new(BTreeSet::new()));
            let mut refused = 0;
            while seen.borrow().len() < connections {
                let (listener, seen) = (Rc::clone(&listener), Rc::clone(&seen));
                let victim = coro::spawn(move || {
                    let (mut stream, _) = listener.accept()?;
                    coro::shield(|| {
                        let mut number = [0; 4];
                        stream.read_exact(&mut number)?;
                        let number = u32::from_le_bytes(number);
                        assert!(seen.borrow_mut().insert(number), "{number} came twice");
                        std::io::Result::Ok(())
                    })
                });
                yield_some(&mut random, 4);
                victim.cancel();
                match victim.join() {
                    Ok(Ok(())) => permits.recv().unwrap(),
                    Ok(Err(error)) => {
                        assert!(is_cancelled(&error), "{error}");
                        refused += 1;
                    }
                    Err(error) => assert!(matches!(error, coro::JoinError::Cancelled)),
                }
            }
            client.join().unwrap();
            println!("{refused} accepts were refused, {connections} connections came");
            drop(listener);
            assert_eq!(in_flight(), 0);
            assert_eq!(proc::fds(), before, "every descriptor is closed");
        });
    });
}

#[test]
fn no_descriptor_is_lost_to_a_cancelled_open() {
    // Goal: an open or a connect that succeeds while it is cancelled gives its descriptor out, or closes it.
    // Method: both are cancelled at random moments, thousands of times; the descriptors are counted before and after.
    alone(|| {
        let mut random = Random::new();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        runtime(1).run(|| {
            let before = proc::fds();
            let (listener, address) = listen();
            let (mut opened, rounds) = (0, rounds(2000, 20_000));
            for round in 0..rounds {
                let path = path.join(format!("{}", round % 64));
                let opener = coro::spawn(move || {
                    OpenOptions::new()
                        .write(true)
                        .create(true)
                        .open(path)
                        .map(drop)
                });
                let connector =
                    coro::spawn(move || coring::net::TcpStream::connect(address).map(drop));
                yield_some(&mut random, 3);
                opener.cancel();
                connector.cancel();
                for victim in [opener, connector] {
                    match victim.join() {
                        Ok(Ok(())) => opened += 1,
                        Ok(Err(error)) => assert!(is_cancelled(&error), "{error}"),
                        Err(error) => assert!(matches!(error, coro::JoinError::Cancelled)),
                    }
                }
                if round % 64 == 63 {
                    // Takes the connections out of the backlog.
                    while accept_now(&listener) {}
                }
            }
            while accept_now(&listener) {}
            drop(listener);
            println!("{opened} of {} were through before", 2 * rounds);
            coring_tests::until("all descriptors are closed", || {
                in_flight() == 0 && proc::fds() == before
            });
        });
    });
}

/// Takes one connection if one is there: an accept that is cancelled a few turns later.
fn accept_now(listener: &coring::net::TcpListener) -> bool {
    let listener = listener.try_clone().unwrap();
    let acceptor = coro::spawn(move || listener.accept().map(drop));
    (0..4).for_each(|_| coro::yield_now());
    acceptor.cancel();
    acceptor.join().unwrap().is_ok()
}

#[test]
fn file_operations_are_waited_for() {
    // Goal: a cancelled file operation is over when the call returns: a cancelled write of n bytes has written
    // all of what it reports, and the buffer is no longer in use.
    // Method: writes of distinct blocks are cancelled at random; blocks reported as written hold the pattern, others
    // hold it or nothing, never a mixture with the buffer's next content.
    check(|| {
        let mut random = Random::new();
        const BLOCK: usize = 64 * 1024;
        runtime(1).run(|| {
            let file = Rc::new(File::from(tempfile::tempfile().unwrap()));
            for round in 0..rounds(2000, 20_000) {
                let offset = (round % 16 * BLOCK) as u64;
                let (same, block) = (Rc::clone(&file), pattern(round, BLOCK));
                let expected = block.clone();
                let writer = coro::spawn(move || {
                    let mut block = block;
                    let outcome = same.write_at(&block, offset);
                    block.fill(0xff);
                    std::hint::black_box(&block);
                    outcome
                });
                yield_some(&mut random, 2);
                writer.cancel();
                match writer.join() {
                    Ok(Ok(bytes)) => {
                        let mut back = vec![0; BLOCK];
                        assert_eq!(file.read_at(&mut back, offset).unwrap(), BLOCK);
                        assert!(back[..bytes] == expected[..bytes], "round {round}");
                    }
                    Ok(Err(error)) => assert!(is_cancelled(&error), "{error}"),
                    Err(error) => assert!(matches!(error, coro::JoinError::Cancelled)),
                }
            }
            assert_eq!(in_flight(), 0);
        });
    });
}
