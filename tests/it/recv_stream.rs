//! One receive operation for many messages: every byte comes once and in order, whatever runs out, ends or breaks.

use coring::coro;
use coring::io::{Interest, RecvBuffer, is_cancelled, poll_fd};
use coring::net::{Filling, RecvStream, TcpStream, UnixStream};
use coring::uring::Feature;
use coring_tests::conserve::{pools_are_whole, stagger};
use coring_tests::lane::{Lane, in_every_lane, is_allowed};
use coring_tests::tcp::listen;
use coring_tests::{alone, builder, check, in_flight, proc, rounds, runtime, until};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

const FILLINGS: [Filling; 3] = [Filling::Whole, Filling::Bundles, Filling::Incremental];

/// The bytes of a stream from place `from` on: what is doubled, lost or swapped shows.
fn pattern(from: usize, length: usize) -> Vec<u8> {
    (from..from + length)
        .map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 11 & 0xff).unwrap())
        .collect()
}

/// Takes everything up to the end, `hold` buffers at a time.
fn all(stream: &mut RecvStream<'_>, hold: usize) -> Vec<u8> {
    let (mut bytes, mut held) = (Vec::new(), Vec::<RecvBuffer>::new());
    loop {
        let buffer = stream.recv().unwrap();
        if buffer.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&buffer);
        held.push(buffer);
        if held.len() > hold {
            held.remove(hold / 2);
        }
    }
}

#[test]
fn a_stream_arrives_whole_in_every_lane() {
    // Goal: TCP and Unix, chunks from one byte to many buffers: the stream as it was sent, then its end, again and again.
    // Method: a pattern without a short period; the pools afterwards.
    check(|| {
        in_every_lane(|lane: &Lane| {
            lane.runtime().run(|| {
                let sent = pattern(0, 200_000);
                let send = |mut stream: Box<dyn Write>, sent: Vec<u8>| {
                    let (mut rest, mut length) = (&sent[..], 1);
                    while !rest.is_empty() {
                        let (now, later) = rest.split_at(length.min(rest.len()));
                        stream.write_all(now).unwrap();
                        (rest, length) = (later, length * 7 % 20_011);
                    }
                };
                let (listener, address) = listen();
                let bytes = sent.clone();
                let sender = coro::spawn(move || {
                    send(Box::new(TcpStream::connect(address).unwrap()), bytes)
                });
                let (socket, _) = listener.accept().unwrap();
                let mut stream = socket.recv_stream();
                assert!(all(&mut stream, 1) == sent, "{}", lane.name());
                assert!(stream.recv().unwrap().is_empty(), "the end stays");
                sender.join().unwrap();

                let (one, other) = UnixStream::pair().unwrap();
                let bytes = sent.clone();
                let sender = coro::spawn(move || send(Box::new(other), bytes));
                assert!(all(&mut one.recv_stream(), 0) == sent, "{}", lane.name());
                sender.join().unwrap();
                drop(stream);
                until("nothing in flight", || in_flight() == 0);
                pools_are_whole();
            });
        });
    });
}

