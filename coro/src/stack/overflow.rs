//! The overflow report: a coroutine that runs into its guard is named before the process dies.
//!
//! std's handler knows the guards of threads only, so without this a coroutine's overflow is a bare SIGSEGV.
//! Ours runs on the thread's alternate signal stack (std gives its threads one; [`install_handler`] gives one to
//! a thread that has none), and does four things:
//!
//! 1. Is the faulting address in the guard of the coroutine that runs on this thread? If not, hand the signal to
//!    whoever had it before us.
//! 2. Write one line with `write(2)`: name, spawn site, stack size, and what to change. No allocation, no lock,
//!    no formatting machinery that could panic.
//! 3. Restore the default action of SIGABRT.
//! 4. `abort()`: an overflowed stack cannot be unwound.
//!
//! A fault in a forked child gets a sentence, too, before it is handed on: rings stay with the parent, so a child that goes on with the
//! runtime it was born in meets memory that is not there.
#![expect(unsafe_code, reason = "signal handling")]

use crate::coroutine::ControlBlock;
use crate::scheduler::current_in_signal;
use std::cell::Cell;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// What handled these signals before us.
struct Previous {
    segv: libc::sigaction,
    bus: libc::sigaction,
}

static PREVIOUS: OnceLock<Previous> = OnceLock::new();

/// The process that the schedulers are in.
static HOME: AtomicI32 = AtomicI32::new(0);

/// Bytes of the alternate stack we give a thread that has none: well above MINSIGSTKSZ with AVX-512 state.
const ALTERNATE_STACK_BYTES: usize = 64 * 1024;

/// Installs the handler for the process, once, and sees to it that this thread has an alternate stack.
pub(crate) fn install_handler() {
    PREVIOUS.get_or_init(|| Previous {
        segv: install(libc::SIGSEGV),
        bus: install(libc::SIGBUS),
    });
    HOME.store(own_id(), Ordering::Relaxed);
    ensure_alternate_stack();
}

fn own_id() -> libc::pid_t {
    // SAFETY: it only asks, and may be called by a signal handler.
    unsafe { libc::getpid() }
}

fn install(signal: libc::c_int) -> libc::sigaction {
    // SAFETY: a zeroed sigaction is a valid value of this plain C struct.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: as above.
    let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both point to valid structs; the handler is async-signal-safe.
    let outcome = unsafe { libc::sigaction(signal, &raw const action, &raw mut previous) };
    assert_eq!(outcome, 0, "sigaction on SIGSEGV and SIGBUS cannot fail");
    previous
}

/// The alternate stack of a foreign thread; freed with the thread.
struct AlternateStack(Cell<*mut libc::c_void>);

impl Drop for AlternateStack {
    fn drop(&mut self) {
        if self.0.get().is_null() {
            return;
        }
        let disable = libc::stack_t {
            ss_sp: ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: ALTERNATE_STACK_BYTES,
        };
        // SAFETY: a valid stack_t; this thread is not on its alternate stack.
        unsafe { libc::sigaltstack(&raw const disable, ptr::null_mut()) };
        // SAFETY: mapped by `ensure_alternate_stack` with this size, no longer in use.
        unsafe { libc::munmap(self.0.get(), ALTERNATE_STACK_BYTES) };
    }
}

thread_local! {
    static ALTERNATE: AlternateStack = const { AlternateStack(Cell::new(ptr::null_mut())) };
}

fn ensure_alternate_stack() {
    // SAFETY: a zeroed stack_t is a valid value of this plain C struct.
    let mut current: libc::stack_t = unsafe { std::mem::zeroed() };
    // SAFETY: only asks.
    unsafe { libc::sigaltstack(ptr::null(), &raw mut current) };
    if current.ss_flags & libc::SS_DISABLE == 0 {
        return;
    }
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a fresh anonymous mapping.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            ALTERNATE_STACK_BYTES,
            protection,
            flags,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return; // Without memory for it an overflow is still fatal, only without our sentence.
    }
    let stack = libc::stack_t {
        ss_sp: memory,
        ss_flags: 0,
        ss_size: ALTERNATE_STACK_BYTES,
    };
    // SAFETY: the memory is ours, writable, and lives until the thread ends (`AlternateStack`).
    unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
    ALTERNATE.with(|alternate| alternate.0.set(memory));
}

