//! The timer wheel: deadlines in, due entries out. Pure: no clock, no syscalls, no unsafe code.
//!
//! ```text
//!  level 0   64 slots of   4 us   [....x...............]   exact deadlines decide inside a slot
//!  level 1   64 slots of 262 us   [......x.x...........]   cascades into level 0 when time reaches a slot
//!  level 2   64 slots of  17 ms   [....................]
//!   ...                                                    9 levels cover all of u64 nanoseconds
//! ```
//!
//! A deadline lives on the level of the highest six-bit group in which its tick differs from the wheel's
//! position, so insertion is one `leading_zeros` and one append; an entry moves down at most once a level, and not at
//! all when time jumps past it.
//!
//! A slot is a list of blocks of sixteen entries, filled one after the other. A key names a place, a word that knows
//! where the entry has moved to; cancellation makes a hole there, and takes out a block that has holes only:
//!
//! ```text
//!  key -> place (places.rs)             slot: end ------------------------+
//!              |                                                          v
//!              +--> block [e e - e e - e e]  <-- older, newer --> block [e e - . . . . .]
//! ```
//!
//! A sweep therefore reads whole cache lines, and no load waits for the one before; it asks for the next block and for the
//! places of a block before it looks at them, which halves the time of a million. Along a list of entries each step would
//! be a miss of caches and page tables as soon as many timers fire in another order than they came in: 200 ns a timer
//! instead of 40, with a million of them. The price is memory: a live timer keeps at most one block.
//!
//! To end a timer takes its place, the count of its block and the free places. Of a million the place is the one that
//! lies in no cache; [`Wheel::discard`] does not wait for it (discarded.rs).
//!
//! Nothing is allocated once places and blocks have grown to the most that were in use at a time.
//!
//! Invariants:
//! - The place of a live timer says where its entry is. An entry whose place says something else is a hole.
//! - A block in use has an entry that is no hole, as many as `filled` says, and all blocks but the newest of a slot are full.
//! - An entry never fires before its deadline: a slot only says "perhaps", the stored deadline decides.
//! - On every level but 0, occupied slots lie strictly above the wheel's position, so nothing wraps around.
//!
//! Order: entries that become due in the same [`Wheel::advance`] fire in the order of their slots; within one
//! slot the order is unspecified.

mod discarded;
mod free;
mod places;

pub use places::TimerKey;

use crate::prefetch;
use discarded::Discarded;
use places::Places;
use std::ops::Range;

/// Nanoseconds of a level-0 slot, as a shift: 4,096 ns. Finer only adds cascades, since deadlines are exact.
const TICK_SHIFT: u32 = 12;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = (u64::BITS - TICK_SHIFT).div_ceil(SLOT_BITS) as usize;
/// Entries of a block: few enough that a slot with one timer wastes little, enough that a sweep rarely changes blocks.
const BLOCK: u32 = 16;
/// A wheel with room for so many is made smaller when it is no longer needed: some 256 KiB.
const LONG: usize = 8192;
const NIL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    deadline_ns: u64,
    payload: T,
    /// Knows where we are; if it does not, this is a hole.
    place: u32,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    older: u32,
    newer: u32,
    /// `level * SLOTS + slot`.
    home: u16,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Where the newest entry ends. A multiple of [`BLOCK`] when its block is full, zero when there is none.
    end: u32,
    /// A lower bound of the deadlines; exact until one of them is cancelled.
    earliest_ns: u64,
}

const EMPTY: Slot = Slot {
    end: 0,
    earliest_ns: u64::MAX,
};

/// A hierarchical timer wheel over nanoseconds. What a timer carries should be a word or two, since it moves.
#[derive(Debug)]
pub struct Wheel<T> {
    /// Position: every tick before it has been processed.
    position: u64,
    occupied: [u64; LEVELS],
    slots: Vec<Slot>,
    places: Places,
    /// Block `n` has the entries from `n * BLOCK` on.
    entries: Vec<Entry<T>>,
    blocks: Vec<Block>,
    /// How many entries of each block are no holes. Nothing else of a block is needed to cancel a timer, and a byte for
    /// sixteen of them stays in the cache.
    filled: Vec<u8>,
    free_blocks: Vec<u32>,
    discarded: Discarded,
}

