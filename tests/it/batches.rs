//! Batches made and taken in place: whatever the code does that gives and takes, nothing is lost, doubled or overtaken.

use coring::mailbox::{RecvError, SendError};
use coring::{coro, mailbox, spawn_on};
use coring_tests::conserve::Token;
use coring_tests::{builder, check, rounds, runtime, until};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn an_iterator_that_panics_has_sent_what_it_gave() {
    // Goal: what was given before the panic arrives, nothing else does, and the sender goes on. Method: a panic at each place of
    // a block and of a group, in a coroutine and in a thread.
    check(|| {
        let cut_short = |sender: &coring::mailbox::Sender<usize>, at: usize| {
            let messages = (0..200).inspect(move |n| {
                if *n == at {
                    resume_unwind(Box::new(()));
                }
            });
            assert!(catch_unwind(AssertUnwindSafe(|| sender.send_all(messages))).is_err());
            assert!(sender.send_all([at, at]).is_ok());
        };
        runtime(2).run(|| {
            for at in (0..16).chain([63, 64, 65, 127, 128]) {
                let (sender, mut receiver) = mailbox(256);
                let other = sender.clone();
                let there = spawn_on(1, move || cut_short(&other, at));
                let thread = thread::spawn(move || cut_short(&sender, at));
                there.join().unwrap();
                coring::blocking(move || thread.join().unwrap()).unwrap();
                let mut got = Vec::new();
                while receiver.recv_each(1000, |n| got.push(n)).is_ok() {}
                let mut expected: Vec<_> = (0..at).chain([at, at]).collect();
                expected.extend_from_within(..);
                got.sort_unstable();
                expected.sort_unstable();
                assert_eq!(got, expected, "at {at}");
            }
        });
    });
}

#[test]
fn a_taker_that_panics_leaves_the_rest() {
    // Goal: the message that it panics over is received, those behind it are there for the next call, and who waits for the room
    // hears of it. Method: a full lane whose sender waits; a panic over each of its messages; all counted.
    check(|| {
        let runtime = builder(2).spin(Duration::ZERO).build().unwrap();
        runtime.run(|| {
            for round in 0..rounds(200, 5_000) {
                let capacity = 1 + round % 9;
                let (drops, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
                let (sender, mut receiver) = mailbox(capacity);
                let (counted, made) = (Arc::clone(&sent), Arc::clone(&drops));
                let there = spawn_on(1, move || {
                    for n in 0..capacity * 3 {
                        assert!(sender.send((n, Token(Arc::clone(&made)))).is_ok());
                        counted.fetch_add(1, Ordering::Release);
                    }
                });
                until("it is full", || sent.load(Ordering::Acquire) == capacity);
                let mut got = Vec::new();
                let at = round % capacity;
                let panics = catch_unwind(AssertUnwindSafe(|| {
                    receiver.recv_each(usize::MAX, |(n, _token)| {
                        got.push(n);
                        if n == at {
                            resume_unwind(Box::new(()));
                        }
                    })
                }));
                assert!(panics.is_err());
                assert_eq!(got, (0..=at).collect::<Vec<_>>());
                until("the room is used", || {
                    sent.load(Ordering::Acquire) == capacity + at + 1
                });
                let ended = loop {
                    if let Err(error) = receiver.recv_each(2, |(n, _token)| got.push(n)) {
                        break error;
                    }
                };
                assert_eq!(ended, RecvError::Disconnected);
                assert_eq!(got, (0..capacity * 3).collect::<Vec<_>>());
                there.join().unwrap();
                assert_eq!(drops.load(Ordering::Relaxed), capacity * 3);
            }
        });
    });
}

#[test]
fn a_batch_that_is_cancelled_loses_nothing() {
    // Goal: what was received, the message that comes back, and what the iterator still has are all there is, in order.
    // Method: a sender is cancelled at any moment, also before it has begun to wait; the receiver takes as it comes, or has gone.
    check(|| {
        runtime(2).run(|| {
            for round in 0..rounds(300, 20_000) {
                let (sender, mut receiver) = mailbox(1 + round % 7);
                let sending = spawn_on(1, move || {
                    let inner = coro::spawn(move || {
                        let mut messages = 0..1_000;
                        let sent = sender.send_all(messages.by_ref());
                        (sent.err(), messages)
                    });
                    (0..=round % 5).for_each(|_| coro::yield_now());
                    inner.cancel();
                    inner.join().unwrap()
                });
                let mut got = Vec::new();
                let few = round % 3 == 0;
                while receiver.recv_each(3, |n| got.push(n)).is_ok() && !(few && got.len() > 20) {}
                drop(receiver);
                let (back, rest) = sending.join().unwrap();
                let next = match &back {
                    None => rest.start,
                    Some(SendError::Refused(n, _) | SendError::Disconnected(n)) => *n,
                    Some(error) => panic!("{error}"),
                };
                assert_eq!(
                    rest.start,
                    next + usize::from(back.is_some()),
                    "round {round}"
                );
                assert!(
                    got.len() == next || few && got.len() <= next,
                    "round {round}"
                );
                assert_eq!(got, (0..got.len()).collect::<Vec<_>>());
            }
        });
    });
}

#[test]
fn an_iterator_that_parks_and_sends_itself() {
    // Goal: an iterator is any code: while it makes a message it sends others into the same mailbox, or lets other coroutines of
    // its core do so, by each call. All arrive once, those of each sender in order. Method: three senders a core, rings of 1 to 300.
    check(|| {
        runtime(2).run(|| {
            for round in 0..rounds(60, 3_000) {
                let (sender, mut receiver) = mailbox(1 + round * 5);
                let made = 300;
                for core in 0..2 {
                    for way in 0..3 {
                        let name = core * 4 + way;
                        let (sender, within) = (sender.clone(), sender.clone());
                        drop(spawn_on(core, move || {
                            let messages = (0..made).inspect(|n| match (n + round) % 11 {
                                0 => coro::yield_now(),
                                5 if way == 0 => within.send((core * 4 + 3, n / 11)).unwrap(),
                                _ => {}
                            });
                            let mut messages = messages.map(|n| (name, n));
                            match way {
                                0 => sender.send_all(messages).unwrap(),
                                1 => {
                                    while sender.send_all(messages.by_ref().take(70)).is_ok()
                                        && messages.len() > 0
                                    {}
                                }
                                _ => messages.for_each(|message| sender.send(message).unwrap()),
                            }
                        }));
                    }
                }
                drop(sender);
                let mut got: [Vec<usize>; 8] = Default::default();
                while receiver
                    .recv_each(50, |(name, n)| got[name].push(n))
                    .is_ok()
                {
                    if let Ok((name, n)) = receiver.try_recv() {
                        got[name].push(n);
                    }
                }
                for (name, got) in got.iter().enumerate() {
                    assert!(
                        got.is_sorted_by(|a, b| a < b),
                        "of {name} in round {round}: {got:?}"
                    );
                    let count = if name % 4 == 3 {
                        made.div_ceil(11) - 1..made / 11 + 2
                    } else {
                        made..made + 1
                    };
                    assert!(
                        count.contains(&got.len()),
                        "of {name} in round {round}: {}",
                        got.len()
                    );
                }
            }
        });
    });
}
