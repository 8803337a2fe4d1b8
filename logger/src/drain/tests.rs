//! Goal: what only the inside of the drain can be made to see: a wall clock that is set while the program runs, and the records that are
//! copied without being looked at.

use super::*;
use crate::LogReader;
use crate::Logger;
use crate::format::Binary;

const HOUR_NS: u64 = 3_600_000_000_000;

/// One logger per process: these tests take turns.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn a_step_of_the_clock_is_told_and_turns_no_line_around() {
    // Method: the drain's idea of the time is moved by an hour, each way, between two passes; it then reads the true clock.
    let _turn = memory::lock(&TURN);
    let (builder, lines) = Logger::builder().pattern("{unix} {message}").memory();
    let (logger, mut drain) = builder.build().expect("starts");
    let pass = |drain: &mut Drain| {
        let ticket = state::want_flush();
        while !state::flush_is_done(ticket) {
            let _ = drain.drain(100);
        }
    };
    info!("before");
    pass(&mut drain);
    for ahead in [true, false] {
        drain.clock.shift(if ahead {
            HOUR_NS.cast_signed()
        } else {
            -HOUR_NS.cast_signed()
        });
        info!("shown by a clock that is wrong");
        info!("the second of them");
        pass(&mut drain);
        drain.clock.expire();
        info!("after");
        pass(&mut drain);
    }
    drain.finish();
    logger.shutdown();
    let text = lines.text();
    let (times, messages): (Vec<u64>, Vec<&str>) = text
        .lines()
        .map(|line| line.split_once(' ').expect("two words"))
        .map(|(time, message)| (time.parse::<u64>().expect("a number"), message))
        .unzip();
    let steps: Vec<&str> = messages
        .iter()
        .filter_map(|message| message.strip_prefix("the wall clock was stepped by "))
        .collect();
    assert!(
        steps[0].starts_with("-3") && steps[1].starts_with("3"),
        "{steps:?}"
    );
    let own: Vec<&str> = messages
        .into_iter()
        .filter(|message| !message.contains("stepped"))
        .collect();
    let wrong = [
        "shown by a clock that is wrong",
        "the second of them",
        "after",
    ];
    assert_eq!(own, [&["before"][..], &wrong, &wrong].concat());
    // Each stretch between two steps is in order, and the last line shows the true time.
    assert!(times[2] >= times[1], "{text}");
    let now = clock::Pair::read().wall_ns;
    assert!(now - times.last().expect("lines") < HOUR_NS / 2, "{text}");
}

#[test]
fn lines_are_copied_where_they_can_be_and_read_where_they_must() {
    // Goal: copying happens, and stops at what it may not copy. Method: one pass over plain lines with two errors in their midst; the file
    // shows all, and those that were not copied are the first line, whose site the file does not know yet, and both errors.
    let _turn = memory::lock(&TURN);
    let (builder, log) = Logger::builder().format(Binary::new()).memory();
    let (logger, mut drain) = builder.build().expect("starts");
    for number in 0..100 {
        if [50, 70].contains(&number) {
            error!("{}", number);
        } else {
            info!("{}", number);
        }
    }
    drain.finish();
    logger.shutdown();
    let bytes = log.bytes();
    let (mut reader, mut found) = (LogReader::new(&bytes), Vec::new());
    let mut times = Vec::new();
    while let Some(line) = reader.next_line().expect("nothing is torn") {
        let mut message = Vec::new();
        line.write_message(&mut message);
        found.push(String::from_utf8(message).expect("text"));
        times.push(line.time_ns());
    }
    assert!(
        found
            .into_iter()
            .eq((0..100).map(|number| number.to_string()))
    );
    assert!(times.is_sorted());
    assert_eq!(drain.copied, 97, "all but the first and the errors");
}
