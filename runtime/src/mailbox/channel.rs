//! [`mailbox()`]: a bounded channel from many senders, on any core or thread, to one receiver.
//!
//! ```text
//!   Sender on core 0  --lane--+
//!   Sender on core 1  --lane--+--> Receiver, wherever it is
//!   Sender, a thread  --lane--+
//! ```
//!
//! Messages travel in lanes (lanes.rs): one ring for each sending core, allocated when that core first sends, and one
//! for everybody else. So a send takes no lock and shares no line with other senders. The capacity is that of each
//! lane.
//!
//! The end. The last sender that goes wakes the receiver, which sees the count at zero and looks once more: what was
//! sent before is still received. A receiver that goes marks the mailbox closed, wakes who waits for room, and drops what was
//! under way: it may hold the way of an answer. A sender that slips in behind that finds the mark after it has announced, and drops
//! it itself (ending.rs). A message is moved into its slot and out of it, once each, so it is delivered whole and once, or dropped.
//!
//! Calls that need not wait give way once the time slice is spent, as if they had waited: a stream starves nobody. Single ones look at that once
//! for each stretch of a lane (ring.rs): between two looks a message is a handful of comparisons, a copy and its stores.
//!
//! No wake is lost: `news` and each lane's `room` are queues as argued in wait_queue.rs; a sender pushes before it
//! notifies, a receiver pops before it does. In a stream both leave the fence out (bias.rs).
#![expect(unsafe_code, reason = "the receiver has the right to receive")]

mod batches;

use super::channel_errors::{RecvError, SendError, TryRecvError, TrySendError};
use super::ending::Ending;
use super::lanes::{self, Lane, Lanes, Round};
use super::waiter::Stop;
use super::{Cluster, WaitQueue};
use crate::per_core::{self, Engine};
use crate::report::Contained;
use coring_coro::wait;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A bounded channel: any number of senders on any cores and threads, one receiver.
///
/// What one sender sends arrives in that order. `capacity` is the room for each sending core of the caller's runtime,
/// and for all other threads together; the memory is taken when a core first sends. Outside a runtime all senders
/// share one lane.
///
/// # Panics
///
/// When `capacity` is zero, or so large that no lane could ever be allocated: more than `isize::MAX` messages, or bytes of them. Less than
/// that may still be more than the machine has when a core first sends.
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let (sender, mut receiver) = coring::mailbox(16);
///     coring::spawn_on(1, move || (1..=3).for_each(|n| sender.send(n).unwrap()));
///     assert_eq!(receiver.iter().sum::<i32>(), 6);
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
#[must_use]
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a mailbox has room for at least one message");
    let cluster = per_core::current().map(|engine| Arc::clone(engine.cluster()));
    let shared = Arc::new(Shared {
        lanes: Lanes::new(
            cluster.as_ref().map_or(0, |cluster| cluster.cores()),
            capacity,
        ),
        cluster,
        news: WaitQueue::default(),
        senders: AtomicUsize::new(1),
        ending: Ending::new(),
    });
    let sender = Sender {
        shared: Arc::clone(&shared),
    };
    let round = Round::default();
    (sender, Receiver { shared, round })
}

/// A lane with room, for who puts one message in before anything else runs on its core.
struct Way<'a, T> {
    lane: &'a Lane<T>,
    /// The core, if it has still to see to its announcement's fence.
    unsettled: Option<&'static Engine>,
}

#[derive(Debug)]
pub(super) struct Shared<T> {
    lanes: Lanes<T>,
    /// The runtime whose cores have lanes of their own.
    cluster: Option<Arc<Cluster>>,
    /// Where the receiver waits.
    news: WaitQueue,
    senders: AtomicUsize,
    ending: Ending,
}

/// Sends into a mailbox, from any core or thread. Clone it for more senders.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("waiting", &self.shared.lanes.len())
            .finish()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        Self { shared }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release: what this sender sent is there for who sees the count; pairs with the load in `Receiver::attempt`.
        if self.shared.senders.fetch_sub(1, Ordering::Release) == 1 {
            self.shared.news.notify_all();
        }
    }
}

