//! Zero-copy sends: the bytes arrive, and the buffer comes back, whatever happens to the connection in between.

use coring::coro;
use coring::io::is_cancelled;
use coring::net::Shutdown;
use coring_tests::conserve::conserved;
use coring_tests::lane::{Lane, in_every_lane};
use coring_tests::random::pattern;
use coring_tests::tcp::{pair_of_ours, reset};
use coring_tests::{alone, builder, check, in_flight, rounds, runtime, until};
use std::cell::Cell;
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

/// A buffer that tells when it was freed.
struct Watched(
    Rc<Vec<u8>>,
    #[expect(dead_code, reason = "it is counted")] Rc<()>,
);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn all_arrives_and_the_buffer_returns() {
    // Goal: in every lane, sizes from nothing to more than any socket buffer arrive unchanged; several may be under way;
    // the buffers come back, the same memory.
    // Method: all sizes one after the other without waiting for a buffer, then all are reclaimed.
    check(|| {
        in_every_lane(|lane: &Lane| {
            lane.runtime().run(|| {
                let sizes = [0, 1, 100, 4096, 65_537, 3 << 20];
                let (one, mut other) = pair_of_ours();
                let reader = coro::spawn(move || {
                    let mut got = Vec::new();
                    other.read_to_end(&mut got).unwrap();
                    got
                });
                let mut lent = Vec::new();
                for (seed, size) in sizes.into_iter().enumerate() {
                    let buffer = pattern(seed, size);
                    let address = buffer.as_ptr();
                    let (sent, buffer) = one.send_zero_copy(buffer);
                    assert_eq!(sent.unwrap(), size, "{}", lane.name());
                    lent.push((buffer, address));
                }
                drop(one);
                for (seed, (mut buffer, address)) in lent.into_iter().enumerate() {
                    buffer.wait().unwrap();
                    assert!(buffer.is_free());
                    let buffer = buffer.reclaim().unwrap();
                    assert!(buffer == pattern(seed, sizes[seed]) && buffer.as_ptr() == address);
                }
                let all: Vec<_> = (0..sizes.len())
                    .flat_map(|seed| pattern(seed, sizes[seed]))
                    .collect();
                assert!(reader.join().unwrap() == all, "{}", lane.name());
                until("nothing in flight", || in_flight() == 0);
            });
        });
    });
}

#[test]
fn the_peer_goes_early() {
    // Goal: a peer that closes or resets at any moment of the send ends it with its own error or with the bytes taken;
    // the buffer comes back or is freed, once; no descriptor and no operation is left.
    // Method: four ways for the peer to go, a varying moment, buffers kept, dropped at once, or reclaimed.
    alone(|| {
        let alive = Rc::new(());
        let mut failures = 0;
        conserved(rounds(3000, 30_000), |round| {
            let (one, other) = pair_of_ours();
            let size = [1000, 40_000, 6 << 20][round % 3];
            let buffer = Watched(Rc::new(vec![7; size]), Rc::clone(&alive));
            let sender = coro::spawn(move || {
                let (sent, buffer) = one.send_zero_copy(buffer);
                let sent = match sent {
                    Ok(sent) => sent,
                    Err(error) => {
                        let kind = error.kind();
                        assert!(
                            matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                            "{error}"
                        );
                        0
                    }
                };
                match round / 3 % 3 {
                    0 => drop(buffer),
                    1 => {
                        // The connection goes first.
                        drop(one);
                        assert_eq!(buffer.reclaim().unwrap().0.len(), size);
                    }
                    _ => assert_eq!(buffer.reclaim().unwrap().0.len(), size),
                }
                sent
            });
            for _ in 0..round % 11 {
                coro::yield_now();
            }
            match round / 9 % 4 {
                0 => drop(other),
                1 => reset(other.into_std()),
                2 => {
                    other.shutdown(Shutdown::Read).unwrap();
                    drop(other);
                }
                _ => {
                    let _ = (&other).read(&mut [0; 512]);
                    drop(other);
                }
            }
            failures += usize::from(sender.join().unwrap() < size);
            until("the buffer is freed", || Rc::strong_count(&alive) == 1);
        });
        assert!(failures > 0, "some were cut");
    });
}

