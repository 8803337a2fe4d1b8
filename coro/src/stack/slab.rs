//! The slab: stacks by size class, in chunks, reused last-in-first-out.
//!
//! A chunk is one mapping (chunk.rs). Its slots come into use in batches, with guards installed once; they survive reuse and
//! trimming. Chunks are never unmapped before the slab is dropped.
//!
//! The free stacks that have pages are on a stack themselves, whose cold end is trimmed ([`Slab::trim`]): pages go back
//! to the kernel, the addresses stay ours. A trimmed slot reads as zeroes, and a zeroed control block as a vacant one.
//!
//! ```text
//!   warm:  [ w w w w w w ]  <- pop, push     chunks: free slots without pages,
//!            trimmed first                           taken when none is warm
//! ```
#![expect(
    unsafe_code,
    reason = "pointer arithmetic inside and advice on our own mappings"
)]

use super::advise::{advise, give_back, range};
use super::chunk::{CHUNK_SLOTS, Chunk};
use super::guard::{self, GuardKind};
use super::usage::{self, SiteUsage, Usage};
use super::valgrind;
use super::{Lease, Slot};
use crate::coroutine::ControlBlock;
use crate::prefetch::{self, AHEAD};
use crate::spawn::SpawnError;
use std::collections::VecDeque;
use std::io;
use std::panic::Location;
use std::ptr::NonNull;

/// Slots that come into use at once: guards and top pages of so many take 0.6 ms.
const BATCH_SLOTS: usize = 256;
/// As few at first; each further batch doubles what there is.
const FIRST_SLOTS: usize = 16;
/// How many stacks one call of [`Slab::trim`] gives back at the most: 256 x 0.25 us.
const TRIM_BATCH: usize = 256;
/// One spawn in this many gets a stack without old traces, to be measured at its end (usage.rs).
const SAMPLE_INTERVAL: u32 = 4096;
/// One in this many of the spawns that get a stack without pages anyhow. Divides the former.
const FRESH_SAMPLE_INTERVAL: u32 = 64;
/// A table of warm stacks this long is made smaller once they have been trimmed: 64 KiB.
const LONG_TABLE: usize = 8192;

/// Sizes and bounds of the stacks of one scheduler.
#[derive(Clone, Copy, Debug)]
pub struct StackConfig {
    /// Usable bytes of a stack by default, rounded up to pages. Committed lazily.
    pub stack_bytes: usize,
    /// Bytes of the guard below each stack, 64 KiB to 1 GiB, rounded up to pages.
    pub guard_bytes: usize,
    /// How many coroutines may exist at once, over all sizes.
    pub max_coroutines: usize,
    /// Free stacks of each size that keep their pages while the core is idle.
    pub warm_stacks: usize,
    /// Whether guards may be `MADV_GUARD_INSTALL` markers (Linux 6.13); `mprotect` otherwise.
    pub guard_markers: bool,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self {
            stack_bytes: 256 * 1024,
            guard_bytes: 64 * 1024,
            max_coroutines: 1 << 20,
            warm_stacks: 128,
            guard_markers: true,
        }
    }
}

/// Smallest and largest stack that may be asked for.
const STACK_BYTES_RANGE: std::ops::RangeInclusive<usize> = 16 * 1024..=1 << 30;
/// Smallest and largest guard: below, C frames step over it (guard.rs); above, sizes of chunks could wrap.
const GUARD_BYTES_RANGE: std::ops::RangeInclusive<usize> = 64 * 1024..=1 << 30;

#[derive(Debug)]
struct Class {
    stack_bytes: usize,
    /// From the start of a slot to that of the next.
    stride: usize,
    /// By address.
    chunks: Vec<Chunk>,
    /// Free stacks with pages. One word each: the rest follows from where the control block lies (`Slab::slot`).
    warm: VecDeque<NonNull<ControlBlock>>,
    /// Addresses of the chunks that have free stacks without pages.
    cold: Vec<usize>,
    total: usize,
}

/// How far a [walk](Slab::walk) has come.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    class: usize,
    /// The address of the chunk, which stays where it is; its index does not.
    chunk: usize,
    position: usize,
}

/// All stacks of one scheduler.
#[derive(Debug)]
pub(crate) struct Slab {
    config: StackConfig,
    page_bytes: usize,
    guard_bytes: u32,
    guard_kind: GuardKind,
    classes: Vec<Class>,
    in_use: usize,
    spawns: u32,
    usage: Usage,
}

