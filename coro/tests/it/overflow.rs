//! Goal: a stack that grows too far is named, and the process dies by SIGABRT, whatever the size of the frame that
//! goes too far; faults that are not ours are passed on. Method: this binary runs itself and looks at how it died.
#![expect(
    unsafe_code,
    reason = "a frame without stack probes, and a bad pointer"
)]

use coring_coro as coro;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

fn recurse<const BYTES: usize>(depth: usize) -> usize {
    let mut frame = [0u8; BYTES];
    black_box(&mut frame)[depth % BYTES] = 1;
    let deeper = if black_box(true) {
        recurse::<BYTES>(depth + 1)
    } else {
        0
    };
    black_box(&frame);
    deeper + 1
}

/// As a C function with a buffer of 32 KiB would: nothing in between is touched.
#[cfg(target_arch = "x86_64")]
fn recurse_like_c(depth: usize) -> usize {
    black_box(depth);
    // SAFETY: writes to memory below the stack pointer, which is ours or a guard; that is what is tested.
    unsafe { std::arch::asm!("mov byte ptr [rsp - 32768], 0") };
    let deeper = if black_box(true) {
        recurse_like_c(depth + 1)
    } else {
        0
    };
    black_box(deeper) + 1
}

type Frame = (&'static str, fn(usize) -> usize);

const FRAMES: [Frame; 9] = [
    ("64", recurse::<64>),
    ("128", recurse::<128>),
    ("512", recurse::<512>),
    ("1024", recurse::<1024>),
    ("2048", recurse::<2048>),
    ("4096", recurse::<4096>),
    ("6000", recurse::<6000>),
    ("8192", recurse::<8192>),
    ("12288", recurse::<12288>),
];

/// What the child does; a test only in name, run by the others.
#[test]
#[ignore = "the child process of the tests below"]
fn child() {
    let Ok(case) = std::env::var("CORING_CHILD") else {
        return;
    };
    let in_coroutine = |work: fn(usize) -> usize| {
        coro::testing::run(move || {
            let deep = coro::Builder::new().name("deep").spawn(move || work(0));
            deep.unwrap().join().unwrap();
        });
    };
    match case.as_str() {
        "thread" => {
            coro::testing::run(|| ());
            black_box(recurse::<1024>(0));
        }
        "null" => in_coroutine(|_| {
            let bad = black_box(std::ptr::without_provenance::<usize>(8));
            // SAFETY: it is not; that is what is tested.
            unsafe { bad.read_volatile() }
        }),
        #[cfg(target_arch = "x86_64")]
        "far" => {
            let mut config = coro::SchedulerConfig::default();
            config.stack.guard_bytes = 1 << 20;
            coro::testing::run_with(config, || {
                let deep = coro::Builder::new().name("deep").spawn(|| {
                    // SAFETY: as in `recurse_like_c`: 900 KiB down lies the guard.
                    unsafe { std::arch::asm!("mov byte ptr [rsp - 921600], 0") };
                });
                deep.unwrap().join().unwrap();
            });
        }
        #[cfg(target_arch = "x86_64")]
        "c" => in_coroutine(recurse_like_c),
        "endless guard" => {
            let mut config = coro::SchedulerConfig::default();
            config.stack.guard_bytes = usize::MAX;
            coro::testing::run_with(config, || {
                let deep = coro::Builder::new()
                    .name("deep")
                    .spawn(|| recurse::<1024>(0));
                deep.unwrap().join().unwrap();
            });
        }
        size => {
            let frame = FRAMES.iter().find(|(name, _)| *name == size);
            in_coroutine(frame.expect("a known size").1);
        }
    }
}

fn run_child(case: &str) -> (Output, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "overflow::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("CORING_CHILD", case)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

#[test]
fn is_named_at_every_frame_size() {
    let mut cases: Vec<&str> = FRAMES.iter().map(|(name, _)| *name).collect();
    if cfg!(target_arch = "x86_64") {
        cases.extend(["c", "far"]);
    }
    cases.push("endless guard");
    for case in cases {
        let (output, text) = run_child(case);
        assert_eq!(
            output.status.signal(),
            Some(libc_sigabrt()),
            "{case}: {text}"
        );
        assert!(
            text.contains("coroutine 'deep' (spawned at"),
            "{case}: {text}"
        );
        assert!(text.contains("overflow.rs"), "{case}: {text}");
        assert!(
            text.contains("has overflowed its stack of 256 KiB"),
            "{case}: {text}"
        );
        assert!(text.contains("stack_bytes"), "{case}: {text}");
    }
}

#[test]
fn of_a_thread_is_left_to_std() {
    let (output, text) = run_child("thread");
    assert_eq!(output.status.signal(), Some(libc_sigabrt()), "{text}");
    assert!(
        text.contains("thread") && text.contains("has overflowed its stack"),
        "{text}"
    );
    assert!(!text.contains("coroutine '"), "{text}");
}

#[test]
fn a_bad_pointer_is_a_segmentation_fault_still() {
    const SIGSEGV: i32 = 11;
    let (output, text) = run_child("null");
    assert_eq!(output.status.signal(), Some(SIGSEGV), "{text}");
    assert!(!text.contains("overflowed"), "{text}");
}

const fn libc_sigabrt() -> i32 {
    6
}
