//! What a thread does, asked by a signal: the coroutine that runs on it, and the return addresses of its stack.
//!
//! ```text
//!   asker                         handler, on the thread that was asked
//!   IDLE -> ASKED, signal  ---->  ASKED -> BUSY, is it this thread? write, BUSY -> DONE
//!   DONE -> IDLE: read     <----
//!   too late: ASKED -> IDLE       a signal that finds no question is passed on to who had it before
//! ```
//!
//! There is one place to write to, and askers take turns (a lock). Every word of it is an atomic: BUSY to DONE (Release) shows
//! them to who has seen DONE (Acquire).
//!
//! The handler allocates nothing, takes no lock and runs on an alternate stack of our own, since a coroutine's may be all but
//! full and std's is too small for an unwinder. The walk is libgcc's `_Unwind_Backtrace`. With glibc 2.35 and later
//! it finds unwinding tables without a lock (`_dl_find_object` is async-signal-safe); with others it may wait for the
//! dynamic loader, so there only the coroutine is told, without its stack. Naming the addresses is left to the asker.
//! Inside a switch of stacks the tables are wrong, and a walk reads where nothing is mapped; while a panic unwinds
//! they may be, too. There only the coroutine is told.
//!
//! The signal is SIGURG: it is ignored by default, nobody waits for it, and debuggers let it pass. A handler that the program
//! had installed before is called for those that are not ours.
#![expect(unsafe_code, reason = "a signal handler and its alternate stack")]

use super::{Pulse, cause};
use coring_coro::with_running;
use memmap2::MmapMut;
use std::ffi::c_void;
use std::fmt;
use std::io;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const SIGNAL: libc::c_int = libc::SIGURG;
/// Return addresses kept.
const FRAMES: usize = 64;
const NAME_BYTES: usize = 128;
/// Room for the kernel's frame (11 KiB with AMX state) and for libgcc's unwinder (5 KiB, measured).
const STACK_BYTES: usize = 64 * 1024;
/// A thread that takes no signal for so long waits in the kernel, or blocks it.
const PATIENCE: Duration = Duration::from_millis(200);
const LOOK_AGAIN: Duration = Duration::from_micros(100);

const IDLE: u32 = 0;
const ASKED: u32 = 1;
const BUSY: u32 = 2;
const DONE: u32 = 3;

/// Where the handler writes.
struct Place {
    state: AtomicU32,
    /// Who is asked.
    thread: AtomicI32,
    /// Null when no coroutine ran.
    site: AtomicPtr<Location<'static>>,
    name: [AtomicU8; NAME_BYTES],
    name_bytes: AtomicUsize,
    /// Where the thread was interrupted, if that is known here.
    interrupted_at: AtomicUsize,
    frames: [AtomicUsize; FRAMES],
    frame_count: AtomicUsize,
}

static PLACE: Place = Place {
    state: AtomicU32::new(IDLE),
    thread: AtomicI32::new(0),
    site: AtomicPtr::new(ptr::null_mut()),
    name: [const { AtomicU8::new(0) }; NAME_BYTES],
    name_bytes: AtomicUsize::new(0),
    interrupted_at: AtomicUsize::new(0),
    frames: [const { AtomicUsize::new(0) }; FRAMES],
    frame_count: AtomicUsize::new(0),
};

/// Askers take turns.
static ASKING: Mutex<()> = Mutex::new(());

/// What handled the signal before.
static PREVIOUS: OnceLock<io::Result<libc::sigaction>> = OnceLock::new();

/// What a thread did when it was asked.
#[derive(Debug)]
pub(crate) struct Captured {
    /// Who ran, and where it was spawned. `None`: the core's own loop.
    coroutine: Option<(String, &'static Location<'static>)>,
    /// Return addresses, the innermost first.
    frames: Vec<usize>,
}

impl Pulse {
    /// Asks the thread that turns this core what it does. `None` when it does not answer.
    pub(crate) fn capture(&self) -> Option<Captured> {
        // Held until the answer is there: the thread cannot go meanwhile.
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        ask((*thread)?)
    }
}

/// Installs the handler, once for the process.
pub(crate) fn install() -> bool {
    let previous = PREVIOUS.get_or_init(|| {
        // The unwinder sets itself up at its first use: not in a handler.
        walk(|_| true);
        // SAFETY: a zeroed sigaction is a valid value of this plain C struct.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: as above.
        let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: both point to valid structs; what the handler does is argued in the head.
        match unsafe { libc::sigaction(SIGNAL, &raw const action, &raw mut previous) } {
            0 => Ok(previous),
            _ => Err(io::Error::last_os_error()),
        }
    });
    previous.is_ok()
}

/// The calling thread, as the kernel numbers it.
pub(crate) fn thread_id() -> libc::pid_t {
    // SAFETY: it only asks.
    unsafe { libc::gettid() }
}

