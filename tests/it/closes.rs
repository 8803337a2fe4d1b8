//! `File::close`: done when it returns, whoever is about and whatever disturbs it.

use crate::overlay::Overlay;
use coring::coro;
use coring::fs::{File, TryLockError};
use coring_tests::conserve::{conserved, stagger};
use coring_tests::{alone, check, rounds, runtime, skip, until_in_flight};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Two owners of a lock.
fn twice(path: &Path) -> (File, File) {
    let first = File::create(path).unwrap();
    (first, File::options().write(true).open(path).unwrap())
}

#[test]
fn a_close_is_done_when_it_returns() {
    // Goal: the lock goes with the file, alone on the core and in the company of others.
    // Method: a second owner tries right after. Others yield, or nobody does. Alone: a child
    // of another test has all descriptors until its exec, and the locks with them.
    alone(|| {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("locked");
        runtime(1).run(|| {
            for others in [0, 3] {
                let company: Vec<_> = (0..others)
                    .map(|_| coro::spawn(|| (0..20).for_each(|_| coro::yield_now())))
                    .collect();
                // Without a write: a worker or poller of the kernel lets go of the file a moment after it.
                let (owner, other) = twice(&path);
                owner.lock().unwrap();
                assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
                let number = owner.as_raw_fd();
                owner.close().unwrap();
                other.try_lock().unwrap();
                let again = File::open(&path).unwrap();
                assert_eq!(again.as_raw_fd(), number, "the descriptor is free");
                again.close().unwrap();
                company.into_iter().for_each(|one| one.join().unwrap());
            }
        });
    });
}

#[test]
fn files_are_closed_together() {
    // Goal: closes of many are one batch. Method: the enters that it takes.
    check(|| {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        runtime(1).run(|| {
            let files: Vec<File> = (0..64).map(|_| File::create(&path).unwrap()).collect();
            let enters = || coring::Runtime::stats().unwrap()[0].ring.enters;
            let before = enters();
            let closes: Vec<_> = files
                .into_iter()
                .map(|file| coro::spawn(|| file.close()))
                .collect();
            closes
                .into_iter()
                .for_each(|one| one.join().unwrap().unwrap());
            let used = enters() - before;
            assert!(used < 40, "{used} enters for 64 closes");
        });
    });
}

#[test]
fn who_was_cancelled_closes_all_the_same() {
    // Goal: an error that says why, and no descriptor left; in the company of others, and on a file system whose closes may wait.
    // Method: cancelled before, seen by the lock that is free.
    alone(|| {
        let scratch = tempfile::tempdir().unwrap();
        let overlay = Overlay::mount(scratch.path());
        let paths = [
            Some(scratch.path().join("file")),
            overlay.as_ref().map(|it| it.path().join("file")),
        ];
        for path in paths.into_iter().flatten() {
            conserved(3, |_| {
                let (owner, other) = twice(&path);
                owner.lock().unwrap();
                let closing = coro::spawn(move || {
                    coro::shield(coro::yield_now);
                    owner.close()
                });
                coro::yield_now();
                closing.cancel();
                let error = closing.join().unwrap().unwrap_err();
                assert!(coring::io::is_cancelled(&error), "{error}");
                // A drop leaves it to a worker, if that is who does it.
                until_in_flight(0);
                other.try_lock().unwrap();
                other.close().unwrap();
            });
        }
    });
}

#[test]
fn cancels_meet_closes() {
    // Goal: closed once, and no stranger's descriptor with it, wherever the cancel meets the close: before it, on its way to a worker, in
    // the worker. Method: a file system whose closes workers do; a file is opened at once, maybe by a number just given back, and read.
    alone(|| {
        let scratch = tempfile::tempdir().unwrap();
        let Some(overlay) = Overlay::mount(scratch.path()) else {
            skip!("overlayfs cannot be mounted here");
        };
        let path = overlay.path().join("file");
        std::fs::write(&path, "content").unwrap();
        conserved(rounds(2_000, 20_000), |round| {
            let files: Vec<_> = (0..4).map(|_| File::open(&path).unwrap()).collect();
            let closing: Vec<_> = files
                .into_iter()
                .map(|file| coro::spawn(move || file.close()))
                .collect();
            stagger(round);
            closing.iter().for_each(coro::JoinHandle::cancel);
            let again = File::open(&path).unwrap();
            for one in closing {
                // One that has begun is done; one that has not was dropped with its file.
                if let Ok(outcome) = one.join() {
                    outcome.unwrap();
                }
            }
            let mut buffer = [0; 7];
            assert_eq!(
                again.read_at(&mut buffer, 0).unwrap(),
                7,
                "closed by another"
            );
            again.close().unwrap();
        });
    });
}
