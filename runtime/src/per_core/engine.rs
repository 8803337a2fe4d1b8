//! The driver behind a core's scheduler: ring, inbox, clock, and the way to sleep.
//!
//! [`poll`](Driver::poll), between two batches of coroutines: drain the inbox; then, if more is ready to run,
//! submit and reap with one enter. If nothing is ready the enter is left to [`park`](Driver::park), which comes
//! next and submits and sleeps in the same call.
//!
//! `park`, when nothing is ready and no receive waits to be begun (then it only submits and reaps):
//! 1. While the window is open (idle.rs): submit, then look at plain memory - completion queue, task-work flag,
//!    inbox - without a system call.
//! 2. Publish "sleeping". From here on, who sends us a message also rings.
//! 3. Look at the port once more: something may have come before the flag was seen.
//! 4. Enter the kernel: submit what is queued, sleep until the first completion, doorbell or the next timer.
//! 5. Take "sleeping" back; drain.
//!
//! Steps 2 and 3 against the sender's push and look at the flag are the store-buffer pattern; the fences that make
//! it safe are in mailbox/port.rs.
#![expect(
    unsafe_code,
    reason = "the thread-local points at the engine of the turn that is on; tokens are words"
)]

use super::fixed::FixedPool;
use super::glance::{Glance, LOOKS_PER_NEWS};
use super::idle::Window;
use super::stats::{self, CoreStats, Counters};
use super::{CoreConfig, Filling};
use crate::fs::Openings;
use crate::io;
use crate::mailbox::{Cluster, InboxRound, OpenTurn, Waiter};
use crate::report;
use crate::watch::Pulse;
use coring_coro::wait;
use coring_coro::{Driver, Scheduler};
use coring_uring::{BufferRing, Feature, OpId, Ring, Token, Wait, monotonic_ns};
use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::hint::spin_loop;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How many looks at memory go between two looks at the clock while the window is open.
const LOOKS_PER_CLOCK: u32 = 16;
/// Waiters that a core keeps for the next waits across cores.
const SPARE_WAITERS: usize = 256;
/// How often is looked whether an operation has ended, for who cannot wait for it, and how long between two looks. Not with
/// sched_yield(2): see `Ring::hand_over`.
const LOOKS_FOR_AN_END: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_micros(20);

/// Everything of a core but its coroutines.
#[derive(Debug)]
pub(crate) struct Engine {
    index: usize,
    ring: RefCell<Ring>,
    cluster: Arc<Cluster>,
    /// The port's.
    open_turn: Arc<OpenTurn>,
    window: RefCell<Window>,
    glance: Cell<Glance>,
    /// Sleep no longer than to this point: the stopping core's own appointments.
    wake_at_ns: Cell<u64>,
    counters: Counters,
    /// The scheduler, while the engine is current.
    scheduler: Cell<Option<NonNull<Scheduler>>>,
    inbox_round: RefCell<InboxRound>,
    /// What pooled receives pick from: `None` inside when the kernel has none to give. Made when first asked for.
    receive_buffers: OnceCell<Option<BufferRing>>,
    receive_pool: (u16, usize),
    /// A coroutine looks after the size of that pool.
    giving_back: Cell<bool>,
    /// What receive streams pick from, and how.
    stream_buffers: OnceCell<Option<BufferRing>>,
    stream_filling: Filling,
    fixed_buffers: FixedPool,
    openings: Openings,
    waiters: RefCell<Vec<Arc<Waiter>>>,
    /// The core's values of each [`Sharded`](crate::Sharded).
    shards: RefCell<HashMap<u64, Rc<dyn Any>>>,
}

thread_local! {
    static CURRENT: Cell<Option<NonNull<Engine>>> = const { Cell::new(None) };
}

/// The engine of the turn that is on, on this thread.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Engine> {
    let engine = CURRENT.get()?;
    // SAFETY: set for the length of a turn by `enter`, which borrows the engine. The lifetime is a lie that callers
    // keep: only coroutines of this core call this, and they use it while they run or wait, inside some turn of it.
    Some(unsafe { engine.as_ref() })
}