#[test]
fn a_pool_that_runs_out_delays_nobody() {
    // Goal: with two small buffers, all of them held by the receiver, the stream goes on in memory of the heap and comes
    // back to the pool; whole, with bundles, and incremental.
    // Method: hold more buffers than there are.
    alone(|| {
        for filling in FILLINGS {
            let runtime = builder(1)
                .receive_pool(2, 64)
                .stream_filling(filling)
                .build()
                .unwrap();
            runtime.run(|| {
                let sent = pattern(0, rounds(100_000, 1_000_000));
                let (one, mut other) = UnixStream::pair().unwrap();
                let bytes = sent.clone();
                let sender = coro::spawn(move || other.write_all(&bytes).unwrap());
                let (mut stream, mut received) = (one.recv_stream(), Vec::new());
                let (mut held, mut heap, mut pooled) = (Vec::new(), 0, 0);
                while received.len() < sent.len() {
                    let buffer = stream.recv().unwrap();
                    received.extend_from_slice(&buffer);
                    let from_heap = buffer.is_from_heap();
                    (heap, pooled) = (
                        heap + usize::from(from_heap),
                        pooled + usize::from(!from_heap),
                    );
                    held.push(buffer);
                    if held.len() > 7 {
                        held.clear();
                    }
                }
                assert!(received == sent, "{filling:?}");
                sender.join().unwrap();
                let multishot =
                    is_allowed(Feature::MultishotRecv) && is_allowed(Feature::BufferRing);
                // What other tests had locked may not be free yet: then there is no pool.
                let short = proc::locked_memory().is_some_and(|limit| limit < 1 << 20);
                assert!(
                    heap > 0 && (pooled > 0 || !multishot || short),
                    "{filling:?}: {heap}, {pooled}"
                );
                drop((held, stream));
                until("nothing in flight", || in_flight() == 0);
                pools_are_whole();
            });
        }
    });
}

#[test]
fn many_streams_share_a_pool() {
    // Goal: fifty connections at once on eight buffers: none gets bytes of another, none stalls.
    // Method: each has its own pattern.
    check(|| {
        for filling in FILLINGS {
            let runtime = builder(1)
                .receive_pool(8, 1000)
                .stream_filling(filling)
                .build()
                .unwrap();
            runtime.run(|| {
                coro::scope(|scope| {
                    for number in 0..50 {
                        let (one, mut other) = UnixStream::pair().unwrap();
                        scope.spawn(move || {
                            for piece in pattern(number, 30_000).chunks(1 + 97 * (number + 1)) {
                                other.write_all(piece).unwrap();
                                coro::yield_now();
                            }
                        });
                        scope.spawn(move || {
                            let bytes = all(&mut one.recv_stream(), number % 3);
                            assert!(bytes == pattern(number, 30_000), "{filling:?}, {number}");
                        });
                    }
                });
                until("nothing in flight", || in_flight() == 0);
                pools_are_whole();
            });
        }
    });
}

#[test]
fn a_call_that_is_cancelled_or_timed_out_loses_nothing() {
    // Goal: thousands of calls that are given up as bytes arrive: every byte is delivered once, by that call or the next.
    // Method: in one round the call's time is over, in the next its coroutine is cancelled, which borrows the stream.
    alone(|| {
        for filling in FILLINGS {
            builder(1).stream_filling(filling).build().unwrap().run(|| {
                let (one, mut other) = UnixStream::pair().unwrap();
                let mut stream = one.recv_stream();
                let (mut sent, mut received, mut given_up) = (0, 0, 0);
                for round in 0..rounds(2_000, 20_000) {
                    let length = 1 + round % 100;
                    let first = coro::scope(|scope| {
                        let waiting = scope.spawn(|| match round % 2 {
                            0 => stream.recv(),
                            _ => {
                                one.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
                                let timed = stream.recv();
                                one.set_read_timeout(None).unwrap();
                                timed
                            }
                        });
                        stagger(round / 2);
                        other.write_all(&pattern(sent, length)).unwrap();
                        sent += length;
                        stagger(round / 8);
                        if round % 2 == 0 {
                            waiting.cancel();
                        }
                        waiting.join()
                    });
                    match first {
                        Ok(Ok(buffer)) => {
                            assert_eq!(*buffer, pattern(received, buffer.len()));
                            received += buffer.len();
                        }
                        Ok(Err(error)) => {
                            let timed_out = error.kind() == ErrorKind::WouldBlock;
                            assert!(is_cancelled(&error) || timed_out, "{error}");
                            given_up += 1;
                        }
                        Err(_) => given_up += 1,
                    }
                    while received < sent {
                        let buffer = stream.recv().unwrap();
                        assert_eq!(*buffer, pattern(received, buffer.len()), "round {round}");
                        received += buffer.len();
                    }
                }
                println!("{filling:?}: {given_up} given up");
                drop(stream);
                until("nothing in flight", || in_flight() == 0);
                pools_are_whole();
            });
        }
    });
}

