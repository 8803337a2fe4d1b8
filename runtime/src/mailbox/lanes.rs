//! Lanes: many senders, one receiver, one ring for each pair of cores.
//!
//! ```text
//!   core 0 --ring--+
//!   core 1 --------+--> receiver takes from one lane after the other
//!   core 2 --ring--+
//!   threads --ring-+    (under a lock for the senders)
//! ```
//!
//! A lane is allocated by the first message that is sent through it: two cores that never talk cost the two words
//! of its place. Each lane is first in first out, so what one sender sends arrives in that order; between lanes the
//! receiver goes round, a bounded number of messages from each.
//!
//! Who the one producer of a lane is: lane `i` belongs to core `i` of this cluster, and a push does not switch, so
//! two coroutines of that core push one after the other on one thread. Everybody else - foreign threads, cores of
//! other runtimes - uses the last lane, and pushes under its lock.
//!
//! Who waits for room leaves itself in the lane's queue (`room`). A lane that is full never makes a core
//! wait, only the coroutine that sends: in a cycle of full lanes every core still drains its own, so there is no
//! deadlock between cores.
#![expect(
    unsafe_code,
    reason = "keeps the rings' promise: one producer a lane, one consumer for all"
)]

use super::Cluster;
use super::bias::{self, Bias};
use super::ring::{Filled, Ring};
use super::wait_queue::WaitQueue;
use super::waiter::Stop;
use crate::per_core::{self, Engine};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, compiler_fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Messages taken from one lane before the next one has its turn.
const ROUND: usize = 32;
/// Spins of who leaves the lines of a stream alone for a moment, at the most: about a microsecond, in which batches do not fill a lane.
const LONGEST_PAUSE: usize = 64;

/// The way of one sending core to the receiver.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    ring: Ring<T>,
    /// Who waits for room.
    room: WaitQueue,
    /// Of who sends, towards the receiver.
    pushes: Bias,
    /// Of who receives, towards those who wait for room.
    pops: Bias,
    /// Held by threads while they push; the lane of a core needs none.
    threads: Mutex<()>,
}

/// The lanes to one receiver.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    /// One for each core, and the last for everybody else.
    lanes: Box<[OnceLock<Box<Lane<T>>>]>,
    /// How many are open.
    open: AtomicUsize,
    capacity: usize,
}

/// Where the receiver is in its round. Belongs to who has the right to receive.
#[derive(Debug)]
pub(crate) struct Round<T> {
    /// The lane it took the last message from.
    lane: Option<NonNull<Lane<T>>>,
    /// The lanes that were open when it last looked.
    open: Vec<usize>,
    at: usize,
    taken: usize,
    /// Messages taken, before those of this lane's turn, since a look that found none.
    burst: usize,
}

// SAFETY: the lane is used with the lanes only, which may be used by any thread if `T: Send`.
unsafe impl<T: Send> Send for Round<T> {}
// SAFETY: as above; and nothing is done with a shared one.
unsafe impl<T: Send> Sync for Round<T> {}

impl<T> Default for Round<T> {
    fn default() -> Self {
        Self {
            lane: None,
            open: Vec::new(),
            at: 0,
            taken: 0,
            burst: 0,
        }
    }
}

impl<T> Lanes<T> {
    /// Room for `capacity` messages of each sending core.
    ///
    /// # Panics
    ///
    /// When no lane could have that: here, and not in whoever sends first.
    pub(crate) fn new(cores: usize, capacity: usize) -> Self {
        assert!(
            Ring::<T>::is_possible(capacity),
            "room for {capacity} messages is more than an address space holds"
        );
        Self {
            lanes: (0..=cores).map(|_| OnceLock::new()).collect(),
            open: AtomicUsize::new(0),
            capacity,
        }
    }