/// As [`current`], for callers without an error to return.
#[track_caller]
pub(crate) fn require_current(what: &str) -> &'static Engine {
    current().unwrap_or_else(|| {
        panic!("{what} was called outside a coring runtime: call it inside `Runtime::run`")
    })
}

/// Makes an engine current, together with its scheduler; dropping it restores the one before.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    engine: &'a Engine,
    before: Option<NonNull<Engine>>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT.set(self.before);
        // A core is a value that may be moved now.
        self.engine.scheduler.set(None);
    }
}

impl Engine {
    pub(super) fn new(
        index: usize,
        ring: Ring,
        cluster: Arc<Cluster>,
        config: &CoreConfig,
    ) -> Self {
        Self {
            index,
            ring: RefCell::new(ring),
            open_turn: Arc::clone(cluster.port(index).open_turn()),
            cluster,
            window: RefCell::new(Window::new(config.spin)),
            glance: Cell::new(Glance::new(!config.spin.is_never())),
            wake_at_ns: Cell::new(u64::MAX),
            counters: Counters::default(),
            scheduler: Cell::new(None),
            inbox_round: RefCell::default(),
            receive_buffers: OnceCell::new(),
            receive_pool: config.receive_pool,
            giving_back: Cell::new(false),
            stream_buffers: OnceCell::new(),
            stream_filling: config.stream_filling,
            fixed_buffers: FixedPool::new(config.fixed_buffers),
            openings: Openings::default(),
            waiters: RefCell::default(),
            shards: RefCell::default(),
        }
    }

