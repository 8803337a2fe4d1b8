//! Cancelling: what a blocked coroutine gets, and that the kernel never touches what is no longer lent to it.

use coring::coro::{self, JoinError};
use coring::io::is_cancelled;
use coring::net::TcpStream;
use coring_tests::tcp::{pair, pair_of_ours};
use coring_tests::{
    alone, builder, check, in_flight, proc, rounds, runtime, until, until_in_flight,
};
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

const VICTIMS: usize = 64;
/// What a victim lends to the kernel, on its stack.
const LENT: usize = 8 * 1024;
/// What a painter covers with its pattern: more than the victim's frames reached.
const PAINTED: usize = 64 * 1024;

#[test]
fn a_cancelled_read_never_touches_its_old_stack() {
    // Goal: after a coroutine that was blocked in `read` has ended, its peer's bytes go nowhere near its old stack,
    // and they are not lost: the next reader of the socket gets them.
    // Method: victims lend buffers on their stacks and are cancelled. Painters on the same, recycled stacks fill
    // them with a pattern; that they cover every lent buffer is checked. Only then do the peers write, the core enters
    // the kernel a few times, and the painters look at their pattern. Then the bytes are read from the sockets.
    check(|| {
        let runtime = builder(1).max_coroutines(VICTIMS + 1).build().unwrap();
        runtime.run(|| {
            for round in 0..rounds(20, 500) {
                poison_round(round);
                assert_eq!(in_flight(), 0, "no slot is left over");
            }
        });
    });
}

fn poison_round(round: usize) {
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..VICTIMS).map(|_| pair()).unzip();
    let ours: Rc<[TcpStream]> = ours.into();
    let lent: Rc<RefCell<Vec<Range<usize>>>> = Rc::default();
    let victims: Vec<_> = (0..VICTIMS)
        .map(|index| {
            let (ours, lent) = (Rc::clone(&ours), Rc::clone(&lent));
            coro::spawn(move || {
                // What the painters' own frames need above their canvas.
                let above = [0u8; 4096];
                black_box(&above);
                let outcome = lend(&ours[index], &lent);
                black_box(&above);
                outcome
            })
        })
        .collect();
    until_in_flight(VICTIMS);
    victims.iter().for_each(|victim| victim.cancel());
    for victim in victims {
        assert_eq!(victim.join().unwrap(), Err(true), "refused as cancelled");
    }

    let (go, painted) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(Vec::new())));
    let painters: Vec<_> = (0..VICTIMS)
        .map(|index| {
            let (go, painted) = (Rc::clone(&go), Rc::clone(&painted));
            let byte = u8::try_from((round + index) % 251).unwrap() + 1;
            coro::spawn(move || paint(byte, &painted, &go))
        })
        .collect();
    until("the painters have painted", || {
        painted.borrow().len() == VICTIMS
    });
    for buffer in lent.borrow().iter() {
        let covers = |range: &Range<usize>| range.start <= buffer.start && buffer.end <= range.end;
        assert!(
            painted.borrow().iter().any(covers),
            "the test sees every old buffer"
        );
    }
    for peer in &theirs {
        (&*peer).write_all(&[0xee; LENT]).unwrap();
    }
    // Turns that enter the kernel: a read that were still in flight would take the bytes now, before the readers below.
    for _ in 0..3 {
        coro::sleep(Duration::from_micros(200));
    }
    go.set(true);
    for painter in painters {
        assert_eq!(
            painter.join().unwrap(),
            0,
            "bytes changed on a recycled stack"
        );
    }
    for mut stream in &*ours {
        let mut arrived = vec![0; LENT];
        stream.read_exact(&mut arrived).unwrap();
        assert!(arrived.iter().all(|byte| *byte == 0xee), "no byte is lost");
    }
}

/// Reads into a buffer on the stack. Whether it was refused as cancelled.
#[inline(never)]
fn lend(mut stream: &TcpStream, lent: &RefCell<Vec<Range<usize>>>) -> Result<usize, bool> {
    let mut buffer = [0u8; LENT];
    let range = buffer.as_ptr_range();
    lent.borrow_mut()
        .push(range.start as usize..range.end as usize);
    let outcome = stream.read(black_box(&mut buffer));
    outcome.map_err(|error| is_cancelled(&error))
}

/// Fills the stack, waits, and counts the bytes that are no longer what it wrote.
#[inline(never)]
fn paint(byte: u8, painted: &RefCell<Vec<Range<usize>>>, go: &Cell<bool>) -> usize {
    let mut canvas = [0u8; PAINTED];
    black_box(&mut canvas).fill(byte);
    let range = canvas.as_ptr_range();
    painted
        .borrow_mut()
        .push(range.start as usize..range.end as usize);
    while !go.get() {
        coro::yield_now();
    }
    black_box(&canvas)
        .iter()
        .filter(|now| **now != byte)
        .count()
}

