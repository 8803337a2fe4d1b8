//! Goal: under random programs with cancellations and timeouts at every point, every type agrees with its model.
//!
//! Method: a random program is a list of coroutines, each with a start time, what it asks for, how long it holds it,
//! when its patience ends, and when it is cancelled. They run in a random order. The models are invariants counted
//! beside the real thing (who holds what), conservation (nothing lost, nothing doubled), and that everything ends: a lost wake
//! shows as the test driver's deadlock panic.

use coring_coro as coro;
use coro::channel::{RecvError, broadcast};
use coro::sync::{Mutex, OnceCell, RwLock, Semaphore};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

#[derive(Clone, Debug)]
struct Actor {
    start: u64,
    want: usize,
    hold: u64,
    /// Zero: waits for ever.
    patience: u64,
    /// Zero: is not cancelled.
    cancelled: u64,
}

fn actors() -> impl Strategy<Value = (u64, Vec<Actor>)> {
    // Half of them have all the patience there is and are left alone: a wake that is lost is a deadlock to them.
    let patience = prop_oneof![Just(0), 1u64..6];
    let cancelled = prop_oneof![Just(0), 1u64..12];
    let actor = (0u64..6, 1usize..4, 0u64..4, patience, cancelled);
    let actor = actor.prop_map(|(start, want, hold, patience, cancelled)| Actor {
        start,
        want,
        hold,
        patience,
        cancelled,
    });
    (any::<u64>(), prop::collection::vec(actor, 1..14))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Runs every actor as a coroutine: `work` with its number; cancels on time; waits for all.
fn run(seed: u64, actors: Vec<Actor>, work: impl Fn(usize, &Actor) + 'static) {
    coro::testing::run_seeded(seed, move || {
        coro::scope(|s| {
            for (index, actor) in actors.iter().enumerate() {
                let work = &work;
                let handle = s.spawn(move || {
                    coro::sleep(ms(actor.start));
                    work(index, actor);
                });
                if actor.cancelled > 0 {
                    s.spawn(move || {
                        coro::sleep(ms(actor.cancelled - 1));
                        handle.cancel();
                    });
                }
            }
        });
    });
}

/// Counts up for its life, so that it is right when its coroutine is unwound.
struct Inside<'a>(&'a Cell<i64>, i64);
impl<'a> Inside<'a> {
    fn enter(cell: &'a Cell<i64>, by: i64) -> Self {
        cell.set(cell.get() + by);
        Self(cell, by)
    }
}
impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - self.1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn mutex_excludes((seed, actors) in actors()) {
        let state = Rc::new((Mutex::new(()), Cell::new(0)));
        let after = state.clone();
        run(seed, actors, move |_, actor| {
            let (mutex, inside) = &*state;
            let guard = if actor.patience == 0 {
                Some(mutex.lock())
            } else {
                mutex.lock_timeout(ms(actor.patience)).ok()
            };
            let Some(_guard) = guard else { return };
            let _inside = Inside::enter(inside, 1);
            assert_eq!(inside.get(), 1);
            coro::sleep(ms(actor.hold));
        });
        prop_assert!(after.0.try_lock().is_some());
        prop_assert_eq!(after.1.get(), 0);
    }

    #[test]
    fn rwlock_excludes((seed, actors) in actors()) {
        let state = Rc::new((RwLock::new(()), Cell::new(0), Cell::new(0)));
        let after = state.clone();
        run(seed, actors, move |_, actor| {
            let (lock, readers, writers) = &*state;
            if actor.want == 1 {
                let guard = if actor.patience == 0 { Some(lock.write()) } else { lock.write_timeout(ms(actor.patience)).ok() };
                let Some(_guard) = guard else { return };
                let _inside = Inside::enter(writers, 1);
                assert_eq!((readers.get(), writers.get()), (0, 1));
                coro::sleep(ms(actor.hold));
            } else {
                let guard = if actor.patience == 0 { Some(lock.read()) } else { lock.read_timeout(ms(actor.patience)).ok() };
                let Some(_guard) = guard else { return };
                let _inside = Inside::enter(readers, 1);
                assert_eq!(writers.get(), 0);
                coro::sleep(ms(actor.hold));
            }
        });
        prop_assert!(after.0.try_write().is_some());
    }

    #[test]
    fn semaphore_conserves_permits((seed, actors) in actors()) {
        let state = Rc::new((Semaphore::new(4), Cell::new(0)));
        let after = state.clone();
        run(seed, actors, move |_, actor| {
            let (semaphore, used) = &*state;
            let permit = if actor.patience == 0 {
                Some(semaphore.acquire_many(actor.want))
            } else {
                semaphore.acquire_many_timeout(actor.want, ms(actor.patience)).ok()
            };
            let Some(_permit) = permit else { return };
            let _inside = Inside::enter(used, i64::try_from(actor.want).unwrap());
            assert!(used.get() <= 4);
            coro::sleep(ms(actor.hold));
        });
        prop_assert_eq!(after.0.available(), 4);
    }

    /// One initialiser runs at a time, the first that succeeds is the last, and everybody gets its value.
    #[test]
    fn once_cell_is_made_once((seed, actors) in actors()) {
        let state = Rc::new((OnceCell::new(), Cell::new(0), Cell::new(0)));
        let after = state.clone();
        run(seed, actors, move |index, actor| {
            let (cell, making, made) = &*state;
            let make = || {
                let _inside = Inside::enter(making, 1);
                assert_eq!(making.get(), 1);
                coro::sleep(ms(actor.hold));
                if actor.want == 1 {
                    return Err(());
                }
                made.set(made.get() + 1);
                Ok(index)
            };
            let got = if actor.patience == 0 {
                cell.get_or_try_init(make).ok()
            } else {
                let started = coro::Instant::now();
                let got = cell.get_or_init_timeout(ms(actor.patience), || make().unwrap_or(index));
                assert!(started.elapsed() <= ms(actor.patience) + ms(actor.hold));
                got.ok()
            };
            assert!(got.is_none_or(|got| cell.get() == Some(got)));
        });
        prop_assert!(after.2.get() <= 1);
    }

    /// Every receiver sees every value that comes after it, or is told how many it missed, until the end.
    #[test]
    fn broadcast_waiters_miss_nothing_untold((seed, mut actors) in actors(), capacity in 1usize..4) {
        actors[0].cancelled = 0;
        struct Close<'a>(&'a RefCell<Option<broadcast::Sender<u64>>>);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.take();
            }
        }
        let (sender, _) = broadcast::broadcast(capacity);
        let (sender, sent) = (RefCell::new(Some(sender)), Cell::new(0));
        run(seed, actors, move |index, actor| {
            if index == 0 {
                let _close = Close(&sender);
                for burst in 0..4 {
                    for _ in 0..burst + actor.want {
                        let _ = sender.borrow().as_ref().map(|sender| sender.send(sent.get()));
                        sent.set(sent.get() + 1);
                    }
                    coro::sleep(ms(actor.hold));
                }
                return;
            }
            let receiver = sender.borrow().as_ref().map(broadcast::Sender::subscribe);
            let Some(receiver) = receiver else { return };
            let mut expected = sent.get();
            loop {
                let received = match actor.patience {
                    0 => receiver.recv(),
                    patience => receiver.recv_timeout(ms(patience)),
                };
                match received {
                    Ok(value) => {
                        assert_eq!(value, expected);
                        expected += 1;
                    }
                    Err(RecvError::Lagged(missed)) => {
                        expected += missed;
                        assert_eq!(expected, sent.get() - capacity as u64);
                    }
                    Err(RecvError::Closed) => return assert_eq!(expected, sent.get()),
                    Err(RecvError::TimedOut) => return assert_eq!(expected, sent.get()),
                    Err(_) => return,
                }
            }
        });
    }

    /// Every value that `send` accepted is received exactly once, in order; every other one came back.
    #[test]
    fn channel_conserves_values((seed, actors) in actors(), capacity in 0usize..4, slow in 0u64..3) {
        let accepted = Rc::new(RefCell::new(Vec::new()));
        let received = Rc::new(RefCell::new(Vec::new()));
        let (sender, receiver) = coro::channel::bounded(capacity);
        let consumer = Cell::new(Some({
            let received = received.clone();
            move || {
                while let Ok(value) = receiver.recv() {
                    received.borrow_mut().push(value);
                    coro::sleep(ms(slow));
                }
            }
        }));
        let all_accepted = accepted.clone();
        coro::testing::run_seeded(seed, move || {
            let consumer = coro::spawn(consumer.take().unwrap());
            coro::scope(|s| {
                for (index, actor) in actors.iter().enumerate() {
                    let (sender, accepted) = (sender.clone(), &accepted);
                    let handle = s.spawn(move || {
                        coro::sleep(ms(actor.start));
                        for part in 0..actor.want {
                            let sent = if actor.patience == 0 {
                                sender.send((index, part))
                            } else {
                                sender.send_timeout((index, part), ms(actor.patience))
                            };
                            match sent {
                                Ok(()) => accepted.borrow_mut().push((index, part)),
                                Err(error) => assert_eq!(error.into_inner(), (index, part)),
                            }
                        }
                    });
                    if actor.cancelled > 0 {
                        s.spawn(move || {
                            coro::sleep(ms(actor.cancelled - 1));
                            handle.cancel();
                        });
                    }
                }
            });
            drop(sender);
            consumer.join().unwrap();
        });
        let (mut accepted, mut received) = (all_accepted.take(), received.take());
        for pair in received.iter().filter(|(_, part)| *part > 0) {
            let earlier = (pair.0, pair.1 - 1);
            if let Some(place) = received.iter().position(|other| *other == earlier) {
                prop_assert!(place < received.iter().position(|other| other == pair).unwrap());
            }
        }
        accepted.sort_unstable();
        received.sort_unstable();
        prop_assert_eq!(accepted, received);
    }

    /// The non-waiting operations against a `VecDeque`.
    #[test]
    fn channel_is_a_bounded_queue(capacity in 1usize..6, steps in prop::collection::vec(any::<bool>(), 0..60)) {
        let (sender, receiver) = coro::channel::bounded(capacity);
        let mut model = VecDeque::new();
        for (value, push) in steps.into_iter().enumerate() {
            if push {
                let room = model.len() < capacity;
                prop_assert_eq!(sender.try_send(value).is_ok(), room);
                if room {
                    model.push_back(value);
                }
            } else {
                prop_assert_eq!(receiver.try_recv().ok(), model.pop_front());
            }
            prop_assert_eq!(receiver.len(), model.len());
        }
    }

    /// A broadcast receiver sees every number in order, or is told exactly how many it missed.
    #[test]
    fn broadcast_accounts_for_every_value(capacity in 1usize..5, bursts in prop::collection::vec((0u64..8, 0usize..8), 0..30)) {
        let (sender, receiver) = broadcast::broadcast(capacity);
        let (mut sent, mut expected) = (0u64, 0u64);
        for (burst, reads) in bursts {
            for _ in 0..burst {
                sender.send(sent);
                sent += 1;
            }
            for _ in 0..reads {
                match receiver.try_recv() {
                    Ok(value) => {
                        prop_assert_eq!(value, expected);
                        expected += 1;
                    }
                    Err(coro::channel::TryRecvError::Lagged(missed)) => {
                        prop_assert!(missed > 0);
                        expected += missed;
                        prop_assert_eq!(expected, sent - capacity as u64);
                    }
                    Err(error) => {
                        prop_assert_eq!(error, coro::channel::TryRecvError::Empty);
                        prop_assert_eq!(expected, sent);
                    }
                }
            }
        }
    }

    /// `select!` over two channels and a timer loses nothing, whatever the order, and takes each value when it comes: it
    /// ends with the last sender, at the very instant.
    #[test]
    fn select_conserves_values(seed in any::<u64>(), tick in prop_oneof![Just(2u64), Just(1000)], left in prop::collection::vec(0u64..5, 0..10), right in prop::collection::vec(0u64..5, 0..10)) {
        let counts = (left.len(), right.len());
        let last = left.iter().sum::<u64>().max(right.iter().sum());
        let got = coro::testing::run_seeded(seed, move || {
            let started = coro::Instant::now();
            let producer = |delays: Vec<u64>, capacity| {
                let (sender, receiver) = coro::channel::bounded(capacity);
                drop(coro::spawn(move || for (index, delay) in delays.into_iter().enumerate() {
                    coro::sleep(ms(delay));
                    sender.send(index).unwrap();
                }));
                receiver
            };
            let (a, b) = (producer(left, 0), producer(right, 2));
            let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
            let (mut a_open, mut b_open) = (true, true);
            while a_open || b_open {
                let tick = coro::select::after(ms(tick));
                match (a_open, b_open) {
                    (true, true) => coro::select! {
                        value = a.recv() => match value { Ok(value) => from_a.push(value), Err(_) => a_open = false },
                        value = b.recv() => match value { Ok(value) => from_b.push(value), Err(_) => b_open = false },
                        () = tick.wait() => {},
                    },
                    (true, false) => match a.recv() { Ok(value) => from_a.push(value), Err(_) => a_open = false },
                    _ => match b.recv() { Ok(value) => from_b.push(value), Err(_) => b_open = false },
                }
            }
            assert_eq!(started.elapsed(), ms(last));
            (from_a, from_b)
        });
        prop_assert_eq!(got, ((0..counts.0).collect::<Vec<_>>(), (0..counts.1).collect::<Vec<_>>()));
    }
}
