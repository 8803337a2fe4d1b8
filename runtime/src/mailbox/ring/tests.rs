//! The ring against a queue as its model (proptest), between two threads, and under every interleaving (loom).
#![expect(
    unsafe_code,
    reason = "the tests keep the promise of one producer and one consumer"
)]

use super::{Filled, Ring};

#[cfg(not(loom))]
mod threads {
    use super::{Filled, Ring};
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::Arc;

    /// A ring in which so many messages have been already, which may be nearly all that can be counted.
    fn ring_after<T>(passed: usize, capacity: usize) -> Ring<T> {
        let mut ring = Ring::new(capacity);
        for side in [&ring.producer.0.0, &ring.consumer.0] {
            side.own.set(passed);
            side.limit.set(passed);
            side.lap.set(passed);
            side.known.set(side.known.get().wrapping_add(passed));
        }
        *ring.tail.0.get_mut() = passed;
        *ring.head.0.get_mut() = passed;
        ring
    }

    fn passed() -> impl Strategy<Value = usize> {
        prop_oneof![Just(0), (0usize..400).prop_map(|left| usize::MAX - left)]
    }

    proptest! {
        /// Pushes and pops in any order do what a bounded queue does; the drop frees what is left.
        #[test]
        fn it_is_a_bounded_queue(
            passed in passed(),
            capacity in 1usize..9,
            moves in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let ring = ring_after(passed, capacity);
            let mut model = VecDeque::new();
            let counted = Arc::new(());
            for (number, push) in moves.into_iter().enumerate() {
                if push {
                    // SAFETY: one thread.
                    let pushed = unsafe { ring.push((number, Arc::clone(&counted))) }.is_ok();
                    prop_assert_eq!(pushed, model.len() < capacity);
                    if pushed {
                        model.push_back(number);
                    }
                } else {
                    // SAFETY: one thread.
                    let popped = unsafe { ring.pop() }.map(|(number, _)| number);
                    prop_assert_eq!(popped, model.pop_front());
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert_eq!(Arc::strong_count(&counted), 1 + model.len());
            }
            drop(ring);
            prop_assert_eq!(Arc::strong_count(&counted), 1);
        }
    }

    proptest! {
        /// The calls that move many do what as many single ones would, in any mix with those.
        #[test]
        fn batches_are_as_many_single_moves(
            passed in passed(),
            capacity in prop_oneof![1usize..9, 100usize..200],
            moves in prop::collection::vec((any::<bool>(), 0usize..40), 0..200),
        ) {
            let ring = ring_after(passed, capacity);
            let mut model = VecDeque::new();
            let counted = Arc::new(());
            for (number, (push, count)) in moves.into_iter().enumerate() {
                if push {
                    let message = |of| ((number, of), Arc::clone(&counted));
                    let mut messages: Vec<_> = (0..count).map(message).collect();
                    // SAFETY: one thread.
                    let pushed = unsafe { ring.push_many(&mut messages) };
                    prop_assert_eq!(pushed, count.min(capacity - model.len()));
                    prop_assert_eq!(messages.len(), count - pushed);
                    prop_assert!(messages.first().is_none_or(|left| left.0 == (number, pushed)));
                    model.extend((0..pushed).map(|of| (number, of)));
                } else {
                    let mut messages = Vec::new();
                    // SAFETY: one thread.
                    let popped = unsafe { ring.pop_each(count, |message| messages.push(message)) };
                    // What lies there and was not looked for may be left for the next call, but not all of it.
                    prop_assert_eq!(popped == 0, count.min(model.len()) == 0);
                    let expected: Vec<_> = model.drain(..popped).collect();
                    let names: Vec<_> = messages.into_iter().map(|message| message.0).collect();
                    prop_assert_eq!(names, expected);
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert_eq!(Arc::strong_count(&counted), 1 + model.len());
            }
        }
    }

    type Counted = ((usize, usize), Arc<()>);

    /// Fills in what an iterator gives, as a sender does. At `odd` the iterator puts some in itself, or panics. The model has
    /// what it has given.
    fn fill(
        ring: &Ring<Counted>,
        model: &RefCell<VecDeque<(usize, usize)>>,
        (number, count, odd, panics): (usize, usize, usize, bool),
        counted: &Arc<()>,
    ) {
        let mut messages = (0..count).map(|of| {
            if of == odd && panics {
                resume_unwind(Box::new(()));
            }
            for _ in 0..if of == odd { 1 + number % 3 } else { 0 } {
                let between = ((number, usize::MAX), Arc::clone(counted));
                // SAFETY: one thread.
                if unsafe { ring.push(between) }.is_ok() {
                    model.borrow_mut().push_back((number, usize::MAX));
                }
            }
            model.borrow_mut().push_back((number, of));
            ((number, of), Arc::clone(counted))
        });
        loop {
            // SAFETY: one thread.
            let filled = catch_unwind(AssertUnwindSafe(|| unsafe { ring.fill(&mut messages) }));
            // SAFETY: as above.
            unsafe { ring.show_group() };
            match filled {
                Ok(Filled::Full) => {}
                Ok(Filled::Interrupted(message)) => {
                    // SAFETY: as above.
                    if unsafe { ring.push(message) }.is_err() {
                        model.borrow_mut().pop_back();
                        return;
                    }
                }
                Ok(Filled::Over | Filled::NoRoom) | Err(_) => return,
            }
        }
    }

    proptest! {
        /// Groups that are filled by an iterator, and messages that are given to a closure, are as many single moves, whatever that
        /// code does: it puts one in itself, or panics. What it was given or has given before that is moved, and nothing else.
        #[test]
        fn groups_are_as_many_single_moves(
            passed in passed(),
            capacity in prop_oneof![1usize..9, 60usize..200],
            moves in prop::collection::vec((0usize..3, 0usize..150, 0usize..80, any::<bool>()), 0..60),
        ) {
            let ring = ring_after(passed, capacity);
            let model = RefCell::new(VecDeque::new());
            let counted = Arc::new(());
            for (number, (way, count, odd, panics)) in moves.into_iter().enumerate() {
                match way {
                    0 => fill(&ring, &model, (number, count, odd, panics), &counted),
                    1 => {
                        let mut names = Vec::new();
                        let each = |message: Counted| {
                            names.push(message.0);
                            if panics && names.len() == odd {
                                resume_unwind(Box::new(()));
                            }
                        };
                        // SAFETY: one thread.
                        let popped = catch_unwind(AssertUnwindSafe(|| unsafe { ring.pop_each(count, each) }));
                        let lain = model.borrow().len();
                        let expected = match popped {
                            Ok(popped) => {
                                prop_assert_eq!(popped, count.min(lain));
                                popped
                            }
                            Err(_) => odd,
                        };
                        let expected: Vec<_> = model.borrow_mut().drain(..expected).collect();
                        prop_assert_eq!(names, expected);
                    }
                    _ => {
                        // SAFETY: one thread.
                        let popped = unsafe { ring.pop() }.map(|message| message.0);
                        prop_assert_eq!(popped, model.borrow_mut().pop_front());
                    }
                }
                prop_assert_eq!(ring.len(), model.borrow().len());
                prop_assert_eq!(Arc::strong_count(&counted), 1 + model.borrow().len());
            }
            drop(ring);
            prop_assert_eq!(Arc::strong_count(&counted), 1);
        }
    }

    /// Every message of a million arrives once and in order, through a ring of three.
    #[test]
    fn in_order_between_two_threads() {
        let messages = 1_000_000usize;
        let ring = Ring::new(3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..messages {
                    let mut message = Box::new(number);
                    // SAFETY: the only producer.
                    while let Err(back) = unsafe { ring.push(message) } {
                        message = back;
                        std::thread::yield_now();
                    }
                }
            });
            let mut expected = 0;
            while expected < messages {
                // SAFETY: the only consumer.
                match unsafe { ring.pop() } {
                    Some(number) => {
                        assert_eq!(*number, expected);
                        expected += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
        assert_eq!(ring.len(), 0);
    }
}

/// Three messages through a ring of two slots, and of three, which is more than a stretch: no slot is touched by both sides at once
/// (loom watches the cells), order holds, nothing comes twice.
#[cfg(loom)]
#[test]
fn loom_each_message_once_and_in_order() {
    [2, 3].into_iter().for_each(each_message_once_and_in_order);
}

#[cfg(loom)]
fn each_message_once_and_in_order(capacity: usize) {
    loom::model(move || {
        let ring = loom::sync::Arc::new(Ring::new(capacity));
        let there = loom::sync::Arc::clone(&ring);
        let producer = loom::thread::spawn(move || {
            // SAFETY: the only producer.
            (0..3)
                .take_while(|number| unsafe { there.push(*number) }.is_ok())
                .count()
        });
        let mut seen = Vec::new();
        for _ in 0..2 {
            // SAFETY: the only consumer.
            seen.extend(unsafe { ring.pop() });
        }
        let pushed = producer.join().unwrap();
        // SAFETY: the only consumer.
        while let Some(number) = unsafe { ring.pop() } {
            seen.push(number);
        }
        assert!(pushed >= 2);
        assert_eq!(seen, (0..pushed).collect::<Vec<_>>());
    });
}

/// The same with the calls that move many, against single ones on the other side.
#[cfg(loom)]
#[test]
fn loom_batches_once_and_in_order() {
    [2, 3].into_iter().for_each(batches_once_and_in_order);
}

#[cfg(loom)]
fn batches_once_and_in_order(capacity: usize) {
    loom::model(move || {
        let ring = loom::sync::Arc::new(Ring::new(capacity));
        let there = loom::sync::Arc::clone(&ring);
        let producer = loom::thread::spawn(move || {
            let mut messages = vec![0, 1, 2];
            // SAFETY: the only producer.
            let first = unsafe { there.push_many(&mut messages) };
            // SAFETY: as above.
            first + unsafe { there.push_many(&mut messages) }
        });
        let mut seen = Vec::new();
        for _ in 0..2 {
            // SAFETY: the only consumer.
            unsafe { ring.pop_each(2, |number| seen.push(number)) };
        }
        let pushed = producer.join().unwrap();
        // SAFETY: the only consumer.
        while unsafe { ring.pop_each(2, |number| seen.push(number)) } > 0 {}
        assert!(pushed >= 2);
        assert_eq!(seen, (0..pushed).collect::<Vec<_>>());
    });
}

/// A group of three, into rings of two and three, against single calls and those that take many: what is seen of it is whole.
#[cfg(loom)]
#[test]
fn loom_groups_once_and_in_order() {
    for capacity in [2, 3] {
        for singly in [false, true] {
            groups_once_and_in_order(capacity, singly);
        }
    }
}

#[cfg(loom)]
fn groups_once_and_in_order(capacity: usize, singly: bool) {
    loom::model(move || {
        let ring = loom::sync::Arc::new(Ring::new(capacity));
        let there = loom::sync::Arc::clone(&ring);
        let producer = loom::thread::spawn(move || {
            let mut messages = 0..4;
            for _ in 0..2 {
                // SAFETY: the only producer.
                let filled = unsafe { there.fill(&mut messages) };
                // SAFETY: as above.
                unsafe { there.show_group() };
                assert!(!matches!(filled, Filled::Interrupted(_)));
            }
            messages.start
        });
        let mut seen = Vec::new();
        for _ in 0..2 {
            if singly {
                // SAFETY: the only consumer.
                seen.extend(unsafe { ring.pop() });
            } else {
                // SAFETY: the only consumer.
                unsafe { ring.pop_each(2, |number| seen.push(number)) };
            }
        }
        let given = producer.join().unwrap();
        // SAFETY: the only consumer.
        while unsafe { ring.pop_each(2, |number| seen.push(number)) } > 0 {}
        assert!(given >= 2);
        assert_eq!(seen, (0..given).collect::<Vec<_>>());
    });
}
