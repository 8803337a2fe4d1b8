//! A peer that resets, whatever state the connection is in: the call that waits, or the next one, says so; nothing hangs
//! and nothing is left.

use coring::coro;
use coring::net::{Shutdown, TcpListener, TcpStream};
use coring_tests::conserve::{conserved, stagger};
use coring_tests::tcp::{connect, pair_of_ours, reset};
use coring_tests::{alone, rounds};
use std::io::{self, ErrorKind, Read, Seek, Write};

/// What a call may say when the peer has reset the connection.
fn told(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        let kind = error.kind();
        let known = [
            ErrorKind::ConnectionReset,
            ErrorKind::BrokenPipe,
            ErrorKind::NotConnected,
        ];
        assert!(known.contains(&kind), "{error}");
    }
}

/// Runs a call on one side while the other resets; some rounds let the call begin first.
fn against(
    round: usize,
    one: TcpStream,
    other: TcpStream,
    call: impl FnOnce(&TcpStream) -> io::Result<()> + 'static,
) {
    let waiting = coro::spawn(move || told(call(&one)));
    stagger(round);
    reset(other.into_std());
    waiting.join().unwrap();
}

#[test]
fn while_it_waits_to_be_accepted() {
    // Goal: a connection that was reset in the backlog is accepted or passed over; whoever gets it reads the reset. The
    // listener goes on, by both ways to accept.
    // Method: a client that resets before anybody accepts, then one that does not.
    alone(|| {
        conserved(rounds(1500, 15_000), |round| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..round % 3 {
                reset(connect(address));
            }
            let mut good = TcpStream::from(connect(address));
            good.set_write_timeout(None).unwrap();
            good.write_all(b"x").unwrap();
            let mut stream = listener.accept_stream();
            let mut byte = [0];
            loop {
                let mut accepted = match round % 2 {
                    0 => listener.accept().unwrap().0,
                    _ => stream.accept().unwrap(),
                };
                match accepted.read(&mut byte) {
                    Ok(1) => break,
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                }
            }
            assert_eq!(byte, *b"x");
        });
    });
}

#[test]
fn with_bytes_in_both_directions() {
    // Goal: a reset with bytes not yet read, on either side, ends reads and writes; what had arrived before may be
    // read or may be gone, as with std, but nothing else is read.
    // Method: bytes on their way both ways, then the reset against a read to the end.
    alone(|| {
        conserved(rounds(1500, 15_000), |round| {
            let (mut one, mut other) = pair_of_ours();
            let bytes = round % 700;
            one.write_all(&vec![1; bytes]).unwrap();
            other.write_all(&vec![2; bytes]).unwrap();
            against(round, one, other, move |mut one| {
                let mut got = Vec::new();
                let outcome = one.read_to_end(&mut got);
                assert!(got.len() <= bytes && got.iter().all(|byte| *byte == 2));
                outcome.map(drop)
            });
        });
    });
}

#[test]
fn after_half_a_close() {
    // Goal: the same when one side has ended its direction, ours or theirs: reads end, writes fail, neither hangs.
    // Method: all four of them in turn, each before, while and after the reset.
    alone(|| {
        conserved(rounds(2000, 20_000), |round| {
            let (one, other) = pair_of_ours();
            if round % 2 == 0 {
                one.shutdown(Shutdown::Write).unwrap();
            } else {
                other.shutdown(Shutdown::Write).unwrap();
            }
            against(round / 4, one, other, move |mut one| match round / 2 % 2 {
                0 => one.read(&mut [0; 8]).map(|bytes| assert_eq!(bytes, 0)),
                _ => one.write_all(&vec![0; 4 << 20]),
            });
        });
    });
}

#[test]
fn while_it_sends_in_every_way() {
    // Goal: a vectored write, a zero-copy send and a file that is sent end as a write does; the buffer comes back.
    // Method: each larger than the socket's buffers, so that they wait when the reset comes.
    alone(|| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![3; 8 << 20]).unwrap();
        file.rewind().unwrap();
        let file = coring::fs::File::from(file);
        conserved(rounds(300, 3000), |round| {
            let (one, other) = pair_of_ours();
            let file = file.try_clone().unwrap();
            against(round / 3, one, other, move |mut one| match round % 3 {
                0 => {
                    let part = vec![1; 4 << 20];
                    let parts = [io::IoSlice::new(&part), io::IoSlice::new(&part)];
                    one.write_vectored(&parts).map(drop)
                }
                1 => {
                    let (sent, buffer) = one.send_zero_copy(vec![2; 8 << 20]);
                    assert_eq!(buffer.reclaim().unwrap().len(), 8 << 20);
                    sent.map(drop)
                }
                _ => one.send_file(&file, 0, 8 << 20).map(drop),
            });
        });
    });
}

#[test]
fn half_closes_cross_a_cancellation() {
    // Goal: both sides end their directions while one of them is cancelled: the other reads what was sent and the end.
    // Method: the victim's message is sent before, or not at all.
    alone(|| {
        conserved(rounds(1500, 15_000), |round| {
            let (one, other) = pair_of_ours();
            let length = round % 900;
            let victim = coro::spawn(move || {
                let mut stream = &one;
                stream.write_all(&vec![1; length])?;
                one.shutdown(Shutdown::Write)?;
                let mut got = Vec::new();
                stream.read_to_end(&mut got)
            });
            stagger(round);
            if round % 2 == 0 {
                victim.cancel();
            }
            let mut got = Vec::new();
            (&other).read_to_end(&mut got).unwrap();
            assert!(
                got.len() == length || (round % 2 == 0 && got.is_empty()),
                "{}",
                got.len()
            );
            drop(other);
            let outcome = victim.join();
            if round % 2 != 0 {
                assert_eq!(outcome.unwrap().unwrap(), 0);
            }
        });
    });
}
