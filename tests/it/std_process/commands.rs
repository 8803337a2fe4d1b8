//! Commands: what is started, and with what.
#![expect(
    unsafe_code,
    reason = "sets a variable of the environment in a process of its own"
)]

use coring::coro;
use coring::fs::File;
use coring::process::{Command, Stdio};
use coring_tests::{alone, check, runtime};
use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn output_keeps_what_was_set() {
    // Goal: `output` takes pipes for what nobody has set, and leaves what was; afterwards `status` inherits again.
    // Method: an input from a file; an output into one; then the same command's status.
    check(|| {
        runtime(1).run(|| {
            let scratch = tempfile::tempdir().unwrap();
            let (input, sink) = (scratch.path().join("in"), scratch.path().join("out"));
            std::fs::write(&input, "from the file").unwrap();
            let open = || std::fs::File::open(&input).unwrap();
            let output = Command::new("cat").stdin(open()).output().unwrap();
            assert_eq!(text(output.stdout), "from the file");
            let mut command = Command::new("sh");
            command
                .args(["-c", "cat; echo errors >&2"])
                .stdin(open())
                .stdout(std::fs::File::create(&sink).unwrap());
            let output = command.output().unwrap();
            assert_eq!(
                (text(output.stdout), text(output.stderr)),
                (String::new(), "errors\n".to_owned())
            );
            assert_eq!(std::fs::read_to_string(&sink).unwrap(), "from the file");
            // Nothing to read unless it was set: the child sees the end at once.
            assert_eq!(Command::new("cat").output().unwrap().stdout, b"");
        });
    });
}

#[test]
fn after_output_it_inherits_again() {
    // Goal: a command whose `output` was taken writes to our own output when it is started by `status`.
    // Method: in a process of its own, whose output is read by the parent.
    check(|| {
        let ended =
            coring_tests::command::run([env!("CARGO_BIN_EXE_scenario"), "output-then-status"]);
        ended.assert_success();
        assert_eq!(ended.stdout, "collected\ninherited\n");
    });
}

#[test]
fn programs_that_are_not_there() {
    // Goal: NotFound by name and by path, PermissionDenied for what cannot be executed; and the command can be used again.
    // Method: spawn, status and output, compared with std's: by name it is PermissionDenied, too, where the search path has a
    // folder that we may not look into.
    check(|| {
        runtime(1).run(|| {
            for program in ["if-this-is-there-the-world-has-ended", "/no/such/program"] {
                let mut command = Command::new(program);
                let theirs = std::process::Command::new(program).spawn().unwrap_err();
                let kinds = [
                    command.spawn().unwrap_err().kind(),
                    command.status().unwrap_err().kind(),
                    command.output().unwrap_err().kind(),
                ];
                assert_eq!(kinds, [theirs.kind(); 3]);
            }
            let folder = Command::new("/").spawn().unwrap_err();
            assert_eq!(folder.kind(), ErrorKind::PermissionDenied);
            let nowhere = Command::new("true").current_dir("/no/such/place").spawn();
            assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::NotFound);
        });
    });
}

#[test]
fn a_nul_byte_anywhere() {
    // Goal: InvalidInput for a NUL byte in program, argument, directory, name or value of a variable.
    // Method: each.
    check(|| {
        runtime(1).run(|| {
            let bad = "has-some-\0\0s-inside";
            let kind = |command: &mut Command| command.spawn().unwrap_err().kind();
            let kinds = [
                kind(&mut Command::new(bad)),
                kind(Command::new("echo").arg(bad)),
                kind(Command::new("echo").args([bad])),
                kind(Command::new("echo").current_dir(bad)),
                kind(Command::new("env").env(bad, "value")),
                kind(Command::new("env").env("key", bad)),
            ];
            assert_eq!(kinds, [ErrorKind::InvalidInput; 6]);
        });
    });
}

#[test]
fn the_environment() {
    // Goal: variables are added to ours, replaced, taken out; an empty one has what was set and nothing else.
    // Method: `env` prints them.
    check(|| {
        runtime(1).run(|| {
            let path = std::env::var_os("PATH").unwrap();
            let added = Command::new("env")
                .env("RUN_TEST_NEW_ENV", "123")
                .output()
                .unwrap();
            let added = text(added.stdout);
            assert!(added.contains("RUN_TEST_NEW_ENV=123\n") && added.contains("PATH="));
            let alone = Command::new("/usr/bin/env")
                .env_clear()
                .envs([("ONE", "1"), ("TWO", "2")])
                .env("PATH", &path)
                .env_remove("PATH")
                .env("ONE", "replaced")
                .output()
                .unwrap();
            assert_eq!(text(alone.stdout), "ONE=replaced\nTWO=2\n");
        });
    });
}

#[test]
fn the_environment_is_taken_when_it_starts() {
    // Goal: a variable that is set after the command was made and before it is started is there.
    // Method: in a process of its own, since it changes the environment.
    alone(|| {
        runtime(1).run(|| {
            let mut command = Command::new("env");
            command.env("RUN_TEST_NEW_ENV1", "123");
            // SAFETY: no other thread of this process uses the environment.
            unsafe { std::env::set_var("RUN_TEST_NEW_ENV2", "456") };
            let output = text(command.output().unwrap().stdout);
            assert!(output.contains("RUN_TEST_NEW_ENV1=123\n"));
            assert!(output.contains("RUN_TEST_NEW_ENV2=456\n"));
        });
    });
}

