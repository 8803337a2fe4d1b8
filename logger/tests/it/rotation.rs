//! Goal: a log file is rotated, compressed, removed and opened anew as its options say, and nothing else is touched.

use coring_logger::{FileOptions, Logger, info};
use std::path::Path;
use std::time::Duration;

use crate::crash::scratch;
use crate::exclusive;

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

fn all_lines(directory: &Path) -> Vec<u64> {
    let mut rotated: Vec<_> = files(directory);
    rotated.sort_by_key(|name| (name == "log", name.clone()));
    let text: String = rotated
        .iter()
        .map(|name| std::fs::read_to_string(directory.join(name)).expect("text"))
        .collect();
    text.lines()
        .map(|line| line.parse().expect("a number"))
        .collect()
}

/// Logs numbers and flushes now and then, so that the sink gets many blocks.
fn log_numbers(logger: &Logger, count: u64) {
    for number in 0..count {
        info!("{}", number);
        if number % 50 == 49 {
            logger.flush().expect("flushes");
        }
    }
    logger.flush().expect("flushes");
}

#[test]
fn rotation_by_size_loses_no_line_and_keeps_what_it_should() {
    let _turn = exclusive();
    let directory = scratch();
    let path = directory.path().join("log");
    let logger = Logger::builder()
        .pattern("{message}")
        .file(FileOptions::new(&path).rotate_bytes(1000))
        .start()
        .expect("starts");
    log_numbers(&logger, 2000);
    logger.shutdown();
    assert!(
        files(directory.path()).len() > 5,
        "{:?}",
        files(directory.path())
    );
    assert!(
        all_lines(directory.path()).into_iter().eq(0..2000),
        "a line is missing, or out of order"
    );

    let options = FileOptions::new(&path).rotate_bytes(500).keep_files(3);
    let logger = Logger::builder()
        .pattern("{message}")
        .file(options)
        .start()
        .expect("starts");
    log_numbers(&logger, 1000);
    logger.shutdown();
    assert_eq!(
        files(directory.path()).len(),
        4,
        "the current file and three rotated ones"
    );
    assert_eq!(all_lines(directory.path()).last(), Some(&999));
}

#[test]
fn a_file_that_an_earlier_process_has_filled_gets_no_line_more() {
    // Goal: the limits hold from the first block on. Method: a full file, and one last written in an earlier interval, each with a logger of
    // one line; what is rotated is what was there.
    let _turn = exclusive();
    let old = "7\n".repeat(500);
    let ages = [
        (Duration::ZERO, None),
        (
            Duration::from_secs(3 * 3600),
            Some(Duration::from_secs(3600)),
        ),
    ];
    for (age, interval) in ages {
        let directory = scratch();
        let path = directory.path().join("log");
        std::fs::write(&path, &old).expect("writes");
        let file = std::fs::File::options().append(true).open(&path);
        file.and_then(|file| file.set_modified(std::time::SystemTime::now() - age))
            .expect("makes it older");
        let options = FileOptions::new(&path);
        let options = match interval {
            Some(interval) => options.rotate_every(interval),
            None => options.rotate_bytes(1000),
        };
        let logger = Logger::builder()
            .pattern("{message}")
            .file(options)
            .start()
            .expect("starts");
        info!("8");
        logger.shutdown();
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "8\n");
        let names = files(directory.path());
        let rotated = std::fs::read_to_string(directory.path().join(&names[1]));
        assert!(
            names.len() == 2 && rotated.expect("text") == old,
            "{names:?}"
        );
    }
}