#[test]
fn a_cancelled_send_says_how_much_went() {
    // Goal: a zero-copy send that is cancelled or timed out half-way reports what the peer will read, to the byte; a
    // cancelled wait for the buffer leaves it to the kernel, which frees it.
    // Method: a peer that reads only after the sender gave up.
    alone(|| {
        let (alive, mut partial) = (Rc::new(()), 0);
        let bytes = Rc::new(vec![7; 16 << 20]);
        conserved(rounds(2000, 20_000), |round| {
            let (one, mut other) = pair_of_ours();
            let by_timeout = round % 2 == 0;
            if by_timeout {
                one.set_write_timeout(Some(Duration::from_micros(200)))
                    .unwrap();
            }
            let buffer = Watched(Rc::clone(&bytes), Rc::clone(&alive));
            let sender = coro::spawn(move || {
                let (sent, buffer) = one.send_zero_copy(buffer);
                (sent, buffer, one)
            });
            for _ in 0..round % 40 {
                coro::yield_now();
            }
            if !by_timeout {
                sender.cancel();
            }
            // Else it was cancelled before it began.
            if let Ok((sent, mut buffer, one)) = sender.join() {
                let sent = sent.unwrap_or_else(|error| {
                    let expected = is_cancelled(&error) || error.kind() == ErrorKind::WouldBlock;
                    assert!(expected, "{error}");
                    0
                });
                one.shutdown(Shutdown::Write).unwrap();
                let waiter = coro::spawn(move || {
                    let waited = buffer.wait();
                    (waited, buffer)
                });
                coro::yield_now();
                waiter.cancel();
                if let Ok((Err(error), _)) = waiter.join() {
                    assert!(is_cancelled(&error), "{error}");
                }
                let mut read = Vec::new();
                other.read_to_end(&mut read).unwrap();
                assert_eq!(read.len(), sent);
                partial += usize::from(sent > 0 && sent < 16 << 20);
            }
            until("the buffer is freed", || Rc::strong_count(&alive) == 1);
        });
        assert!(partial > 0, "some were cut");
    });
}

#[test]
fn who_is_cancelled_already_sends_nothing() {
    // Goal: a zero-copy send that is refused has not begun: no byte goes to the peer, nor to whoever gets the stream's
    // number next.
    // Method: a cancelled coroutine sends, closes the stream and connects anew, all before the core enters the kernel.
    alone(|| {
        runtime(1).run(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (one, mut other) = pair_of_ours();
            let sender = coro::spawn(move || {
                while !coro::is_cancelled() {
                    coro::shield(coro::yield_now);
                }
                let number = one.as_raw_fd();
                let (sent, buffer) = one.send_zero_copy(vec![7; 1000]);
                assert!(is_cancelled(&sent.unwrap_err()));
                drop((one, buffer));
                let mut next = Vec::new();
                while next.last().map(AsRawFd::as_raw_fd) != Some(number) {
                    next.push(std::net::TcpStream::connect(address).unwrap());
                }
                next
            });
            coro::yield_now();
            sender.cancel();
            let next = sender.join().unwrap();
            until("nothing in flight", || in_flight() == 0);
            let count = next.len();
            drop(next);
            let mut read = Vec::new();
            other.read_to_end(&mut read).unwrap();
            assert_eq!(read, [], "to its own peer");
            for _ in 0..count {
                let mut innocent = listener.accept().unwrap().0;
                innocent.read_to_end(&mut read).unwrap();
                assert_eq!(read, [], "to another's");
            }
        });
    });
}

/// A buffer that uses its core when it is dropped, as a part of something larger may.
struct Busy {
    bytes: Vec<u8>,
    _file: coring::fs::File,
    dropped: Rc<Cell<Option<bool>>>,
}

impl Busy {
    fn new(bytes: usize, dropped: &Rc<Cell<Option<bool>>>) -> Self {
        Self {
            bytes: vec![7; bytes],
            _file: tempfile::tempfile().unwrap().into(),
            dropped: Rc::clone(dropped),
        }
    }
}

impl AsRef<[u8]> for Busy {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.dropped.set(Some(coro::try_current().is_some()));
        panic!("a destructor of the test's");
    }
}

#[test]
fn the_last_one_to_hold_a_buffer_may_be_the_kernel() {
    // Goal: a buffer whose destructor closes a file and panics is dropped in a coroutine when the kernel lets go of it
    // last, whether that is seen at once, later by who drops the `LentBuffer`, or at the end of the runtime.
    // Method: the peer reads when we want the kernel to let go. (Without zero-copy sends all this is trivial.)
    alone(|| {
        let dropped = Rc::new(Cell::new(None));
        let ended = builder(1)
            .shutdown_grace(Duration::from_secs(5))
            .build()
            .unwrap()
            .run_to_end(|| {
                for seen_first in [false, true] {
                    let (one, mut other) = pair_of_ours();
                    let (sent, lent) = one.send_zero_copy(Busy::new(1000, &dropped));
                    assert_eq!(sent.unwrap(), 1000);
                    let dropper = coro::spawn(move || {
                        if seen_first {
                            until("nothing in flight", || in_flight() == 0);
                        }
                        drop(lent);
                    });
                    if !seen_first {
                        // Its destructor may run here, where the buffer is free already.
                        let _ = dropper.join();
                        other.read_exact(&mut [0; 1000]).unwrap();
                    } else {
                        other.read_exact(&mut [0; 1000]).unwrap();
                        let _ = dropper.join();
                    }
                    until("it is dropped", || dropped.get().is_some());
                    assert_eq!(dropped.take(), Some(true), "in a coroutine");
                    until("nothing in flight", || in_flight() == 0);
                }
                let (one, other) = pair_of_ours();
                let (sent, lent) = one.send_zero_copy(Busy::new(1000, &dropped));
                assert_eq!(sent.unwrap(), 1000);
                let _leaked = std::mem::ManuallyDrop::new(lent);
                drop((one, other));
            });
        assert!(ended.outcome.is_ok());
        assert_eq!(ended.abandoned, [""; 0]);
    });
}