/// The signal handler. Async-signal-safe: plain loads, `write`, `getpid`, `sigaction`, `abort`.
extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo.
    let info_ref = unsafe { &*info };
    // SAFETY: faults carry an address.
    let address = unsafe { info_ref.si_addr() }.addr();
    if let Some(control) = current_in_signal() {
        // SAFETY: the running coroutine's block is initialised and mapped.
        let block = unsafe { control.as_ref() };
        if block.is_guard(address) {
            report(block);
        }
    }
    // Once: a handler before us may mend what faulted.
    if HOME.swap(own_id(), Ordering::Relaxed) != own_id() {
        let mut line = Line::new();
        line.text("\ncoring: a fault in a forked child. A runtime stays with the process that started it: in a child of its, ");
        line.text("forked inside of it, only what leads to exec or _exit may follow, and no call of the runtime.\n");
        line.write_to_stderr();
    }
    chain(signal, info, context);
}

impl ControlBlock {
    fn is_guard(&self, address: usize) -> bool {
        let slot = self.slot();
        let below = slot.limit.wrapping_sub(address);
        (1..=slot.guard_bytes as usize).contains(&below)
    }
}

fn report(block: &ControlBlock) -> ! {
    let slot = block.slot();
    let mut line = Line::new();
    line.text("\ncoring: coroutine ");
    if let Some(name) = block.name() {
        line.text("'").text(name).text("' ");
    }
    line.text("(spawned at ")
        .text(block.site.file())
        .text(":")
        .number(block.site.line() as usize);
    line.text(") has overflowed its stack of ")
        .number((slot.top - slot.limit) / 1024);
    line.text(" KiB. Give it more with `coro::Builder::stack_bytes`, or all of them with `stack_bytes` of the ");
    line.text("runtime's builder; deep recursion and large local arrays are the usual causes.\n");
    line.write_to_stderr();
    // SAFETY: SIG_DFL for SIGABRT, so that no handler runs on.
    unsafe { libc::signal(libc::SIGABRT, libc::SIG_DFL) };
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}

/// Hands the signal to the handler that was there before, or to the default action.
fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get().map(|previous| {
        if signal == libc::SIGBUS {
            &previous.bus
        } else {
            &previous.segv
        }
    });
    match previous {
        Some(action) if action.sa_sigaction > libc::SIG_IGN => {
            if action.sa_flags & libc::SA_SIGINFO != 0 {
                type WithInfo = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
                // SAFETY: SA_SIGINFO says that the stored address is a function of this signature.
                let function =
                    unsafe { std::mem::transmute::<usize, WithInfo>(action.sa_sigaction) };
                function(signal, info, context);
            } else {
                type Plain = extern "C" fn(libc::c_int);
                // SAFETY: without SA_SIGINFO the stored address is a function of this signature.
                let function = unsafe { std::mem::transmute::<usize, Plain>(action.sa_sigaction) };
                function(signal);
            }
        }
        // The default action: restore it and return; the instruction faults again and ends the process.
        // SAFETY: SIG_DFL is always valid.
        _ => unsafe {
            libc::signal(signal, libc::SIG_DFL);
        },
    }
}

/// A line of text in a fixed buffer; what does not fit is cut.
struct Line {
    bytes: [u8; 1024],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Self {
            bytes: [0; 1024],
            len: 0,
        }
    }

    fn text(&mut self, text: &str) -> &mut Self {
        for &byte in text.as_bytes() {
            if self.len < self.bytes.len() {
                self.bytes[self.len] = byte;
                self.len += 1;
            }
        }
        self
    }

    fn number(&mut self, mut number: usize) -> &mut Self {
        let mut digits = [0u8; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.text(std::str::from_utf8(&digits[start..]).unwrap_or("?"))
    }

    fn write_to_stderr(&self) {
        // SAFETY: the buffer is ours. A failing write leaves us nothing to do.
        let _ = unsafe { libc::write(libc::STDERR_FILENO, self.bytes.as_ptr().cast(), self.len) };
    }
}
