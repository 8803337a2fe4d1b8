//! Two things at once on one socket, thousands of times: nothing is lost, nothing is left.
//!
//! Each test counts descriptors and operations before and after, in a process of its own.

#![expect(
    clippy::cast_possible_truncation,
    reason = "a round is marked by its lowest byte"
)]

use coring::coro;
use coring::io::RecvBuffer;
use coring::net::{Shutdown, TcpListener, TcpStream, UnixStream};
use coring_tests::conserve::{conserved, stagger};
use coring_tests::tcp::{listen, pair_of_ours, reset};
use coring_tests::{alone, builder, check, in_flight, proc, rounds, runtime, until};
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

#[test]
fn a_timeout_against_a_byte() {
    // Goal: a byte that arrives as the timeout does is delivered by this read or by the next, once.
    // Method: the peer writes a counter at about the time that the timeout fires.
    alone(|| {
        let mut outcomes = [0; 2];
        conserved(rounds(2000, 20_000), |round| {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            one.set_read_timeout(Some(Duration::from_micros(30)))
                .unwrap();
            let writer = coro::spawn(move || {
                coro::sleep(Duration::from_micros(5 * (round as u64 % 12)));
                other.write_all(&[round as u8]).unwrap();
                other
            });
            let mut byte = [0];
            match one.read(&mut byte) {
                Ok(bytes) => {
                    assert_eq!(bytes, 1);
                    outcomes[0] += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    one.set_read_timeout(None).unwrap();
                    assert_eq!(one.read(&mut byte).unwrap(), 1);
                    outcomes[1] += 1;
                }
            }
            assert_eq!(byte, [round as u8]);
            drop(writer.join().unwrap());
            assert_eq!(one.read(&mut byte).unwrap(), 0, "only once");
        });
        assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
    });
}

#[test]
fn a_cancelled_connect_leaves_no_half_connection() {
    // Goal: a connect that is cancelled is either a connection or an error; the listener's side ends accordingly.
    // Method: cancel after a varying moment, then accept whatever has come.
    alone(|| {
        runtime(1).run(|| {
            let (listener, address) = listen();
            let fds = proc::fds();
            for round in 0..rounds(2000, 20_000) {
                let connecting = coro::spawn(move || TcpStream::connect(address));
                stagger(round);
                connecting.cancel();
                let outcome = connecting.join();
                // The kernel has the connection as soon as the SYN was sent: it is in the backlog, whoever gave up.
                if let Ok(Ok(mut stream)) = outcome {
                    let (mut accepted, from) = listener.accept().unwrap();
                    if from == stream.local_addr().unwrap() {
                        stream.write_all(b"x").unwrap();
                        assert_eq!(accepted.read(&mut [0; 2]).unwrap(), 1);
                    }
                }
            }
            drop(listener);
            until("nothing in flight", || in_flight() == 0);
            assert!(proc::fds() < fds, "all but the listener's");
        });
    });
}

#[test]
fn a_reset_against_every_call() {
    // Goal: whatever waits when the peer resets, or begins after that, says so: ConnectionReset, a write perhaps BrokenPipe.
    // A reset is never taken for the end; nothing hangs.
    // Method: a read, a pooled receive, a write that waits for room, and a peek, in turn.
    alone(|| {
        conserved(rounds(2000, 20_000), |round| {
            let (one, other) = pair_of_ours();
            let waiting = coro::spawn(move || match round % 4 {
                0 => (&one).read(&mut [0; 8]).map(drop),
                1 => one.recv_buffer().map(drop),
                2 => (&one).write_all(&vec![0; 8 << 20]),
                _ => one.peek(&mut [0; 8]).map(drop),
            });
            stagger(round / 4);
            reset(other.into_std());
            let kind = waiting.join().unwrap().unwrap_err().kind();
            let writes = round % 4 == 2;
            assert!(
                kind == ErrorKind::ConnectionReset || writes && kind == ErrorKind::BrokenPipe,
                "{kind:?}"
            );
        });
    });
}

