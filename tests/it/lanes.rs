//! The same behaviour on other ground: kernel features off, tiny rings, tiny inboxes, one core and two.
//!
//! A lane changes only the builder (see `coring_tests::lane`). What runs in it is a cross-section: bytes, files,
//! timers, cancellation, other cores, the stop with work under way.

use coring::coro;
use coring::fs::File;
use coring::io::is_cancelled;
use coring::net::TcpStream;
use coring_tests::lane::{Lane, in_every_lane};
use coring_tests::random::pattern;
use coring_tests::tcp::{listen, pair, round_trip_of_ours, serve};
use coring_tests::{check, until_in_flight};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

#[test]
fn echo() {
    // Goal: more connections at once than the rings have entries; every byte comes back. Clients on the last core.
    // Method: 60 connections, sizes up to 100 KB.
    check(|| {
        in_every_lane(|lane: &Lane| {
            let runtime = lane.runtime();
            let last = runtime.cores() - 1;
            let echoed = runtime.run(|| {
                let (listener, address) = listen();
                let clients = coring::spawn_on(last, move || {
                    let clients: Vec<_> = (0..60)
                        .map(|client| {
                            coro::spawn(move || {
                                let stream = TcpStream::connect(address).unwrap();
                                round_trip_of_ours(&stream, client, 1 + client);
                                round_trip_of_ours(&stream, client, 1 + client * 1700);
                            })
                        })
                        .collect();
                    clients
                        .into_iter()
                        .for_each(|client| client.join().unwrap());
                });
                let echoed = serve(&listener, 60);
                clients.join().unwrap();
                echoed
            });
            let sent: u64 = (0..60).map(|client| 2 + client + client * 1700).sum();
            assert_eq!(echoed, sent, "{}", lane.name());
        });
    });
}

#[test]
fn pooled_echo() {
    // Goal: receives into the pool bring every byte, whether the pool has buffers left, has two, or is not there.
    // Method: 20 connections of 5,000 bytes, each holding what it received last while it waits for more.
    check(|| {
        in_every_lane(|lane: &Lane| {
            lane.runtime().run(|| {
                let receivers: Vec<_> = (0..20)
                    .map(|number| {
                        let (mut ours, theirs) = pair();
                        let theirs = TcpStream::from(theirs);
                        let sender = coro::spawn(move || {
                            for bytes in pattern(number, 5000).chunks(700) {
                                ours.write_all(bytes).unwrap();
                                coro::yield_now();
                            }
                        });
                        let receiver = coro::spawn(move || {
                            let (mut got, mut held) = (Vec::new(), None);
                            loop {
                                let buffer = theirs.recv_buffer().unwrap();
                                if buffer.is_empty() {
                                    drop(held);
                                    return got;
                                }
                                got.extend_from_slice(&buffer);
                                held = Some(buffer);
                            }
                        });
                        (sender, receiver)
                    })
                    .collect();
                for (number, (sender, receiver)) in receivers.into_iter().enumerate() {
                    sender.join().unwrap();
                    assert!(
                        receiver.join().unwrap() == pattern(number, 5000),
                        "{}",
                        lane.name()
                    );
                }
                until_in_flight(0);
            });
        });
    });
}

#[test]
fn cancelled_reads() {
    // Goal: more reads than the rings have entries are cancelled at once; none hangs, none stays in flight, and the
    // bytes that come later are still there for the next reader.
    // Method: 50 readers.
    check(|| {
        in_every_lane(|lane: &Lane| {
            lane.runtime().run(|| {
                let (ours, theirs): (Vec<_>, Vec<_>) = (0..50).map(|_| pair()).unzip();
                let readers: Vec<_> = ours
                    .into_iter()
                    .map(|stream| {
                        coro::spawn(move || {
                            let refused = (&stream).read(&mut [0; 64]).unwrap_err();
                            assert!(is_cancelled(&refused));
                            stream
                        })
                    })
                    .collect();
                until_in_flight(50);
                readers.iter().for_each(|reader| reader.cancel());
                let ours: Vec<_> = readers
                    .into_iter()
                    .map(|reader| reader.join().unwrap())
                    .collect();
                until_in_flight(0);
                for (mut stream, mut peer) in ours.into_iter().zip(theirs) {
                    peer.write_all(b"later").unwrap();
                    let mut text = [0; 5];
                    stream.read_exact(&mut text).unwrap();
                    assert_eq!(&text, b"later");
                }
            });
        });
    });
}

