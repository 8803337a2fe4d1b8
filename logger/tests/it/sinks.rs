//! Goal: sinks do what they say under good and bad conditions: full disks, deaf readers, daemons, durability, the flight recorder.

use coring_logger::{
    Binary, Datagram, File, Journal, Level, LogReader, Logger, Sink, SyncPolicy, Syslog, info, log,
    warn, with_context,
};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::crash::scratch;
use crate::exclusive;

/// A sink that counts how often it is made durable.
struct Durable(Arc<AtomicUsize>);

impl Sink for Durable {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        Ok(block.len())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn lines_are_made_durable_when_the_policy_says() {
    // Goal: each policy syncs after the blocks it names and no others. Method: flushes, so that each line is a block of its own.
    let _turn = exclusive();
    let hour = Duration::from_secs(3600);
    for (policy, expected) in [
        (SyncPolicy::Never, [0, 0, 0, 0]),
        (SyncPolicy::OnError, [0, 1, 1, 2]), // the last at shutdown
        (SyncPolicy::Every(Duration::ZERO), [1, 2, 3, 3]),
        (SyncPolicy::Every(hour), [0, 0, 0, 1]),
    ] {
        let syncs = Arc::new(AtomicUsize::new(0));
        let logger = Logger::builder()
            .sync(policy)
            .sink(Durable(syncs.clone()))
            .start()
            .expect("starts");
        let mut seen = Vec::new();
        for level in [Level::Info, Level::Error, Level::Info] {
            match level {
                Level::Error => log!(Level::Error, "an error"),
                _ => info!("a line"),
            }
            logger.flush().expect("flushes");
            seen.push(syncs.load(Ordering::Relaxed));
        }
        logger.shutdown();
        seen.push(syncs.load(Ordering::Relaxed));
        assert_eq!(seen, expected, "{policy:?}");
    }
}

#[test]
#[expect(unsafe_code, reason = "openpty(3)")]
fn colours_are_for_terminals_only() {
    // Goal: standard error is coloured on a terminal, and neither in a pipe nor where NO_COLOR says so. Method: a child whose standard error
    // is one or the other.
    use std::io::Read as _;
    use std::os::fd::{FromRawFd as _, OwnedFd};
    use std::process::{Command, Stdio};
    if std::env::var_os("CORING_LOG_COLOURS").is_some() {
        let logger = Logger::builder().stderr().start().expect("starts");
        warn!("in colour?");
        logger.shutdown();
        return;
    }
    let said = |terminal: bool, no_color: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        let name = "sinks::colours_are_for_terminals_only";
        command
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env("CORING_LOG_COLOURS", "1")
            .env_remove("NO_COLOR")
            .envs(no_color.map(|value| ("NO_COLOR", value)))
            .stdout(Stdio::null());
        if !terminal {
            let output = command.output().expect("runs");
            return String::from_utf8_lossy(&output.stderr).into_owned();
        }
        let (mut ours, mut theirs) = (-1, -1);
        // SAFETY: stores two descriptors; neither a name nor settings are asked for.
        let made = unsafe {
            libc::openpty(
                &raw mut ours,
                &raw mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                std::ptr::null(),
            )
        };
        assert_eq!(made, 0, "a terminal");
        // SAFETY: just opened, owned by nobody else.
        let ours = unsafe { OwnedFd::from_raw_fd(ours) };
        // SAFETY: as above.
        let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
        let mut child = command.stderr(theirs).spawn().expect("runs");
        drop(command); // It holds the child's end.
        child.wait().expect("waits");
        let mut text = Vec::new();
        // Ends with EIO when nobody has the other end any more.
        let _ = std::fs::File::from(ours).read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    for (terminal, no_color, coloured) in [
        (true, None, true),
        (true, Some("1"), false),
        (false, None, false),
    ] {
        let text = said(terminal, no_color);
        assert!(text.contains("in colour?"), "{text:?}");
        assert_eq!(
            text.contains('\u{1b}'),
            coloured,
            "{terminal} {no_color:?} {text:?}"
        );
    }
}

/// A sink that fails when told to.
struct Moody {
    fails: Arc<AtomicBool>,
    tried: Arc<AtomicUsize>,
    file: File,
}

impl Sink for Moody {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        self.tried.fetch_add(1, Ordering::Relaxed);
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        // Half a block at a time: partial writes must not tear a line.
        self.file.write(&block[..block.len().div_ceil(2)])
    }
    fn begin_block(&mut self) -> io::Result<bool> {
        self.file.begin_block()
    }
}

