//! Goal: nothing is lost that is not reported. Four producers flood small rings; for each, lines received plus lines reported lost
//! must be lines sent, in order, and all lines must be in time order within the window.

use coring_logger::{
    Binary, Builder, Drain, Format as _, Full, LogReader, Logger, MemoryLines, Text, info,
    register_core, warn,
};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::exclusive;

const PRODUCERS: u64 = 4;
const LINES: u64 = 50_000;

/// (origin, number) of each line, and lost lines by origin.
struct Read {
    received: HashMap<String, Vec<u64>>,
    lost: HashMap<String, u64>,
    times: Vec<u64>,
}

fn read(text: &str) -> Read {
    let mut read = Read {
        received: HashMap::new(),
        lost: HashMap::new(),
        times: Vec::new(),
    };
    for line in text.lines() {
        let (time, rest) = line.split_once('|').expect("a time");
        let (origin, message) = rest.split_once('|').expect("an origin");
        if let Some((count, rest)) = message.split_once(" lines of ") {
            let (origin, _) = rest.split_once(" lost").expect("a loss");
            *read.lost.entry(origin.to_owned()).or_default() +=
                count.parse::<u64>().expect("a count");
        } else {
            read.times.push(time.parse().expect("a time"));
            read.received
                .entry(origin.to_owned())
                .or_default()
                .push(message.parse().expect("a number"));
        }
    }
    read
}

/// The text of a binary log.
fn decoded(bytes: &[u8]) -> String {
    let mut format: Text = PATTERN.parse().expect("valid");
    let (mut reader, mut text) = (LogReader::new(bytes), Vec::new());
    while let Some(line) = reader.next_line().expect("nothing is torn") {
        format.line(&line, &mut text);
    }
    String::from_utf8(text).expect("text")
}

const PATTERN: &str = "{unix}|{origin}|{message}";

fn flood(as_cores: bool, full: Full, binary: bool) -> (Read, u64) {
    let _turn = exclusive();
    let builder = Logger::builder();
    let builder = if binary {
        builder.format(Binary::new())
    } else {
        builder.pattern(PATTERN)
    };
    let (builder, lines) = builder
        .core_ring_bytes(16 << 10)
        .thread_ring_bytes(16 << 10)
        .full(full)
        .window(Duration::from_millis(20))
        .memory();
    let logger = builder.start().expect("starts");
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let body = move || {
                let ring = as_cores.then(|| {
                    register_core(u32::try_from(producer).expect("small")).expect("a ring")
                });
                let _entered = ring.as_ref().map(|ring| ring.enter());
                for number in 0..LINES {
                    if number % 64 == 0 {
                        warn!("{}", number);
                    } else {
                        info!("{}", number);
                    }
                    if let Some(ring) = &ring
                        && number % 16 == 0
                    {
                        ring.turn();
                    }
                    if number % 1000 == 999 {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            };
            std::thread::Builder::new()
                .name(format!("p{producer}"))
                .spawn_scoped(scope, body)
                .expect("spawns");
        }
    });
    logger.flush().expect("flushes");
    let late = logger.stats().late;
    logger.shutdown();
    let text = if binary {
        decoded(&lines.bytes())
    } else {
        lines.text()
    };
    (read(&text), late)
}

fn check(read: &Read, late: u64, kind: &str) {
    for producer in 0..PRODUCERS {
        let name = if kind == "core" {
            format!("core {producer}")
        } else {
            format!("thread p{producer}")
        };
        let received = read.received.get(&name).map_or(&[][..], Vec::as_slice);
        let lost = read.lost.get(&name).copied().unwrap_or(0);
        assert_eq!(
            received.len() as u64 + lost,
            LINES,
            "{name}: received + lost"
        );
        assert!(received.is_sorted(), "{name} out of order");
    }
    assert!(read.times.is_sorted(), "shown times ran back");
    let total: usize = read.received.values().map(Vec::len).sum();
    assert!(
        late < total as u64 / 100,
        "{late} of {total} lines out of order"
    );
}

#[test]
fn cores_that_flood_lose_only_what_is_reported() {
    for binary in [false, true] {
        let (read, late) = flood(true, Full::Drop, binary);
        check(&read, late, "core");
        assert!(
            !read.lost.is_empty(),
            "the flood was too weak to test anything"
        );
    }
}

#[test]
fn threads_that_flood_lose_only_what_is_reported() {
    let (read, late) = flood(false, Full::Drop, false);
    check(&read, late, "thread");
    assert!(
        !read.lost.is_empty(),
        "the flood was too weak to test anything"
    );
}

