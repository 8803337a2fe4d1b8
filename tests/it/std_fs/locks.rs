//! Advisory locks.
#![expect(unsafe_code, reason = "asks for record locks")]

use super::with_scratch;
use coring::coro;
use coring::fs::{self, File, TryLockError};
use coring_tests::{alone, check, until_in_flight};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// A file, opened twice: two owners of a lock.
fn twice(scratch: &Path) -> (File, File) {
    let path = scratch.join("lock");
    let first = File::create(&path).unwrap();
    (first, File::options().write(true).open(&path).unwrap())
}

fn is_taken(outcome: Result<(), TryLockError>) -> bool {
    matches!(outcome, Err(TryLockError::WouldBlock))
}

#[test]
fn locks_exclude_share_and_can_be_given_up() {
    // Goal: exclusive excludes, shared is shared, a waiter gets the lock after the unlock, a cancelled or timed-out
    // waiter goes without it, and the end of a file is the end of its lock.
    // Method: three open files of one path.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("lock");
            fs::write(&path, "").unwrap();
            let [a, b, c] = [(); 3].map(|()| File::open(&path).unwrap());
            a.lock().unwrap();
            assert!(matches!(b.try_lock(), Err(TryLockError::WouldBlock)));
            assert!(matches!(b.try_lock_shared(), Err(TryLockError::WouldBlock)));
            let late = coro::timeout(Duration::from_millis(20), || b.lock());
            assert_eq!(late.unwrap_err(), coro::Elapsed);
            let waiter = coro::spawn(move || {
                b.lock().unwrap();
                b
            });
            coro::sleep(Duration::from_millis(5));
            assert!(!waiter.is_finished());
            a.unlock().unwrap();
            let b = waiter.join().unwrap();
            assert!(matches!(a.try_lock(), Err(TryLockError::WouldBlock)));
            let given_up = coro::spawn(move || c.lock());
            coro::yield_now();
            given_up.cancel();
            let error = given_up.join().unwrap().unwrap_err();
            assert!(coring::io::is_cancelled(&error), "{error}");
            drop(b);
            a.lock_shared().unwrap();
            let d = File::open(&path).unwrap();
            d.try_lock_shared().unwrap();
            assert!(matches!(d.try_lock(), Err(TryLockError::WouldBlock)));
        });
    });
}

#[test]
fn several_share() {
    // Goal: two owners have a shared lock at once, waiting or trying for it.
    // Method: lock and try_lock_shared on both.
    check(|| {
        with_scratch(|scratch| {
            let (one, other) = twice(scratch);
            one.lock_shared().unwrap();
            other.lock_shared().unwrap();
            one.unlock().unwrap();
            other.unlock().unwrap();
            one.try_lock_shared().unwrap();
            other.try_lock_shared().unwrap();
        });
    });
}

#[test]
fn shared_and_exclusive_exclude_each_other() {
    // Goal: neither is to be had while the other is held, and the error says WouldBlock, also as an io::Error.
    // Method: try each against the other.
    check(|| {
        with_scratch(|scratch| {
            let (one, other) = twice(scratch);
            one.lock_shared().unwrap();
            assert!(is_taken(other.try_lock()));
            one.unlock().unwrap();
            one.lock().unwrap();
            assert!(is_taken(other.try_lock_shared()));
            let error = std::io::Error::from(other.try_lock().unwrap_err());
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        });
    });
}

#[test]
fn a_lock_ends_with_its_file() {
    // Goal: a lock goes with the last handle to its open file, and not with a clone before that.
    // Method: drop the original, then the clone, and try at once; the same for files that were opened for reading. Alone: a
    // process that another test starts has all files of this one until it runs its own program.
    alone(|| {
        with_scratch(|scratch| {
            let (one, other) = twice(scratch);
            one.lock_shared().unwrap();
            let clone = one.try_clone().unwrap();
            drop(one);
            assert!(is_taken(other.try_lock()));
            drop(clone);
            other.try_lock().unwrap();
            drop(other);
            let open = || File::open(scratch.join("lock")).unwrap();
            let (one, other) = (open(), open());
            one.lock().unwrap();
            drop(one);
            other.try_lock_shared().unwrap();
            drop(other);
            open().try_lock().unwrap();
            open().try_lock().unwrap();
            // A clone's lock is its original's, too.
            let original = open();
            original.try_clone().unwrap().try_lock().unwrap();
            drop(original);
            let other = std::fs::File::open(scratch.join("lock")).unwrap();
            other.try_lock().unwrap();
        });
    });
}

#[test]
fn unlocking_what_is_not_locked() {
    // Goal: it is no error, as with flock(2); a lock taken twice by one owner is one lock.
    // Method: as said; exclusive becomes shared when asked for again.
    check(|| {
        with_scratch(|scratch| {
            let (one, other) = twice(scratch);
            one.unlock().unwrap();
            one.lock().unwrap();
            one.lock().unwrap();
            one.lock_shared().unwrap();
            other.try_lock_shared().unwrap();
            one.unlock().unwrap();
            other.unlock().unwrap();
            other.try_lock().unwrap();
        });
    });
}

/// The exclusive record lock of the whole file, fcntl(2): takes it, or asks whether it is free for another owner.
fn record_lock(file: &std::fs::File, command: libc::c_int) -> bool {
    // SAFETY: all zeroes is a valid value: numbers only.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK.try_into().expect("a small number");
    // SAFETY: the structure is writable.
    let outcome = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    command == libc::F_SETLK || libc::c_int::from(lock.l_type) == libc::F_UNLCK
}

#[test]
fn a_dropped_file_takes_no_later_record_lock_along() {
    // Goal: a close of a file ends the record locks that its process has there by then, so it is done before the next one is taken:
    // databases read a file, and then lock it.
    // Method: a file is read and dropped, locked by std's, and what the core has under way comes to its end. Open file
    // description locks meet those of our own process.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("database");
            std::fs::write(&path, "header").unwrap();
            let open = || std::fs::File::options().read(true).write(true).open(&path);
            let (owner, other) = (open().unwrap(), open().unwrap());
            assert_eq!(fs::read(&path).unwrap(), b"header");
            assert!(record_lock(&owner, libc::F_SETLK));
            until_in_flight(0);
            assert!(!record_lock(&other, libc::F_OFD_GETLK), "the lock is lost");
        });
    });
}
