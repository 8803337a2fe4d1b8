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
use std::time::Duration;

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
        "dump" => dump_of_nearly_full_stacks(),
        size => {
            let frame = FRAMES.iter().find(|(name, _)| *name == size);
            in_coroutine(frame.expect("a known size").1);
        }
    }
}

/// Waits on a stack that is in use down to the address `low`.
#[inline(never)]
fn wait_at(low: usize) {
    let frame = black_box([1u8; 400]);
    if frame.as_ptr().addr() < low {
        coro::sleep(Duration::from_millis(1));
    } else {
        wait_at(low);
    }
    black_box(frame);
}

/// Looks at coroutines that have from 3 to 60 of their 64 KiB left.
fn dump_of_nearly_full_stacks() {
    const STACK_BYTES: usize = 64 * 1024;
    coro::testing::run(|| {
        let builder = coro::Builder::new().stack_bytes(STACK_BYTES);
        let spawn = |left_kib: usize| {
            builder.clone().spawn(move || {
                let top = (&raw const left_kib).addr().next_multiple_of(4096);
                wait_at(top - STACK_BYTES + left_kib * 1024);
            })
        };
        let waiting: Vec<_> = (3..60).map(|kib| spawn(kib).unwrap()).collect();
        coro::yield_now();
        let infos = coro::dump_with_backtraces();
        let count =
            |what: fn(&coro::CoroutineInfo) -> bool| infos.iter().filter(|&i| what(i)).count();
        let refused = count(|info| info.stack_too_full_to_trace);
        let said = count(|info| info.to_string().contains("too little of the stack is left"));
        let traced = count(|info| info.backtrace.is_some());
        assert!(refused >= 13 && traced >= 40, "{refused} {traced}");
        assert_eq!((refused + traced, said), (waiting.len(), refused));
        let ended = waiting.into_iter().map(coro::JoinHandle::join);
        assert!(ended.into_iter().all(|outcome| outcome.is_ok()));
    });
}

/// Goal: looking at a healthy coroutine does not kill it, however full its stack is.
#[test]
fn a_dump_overflows_no_stack() {
    let (output, text) = run_child("dump");
    assert!(output.status.success(), "{text}");
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