fn ask(thread: libc::pid_t) -> Option<Captured> {
    let _turn = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
    if !install() {
        return None;
    }
    PLACE.thread.store(thread, Ordering::Relaxed);
    PLACE.state.store(ASKED, Ordering::Release);
    // SAFETY: it only asks.
    let process = unsafe { libc::getpid() };
    // SAFETY: plain numbers; `thread` is one of ours (see `Pulse::capture`).
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGNAL) };
    let asked = Instant::now();
    while PLACE.state.load(Ordering::Acquire) != DONE {
        if asked.elapsed() > PATIENCE {
            let withdrawn =
                PLACE
                    .state
                    .compare_exchange(ASKED, IDLE, Ordering::Relaxed, Ordering::Relaxed);
            if withdrawn.is_ok() {
                return None;
            }
        }
        thread::sleep(LOOK_AGAIN);
    }
    let captured = read();
    PLACE.state.store(IDLE, Ordering::Relaxed);
    Some(captured)
}

fn read() -> Captured {
    let count = |counter: &AtomicUsize, most: usize| counter.load(Ordering::Relaxed).min(most);
    let name = &PLACE.name[..count(&PLACE.name_bytes, NAME_BYTES)];
    let name: Vec<u8> = name
        .iter()
        .map(|byte| byte.load(Ordering::Relaxed))
        .collect();
    let site = PLACE.site.load(Ordering::Relaxed);
    // SAFETY: null, or from a `&'static Location` in `answer`.
    let site = unsafe { site.as_ref() };
    let frames = &PLACE.frames[..count(&PLACE.frame_count, FRAMES)];
    let frames = frames.iter().map(|frame| frame.load(Ordering::Relaxed));
    let frames: Vec<usize> = frames.collect();
    // The first ones are those of the handler itself.
    let at = PLACE.interrupted_at.load(Ordering::Relaxed);
    let own = frames.iter().position(|frame| *frame == at).unwrap_or(0);
    Captured {
        coroutine: site.map(|site| (String::from_utf8_lossy(&name).into_owned(), site)),
        frames: frames[own..].to_vec(),
    }
}

/// The handler: no allocation, no lock, errno as before.
extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: every thread has its errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { errno.read() };
    let ours = PLACE.thread.load(Ordering::Relaxed) == thread_id()
        && PLACE
            .state
            .compare_exchange(ASKED, BUSY, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
    if ours {
        answer(context);
        PLACE.state.store(DONE, Ordering::Release);
    } else {
        chain(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { errno.write(before) };
}

fn answer(context: *mut c_void) {
    let switching = with_running(|running| {
        let name = running.and_then(|running| running.name).unwrap_or("");
        let bytes = name.bytes().zip(&PLACE.name);
        let count = bytes
            .map(|(byte, place)| place.store(byte, Ordering::Relaxed))
            .count();
        PLACE.name_bytes.store(count, Ordering::Relaxed);
        let site = running.map_or(ptr::null(), |running| ptr::from_ref(running.spawn_site));
        PLACE.site.store(site.cast_mut(), Ordering::Relaxed);
        running.is_some_and(|running| running.switching)
    });
    PLACE
        .interrupted_at
        .store(interrupted_at(context), Ordering::Relaxed);
    let mut count = 0;
    // Unwinding, libgcc overwrites the saved registers of its own frames: a walk through those can fault, too.
    if !switching && !thread::panicking() {
        walk(|frame| {
            PLACE.frames[count].store(frame, Ordering::Relaxed);
            count += 1;
            count < FRAMES
        });
    }
    PLACE.frame_count.store(count, Ordering::Relaxed);
}

/// The instruction that was interrupted; zero where we do not know how to read it.
fn interrupted_at(context: *mut c_void) -> usize {
    // SAFETY: the kernel passes a valid ucontext to a handler with SA_SIGINFO.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    #[cfg(target_arch = "x86_64")]
    let address = context.uc_mcontext.gregs[libc::REG_RIP as usize].cast_unsigned();
    #[cfg(target_arch = "aarch64")]
    let address = context.uc_mcontext.pc;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let address = 0u64;
    usize::try_from(address).unwrap_or(0)
}

/// Visits the return addresses of the calling thread's stack while `visit` says so, if that is safe in a handler.
fn walk(mut visit: impl FnMut(usize) -> bool) {
    if !tables_need_no_lock() {
        return;
    }
    // SAFETY: it may race with nothing but the unwinder's own first use, which `install` sees to.
    unsafe { backtrace::trace_unsynchronized(|frame| visit(frame.ip().addr())) };
}

/// Whether the unwinder finds its tables without the dynamic loader's lock: glibc 2.35.
fn tables_need_no_lock() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    let ask = || {
        #[cfg(target_env = "gnu")]
        {
            // SAFETY: it only asks.
            let version = unsafe { libc::gnu_get_libc_version() };
            // SAFETY: a constant string that ends with a zero.
            let version = unsafe { std::ffi::CStr::from_ptr(version) };
            let version = version.to_str().unwrap_or_default();
            let mut parts = version
                .split('.')
                .map(|part| part.parse::<u32>().unwrap_or(0));
            (parts.next(), parts.next()) >= (Some(2), Some(35))
        }
        #[cfg(not(target_env = "gnu"))]
        false
    };
    *ANSWER.get_or_init(ask)
}

/// Hands a signal that is not ours to who had it before.
fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(Ok(action)) = PREVIOUS.get() else {
        return;
    };
    if action.sa_sigaction == libc::SIG_DFL || action.sa_sigaction == libc::SIG_IGN {
        // The default of SIGURG is to do nothing.
        return;
    }
    if action.sa_flags & libc::SA_SIGINFO != 0 {
        type WithInfo = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: SA_SIGINFO says that the stored address is a function of this signature.
        let function = unsafe { std::mem::transmute::<usize, WithInfo>(action.sa_sigaction) };
        function(signal, info, context);
    } else {
        type Plain = extern "C" fn(libc::c_int);
        // SAFETY: without SA_SIGINFO the stored address is a function of this signature.
        let function = unsafe { std::mem::transmute::<usize, Plain>(action.sa_sigaction) };
        function(signal);
    }
}

