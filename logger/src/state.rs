//! What the whole process shares: whether a logger runs, its filter and settings, and how producers and drain wake each other.
//!
//! ```text
//!   Before --start--> Running --shutdown--> After --start--> Running ...
//!                        \--fork--> Forked (in the child) --start--> Running
//! ```
//!
//! Only slow paths come here: the first time a site is reached, a full ring, an error line, a flush. Waking goes through a futex
//! word instead of a condition variable, because it must work in a signal handler.

#![expect(unsafe_code, reason = "futex(2) and pthread_atfork(3)")]

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use log::{Level, LevelFilter};

use crate::callsite::{self, Callsite, Interest};
use crate::context::Hooks;
use crate::filter::Filter;
use crate::ring::Line;
use crate::{crash, memory, producer};

/// What a log call does when its ring is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Full {
    /// The line is lost and counted by level; the next line that gets through is preceded by one that says how many were lost, and since when.
    #[default]
    Drop,
    /// The coroutine is parked, or the foreign thread blocked, until there is room. Where that is impossible (on the core's own
    /// stack, while unwinding, after about a second without progress) the line is lost and counted.
    Wait,
}

/// What producers need to know of the running logger.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) core_ring_bytes: usize,
    pub(crate) thread_ring_bytes: usize,
    pub(crate) max_rings: usize,
    pub(crate) full: Full,
    pub(crate) turn_time: bool,
    pub(crate) hooks: Hooks,
    /// Lines that the drain writes.
    pub(crate) written: Filter,
    /// Lines that are put into the rings: for the flight recorder more than those written.
    pub(crate) recorded: Filter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Before,
    Running,
    After,
    Forked,
}

static PHASE: AtomicU8 = AtomicU8::new(Phase::Before as u8);
static SETTINGS: RwLock<Option<Settings>> = RwLock::new(None);
static EARLY: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn phase() -> Phase {
    match PHASE.load(Ordering::Acquire) {
        0 => Phase::Before,
        1 => Phase::Running,
        2 => Phase::After,
        _ => Phase::Forked,
    }
}

pub(crate) fn is_running() -> bool {
    phase() == Phase::Running
}

fn read<T>(get: impl FnOnce(Option<&Settings>) -> T) -> T {
    get(SETTINGS
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref())
}

/// Puts settings into force. False if a logger runs already.
pub(crate) fn begin(settings: Settings) -> bool {
    let mut slot = SETTINGS.write().unwrap_or_else(PoisonError::into_inner);
    if slot.is_some() && phase() == Phase::Running {
        return false;
    }
    if phase() == Phase::Forked {
        crash::forget_after_fork();
        memory::forget_all();
        producer::begin_after_fork();
    }
    ON_FORK.call_once(register_fork_handler);
    log::set_max_level(
        settings
            .recorded
            .max_level()
            .max(settings.written.max_level()),
    );
    for site in callsite::all() {
        site.set(interest(&settings, site.target, site.level));
    }
    *slot = Some(settings);
    WAKING.0.flush_done.store(
        WAKING.0.flush_wanted.load(Ordering::SeqCst),
        Ordering::SeqCst,
    );
    PHASE.store(Phase::Running as u8, Ordering::Release);
    true
}

/// Closes all gates; lines are ignored from here on.
pub(crate) fn end() {
    let mut slot = SETTINGS.write().unwrap_or_else(PoisonError::into_inner);
    PHASE.store(Phase::After as u8, Ordering::Release);
    log::set_max_level(LevelFilter::Off);
    callsite::all().for_each(|site| {
        site.set(Interest::Off);
    });
    *slot = None;
}

/// Replaces the filters and sets all gates anew.
pub(crate) fn set_filters(written: Option<Filter>, recorded: Option<Filter>) {
    let mut slot = SETTINGS.write().unwrap_or_else(PoisonError::into_inner);
    let Some(settings) = slot.as_mut() else {
        return;
    };
    if let Some(filter) = written {
        settings.written = filter;
    }
    if let Some(filter) = recorded {
        settings.recorded = filter;
    }
    log::set_max_level(
        settings
            .recorded
            .max_level()
            .max(settings.written.max_level()),
    );
    for site in callsite::all() {
        site.set(interest(settings, site.target, site.level));
    }
}

fn interest(settings: &Settings, target: &str, level: Level) -> Interest {
    if settings.written.allows(target, level) {
        Interest::Written
    } else if settings.recorded.allows(target, level) {
        Interest::Recorded
    } else {
        Interest::Off
    }
}

/// What the filters say of a line without call site.
pub(crate) fn interest_of(target: &str, level: Level) -> Interest {
    read(|settings| settings.map_or(Interest::Off, |settings| interest(settings, target, level)))
}

/// Sets the gate of a site that was reached for the first time. Returns its id if the line is to be written.
pub(crate) fn ask(site: &'static Callsite) -> u32 {
    match SETTINGS.try_read() {
        // The gate is set before the lock is released: a filter that replaces this one comes after it and wins.
        Ok(slot) => match &*slot {
            Some(settings) => site.set(interest(settings, site.target, site.level)),
            None if phase() == Phase::Before => {
                EARLY.fetch_add(1, Ordering::Relaxed);
                0
            }
            None => site.set(Interest::Off),
        },
        // The filter is being changed right now, perhaps by the thread that our signal handler interrupts: let the line pass.
        Err(_) => site.id(),
    }
}

/// Lines logged before the first logger ran; counted once.
pub(crate) fn take_early() -> u64 {
    EARLY.swap(0, Ordering::Relaxed)
}