#[test]
fn rotation_by_time_and_retention_by_bytes() {
    let _turn = exclusive();
    let directory = scratch();
    let options = FileOptions::new(directory.path().join("log"))
        .rotate_every(Duration::from_millis(50))
        .keep_bytes(40);
    let logger = Logger::builder()
        .pattern("{message}")
        .file(options)
        .start()
        .expect("starts");
    for number in 0..8 {
        info!("{}", 1_000_000 + number);
        logger.flush().expect("flushes");
        std::thread::sleep(Duration::from_millis(51));
    }
    logger.shutdown();
    let names = files(directory.path());
    assert!(
        (4..=6).contains(&names.len()),
        "8 bytes each, 40 kept, and the current one: {names:?}"
    );
}

#[test]
fn rotated_files_go_when_they_are_old() {
    // Goal: retention by age removes what was last written too long ago, and nothing else. Method: rotated files whose times are set by hand.
    let _turn = exclusive();
    let directory = scratch();
    let hour = Duration::from_secs(3600);
    let made = |name: &str, age: Duration| {
        let file = std::fs::File::create(directory.path().join(name)).expect("makes");
        let time = std::time::SystemTime::now() - age;
        file.set_modified(time).expect("it is ours");
    };
    made("log.20260101T000000.000", 3 * hour);
    made("log.20260102T000000.000", hour);
    made("log.notes", 3 * hour); // not a rotated file
    made("other.20260101T000000.000", 3 * hour); // of another log
    let options = FileOptions::new(directory.path().join("log"))
        .rotate_bytes(1)
        .keep_age(2 * hour);
    let logger = Logger::builder().file(options).start().expect("starts");
    for _ in 0..2 {
        info!("a line");
        logger.flush().expect("flushes");
    }
    logger.shutdown();
    let names = files(directory.path());
    let old = |name: &&str| !names.iter().any(|there| there == name);
    assert!(old(&"log.20260101T000000.000"), "{names:?}");
    for kept in [
        "log",
        "log.20260102T000000.000",
        "log.notes",
        "other.20260101T000000.000",
    ] {
        assert!(!old(&kept), "{kept} of {names:?}");
    }
    assert_eq!(names.len(), 5, "and what was rotated just now: {names:?}");
}

#[test]
fn retention_counts_times_and_touches_nothing_else() {
    // Goal: a rotated file that is being compressed has two names and counts once; what only looks like a rotated file stays. Method: files made by
    // hand, old enough for all of them to go.
    let _turn = exclusive();
    let directory = scratch();
    let made = |name: &str| std::fs::write(directory.path().join(name), "old").expect("makes");
    let kept = [
        "log.20260104T000000.000",
        "log.20260104T000000.000.zst.part",
        "log.20260103T000000.000.zst",
        "log.20260102T000000.000.1.zst",
        "log.20260101T-no-time-of-ours",
        "log.2026010xT000000.000",
        "log.20260101T000000.000.bak",
        "log.20260101T000000.",
        "logs.20260101T000000.000",
        "log",
    ];
    kept.iter().for_each(|name| made(name));
    made("log.20260102T000000.000");
    made("log.20260101T000000.000.zst");
    std::fs::write(directory.path().join("log"), "").expect("makes room for a line");
    let options = FileOptions::new(directory.path().join("log"))
        .rotate_bytes(1)
        .keep_files(4);
    let logger = Logger::builder().file(options).start().expect("starts");
    for _ in 0..2 {
        info!("a line");
        logger.flush().expect("flushes");
    }
    logger.shutdown();
    let mut names = files(directory.path());
    for name in kept {
        assert!(
            names.iter().any(|there| there == name),
            "{name} of {names:?}"
        );
        names.retain(|there| there != name);
    }
    assert_eq!(names.len(), 1, "what was rotated just now: {names:?}");
}