impl Slab {
    pub(crate) fn new(config: StackConfig) -> Self {
        // SAFETY: sysconf has no preconditions.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_bytes = usize::try_from(page_bytes).expect("the page size is always known");
        let guard_bytes = config
            .guard_bytes
            .clamp(*GUARD_BYTES_RANGE.start(), *GUARD_BYTES_RANGE.end())
            .next_multiple_of(page_bytes);
        let stack_bytes = clamp_stack_bytes(config.stack_bytes).next_multiple_of(page_bytes);
        Self {
            config: StackConfig {
                guard_bytes,
                stack_bytes,
                ..config
            },
            page_bytes,
            guard_bytes: u32::try_from(guard_bytes).unwrap_or(u32::MAX),
            guard_kind: if config.guard_markers {
                GuardKind::Marker
            } else {
                GuardKind::Mprotect
            },
            classes: Vec::new(),
            in_use: 0,
            spawns: 0,
            usage: Usage::default(),
        }
    }

    /// Stacks handed out and not yet given back.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Takes a stack of at least `stack_bytes`, or of the default size; and whether to measure it at the end.
    #[inline(always)]
    pub(crate) fn acquire(&mut self, stack_bytes: Option<usize>) -> Result<Lease, SpawnError> {
        if stack_bytes.is_none()
            && self.in_use < self.config.max_coroutines
            && let Some(class) = self.classes.first_mut()
            && let Some(control) = class.warm.pop_back()
        {
            if self.in_use >= prefetch::CROWD
                && let Some(place) = class.warm.len().checked_sub(AHEAD / 2)
                && let Some(soon) = class.warm.get(place)
            {
                prefetch::vacant(*soon);
            }
            return Ok(self.hand_out(control, 0, false));
        }
        self.acquire_slow(stack_bytes)
    }

    #[cold]
    #[inline(never)]
    fn acquire_slow(&mut self, stack_bytes: Option<usize>) -> Result<Lease, SpawnError> {
        if self.in_use >= self.config.max_coroutines {
            return Err(SpawnError::TooManyCoroutines {
                limit: self.config.max_coroutines,
            });
        }
        let index = self.class_for(stack_bytes)?;
        if self.classes[index].is_exhausted() {
            self.grow(index)?;
        }
        let class = &mut self.classes[index];
        let (control, fresh) = match class.warm.pop_back() {
            Some(control) => (control, false),
            None => (class.take_cold(), true),
        };
        Ok(self.hand_out(control, index, fresh))
    }

    #[inline(always)]
    fn hand_out(&mut self, control: NonNull<ControlBlock>, index: usize, fresh: bool) -> Lease {
        let slot = self.slot(control, index);
        self.in_use += 1;
        self.spawns = self.spawns.wrapping_add(1);
        let sampled =
            self.spawns.is_multiple_of(FRESH_SAMPLE_INTERVAL) && self.choose_sample(slot, fresh);
        Lease {
            control,
            slot,
            class: u8::try_from(index).expect("there are few powers of two"),
            sampled,
        }
    }

    /// Decides whether a coroutine's stack is measured at its end; it holds no traces of former users then.
    #[cold]
    fn choose_sample(&mut self, slot: Slot, fresh: bool) -> bool {
        if !fresh && !self.spawns.is_multiple_of(SAMPLE_INTERVAL) {
            return false;
        }
        if !fresh {
            give_back(&[range(slot.limit, slot.top - slot.limit)]);
        }
        true
    }

    /// The coroutine on a sampled stack has ended.
    #[cold]
    pub(crate) fn measure(&mut self, slot: Slot, site: &'static Location<'static>) {
        let used = usage::high_water_bytes(slot, self.page_bytes);
        self.usage.record(slot, site, used);
    }

    /// The most that any sample of [`usage`](Self::usage) has found.
    pub(crate) fn deepest_bytes(&self) -> usize {
        let sites = self.usage.sites().iter();
        sites.map(|site| site.high_water_bytes).max().unwrap_or(0)
    }

    pub(crate) fn usage(&self) -> Vec<SiteUsage> {
        self.usage.sites().to_vec()
    }

    /// Bytes of a stack that hold memory.
    pub(crate) fn resident_bytes(&self, slot: Slot) -> usize {
        usage::resident_bytes(slot, self.page_bytes)
    }

    /// Takes a stack back. The coroutine on it has ended and nothing points into it.
    #[inline(always)]
    pub(crate) fn release(&mut self, control: NonNull<ControlBlock>, class: u8) {
        self.in_use -= 1;
        self.classes[usize::from(class)].warm.push_back(control);
    }