#[test]
fn half_close_both_ways_at_once() {
    // Goal: both sides write, shut their writing half and read to the end, at the same time: each gets everything.
    // Method: two coroutines with messages of varying length.
    alone(|| {
        conserved(rounds(2000, 20_000), |round| {
            let (one, other) = pair_of_ours();
            let talk = move |stream: TcpStream, bytes: usize| {
                (&stream).write_all(&vec![1; bytes]).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut got = Vec::new();
                (&stream).read_to_end(&mut got).unwrap();
                got.len()
            };
            let there = coro::spawn(move || talk(other, round * 7 % 5000));
            assert_eq!(talk(one, round), round * 7 % 5000);
            assert_eq!(there.join().unwrap(), round);
        });
    });
}

#[test]
fn pooled_receives_conserve_their_buffers() {
    // Goal: with two buffers in the pool, held in turn, every byte arrives; exhaustion takes the heap and ends when
    // buffers come back; cancelled receives keep none.
    // Method: hold what was received; of three receives one is cancelled before its bytes are sent and one after, when the
    // kernel has them and this core has not looked; compare the bytes.
    alone(|| {
        let runtime = builder(1).receive_pool(2, 64).build().unwrap();
        runtime.run(|| {
            let (one, other) = UnixStream::pair().unwrap();
            // A plain call sends: this core does nothing else between the bytes and the cancellation.
            let mut other = other.into_std();
            let mut held: Vec<RecvBuffer> = Vec::new();
            let mut from_heap = 0;
            for round in 0..rounds(3000, 30_000) {
                let clone = one.try_clone().unwrap();
                let waiting = coro::spawn(move || clone.recv_buffer());
                stagger(round);
                let message = [round as u8; 64];
                if round % 3 == 0 {
                    waiting.cancel();
                }
                other.write_all(&message).unwrap();
                if round % 3 == 1 {
                    waiting.cancel();
                }
                let buffer = match waiting.join() {
                    Ok(Ok(buffer)) => buffer,
                    _ => one.recv_buffer().unwrap(),
                };
                assert_eq!(*buffer, message, "round {round}");
                from_heap += usize::from(buffer.is_from_heap());
                held.push(buffer);
                if held.len() > round % 5 {
                    held.clear();
                }
            }
            held.clear();
            assert!(from_heap > 0, "the pool was empty at times");
            if coring::uring::Features::from_env("CORING_FEATURES")
                .unwrap()
                .has(coring::uring::Feature::BufferRing)
            {
                // Both buffers are back: the next two come from the pool.
                other.write_all(&[1; 128]).unwrap();
                let two = [one.recv_buffer().unwrap(), one.recv_buffer().unwrap()];
                assert!(two.iter().all(|buffer| !buffer.is_from_heap()));
            }
            drop(other);
            assert!(one.recv_buffer().unwrap().is_empty(), "the end is empty");
        });
    });
}

#[test]
fn waiting_pooled_receives_hold_no_buffer() {
    // Goal: more idle connections than buffers, and a busy one is served from the pool all the same.
    // Method: fifty wait on a pool of two, one talks.
    check(|| {
        let runtime = builder(1).receive_pool(2, 64).build().unwrap();
        runtime.run(|| {
            coro::scope(|scope| {
                let mut peers = Vec::new();
                for _ in 0..50 {
                    let (one, other) = UnixStream::pair().unwrap();
                    scope.spawn(move || assert!(one.recv_buffer().unwrap().is_empty()));
                    peers.push(other);
                }
                until("all wait", || in_flight() >= 50);
                let (one, mut other) = UnixStream::pair().unwrap();
                for round in 0..100 {
                    other.write_all(&[round; 10]).unwrap();
                    assert_eq!(*one.recv_buffer().unwrap(), [round; 10]);
                }
                drop(peers);
            });
        });
    });
}