#[test]
fn a_full_disk_holds_nobody_up_and_is_told_when_over() {
    let _turn = exclusive();
    let directory = scratch();
    let path = directory.path().join("log");
    let (fails, tried) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let sink = Moody {
        fails: fails.clone(),
        tried: tried.clone(),
        file: File::new(&path),
    };
    let (builder, healthy) = Logger::builder()
        .thread_ring_bytes(8 << 20)
        .pattern("{message}")
        .sink(sink)
        .pattern("{message}")
        .memory();
    let logger = builder.start().expect("starts");
    let long = "x".repeat(1000);
    for number in 0..6000 {
        info!("{} {}", number, long);
    }
    assert!(logger.flush().is_err(), "a failing sink shows in flush");
    assert_eq!(
        healthy.text().lines().count(),
        6000,
        "the other sink has everything"
    );
    let lost = logger.stats().lost_in_sinks;
    assert!(
        lost > 0 && tried.load(Ordering::Relaxed) < 20,
        "lost {lost}, tried {}",
        tried.load(Ordering::Relaxed)
    );
    fails.store(false, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(150));
    info!("well again");
    logger.flush().expect("well again");
    logger.shutdown();
    let text = std::fs::read_to_string(&path).expect("the log");
    let (kept, rest) = text.split_at(text.find(" lines lost since ").expect("told"));
    let told: u64 = kept
        .lines()
        .last()
        .expect("a line")
        .parse()
        .expect("a number");
    assert_eq!(told, lost);
    assert!(
        rest.contains("No space left on device") && text.ends_with("well again\n"),
        "{rest}"
    );
    let numbers = kept.lines().filter(|line| line.len() > 1000).count() as u64;
    assert_eq!(numbers + lost, 6000);
}

#[test]
fn a_directory_that_cannot_be_written_is_no_panic() {
    let _turn = exclusive();
    let logger = Logger::builder()
        .file("/proc/no/such/log")
        .start()
        .expect("starts");
    for number in 0..100 {
        info!("{}", number);
    }
    assert!(logger.flush().is_err());
    assert_eq!(logger.stats().lost_in_sinks, 100);
    logger.shutdown();
}

#[test]
fn syslog_and_journald_get_one_datagram_a_line() {
    let _turn = exclusive();
    let directory = scratch();
    let (syslog, journal) = (
        directory.path().join("syslog"),
        directory.path().join("journal"),
    );
    let (syslog_socket, journal_socket) = (
        UnixDatagram::bind(&syslog).expect("binds"),
        UnixDatagram::bind(&journal).expect("binds"),
    );
    let logger = Logger::builder()
        .format(Syslog::new("te st"))
        .sink(Datagram::new(&syslog))
        .format(Journal::new("test"))
        .sink(Datagram::new(&journal))
        .start()
        .expect("starts");
    warn!(user = "ann"; "two\nlines");
    info!("second");
    logger.flush().expect("flushes");
    let receive = |socket: &UnixDatagram| {
        let mut buffer = [0; 2000];
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        let length = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let line = receive(&syslog_socket);
    assert!(
        line.starts_with("<12>1 2")
            && line.contains(" - test ")
            && line.ends_with(": two\\nlines user=ann"),
        "{line}"
    );
    assert!(receive(&syslog_socket).starts_with("<14>1 "));
    let entry = receive(&journal_socket);
    assert!(
        entry.starts_with(
            "MESSAGE\n\u{9}\0\0\0\0\0\0\0two\nlines\nPRIORITY=4\nSYSLOG_IDENTIFIER=test\n"
        ),
        "{entry:?}"
    );
    assert!(entry.ends_with("F_USER=ann\n"), "{entry}");
    // The daemon is restarted.
    drop(syslog_socket);
    std::fs::remove_file(&syslog).expect("removes");
    let again = UnixDatagram::bind(&syslog).expect("binds");
    info!("third");
    logger.flush().expect("flushes");
    assert!(receive(&again).ends_with("third"));
    logger.shutdown();
}

/// The numbers at the ends of so many datagrams.
fn numbers(socket: &UnixDatagram, count: usize) -> Vec<u64> {
    let mut buffer = vec![0; 1 << 20];
    (0..count)
        .map(|_| {
            let length = socket.recv(&mut buffer).expect("a datagram");
            let text = std::str::from_utf8(&buffer[..length]).expect("text");
            let (_, number) = text.rsplit_once(' ').expect("words");
            number.parse().expect("a number")
        })
        .collect()
}

#[test]
fn a_daemon_that_is_late_or_asleep_gets_every_line() {
    // Goal: lines wait for a socket that is not there yet, and for one whose queue is full, and then come, all and in order.
    let _turn = exclusive();
    let directory = scratch();
    let path = directory.path().join("syslog");
    let logger = Logger::builder()
        .format(Syslog::new("test"))
        .sink(Datagram::new(&path))
        .start()
        .expect("starts");
    let before = logger.stats().lost_in_sinks;
    for number in 0..3_u64 {
        info!("late {}", number);
    }
    assert!(logger.flush().is_err(), "there is no socket");
    let socket = UnixDatagram::bind(&path).expect("binds");
    while logger.flush().is_err() {}
    assert_eq!(numbers(&socket, 3), [0, 1, 2]);
    for number in 0..500_u64 {
        info!("asleep {}", number);
    }
    assert!(logger.flush().is_err(), "the queue of the socket is full");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| numbers(&socket, 500));
        while logger.flush().is_err() {}
        assert!(reader.join().expect("reads").into_iter().eq(0..500));
    });
    assert_eq!(logger.stats().lost_in_sinks, before);
    logger.shutdown();
}

