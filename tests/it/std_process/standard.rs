//! The process's own input and output.

use coring_tests::check;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

#[test]
fn an_input_that_is_silent_holds_up_nobody() {
    // Goal: a coroutine that reads standard input parks: others run meanwhile; each line comes when it was written, and the
    // end ends it.
    // Method: a program whose input is a pipe: it counts what another coroutine does before each line comes.
    check(|| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_scenario"))
            .arg("lines")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut expect = |text: &str| assert_eq!(lines.next().unwrap().unwrap(), text);
        expect("others run");
        for number in 0..10 {
            writeln!(stdin, "line {number}").unwrap();
            expect(&format!("line {number}"));
            expect("others run");
        }
        drop(stdin);
        expect("the end");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}

#[test]
fn an_output_that_is_full_holds_up_nobody() {
    // Goal: a coroutine that writes to a standard output nobody reads parks; others run; every byte comes in the end.
    // Method: a megabyte into a pipe that is read only after the program has said, on its error output, that others run.
    check(|| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_scenario"))
            .arg("full-output")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut said).unwrap();
        assert_eq!(said, "others run\n");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(output.stdout, vec![b'x'; 1 << 20]);
    });
}

#[test]
fn a_file_as_input_and_output() {
    // Goal: standard streams that are files are read and written at their position, which moves.
    // Method: `lines` with files.
    check(|| {
        let scratch = tempfile::tempdir().unwrap();
        let (input, output) = (scratch.path().join("in"), scratch.path().join("out"));
        std::fs::write(&input, "one\ntwo\n").unwrap();
        let status = Command::new(env!("CARGO_BIN_EXE_scenario"))
            .arg("copy-input")
            .stdin(std::fs::File::open(&input).unwrap())
            .stdout(std::fs::File::create(&output).unwrap())
            .status();
        assert!(status.unwrap().success());
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "one\ntwo\n");
    });
}