    /// The slot whose control block lies at `control`, in the topmost page.
    #[inline(always)]
    fn slot(&self, control: NonNull<ControlBlock>, class: usize) -> Slot {
        let top = (control.addr().get() | (self.page_bytes - 1)) + 1;
        Slot {
            limit: top - self.classes[class].stack_bytes,
            top,
            guard_bytes: self.guard_bytes,
        }
    }

    /// Gives the pages of some cold free stacks back to the kernel. Returns whether more are left to trim.
    pub(crate) fn trim(&mut self) -> bool {
        let mut more = false;
        for class in &mut self.classes {
            let excess = class.warm.len().saturating_sub(self.config.warm_stacks);
            if excess == 0 {
                continue;
            }
            let trimmed: Vec<_> = class.warm.drain(..excess.min(TRIM_BATCH)).collect();
            let ranges = trimmed
                .iter()
                .map(|control| usable(*control, class.stack_bytes, self.page_bytes));
            give_back(&ranges.collect::<Vec<_>>());
            trimmed
                .into_iter()
                .for_each(|control| class.put_cold(control));
            more |= excess > TRIM_BATCH;
            if excess <= TRIM_BATCH && class.warm.capacity() > LONG_TABLE {
                class.warm.shrink_to(2 * class.warm.len());
            }
        }
        more
    }

    /// Goes on with a walk over all control blocks, vacant or not, of stacks that have pages: `portion` stacks further. Whether
    /// there are more. Each is visited once at the most, whatever comes and goes between two portions.
    pub(crate) fn walk(
        &self,
        walk: &mut Walk,
        portion: usize,
        mut visit: impl FnMut(NonNull<ControlBlock>),
    ) -> bool {
        let mut left = portion;
        while let Some(class) = self.classes.get(walk.class) {
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

    /// Index of the class for this size: class 0 is the default; others are powers of two.
    fn class_for(&mut self, stack_bytes: Option<usize>) -> Result<usize, SpawnError> {
        if self.classes.is_empty() {
            self.classes
                .push(Class::new(self.config.stack_bytes, self.config.guard_bytes));
        }
        let Some(wanted) = stack_bytes else {
            return Ok(0);
        };
        if wanted > *STACK_BYTES_RANGE.end() {
            return Err(SpawnError::StackTooLarge {
                bytes: wanted,
                limit: *STACK_BYTES_RANGE.end(),
            });
        }
        let wanted = clamp_stack_bytes(wanted).next_multiple_of(self.page_bytes);
        if wanted == self.config.stack_bytes {
            return Ok(0);
        }
        let rounded = wanted.next_power_of_two();
        if let Some(found) = self
            .classes
            .iter()
            .skip(1)
            .position(|class| class.stack_bytes == rounded)
        {
            return Ok(found + 1);
        }
        self.classes
            .push(Class::new(rounded, self.config.guard_bytes));
        Ok(self.classes.len() - 1)
    }

    /// Takes more slots into use, one at least: of the newest chunk, or else of a new one.
    #[cold]
    fn grow(&mut self, index: usize) -> Result<(), SpawnError> {
        let class = &self.classes[index];
        let (total, stride) = (class.total, class.stride);
        let allowed = self.config.max_coroutines.saturating_sub(total).max(1);
        let batch = total.clamp(FIRST_SLOTS, BATCH_SLOTS).min(allowed);
        let (mut chunk, is_new) = match self.classes[index].take_unfinished() {
            Some(chunk) => (chunk, false),
            None => {
                let room = total.clamp(FIRST_SLOTS, CHUNK_SLOTS).min(allowed);
                let chunk = Chunk::map((room, batch), stride, total, self.page_bytes);
                (chunk.map_err(|source| self.no_memory(source))?, true)
            }
        };
        let from = usize::from(chunk.slots);
        let batch = batch.min(usize::from(chunk.room) - from);
        let lows: Vec<usize> = (from..from + batch)
            .map(|position| chunk.low(position, stride))
            .collect();
        // What has a guard can be used; the error is for who gets none.
        let (guarded, refused) = match self.install_guards(&lows) {
            Ok(()) => (batch, None),
            Err((guarded, source)) => (guarded, Some(source)),
        };
        chunk.slots += u16::try_from(guarded).expect("a batch is small");
        let made: Vec<_> = (from..from + guarded)
            .map(|position| chunk.control(position, stride))
            .collect();
        let populated = guarded == BATCH_SLOTS && self.populate(&made);
        for control in &made {
            let slot = self.slot(*control, index);
            valgrind::register(slot.limit, slot.top);
        }
        let class = &mut self.classes[index];
        class.total += guarded;
        if populated {
            (from..from + guarded).for_each(|position| chunk.set_busy(position));
            class.warm.extend(made.into_iter().rev());
        } else if guarded > 0 {
            chunk.cold += u16::try_from(guarded).expect("a batch is small");
            class.cold.push(chunk.start());
        }
        if guarded > 0 || !is_new {
            class.put_chunk(chunk);
        }
        match refused {
            Some(source) if guarded == 0 => Err(self.no_memory(source)),
            _ => Ok(()),
        }
    }

    /// Installs guards, from the front; the first refusal of markers switches this slab to `mprotect` for good.
    fn install_guards(&mut self, lows: &[usize]) -> Result<(), (usize, io::Error)> {
        let guards = lows.iter().map(|low| range(*low, self.config.guard_bytes));
        let guards: Vec<_> = guards.collect();
        if self.guard_kind == GuardKind::Marker {
            // SAFETY: the guards lie in a fresh mapping of ours that nothing uses yet.
            match unsafe { guard::install_markers(&guards) } {
                Err((0, error)) if error.raw_os_error() == Some(libc::EINVAL) => {
                    self.guard_kind = GuardKind::Mprotect;
                }
                outcome => return outcome,
            }
        }
        // SAFETY: as above.
        unsafe { guard::protect(&guards) }
    }

    /// Makes the top pages present, all in one call: cheaper than a fault each, and this slab grows fast.
    fn populate(&self, controls: &[NonNull<ControlBlock>]) -> bool {
        let page = |control: &NonNull<ControlBlock>| control.addr().get() & !(self.page_bytes - 1);
        let pages = controls
            .iter()
            .map(|control| range(page(control), self.page_bytes));
        let pages: Vec<_> = pages.collect();
        // SAFETY: the top pages of fresh stacks: populating does not change what they hold.
        unsafe { advise(&pages, libc::MADV_POPULATE_WRITE) }.is_ok()
    }

    fn no_memory(&self, source: io::Error) -> SpawnError {
        SpawnError::NoMemory {
            source,
            stacks: self.in_use,
            two_mappings_each: self.guard_kind == GuardKind::Mprotect,
        }
    }
}

impl Class {
    fn new(stack_bytes: usize, guard_bytes: usize) -> Self {
        Self {
            stack_bytes,
            stride: stack_bytes + guard_bytes,
            chunks: Vec::new(),
            warm: VecDeque::new(),
            cold: Vec::new(),
            total: 0,
        }
    }

    fn is_exhausted(&self) -> bool {
        self.warm.is_empty() && self.cold.is_empty()
    }

    /// Takes out the chunk whose slots are not all in use yet, if there is one.
    fn take_unfinished(&mut self) -> Option<Chunk> {
        let index = self
            .chunks
            .iter()
            .position(|chunk| chunk.slots < chunk.room)?;
        Some(self.chunks.remove(index))
    }

    fn put_chunk(&mut self, chunk: Chunk) {
        let place = self.chunk_after(chunk.start());
        self.chunks.insert(place, chunk);
    }

    /// Index of the first chunk above this address.
    fn chunk_after(&self, address: usize) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.start() <= address)
    }

