//! A turn is handed over or free, and never both or neither (loom).

use super::Turns;
use crate::mailbox::atomics::{AtomicBool, Ordering};

/// As the mutex does.
fn take(held: &AtomicBool) -> bool {
    !held.load(Ordering::Relaxed) && !held.swap(true, Ordering::Acquire)
}

/// Who has it gives it back while another comes: that one has it then, whichever is first.
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
