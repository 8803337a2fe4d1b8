//! Calls, cancellation across cores, futures: what is asked of another core or thread comes back, once.

use coring::coro::{self, block_on};
use coring::{RemoteError, call, call_all, map_reduce, spawn_on};
use coring_tests::{check, rounds, runtime};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

#[test]
fn values_and_panics_arrive() {
    // Goal: a call returns the value; its panic goes on in the caller; all cores are asked in order.
    // Method: values that depend on the core; payloads that are compared.
    check(|| {
        runtime(3).run(|| {
            for core in 0..3 {
                assert_eq!(call(core, coring::current_core).unwrap(), Some(core));
                let boom = || {
                    call(core, move || -> () {
                        std::panic::resume_unwind(Box::new(core))
                    })
                };
                let payload = catch_unwind(AssertUnwindSafe(boom)).unwrap_err();
                assert_eq!(payload.downcast_ref(), Some(&core));
            }
            assert_eq!(call_all(|core| core * 10).unwrap(), [0, 10, 20]);
            assert_eq!(
                map_reduce(|core| core, 100, |sum, core| sum + core).unwrap(),
                103
            );
        });
    });
}

#[test]
fn cancellation_crosses_cores() {
    // Goal: a remote coroutine is cancelled through its handle whatever it does: not yet started, waiting, ended; and a
    // caller that is cancelled cancels what it called.
    // Method: cancels at every distance from the start; the outcome is one of the two, and nothing runs on.
    check(|| {
        let running = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&running);
        runtime(2).run(move || {
            let mut outcomes = [0; 2];
            for round in 0..rounds(1000, 50_000) {
                let live = Arc::clone(&count);
                let handle = spawn_on(1, move || {
                    live.fetch_add(1, Ordering::Relaxed);
                    let _down = Down(live);
                    coro::sleep(if round % 2 == 0 {
                        Duration::MAX
                    } else {
                        Duration::ZERO
                    });
                });
                (0..round % 30).for_each(|_| coro::yield_now());
                handle.cancel();
                handle.cancel();
                match handle.join() {
                    Ok(()) => outcomes[0] += 1,
                    Err(RemoteError::Cancelled) => outcomes[1] += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(outcomes[1] > 0, "{outcomes:?}");
            let live = Arc::clone(&count);
            let caller = coro::spawn(move || {
                call(1, move || {
                    live.fetch_add(1, Ordering::Relaxed);
                    let _down = Down(live);
                    coro::sleep(Duration::MAX);
                })
            });
            coring_tests::until("it runs there", || count.load(Ordering::Relaxed) == 1);
            caller.cancel();
            let error = caller.join().unwrap().unwrap_err();
            assert!(matches!(error, RemoteError::Refused(_)), "{error}");
            coring_tests::until("it was cancelled there", || {
                count.load(Ordering::Relaxed) == 0
            });
        });
        assert_eq!(running.load(Ordering::Relaxed), 0);
    });
}

struct Down(Arc<AtomicUsize>);

impl Drop for Down {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A future that is done when its flag is up; who raises it wakes the waker.
#[derive(Clone, Default)]
struct Flag(Arc<(AtomicBool, Mutex<Option<Waker>>)>);

impl Flag {
    fn raise(&self) {
        self.0.0.store(true, Ordering::Release);
        if let Some(waker) = self.0.1.lock().unwrap().take() {
            waker.wake();
        }
    }

    async fn raised(self) {
        poll_fn(|context| {
            *self.0.1.lock().unwrap() = Some(context.waker().clone());
            match self.0.0.load(Ordering::Acquire) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

#[test]
fn futures_are_woken_from_everywhere() {
    // Goal: no wake is lost: from the same core, another core, a foreign thread, within poll itself.
    // Method: thousands of futures, each raised from somewhere while its coroutine falls asleep.
    check(|| {
        runtime(2).run(|| {
            assert_eq!(block_on(async { 7 }).unwrap(), 7);
            let (send, receive) = std::sync::mpsc::channel::<Flag>();
            let raiser = thread::spawn(move || receive.iter().for_each(|flag| flag.raise()));
            for round in 0..rounds(3000, 200_000) {
                let flag = Flag::default();
                let there = flag.clone();
                match round % 3 {
                    0 => drop(coro::spawn(move || there.raise())),
                    1 => drop(spawn_on(1, move || there.raise())),
                    _ => send.send(there).unwrap(),
                }
                block_on(flag.raised()).unwrap();
            }
            drop(send);
            coring_tests::until("the thread is through", || raiser.is_finished());
            let mut polls = 0;
            let busy = poll_fn(|context| {
                polls += 1;
                context.waker().wake_by_ref();
                if polls == 100 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            block_on(busy).unwrap();
        });
    });
}

/// A future whose first poll waits for another future, and which is woken meanwhile.
fn woken_within(run_elsewhere: impl FnOnce(Box<dyn FnOnce(fn()) + Send>)) {
    #[derive(Default)]
    struct Inner {
        polls: AtomicUsize,
        is_over: AtomicUsize,
        waker: Mutex<Option<Waker>>,
    }
    let inner = Arc::new(Inner::default());
    let mut elsewhere = Some(run_elsewhere);
    let mut polls = 0;
    block_on(poll_fn(|context| {
        polls += 1;
        if polls == 2 {
            return Poll::Ready(());
        }
        let (outer, there) = (context.waker().clone(), Arc::clone(&inner));
        elsewhere.take().unwrap()(Box::new(move |pause| {
            while there.polls.load(Ordering::Acquire) == 0 {
                pause();
            }
            outer.wake();
            // It was woken, looked, and waits again.
            while there.polls.load(Ordering::Acquire) == 1 {
                pause();
            }
            there.is_over.store(1, Ordering::Release);
            there.waker.lock().unwrap().take().unwrap().wake();
        }));
        let inner = Arc::clone(&inner);
        let within = poll_fn(move |context| {
            *inner.waker.lock().unwrap() = Some(context.waker().clone());
            inner.polls.fetch_add(1, Ordering::Release);
            match inner.is_over.load(Ordering::Acquire) {
                0 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        });
        block_on(within).unwrap();
        Poll::Pending
    }))
    .unwrap();
    assert_eq!(polls, 2);
}

#[test]
fn a_wake_that_comes_while_a_poll_waits_is_kept() {
    // Goal: a poll may be any code, and wait; who wakes the future meanwhile has it polled again.
    // Method: the poll drives another future, which sees the wake of the outer one as one for nothing; from the same core, another one and a thread; on a
    // thread, too.
    check(|| {
        runtime(2).run(|| {
            woken_within(|work| drop(coro::spawn(move || work(coro::yield_now))));
            woken_within(|work| drop(spawn_on(1, move || work(coro::yield_now))));
            woken_within(|work| drop(thread::spawn(move || work(thread::yield_now))));
        });
        woken_within(|work| drop(thread::spawn(move || work(thread::yield_now))));
    });
}

#[test]
fn a_future_that_wakes_itself_lets_others_run() {
    // Goal: a future that only gives way, as some do, is no reason for others not to run: coroutines, timers, the cancelling.
    // Method: such futures beside a coroutine that counts; under a time limit; and cancelled.
    check(|| {
        runtime(1).run(|| {
            let forever = || {
                poll_fn(|context: &mut std::task::Context<'_>| {
                    context.waker().wake_by_ref();
                    Poll::<()>::Pending
                })
            };
            let driver = coro::spawn(move || block_on(forever()));
            for _ in 0..1000 {
                coro::yield_now();
            }
            driver.cancel();
            assert!(driver.join().unwrap().is_err());
            let late = coro::timeout(std::time::Duration::from_millis(2), || block_on(forever()));
            assert!(late.is_err());
        });
    });
}

#[test]
fn a_waker_is_harmless_at_any_time() {
    // Goal: a waker may be woken after its future is done, while the runtime ends, and after; from any thread.
    // Method: wakers are smuggled out and woken by a thread all the while.
    check(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let wakers = Arc::new(Mutex::new(Vec::<Waker>::new()));
        let thread = {
            let (stop, wakers) = (Arc::clone(&stop), Arc::clone(&wakers));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    wakers.lock().unwrap().iter().for_each(Waker::wake_by_ref);
                    thread::yield_now();
                }
                wakers.lock().unwrap().drain(..).for_each(Waker::wake);
            })
        };
        for _ in 0..rounds(20, 500) {
            let wakers = Arc::clone(&wakers);
            runtime(2).run(move || {
                call_all(move |_| {
                    for _ in 0..5 {
                        let wakers = Arc::clone(&wakers);
                        let mut polls = 0;
                        block_on(poll_fn(move |context| {
                            wakers.lock().unwrap().push(context.waker().clone());
                            polls += 1;
                            if polls > 2 {
                                Poll::Ready(())
                            } else {
                                Poll::Pending
                            }
                        }))
                        .unwrap();
                    }
                    // Is pending when the runtime ends.
                    coro::spawn(|| block_on(pending::<()>()).unwrap_err());
                })
                .unwrap();
            });
        }
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
        let last = wakers.lock().unwrap().len();
        assert_eq!(last, 0);
    });
}

#[test]
fn a_cancelled_future_is_dropped() {
    // Goal: cancelling who drives a future ends the wait with an error and drops the future.
    // Method: a future that counts its drop.
    check(|| {
        runtime(1).run(|| {
            let count = Arc::new(AtomicUsize::new(1));
            let down = Down(Arc::clone(&count));
            let driver = coro::spawn(move || {
                block_on(async move {
                    let _down = down;
                    pending::<()>().await;
                })
            });
            coro::yield_now();
            driver.cancel();
            assert!(driver.join().unwrap().is_err());
            assert_eq!(count.load(Ordering::Relaxed), 0);
        });
    });
}
