//! Goal: a line costs no allocation and no system call, and is with the sink when it should be without anybody's asking.
#![expect(
    unsafe_code,
    reason = "a counting allocator; a thread that may make no system calls"
)]

use coring_logger::{Logger, error, info, register_core, with_context};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::context::{hooks, run};
use crate::exclusive;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the calling thread in `work`.
fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Anything that is formatted at the call.
struct Shown(u64);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

/// Two coroutines, one of them with a name and both with fields, log in turn; so each line changes the context.
fn lines_of_two(numbers: std::ops::Range<u64>, core: &coring_logger::CoreRing) {
    for number in numbers {
        for coroutine in [7, 8] {
            run(coroutine);
            info!(of = coroutine; "number {} of {} and {}", number, "a text", 0.5);
            info!("{}", Shown(number));
        }
        run(0);
        info!("outside, {}", number);
        core.turn();
    }
}

/// Fields for both, then `body`.
fn with_fields(body: impl FnOnce()) {
    run(7);
    with_context("user", "ann", || {
        run(8);
        with_context("job", 3, body);
        run(7);
    });
    run(0);
}

#[test]
fn lines_and_changes_of_coroutine_allocate_nothing() {
    // Goal: the heap is not touched by a line, deferred or formatted at the call, nor by the change of coroutine before it.
    // Method: the allocator counts for this thread; the first lines make what is kept.
    let _turn = exclusive();
    let (builder, lines) = Logger::builder()
        .hooks(hooks())
        .pattern("{coroutine}|{message}{fields}")
        .memory();
    let logger = builder.start().expect("starts");
    let core = register_core(0).expect("a ring");
    assert_eq!(
        allocations_of(|| drop(std::hint::black_box(Box::new(1)))),
        1
    );
    let mut allocated = 0;
    {
        let _here = core.enter();
        with_fields(|| {
            lines_of_two(0..10, &core);
            allocated = allocations_of(|| lines_of_two(10..200, &core));
        });
    }
    logger.shutdown();
    assert_eq!(allocated, 0);
    let text = lines.text();
    let of = |begin: &str| text.lines().filter(|it| it.starts_with(begin)).count();
    assert_eq!(text.lines().count(), 1000);
    for line in [
        "session#7|number 199 of a text and 0.5 user=ann of=7",
        "#8|<199> job=3",
        "|outside, 199",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert_eq!((of("session#7|"), of("#8|"), of("|")), (400, 400, 200));
}

/// From here on the kernel kills the calling thread when it makes a system call, unless it is exit(2). False where that is not to be had.
fn forbid_system_calls() -> bool {
    let step = |code: u32, yes: u8, no: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).expect("short"),
        jt: yes,
        jf: no,
        k,
    };
    let exit = u32::try_from(libc::SYS_exit).expect("small");
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0), // The call's number.
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, exit),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_KILL_THREAD,
        ),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: takes numbers only, and concerns this thread alone.
    let unprivileged = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if unprivileged != 0 {
        return false;
    }
    // SAFETY: the program lives until the call returns; it concerns this thread alone.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    set == 0
}

