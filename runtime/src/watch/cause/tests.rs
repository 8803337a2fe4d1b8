//! Stacks as they were seen, and what they mean. That std's names are still these is seen by the behaviour tests.

use super::*;

#[test]
fn the_call_that_blocks_is_recognised() {
    let mutex = [
        "syscall",
        "std::sys::pal::unix::futex::futex_wait",
        "std::sys::sync::mutex::futex::Mutex::lock_contended",
        "program::handle",
    ];
    assert_eq!(likely(mutex), Some(LOCK_OF_STD));
    // A lock that is waited for by way of the parker of its thread is a lock.
    let parker = [
        "syscall",
        "std::sys::sync::thread_parking::futex::Parker::park",
        "std::sys::sync::rwlock::queue::RwLock::lock_contended",
    ];
    assert_eq!(likely(parker), Some(LOCK_OF_STD));
    let sleep = ["clock_nanosleep", "std::thread::sleep", "program::handle"];
    assert_eq!(likely(sleep), Some(SLEEP));
}

#[test]
fn a_computation_has_no_cause_and_callers_far_away_do_not_count() {
    assert_eq!(likely(["program::crunch", "program::handle"]), None);
    assert_eq!(likely([]), None);
    let deep = vec!["program::descend"; DEPTH];
    assert_eq!(
        likely(
            deep.into_iter()
                .chain(["std::sys::sync::mutex::futex::Mutex::lock"])
        ),
        None
    );
}