#[test]
fn files() {
    // Goal: open, write, read, sync, set_len and close work, more at once than the rings have entries.
    // Method: 40 coroutines with a file each.
    check(|| {
        in_every_lane(|lane: &Lane| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().to_owned();
            lane.runtime().run(|| {
                let writers: Vec<_> = (0..40)
                    .map(|number| {
                        let path = path.join(number.to_string());
                        coro::spawn(move || {
                            let bytes = pattern(number, 3000 + number);
                            let mut file = File::create(&path).unwrap();
                            file.write_all(&bytes).unwrap();
                            file.set_len(3000).unwrap();
                            file.sync_data().unwrap();
                            drop(file);
                            let mut back = Vec::new();
                            File::open(&path).unwrap().read_to_end(&mut back).unwrap();
                            assert!(back == bytes[..3000]);
                        })
                    })
                    .collect();
                writers
                    .into_iter()
                    .for_each(|writer| writer.join().unwrap());
            });
        });
    });
}

#[test]
fn timers() {
    // Goal: no sleep is early, and an idle core wakes for it.
    // Method: sleeps of several sizes, at once and one after the other.
    check(|| {
        in_every_lane(|lane: &Lane| {
            lane.runtime().run(|| {
                let sleep = |us: u64| {
                    let (duration, start) = (Duration::from_micros(us), Instant::now());
                    coro::sleep(duration);
                    assert!(start.elapsed() >= duration);
                };
                let sleepers: Vec<_> = (0..50)
                    .map(|number| coro::spawn(move || sleep(number * 211)))
                    .collect();
                sleepers
                    .into_iter()
                    .for_each(|sleeper| sleeper.join().unwrap());
                [30, 1_500, 20_000].into_iter().for_each(sleep);
            });
        });
    });
}

#[test]
fn other_cores_and_the_stop() {
    // Goal: closures go to all cores, wake them from sleep, and come back; with reads under way everywhere, all stops
    // at once.
    // Method: round trips with pauses in which the other core falls asleep; then main returns.
    check(|| {
        in_every_lane(|lane: &Lane| {
            let runtime = lane.runtime();
            let last = runtime.cores() - 1;
            let start = Instant::now();
            runtime.run(|| {
                for number in 0..100 {
                    assert_eq!(
                        coring::spawn_on(last, move || number).join().unwrap(),
                        number
                    );
                    if number % 10 == 0 {
                        coro::sleep(Duration::from_micros(300));
                    }
                }
                let burst: Vec<_> = (0..100)
                    .map(|number| coring::spawn_on(last, move || number))
                    .collect();
                for (number, handle) in burst.into_iter().enumerate() {
                    assert_eq!(handle.join().unwrap(), number);
                }
                let blocked = coring::spawn_on_each(|_core| {
                    for _ in 0..30 {
                        let (mut ours, theirs) = pair();
                        coro::spawn(move || ours.read(&mut [0; 64]).map(|_| drop(theirs)));
                    }
                    coring_tests::until("reads are under way", || coring_tests::in_flight() >= 30);
                });
                blocked
                    .into_iter()
                    .for_each(|handle| handle.join().unwrap());
            });
            let took = start.elapsed();
            assert!(
                took < Duration::from_secs(8),
                "{}: stopped after {took:?}",
                lane.name()
            );
        });
    });
}
