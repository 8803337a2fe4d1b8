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
//!
//! What a spawn and a join need lies outside of the `RefCell` around the books: a warm stack is taken and given back by a few
//! instructions. How many stacks are in use is counted only when somebody asks.
#![expect(
    unsafe_code,
    reason = "pointer arithmetic inside and advice on our own mappings"
)]

mod class;
mod walk;

pub(crate) use walk::Walk;

use super::advise::{advise, give_back, range};
use super::chunk::{CHUNK_SLOTS, Chunk};
use super::config::{STACK_BYTES_RANGE, StackConfig, stack_bytes_for};
use super::guard::{self, GuardKind};
use super::usage::{self, SiteUsage, Usage};
use super::valgrind;
use super::warm::Warm;
use super::{Lease, Slot};
use crate::coroutine::ControlBlock;
use crate::spawn::SpawnError;
use class::Class;
use std::cell::{Cell, RefCell};
use std::io;
use std::panic::Location;
use std::ptr::NonNull;

/// Slots that come into use at once: guards and top pages of so many take 0.6 ms.
const BATCH_SLOTS: usize = 256;
/// As few at first; each further batch doubles what there is.
const FIRST_SLOTS: usize = 16;
/// How many stacks one call of [`Slab::trim`] gives back at the most: 256 x 0.25 us.
const TRIM_BATCH: usize = 256;
/// One spawn in this many may be [sampled](Slab::acquire): it is when its stack has no pages anyhow.
pub(crate) const SAMPLE_INTERVAL: u64 = 64;
/// One in this many of those gets a stack without old traces in any case, to be measured at its end (usage.rs).
const CLEAN_INTERVAL: u32 = 64;

/// Size classes there can be: the default, and the powers of two in the range.
const CLASSES: usize = 18;

/// What spawn and join want to know of a class.
#[derive(Debug, Default)]
struct Pool {
    /// Free stacks with pages. One word each: the rest follows from where the control block lies (`Slab::slot`).
    warm: Warm,
    stack_bytes: Cell<usize>,
}

/// All stacks of one scheduler.
#[derive(Debug)]
pub(crate) struct Slab {
    page_bytes: usize,
    guard_bytes: u32,
    /// By class, as the classes of the books.
    pools: [Pool; CLASSES],
    books: RefCell<Books>,
}

/// What is needed when no stack is warm.
#[derive(Debug)]
struct Books {
    config: StackConfig,
    page_bytes: usize,
    guard_kind: GuardKind,
    classes: Vec<Class>,
    /// How many spawns could have been sampled.
    chances: u32,
    usage: Usage,
}

impl Slab {
    pub(crate) fn new(config: StackConfig) -> Self {
        // SAFETY: sysconf has no preconditions.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_bytes = usize::try_from(page_bytes).expect("the page size is always known");
        let config = config.in_pages(page_bytes);
        let books = Books {
            config,
            page_bytes,
            guard_kind: if config.guard_markers {
                GuardKind::Marker
            } else {
                GuardKind::Mprotect
            },
            classes: Vec::new(),
            chances: 0,
            usage: Usage::default(),
        };
        Self {
            page_bytes,
            guard_bytes: u32::try_from(config.guard_bytes).unwrap_or(u32::MAX),
            pools: Default::default(),
            books: RefCell::new(books),
        }
    }