#[test]
fn a_stream_that_is_stopped_gives_the_rest() {
    // Goal: after `recv_rest` the next byte of the socket follows the last one that was taken, wherever it was stopped.
    // Method: the rest is read in the ordinary way, and then by another stream.
    alone(|| {
        for filling in FILLINGS {
            builder(1).stream_filling(filling).build().unwrap().run(|| {
                let (one, mut other) = UnixStream::pair().unwrap();
                let fds = proc::fds();
                let (mut sent, mut received) = (0, 0);
                for round in 0..rounds(2_000, 20_000) {
                    let length = 1 + round * 13 % 9_000;
                    let bytes = pattern(sent, length);
                    sent += length;
                    let mut writer = other.try_clone().unwrap();
                    let sender = coro::spawn(move || writer.write_all(&bytes).unwrap());
                    let mut stream = one.recv_stream();
                    let mut take = |buffer: &[u8]| {
                        assert_eq!(buffer, pattern(received, buffer.len()), "round {round}");
                        received += buffer.len();
                    };
                    if round % 3 != 0 {
                        take(&stream.recv().unwrap());
                    }
                    stagger(round);
                    while let Some(buffer) = stream.recv_rest().unwrap() {
                        take(&buffer);
                    }
                    assert!(stream.recv_rest().unwrap().is_none());
                    drop(stream);
                    sender.join().unwrap();
                    let mut late = vec![0; sent - received];
                    (&one).read_exact(&mut late).unwrap();
                    assert!(late == pattern(received, late.len()));
                    received = sent;
                }
                other.write_all(b"end").unwrap();
                assert_eq!(*one.recv_stream().recv().unwrap(), *b"end");
                until("nothing in flight", || in_flight() == 0);
                assert_eq!(proc::fds(), fds);
                pools_are_whole();
            });
        }
    });
}

#[test]
fn a_dropped_stream_holds_nothing() {
    // Goal: thousands of streams dropped before, while and after bytes arrive, their sockets closed at once: no
    // descriptor, operation or buffer stays behind, and a number that is used again is not received from.
    // Method: a socket made right after the close gets the number; what it is sent must be there.
    alone(|| {
        for filling in FILLINGS {
            builder(1).stream_filling(filling).build().unwrap().run(|| {
                let mut fds = 0;
                for round in 0..rounds(2_000, 20_000) {
                    let (one, mut other) = UnixStream::pair().unwrap();
                    let mut stream = one.recv_stream();
                    if round % 3 == 0 {
                        other.write_all(&[1; 100]).unwrap();
                    }
                    if round % 5 != 0 {
                        one.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
                        match stream.recv() {
                            Ok(buffer) => {
                                assert!(!buffer.is_empty() && buffer.iter().all(|byte| *byte == 1))
                            }
                            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                        }
                    }
                    if round % 3 == 1 {
                        other.write_all(&[1; 5000]).unwrap();
                    }
                    stagger(round / 3);
                    drop(stream);
                    drop(one);
                    let (mut new, mut peer) = UnixStream::pair().unwrap();
                    peer.write_all(b"mine").unwrap();
                    let mut mine = [0; 4];
                    new.read_exact(&mut mine).unwrap();
                    assert_eq!(&mine, b"mine");
                    drop((new, peer, other));
                    if round == 0 {
                        until("nothing in flight", || in_flight() == 0);
                        fds = proc::fds();
                    }
                }
                until("nothing in flight", || in_flight() == 0);
                assert_eq!(proc::fds(), fds);
                pools_are_whole();
            });
        }
    });
}