#[test]
fn a_cancelled_coroutine_closes_once() {
    // Goal: the descriptor of a cancelled coroutine's stream is closed exactly once, and nothing is left open.
    // Method: right after it ended, fresh files take the numbers it had; a second close would take one of them away.
    alone(|| {
        runtime(1).run(|| {
            let before = proc::fds();
            for _ in 0..rounds(50, 1000) {
                let (ours, theirs): (Vec<_>, Vec<_>) = (0..16).map(|_| pair()).unzip();
                let numbers: Vec<_> = ours.iter().map(AsRawFd::as_raw_fd).collect();
                let victims: Vec<_> = ours
                    .into_iter()
                    .map(|mut stream| coro::spawn(move || stream.read(&mut [0; 64]).is_err()))
                    .collect();
                until_in_flight(16);
                victims.iter().for_each(|victim| victim.cancel());
                assert!(victims.into_iter().all(|victim| victim.join().unwrap()));
                // A few more than were closed: there are other gaps.
                let fresh: Vec<_> = (0..24)
                    .map(|_| std::fs::File::open("/dev/null").unwrap())
                    .collect();
                let taken = fresh
                    .iter()
                    .filter(|file| numbers.contains(&file.as_raw_fd()));
                assert_eq!(
                    taken.count(),
                    16,
                    "the old numbers were free, and are taken again"
                );
                for peer in theirs {
                    // The other side is closed: the kernel answers with a reset, or takes it and resets then.
                    let _ = (&peer).write(b"late");
                }
                for _ in 0..3 {
                    coro::yield_now();
                }
                assert!(
                    fresh.iter().all(|file| file.metadata().is_ok()),
                    "still open"
                );
            }
            assert_eq!(proc::fds(), before, "nothing is left open");
        });
    });
}

#[test]
fn dropping_a_handle_detaches() {
    // Goal: a coroutine whose handle is dropped while it reads goes on, gets its bytes, and leaves nothing behind.
    // Method: the handle is dropped with the read in flight; the coroutine reports through a cell.
    check(|| {
        runtime(1).run(|| {
            let (mut ours, mut theirs) = pair();
            let got = Rc::new(Cell::new(0));
            let report = Rc::clone(&got);
            drop(coro::spawn(move || {
                let mut buffer = [0; 16];
                report.set(ours.read(&mut buffer).unwrap());
            }));
            until_in_flight(1);
            theirs.write_all(b"hello").unwrap();
            until("the detached coroutine has read", || got.get() == 5);
            until_in_flight(0);
        });
    });
}

#[test]
fn every_blocking_call_is_refused() {
    // Goal: each kind of I/O that waits for ever is ended by a cancellation, with an error that `is_cancelled` knows
    // and that std's loops do not retry.
    // Method: read, write to a full socket, accept, connect-less peek; the operation is seen in flight first.
    check(|| {
        runtime(1).run(|| {
            type Call = fn(&TcpStream) -> std::io::Result<usize>;
            let calls: [(&str, Call); 4] = [
                ("read", |mut stream| stream.read(&mut [0; 8])),
                ("peek", |stream| stream.peek(&mut [0; 8])),
                ("read_exact", |mut stream| {
                    stream.read_exact(&mut [0; 8]).map(|()| 8)
                }),
                ("read_to_end", |mut stream| {
                    stream.read_to_end(&mut Vec::new())
                }),
            ];
            for (name, call) in calls {
                let (ours, _theirs) = pair();
                let victim = coro::spawn(move || call(&ours));
                until_in_flight(1);
                victim.cancel();
                let error = victim.join().unwrap().expect_err(name);
                assert!(is_cancelled(&error), "{name}: {error}");
                assert_ne!(error.kind(), ErrorKind::Interrupted, "{name}");
                assert!(error.to_string().contains("cancelled"), "{name}: {error}");
            }
            let (listener, _) = coring_tests::tcp::listen();
            let victim = coro::spawn(move || listener.accept().map(|_| ()));
            until_in_flight(1);
            victim.cancel();
            assert!(is_cancelled(&victim.join().unwrap().unwrap_err()), "accept");
            assert_eq!(in_flight(), 0);
        });
    });
}

