//! Seen from outside the process: how it dies, and what a user reads when it cannot start.
//!
//! Each test runs the program `scenario` of this package, as it is or under a tool that limits or disturbs it.

use coring::uring::{Feature, TABLE};
use coring_tests::command::{Ended, as_nobody_else, exists, run, strace_works};
use coring_tests::lane::is_allowed;
use coring_tests::{check, need_locked_kib, note, skip};
use std::sync::OnceLock;

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

fn scenario(words: &[&str]) -> Ended {
    under::<&str>(&[], words)
}

/// A scenario with a wrapper in front, such as `prlimit`.
fn under<S: AsRef<str>>(wrapper: &[S], words: &[&str]) -> Ended {
    let wrapper = wrapper.iter().map(AsRef::as_ref);
    let words: Vec<_> = wrapper
        .chain([SCENARIO])
        .chain(words.iter().copied())
        .collect();
    note(format!("{words:?}"));
    run(words)
}

#[test]
fn an_overflow_names_the_coroutine() {
    // Goal: a coroutine that overflows its stack ends the process with a sentence that says which one it was, where
    // it was spawned, how large its stack is and what to change; by SIGABRT, never by a bare SIGSEGV.
    // Method: named and unnamed, on core 0 and on core 1, by recursion and by one frame larger than the stack.
    check(|| {
        let cases = [
            ("overflow", "'deep'", "128 KiB"),
            ("overflow-on-core-1", "'far away'", "64 KiB"),
            ("overflow-of-main", "'main'", "256 KiB"),
            ("overflow-by-one-frame", "'huge frame'", "64 KiB"),
        ];
        for (name, who, size) in cases {
            let ended = scenario(&[name]);
            assert_eq!(ended.signal, Some(libc::SIGABRT), "{name}: {ended:#?}");
            let words = [
                who,
                size,
                "overflowed its stack",
                "spawned at",
                ".rs:",
                "stack_bytes",
            ];
            for word in words {
                assert!(ended.stderr.contains(word), "{name}, {word:?}: {ended:#?}");
            }
            assert!(!ended.stdout.contains("not reached"), "{ended:#?}");
        }
    });
}

#[test]
fn other_faults_stay_what_they_are() {
    // Goal: a fault that is no overflow of ours ends as it would without us: SIGSEGV, not called an overflow; and
    // std's own report of a thread's overflow still comes.
    // Method: a write to an unmapped page from a coroutine and from a thread; a thread that recurses for ever.
    check(|| {
        for name in ["segv-in-coroutine", "segv-in-thread"] {
            let ended = scenario(&[name]);
            assert_eq!(ended.signal, Some(libc::SIGSEGV), "{name}: {ended:#?}");
            assert!(!ended.stderr.contains("overflow"), "{name}: {ended:#?}");
        }
        let ended = scenario(&["overflow-of-a-thread"]);
        assert_eq!(ended.signal, Some(libc::SIGABRT), "{ended:#?}");
        assert!(
            ended.stderr.contains("has overflowed its stack"),
            "{ended:#?}"
        );
        assert!(!ended.stderr.contains("coring"), "std's words: {ended:#?}");
    });
}

#[test]
fn panics_are_reported_once_and_by_name() {
    // Goal: a panic in a detached coroutine is reported once, with the coroutine's name and site, and the process
    // goes on; one in main is reported once and is the exit code. A cancellation is not reported at all.
    // Method: the lines on stderr are counted.
    check(|| {
        let ended = scenario(&["panic-detached"]);
        ended.assert_success();
        assert_eq!(ended.stdout, "went on\n");
        assert_eq!(
            ended.stderr.matches("nobody joins me").count(),
            1,
            "{ended:#?}"
        );
        assert_eq!(ended.stderr.matches("panicked at").count(), 1, "{ended:#?}");
        assert!(ended.stderr.contains("coroutine 'careless'"), "{ended:#?}");
        assert!(
            ended.stderr.contains("scenario/main.rs:"),
            "the spawn site: {ended:#?}"
        );

        let ended = scenario(&["panic-in-main"]);
        assert_eq!(ended.code, Some(101), "{ended:#?}");
        assert_eq!(
            ended.stderr.matches("main gives up").count(),
            1,
            "{ended:#?}"
        );
    });
}

#[test]
fn who_never_waits_is_abandoned_by_name() {
    // Goal: a coroutine that computes for ever does not keep the process from ending: after the grace period its core
    // is named on stderr, and `run` returns.
    // Method: a grace period of 100 ms.
    check(|| {
        let ended = scenario(&["never-waits"]);
        ended.assert_success();
        assert_eq!(ended.stdout, "run has returned\n", "{ended:#?}");
        assert!(
            ended.stderr.contains("core 1 did not stop in time"),
            "{ended:#?}"
        );
    });
}