#[test]
fn a_reset_comes_after_what_arrived_before_it() {
    // Goal: the peer resets the connection: what arrived is delivered or refused as a whole with ECONNRESET, once; then
    // the stream has ended.
    // Method: bytes in every second round; linger zero makes the close a reset.
    alone(|| {
        runtime(1).run(|| {
            for round in 0..rounds(2_000, 20_000) {
                let (listener, address) = listen();
                let mut client = TcpStream::connect(address).unwrap();
                let (server, _) = listener.accept().unwrap();
                let mut stream = server.recv_stream();
                let before = round % 2 * 1000;
                client.write_all(&pattern(0, before)).unwrap();
                stagger(round / 2);
                client.set_linger(Some(Duration::ZERO)).unwrap();
                drop(client);
                let (mut received, mut error) = (Vec::new(), None);
                while error.is_none() {
                    match stream.recv() {
                        Ok(buffer) if buffer.is_empty() => break,
                        Ok(buffer) => received.extend_from_slice(&buffer),
                        Err(reset) => error = Some(reset.kind()),
                    }
                }
                assert_eq!(error, Some(ErrorKind::ConnectionReset), "round {round}");
                assert_eq!(received, pattern(0, received.len()));
                assert!(stream.recv().unwrap().is_empty(), "told once");
            }
            until("nothing in flight", || in_flight() == 0);
            pools_are_whole();
        });
    });
}

#[test]
fn a_window_bounds_what_waits() {
    // Goal: an owner that does not take what arrives makes the kernel stop at the window; nothing is lost, and the owner
    // may write meanwhile.
    // Method: 200 bytes written and received one by one against a window of 4; the owner writes before it takes them.
    check(|| {
        // More buffers than the window, also where the ground has two: else their lack would stop it first.
        let builder = builder(1).receive_pool(8, 64).multishot_window(4);
        builder.build().unwrap().run(|| {
            let (one, mut other) = UnixStream::pair().unwrap();
            let mut stream = one.recv_stream();
            other.write_all(&[0]).unwrap();
            assert_eq!(*stream.recv().unwrap(), [0]);
            for number in 1..=200u8 {
                other.write_all(&[number]).unwrap();
                // Through the ring, so that each byte is received on its own.
                poll_fd(&one, Interest::WRITABLE).unwrap();
            }
            drop(one.try_clone().unwrap().write_all(b"answer"));
            let mut bytes = Vec::new();
            while bytes.len() < 200 {
                bytes.extend_from_slice(&stream.recv().unwrap());
            }
            assert!(bytes.into_iter().eq(1..=200));
            let mut answer = [0; 6];
            other.read_exact(&mut answer).unwrap();
            if is_allowed(Feature::MultishotRecv) && is_allowed(Feature::BufferRing) {
                assert!(coring::stats().unwrap().ring.crowded > 0, "it was stopped");
            }
        });
    });
}

#[test]
fn who_insists_after_the_deadline_loses_nothing() {
    // Goal: a call that unwinds, as one does after many that were refused, leaves what has arrived to the next one.
    // Method: several buffers have come when the time is over in which errors are not looked at.
    check(|| {
        in_every_lane(|lane: &Lane| {
            lane.runtime().run(|| {
                let (idle, _silent) = UnixStream::pair().unwrap();
                let (one, mut other) = UnixStream::pair().unwrap();
                let sent = pattern(0, 20_000);
                other.write_all(&sent).unwrap();
                drop(other);
                let mut stream = one.recv_stream();
                let mut bytes = stream.recv().unwrap().to_vec();
                let ended = coro::timeout(Duration::from_millis(1), || {
                    (&idle).read(&mut [0]).unwrap_err();
                    loop {
                        if let Ok(buffer) = stream.recv() {
                            bytes.extend_from_slice(&buffer);
                        }
                    }
                });
                let ended: Result<(), _> = ended;
                assert!(ended.is_err());
                bytes.extend(all(&mut stream, 0));
                assert!(bytes == sent, "{}: {}", lane.name(), bytes.len());
                drop(stream);
                pools_are_whole();
            });
        });
    });
}
