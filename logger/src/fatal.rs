//! The last moments: a panic, an abort, a fault.
//!
//! A *panic* becomes an error line; errors wake the drain, so it is written soon, and the program goes on (or aborts, see below).
//!
//! A *fatal signal* (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT) arrives on the thread that did wrong, while the drain's thread is well. So
//! the handler only shows the drain what this thread has logged, asks for a flush, and waits, for [`PATIENCE`] at the longest. All of it
//! is atomics and futex(2), which is safe in a handler whatever the thread was doing. If the drain cannot (it was the one that
//! crashed, or waits for a lock that the dead thread holds), the lines are still in the crash ring, if there is one, and standard error
//! says so. Then the previous handler is put back and the signal takes its course: core dump, another library's report.

#![expect(unsafe_code, reason = "sigaction(2)")]

use std::ffi::c_int;
use std::sync::Once;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::Level;

use crate::callsite::Interest;
use crate::facade::{self, Place};
use crate::{clock, crash, producer, state};

/// How long a dying thread waits for the drain.
const PATIENCE: Duration = Duration::from_millis(500);

const SIGNALS: [c_int; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
];

/// What handled the signals before us, in the order of [`SIGNALS`].
static PREVIOUS: [OnceLock<libc::sigaction>; 5] = [const { OnceLock::new() }; 5];

/// What to say if the drain does not answer; made beforehand, because a handler must not allocate.
static LAST_WORDS: OnceLock<String> = OnceLock::new();

/// Installs the panic hook and the signal handlers, once per process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hint = match crash::path() {
            Some(path) => format!(
                "they are in the crash ring: coring-log recover {}",
                path.display()
            ),
            None => "give the logger a crash_ring to keep them".to_owned(),
        };
        let words = format!("coring-logger: the last lines could not be written; {hint}\n");
        LAST_WORDS.get_or_init(|| words);
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            previous(info);
            log_panic(info);
        }));
        for (signal, previous) in SIGNALS.into_iter().zip(&PREVIOUS) {
            // SAFETY: all-zero bytes are a valid sigaction.
            let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
            new.sa_sigaction = on_signal as *const () as usize;
            new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY: both point to sigactions; the handler keeps to what signal-safety(7) allows.
            if unsafe { libc::sigaction(signal, &raw const new, &raw mut old) } == 0 {
                previous.get_or_init(|| old);
            }
        }
    });
}

fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    if !state::is_running() || state::interest_of("panic", Level::Error) == Interest::Off {
        return;
    }
    let message = info.payload_as_str().unwrap_or("(no text)");
    let thread = std::thread::current();
    let text = format!(
        "thread {:?} panicked: {message}",
        thread.name().unwrap_or("unnamed")
    );
    let place = info.location();
    let place = Place {
        target: "panic",
        module: "",
        file: place.map_or("", |place| place.file()),
        line: place.map_or(0, |place| place.line()),
    };
    facade::emit(Level::Error, Interest::Written, &place.encode(&text));
}

/// Lets the drain write, then lets the signal have its way.
extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    static DYING: AtomicBool = AtomicBool::new(false);
    if state::is_running() && !DYING.swap(true, Ordering::SeqCst) {
        producer::publish_current();
        let ticket = state::want_flush();
        let end = clock::ticks().saturating_add(clock::rough_ticks_in(PATIENCE));
        while !state::flush_is_done(ticket) && clock::ticks() < end {
            state::wait_for_flush(ticket, Duration::from_millis(10));
        }
        if !state::flush_is_done(ticket)
            && let Some(words) = LAST_WORDS.get()
        {
            crate::drain::say_on_stderr(words);
        }
    }
    let index = SIGNALS.iter().position(|known| *known == signal);
    let Some(previous) = index.and_then(|index| PREVIOUS[index].get()) else {
        return;
    };
    // SAFETY: a sigaction that the kernel gave us.
    unsafe { libc::sigaction(signal, std::ptr::from_ref(previous), std::ptr::null_mut()) };
    // SAFETY: the kernel passes a valid siginfo to SA_SIGINFO handlers.
    let code = unsafe { (*info).si_code };
    // A fault happens again when we return. A signal that was sent does not: send it again; it is delivered when we return.
    if code <= 0 {
        // SAFETY: raise(3) is safe in a handler.
        unsafe { libc::raise(signal) };
    }
}
