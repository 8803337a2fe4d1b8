//! The state behind all simulated rings, and the life of an operation in it.
//!
//! ```text
//!    submit --> attempt ---- blocked ----> waiting --- settle: attempt again ---+
//!                  |                          |                                  |
//!                  |                          +-- cancelled ---+                 |
//!                  v                                           v                 v
//!              finished: result and bytes are fixed, a fault may hold it back until a later time
//!                  |  its time has come
//!                  v
//!              ready    (the real kernel's deferred task work: only an enter goes on from here)
//!                  |  post: bytes land in the caller's buffer
//!                  v
//!              CQE in the completion queue, or in the overflow list while that is full
//! ```
//!
//! The bytes of a read are taken from the socket when the operation finishes and reach the caller's memory when its
//! CQE is posted, so a cancel in between is too late and the read succeeds: the race that loses bytes in programs
//! that believe their cancel.
//!
//! A multishot operation stays in waiting while it sends out shots: finished operations that are nothing but their
//! completion. They keep their order: a shot is never told before an earlier one, whatever is held back or reordered.
//!
//! Invariant: each submitted operation is in exactly one of waiting, finished, ready, and leaves by exactly one CQE
//! (or silently with `SKIP_SUCCESS`).

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};

use super::execute::SEND_ZC;
use super::fault::{Chance, Faults};
use super::file::{File, OpenFile};
use super::memory::{self, Lent};
use super::provided::Provided;
use super::stream::Endpoint;
use crate::op::raw::{self, RawSqe};
use crate::{CQE_F_MORE, CQE_F_NOTIF, Cqe, Doorbell};

/// Descriptors are numbered from here, far from real ones, so that a mix-up is `EBADF` and no accident.
pub(super) const FIRST_FD: RawFd = 1 << 20;
/// Rings are numbered from here.
const FIRST_RING: RawFd = 1 << 24;
/// Completions that one enter posts, as `IO_LOCAL_TW_DEFAULT_MAX` has it.
const POSTED_BY_AN_ENTER: usize = 20;
/// The longest that a fault holds a completion back.
const LONGEST_DELAY_NS: u64 = 1_000_000;
const SKIP_SUCCESS: u8 = 1 << 6;

/// Something that a descriptor refers to.
#[derive(Debug)]
pub(super) enum Object {
    Stream(Endpoint),
    Listener(Listener),
    /// A socket that is not connected.
    Socket,
    File(OpenFile),
    Eventfd(u64),
}

/// Shared by descriptors and the operations in flight; closed when the last of them goes.
pub(super) type Handle = Rc<RefCell<Object>>;

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) backlog: usize,
    pub(super) waiting: VecDeque<Endpoint>,
    pub(super) shut_down: bool,
}

/// A submitted operation.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) sequence: u64,
    pub(super) sqe: RawSqe,
    pub(super) target: Option<Handle>,
    pub(super) lent: Option<Lent>,
    /// Bytes moved so far by an operation that wants all or nothing less.
    pub(super) moved: usize,
    pub(super) received: Vec<u8>,
    /// When a timer fires.
    pub(super) due_ns: Option<u64>,
    /// Whether it completes more than once, and when the last of its completions so far is told.
    pub(super) shoots: bool,
    pub(super) told_ns: u64,
}

impl Op {
    fn new(sequence: u64, sqe: RawSqe) -> Op {
        Op {
            sequence,
            sqe,
            target: None,
            lent: None,
            moved: 0,
            received: Vec::new(),
            due_ns: None,
            shoots: false,
            told_ns: 0,
        }
    }
}

/// How an operation ends.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) result: i32,
    /// With `F_MORE` the operation goes on.
    pub(super) flags: u32,
    /// What else the kernel writes: address and bytes.
    pub(super) writes: Vec<(u64, Vec<u8>)>,
}

impl From<i32> for Outcome {
    fn from(result: i32) -> Outcome {
        Outcome {
            result,
            flags: 0,
            writes: Vec::new(),
        }
    }
}

impl Outcome {
    /// The second completion of a zero-copy send.
    pub(super) fn notification() -> Outcome {
        Outcome {
            flags: CQE_F_NOTIF,
            ..Outcome::default()
        }
    }
}

#[derive(Debug)]
struct Finished {
    op: Op,
    outcome: Outcome,
}