/// Counts a line that could not even be counted in a ring: logged by a signal handler in the middle of another line, or in a forked child.
#[cold]
pub(crate) fn count_refused() {
    REFUSED.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

pub(crate) fn hooks() -> Hooks {
    read(|settings| settings.map_or_else(Hooks::default, |settings| settings.hooks))
}

pub(crate) fn full_policy() -> Full {
    read(|settings| settings.map_or(Full::Drop, |settings| settings.full))
}

pub(crate) fn turn_time() -> bool {
    read(|settings| settings.is_some_and(|settings| settings.turn_time))
}

pub(crate) fn ring_bytes(core: bool) -> usize {
    read(|settings| {
        settings.map_or(64 * 1024, |settings| {
            if core {
                settings.core_ring_bytes
            } else {
                settings.thread_ring_bytes
            }
        })
    })
}

pub(crate) fn max_rings() -> usize {
    read(|settings| settings.map_or(0, |settings| settings.max_rings))
}

/// The words by which producers and drain wake each other. The drain writes to them each time it looks: in lines of their own, since a producer
/// reads its neighbours here in every turn.
#[derive(Debug)]
struct Waking {
    /// What the drain does, as wakers see it.
    drain: AtomicU32,
    /// Tickets: each flush takes one, the drain stores the highest it has served.
    flush_wanted: AtomicU32,
    flush_done: AtomicU32,
}

static WAKING: Line<Waking> = Line(Waking {
    drain: AtomicU32::new(AWAKE),
    flush_wanted: AtomicU32::new(0),
    flush_done: AtomicU32::new(0),
});
const AWAKE: u32 = 0;
/// Or is about to.
const SLEEPS: u32 = 1;
/// Somebody wants a pass that begins later than this.
const ASKED: u32 = 2;

fn futex(word: &AtomicU32, operation: libc::c_int, value: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(|duration| libc::timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    });
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: futex(2) on a word that lives for the whole program; the timeout is null or points at a timespec.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            operation | libc::FUTEX_PRIVATE_FLAG,
            value,
            timeout,
        )
    };
}

/// Wakes the drain if it sleeps, and keeps it from going to sleep if not: its next pass begins later than this. Safe in a signal handler.
pub(crate) fn wake_drain() {
    if WAKING.0.drain.swap(ASKED, Ordering::SeqCst) == SLEEPS {
        futex(&WAKING.0.drain, libc::FUTEX_WAKE, 1, None);
    }
}

/// Sleeps until woken or `timeout` has passed. `idle` is asked after the intention to sleep is public; a waker that comes later finds it.
/// Says whether anybody asked for the pass that follows.
pub(crate) fn sleep_drain(timeout: Duration, idle: impl FnOnce() -> bool) -> bool {
    let order = Ordering::SeqCst;
    let may_sleep = WAKING
        .0
        .drain
        .compare_exchange(AWAKE, SLEEPS, order, order)
        .is_ok();
    if may_sleep && idle() {
        futex(&WAKING.0.drain, libc::FUTEX_WAIT, SLEEPS, Some(timeout));
    }
    WAKING.0.drain.swap(AWAKE, order) == ASKED
}

/// Asks for a flush. Returns the ticket.
pub(crate) fn want_flush() -> u32 {
    let ticket = WAKING
        .0
        .flush_wanted
        .fetch_add(1, Ordering::SeqCst)
        .wrapping_add(1);
    wake_drain();
    ticket
}

/// The highest ticket given out.
pub(crate) fn flush_wanted() -> u32 {
    WAKING.0.flush_wanted.load(Ordering::SeqCst)
}

pub(crate) fn flush_is_done(ticket: u32) -> bool {
    WAKING
        .0
        .flush_done
        .load(Ordering::SeqCst)
        .wrapping_sub(ticket)
        < u32::MAX / 2
}

/// The drain has written everything that was logged before `ticket` was given out.
pub(crate) fn flush_done(ticket: u32) {
    if WAKING.0.flush_done.swap(ticket, Ordering::SeqCst) != ticket {
        futex(&WAKING.0.flush_done, libc::FUTEX_WAKE, u32::MAX >> 1, None);
    }
}

/// Waits for a ticket without parking a coroutine. Safe in a signal handler.
pub(crate) fn wait_for_flush(ticket: u32, timeout: Duration) {
    let seen = WAKING.0.flush_done.load(Ordering::SeqCst);
    if !flush_is_done(ticket) {
        futex(&WAKING.0.flush_done, libc::FUTEX_WAIT, seen, Some(timeout));
    }
}

/// Waits a little for room in a ring. Returns false if that cannot help.
pub(crate) fn wait_for_drain() -> bool {
    const NAP: Duration = Duration::from_micros(100);
    if !is_running() || std::thread::panicking() {
        return false;
    }
    let hooks = hooks();
    if (hooks.pause)(NAP) {
        return true;
    }
    let on_core = hooks.context_id.ask() != 0 || producer::on_core();
    if !on_core {
        std::thread::sleep(NAP);
    }
    !on_core
}

/// Changes in a forked child.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// A number that a forked child does not share with its parent.
pub(crate) fn process() -> u32 {
    PROCESS.load(Ordering::Relaxed)
}

static ON_FORK: std::sync::Once = std::sync::Once::new();

fn register_fork_handler() {
    // SAFETY: the handler is a plain function that lives for ever, and only does what fork(2) allows a child of a threaded process.
    unsafe { libc::pthread_atfork(None, None, Some(in_forked_child)) };
}

/// The child has no drain and must not write into its parent's rings: close all gates. It may start a logger of its own.
unsafe extern "C" fn in_forked_child() {
    PROCESS.fetch_add(1, Ordering::Relaxed);
    crate::drain::forget_reader();
    if is_running() {
        PHASE.store(Phase::Forked as u8, Ordering::Release);
        producer::forget_after_fork();
        callsite::all().for_each(|site| {
            site.set(Interest::Off);
        });
    }
}