    /// Stacks handed out and not yet given back.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use_of(&self.books.borrow())
    }

    fn in_use_of(&self, books: &Books) -> usize {
        let classes = books.classes.iter().zip(&self.pools);
        classes
            .map(|(class, pool)| class.total - class.cold_slots - pool.warm.len())
            .sum()
    }

    /// How many stacks can be in use without [`acquire`](Self::acquire): those that are, and the warm ones.
    pub(crate) fn at_hand(&self) -> usize {
        let books = self.books.borrow();
        let classes = books.classes.iter();
        classes.map(|class| class.total - class.cold_slots).sum()
    }

    /// Whether there are more stacks, of all sizes, than may be in use: then [`take_warm`](Self::take_warm) could hand out
    /// too many.
    pub(crate) fn is_oversized(&self) -> bool {
        let books = self.books.borrow();
        let total: usize = books.classes.iter().map(|class| class.total).sum();
        total > books.config.max_coroutines
    }

    /// Takes a warm stack of the default size. Not while the slab [is oversized](Self::is_oversized).
    #[inline(always)]
    pub(crate) fn take_warm(&self) -> Option<NonNull<ControlBlock>> {
        self.pools[0].warm.pop()
    }

    /// Who will be taken by [`take_warm`](Self::take_warm) after `ahead` others. For a prefetch.
    #[inline(always)]
    pub(crate) fn peek_warm(&self, ahead: usize) -> Option<NonNull<ControlBlock>> {
        self.pools[0].warm.peek(ahead)
    }

    /// Takes a stack of at least `stack_bytes`, or of the default size. One spawn in [`SAMPLE_INTERVAL`] gives it the chance to
    /// be measured at its end.
    #[cold]
    #[inline(never)]
    pub(crate) fn acquire(
        &self,
        stack_bytes: Option<usize>,
        chance: bool,
    ) -> Result<Lease, SpawnError> {
        let mut books = self.books.borrow_mut();
        let books = &mut *books;
        let in_use = self.in_use_of(books);
        if in_use >= books.config.max_coroutines {
            return Err(SpawnError::TooManyCoroutines {
                limit: books.config.max_coroutines,
            });
        }
        let index = books.class_for(stack_bytes)?;
        let pool = &self.pools[index];
        pool.stack_bytes.set(books.classes[index].stack_bytes);
        if pool.warm.len() == 0 && books.classes[index].cold.is_empty() {
            self.grow(books, index, in_use)?;
        }
        let (control, fresh) = match pool.warm.pop() {
            Some(control) => (control, false),
            None => (books.classes[index].take_cold(), true),
        };
        let class = u8::try_from(index).expect("there are few powers of two");
        Ok(Lease {
            control,
            class,
            sampled: chance && books.choose_sample(self.slot(control, class), fresh),
        })
    }

    /// The coroutine on a sampled stack has ended.
    #[cold]
    pub(crate) fn measure(&self, slot: Slot, site: &'static Location<'static>) {
        let used = usage::high_water_bytes(slot, self.page_bytes);
        self.books.borrow_mut().usage.record(slot, site, used);
    }

    /// The most that any sample of [`usage`](Self::usage) has found.
    pub(crate) fn deepest_bytes(&self) -> usize {
        let books = self.books.borrow();
        let sites = books.usage.sites().iter();
        sites.map(|site| site.high_water_bytes).max().unwrap_or(0)
    }

    pub(crate) fn usage(&self) -> Vec<SiteUsage> {
        self.books.borrow().usage.sites().to_vec()
    }

    /// Bytes of a stack that hold memory.
    pub(crate) fn resident_bytes(&self, slot: Slot) -> usize {
        usage::resident_bytes(slot, self.page_bytes)
    }

    /// Takes a stack back. The coroutine on it has ended and nothing points into it.
    #[inline(always)]
    pub(crate) fn release(&self, control: NonNull<ControlBlock>, class: u8) {
        if class == 0 {
            return self.pools[0].warm.push(control);
        }
        self.pools[usize::from(class)].warm.push(control);
    }

    /// The slot whose control block lies at `control`, in the topmost page. Plain loads: a signal handler asks.
    #[inline]
    pub(crate) fn slot(&self, control: NonNull<ControlBlock>, class: u8) -> Slot {
        let top = (control.addr().get() | (self.page_bytes - 1)) + 1;
        Slot {
            limit: top - self.pools[usize::from(class)].stack_bytes.get(),
            top,
            guard_bytes: self.guard_bytes,
        }
    }

    /// Gives the pages of some cold free stacks back to the kernel. Returns whether more are left to trim.
    pub(crate) fn trim(&self) -> bool {
        let mut books = self.books.borrow_mut();
        let books = &mut *books;
        let mut more = false;
        for (class, pool) in books.classes.iter_mut().zip(&self.pools) {
            let excess = pool.warm.len().saturating_sub(books.config.warm_stacks);
            if excess == 0 {
                continue;
            }
            let trimmed = pool.warm.take_coldest(excess.min(TRIM_BATCH));
            let ranges = trimmed
                .iter()
                .map(|control| usable(*control, class.stack_bytes, self.page_bytes));
            give_back(&ranges.collect::<Vec<_>>());
            trimmed
                .into_iter()
                .for_each(|control| class.put_cold(control));
            more |= excess > TRIM_BATCH;
            if excess <= TRIM_BATCH {
                pool.warm.shrink();
            }
        }
        more
    }

    /// Takes more slots into use, one at least: of the newest chunk, or else of a new one.
    #[cold]
    fn grow(&self, books: &mut Books, index: usize, in_use: usize) -> Result<(), SpawnError> {
        let class = &books.classes[index];
        let (total, stride, class_bytes) = (class.total, class.stride, class.stack_bytes);
        let allowed = books.config.max_coroutines.saturating_sub(total).max(1);
        let batch = total.clamp(FIRST_SLOTS, BATCH_SLOTS).min(allowed);
        let (mut chunk, is_new) = match books.classes[index].take_unfinished() {
            Some(chunk) => (chunk, false),
            None => {
                let room = total.clamp(FIRST_SLOTS, CHUNK_SLOTS).min(allowed);
                let chunk = Chunk::map((room, batch), stride, total, self.page_bytes);
                (
                    chunk.map_err(|source| books.no_memory(source, in_use))?,
                    true,
                )
            }
        };
        let from = usize::from(chunk.slots);
        let batch = batch.min(usize::from(chunk.room) - from);
        let lows: Vec<usize> = (from..from + batch)
            .map(|position| chunk.low(position, stride))
            .collect();
        // What has a guard can be used; the error is for who gets none.
        let (guarded, refused) = match books.install_guards(&lows) {
            Ok(()) => (batch, None),
            Err((guarded, source)) => (guarded, Some(source)),
        };
        chunk.slots += u16::try_from(guarded).expect("a batch is small");
        let made: Vec<_> = (from..from + guarded)
            .map(|position| chunk.control(position, stride))
            .collect();
        let populated = guarded == BATCH_SLOTS && books.populate(&made);
        for control in &made {
            let usable = usable(*control, class_bytes, self.page_bytes);
            let low = usable.iov_base.addr();
            valgrind::register(low, low + usable.iov_len);
        }
        let class = &mut books.classes[index];
        class.total += guarded;
        if populated {
            (from..from + guarded).for_each(|position| chunk.set_busy(position));
            made.into_iter()
                .rev()
                .for_each(|control| self.pools[index].warm.push(control));
        } else if guarded > 0 {
            chunk.cold += u16::try_from(guarded).expect("a batch is small");
            class.cold.push(chunk.start());
            class.cold_slots += guarded;
        }
        if guarded > 0 || !is_new {
            class.put_chunk(chunk);
        }
        match refused {
            Some(source) if guarded == 0 => Err(books.no_memory(source, in_use)),
            _ => Ok(()),
        }
    }
}

impl Books {
    /// Decides whether a coroutine's stack is measured at its end; it holds no traces of former users then.
    fn choose_sample(&mut self, slot: Slot, fresh: bool) -> bool {
        self.chances = self.chances.wrapping_add(1);
        if !fresh && !self.chances.is_multiple_of(CLEAN_INTERVAL) {
            return false;
        }
        if !fresh {
            give_back(&[range(slot.limit, slot.top - slot.limit)]);
        }
        true
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
        let wanted = stack_bytes_for(wanted, self.page_bytes);
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

    fn no_memory(&self, source: io::Error, in_use: usize) -> SpawnError {
        SpawnError::NoMemory {
            source,
            stacks: in_use,
            two_mappings_each: self.guard_kind == GuardKind::Mprotect,
        }
    }
}

/// The usable part of the stack whose control block lies at `control`.
fn usable(control: NonNull<ControlBlock>, stack_bytes: usize, page_bytes: usize) -> libc::iovec {
    let top = (control.addr().get() | (page_bytes - 1)) + 1;
    range(top - stack_bytes, stack_bytes)
}

#[cfg(test)]
mod tests;
