//! A size class: the chunks that have its stacks, and which of these are free and without pages.

use crate::coroutine::ControlBlock;
use crate::stack::chunk::Chunk;
use std::ptr::NonNull;

#[derive(Debug)]
pub(super) struct Class {
    pub(super) stack_bytes: usize,
    /// From the start of a slot to that of the next.
    pub(super) stride: usize,
    /// By address.
    pub(super) chunks: Vec<Chunk>,
    /// Addresses of the chunks that have free stacks without pages.
    pub(super) cold: Vec<usize>,
    /// How many of these there are.
    pub(super) cold_slots: usize,
    pub(super) total: usize,
}

impl Class {
    pub(super) fn new(stack_bytes: usize, guard_bytes: usize) -> Self {
        Self {
            stack_bytes,
            stride: stack_bytes + guard_bytes,
            chunks: Vec::new(),
            cold: Vec::new(),
            cold_slots: 0,
            total: 0,
        }
    }

    /// Takes out the chunk whose slots are not all in use yet, if there is one.
    pub(super) fn take_unfinished(&mut self) -> Option<Chunk> {
        let index = self
            .chunks
            .iter()
            .position(|chunk| chunk.slots < chunk.room)?;
        Some(self.chunks.remove(index))
    }

    pub(super) fn put_chunk(&mut self, chunk: Chunk) {
        let place = self.chunk_after(chunk.start());
        self.chunks.insert(place, chunk);
    }

    /// Index of the first chunk above this address.
    fn chunk_after(&self, address: usize) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.start() <= address)
    }

    /// A free stack without pages. There is one.
    pub(super) fn take_cold(&mut self) -> NonNull<ControlBlock> {
        let start = *self.cold.last().expect("there is a cold stack");
        let index = self.chunk_after(start) - 1;
        let chunk = &mut self.chunks[index];
        let position = chunk.take_cold();
        self.cold_slots -= 1;
        if chunk.cold == 0 {
            self.cold.pop();
        }
        chunk.control(position, self.stride)
    }

    /// A free stack has lost its pages.
    pub(super) fn put_cold(&mut self, control: NonNull<ControlBlock>) {
        let index = self.chunk_after(control.addr().get()) - 1;
        let chunk = &mut self.chunks[index];
        if chunk.cold == 0 {
            self.cold.push(chunk.start());
        }
        let below = control.addr().get() - chunk.low(0, self.stride);
        chunk.put_cold(below / self.stride);
        self.cold_slots += 1;
    }
}
