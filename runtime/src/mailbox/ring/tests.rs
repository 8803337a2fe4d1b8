//! The ring against a queue as its model (proptest), between two threads, and under every interleaving (loom).
#![expect(
    unsafe_code,
    reason = "the tests keep the promise of one producer and one consumer"
)]

use super::Ring;

#[cfg(not(loom))]
mod threads {
    use super::Ring;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::sync::Arc;

    proptest! {
        /// Pushes and pops in any order do what a bounded queue does; the drop frees what is left.
        #[test]
        fn it_is_a_bounded_queue(capacity in 1usize..9, moves in prop::collection::vec(any::<bool>(), 0..200)) {
            let ring = Ring::new(capacity);
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
            capacity in prop_oneof![1usize..9, 100usize..200],
            moves in prop::collection::vec((any::<bool>(), 0usize..40), 0..200),
        ) {
            let ring = Ring::new(capacity);
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
                    let popped = unsafe { ring.pop_many(count, &mut messages) };
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

/// Three messages through a ring of one block of two slots, and of two such blocks: no slot is touched by both sides at once
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
            unsafe { ring.pop_many(2, &mut seen) };
        }
        let pushed = producer.join().unwrap();
        // SAFETY: the only consumer.
        while unsafe { ring.pop_many(2, &mut seen) } > 0 {}
        assert!(pushed >= 2);
        assert_eq!(seen, (0..pushed).collect::<Vec<_>>());
    });
}