#[test]
fn refused_by_the_system() {
    // Goal: where io_uring is refused, the user reads who refuses and how to allow it.
    // Method: strace makes io_uring_setup fail, as a seccomp filter and as a kernel without it do.
    check(|| {
        if !strace_works() {
            skip!("strace is not to be had here");
        }
        let with = |errno: &str| {
            let inject = format!("inject=io_uring_setup:error={errno}");
            under(
                &["strace", "-f", "-o", "/dev/null", "-e", &inject],
                &["hello"],
            )
        };
        with("EPERM").assert_refused(&["io_uring_setup is not permitted", "seccomp", "Allow"]);
        with("ENOSYS").assert_refused(&["offers no io_uring", "Linux 6.1"]);
        with("ENOMEM").assert_refused(&["core 0", "memory"]);
    });
}

/// The words in front of a scenario that limit what it may lock, as a user of whom there are no other processes, which would
/// count. `None` where we may not become one, as root is not bound by the limit, and where the kernel charges nobody for rings.
fn with_locked_kib(kib: usize) -> Option<Vec<String>> {
    static CHARGED: OnceLock<bool> = OnceLock::new();
    let charged = || {
        let words = locked_kib_words(4)?;
        Some(under(&words, &["hello"]).code != Some(0))
    };
    CHARGED
        .get_or_init(|| charged().unwrap_or(false))
        .then(|| locked_kib_words(kib))?
}

fn locked_kib_words(kib: usize) -> Option<Vec<String>> {
    let mut words = vec!["prlimit".into(), format!("--memlock={}", kib * 1024)];
    words.extend(as_nobody_else()?);
    Some(words)
}

macro_rules! with_locked_kib {
    ($kib:expr) => {{
        let Some(words) = with_locked_kib($kib) else {
            skip!("no setpriv, or not the right to become somebody else, or rings are not charged");
        };
        words
    }};
}

#[test]
fn little_locked_memory() {
    // Goal: with `ulimit -l 64` a user without privileges runs, on smaller rings, on as many cores as there is room for the
    // smallest; the first to open leave something for the last. With next to nothing he reads what to raise.
    // Method: eight rings are 64 KiB. In 144 KiB the first ring is as large as asked for, and the third finds no room until all
    // are made smaller.
    check(|| {
        need_locked_kib!(144);
        for (kib, cores, said) in [
            (64, "2", "hello from 2 cores: 3\n"),
            (64, "8", "hello from 8 cores: 36\n"),
            (144, "3", "hello from 3 cores: 6\n"),
        ] {
            let ended = under(&with_locked_kib!(kib), &["hello", cores]);
            ended.assert_success();
            assert_eq!(ended.stdout, said);
        }
        let next_to_nothing = under(&with_locked_kib!(4), &["hello"]);
        next_to_nothing.assert_refused(&["locked memory (4 KiB", "ulimit -l"]);
    });
}

#[test]
fn one_life_after_the_other_in_little_locked_memory() {
    // Goal: a process starts in the memory of those that have just ended, though the kernel has not given it back yet, and
    // though all its cores wait for it at once; attempts that are refused do not take it from each other.
    // Method: processes that need all there is, one after the other, the first after one that wanted more and gave up.
    check(|| {
        let words = with_locked_kib!(64);
        under(&words, &["hello", "9"]).assert_refused(&["locked memory (64 KiB", "ulimit -l"]);
        for life in 0..10 {
            note(format!("life {life}"));
            let ended = under(&words, &["hello", "8"]);
            ended.assert_success();
            assert_eq!(ended.stdout, "hello from 8 cores: 36\n");
        }
    });
}

#[test]
fn little_locked_memory_under_a_storm_of_signals() {
    // Goal: a start that waits for the memory of rings that were closed waits no longer because of signals, and the process ends.
    // Method: 200 short lives under two signals in a loop.
    check(|| {
        let ended = under(&with_locked_kib!(64), &["storm"]);
        ended.assert_success();
        assert_eq!(ended.stdout, "over\n");
    });
}

#[test]
fn zero_copy_beyond_locked_memory() {
    // Goal: buffers that the kernel may not lock are copied: all that was sent arrives.
    // Method: 300 KB each.
    check(|| {
        let ended = under(&with_locked_kib!(64), &["zero-copy"]);
        ended.assert_success();
        assert_eq!(ended.stdout, "sent 2400000 bytes\n");
    });
}

