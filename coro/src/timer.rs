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
//! position, so insertion is one `leading_zeros` and one push to a list; cancellation unlinks in O(1); an entry
//! moves down at most once a level, and not at all when time jumps past it. Entries sit in one slab and are
//! linked by index: nothing is allocated once the slab has grown to the peak number of live timers. Free entries are
//! not linked but stacked in a list of their own: after many timers have fired they lie in no order, and a chain
//! through them would cost a miss of the cache an insertion, each waiting for the one before.
//!
//! Invariants:
//! - An entry is on exactly one list, or among the free ones with its generation advanced.
//! - An entry never fires before its deadline: a slot only says "perhaps", the stored deadline decides.
//! - On every level but 0, occupied slots lie strictly above the wheel's position, so nothing wraps around.
//!
//! Order: entries that become due in the same [`Wheel::advance`] fire in the order of their slots; within one
//! slot the order is unspecified.

/// Nanoseconds of a level-0 slot, as a shift: 4,096 ns. Finer only adds cascades, since deadlines are exact.
const TICK_SHIFT: u32 = 12;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = (u64::BITS - TICK_SHIFT).div_ceil(SLOT_BITS) as usize;
const NIL: u32 = u32::MAX;

/// Names one live timer. A key of a timer that fired or was cancelled is recognised as stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    deadline_ns: u64,
    next: u32,
    previous: u32,
    /// Advanced when the entry is freed, so that old keys no longer match.
    generation: u32,
    /// `level * SLOTS + slot` while linked.
    home: u16,
    /// `Some` exactly while the timer is live.
    payload: Option<T>,
}

/// A hierarchical timer wheel over nanoseconds.
#[derive(Debug)]
pub struct Wheel<T> {
    entries: Vec<Entry<T>>,
    /// Entries to use again, as a stack: those that are not live, and then whatever was there. As long as `entries`.
    free: Vec<u32>,
    live: usize,
    /// Position: every tick before it has been processed.
    position: u64,
    occupied: [u64; LEVELS],
    heads: Vec<u32>,
    /// A lower bound of the deadlines in each slot; exact until one of them is cancelled.
    earliest: Vec<u64>,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T> Wheel<T> {
    /// An empty wheel whose time starts at `now_ns`.
    #[must_use]
    pub fn new(now_ns: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            live: 0,
            position: now_ns >> TICK_SHIFT,
            occupied: [0; LEVELS],
            heads: vec![NIL; LEVELS * SLOTS],
            earliest: vec![u64::MAX; LEVELS * SLOTS],
        }
    }

    /// How many timers are live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no timer is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Adds a timer. O(1); allocates only when more timers are live than ever before.
    ///
    /// A deadline that has passed already fires at the next [`advance`](Self::advance).
    pub fn insert(&mut self, deadline_ns: u64, payload: T) -> TimerKey {
        let index = self.vacant();
        let entry = &mut self.entries[index as usize];
        entry.deadline_ns = deadline_ns;
        entry.payload = Some(payload);
        let generation = entry.generation;
        self.live += 1;
        self.link(index, deadline_ns);
        TimerKey { index, generation }
    }

    /// Removes a timer and gives its payload back; `None` when it has fired or was cancelled before. O(1).
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        if !self.is_live(key) {
            return None;
        }
        self.unlink(key.index);
        self.release(key.index)
    }

    /// Whether this timer has neither fired nor been cancelled.
    #[must_use]
    pub fn is_live(&self, key: TimerKey) -> bool {
        self.entries
            .get(key.index as usize)
            .is_some_and(|entry| entry.generation == key.generation && entry.payload.is_some())
    }

    /// When to look again: no timer is due before this. `None` when there is no timer.
    ///
    /// Exact unless a timer of the first slot was cancelled, then perhaps early, never late.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let (level, slot) = self.first_occupied()?;
        let home = level * SLOTS + slot;
        let start_ns = self.slot_start(level, slot) << TICK_SHIFT;
        Some(self.earliest[home].max(start_ns))
    }

    /// Moves time to `now_ns` and hands every timer due by then to `fire`. Time that runs backwards is ignored.
    pub fn advance(&mut self, now_ns: u64, mut fire: impl FnMut(T)) {
        let now_tick = now_ns >> TICK_SHIFT;
        if now_tick < self.position {
            return;
        }
        while let Some((level, slot)) = self.first_occupied() {
            let start = self.slot_start(level, slot);
            if start > now_tick {
                break;
            }
            let home = level * SLOTS + slot;
            if start == now_tick && level == 0 && self.earliest[home] > now_ns {
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
    fn sweep(&mut self, home: usize, now_ns: u64, fire: &mut impl FnMut(T)) {
        let mut index = std::mem::replace(&mut self.heads[home], NIL);
        self.earliest[home] = u64::MAX;
        self.occupied[home / SLOTS] &= !(1 << (home % SLOTS));
        while index != NIL {
            let entry = &self.entries[index as usize];
            let next = entry.next;
            let deadline_ns = entry.deadline_ns;
            if deadline_ns <= now_ns {
                if let Some(payload) = self.release(index) {
                    fire(payload);
                }
            } else {
                self.link(index, deadline_ns);
            }
            index = next;
        }
    }

    fn vacant(&mut self) -> u32 {
        match self.entries.len() - self.live {
            0 => self.grow(),
            free => self.free[free - 1],
        }
    }

    fn grow(&mut self) -> u32 {
        let index =
            u32::try_from(self.entries.len()).expect("fewer than 2^32 timers fit in memory");
        self.entries.push(Entry {
            deadline_ns: 0,
            next: NIL,
            previous: NIL,
            generation: 0,
            home: 0,
            payload: None,
        });
        self.free.push(index);
        index
    }

    fn release(&mut self, index: u32) -> Option<T> {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        let payload = entry.payload.take();
        self.free[self.entries.len() - self.live] = index;
        self.live -= 1;
        payload
    }

    fn link(&mut self, index: u32, deadline_ns: u64) {
        let home = self.home_of(deadline_ns >> TICK_SHIFT);
        let head = self.heads[home];
        let entry = &mut self.entries[index as usize];
        entry.next = head;
        entry.previous = NIL;
        entry.home = u16::try_from(home).expect("9 levels of 64 slots fit in 16 bits");
        if head != NIL {
            self.entries[head as usize].previous = index;
        }
        self.heads[home] = index;
        self.earliest[home] = self.earliest[home].min(deadline_ns);
        self.occupied[home / SLOTS] |= 1 << (home % SLOTS);
    }

    fn unlink(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (next, previous, home) = (entry.next, entry.previous, usize::from(entry.home));
        if next != NIL {
            self.entries[next as usize].previous = previous;
        }
        if previous != NIL {
            self.entries[previous as usize].next = next;
            return;
        }
        self.heads[home] = next;
        if next == NIL {
            self.earliest[home] = u64::MAX;
            self.occupied[home / SLOTS] &= !(1 << (home % SLOTS));
        }
    }

    /// The list a tick belongs to: the level is the highest six-bit group that differs from the position.
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

fn slot_on(level: usize, tick: u64) -> usize {
    let slot = (tick >> (SLOT_BITS as usize * level)) & (SLOTS as u64 - 1);
    usize::try_from(slot).expect("there are 64 slots")
}

#[cfg(test)]
mod tests;