    /// A free stack without pages. There is one.
    fn take_cold(&mut self) -> NonNull<ControlBlock> {
        let start = *self.cold.last().expect("there is a cold stack");
        let index = self.chunk_after(start) - 1;
        let chunk = &mut self.chunks[index];
        let position = chunk.take_cold();
        if chunk.cold == 0 {
            self.cold.pop();
        }
        chunk.control(position, self.stride)
    }

    /// A free stack has lost its pages.
    fn put_cold(&mut self, control: NonNull<ControlBlock>) {
        let index = self.chunk_after(control.addr().get()) - 1;
        let chunk = &mut self.chunks[index];
        if chunk.cold == 0 {
            self.cold.push(chunk.start());
        }
        let below = control.addr().get() - chunk.low(0, self.stride);
        chunk.put_cold(below / self.stride);
    }
}

fn clamp_stack_bytes(bytes: usize) -> usize {
    bytes.clamp(*STACK_BYTES_RANGE.start(), *STACK_BYTES_RANGE.end())
}

/// The usable part of the stack whose control block lies at `control`.
fn usable(control: NonNull<ControlBlock>, stack_bytes: usize, page_bytes: usize) -> libc::iovec {
    let top = (control.addr().get() | (page_bytes - 1)) + 1;
    range(top - stack_bytes, stack_bytes)
}

#[cfg(test)]
mod tests;