#[test]
fn directory_names_and_groups() {
    // Goal: the working directory, the name by which a program knows itself, and its process group are as set.
    // Method: `pwd`; a shell's $0; the group that ps would show.
    check(|| {
        runtime(1).run(|| {
            let output = Command::new("pwd").current_dir("/").output().unwrap();
            assert_eq!(text(output.stdout), "/\n");
            let output = Command::new("/bin/sh")
                .arg0("me")
                .args(["-c", "exec cat /proc/$$/comm"])
                .output();
            assert!(output.unwrap().status.success());
            let output = Command::new("/bin/cat")
                .arg0("another-name")
                .arg("/proc/self/cmdline")
                .output();
            assert!(text(output.unwrap().stdout).starts_with("another-name\0"));
            let mut child = Command::new("cat")
                .stdin(Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap();
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            let group: u32 = stat
                .rsplit(')')
                .next()
                .unwrap()
                .split_whitespace()
                .nth(2)
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(group, child.id());
            child.wait().unwrap();
        });
    });
}

#[test]
fn another_user() {
    // Goal: uid and gid are those of the child, where we may set them; else PermissionDenied.
    // Method: `id`.
    check(|| {
        runtime(1).run(
            || match Command::new("id").uid(65534).gid(65534).arg("-u").output() {
                Ok(output) => assert_eq!(text(output.stdout), "65534\n"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
            },
        );
    });
}

#[test]
fn what_was_set_is_told() {
    // Goal: program, arguments, variables and directory can be read; `{:?}` is std's; it goes to std and back.
    // Method: as said.
    fn is_shared<T: Send + Sync>(_: &T) {}
    let mut command = Command::new("ls");
    command
        .args(["-l", "-a"])
        .env("A", "1")
        .env_remove("B")
        .current_dir("/proc");
    is_shared(&command);
    assert_eq!(command.get_program(), "ls");
    assert!(command.get_args().eq(["-l", "-a"]));
    let set: Vec<_> = command.get_envs().collect();
    assert_eq!(
        set,
        [
            (OsStr::new("A"), Some(OsStr::new("1"))),
            (OsStr::new("B"), None)
        ]
    );
    assert_eq!(command.get_current_dir(), Some(Path::new("/proc")));
    let shown = format!("{command:?}");
    let theirs = std::process::Command::from(command);
    assert_eq!(shown, format!("{theirs:?}"));
    assert_eq!(Command::from(theirs).get_program(), "ls");
}

#[test]
fn a_program_that_was_just_written() {
    // Goal: who has dropped the file of a program can start it: nobody is still writing to it.
    // Method: written, dropped, started. Alone: another's fork has our files.
    alone(|| {
        let scratch = tempfile::tempdir().unwrap();
        runtime(1).run(|| {
            for round in 0..10 {
                let path = scratch.path().join(round.to_string());
                drop(program(&path));
                assert!(Command::new(&path).status().unwrap().success());
            }
        });
    });
}

#[test]
fn a_program_that_is_being_written() {
    // Goal: a start waits a moment for who still writes to the program; who goes on for ever makes it an error.
    // Method: another coroutine closes the file after 5 ms; then one that nobody closes.
    alone(|| {
        let scratch = tempfile::tempdir().unwrap();
        runtime(1).run(|| {
            let path = scratch.path().join("program");
            let file = program(&path);
            let writer = coro::spawn(move || {
                coro::sleep(Duration::from_millis(5));
                drop(file);
            });
            assert!(Command::new(&path).status().unwrap().success());
            writer.join().unwrap();
            let _open = File::options().append(true).open(&path).unwrap();
            let error = Command::new(&path).status().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ExecutableFileBusy);
        });
    });
}

/// Writes a program that does nothing, and leaves its file open.
fn program(path: &Path) -> File {
    let mut options = File::options();
    let options = options.write(true).create_new(true).mode(0o755);
    let mut file = options.open(path).unwrap();
    file.write_all(b"#!/bin/true\n").unwrap();
    file
}

#[test]
fn a_start_that_is_refused_leaves_the_command() {
    // Goal: who may not wait gets an error, and the command is what it was.
    // Method: a start outside a runtime, then one inside.
    check(|| {
        let mut command = Command::new("true");
        assert!(command.arg("kept").spawn().is_err());
        assert_eq!(command.get_program(), "true");
        assert_eq!(command.get_args().next(), Some(OsStr::new("kept")));
        assert!(runtime(1).run(|| command.status()).unwrap().success());
    });
}

#[test]
fn a_program_that_fails() {
    // Goal: what it writes to its error output is collected, and its code is not 0.
    // Method: mkdir of what is there.
    check(|| {
        runtime(1).run(|| {
            let output = Command::new("mkdir").arg("./").output().unwrap();
            assert!(output.status.code().is_some_and(|code| code != 0));
            assert!(output.stdout.is_empty() && !output.stderr.is_empty());
            let output = Command::new("echo").arg("hello").output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty());
            assert_eq!(text(output.stdout), "hello\n");
        });
    });
}
