//! Goal: the `coring-log` command shows what was logged: filters, merges files by time, JSON, torn files.

use coring_logger::{Binary, Logger, debug, error, info};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::crash::scratch;
use crate::exclusive;

fn command(arguments: &[&str], files: &[&Path]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_coring-log"))
        .args(arguments)
        .args(files)
        .output()
        .expect("runs");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    (text(&output.stdout), text(&output.stderr))
}

/// The messages in a file.
pub(crate) fn shown(path: &Path) -> String {
    command(&["--pattern", "{message}"], &[path]).0
}

fn write(path: &Path, word: &str) {
    let logger = Logger::builder()
        .filter(log::LevelFilter::Debug)
        .format(Binary::new())
        .file(path)
        .start()
        .expect("starts");
    info!(target: "a", user = "ann"; "{} one", word);
    debug!(target: "b", user = "bob"; "{} two", word);
    error!(target: "a::c", "{} three", word);
    ::log::info!(target: "lib", "{word} four");
    logger.shutdown();
}

fn write_on_core(path: &Path) {
    let logger = Logger::builder()
        .format(Binary::new())
        .file(path)
        .start()
        .expect("starts");
    info!("of a thread");
    let ring = coring_logger::register_core(1).expect("a ring");
    {
        let _here = ring.enter();
        info!("of the core");
    }
    logger.shutdown();
}

#[test]
fn shows_filters_and_merges() {
    let _turn = exclusive();
    let directory = scratch();
    let (first, second) = (directory.path().join("1"), directory.path().join("2"));
    write(&first, "x");
    write(&second, "y");
    write(&first, "z"); // appended: a second beginning within one file
    fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&["--pattern", "{level} {message}{fields}"], more].concat()
    }
    let (all, _) = command(&with(&[]), &[&second, &first]);
    let order: Vec<_> = all
        .lines()
        .map(|line| line.split_whitespace().nth(1).expect("a word"))
        .collect();
    assert_eq!(order.concat(), "xxxxyyyyzzzz", "merged by time");
    assert!(
        all.starts_with(
            "INFO  x one user=ann\nDEBUG x two user=bob\nERROR x three\nINFO  x four\n"
        ),
        "{all}"
    );
    let (some, _) = command(&with(&["--filter", "off,a=info"]), &[&second]);
    assert_eq!(some, "INFO  y one user=ann\nERROR y three\n");
    let (some, _) = command(&with(&["--key", "user=bob"]), &[&second]);
    assert_eq!(some, "DEBUG y two user=bob\n");
    let (none, _) = command(&with(&["--core", "1"]), &[&second]);
    assert_eq!(none, "");
    let core = directory.path().join("core");
    write_on_core(&core);
    let (of_core, _) = command(&with(&["--core", "1"]), &[&second, &core]);
    assert_eq!(of_core, "INFO  of the core\n");
    let (stamped, _) = command(&["--pattern", "{unix} {message}"], &[&second]);
    let times: Vec<&str> = stamped
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let (span, _) = command(
        &with(&["--since", times[1], "--until", times[2]]),
        &[&second],
    );
    assert!(
        span.contains("y two") && !span.contains("y one") && !span.contains("y four"),
        "{span}"
    );
    let (json, _) = command(&["--json"], &[&second]);
    assert!(
        json.lines().count() == 4
            && json.contains("\"message\":\"y one\",\"fields\":{\"user\":\"ann\"}"),
        "{json}"
    );

    let bytes = std::fs::read(&second).expect("reads");
    std::fs::write(&second, [&bytes, &[0xff; 64][..], &bytes].concat()).expect("writes");
    let (text, said) = command(&with(&[]), &[&second]);
    assert_eq!(text.lines().count(), 8);
    assert!(said.contains("torn record at byte"), "{said}");
}

/// The command, following a file, with its output to be read.
fn following(path: &Path) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_coring-log"))
        .args(["--follow", "--pattern", "{message}"])
        .arg(path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("runs")
}

#[test]
fn follows_a_growing_file() {
    use std::io::{BufRead as _, BufReader};
    let _turn = exclusive();
    let directory = scratch();
    let path = directory.path().join("log");
    write(&path, "x");
    let mut child = following(&path);
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!(
        [next(), next(), next(), next()].join(","),
        "x one,x two,x three,x four"
    );
    std::thread::sleep(Duration::from_millis(50));
    write(&path, "y");
    assert_eq!(
        [next(), next(), next(), next()].join(","),
        "y one,y two,y three,y four"
    );
    child.kill().expect("kills");
    child.wait().expect("waits");
}

