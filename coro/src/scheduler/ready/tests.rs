//! The ready queue against a `VecDeque`.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

fn control(number: usize) -> NonNull<ControlBlock> {
    // Never dereferenced: the queue only moves pointers.
    NonNull::new(std::ptr::without_provenance_mut((number + 1) * 64)).expect("above zero")
}

proptest! {
    /// Goal: first in, first out, through growth and wrap-around. Method: random pushes and pops, with the capacity
    /// kept at the number of live coroutines, as spawn does.
    #[test]
    fn agrees_with_a_queue(steps in prop::collection::vec(0u8..4, 0..600)) {
        let (queue, mut model) = (ReadyQueue::new(), VecDeque::new());
        for (number, step) in steps.into_iter().enumerate() {
            if step == 0 {
                prop_assert_eq!(queue.pop(), model.pop_front());
            } else {
                queue.reserve(model.len() + 1);
                queue.push(control(number));
                model.push_back(control(number));
            }
            prop_assert_eq!(queue.len(), model.len());
        }
    }

    /// Goal: a shuffle loses and doubles nobody, wherever the ring begins, and is the same for the same seed.
    #[test]
    fn a_shuffle_is_a_permutation(skip in 0usize..200, count in 0usize..60, seed in 1u64..) {
        let shuffled = || {
            let queue = ReadyQueue::new();
            for number in 0..skip {
                queue.push(control(number));
                queue.pop();
            }
            (0..count).for_each(|number| queue.push(control(number)));
            assert_eq!(queue.shuffle(&Cell::new(seed)), count);
            std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>()
        };
        let mut order = shuffled();
        prop_assert_eq!(&order, &shuffled());
        order.sort_unstable();
        prop_assert_eq!(order, (0..count).map(control).collect::<Vec<_>>());
    }
}