#[test]
fn too_little_locked_memory_for_registered_buffers() {
    // Goal: where the limit on locked memory forbids to register the pool, the buffers work all the same, and one line
    // says why they are slower and what to raise; where it does not, they are registered and nothing is said.
    // Method: 1 MiB of buffers within 512 KiB and within 4 MiB.
    check(|| {
        if !is_allowed(Feature::RegisteredBuffers) {
            skip!("registered buffers are switched off");
        }
        need_locked_kib!(4096);
        let tight = under(&with_locked_kib!(512), &["fixed-buffers"]);
        tight.assert_success();
        assert_eq!(tight.stdout, "registered: false\n", "{tight:#?}");
        for word in ["registered buffers", "1024 KiB", "(512 KiB", "ulimit -l"] {
            assert!(tight.stderr.contains(word), "{word:?}: {tight:#?}");
        }
        assert_eq!(tight.stderr.lines().count(), 1, "{tight:#?}");
        let free = under(&with_locked_kib!(4096), &["fixed-buffers"]);
        free.assert_success();
        assert_eq!((&*free.stdout, &*free.stderr), ("registered: true\n", ""));
    });
}

#[test]
fn a_mapped_file_that_is_cut_off() {
    // Goal: what the documentation of `Mmap` says about it: `populate` fails with a sentence, and touching a byte that
    // is gone ends the process by SIGBUS, without a word about an overflow.
    // Method: a scenario that does both.
    check(|| {
        let ended = scenario(&["mapped-and-cut"]);
        assert_eq!(ended.signal, Some(libc::SIGBUS), "{ended:#?}");
        assert!(ended.stdout.contains("last byte: 0"), "{ended:#?}");
        assert!(
            ended.stdout.contains("beyond the end of the file"),
            "{ended:#?}"
        );
        assert!(!ended.stdout.contains("not reached") && !ended.stderr.contains("overflow"));
    });
}

#[test]
fn few_descriptors() {
    // Goal: `ulimit -n 64` is enough for a small runtime; a server that runs into it gets an error it can wait out,
    // and loses no connection; a runtime that needs more says so.
    // Method: prlimit; a scenario that opens files until there are none, and 64 cores, of which the last ones find no
    // descriptor when the first have started.
    check(|| {
        if !exists("prlimit") {
            skip!("no prlimit");
        }
        let limited = |words: &[&str]| under(&["prlimit", "--nofile=64:64"], words);
        limited(&["hello"]).assert_success();
        let ended = limited(&["out-of-files"]);
        ended.assert_success();
        assert!(ended.stdout.contains("Too many open files"), "{ended:#?}");
        assert!(ended.stdout.contains("accepted later"), "{ended:#?}");
        need_locked_kib!(8 * 64);
        limited(&["hello", "64"]).assert_refused(&["core", "limit is 64", "ulimit -n"]);
    });
}

#[test]
fn interrupted_enters() {
    // Goal: system calls that are interrupted again and again cost time, and nothing else: every byte is echoed.
    // Method: strace lets every second io_uring_enter fail with EINTR; then a timer signal each millisecond.
    check(|| {
        let ended = scenario(&["echo-under-signals"]);
        ended.assert_success();
        assert!(ended.stdout.contains("echoed 2020020 bytes"), "{ended:#?}");
        if !strace_works() {
            skip!("strace is not to be had here");
        }
        for errno in ["EINTR", "EAGAIN", "EBUSY"] {
            let inject = format!("inject=io_uring_enter:error={errno}:when=2+2");
            let ended = under(
                &["strace", "-f", "-o", "/dev/null", "-e", &inject],
                &["echo"],
            );
            ended.assert_success();
            assert!(ended.stdout.contains("echoed 2020020 bytes"), "{ended:#?}");
        }
    });
}

#[test]
fn features_from_the_environment() {
    // Goal: `CORING_FEATURES` takes features away from a program that knows nothing of it, one by one or all; a word
    // that names none is refused, and the refusal lists the words there are.
    // Method: a scenario with each value; that it has an effect is seen in the flags of io_uring_setup.
    check(|| {
        let with = |value: &str, words: &[&str]| {
            let variable = format!("CORING_FEATURES={value}");
            under(&["env", &variable], words)
        };
        with("none", &["echo"]).assert_success();
        for row in &TABLE {
            with(&format!("no-{}", row.name), &["echo"]).assert_success();
        }
        let refused = with("no-such-thing", &["hello"]);
        refused.assert_refused(&["CORING_FEATURES", "no-such-thing", "defer-taskrun"]);
        if !strace_works() {
            skip!("strace is not to be had here");
        }
        // The second field of io_uring_params, in the order of the kernel's header.
        let single_issuer = |value: &str| {
            let variable = format!("CORING_FEATURES={value}");
            let trace = ["strace", "-f", "-X", "raw", "-e", "trace=io_uring_setup"];
            let wrapper: Vec<_> = trace.into_iter().chain(["env", &variable]).collect();
            let text = under(&wrapper, &["hello", "1"]).stderr;
            let flags = text.split_once("{flags=0x").expect("a setup is traced").1;
            let flags = flags.split_once(',').expect("more fields follow").0;
            u32::from_str_radix(flags, 16).expect("strace writes hex") >> 12 & 1
        };
        assert_eq!((single_issuer("all"), single_issuer("none")), (1, 0));
    });
}