    /// The lane of the caller, for a cluster's lanes.
    #[inline(always)]
    pub(crate) fn own(&self, cluster: Option<&Arc<Cluster>>) -> (&Lane<T>, Sender) {
        let sender = here(cluster).map_or(Sender::Thread, Sender::Core);
        let index = match sender {
            Sender::Core(engine) => engine.index(),
            Sender::Thread => self.lanes.len() - 1,
        };
        (self.lane(index), sender)
    }

    /// The lane of the caller's core, if it has been opened, and the core; without it, if that announces without a fence what it puts in.
    #[inline(always)]
    pub(crate) fn of_core<'a>(
        &self,
        cluster: impl FnOnce() -> Option<&'a Arc<Cluster>>,
    ) -> Option<(&Lane<T>, Option<&'static Engine>)> {
        let engine = per_core::current()?;
        // Maybe somebody else's, if the engine is of another cluster: then that has no bias on it.
        let lane = self.lanes.get(engine.index())?.get()?;
        if lane.pushes.is_settled(engine.open_turn().1) {
            return Some((lane, None));
        }
        Arc::ptr_eq(engine.cluster(), cluster()?).then_some((lane, Some(engine)))
    }

    #[inline(always)]
    fn lane(&self, index: usize) -> &Lane<T> {
        match self.lanes[index].get() {
            Some(lane) => lane,
            None => self.open_lane(index),
        }
    }

    #[cold]
    fn open_lane(&self, index: usize) -> &Lane<T> {
        self.lanes[index].get_or_init(|| {
            let lane = Box::new(Lane {
                ring: Ring::new(self.capacity),
                room: WaitQueue::default(),
                pushes: Bias::new(),
                pops: Bias::new(),
                threads: Mutex::new(()),
            });
            // Before the lane is visible: a receiver that sees the number looks until it has found it.
            self.open.fetch_add(1, Ordering::Release);
            lane
        })
    }

    /// How many messages wait, about.
    pub(crate) fn len(&self) -> usize {
        let open = self.lanes.iter().filter_map(|lane| lane.get());
        open.map(|lane| lane.ring.len()).sum()
    }

    /// Lanes that have been used.
    pub(crate) fn used(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether a message waits. Needs no right to receive.
    #[inline]
    pub(crate) fn has_messages(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
            && self
                .lanes
                .iter()
                .filter_map(|lane| lane.get())
                .any(|lane| !lane.ring.is_empty())
    }

    /// Wakes all who wait for room.
    pub(crate) fn wake_senders(&self) {
        let open = self.lanes.iter().filter_map(|lane| lane.get());
        open.for_each(|lane| lane.room.notify_all());
    }

    /// Before the last look of a receiver that is about to wait in `news`: reaches senders that notify it without a
    /// fence.
    pub(crate) fn reach_senders(&self, cluster: Option<&Arc<Cluster>>) {
        let open = self.lanes.iter().filter_map(|lane| lane.get());
        reach(open.map(|lane| &lane.pushes), cluster);
    }

    /// Takes a message. The room it leaves is announced. `cluster` is that of the lanes.
    ///
    /// # Safety
    ///
    /// One receiver at a time, and its round is of these lanes.
    #[inline(always)]
    pub(crate) unsafe fn pop(
        &self,
        round: &mut Round<T>,
        cluster: Option<&Arc<Cluster>>,
    ) -> Option<T> {
        // SAFETY: the caller's promise.
        match unsafe { self.with_more(round) } {
            // SAFETY: as above, and it has more.
            Some(lane) => Some(unsafe { lane.take(|| cluster) }),
            // SAFETY: as above.
            None => unsafe { self.pop_further(round, cluster) },
        }
    }

    /// The lane of the last message, if the last look has seen more in it: counted then.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[inline(always)]
    pub(crate) unsafe fn with_more(&self, round: &Round<T>) -> Option<&Lane<T>> {
        // SAFETY: it is one of these lanes, and they do not close.
        let lane = unsafe { round.lane?.as_ref() };
        (lane.ring.seen() > 0).then_some(lane)
    }

    /// As [`with_more`](Self::with_more) when there is none, if a look before that has seen more, and there is no other lane whose turn
    /// it could be.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[inline(always)]
    pub(crate) unsafe fn with_further(&self, round: &mut Round<T>) -> Option<&Lane<T>> {
        if round.open.len() != 1 {
            return None;
        }
        // SAFETY: as in `with_more`.
        let lane = unsafe { round.lane?.as_ref() };
        // SAFETY: the caller's promise.
        unsafe { lane.ring.messages_go_on() }.then(|| {
            round.taken += lane.ring.seen();
            lane
        })
    }

    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[inline(never)]
    pub(crate) unsafe fn pop_further(
        &self,
        round: &mut Round<T>,
        cluster: Option<&Arc<Cluster>>,
    ) -> Option<T> {
        let (lane, message) = self.visit(round, |lane, _| {
            // SAFETY: passed on to the caller.
            let message = unsafe { lane.ring.pop() }?;
            lane.tell_of_room(|| cluster);
            Some(((NonNull::from(lane), message), 1 + lane.ring.seen()))
        })?;
        round.lane = Some(lane);
        Some(message)
    }

    /// As [`pop`](Self::pop), up to `most` of them, each given to `each`; announces room once a lane. How many it took.
    ///
    /// # Safety
    ///
    /// One receiver at a time, also while `each` runs, which may be any code.
    #[inline]
    pub(crate) unsafe fn pop_each(
        &self,
        round: &mut Round<T>,
        cluster: Option<&Arc<Cluster>>,
        most: usize,
        mut each: impl FnMut(T),
    ) -> usize {
        self.see_lanes(round);
        // No more than can have waited: senders that refill their lanes all the while do not make it longer.
        let most = most.min(self.capacity.saturating_mul(round.open.len()));
        let mut taken = 0;
        while taken < most {
            let some = self.visit(round, |lane, share| {
                let leaving = Leaving {
                    lane,
                    cluster,
                    before: lane.ring.taken(),
                };
                // SAFETY: passed on to the caller.
                let some = unsafe { lane.ring.pop_each(share.min(most - taken), &mut each) };
                drop(leaving);
                (some > 0).then_some((some, some))
            });
            let Some(some) = some else { break };
            taken += some;
        }
        taken
    }

    /// The lane whose turn it is, of those that the round knows. `None` if there is none.
    #[inline(always)]
    fn at(&self, round: &mut Round<T>) -> Option<&Lane<T>> {
        if round.taken >= ROUND {
            round.next();
        }
        self.lanes
            .get(*round.open.get(round.at)?)?
            .get()
            .map(|lane| &**lane)
    }

    /// Makes the round one of all lanes that are open now.
    #[inline(always)]
    fn see_lanes(&self, round: &mut Round<T>) {
        if round.open.len() != self.open.load(Ordering::Acquire) {
            self.look_for_lanes(round);
        }
    }

    #[cold]
    fn look_for_lanes(&self, round: &mut Round<T>) {
        round.open = (0..self.lanes.len())
            .filter(|&index| self.lanes[index].get().is_some())
            .collect();
        // Lanes do not close.
        debug_assert!(round.at == 0 || round.at < round.open.len());
    }

    /// Goes round, from the lane whose turn it is, until `take` gives something. It is told how many messages the lane
    /// may still give in its turn, and tells how many it took.
    #[inline]
    fn visit<R>(
        &self,
        round: &mut Round<T>,
        mut take: impl FnMut(&Lane<T>, usize) -> Option<(R, usize)>,
    ) -> Option<R> {
        // Before they are counted: a lane that has opened is among those that are visited. This look may be the last before a park.
        self.see_lanes(round);
        for _ in 0..round.open.len() {
            // Not another look for lanes: one that opens meanwhile would move the others on, and the last would not be visited.
            let lane = self.at(round)?;
            // Who is alone holds nobody up.
            let share = match round.open.len() {
                1 => usize::MAX,
                _ => ROUND - round.taken,
            };
            if let Some((what, taken)) = take(lane, share) {
                round.taken += taken;
                return Some(what);
            }
            round.next();
        }
        None
    }
}

