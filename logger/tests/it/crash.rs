//! Goal: what was logged survives how the process ends. Each test runs this binary again as a child that plays a part and dies.

use coring_logger::{File, Full, Logger, Recovered, Sink, Text, error, info, register_core};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::exclusive;

pub(crate) const PART: &str = "CORING_LOG_TEST_PART";
const DIRECTORY: &str = "CORING_LOG_TEST_DIRECTORY";

/// A directory in memory that goes away.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("coring-log-")
        .tempdir_in("/dev/shm")
        .expect("/dev/shm is writable")
}

/// Runs this binary as a child that plays `part`.
pub(crate) fn child(part: &str, directory: &Path) -> Child {
    Command::new(std::env::current_exe().expect("our own path"))
        .args([
            "--exact",
            "crash::play_a_part",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(PART, part)
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

/// Not a test by itself: the children's entry.
#[test]
fn play_a_part() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("set with the part"));
    match part.as_str() {
        "flood" => flood(&directory),
        "abort" => last_words(&directory, || std::process::abort()),
        "fault" => last_words(&directory, fault),
        "panic" => last_words(&directory, || panic!("the last panic")),
        "fork" => fork(&directory),
        "signals" => signals(&directory),
        "hangup" => hangup(&directory),
        "early" => early(&directory),
        "stuck after 10" => crate::held::stuck(&directory, 10),
        "stuck after 1000" => crate::held::stuck(&directory, 1000),
        other => panic!("no part {other}"),
    }
}

/// A counter in a shared file: the child says how far it has come.
#[expect(
    unsafe_code,
    reason = "a shared mapping of one page that both processes use through an atomic"
)]
pub(crate) fn counter(directory: &Path) -> &'static AtomicU64 {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join("counter"))
        .expect("opens");
    file.set_len(4096).expect("a page");
    let map = memmap2::MmapOptions::new().map_raw(&file).expect("maps");
    let word = map.as_mut_ptr().cast::<u64>();
    Box::leak(Box::new(map));
    // SAFETY: page-aligned, mapped for the rest of the process.
    unsafe { AtomicU64::from_ptr(word) }
}