/// The kernel's side of one ring.
#[derive(Debug)]
pub(super) struct RingState {
    waiting: BTreeMap<u64, Op>,
    finished: BTreeMap<(u64, u64), Finished>,
    ready: VecDeque<Finished>,
    pub(super) cq: VecDeque<Cqe>,
    overflow: VecDeque<Cqe>,
    cq_entries: usize,
    /// Rings of buffers by group; address and length of each registered buffer.
    pub(super) provided: BTreeMap<u16, Provided>,
    pub(super) registered: Vec<(u64, usize)>,
    pub(super) overflows: u64,
    pub(super) doorbell: Doorbell,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) clock_ns: u64,
    /// Whether a ring that sleeps moves the clock.
    pub(super) steps_itself: bool,
    pub(super) chance: Chance,
    pub(super) faults: Faults,
    pub(super) descriptors: BTreeMap<RawFd, Handle>,
    pub(super) descriptor_limit: usize,
    pub(super) channel_capacity: usize,
    pub(super) files: BTreeMap<Vec<u8>, Rc<RefCell<File>>>,
    pub(super) listeners: BTreeMap<Vec<u8>, Weak<RefCell<Object>>>,
    pub(super) rings: BTreeMap<RawFd, RingState>,
    sequence: u64,
    trace: u64,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> World {
        World {
            clock_ns: 1_000_000_000,
            steps_itself: true,
            chance: Chance::new(seed),
            faults,
            descriptors: BTreeMap::new(),
            descriptor_limit: 1 << 16,
            channel_capacity: 64 * 1024,
            files: BTreeMap::new(),
            listeners: BTreeMap::new(),
            rings: BTreeMap::new(),
            sequence: 0,
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    pub(super) fn strikes(&mut self, rate: impl Fn(&Faults) -> u16) -> bool {
        let rate = rate(&self.faults);
        self.chance.strikes(rate)
    }

    /// A new ring; its descriptor.
    pub(super) fn add_ring(&mut self, cq_entries: u32) -> RawFd {
        let last = self.rings.keys().next_back();
        let fd = last.map_or(FIRST_RING, |last| last + 1);
        self.rings.insert(
            fd,
            RingState {
                waiting: BTreeMap::new(),
                finished: BTreeMap::new(),
                ready: VecDeque::new(),
                cq: VecDeque::new(),
                overflow: VecDeque::new(),
                cq_entries: cq_entries as usize,
                provided: BTreeMap::new(),
                registered: Vec::new(),
                overflows: 0,
                doorbell: Doorbell::by_flag(fd),
            },
        );
        fd
    }

    /// The lowest free descriptor, as Unix has it: numbers are reused as soon as they can.
    pub(super) fn free_descriptor(&self) -> RawFd {
        let mut numbers = FIRST_FD..;
        let free = numbers.find(|fd| !self.descriptors.contains_key(fd));
        free.expect("fewer descriptors than integers")
    }

    /// Gives something a descriptor.
    pub(super) fn install(&mut self, object: Object) -> Result<RawFd, i32> {
        if self.descriptors.len() >= self.descriptor_limit
            || self.strikes(|faults| faults.no_descriptor)
        {
            return Err(libc::EMFILE);
        }
        let fd = self.free_descriptor();
        self.descriptors.insert(fd, Rc::new(RefCell::new(object)));
        Ok(fd)
    }

    /// Drops a descriptor. Operations that use its file go on.
    pub(super) fn close(&mut self, fd: RawFd) -> Result<(), i32> {
        self.descriptors.remove(&fd).map(drop).ok_or(libc::EBADF)
    }

    /// Takes an operation from a submission queue.
    pub(super) fn submit(&mut self, ring: RawFd, sqe: RawSqe) {
        self.sequence += 1;
        self.note([1, u64::from(sqe.opcode), sqe.user_data, self.clock_ns]);
        let mut op = Op {
            target: self.descriptors.get(&sqe.fd).cloned(),
            ..Op::new(self.sequence, sqe)
        };
        match self.prepare(ring, &mut op) {
            Ok(()) => _ = self.pursue(ring, op),
            Err(errno) => self.finish(ring, op, Outcome::from(-errno)),
        }
    }

    /// Attempts an operation, which then waits or is finished, perhaps after some shots. Whether anything moved.
    fn pursue(&mut self, ring: RawFd, mut op: Op) -> bool {
        let mut moved = false;
        while let Some(outcome) = self.attempt(ring, &mut op) {
            moved = true;
            if outcome.flags & CQE_F_MORE == 0 {
                self.finish(ring, op, outcome);
                return moved;
            }
            self.shoot(ring, &mut op, outcome);
        }
        self.ring(ring).waiting.insert(op.sequence, op);
        moved
    }

    /// A completion of an operation that goes on.
    fn shoot(&mut self, ring: RawFd, op: &mut Op, outcome: Outcome) {
        self.sequence += 1;
        let mut shot = Op::new(self.sequence, op.sqe);
        (shot.shoots, shot.told_ns) = (true, op.told_ns);
        op.told_ns = self.finish_at(ring, shot, outcome);
    }

    /// Attempts what waits, until nothing moves any more. Mostly in order of submission; but which of two operations
    /// that wait on one stream is served first, nobody promises.
    pub(super) fn settle(&mut self) {
        loop {
            let mut moved = false;
            for ring in self.rings.keys().copied().collect::<Vec<_>>() {
                let waiting = std::mem::take(&mut self.ring(ring).waiting);
                let mut waiting: Vec<_> = waiting.into_iter().collect();
                if self.strikes(|faults| faults.reorder) {
                    waiting.reverse();
                }
                for (_, op) in waiting {
                    moved |= self.pursue(ring, op);
                }
            }
            if !moved {
                break;
            }
        }
        self.mature();
    }

    /// An operation's end is decided; chance decides when it is told.
    fn finish(&mut self, ring: RawFd, mut op: Op, outcome: Outcome) {
        if op.shoots {
            // After its shots.
            self.sequence += 1;
            op.sequence = self.sequence;
        }
        self.finish_at(ring, op, outcome);
    }

    fn finish_at(&mut self, ring: RawFd, op: Op, outcome: Outcome) -> u64 {
        let held_back = if self.strikes(|faults| faults.delay) {
            1 + self.chance.below(LONGEST_DELAY_NS)
        } else {
            0
        };
        let told_ns = op.told_ns.max(self.clock_ns + held_back);
        let key = (told_ns, op.sequence);
        self.ring(ring)
            .finished
            .insert(key, Finished { op, outcome });
        told_ns
    }

    /// Makes ready what has been held back long enough.
    fn mature(&mut self) {
        for ring in self.rings.keys().copied().collect::<Vec<_>>() {
            let now = self.clock_ns;
            let later = self.ring(ring).finished.split_off(&(now + 1, 0));
            for finished in std::mem::replace(&mut self.ring(ring).finished, later).into_values() {
                let reorder = self.strikes(|faults| faults.reorder);
                let ready = &self.rings[&ring].ready;
                let is_earlier = |other: &Finished| {
                    finished.op.shoots && other.op.sqe.user_data == finished.op.sqe.user_data
                };
                let (first, last) = (
                    ready
                        .iter()
                        .rposition(is_earlier)
                        .map_or(0, |place| place + 1),
                    ready.len(),
                );
                let place = if reorder {
                    first + self.chance.index(last - first + 1)
                } else {
                    last
                };
                self.ring(ring).ready.insert(place, finished);
            }
        }
    }

    /// What an enter does about completions: writes results to memory and CQEs to the queue.
    pub(super) fn post(&mut self, ring: RawFd) {
        let state = self.ring(ring);
        if state.doorbell.take_flag() {
            state.push(Cqe {
                user_data: crate::user_data::WAKE,
                result: 0,
                flags: 0,
            });
        }
        state.flush();
        for _ in 0..POSTED_BY_AN_ENTER {
            let Some(Finished { op, outcome }) = self.ring(ring).ready.pop_front() else {
                break;
            };
            if let Some(lent) = op.lent {
                lent.give_back(&op.received);
            }
            for (address, bytes) in outcome.writes {
                memory::land(address, &bytes);
            }
            self.note([
                2,
                op.sqe.user_data,
                u64::from(outcome.result.cast_unsigned()),
                self.clock_ns,
            ]);
            if outcome.result < 0 || op.sqe.flags & SKIP_SUCCESS == 0 {
                self.ring(ring).push(Cqe {
                    user_data: op.sqe.user_data,
                    result: outcome.result,
                    flags: outcome.flags,
                });
            }
        }
    }

    /// A message from ring to ring: a CQE that the target's next enter brings.
    pub(super) fn message(&mut self, target: RawFd, user_data: u64, result: i32) -> i32 {
        let now = self.clock_ns;
        self.sequence += 1;
        let sequence = self.sequence;
        let Some(state) = self.rings.get_mut(&target) else {
            return -libc::EBADFD;
        };
        // A finished operation of the target, with nothing to it but its CQE.
        let mut sqe = raw::decode(&crate::op::msg::nop());
        sqe.user_data = user_data;
        let op = Op::new(sequence, sqe);
        let outcome = Outcome::from(result);
        state
            .finished
            .insert((now, sequence), Finished { op, outcome });
        0
    }

    /// Ends the waiting operations that `matches` picks, the first or all. How many, and whether one was past
    /// cancelling.
    pub(super) fn cancel(
        &mut self,
        ring: RawFd,
        all: bool,
        matches: impl Fn(&Op) -> bool,
    ) -> (i32, bool) {
        let state = self.ring(ring);
        let late = state
            .finished
            .values()
            .chain(&state.ready)
            .any(|finished| matches(&finished.op));
        let mut picked: Vec<u64> = state
            .waiting
            .values()
            .filter(|op| matches(op))
            .map(|op| op.sequence)
            .collect();
        if !all {
            picked.truncate(1);
        }
        for sequence in &picked {
            let mut op = self
                .ring(ring)
                .waiting
                .remove(sequence)
                .expect("just found there");
            // What was moved before is not taken back.
            let result = match i32::try_from(op.moved).expect("a transfer is below 2 GiB") {
                0 => -libc::ECANCELED,
                moved => moved,
            };
            let mut outcome = Outcome::from(result);
            if op.sqe.opcode == SEND_ZC {
                // Also of a send that came to nothing it is told when its buffer is free.
                outcome.flags = CQE_F_MORE;
                self.shoot(ring, &mut op, outcome);
                outcome = Outcome::notification();
            }
            self.finish(ring, op, outcome);
        }
        (
            i32::try_from(picked.len()).expect("fewer operations than that"),
            late,
        )
    }

    /// The next point in time at which something happens by itself.
    pub(super) fn next_event_ns(&self) -> Option<u64> {
        let finished = self
            .rings
            .values()
            .filter_map(|ring| ring.finished.keys().next().map(|(due, _)| *due));
        let timers = self
            .rings
            .values()
            .flat_map(|ring| ring.waiting.values().filter_map(|op| op.due_ns));
        finished.chain(timers).min()
    }

    pub(super) fn ring(&mut self, fd: RawFd) -> &mut RingState {
        self.rings
            .get_mut(&fd)
            .expect("a ring is there until it is dropped")
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    fn note(&mut self, words: [u64; 4]) {
        for word in words {
            self.trace = (self.trace ^ word)
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(23);
        }
    }
}

impl RingState {
    fn push(&mut self, cqe: Cqe) {
        if self.cq.len() < self.cq_entries && self.overflow.is_empty() {
            self.cq.push_back(cqe);
        } else {
            self.overflows += u64::from(self.overflow.is_empty());
            self.overflow.push_back(cqe);
        }
    }

    /// Moves what overflowed into the queue, as far as there is room now.
    fn flush(&mut self) {
        let room = self.cq_entries - self.cq.len();
        let count = room.min(self.overflow.len());
        self.cq.extend(self.overflow.drain(..count));
    }

    /// Whether an enter would bring something.
    pub(super) fn has_events(&self, now_ns: u64) -> bool {
        !self.cq.is_empty()
            || !self.overflow.is_empty()
            || !self.ready.is_empty()
            || self.doorbell.has_flag()
            || self
                .finished
                .keys()
                .next()
                .is_some_and(|(due, _)| *due <= now_ns)
    }

    /// Whether an operation that has not had its CQE holds memory of the caller.
    pub(super) fn lends(&self) -> bool {
        let finished = self
            .finished
            .values()
            .chain(&self.ready)
            .map(|finished| &finished.op);
        self.waiting
            .values()
            .chain(finished)
            .any(|op| op.lent.is_some())
    }
}
