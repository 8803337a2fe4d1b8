//! Goal: a log that cannot be written holds nobody up: lines are kept and tried again, what is lost is counted, standard error hears of it
//! once. Method: each case in a child of its own (`play`), whose standard error is read; where a case needs rights that the test has not got,
//! it says so and is skipped.

use coring_logger::{Format, Line, Logger, Sink, SyncPolicy, info};
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::crash::scratch;
use crate::{exclusive, skip};

const PART: &str = "CORING_LOG_TROUBLE";

/// The child's side of all cases.
#[test]
fn play() {
    // Goal: none of its own; each other test of this file runs this one in a child.
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let (case, path) = part.split_once(':').expect("a case and a path");
    match case {
        "unwritable" => unwritable(Path::new(path)),
        "eio" => input_output_errors(),
        "panics" => panics(),
        "gone" => gone(Path::new(path)),
        other => panic!("no case {other}"),
    }
}

fn child(mut command: Command, case: &str, path: &Path) -> io::Result<Output> {
    command
        .args(["trouble::play", "--exact", "--nocapture"])
        .env(PART, format!("{case}:{}", path.display()))
        .stdin(Stdio::null())
        .output()
}

fn ourselves() -> Command {
    Command::new(std::env::current_exe().expect("our own path"))
}

/// What a child has said on standard error, which must have ended well.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{} {text}", output.status);
    text
}

fn complaints(text: &str) -> usize {
    text.matches("cannot write the log").count()
}

/// Logs to a file that takes nothing: every line is counted, the caller goes on, the end comes.
fn unwritable(path: &Path) {
    let logger = Logger::builder().file(path).start().expect("starts");
    let before = logger.stats().dropped; // It counts for the process.
    for round in 0..3 {
        for number in 0..100 {
            info!("{} {}", round, number);
        }
        let error = logger.flush().expect_err("the sink fails");
        assert!(error.to_string().contains("standard error"), "{error}");
    }
    assert_eq!(logger.stats().dropped, before);
    logger.shutdown();
}

#[test]
fn a_full_device_is_complained_of_once() {
    // Goal: ENOSPC from a real device, at every write, for as long as the logger lives.
    let output = child(ourselves(), "unwritable", Path::new("/dev/full")).expect("runs");
    let text = said(&output);
    assert_eq!(complaints(&text), 1, "{text}");
    assert!(text.contains("No space left on device"), "{text}");
    assert!(text.contains("are not in the log"), "{text}");
}