fn flood(directory: &Path) {
    let progress = counter(directory);
    let logger = Logger::builder()
        .full(Full::Wait)
        .pattern("{message}")
        .crash_ring(directory.join("ring"))
        .file(directory.join("log"))
        .start()
        .expect("starts");
    std::thread::spawn(|| {
        let ring = register_core(0).expect("a ring");
        let _here = ring.enter();
        for number in 0_u64.. {
            info!("core {}", number);
            if number.is_multiple_of(10) {
                ring.turn();
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    });
    for number in 0_u64.. {
        info!("line {}", number);
        progress.store(number + 1, Ordering::SeqCst);
    }
    drop(logger);
}

/// Numbers of the lines that begin with `word`.
pub(crate) fn numbers(text: &str, word: &str) -> BTreeSet<u64> {
    text.lines()
        .filter_map(|line| line.strip_prefix(word)?.parse().ok())
        .collect()
}

#[test]
fn kill_9_at_any_moment_loses_nothing() {
    if std::env::var_os(PART).is_some() {
        return;
    }
    let _turn = exclusive();
    let mut recovered_lines = 0;
    for round in 0_u64..100 {
        let directory = scratch();
        let progress = counter(directory.path());
        let mut child = child("flood", directory.path());
        while progress.load(Ordering::SeqCst) == 0 {
            assert!(
                child.try_wait().expect("waits").is_none(),
                "the child ended by itself"
            );
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(round * 7919 % 15_000));
        child.kill().expect("kills");
        child.wait().expect("waits");
        let logged = progress.load(Ordering::SeqCst);

        let recovered = Recovered::open(&directory.path().join("ring")).expect("a crash ring");
        assert_eq!(recovered.torn(), [""; 0], "round {round}");
        recovered_lines += recovered.len();
        let mut text = std::fs::read(directory.path().join("log")).unwrap_or_default();
        recovered.format(&mut "{message}".parse::<Text>().expect("valid"), &mut text);
        let text = String::from_utf8(text).expect("text");
        let found = numbers(&text, "line ");
        let missing = (0..logged).find(|number| !found.contains(number));
        assert_eq!(
            missing,
            None,
            "round {round}: logged {logged}, found {}",
            found.len()
        );
        // Lines of the core have no gap either: all up to the last that is found are there.
        let core = numbers(&text, "core ");
        assert!(
            core.iter().copied().eq(0..core.len() as u64),
            "round {round}: a gap in the core's lines"
        );
    }
    assert!(
        recovered_lines > 0,
        "no kill ever found a line in a ring: the test shows nothing"
    );
}

#[test]
fn the_next_start_writes_what_a_killed_process_left() {
    if std::env::var_os(PART).is_some() {
        return;
    }
    let _turn = exclusive();
    let directory = scratch();
    let progress = counter(directory.path());
    let mut child = child("flood", directory.path());
    while progress.load(Ordering::SeqCst) < 1000 {
        std::thread::sleep(Duration::from_micros(200));
    }
    let path = directory.path().join("ring");
    let busy = Logger::builder()
        .crash_ring(&path)
        .start()
        .expect_err("the file belongs to a living process");
    assert!(busy.to_string().contains("a running process"), "{busy}");
    child.kill().expect("kills");
    let process = child.id();
    child.wait().expect("waits");

    let (builder, lines) = Logger::builder()
        .pattern("{message}")
        .crash_ring(&path)
        .memory();
    let logger = builder.start().expect("starts");
    info!("new life");
    logger.shutdown();
    let text = lines.text();
    assert!(text.starts_with("recovered "), "{text}");
    assert!(
        text.contains(&format!(
            "of process {process}, which ended without shutting its logger down"
        )),
        "{text}"
    );
    assert!(text.ends_with("new life\n"), "{text}");
    assert!(!path.exists(), "an orderly end leaves no file");
}

#[test]
fn a_disk_is_no_place_for_a_ring() {
    let _turn = exclusive();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let refused = Logger::builder()
        .crash_ring(directory.path().join("ring"))
        .start()
        .expect_err("not tmpfs");
    assert!(refused.to_string().contains("/dev/shm"), "{refused}");
}

fn last_words(directory: &Path, die: fn()) {
    let logger = Logger::builder()
        .pattern("{level} {message}")
        .poll_interval(Duration::from_secs(3600)) // The drain does nothing by itself: all is left to the last moment.
        .thread_ring_bytes(1 << 20)
        .handle_crashes(true)
        .file(directory.join("log"))
        .start()
        .expect("starts");
    for number in 0..1000 {
        info!("line {}", number);
    }
    die();
    drop(logger);
}

#[expect(unsafe_code, reason = "the fault under test")]
fn fault() {
    let nowhere = std::ptr::without_provenance_mut::<u8>(8);
    // SAFETY: none; this is the crash that the test is about.
    unsafe { nowhere.write_volatile(1) };
}

#[test]
fn aborts_faults_and_panics_write_what_is_left() {
    use std::os::unix::process::ExitStatusExt as _;
    if std::env::var_os(PART).is_some() {
        return;
    }
    for (part, signal) in [
        ("abort", Some(libc::SIGABRT)),
        ("fault", Some(libc::SIGSEGV)),
        ("panic", None),
    ] {
        let directory = scratch();
        let status = child(part, directory.path()).wait().expect("waits");
        assert_eq!(status.signal(), signal, "{part}: {status}");
        assert!(!status.success());
        let text = std::fs::read_to_string(directory.path().join("log")).expect("the log");
        assert_eq!(numbers(&text, "INFO  line ").len(), 1000, "{part}");
        let panicked =
            text.contains("ERROR thread \"crash::play_a_part\" panicked: the last panic");
        assert_eq!(panicked, part == "panic", "{part}: {text}");
    }
}

#[expect(unsafe_code, reason = "fork(2) is what the test is about")]
fn fork(directory: &Path) {
    let start = |name: &str| {
        Logger::builder()
            .pattern("{message}")
            .file(directory.join(name))
            .start()
            .expect("starts")
    };
    let logger = start("parent");
    info!("before");
    // SAFETY: the child uses only what the logger promises to work after fork, then exits.
    match unsafe { libc::fork() } {
        0 => {
            info!("ignored in the child");
            assert!(logger.flush().is_err());
            drop(logger); // must not wait for a thread that the child does not have
            error!("this too");
            let own = start("child");
            info!("the child's own");
            own.shutdown();
            // SAFETY: ends the child without running the parent's destructors.
            unsafe { libc::_exit(0) };
        }
        child => {
            let mut status = -1;
            // SAFETY: waits for our child and stores its status.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(status, 0, "the child ended well");
            info!("after");
            logger.shutdown();
        }
    }
}

#[test]
fn a_forked_child_neither_writes_into_the_parents_log_nor_hangs() {
    if std::env::var_os(PART).is_some() {
        return;
    }
    let directory = scratch();
    let status = child("fork", directory.path()).wait().expect("waits");
    assert!(status.success(), "{status}");
    let text = |name| std::fs::read_to_string(directory.path().join(name)).expect("a log");
    assert_eq!(text("parent"), "before\nafter\n");
    assert_eq!(text("child"), "the child's own\n");
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn log_in_handler(_: libc::c_int) {
    info!("handler {}", HANDLED.fetch_add(1, Ordering::Relaxed));
}

#[expect(unsafe_code, reason = "signal(2), pthread_sigmask(3) and setitimer(2)")]
fn signals(directory: &Path) {
    // SAFETY: plain integers, for which zero is a value.
    let mut alarms: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a set of our own.
    unsafe { libc::sigaddset(&raw mut alarms, libc::SIGALRM) };
    // Not in the drain, which inherits this: the thread that logs is the one to be interrupted.
    // SAFETY: a valid set; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const alarms, std::ptr::null_mut()) };
    let logger = Logger::builder()
        .full(Full::Drop)
        .pattern("{message}")
        .file(directory.join("log"))
        .start()
        .expect("starts");
    coring_logger::warm_up();
    info!("handler {}", HANDLED.fetch_add(1, Ordering::Relaxed));
    // SAFETY: the handler is what the test is about.
    unsafe {
        libc::signal(
            libc::SIGALRM,
            log_in_handler as *const () as libc::sighandler_t,
        )
    };
    let tick = libc::timeval {
        tv_sec: 0,
        tv_usec: 50,
    };
    let timer = libc::itimerval {
        it_interval: tick,
        it_value: tick,
    };
    // SAFETY: a valid timer; the old one is not asked for.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const alarms, std::ptr::null_mut()) };
    let mut lines = 0;
    // Lines shorter than the handler's, one right behind the other: each instruction of a call is interrupted some time.
    while HANDLED.load(Ordering::Relaxed) < 20_000 {
        for _ in 0..2000 {
            info!("line");
            lines += 1;
        }
        // In a ring that is full each line goes another way.
        logger.flush().expect("flushes");
    }
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGALRM, libc::SIG_IGN) };
    logger.flush().expect("flushes");
    let stats = logger.stats();
    let handled = HANDLED.load(Ordering::Relaxed);
    assert_eq!(
        stats.lines + stats.refused + stats.dropped.iter().sum::<u64>(),
        lines + handled,
        "{stats:?}"
    );
    logger.shutdown();
}

#[test]
fn a_signal_handler_may_log_and_corrupts_nothing() {
    if std::env::var_os(PART).is_some() {
        return;
    }
    let directory = scratch();
    let output = child("signals", directory.path())
        .wait_with_output()
        .expect("waits");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(directory.path().join("log")).expect("the log");
    for line in text.lines() {
        let whole = line.starts_with("handler ") || line == "line" || line.contains(" lost");
        assert!(whole, "{line:?}");
    }
    assert!(numbers(&text, "handler ").len() > 100);
}

/// A file that says when it is asked to open itself anew.
struct Watched {
    file: File,
    reopened: std::sync::mpsc::Sender<()>,
}

impl Sink for Watched {
    fn write(&mut self, block: &[u8]) -> std::io::Result<usize> {
        self.file.write(block)
    }
    fn begin_block(&mut self) -> std::io::Result<bool> {
        self.file.begin_block()
    }
    fn reopen(&mut self) {
        self.file.reopen();
        self.reopened.send(()).expect("the test waits for it");
    }
}

static PASSED_ON: AtomicU64 = AtomicU64::new(0);

extern "C" fn of_the_program(_: libc::c_int) {
    PASSED_ON.fetch_add(1, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "signal(2)")]
fn hangup(directory: &Path) {
    // SAFETY: a handler that counts.
    unsafe {
        libc::signal(
            libc::SIGHUP,
            of_the_program as *const () as libc::sighandler_t,
        )
    };
    let (reopened, asked) = std::sync::mpsc::channel();
    let file = File::new(directory.join("log"));
    let logger = Logger::builder()
        .pattern("{message}")
        .poll_interval(Duration::from_secs(3600)) // The drain hears of the signal because it is woken.
        .reopen_on_hangup(true)
        .sink(Watched { file, reopened })
        .start()
        .expect("starts");
    info!("first");
    logger.flush().expect("flushes");
    counter(directory).store(1, Ordering::SeqCst);
    asked.recv().expect("the drain is asked");
    info!("second");
    logger.shutdown();
    // The handler wakes the drain first, and passes the signal on after that, perhaps on another thread.
    let begin = std::time::Instant::now();
    while PASSED_ON.load(Ordering::Relaxed) == 0 && begin.elapsed() < Duration::from_secs(10) {
        std::thread::yield_now();
    }
    assert_eq!(PASSED_ON.load(Ordering::Relaxed), 1);
}

#[test]
fn a_hangup_opens_the_file_anew() {
    // Goal: mv and kill -HUP, as logrotate does it: no line is lost, none goes to the wrong file, and the program's own handler hears of it.
    if std::env::var_os(PART).is_some() {
        return;
    }
    let directory = scratch();
    let progress = counter(directory.path());
    let mut child = child("hangup", directory.path());
    while progress.load(Ordering::SeqCst) == 0 {
        assert!(child.try_wait().expect("waits").is_none(), "it ended");
        std::thread::yield_now();
    }
    let (log, moved) = (directory.path().join("log"), directory.path().join("moved"));
    std::fs::rename(&log, &moved).expect("renames");
    let process = libc::pid_t::try_from(child.id()).expect("a process id");
    #[expect(unsafe_code, reason = "kill(2)")]
    // SAFETY: our own child, which has not been waited for.
    let sent = unsafe { libc::kill(process, libc::SIGHUP) };
    assert_eq!(sent, 0);
    let output = child.wait_with_output().expect("waits");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {said}", output.status);
    let text = |path| std::fs::read_to_string(path).expect("a log");
    assert_eq!(text(&moved), "first\n");
    assert_eq!(text(&log), "second\n");
}

fn early(directory: &Path) {
    for number in 0..3 {
        info!("early {}", number);
    }
    let logger = Logger::builder()
        .pattern("{level} {message}")
        .file(directory.join("log"))
        .start()
        .expect("starts");
    info!("in time");
    logger.shutdown();
    info!("too late");
}

#[test]
fn lines_before_the_first_logger_are_counted() {
    // Goal: what is logged before there is a logger is said to be missing, in a process that never had one.
    if std::env::var_os(PART).is_some() {
        return;
    }
    let directory = scratch();
    let status = child("early", directory.path()).wait().expect("waits");
    assert!(status.success(), "{status}");
    let text = std::fs::read_to_string(directory.path().join("log")).expect("the log");
    assert_eq!(
        text,
        "WARN  3 lines were logged before the logger was started, and are lost\nINFO  in time\n"
    );
}

#[test]
fn a_damaged_ring_is_read_as_far_as_it_goes() {
    if std::env::var_os(PART).is_some() {
        return;
    }
    let _turn = exclusive();
    let directory = scratch();
    let progress = counter(directory.path());
    let mut child = child("flood", directory.path());
    while progress.load(Ordering::SeqCst) < 3000 {
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().expect("kills");
    child.wait().expect("waits");
    let path = directory.path().join("ring");
    let intact = std::fs::read(&path).expect("the ring");
    let whole = Recovered::open(&path).expect("a crash ring").len();
    // A simple generator with a fixed seed: the same damage every time.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(random >> 33).expect("31 bits") % below
    };
    let mut damaged_lines = Vec::new();
    for _ in 0..60 {
        let mut bytes = intact.clone();
        for _ in 0..=next(30) {
            // Half of the damage goes where it hurts most: the heads of file and rings, and the dictionary.
            let at = if next(2) == 0 {
                next(300_000)
            } else {
                next(bytes.len())
            };
            bytes[at] = u8::try_from(next(256)).expect("a byte");
        }
        std::fs::write(&path, &bytes).expect("writes");
        if let Ok(recovered) = Recovered::open(&path) {
            let mut text = Vec::new();
            recovered.format(&mut Text::default(), &mut text);
            assert_eq!(
                text.iter().filter(|byte| **byte == b'\n').count(),
                recovered.len()
            );
            damaged_lines.push(recovered.len());
        }
    }
    assert!(
        !damaged_lines.is_empty() && damaged_lines.iter().all(|lines| *lines <= whole + 1000),
        "{damaged_lines:?}"
    );
    for length in [0, 10, 5000, 300_000, intact.len() - 1] {
        std::fs::write(&path, &intact[..length]).expect("writes");
        let _ = Recovered::open(&path); // An error or fewer lines; the point is that it comes back.
    }
}