impl<T> Sender<T> {
    /// Sends without waiting.
    ///
    /// # Errors
    ///
    /// The message comes back when there is no room or no receiver.
    #[inline(always)] // A message made here is then made in its slot: see `try_send_slowly`.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let Some(way) = self.shared.way(false) else {
            return self.shared.try_send_slowly(Some(message));
        };
        // SAFETY: it was found just now.
        unsafe { self.shared.put(way, false, message) };
        Ok(())
    }

    /// Sends, and waits for room.
    ///
    /// # Parks
    ///
    /// While the caller's lane is full: the coroutine, or the thread.
    ///
    /// # Cancellation
    ///
    /// The message comes back: it was not sent.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    #[inline(always)] // A message made here is then made in its slot: see `try_send_slowly`.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let Some(way) = self.shared.way(true) else {
            return self.shared.send_slowly(Some(message), None);
        };
        // SAFETY: it was found just now.
        unsafe { self.shared.put(way, true, message) };
        Ok(())
    }

    /// As [`send`](Self::send), for at the most `limit`.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub fn send_timeout(&self, message: T, limit: Duration) -> Result<(), SendError<T>> {
        self.shared.send(message, Some(limit))
    }

    /// Whether the receiver has gone.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.shared.ending.has_come()
    }
}

impl<T> Shared<T> {
    /// Waits until `take` gives something; `None` when there will never be more.
    #[inline]
    fn wait_for_news<R>(
        &self,
        what_for: &'static str,
        limit: Option<Duration>,
        first_after: usize,
        mut take: impl FnMut() -> Option<R>,
    ) -> Result<Option<R>, RecvError> {
        let reach_senders = || self.lanes.reach_senders(self.cluster.as_ref());
        let attempt = || attempt(self, &mut take);
        self.news
            .wait_for_biased(
                what_for,
                limit,
                attempt,
                first_after,
                || true,
                reach_senders,
            )
            .map_err(stopped)
    }

