//! A walk over all stacks, in portions: who looks at a hundred thousand coroutines lets the core go on in between.

use super::Slab;
use crate::coroutine::ControlBlock;
use std::ptr::NonNull;

/// How far a [walk](Slab::walk) has come.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    class: usize,
    /// The address of the chunk, which stays where it is; its index does not.
    chunk: usize,
    position: usize,
}

impl Slab {
    /// Goes on with a walk over all control blocks, vacant or not, of stacks that have pages: `portion` stacks further. Whether
    /// there are more. Each is visited once at the most, whatever comes and goes between two portions.
    pub(crate) fn walk(
        &self,
        walk: &mut Walk,
        portion: usize,
        mut visit: impl FnMut(NonNull<ControlBlock>),
    ) -> bool {
        let books = self.books.borrow();
        let mut left = portion;
        while let Some(class) = books.classes.get(walk.class) {
            let index = class
                .chunks
                .partition_point(|chunk| chunk.start() < walk.chunk);
            let Some(chunk) = class.chunks.get(index) else {
                *walk = Walk {
                    class: walk.class + 1,
                    ..Walk::default()
                };
                continue;
            };
            if walk.chunk != chunk.start() {
                (walk.chunk, walk.position) = (chunk.start(), 0);
            }
            let end = usize::from(chunk.slots).min(walk.position.saturating_add(left));
            for position in walk.position..end {
                if chunk.is_busy(position) {
                    visit(chunk.control(position, class.stride));
                }
            }
            left -= end - walk.position;
            if left == 0 {
                walk.position = end;
                return true;
            }
            (walk.chunk, walk.position) = (chunk.start() + 1, 0);
        }
        false
    }
}