#[test]
fn cancellation_is_a_level() {
    // Goal: once cancelled, every later call is refused at once, without going to the kernel; a coroutine that does
    // not stop asking is unwound, its destructors run, and join says Cancelled. Code that swallows the unwinding
    // meets it again.
    // Method: loops that ignore their errors, with a guard on the stack that counts its drop.
    struct Count(Rc<Cell<u32>>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    check(|| {
        runtime(1).run(|| {
            let (ours, _theirs) = pair();
            let (drops, refusals) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            let (guard, count) = (Count(Rc::clone(&drops)), Rc::clone(&refusals));
            let stubborn = coro::spawn(move || {
                let _guard = guard;
                loop {
                    let refused = (&ours).read(&mut [0; 8]).is_err();
                    count.set(count.get() + u32::from(refused));
                }
            });
            until_in_flight(1);
            stubborn.cancel();
            stubborn.cancel();
            let submitted = coring::stats().unwrap().ring.submitted;
            assert!(matches!(
                stubborn.join(),
                Err::<(), _>(JoinError::Cancelled)
            ));
            assert_eq!(drops.get(), 1, "unwound");
            assert!(
                (1..100).contains(&refusals.get()),
                "a few errors first: {refusals:?}"
            );
            let more = coring::stats().unwrap().ring.submitted - submitted;
            assert!(more <= 1, "refused before the kernel: {more} operations");

            let swallowed = Rc::new(Cell::new(0));
            let count = Rc::clone(&swallowed);
            let deaf = coro::spawn(move || {
                for _ in 0..5 {
                    let call = std::panic::AssertUnwindSafe(|| coro::sleep(Duration::MAX));
                    let payload = std::panic::catch_unwind(call).unwrap_err();
                    assert!(coro::is_cancellation(&*payload));
                    count.set(count.get() + 1);
                }
            });
            coro::yield_now();
            deaf.cancel();
            deaf.join().expect("it returned a value after all");
            assert_eq!(swallowed.get(), 5, "each later call is refused, too");
        });
    });
}

#[test]
fn calls_without_an_error_unwind() {
    // Goal: sleep, yield and park have no error to return: the coroutine unwinds, and at once.
    // Method: each is cancelled while it waits for ever; no panic hook runs for it.
    check(|| {
        runtime(1).run(|| {
            let waits: [fn(); 3] = [
                || coro::sleep(Duration::from_secs(3600)),
                || loop {
                    coro::yield_now();
                },
                || loop {
                    coro::park();
                },
            ];
            let start = Instant::now();
            for wait in waits {
                let victim = coro::spawn(wait);
                coro::yield_now();
                victim.cancel();
                assert!(matches!(victim.join(), Err(JoinError::Cancelled)));
            }
            assert!(start.elapsed() < Duration::from_secs(20));
            let never = coro::spawn(|| unreachable!("it was cancelled before it started"));
            never.cancel();
            assert!(matches!(never.join(), Err::<(), _>(JoinError::Cancelled)));
        });
    });
}

#[test]
fn a_joiner_that_is_cancelled_lets_go() {
    // Goal: cancelling who joins does not cancel who is joined.
    // Method: a chain of two; the end of the chain is released afterwards and must have run on.
    check(|| {
        runtime(1).run(|| {
            let (go, done) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
            let (wait, tell) = (Rc::clone(&go), Rc::clone(&done));
            let joined = coro::spawn(move || {
                while !wait.get() {
                    coro::yield_now();
                }
                tell.set(true);
            });
            let joiner = coro::spawn(move || joined.join());
            coro::yield_now();
            coro::yield_now();
            joiner.cancel();
            let outcome = joiner.join().unwrap();
            assert!(matches!(outcome, Err(JoinError::Refused(_))), "{outcome:?}");
            go.set(true);
            until("the joined one runs on", || done.get());
        });
    });
}

#[test]
fn a_shield_hides_the_cancellation() {
    // Goal: shielded clean-up may do I/O; the cancellation is seen right after.
    // Method: the victim says goodbye to its peer in a shield, after it was refused.
    check(|| {
        runtime(1).run(|| {
            let (ours, mut theirs) = pair_of_ours();
            let victim = coro::spawn(move || {
                let refused = (&ours).read(&mut [0; 8]).unwrap_err();
                assert!(is_cancelled(&refused));
                coro::shield(|| {
                    assert!(coro::is_cancelled(), "asked, though shielded");
                    (&ours).write_all(b"goodbye")?;
                    // The peer answers before we go.
                    (&ours).read_exact(&mut [0; 2])
                })?;
                (&ours).read(&mut [0; 8]).map(drop)
            });
            until_in_flight(1);
            victim.cancel();
            let mut text = [0; 7];
            theirs.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"goodbye");
            theirs.write_all(b"ok").unwrap();
            let error = victim.join().unwrap().unwrap_err();
            assert!(is_cancelled(&error), "visible again: {error}");
        });
    });
}