impl<T> Round<T> {
    /// Ends a burst. For how many spins the receiver is to leave the lanes alone, before it looks again: after a burst there is
    /// likely to be another, and who looks all the while takes the lines away from who writes them, and then has them one by one.
    pub(super) fn end_burst(&mut self) -> usize {
        match std::mem::take(&mut self.burst) {
            0 | 1 => 0,
            burst => burst.saturating_mul(8).min(LONGEST_PAUSE),
        }
    }

    /// On to the next lane.
    #[inline]
    fn next(&mut self) {
        self.burst = self.burst.saturating_add(self.taken);
        self.taken = 0;
        self.at += 1;
        if self.at >= self.open.len() {
            self.at = 0;
        }
    }
}

/// Who pushes into a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sender {
    /// The core whose lane it is.
    Core(&'static Engine),
    /// Anybody else.
    Thread,
}

/// The core that the caller runs on, if it is one of this cluster.
#[inline]
pub(crate) fn here(cluster: Option<&Arc<Cluster>>) -> Option<&'static Engine> {
    let engine = per_core::current()?;
    Arc::ptr_eq(engine.cluster(), cluster?).then_some(engine)
}

/// Before the last look of who is about to wait for one of these.
fn reach<'a>(mut notifiers: impl Iterator<Item = &'a Bias>, cluster: Option<&Arc<Cluster>>) {
    let Some(cluster) = cluster else {
        // Nobody has a turn: nobody leaves a fence out.
        return;
    };
    if notifiers.any(|bias| bias.needs_barrier(|core| cluster.port(core).open_turn())) {
        bias::all_threads();
    }
}