#[test]
fn an_accept_that_is_cancelled_loses_no_connection() {
    // Goal: every client is accepted exactly once, whoever gave up waiting.
    // Method: cancel an accept as a client connects; what the coroutine did not get, the next accept gets.
    alone(|| {
        conserved(rounds(2000, 20_000), |round| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let clone = listener.try_clone().unwrap();
            let waiting = coro::spawn(move || clone.accept());
            stagger(round);
            let client = TcpStream::connect(address).unwrap();
            waiting.cancel();
            let (_stream, from) = match waiting.join() {
                Ok(Ok(accepted)) => accepted,
                _ => listener.accept().unwrap(),
            };
            assert_eq!(from, client.local_addr().unwrap());
        });
    });
}

#[test]
fn a_connection_that_meets_the_end_of_an_accept_is_not_forgotten() {
    // Goal: a connection that comes as one accept of several at the listener is ended, by a cancellation or by its time, is
    // delivered by that one or by another, though no other connection comes.
    // Method: the core does not look while the connection comes and the first accept is to end.
    alone(|| {
        conserved(rounds(2000, 20_000), |round| {
            let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
            let address = listener.local_addr().unwrap();
            let count = Rc::new(Cell::new(0));
            let time = match round % 2 {
                0 => Duration::from_secs(60),
                _ => Duration::from_millis(2),
            };
            let accepts = [time, Duration::from_secs(60)].map(|time| {
                let (listener, count) = (Rc::clone(&listener), Rc::clone(&count));
                let accept = coro::spawn(move || {
                    let accepted = coro::timeout(time, || listener.accept());
                    if let Ok(Ok(_)) = accepted {
                        count.set(count.get() + 1);
                    }
                });
                // Which is one more at the listener, behind the others.
                coro::sleep(Duration::from_micros(100));
                accept
            });
            let begun = Instant::now();
            let client = std::net::TcpStream::connect(address).unwrap();
            match round % 2 {
                0 => accepts[0].cancel(),
                _ => while begun.elapsed() < time {},
            }
            until("one of them accepted it", || count.get() == 1);
            drop(client);
            for accept in accepts {
                accept.cancel();
                accept.join().unwrap();
            }
        });
    });
}

#[test]
fn a_shutdown_against_a_read_in_another_coroutine() {
    // Goal: a read that waits while another coroutine shuts the socket ends with what had arrived, or with the end.
    // Method: a byte is sent before in every second round.
    alone(|| {
        conserved(rounds(2000, 20_000), |round| {
            let (one, mut other) = UnixStream::pair().unwrap();
            let clone = one.try_clone().unwrap();
            let reader = coro::spawn(move || (&clone).read(&mut [0; 8]));
            stagger(round / 2);
            let sent = round % 2;
            other.write_all(&vec![1; sent]).unwrap();
            one.shutdown(Shutdown::Both).unwrap();
            drop(one);
            assert_eq!(reader.join().unwrap().unwrap(), sent);
        });
    });
}

#[test]
fn a_close_against_a_read_through_another_handle() {
    // Goal: one handle is dropped while a read waits on another one of the same socket: the read goes on, and ends with the
    // byte or the end that the peer sends at that moment; the connection is closed with the last handle and not before.
    // Method: all three at once, in every order; the peer must see the end only when the reader has gone.
    alone(|| {
        conserved(rounds(3000, 30_000), |round| {
            let (one, other) = pair_of_ours();
            let clone = one.try_clone().unwrap();
            let reader = coro::spawn(move || {
                let bytes = (&clone).read(&mut [0; 8]).unwrap();
                // Still open: there is no end before this handle goes.
                (&clone).write_all(b"mine").unwrap();
                bytes
            });
            stagger(round);
            let sends = round % 3 != 0;
            let peer = coro::spawn(move || {
                if sends {
                    (&other).write_all(b"x").unwrap();
                } else {
                    other.shutdown(Shutdown::Write).unwrap();
                }
                let mut last = Vec::new();
                (&other).read_to_end(&mut last).unwrap();
                last
            });
            if round % 2 == 0 {
                coro::yield_now();
            }
            drop(one);
            assert_eq!(reader.join().unwrap(), usize::from(sends));
            assert_eq!(peer.join().unwrap(), b"mine");
        });
    });
}