#[test]
fn a_file_on_a_full_device_is_opened_anew() {
    // Goal: a file that cannot be written is left for the one that takes its name: somebody makes room by removing it, or moves it. Texts are kept;
    // records, which stand for nothing without what is in the old file, are counted. Method: the name leads to a full device until it is removed;
    // with a word to the logger, and without.
    let _turn = exclusive();
    for (binary, told) in [(false, true), (false, false), (true, true)] {
        let directory = scratch();
        let path = directory.path().join("log");
        std::os::unix::fs::symlink("/dev/full", &path).expect("a link");
        let builder = Logger::builder();
        let builder = match binary {
            true => builder.format(coring_logger::Binary::new()),
            false => builder.pattern("{message}"),
        };
        let logger = builder.file(&path).start().expect("starts");
        for number in 0..10 {
            info!("{}", number);
        }
        logger.flush().expect_err("the device is full");
        std::fs::remove_file(&path).expect("removes");
        if told {
            logger.reopen();
        }
        let begun = std::time::Instant::now();
        while logger.flush().is_err() {
            assert!(
                begun.elapsed() < std::time::Duration::from_secs(20),
                "told: {told}"
            );
            std::thread::yield_now();
        }
        info!("last");
        logger.shutdown();
        let shown = match binary {
            true => crate::command::shown(&path),
            false => std::fs::read_to_string(&path).expect("reads"),
        };
        if binary {
            assert!(shown.starts_with("10 lines lost since"), "{shown}");
            assert!(shown.ends_with("\nlast\n"), "{shown}");
        } else {
            assert_eq!(shown, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\nlast\n");
        }
    }
}

#[test]
fn a_read_only_file_system_is_complained_of_once() {
    // Goal: EROFS, on a file system of the child's own that is mounted so.
    let directory = scratch();
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o ro none \"$0\" && exec \"$@\"";
    command
        .args(["--mount", "sh", "-c", script])
        .arg(directory.path())
        .arg(std::env::current_exe().expect("our own path"));
    let output = match child(command, "unwritable", &directory.path().join("log")) {
        Ok(output) => output,
        Err(error) => skip!("no unshare(1) to mount with: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare:") || text.contains("mount:") {
        skip!("mounting is not allowed here: {text}");
    }
    let text = said(&output);
    assert_eq!(complaints(&text), 1, "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
}

#[test]
fn a_directory_without_permission_is_complained_of_once() {
    // Goal: EACCES, for a child that is not root.
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let directory = scratch();
    let closed = std::fs::Permissions::from_mode(0o555);
    std::fs::set_permissions(directory.path(), closed).expect("it is ours");
    let mut command = ourselves();
    // 65534 is nobody, on every Linux; a parent that is not root cannot become it, and need not.
    let root = std::fs::metadata("/proc/self").is_ok_and(|it| {
        use std::os::unix::fs::MetadataExt as _;
        it.uid() == 0
    });
    if root {
        command.uid(65534).gid(65534);
    }
    let output = match child(command, "unwritable", &directory.path().join("log")) {
        Ok(output) => output,
        Err(error) => skip!("nobody may not run this test: {error}"),
    };
    let text = said(&output);
    assert_eq!(complaints(&text), 1, "{text}");
    assert!(text.contains("Permission denied"), "{text}");
}

/// A disk that fails at every third call, in writing and in syncing, before it takes part of what it is given.
struct Faulty {
    calls: usize,
    taken: std::sync::mpsc::Sender<Vec<u8>>,
}

impl Faulty {
    fn strike(&mut self) -> io::Result<()> {
        self.calls += 1;
        if !self.calls.is_multiple_of(3) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }
}

impl Sink for Faulty {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        self.strike()?;
        let part = &block[..block.len().div_ceil(2)];
        self.taken.send(part.to_vec()).map_err(io::Error::other)?;
        Ok(part.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.strike()
    }
}

/// EIO again and again: all lines arrive, whole, once, in order.
fn input_output_errors() {
    let (taken, arrives) = std::sync::mpsc::channel();
    let logger = Logger::builder()
        .sync(SyncPolicy::OnError)
        .pattern("{message}")
        .sink(Faulty { calls: 0, taken })
        .start()
        .expect("starts");
    for number in 0..200 {
        info!("{}", number);
        if number % 50 == 0 {
            coring_logger::error!("{}", "an error, which is synced");
        }
    }
    // Until the sink has taken all: each attempt but one in three fails, and attempts are a tenth of a second apart.
    let mut text = Vec::new();
    while !text.ends_with(b"199\n") {
        text.extend(arrives.recv().expect("the drain tries until it is done"));
    }
    logger.shutdown();
    let text = String::from_utf8(text).expect("text");
    let numbers = text.lines().filter_map(|line| line.parse::<u64>().ok());
    assert!(numbers.eq(0..200), "{text}");
    assert_eq!(text.lines().count(), 204, "{text}");
}

/// A sink that panics at two calls of three, and says that it took more than it was given.
struct Panicky(Faulty);

impl Sink for Panicky {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        self.0.strike().expect("every third works");
        self.0
            .taken
            .send(block.to_vec())
            .map_err(io::Error::other)?;
        Ok(usize::MAX)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.strike().expect("every third works");
        Ok(())
    }
}

/// A format that panics at one line, after a part of it.
struct Choosy;

impl Format for Choosy {
    fn line(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        line.write_message(out);
        assert!(!out.ends_with(b"77"), "not this one");
        out.push(b'\n');
    }
}

/// Panics again and again: all lines but the one that cannot be formatted arrive, whole, once, in order.
fn panics() {
    let (taken, arrives) = std::sync::mpsc::channel();
    let logger = Logger::builder()
        .sync(SyncPolicy::Every(std::time::Duration::ZERO))
        .format(Choosy)
        .sink(Panicky(Faulty { calls: 0, taken }))
        .start()
        .expect("starts");
    for number in 0..100 {
        info!("{}", number);
    }
    let mut text = Vec::new();
    while !text.ends_with(b"99\n") {
        text.extend(arrives.recv().expect("the drain outlives it"));
    }
    assert_eq!(logger.stats().lost_in_sinks, 1);
    logger.shutdown();
    let text = String::from_utf8(text).expect("text");
    let numbers = text.lines().filter_map(|line| line.parse::<u64>().ok());
    assert!(
        numbers.eq((0..100).filter(|number| *number != 77)),
        "{text}"
    );
}

#[test]
fn the_drain_outlives_a_sink_that_panics() {
    let output = child(ourselves(), "panics", Path::new("")).expect("runs");
    let text = said(&output);
    assert_eq!(complaints(&text), 1, "{text}");
    assert!(text.contains("a panic in the sink or its format"), "{text}");
}

#[test]
fn input_output_errors_lose_nothing_that_is_taken_later() {
    let output = child(ourselves(), "eio", Path::new("")).expect("runs");
    let text = said(&output);
    assert!(text.contains("Input/output error"), "{text}");
}

/// The log's directory is removed, then is in the way as a file, then may be made again.
fn gone(directory: &Path) {
    let (place, log) = (directory.join("logs"), directory.join("logs/log"));
    let logger = Logger::builder()
        .pattern("{message}")
        .file(&log)
        .start()
        .expect("starts");
    info!("first");
    logger.flush().expect("flushes");
    std::fs::remove_dir_all(&place).expect("removes");
    logger.reopen();
    info!("second");
    logger
        .flush()
        .expect("a directory that is gone is made again");
    assert_eq!(std::fs::read_to_string(&log).expect("text"), "second\n");

    std::fs::remove_dir_all(&place).expect("removes");
    std::fs::write(&place, "in the way").expect("writes");
    logger.reopen();
    info!("third");
    assert!(logger.flush().is_err());
    assert_eq!(logger.stats().lost_in_sinks, 1);
    std::fs::remove_file(&place).expect("removes");
    while {
        info!("fourth");
        logger.flush().is_err()
    } {}
    logger.shutdown();
    let text = std::fs::read_to_string(&log).expect("text");
    assert!(
        text.contains("lost since") && text.ends_with("fourth\n"),
        "{text}"
    );
}

#[test]
fn a_deleted_directory_is_made_again() {
    let directory = scratch();
    let output = child(ourselves(), "gone", directory.path()).expect("runs");
    let text = said(&output);
    assert_eq!(complaints(&text), 1, "{text}");
}