#[test]
fn lines_make_no_system_call() {
    // Goal: a core that logs makes no system call, whatever its context, at the end of its turns neither.
    // Method: a thread whose first system call is its last comes to the end of its lines, or not.
    let _turn = exclusive();
    let (builder, lines) = Logger::builder()
        .hooks(hooks())
        .pattern("{message}")
        .memory();
    let logger = builder.start().expect("starts");
    const BEGINS: u64 = 0;
    const ENDS: u64 = 1;
    const CANNOT: u64 = 2;
    static STATE: AtomicU64 = AtomicU64::new(BEGINS);
    // Not joined: it does not end as other threads do.
    std::thread::spawn(|| {
        let core = register_core(0).expect("a ring");
        let here = core.enter();
        let mut forbidden = false;
        with_fields(|| {
            lines_of_two(0..10, &core);
            forbidden = forbid_system_calls();
            if forbidden {
                lines_of_two(10..200, &core);
            }
        });
        drop(here);
        STATE.store(if forbidden { ENDS } else { CANNOT }, Ordering::Release);
        // SAFETY: ends this thread, without its destructors: they may need what is forbidden.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    let begin = Instant::now();
    while STATE.load(Ordering::Acquire) == BEGINS {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "the thread was killed between its lines"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    logger.shutdown();
    if STATE.load(Ordering::Acquire) == CANNOT {
        crate::skip!("no seccomp");
    }
    assert_eq!(lines.text().lines().count(), 1000);
}

/// Waits for `text` to be there.
fn comes(lines: &coring_logger::MemoryLines, text: &str) {
    let begin = Instant::now();
    while !lines.text().contains(text) {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{}",
            lines.text()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn lines_come_by_the_timer_and_errors_at_once() {
    // Goal: what was logged is with the sink after the poll interval, and after an error without it, in the middle of a turn.
    // Method: one logger that looks every two milliseconds, one that looks every hour. Its errors come at any time, also when it is about to sleep.
    let _turn = exclusive();
    let start = |poll| {
        let (builder, lines) = Logger::builder().pattern("{message}").memory();
        (builder.poll_interval(poll).start().expect("starts"), lines)
    };
    let (logger, lines) = start(Duration::from_millis(2));
    info!("by the timer");
    comes(&lines, "by the timer\n");
    info!("again");
    comes(&lines, "again\n");
    logger.shutdown();

    let (logger, lines) = start(Duration::from_secs(3600));
    let core = register_core(0).expect("a ring");
    let _here = core.enter();
    for round in 0..300 {
        info!("before {}", round);
        error!("error {}", round);
        comes(&lines, &format!("before {round}\nerror {round}\n"));
    }
    logger.shutdown();
}

#[test]
fn an_error_is_not_missed_while_the_drain_is_busy() {
    // Goal: an error that is logged when the drain has looked, but not gone to sleep, is written in the next pass.
    // Method: a sink that takes each of the first blocks only when a thread has logged another error; the drain looks every hour.
    const ERRORS: usize = 8;
    struct Slow(coring_logger::Memory, usize);
    impl coring_logger::Sink for Slow {
        fn write(&mut self, block: &[u8]) -> std::io::Result<usize> {
            self.1 += 1;
            if self.1 < ERRORS {
                let number = self.1;
                let logs = std::thread::spawn(move || error!("error {}", number));
                logs.join().expect("logs");
            }
            coring_logger::Sink::write(&mut self.0, block)
        }
    }
    let _turn = exclusive();
    let (memory, lines) = coring_logger::Memory::new();
    let logger = Logger::builder()
        .poll_interval(Duration::from_secs(3600))
        .pattern("{message}")
        .sink(Slow(memory, 0))
        .start()
        .expect("starts");
    error!("error 0");
    comes(&lines, &format!("error {}\n", ERRORS - 1));
    logger.shutdown();
    let expected: String = (0..ERRORS).map(|n| format!("error {n}\n")).collect();
    assert_eq!(lines.text(), expected);
}

#[test]
fn the_drain_runs_where_it_is_put() {
    // Goal: the builder's CPU is the drain's, and not that of who starts it. Method: the kernel is asked for each CPU of ours.
    let _turn = exclusive();
    let allowed = |task: &str| {
        let status = std::fs::read_to_string(format!("/proc/self/task/{task}/status"))?;
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        Ok::<_, std::io::Error>(list.expect("Linux says so").trim().to_owned())
    };
    // SAFETY: asks for this thread's number.
    let own = unsafe { libc::gettid() }.to_string();
    let before = allowed(&own).expect("our own");
    let last = before.rsplit([',', '-']).next().expect("a CPU").to_owned();
    let builder = Logger::builder().memory().0;
    let logger = builder
        .cpu(last.parse().expect("a number"))
        .start()
        .expect("starts");
    logger.flush().expect("it runs"); // And has put itself there before.
    let drain = std::fs::read_dir("/proc/self/task")
        .expect("our threads")
        .filter_map(|task| task.ok()?.file_name().into_string().ok())
        .find(|task| {
            let name = std::fs::read_to_string(format!("/proc/self/task/{task}/comm"));
            name.is_ok_and(|name| name.starts_with("coring-log"))
        })
        .expect("the drain's thread");
    assert_eq!(allowed(&drain).expect("the drain's"), last);
    assert_eq!(allowed(&own).expect("our own"), before);
    logger.shutdown();
}