#[test]
fn a_line_too_long_for_a_datagram_holds_up_no_other() {
    // Goal: what a socket can never take is lost, counted and told, and the lines behind it come.
    let _turn = exclusive();
    let directory = scratch();
    let path = directory.path().join("syslog");
    let socket = UnixDatagram::bind(&path).expect("binds");
    let wait = Some(Duration::from_secs(30));
    socket.set_read_timeout(wait).expect("a timeout");
    let logger = Logger::builder()
        .thread_ring_bytes(1 << 20)
        .format(Syslog::new("test"))
        .sink(Datagram::new(&path))
        .start()
        .expect("starts");
    let before = logger.stats().lost_in_sinks;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            info!("before {}", 1);
            let long = "\0".repeat(16_000); // shown as \x00
            info!("{}{}{}{}", long, long, long, long);
            info!("after {}", 2);
        });
    });
    assert_eq!(numbers(&socket, 1), [1]);
    // The loss is told at the end of its block, which is before or behind the next line.
    let mut lines = [(); 2].map(|()| {
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    });
    lines.sort_by_key(|line| line.contains("after 2"));
    let [told, after] = lines;
    assert_eq!(logger.stats().lost_in_sinks, before + 1);
    logger.shutdown();
    assert!(after.ends_with("after 2"), "{after}");
    assert!(
        told.contains("1 lines lost since") && told.contains("too long"),
        "{told}"
    );
}