impl<T> Lane<T> {
    /// Tells the receiver, which waits in `news`, that there is something in the lane. `sender` as in
    /// [`push`](Self::push).
    #[inline(always)]
    pub(crate) fn announce(&self, sender: Sender, news: &WaitQueue) {
        match sender {
            Sender::Core(engine) => news.notify_one_biased(&self.pushes, Some(engine.open_turn())),
            // Out of the lock, and with other threads: a notifier of its own each time.
            Sender::Thread => news.notify_one(),
        };
    }

    /// Wakes one who waits for room, after a message was taken. Whether there was one.
    #[inline(always)]
    fn tell_of_room<'a>(&self, cluster: impl FnOnce() -> Option<&'a Arc<Cluster>>) -> bool {
        if !per_core::current().is_some_and(|here| self.pops.is_settled(here.open_turn().1)) {
            self.settle_pops(cluster());
        }
        self.room.notify_one_settled(&self.pops)
    }

    #[inline(never)]
    fn settle_pops(&self, cluster: Option<&Arc<Cluster>>) {
        self.pops.settle(here(cluster).map(Engine::open_turn));
    }

    /// Takes the oldest message, and announces the room it leaves.
    ///
    /// # Safety
    ///
    /// One receiver at a time, who has [found](Lanes::with_more) this lane with a message.
    #[inline(always)]
    pub(crate) unsafe fn take<'a>(&self, cluster: impl FnOnce() -> Option<&'a Arc<Cluster>>) -> T {
        // SAFETY: the caller's promise.
        let message = unsafe { self.ring.take() };
        self.tell_of_room(cluster);
        message
    }

    /// Waits until `attempt` gives something, which it may after each pop. A glance is for a quarter of the room, and begins when
    /// some of it may be free: who sends into each slot as it becomes free fetches the receiver's index for each message.
    pub(crate) fn wait_for_room<R>(
        &self,
        what_for: &'static str,
        limit: Option<Duration>,
        cluster: Option<&Arc<Cluster>>,
        attempt: impl FnMut() -> Option<R>,
    ) -> Result<R, Stop> {
        let is_roomy = || self.ring.len() <= self.ring.capacity() / 4 * 3;
        let reach_receiver = || reach([&self.pops].into_iter(), cluster);
        let pause = (self.ring.capacity() / 16).min(LONGEST_PAUSE);
        self.room
            .wait_for_biased(what_for, limit, attempt, pause, is_roomy, reach_receiver)
    }

    /// Whether the core that the lane belongs to, and the caller runs on, can put a message in.
    #[inline(always)]
    pub(crate) fn has_room(&self, _: &'static Engine) -> bool {
        // SAFETY: as in `push`.
        unsafe { self.ring.has_room() }
    }

    /// Whether the core that the lane belongs to, and the caller runs on, knows room for a message.
    #[inline(always)]
    pub(crate) fn knows_room(&self) -> bool {
        self.ring.knows_room()
    }

    /// As [`has_room`](Self::has_room), for who [knows none](Self::knows_room).
    #[inline(always)]
    pub(crate) fn look_for_room(&self) -> bool {
        // SAFETY: as in `push`: it is this core's.
        unsafe { self.ring.look_for_room() }
    }

    /// Puts a message in, from the core that the lane belongs to.
    ///
    /// # Safety
    ///
    /// There is room, as the calls above tell, and nothing has run on the core since.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, message: T) {
        // SAFETY: as in `push`, and the caller's promise.
        unsafe { self.ring.put(message) }
    }

    /// As [`announce`](Self::announce), if the lane was [without a fence](Lanes::of_core) before the message was put in, in this turn.
    #[inline(always)]
    pub(crate) fn announce_settled(&self, news: &WaitQueue) {
        // As in `is_settled`: the message is in before anybody is looked for.
        compiler_fence(Ordering::SeqCst);
        news.notify_one_settled(&self.pushes);
    }

    /// Puts a message in. `sender` came with the lane from [`Lanes::own`], in the same turn of the same core.
    #[inline(always)]
    pub(crate) fn push(&self, sender: Sender, message: T) -> Result<(), T> {
        if matches!(sender, Sender::Thread) {
            return self.push_locked(message);
        }
        // SAFETY: the lane of a core is pushed to by that core's thread only, the last lane under its lock.
        unsafe { self.ring.push(message) }
    }

    #[cold]
    fn push_locked(&self, message: T) -> Result<(), T> {
        let _threads = self.exclude(Sender::Thread);
        // SAFETY: as in `push`.
        unsafe { self.ring.push(message) }
    }

    /// As [`Ring::fill`], on the core that the lane belongs to.
    #[inline]
    pub(crate) fn fill(
        &self,
        _: &'static Engine,
        messages: &mut impl Iterator<Item = T>,
    ) -> Filled<T> {
        // SAFETY: as in `push`; and whatever the iterator does, it comes back on this core.
        unsafe { self.ring.fill(messages) }
    }

    /// As [`Ring::show_group`], on the core that the lane belongs to.
    pub(crate) fn show_group(&self, _: &'static Engine) {
        // SAFETY: as in `push`.
        unsafe { self.ring.show_group() };
    }

    /// As [`push`](Self::push), as many as there is room for, from the front. How many.
    pub(crate) fn push_many(&self, sender: Sender, messages: &mut Vec<T>) -> usize {
        let _threads = self.exclude(sender);
        // SAFETY: as in `push`.
        unsafe { self.ring.push_many(messages) }
    }

    fn exclude(&self, sender: Sender) -> Option<MutexGuard<'_, ()>> {
        match sender {
            Sender::Core(_) => None,
            Sender::Thread => Some(self.threads.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// Tells as many who wait for room as messages were taken out, also when one of those panics.
struct Leaving<'a, T> {
    lane: &'a Lane<T>,
    cluster: Option<&'a Arc<Cluster>>,
    before: usize,
}

impl<T> Drop for Leaving<'_, T> {
    fn drop(&mut self) {
        for _ in 0..self.lane.ring.taken().wrapping_sub(self.before) {
            if !self.lane.tell_of_room(|| self.cluster) {
                break;
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
