//! The slab against a set: who is handed out is handed out once, and all comes back.

use super::*;
use crate::stack::{COLOUR_BYTES, COLOURS};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Step {
    Take { count: usize },
    GiveBack { count: usize, seed: usize },
    Trim { times: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1usize..700).prop_map(|count| Step::Take { count }),
        (1usize..900, any::<usize>()).prop_map(|(count, seed)| Step::GiveBack { count, seed }),
        (1usize..6).prop_map(|times| Step::Trim { times }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Goal: no stack is handed out twice, none gets lost, and the books of a chunk agree with each other, over batches and
    /// chunks of all sizes. Method: random programs over a slab and a set; in the end all is given back and trimmed, and each chunk
    /// says so.
    #[test]
    fn agrees_with_a_set(steps in prop::collection::vec(step(), 1..25)) {
        let slab = Slab::new(StackConfig {
            stack_bytes: 16 * 1024,
            max_coroutines: 2_000,
            warm_stacks: 3,
            ..StackConfig::default()
        });
        let mut used = Vec::new();
        for step in steps {
            match step {
                Step::Take { count } => for _ in 0..count {
                    match slab.take_warm().map_or_else(|| slab.acquire(None, false).map(|lease| lease.control), Ok) {
                        Ok(control) => used.push(control),
                        Err(_) => prop_assert_eq!(used.len(), 2_000),
                    }
                },
                Step::GiveBack { count, seed } => for n in 0..count.min(used.len()) {
                    let which = seed.wrapping_add(n * 7) % used.len();
                    slab.release(used.swap_remove(which), 0);
                },
                Step::Trim { times } => for _ in 0..times {
                    slab.trim();
                },
            }
            let different: BTreeSet<_> = used.iter().collect();
            prop_assert_eq!((slab.in_use(), different.len()), (used.len(), used.len()));
            check_books(&slab, used.len())?;
        }
        used.into_iter().for_each(|control| slab.release(control, 0));
        slab.books.borrow_mut().config.warm_stacks = 0;
        while slab.trim() {}
        check_books(&slab, 0)?;
        for chunk in slab.books.borrow_mut().classes.iter_mut().flat_map(|class| &mut class.chunks) {
            prop_assert_eq!(chunk.cold, chunk.slots);
            prop_assert!(chunk.busy().iter().all(|bits| *bits == 0));
        }
    }
}

/// Slots are in use, warm or cold; the bits say which are cold, and the list in which chunks these are.
fn check_books(slab: &Slab, in_use: usize) -> Result<(), TestCaseError> {
    prop_assert!(!slab.is_oversized());
    let mut books = slab.books.borrow_mut();
    for (class, pool) in books.classes.iter_mut().zip(&slab.pools) {
        let mut cold = 0;
        for chunk in &mut class.chunks {
            prop_assert!(chunk.slots <= chunk.room);
            let busy: u32 = chunk.busy().iter().map(|bits| bits.count_ones()).sum();
            prop_assert_eq!(u32::from(chunk.slots - chunk.cold), busy);
            let listed = class.cold.iter().filter(|start| **start == chunk.start());
            prop_assert_eq!(listed.count(), usize::from(chunk.cold > 0));
            cold += usize::from(chunk.cold);
        }
        prop_assert_eq!(class.total, cold + pool.warm.len() + in_use);
        prop_assert_eq!(class.cold_slots, cold);
    }
    Ok(())
}

/// Goal: the pages that coroutines touch use all sets of the TLB, for sizes of stack and guard of any number of pages, and what
/// was asked for is there. Method: the distance between all stacks of a chunk, in pages.
#[test]
fn tops_are_an_odd_number_of_pages_apart() {
    const ASKED: [(usize, usize); 4] = [(0, 0), (256, 64), (20, 68), (21, 100)];
    for (stack_kib, guard_kib) in ASKED {
        let slab = Slab::new(StackConfig {
            stack_bytes: stack_kib * 1024,
            guard_bytes: guard_kib * 1024,
            ..StackConfig::default()
        });
        for stack_bytes in [None, Some(1), Some(33 * 1024)] {
            let lease = slab.acquire(stack_bytes, false).expect("there is room");
            slab.release(lease.control, lease.class);
        }
        let books = slab.books.borrow();
        assert!(books.classes[0].stack_bytes >= stack_kib * 1024);
        assert!(books.config.guard_bytes >= guard_kib * 1024);
        for class in &books.classes {
            assert_eq!(class.stride, class.stack_bytes + books.config.guard_bytes);
            assert_eq!(class.stride / books.page_bytes % 2, 1, "{class:?}");
        }
    }
}

/// Goal: the tops of neighbours fall into different sets of the cache: each has a line of its own within the page for half a page.
/// Method: the lines of as many neighbours as there are colours.
#[test]
fn neighbours_have_different_colours() {
    let slab = Slab::new(StackConfig::default());
    let line_of = || {
        let lease = slab.acquire(None, false).expect("there is room");
        let below = slab.slot(lease.control, lease.class).top - lease.control.addr().get();
        (below - size_of::<ControlBlock>()) / COLOUR_BYTES
    };
    let lines: BTreeSet<usize> = (0..COLOURS).map(|_| line_of()).collect();
    assert!(lines.iter().copied().eq(0..COLOURS), "{lines:?}");
}