#[test]
fn follows_through_rotation_and_truncation_without_reading_anew() {
    // Goal: each line is shown once, whether the file is appended to, replaced, or cut; and what was read is not read again.
    // Method: the counter of bytes that the process has read, which the kernel keeps.
    use std::io::{BufRead as _, BufReader};
    let _turn = exclusive();
    let directory = scratch();
    let path = directory.path().join("log");
    let moved = directory.path().join("log.1");
    for _ in 0..200 {
        write(&path, "x");
    }
    let mut child = following(&path);
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (send, shown) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .try_for_each(|line| send.send(line))
    });
    let next = || {
        shown
            .recv_timeout(Duration::from_secs(30))
            .expect("a line, and not after half a minute")
    };
    let shows = |word: &str| {
        let shown = [next(), next(), next(), next()].join(",");
        assert_eq!(
            shown,
            format!("{word} one,{word} two,{word} three,{word} four")
        );
    };
    (0..200).for_each(|_| shows("x"));
    let size = std::fs::metadata(&path).expect("the file").len();
    for number in 0..10 {
        let word = number.to_string();
        write(&path, &word);
        shows(&word);
    }
    let io = std::fs::read_to_string(format!("/proc/{}/io", child.id())).expect("it runs");
    let read: u64 = io
        .lines()
        .find_map(|line| line.strip_prefix("rchar: "))
        .and_then(|count| count.parse().ok())
        .expect("the kernel counts");
    // Once, and the libraries that it loads.
    assert!(
        read < 2 * size + 100_000,
        "{read} bytes read of a file of {size}"
    );
    std::fs::rename(&path, &moved).expect("moves");
    write(&path, "rotated");
    shows("rotated");
    std::fs::File::create(&path).expect("cuts");
    write(&path, "cut"); // The file is shorter than before: a shorter word.
    shows("cut");
    child.kill().expect("kills");
    child.wait().expect("waits");
}

#[test]
fn wrong_arguments_are_explained() {
    for (arguments, said) in [
        (&[][..], "coring-log [OPTIONS] FILE"),
        (&["--levle", "x"], "--levle is unknown"),
        (&["--filter", "loud", "x"], "`loud` is not a log level"),
        (&["/no/such/file"], "/no/such/file: No such file"),
        (&["recover", "/dev/null"], "not a crash ring"),
        (&["--follow", "/dev/null", "/dev/null"], "for one file"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_coring-log"))
            .args(arguments)
            .output()
            .expect("runs");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(
            !output.status.success() && text.contains(said),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn any_name_and_any_reader_will_do() {
    // Goal: a name that is no text is shown and no panic; nobody at either output ends it quietly; a compressed file says what to do.
    use std::io::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let _turn = exclusive();
    let directory = scratch();
    let path = directory
        .path()
        .join(std::ffi::OsStr::from_bytes(b"log\xff"));
    write(&path, "x");
    let (shown, _) = command(&["--pattern", "{message}"], &[&path]);
    assert_eq!(shown, "x one\nx two\nx three\nx four\n");

    let torn = directory.path().join("torn");
    std::fs::write(
        &torn,
        [&[0xff; 64][..], &std::fs::read(&path).expect("reads")].concat(),
    )
    .expect("writes");
    let (nobody, output) = std::io::pipe().expect("a pipe");
    drop(nobody);
    let status = Command::new(env!("CARGO_BIN_EXE_coring-log"))
        .arg(&torn)
        .stdout(output.try_clone().expect("clones"))
        .stderr(output)
        .status()
        .expect("runs");
    assert!(status.success(), "{status}");

    let text = directory.path().join("text");
    std::fs::write(&text, "2026-11-28 INFO a line of text\n").expect("writes");
    let (shown, said) = command(&[], &[&text]);
    assert!(
        shown.is_empty() && said.contains("not a log of ours"),
        "{said}"
    );

    let packed = directory.path().join("log.zst");
    let mut file = std::fs::File::create(&packed).expect("creates");
    file.write_all(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0])
        .expect("writes");
    let output = Command::new(env!("CARGO_BIN_EXE_coring-log"))
        .arg(&packed)
        .output()
        .expect("runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(
        !output.status.success() && said.contains("zstd -dc"),
        "{said}"
    );
}

#[test]
fn a_large_file_is_shown_with_little_memory() {
    // Goal: what is read of a file does not stay in memory, and a file that is longer than one piece of it is shown whole, also with damage on the
    // way. Method: less memory than the file has bytes, which are those of one log again and again.
    let _turn = exclusive();
    let directory = scratch();
    let path = directory.path().join("log");
    let logger = Logger::builder()
        .thread_ring_bytes(8 << 20)
        .format(Binary::new())
        .file(&path)
        .start()
        .expect("starts");
    let long = "x".repeat(16_000);
    for number in 0..200 {
        info!("{} {}", number, long);
    }
    logger.shutdown();
    let (once, large) = (
        std::fs::read(&path).expect("reads"),
        directory.path().join("large"),
    );
    let mut file = std::fs::File::create(&large).expect("creates");
    let times = 32;
    for time in 0..times {
        let whole = if time % 2 == 0 {
            &once[..]
        } else {
            &once[..once.len() - 9]
        };
        std::io::Write::write_all(&mut file, whole).expect("writes");
    }
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 65536; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_coring-log"))
        .args(["--pattern", "{message}"])
        .arg(&large)
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let shown = String::from_utf8(output.stdout).expect("text");
    let number = |line: &str| line.split(' ').next().and_then(|text| text.parse().ok());
    let numbers = shown.lines().map(number);
    assert!(numbers.eq((0..times).flat_map(|time| 0..200 - time % 2).map(Some)));
}
