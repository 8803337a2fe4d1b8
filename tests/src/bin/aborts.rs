//! A program to be built with `panic = "abort"`, where there is no unwinding: it checks what the documentation says of
//! cancellation then. `it/abort.rs` builds and runs it.
//!
//! With the argument `panic` it panics in a coroutine, which ends the process.

use coring::coro::channel::{RecvError, bounded};
use coring::coro::sync::Mutex;
use coring::coro::wait::{Interrupt, Refusal};
use coring::coro::{self, JoinError};
use std::rc::Rc;
use std::time::Duration;

/// More than a coroutine gets before it would be unwound.
const CALLS: usize = 100;
const LONG: Duration = Duration::from_secs(3600);

fn main() {
    if !cfg!(panic = "abort") {
        println!("built to unwind: nothing to see");
        return;
    }
    let panics = std::env::args().nth(1).is_some_and(|word| word == "panic");
    let runtime = coring::Runtime::builder().cores(1).pin(false).build();
    runtime.expect("the runtime starts").run(move || {
        if panics {
            drop(coro::spawn(|| panic!("the end")).join());
            unreachable!("a panic ends the process");
        }
        errors_for_ever();
        calls_without_an_error_return();
        locks_are_waited_for();
        before_the_first_run();
        time_limits();
    });
    println!("all kept");
}

/// A coroutine that waits somewhere, cancelled.
fn cancelled<T: 'static>(work: impl FnOnce() -> T + 'static) -> Result<T, JoinError> {
    let handle = coro::spawn(work);
    coro::sleep(Duration::from_millis(1));
    handle.cancel();
    handle.join()
}

fn errors_for_ever() {
    let (_sender, receiver) = bounded::<u8>(1);
    let refused = cancelled(move || {
        let calls = (0..CALLS).map(|_| receiver.recv());
        let interrupt = Refusal::Interrupted(Interrupt::Cancelled);
        calls
            .filter(|call| *call == Err(RecvError::Refused(interrupt)))
            .count()
    });
    assert_eq!(refused.expect("nothing unwinds"), CALLS);
}

fn calls_without_an_error_return() {
    let ended = cancelled(|| {
        coro::sleep(LONG);
        (0..CALLS).for_each(|_| coro::sleep(LONG));
        (0..CALLS).for_each(|_| coro::yield_now());
        coro::park();
        coro::is_cancelled()
    });
    assert!(ended.expect("nothing unwinds"));
}

fn locks_are_waited_for() {
    let mutex = Rc::new(Mutex::new(0));
    let guard = mutex.lock();
    let waiting = coro::spawn({
        let mutex = Rc::clone(&mutex);
        move || *mutex.lock() += 1
    });
    coro::sleep(Duration::from_millis(1));
    waiting.cancel();
    coro::sleep(Duration::from_millis(1));
    assert!(!waiting.is_finished(), "the lock is held");
    drop(guard);
    waiting.join().expect("it has the lock after all");
    assert_eq!(*mutex.lock(), 1);
}

fn before_the_first_run() {
    let dropped = Rc::new(());
    let alive = Rc::downgrade(&dropped);
    let handle = coro::spawn(move || drop(dropped));
    handle.cancel();
    assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
    assert!(alive.upgrade().is_none());
}

fn time_limits() {
    let (_sender, receiver) = bounded::<u8>(1);
    let outcome = coro::timeout(Duration::from_millis(1), || receiver.recv());
    let interrupt = Refusal::Interrupted(Interrupt::Elapsed);
    assert!(match outcome {
        Ok(received) => received == Err(RecvError::Refused(interrupt)),
        Err(coro::Elapsed) => true,
    });
    coro::timeout(Duration::from_millis(1), || coro::sleep(LONG)).ok();
    // The limit is gone with the call.
    assert_eq!(
        receiver.recv_timeout(Duration::from_millis(1)),
        Err(RecvError::TimedOut)
    );
}
