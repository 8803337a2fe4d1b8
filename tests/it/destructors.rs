//! Destructors that panic, of what crosses cores: they are the user's, who hears of them; they end neither a core nor the process, and nothing is lost with them.

use coring::{call, call_all, coro, mailbox, spawn_on};
use coring_tests::{check, need_locked_kib, rounds, runtime, until};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Panics when dropped, with a payload that does so, too.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new(Spark));
    }
}

struct Spark;

impl Drop for Spark {
    fn drop(&mut self) {
        resume_unwind(Box::new("a spark"));
    }
}

fn sparks() {
    resume_unwind(Box::new(Spark));
}

/// Whether it panicked. What with is not dropped: it may panic again.
fn panics(call: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(std::mem::forget)
        .is_err()
}

/// What work elsewhere leaves, claimed in each way.
fn claimed_in_each_way<T: Send + 'static>(core: usize, work: fn() -> T) {
    let done = || {
        let handle = spawn_on(core, work);
        until("the end", || handle.is_finished());
        handle
    };
    // It may have ended when it is dropped.
    drop(spawn_on(core, work));
    let _ = ManuallyDrop::new(spawn_on(core, work));
    let _ = ManuallyDrop::new(done());
    drop(done());
    let joined = spawn_on(core, work).join();
    assert!(panics(move || drop(joined)));
    let joined = done().join();
    assert!(panics(move || drop(joined)));
    assert!(panics(|| drop(call(core, work))));
    let cancelled = spawn_on(core, work);
    cancelled.cancel();
    drop(cancelled);
}

#[test]
fn values_and_payloads_that_panic_when_dropped() {
    // Goal: a value, or a panic's payload, whose destructor panics does so where it is dropped: at whoever claims it, and where nobody
    // does, unseen. Method: claimed in each way, on the own core and the other, in coroutines and the pool; then all go on.
    check(|| {
        runtime(2).run(|| {
            for core in 0..2 {
                claimed_in_each_way(core, sparks);
                claimed_in_each_way(core, || Bomb);
                for _ in 0..2 {
                    drop(coring::try_spawn_blocking(|| Bomb));
                    drop(coring::try_spawn_blocking(sparks));
                    let (sender, receiver) = coring::sync::shared_oneshot();
                    sender.send(Bomb);
                    drop(receiver);
                    assert!(panics(|| drop(coring::blocking(|| Bomb))));
                    assert!(panics(|| coring::blocking(sparks).unwrap()));
                    drop(coro::spawn(|| Bomb));
                    drop(coro::spawn(sparks));
                    assert!(panics(|| drop(coro::spawn(|| Bomb).join())));
                    assert!(panics(|| drop(coro::spawn(sparks).join())));
                }
            }
            for core in 0..2 {
                assert_eq!(call(core, coring::current_core).unwrap(), Some(core));
            }
            assert_eq!(coring::blocking(|| 1).unwrap(), 1);
        });
    });
}

#[test]
fn a_panic_beside_values_that_panic_when_dropped() {
    // Goal: a call to all cores that panics on one of them drops what the others returned; what their destructors panic with is not a second
    // panic inside of the first. Method: of three cores one panics, each in turn.
    enum Panics {
        At(usize),
    }
    check(|| {
        runtime(3).run(|| {
            for unlucky in 0..3 {
                let body = move |core| {
                    if core == unlucky {
                        resume_unwind(Box::new(Panics::At(core)));
                    }
                    Bomb
                };
                let outcome = catch_unwind(AssertUnwindSafe(|| drop(call_all(body))));
                let Panics::At(core) = *outcome.unwrap_err().downcast().unwrap();
                assert_eq!(core, unlucky);
            }
            assert_eq!(call_all(|core| core).unwrap(), [0, 1, 2]);
        });
    });
}

/// Its drop is counted; every third panics.
struct Counted {
    sender: usize,
    number: usize,
    drops: Arc<Vec<AtomicUsize>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops[self.sender].fetch_add(1, Ordering::Relaxed);
        if self.number.is_multiple_of(3) {
            drop(Bomb);
        }
    }
}

#[test]
fn messages_that_panic_when_dropped() {
    // Goal: messages whose destructors panic, any number of them, are dropped with the rest when the receiver goes, each once; before that
    // each arrives once and in order. Method: sixty cores, far more than there are, send to one; it goes in the middle.
    const SENDERS: usize = 60;
    check(|| {
        need_locked_kib!(8 * SENDERS);
        runtime(SENDERS).run(|| {
            for round in 0..rounds(6, 100) {
                let capacity = [1, 15, 16, 17, 64, 300][round % 6];
                let drops = Arc::new(
                    (0..SENDERS)
                        .map(|_| AtomicUsize::new(0))
                        .collect::<Vec<_>>(),
                );
                let (to, mut receiver) = mailbox::<Counted>(capacity);
                let senders: Vec<_> = (0..SENDERS)
                    .map(|sender| {
                        let (to, drops) = (to.clone(), Arc::clone(&drops));
                        spawn_on(sender, move || {
                            let mut made = 0;
                            let next = |made: &mut usize| {
                                *made += 1;
                                Counted {
                                    sender,
                                    number: *made - 1,
                                    drops: Arc::clone(&drops),
                                }
                            };
                            loop {
                                let mut more = true;
                                // What comes back panics here, and so may what slipped in when the receiver went.
                                let panicked = panics(|| {
                                    more = match sender % 2 {
                                        0 => to.send(next(&mut made)).is_ok(),
                                        _ => to.send_all((0..20).map(|_| next(&mut made))).is_ok(),
                                    };
                                });
                                if panicked || !more {
                                    return made;
                                }
                            }
                        })
                    })
                    .collect();
                let mut next = [0; SENDERS];
                while next.iter().sum::<usize>() < 5_000 {
                    let message = receiver.recv().unwrap();
                    assert_eq!(
                        message.number, next[message.sender],
                        "of {}",
                        message.sender
                    );
                    next[message.sender] += 1;
                    panics(|| drop(message));
                }
                panics(|| drop(receiver));
                // A sender may be about to drop what it found of another one.
                let made: Vec<_> = senders
                    .into_iter()
                    .map(|handle| handle.join().unwrap())
                    .collect();
                for (sender, made) in made.into_iter().enumerate() {
                    assert_eq!(drops[sender].load(Ordering::Relaxed), made, "of {sender}");
                }
            }
        });
    });
}