    /// Makes it current: for the length of a turn of `scheduler`, or of what a core does outside of one.
    pub(super) fn enter<'a>(&'a self, scheduler: &'a Scheduler) -> Entered<'a> {
        self.scheduler.set(Some(NonNull::from(scheduler)));
        Entered {
            engine: self,
            before: CURRENT.replace(Some(NonNull::from(self))),
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The core's sign of life.
    #[inline]
    pub(crate) fn pulse(&self) -> &Pulse {
        self.cluster.port(self.index).pulse()
    }

    /// The core's ring. Borrowed for the length of one call into it, never across a switch.
    #[inline(always)]
    pub(crate) fn ring(&self) -> &RefCell<Ring> {
        &self.ring
    }

    /// The core's pool of receive buffers, if it can have one.
    pub(crate) fn receive_buffers(&self) -> Option<&BufferRing> {
        let make = || {
            let (buffers, bytes) = self.receive_pool;
            let made = self.ring.borrow_mut().provide_buffers(buffers, bytes);
            made.ok()
        };
        self.receive_buffers.get_or_init(make).as_ref()
    }

    pub(crate) fn set_giving_back(&self, does: bool) {
        self.giving_back.set(does);
    }

    /// The pool has become larger: from now on somebody looks after what is not needed of it.
    #[cold]
    fn give_back_buffers(&self) {
        let keeper = coring_coro::Builder::new().name("cold receive buffers");
        self.giving_back
            .set(keeper.spawn(io::give_back_buffers).is_ok());
    }

    /// The pool of receive streams, if there can be one: that of all receives, unless its buffers are filled by many
    /// completions each. And whether a completion may fill several of them.
    pub(crate) fn stream_buffers(&self) -> (Option<&BufferRing>, bool) {
        let make = || {
            let (buffers, bytes) = self.receive_pool;
            let mut ring = self.ring.borrow_mut();
            ring.provide_incremental_buffers(buffers, bytes).ok()
        };
        let own = match self.stream_filling {
            Filling::Incremental => self.stream_buffers.get_or_init(make).as_ref(),
            Filling::Whole | Filling::Bundles => None,
        };
        let bundles = self.stream_filling == Filling::Bundles
            && self.ring.borrow().capabilities().has(Feature::RecvBundle);
        (own.or_else(|| self.receive_buffers()), bundles)
    }

    /// Bytes of one receive buffer.
    pub(crate) fn receive_bytes(&self) -> usize {
        self.receive_pool.1
    }

    /// The core's registered buffers for files.
    #[inline(always)]
    pub(crate) fn fixed_buffers(&self) -> &FixedPool {
        &self.fixed_buffers
    }

    /// The core's opens for reading that are under way.
    #[inline(always)]
    pub(crate) fn openings(&self) -> &Openings {
        &self.openings
    }

    /// What the core's ring and its idle moments have counted.
    pub(crate) fn stats(&self) -> CoreStats {
        let ring = self.ring.borrow();
        let scheduler = self
            .scheduler
            .get()
            .expect("who found the engine found it current");
        // SAFETY: `enter` has it borrowed for as long as the engine is current.
        let scheduler = unsafe { scheduler.as_ref() };
        let port = self.cluster.port(self.index);
        let (inbox_depth, inbox_lanes) = port.depth();
        let (stalls, longest_stall) = port.pulse().stalls();
        let counters = &self.counters;
        CoreStats {
            core: self.index,
            scheduler: scheduler.stats(),
            inbox_depth,
            inbox_lanes,
            inbox_batch: counters.inbox_batch.snapshot(),
            ring: ring.stats(),
            submit_batch: counters.submit_batch.snapshot(),
            complete_batch: counters.complete_batch.snapshot(),
            in_flight: ring.in_flight(),
            receive_buffers: self
                .receive_buffers
                .get()
                .and_then(Option::as_ref)
                .map(BufferRing::stats),
            stream_buffers: self
                .stream_buffers
                .get()
                .and_then(Option::as_ref)
                .map(BufferRing::stats),
            sleeps: counters.sleeps.get(),
            looks: counters.looks.get(),
            stalls,
            longest_stall,
            // Called inside a turn, which is entered into the core's log ring.
            log_dropped: coring_logger::dropped_here(),
        }
    }

    /// A waiter of this core that no coroutine uses.
    pub(crate) fn take_waiter(&self) -> Arc<Waiter> {
        let spare = self.waiters.borrow_mut().pop();
        spare.unwrap_or_else(|| Waiter::of_core(&self.cluster, self.index))
    }

    /// Gives a waiter back, without an errand.
    pub(crate) fn give_waiter(&self, waiter: &Arc<Waiter>) {
        let mut spare = self.waiters.borrow_mut();
        if spare.len() < SPARE_WAITERS {
            spare.push(Arc::clone(waiter));
        }
    }

    pub(crate) fn put_shard(&self, number: u64, value: Rc<dyn Any>) {
        let before = self.shards.borrow_mut().insert(number, value);
        debug_assert!(before.is_none(), "a number is given once");
    }

    pub(crate) fn shard(&self, number: u64) -> Option<Rc<dyn Any>> {
        self.shards.borrow().get(&number).cloned()
    }

    pub(crate) fn take_shard(&self, number: u64) -> Option<Rc<dyn Any>> {
        self.shards.borrow_mut().remove(&number)
    }

    /// Takes out what is left of the core's values, when no coroutine is left to use them.
    pub(super) fn take_shards(&self) -> HashMap<u64, Rc<dyn Any>> {
        self.shards.take()
    }

    /// From now on sleeps end at this time at the latest.
    pub(crate) fn wake_at(&self, ns: u64) {
        self.wake_at_ns.set(ns);
    }

    /// Ends what nobody will end any more, and waits for the rest.
    pub(super) fn drain_ring(&self, deadline_ns: u64) -> bool {
        self.ring.borrow_mut().abandon_multishots();
        loop {
            let settled = self.ring.borrow_mut().settle(deadline_ns, &mut wake);
            let unlent = self.ring.borrow_mut().take_unlent();
            if unlent.is_empty() {
                return settled.unwrap_or(false);
            }
            // A destructor may begin something: a file's does.
            let_go(unlent);
        }
    }

    /// Ends an operation with many completions that nobody wants any more.
    pub(crate) fn abandon(&self, op: OpId) {
        let mut ring = self.ring.borrow_mut();
        ring.abandon(op);
        let unlent = ring.take_unlent();
        drop(ring);
        let_go(unlent);
    }

    /// Has the kernel take what is queued now: the descriptors that it names may be closed after this.
    ///
    /// Called by a coroutine, so inside a turn.
    pub(crate) fn hand_over(&self) {
        let handed_over = self.ring.borrow_mut().hand_over(&mut wake);
        self.check(handed_over);
    }

    /// Has the kernel end an operation that was abandoned, for who cannot wait for the end of the turn: the descriptors
    /// that queued operations name may be closed after this. Mostly the operation is over then, too; a kernel thread that
    /// takes submissions is given some time for that.
    ///
    /// Called by a coroutine, so inside a turn.
    pub(crate) fn end_now(&self, op: OpId) {
        self.hand_over();
        for _ in 0..LOOKS_FOR_AN_END {
            if !self.ring.borrow().is_in_flight(op) {
                return;
            }
            std::thread::sleep(BETWEEN_LOOKS);
            self.turn_ring(Wait::Submit);
        }
    }

    fn drain_inbox(&self, scheduler: &Scheduler) {
        let port = self.cluster.port(self.index);
        port.take_alert();
        let mut round = self.inbox_round.borrow_mut();
        let found = port.drain(&mut round, |start| start.start(scheduler));
        if found > 0 {
            self.counters.inbox_batch.record(found as u64);
        }
    }

    fn turn_ring(&self, wait: Wait) {
        let mut ring = self.ring.borrow_mut();
        let pending = ring.pending();
        let outcome = ring.turn(wait, &mut wake);
        let submitted = pending.saturating_sub(ring.pending());
        let unlent = ring.take_unlent();
        drop(ring);
        if !unlent.is_empty() {
            let_go(unlent);
        }
        let woken = self.check(outcome);
        self.counters.entered(submitted, woken);
        let pool = self.receive_buffers.get().and_then(Option::as_ref);
        if pool.is_some_and(BufferRing::has_grown) && !self.giving_back.get() {
            self.give_back_buffers();
        }
    }

    /// A ring that cannot be entered has operations in flight that will never be reaped.
    #[inline]
    fn check(&self, entered: std::io::Result<usize>) -> usize {
        entered.unwrap_or_else(|error| {
            report::fatal(format_args!(
                "core {} cannot enter its ring: {error}",
                self.index
            ))
        })
    }

    /// The core's number, and what says that a notice without a fence was given in this turn.
    #[inline]
    pub(crate) fn open_turn(&self) -> (usize, &OpenTurn) {
        (self.index, &self.open_turn)
    }

    /// Tries for a moment, before the calling coroutine takes its place in a queue, parks, and lets the core sleep: as
    /// soon as it is `promising`, not before so many spins, and once more at the end. See glance.rs.
    #[inline]
    pub(crate) fn glance<T>(
        &self,
        first_after: usize,
        promising: impl Fn() -> bool,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let glance = self.glance.get();
        let length_ns = glance.length_ns();
        if length_ns == 0 || self.has_other_work() {
            return None;
        }
        for _ in 0..first_after {
            spin_loop();
        }
        let mut until_ns = None;
        loop {
            for _ in 0..LOOKS_PER_NEWS {
                if promising()
                    && let Some(value) = attempt()
                {
                    self.glance.set(glance.found());
                    return Some(value);
                }
                spin_loop();
            }
            let now_ns = monotonic_ns();
            // The first looks are not worth a look at the clock before them.
            let is_over = now_ns >= *until_ns.get_or_insert(now_ns + length_ns);
            if !is_over && !self.has_news() {
                continue;
            }
            let value = attempt();
            if value.is_some() {
                self.glance.set(glance.found());
            } else if is_over {
                self.glance.set(glance.in_vain());
            }
            return value;
        }
    }

    /// Whether a coroutine is ready, or an operation waits for the end of the turn.
    #[inline]
    pub(crate) fn has_other_work(&self) -> bool {
        let Some(scheduler) = self.scheduler.get() else {
            return true;
        };
        if self.ring.borrow().pending() > 0 {
            return true;
        }
        // SAFETY: `enter` has it borrowed for as long as the engine is current.
        let scheduler = unsafe { scheduler.as_ref() };
        scheduler.ready() > 0
    }

    fn has_news(&self) -> bool {
        self.ring.borrow().has_events() || self.cluster.port(self.index).has_news()
    }

    /// Looks at memory until there is news or the time is over. Whether there was news.
    fn look(&self, until_ns: u64) -> bool {
        loop {
            for _ in 0..LOOKS_PER_CLOCK {
                if self.has_news() {
                    stats::add(&self.counters.looks);
                    return true;
                }
                spin_loop();
            }
            if monotonic_ns() >= until_ns {
                return false;
            }
        }
    }

    /// Steps 2 to 5 of the park.
    fn sleep(&self, deadline_ns: Option<u64>) {
        let port = self.cluster.port(self.index);
        port.pulse().sleep();
        port.publish_sleeping();
        if port.has_news() {
            self.turn_ring(Wait::Submit);
        } else {
            self.turn_ring(Wait::Until(deadline_ns));
        }
        port.publish_awake();
        stats::add(&self.counters.sleeps);
    }
}

/// Drops memory that was lent to the kernel. Its destructors are any code, and so run in coroutines; where there can be
/// none, at the end of the core or at the bound, right here.
#[cold]
fn let_go(memory: Vec<Rc<dyn Any>>) {
    for one in memory {
        let name = coring_coro::Builder::new().name("a buffer's destructor");
        report::contain(|| drop(name.spawn(move || drop(one))));
    }
}

/// Wakes the coroutine whose token came back from the ring.
#[inline(always)]
fn wake(token: Token) {
    // SAFETY: every token given to this ring was made by `wait::begin` on this thread (io/submit.rs).
    let token = unsafe { wait::Token::from_raw(token.pointer()) };
    // SAFETY: an operation keeps its coroutine inside the wait until its token has come back.
    unsafe { token.wake() };
}

impl Driver for Engine {
    #[inline]
    fn now(&self) -> u64 {
        monotonic_ns()
    }

    fn poll(&self, scheduler: &Scheduler) {
        #[cfg(all(test, not(loom)))]
        super::fault::strike(self.index);
        self.open_turn().1.end();
        self.drain_inbox(scheduler);
        if scheduler.ready() == 0 {
            return;
        }
        let submit = {
            let ring = self.ring.borrow();
            ring.pending() > 0 || ring.has_events()
        };
        if submit {
            self.turn_ring(Wait::Submit);
        }
    }

    fn park(&self, scheduler: &Scheduler, deadline_ns: Option<u64>) {
        if self.ring.borrow().has_receives_waiting() {
            self.turn_ring(Wait::Submit);
            self.drain_inbox(scheduler);
            return;
        }
        let appointment_ns = self.wake_at_ns.get();
        let deadline_ns = match deadline_ns {
            None if appointment_ns == u64::MAX => None,
            deadline_ns => Some(deadline_ns.unwrap_or(u64::MAX).min(appointment_ns)),
        };
        let switches = || scheduler.stats().switches;
        let window_ns = self.window.borrow_mut().next(monotonic_ns, switches);
        self.wait(scheduler, window_ns, deadline_ns);
        self.window.borrow_mut().went_on(monotonic_ns);
    }
}

impl Engine {
    /// The idle moment itself: a look of at most this length, if any, and else a sleep.
    #[inline]
    fn wait(&self, scheduler: &Scheduler, window_ns: u64, deadline_ns: Option<u64>) {
        if window_ns > 0 {
            self.turn_ring(Wait::Submit);
            if scheduler.ready() > 0 {
                self.window.borrow_mut().looked(true);
                return;
            }
            let window_end_ns = monotonic_ns().saturating_add(window_ns);
            let deadline_reached = |ns| deadline_ns.is_some_and(|deadline_ns| ns >= deadline_ns);
            let found = self.look(window_end_ns.min(deadline_ns.unwrap_or(u64::MAX)));
            if found || deadline_reached(monotonic_ns()) {
                self.window.borrow_mut().looked(true);
                self.turn_ring(Wait::Submit);
                self.drain_inbox(scheduler);
                return;
            }
            self.window.borrow_mut().looked(false);
        }
        self.sleep(deadline_ns);
        self.drain_inbox(scheduler);
    }
}