    /// A way that can be taken at once: mostly one that is known, or one that is found. To be fair is to give way once the time slice is
    /// spent: a sender that always finds room would never let its core have another turn. Once a stretch is enough.
    #[inline(always)]
    fn way(&self, is_fair: bool) -> Option<Way<'_, T>> {
        match self.lanes.of_core(|| self.cluster.as_ref()) {
            // Who slips in after it finds out once it has announced.
            Some((lane, unsettled))
                if !self.ending.has_come()
                    && (lane.knows_room() || room_goes_on(lane, is_fair)) =>
            {
                Some(Way { lane, unsettled })
            }
            _ => self.find_way(),
        }
    }

    /// The caller's lane if it is that of its core and has room.
    #[inline(never)]
    fn find_way(&self) -> Option<Way<'_, T>> {
        // As in `way`.
        if self.ending.has_come() {
            return None;
        }
        match self.lanes.own(self.cluster.as_ref()) {
            (lane, lanes::Sender::Core(engine)) if lane.has_room(engine) => Some(Way {
                lane,
                unsettled: Some(engine),
            }),
            _ => None,
        }
    }

    /// Puts a message in by a way that was found.
    ///
    /// # Safety
    ///
    /// Nothing has run on this core since.
    #[inline(always)]
    unsafe fn put(&self, way: Way<'_, T>, is_fair: bool, message: T) {
        // SAFETY: the caller's promise.
        unsafe { way.lane.put(message) };
        if way.unsettled.is_some() {
            return self.finish(way, is_fair);
        }
        way.lane.announce_settled(&self.news);
        self.drop_if_over();
    }

    /// The rest of a send whose way had to be found.
    #[inline(never)]
    fn finish(&self, Way { lane, unsettled }: Way<'_, T>, is_fair: bool) {
        if let Some(engine) = unsettled {
            self.announce(lane, lanes::Sender::Core(engine));
        }
        if is_fair {
            wait::give_way();
        }
    }

    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        // As in `way`.
        if self.ending.has_come() {
            return Err(TrySendError::Disconnected(message));
        }
        let (lane, sender) = self.lanes.own(self.cluster.as_ref());
        lane.push(sender, message).map_err(TrySendError::Full)?;
        self.announce(lane, sender);
        Ok(())
    }

    /// Tells the receiver. Who slipped in behind its last look drops what nobody will receive.
    #[inline(always)]
    fn announce(&self, lane: &Lane<T>, sender: lanes::Sender) {
        lane.announce(sender, &self.news);
        self.drop_if_over();
    }

    #[inline(always)]
    fn drop_if_over(&self) {
        if self.ending.has_come() {
            // A panic in there is not the sender's own, and would come between it and the message that it gets back.
            drop(self.take_orphans());
        }
    }

    /// What nobody will receive any more, to be dropped: it may hold the way of an answer that somebody waits for.
    #[cold]
    fn take_orphans(&self) -> Contained<impl Iterator<Item = T>> {
        let orphans = self.ending.take_orphans(|| {
            let (mut round, mut orphans) = (Round::default(), Vec::new());
            // SAFETY: the receiver has gone, and its right is ours.
            while unsafe {
                self.lanes
                    .pop_each(&mut round, None, usize::MAX, |orphan| orphans.push(orphan))
            } > 0
            {}
            orphans
        });
        // Dropped out of the lock: destructors are any code.
        Contained(orphans.into_iter())
    }

    pub(super) fn send(&self, message: T, limit: Option<Duration>) -> Result<(), SendError<T>> {
        self.send_slowly(Some(message), limit)
    }

    /// As [`try_send`](Self::try_send), from who has found no room.
    ///
    /// The message comes wrapped, so that this call has no part in where the caller keeps it: whose address nobody wants is made in
    /// the slot. Otherwise it is written to the stack word by word and read from there in larger pieces, which a processor
    /// can do only when those words have left its store buffer, behind the lines of the messages before.
    #[cold]
    #[inline(never)]
    fn try_send_slowly(&self, message: Option<T>) -> Result<(), TrySendError<T>> {
        message.map_or(Ok(()), |message| self.try_send(message))
    }

    /// As [`send`](Self::send); wrapped for the same reason as in [`try_send_slowly`](Self::try_send_slowly).
    #[cold]
    #[inline(never)]
    fn send_slowly(
        &self,
        mut message: Option<T>,
        limit: Option<Duration>,
    ) -> Result<(), SendError<T>> {
        let (lane, _) = self.lanes.own(self.cluster.as_ref());
        let cluster = self.cluster.as_ref();
        let sent = lane.wait_for_room("room in a mailbox", limit, cluster, || {
            match self.try_send(message.take()?) {
                Ok(()) => Some(true),
                Err(TrySendError::Disconnected(back)) => {
                    message = Some(back);
                    Some(false)
                }
                Err(TrySendError::Full(back)) => {
                    message = Some(back);
                    None
                }
            }
        });
        match (sent, message) {
            (Ok(_), None) => Ok(()),
            (Ok(_), Some(back)) => Err(SendError::Disconnected(back)),
            (Err(Stop::Refused(refusal)), Some(back)) => Err(SendError::Refused(back, refusal)),
            (Err(Stop::TimedOut), Some(back)) => Err(SendError::TimedOut(back)),
            (Err(_), None) => unreachable!("a wait that was given up has sent nothing"),
        }
    }
}

/// Receives from a mailbox. May be moved to another core or thread, and waits there.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    round: Round<T>,
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("waiting", &self.len())
            .finish()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let lanes = &self.shared.lanes;
        self.shared.ending.begin(|| lanes.wake_senders());
        // Each sender either finds the mark, or its message is found here.
        lanes.reach_senders(self.shared.cluster.as_ref());
        let mut orphans = self.shared.take_orphans();
        if !thread::panicking() {
            // The first panic goes on to who drops the receiver.
            orphans.0.by_ref().for_each(drop);
        }
    }
}

