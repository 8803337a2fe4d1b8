//! A turn is handed over or free, and never both or neither (loom but for the first).

use super::Turns;
#[cfg(loom)]
use crate::mailbox::atomics::{AtomicBool, Ordering};

/// Of things that several may have at once, one is taken just as another is handed over: one of the two goes back.
#[cfg(not(loom))]
#[test]
fn who_takes_one_and_is_handed_another_keeps_one() {
    use std::cell::Cell;
    use std::time::Duration;
    let (free, calls, turns) = (Cell::new(0), Cell::new(0), Turns::default());
    let (take_it, free_it) = (
        || free.get() > 0 && free.replace(free.get() - 1) > 0,
        || free.set(free.get() + 1),
    );
    let take = || {
        calls.set(calls.get() + 1);
        if calls.get() != 2 {
            return take_it();
        }
        // From its place in the queue: one came back before it was there, and now, while it takes that, another.
        turns.give(free_it, take_it);
        true
    };
    let waited = turns.take("a test", Some(Duration::from_millis(1)), take, free_it);
    assert_eq!(
        (waited, free.get()),
        (Ok(()), 1),
        "two came back, one is taken"
    );
}

/// As the mutex does.
#[cfg(loom)]
fn take(held: &AtomicBool) -> bool {
    !held.load(Ordering::Relaxed) && !held.swap(true, Ordering::Acquire)
}

/// Who has it gives it back while another comes: that one has it then, whichever is first.
#[cfg(loom)]
#[test]
fn loom_who_comes_as_it_is_given_back_gets_it() {
    use loom::sync::Arc;
    loom::model(|| {
        let shared = Arc::new((AtomicBool::new(true), Turns::<()>::default()));
        let there = Arc::clone(&shared);
        let comes = loom::thread::spawn(move || {
            let (held, turns) = &*there;
            let mut ticket = None;
            turns.0.enter(&mut ticket, || ());
            let took = take(held);
            assert!(
                !took || turns.0.leave(ticket.unwrap()),
                "taken and handed over"
            );
            (took, ticket.unwrap())
        });
        let (held, turns) = &*shared;
        let free = || held.store(false, Ordering::Release);
        let handed = turns.hand_over(free, || take(held)).is_some();
        let (took, ticket) = comes.join().unwrap();
        assert_ne!(took, handed, "one way, and not both");
        assert!(!turns.0.holds(ticket), "it would wait for ever");
        assert!(held.load(Ordering::Relaxed), "it is theirs");
    });
}

/// As above, but the other gives up at once: in the end it is free.
#[cfg(loom)]
#[test]
fn loom_who_gives_up_hands_it_on() {
    use loom::sync::Arc;
    loom::model(|| {
        let shared = Arc::new((AtomicBool::new(true), Turns::<()>::default()));
        let give = |(held, turns): &(AtomicBool, Turns<()>)| {
            let free = || held.store(false, Ordering::Release);
            turns.hand_over(free, || take(held)).is_some()
        };
        let there = Arc::clone(&shared);
        let comes = loom::thread::spawn(move || {
            let mut ticket = None;
            there.1.0.enter(&mut ticket, || ());
            if !there.1.0.leave(ticket.unwrap()) {
                assert!(!give(&there), "there is nobody else");
            }
        });
        give(&shared);
        comes.join().unwrap();
        assert!(!shared.0.load(Ordering::Relaxed), "nobody has it");
    });
}

/// Who looks once more, woken for nothing, while it is handed over: it is theirs by this look or by the next.
#[cfg(loom)]
#[test]
fn loom_who_looks_again_as_it_is_handed_over_gets_it() {
    use loom::sync::Arc;
    loom::model(|| {
        let shared = Arc::new((AtomicBool::new(true), Turns::<()>::default()));
        let there = Arc::clone(&shared);
        let comes = loom::thread::spawn(move || {
            let (held, turns) = &*there;
            let free = || held.store(false, Ordering::Release);
            let mut ticket = None;
            let mut look = || {
                turns
                    .look(&mut ticket, || (), free, || take(held))
                    .is_some()
            };
            let is_theirs = look() || look();
            (is_theirs, ticket)
        });
        let (held, turns) = &*shared;
        let free = || held.store(false, Ordering::Release);
        let handed = turns.hand_over(free, || take(held)).is_some();
        let (is_theirs, ticket) = comes.join().unwrap();
        // Whoever has no turn yet is in the queue still, and it is free for no other, or finds it handed over.
        let waits = !is_theirs && turns.0.holds(ticket.unwrap());
        assert!(!waits, "handed over: {handed}, and it would wait for ever");
        assert!(held.load(Ordering::Relaxed), "it is theirs");
    });
}
