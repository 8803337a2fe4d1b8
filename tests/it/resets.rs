//! A peer that resets, whatever state the connection is in: the call that waits, or the next one, says so; nothing hangs
//! and nothing is left.

use coring::coro;
use coring::net::{Shutdown, TcpListener, TcpStream};
use coring_tests::conserve::{conserved, stagger};
use coring_tests::tcp::{connect, pair_of_ours, reset};
use coring_tests::{alone, check, in_flight, rounds, runtime, until};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Seek, Write};

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
        conserved(rounds(2000, 20_000), |round| {
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
        conserved(rounds(2000, 20_000), |round| {
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
        conserved(rounds(2000, 20_000), |round| {
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
        conserved(rounds(2000, 20_000), |round| {
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

/// A call that tells a reset.
type Call = fn(&TcpStream) -> io::Result<usize>;

const WRITES: [(&str, Call); 5] = [
    ("write", |mut stream| stream.write(&vec![1; 32 << 20])),
    ("write beside others", |mut stream| {
        let other = coro::spawn(coro::yield_now);
        let outcome = stream.write(&vec![1; 32 << 20]);
        other.join().unwrap();
        outcome
    }),
    ("write_vectored", |mut stream| {
        let part = vec![1; 16 << 20];
        stream.write_vectored(&[IoSlice::new(&part), IoSlice::new(&part)])
    }),
    ("send_file", |stream| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(32 << 20).unwrap();
        let sent = stream.send_file(&file.into(), 0, 32 << 20)?;
        Ok(usize::try_from(sent).unwrap())
    }),
    ("send_zero_copy", |stream| {
        stream.send_zero_copy(vec![1; 32 << 20]).0
    }),
];

const NEXT: [(&str, Call); 9] = [
    ("write", |mut stream| stream.write(b"x")),
    ("write_vectored", |mut stream| {
        stream.write_vectored(&[IoSlice::new(b"x")])
    }),
    ("send_zero_copy", |stream| stream.send_zero_copy([1; 9]).0),
    ("read", |mut stream| stream.read(&mut [0; 9])),
    ("peek", |stream| stream.peek(&mut [0; 9])),
    ("read_vectored", |mut stream| {
        stream.read_vectored(&mut [IoSliceMut::new(&mut [0; 9])])
    }),
    ("recv_buffer", |stream| {
        stream.recv_buffer().map(|buffer| buffer.len())
    }),
    ("recv_stream", |stream| {
        stream.recv_stream().recv().map(|buffer| buffer.len())
    }),
    ("take_error", |stream| {
        let pending = stream.take_error()?;
        pending.map_or(Ok(0), Err)
    }),
];

#[test]
fn after_a_part() {
    // Goal: a reset that a write meets after a part, which it tells instead, is told by the next call, whatever it is and on
    // whichever clone, and once, as std's blocking sockets do it: nobody takes it for the end of the stream.
    // Method: writes that wait for room when the reset comes; after them each call, then a write and a read.
    check(|| {
        runtime(1).run(|| {
            for (how, write) in WRITES {
                for (number, (next, call)) in NEXT.into_iter().enumerate() {
                    let (one, other) = pair_of_ours();
                    let clone = match number % 2 {
                        0 => Some(one.try_clone().unwrap()),
                        _ => None,
                    };
                    let writing = coro::spawn(move || (write(&one), one));
                    other.peek(&mut [0]).unwrap();
                    // A zero-copy send has what is not acknowledged under way as well.
                    until("it waits", || in_flight() > 0);
                    reset(other.into_std());
                    let (part, one) = writing.join().unwrap();
                    let part = part.unwrap_or_else(|error| panic!("{how}: {error}"));
                    assert!((1..32 << 20).contains(&part), "{how}: {part}");
                    let one = clone.unwrap_or(one);
                    let told = call(&one).map_err(|error| error.kind());
                    assert_eq!(told, Err(ErrorKind::ConnectionReset), "{how}, {next}");
                    let broken = (&one).write(b"x").unwrap_err();
                    assert_eq!(broken.kind(), ErrorKind::BrokenPipe, "{how}, {next}");
                    assert_eq!((&one).read(&mut [0]).unwrap(), 0, "{how}, {next}");
                    assert_eq!((&one).write_vectored(&[]).unwrap(), 0);
                }
            }
        });
    });
}
