//! Rings under a small limit on locked memory, where all of a ring is charged. The limit is a child's, which runs one test.

use std::env;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use coring_uring::{Ring, SetupOptions};

/// Set in the child that has the limit.
const LIMITED: &str = "CORING_URING_LIMITED";

#[test]
fn rings_are_opened_as_others_are_closed() {
    // Goal: the kernel gives a ring's memory back after the close, in its own time; who opens the next ring at once gets
    // one all the same, though maybe a smaller one.
    // Method: with room for one ring of the ordinary size, one after the other.
    within_64_kib("rings_are_opened_as_others_are_closed", || {
        for number in 0..200 {
            let opened = Ring::open(&SetupOptions::default());
            let ring = opened.unwrap_or_else(|error| panic!("ring {number}: {error}"));
            assert!(ring.capabilities().sq_entries() >= 8);
        }
    });
}

#[test]
fn successors_are_as_large() {
    // Goal: rings that take the place of some that were closed a moment ago are no smaller, as the limit allows them.
    // Method: three that fill it, again and again.
    within_64_kib("successors_are_as_large", || {
        let options = SetupOptions {
            sq_entries: 128,
            cq_entries: 512,
            ..SetupOptions::default()
        };
        for round in 0..20 {
            let opened: Vec<_> = (0..3).map(|_| Ring::open(&options).unwrap()).collect();
            for ring in &opened {
                assert_eq!(ring.capabilities().sq_entries(), 128, "round {round}");
            }
        }
    });
}

#[test]
fn rings_side_by_side_share() {
    // Goal: rings that know of each other take no more than half of the limit together, and as much of it as powers of two allow;
    // below two pages each they do not shrink.
    // Method: the sizes for one to eight rings within 64 KiB; eight of two pages fill it, and are opened.
    within_64_kib("rings_side_by_side_share", || {
        let for_rings = |rings| SetupOptions {
            rings,
            ..SetupOptions::default()
        };
        for (rings, entries) in [
            (1, (128, 512)),
            (2, (64, 256)),
            (3, (32, 128)),
            (9, (32, 128)),
        ] {
            let share = for_rings(rings).within_share();
            assert_eq!((share.sq_entries, share.cq_entries), entries, "{rings}");
        }
        let opened: Vec<_> = (0..8)
            .map(|number| {
                let opened = Ring::open(&for_rings(8));
                opened.unwrap_or_else(|error| panic!("ring {number}: {error}"))
            })
            .collect();
        for ring in opened {
            let has = ring.capabilities();
            assert_eq!((has.sq_entries(), has.cq_entries()), (32, 128));
        }
    });
}

/// Runs a test's body in a process without the right to lock more. Skips where we cannot give a right up.
fn within_64_kib(name: &str, body: impl FnOnce()) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if env::var_os(LIMITED).is_some() {
        let large = Ring::open(&SetupOptions {
            may_shrink: false,
            ..SetupOptions::default()
        });
        match large {
            Ok(_) => println!("skipped: this kernel charges nobody for rings"),
            Err(_) => body(),
        }
        return;
    }
    // The kernel counts for all processes of the user together.
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let script = "ulimit -l 64 && exec \"$0\" --exact \"$1\"";
    let this = env::current_exe().unwrap();
    let output = Command::new("capsh")
        .args(["--drop=cap_ipc_lock", "--", "-c", script])
        .arg(this)
        .arg(name)
        .env(LIMITED, "1")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return println!("skipped: no capsh to give a right up with: {error}"),
    };
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if stderr.contains("unable to raise") || stderr.contains("Operation not permitted") {
        return println!("skipped: not the right to give a right up: {stderr}");
    }
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("1 passed"), "{stdout}\n{stderr}");
}