#[test]
fn a_file_that_is_moved_or_reopened_is_made_anew() {
    let _turn = exclusive();
    let directory = scratch();
    let path = directory.path().join("sub/log");
    let logger = Logger::builder()
        .pattern("{message}")
        .file(&path)
        .start()
        .expect("starts");
    info!("first");
    logger.flush().expect("flushes");
    std::fs::rename(&path, directory.path().join("moved")).expect("renames");
    logger.reopen();
    info!("second");
    logger.flush().expect("flushes");
    // Without a word to the logger: the whole directory goes.
    std::fs::remove_dir_all(directory.path().join("sub")).expect("removes");
    std::thread::sleep(Duration::from_millis(1100));
    info!("third");
    logger.shutdown();
    assert_eq!(
        std::fs::read_to_string(directory.path().join("moved")).expect("moved"),
        "first\n"
    );
    assert_eq!(std::fs::read_to_string(&path).expect("new"), "third\n");
}

#[cfg(feature = "zstd")]
#[test]
fn rotated_files_are_compressed() {
    let _turn = exclusive();
    let directory = scratch();
    let options = FileOptions::new(directory.path().join("log"))
        .rotate_bytes(1000)
        .compress(true);
    let logger = Logger::builder()
        .pattern("{message}")
        .file(options)
        .start()
        .expect("starts");
    log_numbers(&logger, 1000);
    logger.shutdown();
    let mut text = String::new();
    for name in files(directory.path()) {
        let file = std::fs::File::open(directory.path().join(&name)).expect("opens");
        if name == "log" {
            continue;
        }
        assert!(name.ends_with(".zst"), "{name}");
        text += &String::from_utf8(zstd::decode_all(file).expect("zstd")).expect("text");
    }
    text += &std::fs::read_to_string(directory.path().join("log")).expect("text");
    assert!(
        text.lines()
            .map(|line| line.parse::<u64>().expect("a number"))
            .eq(0..1000)
    );
}

#[cfg(feature = "zstd")]
#[test]
fn an_interrupted_compression_is_done_again() {
    // Goal: a process that ends in the middle of compressing loses nothing: the next one does it again, and leaves no halves. Method: what such a
    // process leaves, made by hand.
    let _turn = exclusive();
    let directory = scratch();
    let at = |name: &str| directory.path().join(name);
    let rotated = "log.20260101T000000.000";
    std::fs::write(at(rotated), "all of it\n").expect("makes");
    std::fs::write(at(&format!("{rotated}.zst.part")), "half").expect("makes");
    let done = "log.20260102T000000.000.zst";
    std::fs::write(
        at(done),
        zstd::encode_all(&b"done\n"[..], 3).expect("packs"),
    )
    .expect("makes");
    let day = std::time::SystemTime::now() - Duration::from_secs(86_400);
    let plain = std::fs::File::options().write(true).open(at(rotated));
    plain
        .and_then(|it| it.set_modified(day))
        .expect("it is ours");
    let options = FileOptions::new(at("log")).compress(true);
    let logger = Logger::builder().file(options).start().expect("starts");
    info!("a line");
    logger.shutdown();
    let packed = format!("{rotated}.zst");
    assert_eq!(files(directory.path()), ["log", &packed, done]);
    let file = std::fs::File::open(at(&packed)).expect("opens");
    let modified = file.metadata().and_then(|it| it.modified());
    assert_eq!(
        modified.expect("a time"),
        day,
        "its age is that of its lines"
    );
    assert_eq!(zstd::decode_all(file).expect("whole"), b"all of it\n");
}

#[cfg(feature = "zstd")]
#[test]
fn a_log_of_any_name_is_compressed() {
    // Goal: names that are no text. Method: such a directory, and two lines that make two files.
    use std::os::unix::ffi::OsStrExt as _;
    let _turn = exclusive();
    let directory = scratch();
    let inside = directory.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
    let options = FileOptions::new(inside.join("log"))
        .rotate_bytes(1)
        .compress(true);
    let logger = Logger::builder().file(options).start().expect("starts");
    for _ in 0..2 {
        info!("a line");
        logger.flush().expect("flushes");
    }
    logger.shutdown();
    let names = files(&inside);
    assert!(names.len() == 2 && names[1].ends_with(".zst"), "{names:?}");
}