#[test]
fn a_deaf_reader_of_standard_error_blocks_nobody() {
    // The sink is given a pipe that nobody reads, in place of standard error, in a child.
    if std::env::var_os("CORING_LOG_DEAF").is_some() {
        let logger = Logger::builder().stderr().start().expect("starts");
        for number in 0..20_000 {
            info!("{} {}", number, "some text to fill the pipe with");
        }
        let _ = logger.flush();
        logger.shutdown();
        std::process::exit(7);
    }
    let mut child = std::process::Command::new(std::env::current_exe().expect("our own path"))
        .args([
            "--exact",
            "sinks::a_deaf_reader_of_standard_error_blocks_nobody",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("CORING_LOG_DEAF", "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the child starts");
    for _ in 0..1000 {
        if let Some(status) = child.try_wait().expect("waits") {
            assert_eq!(status.code(), Some(7), "{status}");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("kills");
    panic!("the child hangs on its full pipe");
}

#[test]
fn the_flight_recorder_shows_what_preceded_an_error() {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder()
        .pattern("{level} {message}{fields}")
        .flight_recorder(log::LevelFilter::Trace)
        .memory();
    let logger = builder.start().expect("starts");
    with_context("request", 5, || {
        log!(Level::Debug, "step {}", 1);
        info!("written");
    });
    log!(Level::Trace, "step {}", 2);
    ::log::debug!("from a library");
    logger.flush().expect("flushes");
    assert_eq!(lines.text(), "INFO  written request=5\n");
    log!(Level::Error, "it broke");
    log!(Level::Debug, "step {}", 3);
    logger.flush().expect("flushes");
    assert_eq!(
        lines.text(),
        "INFO  written request=5\nERROR it broke\nINFO  flight recorder: 3 lines, because of the error above\n\
         DEBUG step 1 request=5\nTRACE step 2\nDEBUG from a library\nINFO  flight recorder: end\n"
    );
    logger.dump();
    logger.flush().expect("flushes");
    logger.shutdown();
    assert!(
        lines
            .text()
            .ends_with("because of dump() was called\nDEBUG step 3\nINFO  flight recorder: end\n"),
        "{}",
        lines.text()
    );
}

#[test]
fn the_flight_recorder_keeps_the_latest_and_never_fills_a_ring() {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder()
        .pattern("{message}")
        .thread_ring_bytes(64 << 10)
        .flight_recorder(log::LevelFilter::Trace)
        .full(coring_logger::Full::Wait)
        .memory();
    let logger = builder.start().expect("starts");
    let before = logger.stats().dropped; // It counts for the process.
    for number in 0..50_000 {
        log!(Level::Trace, "{}", number);
    }
    log!(Level::Error, "error");
    logger.flush().expect("flushes");
    let dropped = logger.stats().dropped;
    logger.shutdown();
    let text = lines.text();
    let shown: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(dropped, before);
    assert!(shown.len() > 500, "half of the ring: {}", shown.len());
    assert!(
        shown
            .iter()
            .copied()
            .eq(50_000 - shown.len() as u64..50_000),
        "the latest, without gaps"
    );
}

/// Places that bytes go to, one after the other. The first takes so many and is gone then.
struct Places {
    places: Arc<Mutex<Vec<Vec<u8>>>>,
    first_takes: usize,
}

impl Sink for Places {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        let mut places = self.places.lock().expect("not poisoned");
        let room = match places.len() {
            1 => self.first_takes - places[0].len(),
            _ => block.len(),
        };
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = room.min(block.len());
        places
            .last_mut()
            .expect("begun")
            .extend_from_slice(&block[..taken]);
        Ok(taken)
    }

    fn begin_block(&mut self) -> io::Result<bool> {
        let mut places = self.places.lock().expect("not poisoned");
        let anew = places.is_empty() || (places.len() == 1 && places[0].len() == self.first_takes);
        if anew {
            places.push(Vec::new());
        }
        Ok(anew)
    }

    fn has_moved(&mut self) -> bool {
        true
    }
}

#[test]
fn a_place_that_goes_in_the_middle_of_a_line() {
    // Goal: what is kept of a block whose place has gone is whole lines, and each line is in a place or counted. Method: a first place that takes any
    // number of bytes; texts, and records, of which only those are kept that the next place has descriptions of.
    let _turn = exclusive();
    let messages = |bytes: &[u8]| {
        let (mut reader, mut out) = (LogReader::new(bytes), Vec::new());
        while let Ok(Some(line)) = reader.next_line() {
            line.write_message(&mut out);
            out.push(b'\n');
        }
        String::from_utf8(out).expect("text")
    };
    for (binary, first_takes) in (0..12)
        .map(|n| (false, n))
        .chain((1..40).map(|n| (true, 13 * n)))
    {
        let places = Arc::new(Mutex::new(Vec::new()));
        let sink = Places {
            places: Arc::clone(&places),
            first_takes,
        };
        let builder = Logger::builder();
        let builder = match binary {
            true => builder.format(Binary::new()),
            false => builder.pattern("{message}"),
        };
        let logger = builder.sink(sink).start().expect("starts");
        for number in 10..20 {
            info!("{}", number);
        }
        while logger.flush().is_err() {}
        info!("last");
        logger.shutdown();
        let places = places.lock().expect("not poisoned");
        let texts: Vec<_> = places
            .iter()
            .map(|bytes: &Vec<u8>| match binary {
                true => messages(bytes),
                false => String::from_utf8(bytes.clone()).expect("text"),
            })
            .collect();
        let [first, second] = &texts[..] else {
            assert!(binary && texts.len() == 1, "{first_takes}: {texts:?}");
            continue;
        };
        let whole = first.rfind('\n').map_or("", |end| &first[..=end]);
        let mut shown: Vec<_> = whole.lines().chain(second.lines()).collect();
        let lost = shown.iter().position(|line| line.contains(" lost since "));
        let lost = lost.map_or(0, |at| {
            let line = shown.remove(at);
            line.split(' ')
                .next()
                .and_then(|text| text.parse().ok())
                .expect("a number")
        });
        let all: Vec<_> = (10..20)
            .map(|n| n.to_string())
            .chain(["last".to_owned()])
            .collect();
        assert_eq!(
            shown.len() + lost,
            all.len(),
            "{binary} {first_takes}: {texts:?}"
        );
        let kept = shown.len() - whole.lines().count();
        assert_eq!(shown[..whole.lines().count()], all[..whole.lines().count()]);
        assert_eq!(shown[whole.lines().count()..], all[all.len() - kept..]);
    }
}