impl Captured {
    /// Who ran, without the stack, whose symbols take long to read.
    pub(crate) fn who(&self) -> String {
        match &self.coroutine {
            None => "no coroutine runs, it is in the core's own loop".to_owned(),
            Some((name, site)) if name.is_empty() => {
                format!("a coroutine spawned at {site} runs")
            }
            Some((name, site)) => format!("coroutine '{name}' (spawned at {site}) runs"),
        }
    }
}

impl fmt::Display for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.who())?;
        if let Some(cause) = self.likely_cause() {
            write!(f, "\n      {cause}")?;
        }
        for (number, frame) in self.frames.iter().enumerate() {
            name_frame(f, number, *frame)?;
        }
        Ok(())
    }
}

impl Captured {
    /// What it waits for, if the innermost functions tell.
    fn likely_cause(&self) -> Option<&'static str> {
        let mut functions = Vec::new();
        for (number, frame) in self.frames.iter().take(cause::DEPTH).enumerate() {
            backtrace::resolve(instruction(number, *frame), |symbol| {
                functions.extend(symbol.name().map(|name| format!("{name:#}")));
            });
        }
        cause::likely(functions.iter().map(String::as_str))
    }
}

/// Where to look for the function of a frame. A return address is that of the next instruction, which may belong to another.
fn instruction(number: usize, frame: usize) -> *mut c_void {
    let inside = if number == 0 {
        frame
    } else {
        frame.saturating_sub(1)
    };
    ptr::without_provenance_mut(inside)
}

/// One return address, as std prints it: the functions it lies in, with file and line where they are known.
fn name_frame(f: &mut fmt::Formatter<'_>, number: usize, frame: usize) -> fmt::Result {
    let (mut outcome, mut known) = (Ok(()), false);
    backtrace::resolve(instruction(number, frame), |symbol| {
        let Some(name) = symbol.name().filter(|_| outcome.is_ok()) else {
            return;
        };
        outcome = if known {
            write!(f, "\n      {name:#}")
        } else {
            write!(f, "\n{number:4}: {name:#}")
        };
        known = true;
        if let (Ok(()), Some(file), Some(line)) = (outcome, symbol.filename(), symbol.lineno()) {
            outcome = write!(f, "\n             at {}:{line}", file.display());
        }
    });
    if !known {
        outcome = write!(f, "\n{number:4}: {frame:#x}");
    }
    outcome
}

/// A larger stack for the handlers of one thread, until it is dropped on that thread.
#[derive(Debug)]
pub(crate) struct AlternateStack {
    before: libc::stack_t,
    _memory: MmapMut,
}

impl AlternateStack {
    /// `None` without memory for it: what was there stays.
    pub(crate) fn install() -> Option<Self> {
        let mut memory = MmapMut::map_anon(STACK_BYTES).ok()?;
        let stack = libc::stack_t {
            ss_sp: memory.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: STACK_BYTES,
        };
        // SAFETY: a zeroed stack_t is a valid value of this plain C struct.
        let mut before: libc::stack_t = unsafe { std::mem::zeroed() };
        // SAFETY: the memory is mapped and writable, and stays so until `drop` has taken the stack back.
        let installed = unsafe { libc::sigaltstack(&raw const stack, &raw mut before) } == 0;
        installed.then_some(Self {
            before,
            _memory: memory,
        })
    }
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        // SAFETY: what was installed before us; this thread is not in a handler.
        unsafe { libc::sigaltstack(&raw const self.before, ptr::null_mut()) };
    }
}

#[cfg(all(test, target_arch = "x86_64", target_env = "gnu"))]
mod tests;