impl<T> Receiver<T> {
    /// Takes a message that waits.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        match attempt(&self.shared, || pop(&self.shared, &mut self.round)) {
            Some(Some(message)) => Ok(message),
            Some(None) => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Takes a message, and waits for one.
    ///
    /// # Parks
    ///
    /// While there is none: the coroutine, or the thread.
    ///
    /// # Cancellation
    ///
    /// No message is lost: the next call has it.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    #[inline(always)]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        let Self { shared, round } = self;
        // SAFETY: there is one receiver, and its round is borrowed uniquely from it.
        match unsafe { shared.lanes.with_more(round) } {
            // SAFETY: as above.
            Some(lane) => Ok(unsafe { lane.take(|| shared.cluster.as_ref()) }),
            None => self.recv_further(),
        }
    }

    /// A receiver that always finds something would never let its core have another turn: it comes by here once a stretch.
    #[inline(never)]
    fn recv_further(&mut self) -> Result<T, RecvError> {
        let Self { shared, round } = self;
        // SAFETY: as in `recv`.
        if let Some(lane) = unsafe { shared.lanes.with_further(round) } {
            // SAFETY: as above.
            let message = unsafe { lane.take(|| shared.cluster.as_ref()) };
            wait::give_way();
            return Ok(message);
        }
        // SAFETY: as above.
        if let Some(message) = unsafe { shared.lanes.pop_further(round, shared.cluster.as_ref()) } {
            wait::give_way();
            return Ok(message);
        }
        self.recv_within(None)
    }

    /// As [`recv`](Self::recv), for at the most `limit`.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<T, RecvError> {
        self.recv_within(Some(limit))
    }

    /// Apart from the way that is mostly taken: who reads both out of one place in memory copies a message byte by byte.
    #[cold]
    #[inline(never)]
    fn recv_within(&mut self, limit: Option<Duration>) -> Result<T, RecvError> {
        let Self { shared, round } = self;
        let pause = round.end_burst();
        let taken = shared.wait_for_news("a message", limit, pause, || pop(shared, round));
        taken?.ok_or(RecvError::Disconnected)
    }

    /// Messages until all senders have gone, or the caller may not wait any more.
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter(self)
    }

    /// How many messages wait, about.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lanes.len()
    }

    /// Whether none waits, about.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn shared(&self) -> &Shared<T> {
        &self.shared
    }
}

/// Out of the way that is mostly taken. `false` also for who has to give way: after the message, and then the way is another one.
#[inline(never)]
fn room_goes_on<T>(lane: &Lane<T>, is_fair: bool) -> bool {
    (!is_fair || wait::may_go_on()) && lane.look_for_room()
}

#[inline(always)]
fn pop<T>(shared: &Shared<T>, round: &mut Round<T>) -> Option<T> {
    // SAFETY: there is one receiver, and its round is borrowed uniquely from it.
    unsafe { shared.lanes.pop(round, shared.cluster.as_ref()) }
}

/// What `take` gives; `Some(None)` when there will never be more.
#[inline]
fn attempt<T, R>(shared: &Shared<T>, mut take: impl FnMut() -> Option<R>) -> Option<Option<R>> {
    if let Some(taken) = take() {
        return Some(Some(taken));
    }
    // Acquire: pairs with the decrement of each sender: all they sent is visible to a last look.
    (shared.senders.load(Ordering::Acquire) == 0).then(take)
}

fn stopped(stop: Stop) -> RecvError {
    match stop {
        Stop::Refused(refusal) => RecvError::Refused(refusal),
        Stop::TimedOut => RecvError::TimedOut,
    }
}

/// See [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T>(&'a mut Receiver<T>);

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}