#[test]
fn threads_that_wait_lose_nothing() {
    for binary in [false, true] {
        let (read, late) = flood(false, Full::Wait, binary);
        check(&read, late, "thread");
        assert!(read.lost.is_empty(), "{:?}", read.lost);
    }
}

/// A logger with a window of an hour, whose drain runs when the test says so.
fn drained_by_hand(more: impl FnOnce(Builder) -> Builder) -> (Logger, Drain, MemoryLines) {
    let builder = Logger::builder().window(Duration::from_secs(3600));
    let (builder, lines) = more(builder).pattern("{message}").memory();
    let (logger, drain) = builder.build().expect("starts");
    (logger, drain, lines)
}

#[test]
fn lines_wait_for_a_turn_that_logs_and_for_nothing_else() {
    // Goal: order between rings is exact for as long as the window, and costs no waiting when nobody is in the middle of a turn.
    // Method: the drain is run by hand, with a window of an hour.
    let _turn = exclusive();
    let (logger, mut drain, lines) = drained_by_hand(|builder| builder);
    let mut drained = |wanted: usize| {
        let mut count = 0;
        // What was logged just now is settled in some microseconds.
        let begun = Instant::now();
        while count < wanted || begun.elapsed() < Duration::from_millis(2) {
            count += drain.drain(100).lines;
        }
        count
    };
    let ring = register_core(0).expect("a ring");
    let entered = ring.enter();
    info!("core, first");
    std::thread::scope(|scope| {
        scope.spawn(|| info!("thread, second"));
    });
    assert_eq!(
        drained(0),
        0,
        "the turn has not ended, so nothing is sure yet"
    );
    info!("core, third");
    drop(entered);
    assert_eq!(drained(3), 3);
    std::thread::scope(|scope| {
        scope.spawn(|| info!("thread, alone"));
    });
    assert_eq!(drained(1), 1, "nobody else has anything to say");
    drain.finish();
    logger.shutdown();
    assert_eq!(
        lines.text(),
        "core, first\nthread, second\ncore, third\nthread, alone\n"
    );
}

#[test]
fn a_turn_without_lines_holds_nobody_up() {
    // Goal: a core that has logged in its last turn, and so expects to in this one, holds back no line of others until it does.
    // Method: as above. The turn that is under way has no line, then one.
    let _turn = exclusive();
    let (logger, mut drain, lines) = drained_by_hand(|builder| builder);
    let ring = register_core(0).expect("a ring");
    let entered = ring.enter();
    info!("core, in the first turn");
    ring.turn();
    let from_a_thread = |line: &'static str| {
        std::thread::scope(|scope| scope.spawn(move || info!("{}", line)).join().expect("logs"));
    };
    from_a_thread("thread, beside a silent turn");
    let (mut count, begun) = (0, Instant::now());
    while count < 2 && begun.elapsed() < Duration::from_secs(5) {
        count += drain.drain(100).lines;
    }
    assert_eq!(count, 2, "nothing else is to come");
    info!("core, in the second turn");
    from_a_thread("thread, beside a turn that logs");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2) {
        assert_eq!(drain.drain(100).lines, 0, "the turn has not ended");
    }
    drop(entered);
    drain.finish();
    assert_eq!(logger.stats().late, 0);
    logger.shutdown();
    assert_eq!(
        lines.text(),
        "core, in the first turn\nthread, beside a silent turn\ncore, in the second turn\nthread, beside a turn that logs\n"
    );
}

#[test]
fn lines_that_carry_the_time_of_their_turn_stand_in_its_place() {
    // Goal: with the time of the turn a line is older than the moment it is written: others wait from the beginning of the turn on.
    let _turn = exclusive();
    let (logger, mut drain, lines) = drained_by_hand(|builder| builder.turn_time(true));
    let ring = register_core(0).expect("a ring");
    let entered = ring.enter();
    std::thread::scope(|scope| {
        scope.spawn(|| info!("thread, in the middle of the turn"));
    });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2) {
        assert_eq!(drain.drain(100).lines, 0);
    }
    info!("core, later, but as old as its turn");
    drop(entered);
    drain.finish();
    assert_eq!(logger.stats().late, 0);
    logger.shutdown();
    assert_eq!(
        lines.text(),
        "core, later, but as old as its turn\nthread, in the middle of the turn\n"
    );
}