impl<T: Copy> Default for Wheel<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel whose time starts at `now_ns`.
    #[must_use]
    pub fn new(now_ns: u64) -> Self {
        Self {
            position: now_ns >> TICK_SHIFT,
            occupied: [0; LEVELS],
            slots: vec![EMPTY; LEVELS * SLOTS],
            places: Places::default(),
            entries: Vec::new(),
            blocks: Vec::new(),
            filled: Vec::new(),
            free_blocks: Vec::new(),
            discarded: Discarded::default(),
        }
    }

    /// How many timers are live. Those discarded since the wheel was last [settled](Self::settle) may be counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.live()
    }

    /// Whether no timer is live, counted like [`len`](Self::len).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a timer. O(1); allocates only when there is no room left from timers that have gone.
    ///
    /// A deadline that has passed already fires at the next [`advance`](Self::advance).
    #[inline]
    pub fn insert(&mut self, deadline_ns: u64, payload: T) -> TimerKey {
        let key = self.places.take();
        self.put(deadline_ns, payload, key.place);
        key
    }

    /// Removes a timer and gives its payload back; `None` when it has fired or was removed before. O(1).
    ///
    /// The answer has to wait for the memory that knows it: who needs none had better [`discard`](Self::discard).
    #[inline]
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        self.settle();
        let at = self.end(key)?;
        Some(self.entries[at as usize].payload)
    }

    /// Removes a timer unless it has fired or was removed before. O(1), and does not wait for memory.
    #[inline]
    pub fn discard(&mut self, key: TimerKey) {
        self.places.prefetch(key.place);
        if let Some(oldest) = self.discarded.push(key) {
            self.end(oldest);
        }
    }

    /// Ends the timers that were discarded: O(1), there are a few at the most. Afterwards nothing but [`len`](Self::len) differs.
    #[inline]
    pub fn settle(&mut self) {
        if !self.discarded.is_empty() {
            self.end_discarded();
        }
    }

    #[inline(never)]
    fn end_discarded(&mut self) {
        while let Some(key) = self.discarded.pop() {
            self.end(key);
        }
    }

    /// Makes a hole of a timer's entry, if it is live; returns where.
    #[inline]
    fn end(&mut self, key: TimerKey) -> Option<u32> {
        let at = self.places.end(key)?;
        self.make_hole(at / BLOCK);
        Some(at)
    }

    /// Whether this timer has neither fired nor been removed.
    #[must_use]
    #[inline]
    pub fn is_live(&self, key: TimerKey) -> bool {
        self.places.is_live(key) && !self.discarded.contains(key)
    }

    /// When to look again: no timer is due before this. `None` when there is no timer.
    ///
    /// Exact unless a timer of the first slot was removed, then perhaps early, never late.
    #[must_use]
    pub fn next_deadline(&mut self) -> Option<u64> {
        self.settle();
        let (level, slot) = self.first_occupied()?;
        let earliest_ns = self.slots[level * SLOTS + slot].earliest_ns;
        let start_ns = self.slot_start(level, slot) << TICK_SHIFT;
        Some(earliest_ns.max(start_ns))
    }

    /// Moves time to `now_ns` and hands every timer due by then to `fire`, with its deadline. Time that runs backwards
    /// is ignored.
    pub fn advance(&mut self, now_ns: u64, mut fire: impl FnMut(u64, T)) {
        let now_tick = now_ns >> TICK_SHIFT;
        if now_tick < self.position {
            return;
        }
        self.settle();
        while let Some((level, slot)) = self.first_occupied() {
            let start = self.slot_start(level, slot);
            if start > now_tick {
                break;
            }
            let home = level * SLOTS + slot;
            if start == now_tick && level == 0 && self.slots[home].earliest_ns > now_ns {
                break;
            }
            self.position = self.position.max(start);
            self.sweep(home, now_ns, &mut fire);
            if level == 0 && start == now_tick {
                break;
            }
        }
        self.position = now_tick;
    }

    /// Empties one slot: what is due fires, what is not moves to its place as seen from the new position.
    fn sweep(&mut self, home: usize, now_ns: u64, fire: &mut impl FnMut(u64, T)) {
        let mut end = self.slots[home].end;
        self.clear(home);
        while end != 0 {
            let number = (end - 1) / BLOCK;
            self.prefetch(number * BLOCK..end, self.blocks[number as usize].older);
            for at in number * BLOCK..end {
                let entry = self.entries[at as usize];
                if !self.places.is_at(entry.place, at) {
                    continue; // a hole
                }
                if entry.deadline_ns <= now_ns {
                    self.places.release(entry.place);
                    fire(entry.deadline_ns, entry.payload);
                } else {
                    self.put(entry.deadline_ns, entry.payload, entry.place);
                }
            }
            end = end_of(self.blocks[number as usize].older);
            self.free_blocks.push(number);
        }
    }

    /// Asks for what a sweep touches next: the places of these entries, and the entries of the block after them.
    #[inline]
    fn prefetch(&self, entries: Range<u32>, next: u32) {
        for entry in &self.entries[entries.start as usize..entries.end as usize] {
            self.places.prefetch(entry.place);
        }
        if next != NIL {
            self.prefetch_block(next);
        }
    }

    #[inline]
    fn prefetch_block(&self, number: u32) {
        let first = (number * BLOCK) as usize;
        // Two entries of three words are less than a cache line.
        for entry in self.entries[first..first + BLOCK as usize]
            .iter()
            .step_by(2)
        {
            prefetch::line(entry);
        }
    }

    /// Gives memory back when many more timers were live once than are now. Keys stay valid. O(1) where there is nothing to
    /// give back, otherwise O(`len`).
    pub fn shrink(&mut self) {
        let enough = LONG.max(8 * self.len());
        if self.entries.len() > enough {
            self.compact();
        }
        if self.places.room() > enough {
            self.places.shrink();
        }
    }

    #[cold]
    fn compact(&mut self) {
        let mut live = Vec::with_capacity(self.len());
        for slot in &self.slots {
            let mut end = slot.end;
            while end != 0 {
                let number = (end - 1) / BLOCK;
                let entries = (number * BLOCK..end).map(|at| (at, self.entries[at as usize]));
                live.extend(entries.filter(|(at, entry)| self.places.is_at(entry.place, *at)));
                end = end_of(self.blocks[number as usize].older);
            }
        }
        *self = Self {
            places: std::mem::take(&mut self.places),
            discarded: std::mem::take(&mut self.discarded),
            ..Self::new(self.position << TICK_SHIFT)
        };
        for (_, entry) in live {
            self.put(entry.deadline_ns, entry.payload, entry.place);
        }
    }

    /// Appends to the slot where the entry belongs as seen from the position.
    #[inline]
    fn put(&mut self, deadline_ns: u64, payload: T, place: u32) {
        let home = self.home_of(deadline_ns >> TICK_SHIFT);
        let mut end = self.slots[home].end;
        if end.is_multiple_of(BLOCK) {
            end = self.add_block(home, payload);
        }
        let entry = &mut self.entries[end as usize];
        // Field by field: a copy of a whole entry would go by way of the stack, at twice the cost of the insertion.
        entry.deadline_ns = deadline_ns;
        entry.payload = payload;
        entry.place = place;
        self.places.set(place, end);
        self.filled[(end / BLOCK) as usize] += 1;
        let slot = &mut self.slots[home];
        slot.end = end + 1;
        slot.earliest_ns = slot.earliest_ns.min(deadline_ns);
    }

    /// A block after the newest of this slot, which is full; returns where its entries begin.
    ///
    /// Not inlined: one insertion in sixteen comes by, the others would keep registers for it.
    #[inline(never)]
    fn add_block(&mut self, home: usize, filler: T) -> u32 {
        let number = match self.free_blocks.pop() {
            Some(number) => {
                if let Some(next) = self.free_blocks.last() {
                    self.prefetch_block(*next);
                }
                number
            }
            None => self.grow(filler),
        };
        let end = self.slots[home].end;
        let older = if end == 0 { NIL } else { end / BLOCK - 1 };
        if older != NIL {
            self.blocks[older as usize].newer = number;
        }
        self.blocks[number as usize] = Block {
            older,
            newer: NIL,
            home: u16::try_from(home).expect("9 levels of 64 slots fit in 16 bits"),
        };
        self.filled[number as usize] = 0;
        self.occupied[home / SLOTS] |= 1 << (home % SLOTS);
        number * BLOCK
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, filler: T) -> u32 {
        let filler = Entry {
            deadline_ns: 0,
            payload: filler,
            place: 0,
        };
        self.entries.extend([filler; BLOCK as usize]);
        assert!(
            u32::try_from(self.entries.len()).is_ok(),
            "fewer than 2^32 timers fit in memory"
        );
        self.blocks.push(Block {
            older: NIL,
            newer: NIL,
            home: 0,
        });
        self.filled.push(0);
        // Room for all of them: giving one back must not allocate.
        self.free_blocks.reserve(self.blocks.len());
        u32::try_from(self.blocks.len() - 1).expect("there are fewer blocks than entries")
    }

    /// One more entry of this block has become a hole.
    #[inline]
    fn make_hole(&mut self, number: u32) {
        let filled = &mut self.filled[number as usize];
        *filled -= 1;
        if *filled == 0 {
            self.remove_block(number);
        }
    }

    /// Takes a block of holes out of its slot. Not inlined, as above.
    #[inline(never)]
    fn remove_block(&mut self, number: u32) {
        let Block { older, newer, home } = self.blocks[number as usize];
        if older != NIL {
            self.blocks[older as usize].newer = newer;
        }
        if newer != NIL {
            self.blocks[newer as usize].older = older;
        } else if older != NIL {
            self.slots[usize::from(home)].end = end_of(older);
        } else {
            self.clear(usize::from(home));
        }
        self.free_blocks.push(number);
    }

    fn clear(&mut self, home: usize) {
        self.slots[home] = EMPTY;
        self.occupied[home / SLOTS] &= !(1 << (home % SLOTS));
    }

    /// The slot a tick belongs to: the level is the highest six-bit group that differs from the position.
    #[inline]
    fn home_of(&self, tick: u64) -> usize {
        let tick = tick.max(self.position);
        let differing = (self.position ^ tick) | (SLOTS as u64 - 1);
        let level = ((u64::BITS - 1 - differing.leading_zeros()) / SLOT_BITS) as usize;
        level * SLOTS + slot_on(level, tick)
    }

    /// The earliest occupied slot. Lower levels always come before higher ones.
    fn first_occupied(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = SLOT_BITS * u32::try_from(level).expect("there are nine levels");
        let above = u64::MAX.checked_shl(shift + SLOT_BITS).unwrap_or(0);
        (self.position & above) | ((slot as u64) << shift)
    }
}

/// Where the entries of a full block end, as a [`Slot::end`].
fn end_of(block: u32) -> u32 {
    if block == NIL { 0 } else { (block + 1) * BLOCK }
}

fn slot_on(level: usize, tick: u64) -> usize {
    let slot = (tick >> (SLOT_BITS as usize * level)) & (SLOTS as u64 - 1);
    usize::try_from(slot).expect("there are 64 slots")
}

#[cfg(test)]
mod tests;
