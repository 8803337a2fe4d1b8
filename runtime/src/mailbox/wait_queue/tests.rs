//! The flag and the queue under every interleaving (loom), and the queue's order (without loom).

use super::WaitQueue;

#[cfg(not(loom))]
#[test]
fn first_in_first_out_and_a_place_is_kept() {
    let queue = WaitQueue::<&str>::default();
    let mut tickets = [None; 3];
    for (ticket, name) in tickets.iter_mut().zip(["a", "b", "c"]) {
        queue.enter(ticket, || name);
    }
    queue.enter(&mut tickets[0], || panic!("it is in"));
    assert!(queue.leave(tickets[1].unwrap()));
    assert!(!queue.leave(tickets[1].unwrap()), "once");
    assert_eq!(queue.pick(), Some("a"));
    queue.enter(&mut tickets[0], || "a again");
    assert_eq!(queue.pick_all().len(), 2);
    assert_eq!(queue.pick(), None);
    assert!(!queue.is_waited_for());
}

/// Who is picked while its attempt succeeds did not need the wake: the one behind, which has just looked and found nothing, does.
#[cfg(not(loom))]
#[test]
fn a_pick_that_meets_a_success_is_passed_on() {
    use super::waiter::block;
    use std::sync::Arc;
    let another = || block("a test", None, |waiter| Some(Arc::clone(waiter))).unwrap();
    let (queue, mut behind) = (WaitQueue::default(), None);
    let first = queue.wait("room", None, || {
        // From its place in the queue: another comes, and the first is told before it has left.
        queue.is_waited_for().then(|| {
            queue.enter(&mut behind, another);
            assert!(queue.notify_one());
        })
    });
    assert_eq!(first, Ok(()));
    assert!(
        !queue.holds(behind.unwrap()),
        "who waits behind was not told"
    );
}

/// The store-buffer pattern: a waiter that found the condition false is picked by the notifier.
#[cfg(loom)]
#[test]
fn loom_either_the_waiter_sees_the_condition_or_it_is_picked() {
    use crate::mailbox::atomics::{AtomicBool, Ordering};
    use loom::sync::Arc;
    loom::model(|| {
        let shared = Arc::new((AtomicBool::new(false), WaitQueue::<()>::default()));
        let there = Arc::clone(&shared);
        let notifier = loom::thread::spawn(move || {
            let (condition, queue) = &*there;
            condition.store(true, Ordering::Relaxed);
            queue.pick().is_some()
        });
        let (condition, queue) = &*shared;
        let mut ticket = None;
        queue.enter(&mut ticket, || ());
        let seen = condition.load(Ordering::Relaxed);
        let picked = notifier.join().unwrap();
        assert!(seen || picked, "it would sleep for ever");
        assert_eq!(
            queue.leave(ticket.unwrap()),
            !picked,
            "picked or left, not both"
        );
    });
}

/// Two permits, two waiters: nobody is left who could have had one.
#[cfg(loom)]
#[test]
fn loom_two_picks_find_two_waiters() {
    use crate::mailbox::atomics::{AtomicUsize, Ordering};
    use loom::sync::Arc;
    loom::model(|| {
        let shared = Arc::new((AtomicUsize::new(0), WaitQueue::<usize>::default()));
        let waiters = [0, 1].map(|number| {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || {
                let (permits, queue) = &*shared;
                let mut ticket = None;
                queue.enter(&mut ticket, || number);
                permits.load(Ordering::Relaxed) == 0
            })
        });
        let (permits, queue) = &*shared;
        permits.store(2, Ordering::Relaxed);
        let mut picked = [false; 2];
        for _ in 0..2 {
            if let Some(number) = queue.pick() {
                picked[number] = true;
            }
        }
        let parked = waiters.map(|waiter| waiter.join().unwrap());
        for (parked, picked) in parked.into_iter().zip(picked) {
            assert!(!parked || picked, "it would sleep for ever");
        }
    });
}
