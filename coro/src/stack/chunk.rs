//! A chunk: one mapping of up to [`CHUNK_SLOTS`] slots, reserved but not committed (`MAP_NORESERVE`), and the books about them.
//!
//! ```text
//!   | 1001 0000 ..  | guard, stack | guard, stack | guard, stack | ..
//!     a page of bits: zero is a slot that is free and has no pages
//! ```
//!
//! So what a crowd leaves behind is not memory: when all slots of a chunk have been trimmed, its first page goes as well, and
//! reads as what it said. The table of a million stacks is 250 chunks of 32 bytes.
//!
//! Invariants: `cold` slots are free and without pages, their bits are zero, and so are those of slots that are not in use yet;
//! no word before `cold_from` has one of them.
#![expect(unsafe_code, reason = "pointer arithmetic inside our own mapping")]

use super::advise::{give_back, range};
use super::{COLOUR_BYTES, COLOURS};
use crate::coroutine::ControlBlock;
use memmap2::{MmapOptions, MmapRaw};
use std::io;
use std::ptr::NonNull;

/// Slots of the largest chunk: 4,096 x 320 KiB is 1.25 GiB of addresses. Smaller ones double what there is.
pub(super) const CHUNK_SLOTS: usize = 4096;
/// The smallest page there is.
const HEAD_BYTES: usize = 4096;

/// One mapping.
#[derive(Debug)]
pub(super) struct Chunk {
    /// A page of bits, one for each slot that is in use or has pages, and the slots. Raw: coroutines live in it, so there is never
    /// a reference to the whole.
    memory: MmapRaw,
    /// Number of its first slot in the class: of its colour.
    first: u32,
    /// How many slots there is room for.
    pub(super) room: u16,
    /// How many slots have a guard, from the front.
    pub(super) slots: u16,
    /// How many slots are free and have no pages.
    pub(super) cold: u16,
    /// No word of bits before this one has a cold slot.
    cold_from: u16,
}

const _: () = assert!(
    CHUNK_SLOTS / 8 <= HEAD_BYTES,
    "the bits of a chunk fit into a page"
);
const _: () = assert!(
    size_of::<Chunk>() <= 32,
    "the table of a million stacks is small"
);

impl Chunk {
    /// A chunk without slots, with room for the first of `rooms`, or for the second where there are not so many addresses.
    pub(super) fn map(
        rooms: (usize, usize),
        stride: usize,
        first: usize,
        page_bytes: usize,
    ) -> io::Result<Self> {
        let map = |room: usize| {
            let bytes = page_bytes + room * stride;
            let mapped = MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
            mapped.map(|memory| (MmapRaw::from(memory), room))
        };
        let (memory, room) = map(rooms.0).or_else(|_| map(rooms.1))?;
        avoid_huge_pages(memory.as_mut_ptr(), memory.len());
        Ok(Self {
            memory,
            first: u32::try_from(first).expect("fewer stacks than 2^32 fit into the address space"),
            room: u16::try_from(room).expect("a chunk is not that large"),
            slots: 0,
            cold: 0,
            cold_from: 0,
        })
    }

    pub(super) fn start(&self) -> usize {
        self.memory.as_ptr().addr()
    }

    /// Where a slot begins: with its guard.
    pub(super) fn low(&self, position: usize, stride: usize) -> usize {
        // The page of bits is all that is not slots.
        let head_bytes = self.memory.len() - usize::from(self.room) * stride;
        self.start() + head_bytes + position * stride
    }

    /// The bits of the slots.
    pub(super) fn busy(&mut self) -> &mut [u64] {
        let words = self.memory.as_mut_ptr().cast::<u64>();
        // SAFETY: the first page of the mapping, which nothing else uses, aligned and zeroed by the kernel; borrowed as the
        // chunk is.
        unsafe { std::slice::from_raw_parts_mut(words, CHUNK_SLOTS / 64) }
    }

    /// Whether a slot is in use or has pages.
    pub(super) fn is_busy(&self, position: usize) -> bool {
        assert!(position < CHUNK_SLOTS, "the chunk has this slot");
        let words = self.memory.as_ptr().cast::<u64>();
        // SAFETY: it lies in the first page of the mapping.
        let word = unsafe { words.add(position / 64) };
        // SAFETY: as above; aligned, zeroed by the kernel, and changed only by who borrows the chunk for that.
        let word = unsafe { word.read() };
        word & 1 << (position % 64) != 0
    }

    pub(super) fn set_busy(&mut self, position: usize) {
        self.busy()[position / 64] |= 1 << (position % 64);
    }

    /// Takes the first slot that is free and has no pages. There is one.
    pub(super) fn take_cold(&mut self) -> usize {
        let from = usize::from(self.cold_from);
        let ahead = self.busy()[from..]
            .iter()
            .position(|bits| *bits != u64::MAX);
        let word = from + ahead.expect("the chunk has a cold stack");
        let position = 64 * word + self.busy()[word].trailing_ones() as usize;
        self.cold_from = u16::try_from(word).expect("there are fewer words than slots");
        self.cold -= 1;
        self.set_busy(position);
        position
    }

    /// A free slot has lost its pages.
    pub(super) fn put_cold(&mut self, position: usize) {
        self.busy()[position / 64] &= !(1 << (position % 64));
        self.cold_from = self
            .cold_from
            .min(u16::try_from(position / 64).expect("as above"));
        self.cold += 1;
        if self.cold == self.slots {
            // All bits are zero, as they will be when they are read again.
            give_back(&[range(self.start(), HEAD_BYTES)]);
        }
    }

    /// Where the control block of a slot goes: just below the colour, in the topmost page.
    pub(super) fn control(&self, position: usize, stride: usize) -> NonNull<ControlBlock> {
        assert!(
            position < usize::from(self.slots),
            "the chunk has this slot"
        );
        let colour = ((self.first as usize + position) % COLOURS) * COLOUR_BYTES;
        let below = colour + size_of::<ControlBlock>();
        let end = self.low(position + 1, stride) - self.start();
        let offset = (end - below) & !(align_of::<ControlBlock>() - 1);
        // SAFETY: position < slots, so the offset lies inside the mapping.
        let control = unsafe { self.memory.as_mut_ptr().add(offset) };
        NonNull::new(control.cast()).expect("a mapping is never at address zero")
    }
}

/// A huge page under a stack top would commit 2 MiB for the one page that is used.
fn avoid_huge_pages(start: *mut u8, bytes: usize) {
    // SAFETY: the range is our own fresh mapping. Kernels without huge pages refuse, which is as good.
    let _ = unsafe { libc::madvise(start.cast(), bytes, libc::MADV_NOHUGEPAGE) };
}
