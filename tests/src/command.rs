//! Other programs: the scenario program of this package, tools that may be missing, and what they print.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What became of a program.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// Asserts that the user was told cause and cure: a failure, a sentence with these words, no panic.
    ///
    /// # Panics
    ///
    /// When not.
    #[track_caller]
    pub fn assert_refused(&self, words: &[&str]) {
        assert!(
            self.code.is_some_and(|code| code != 0),
            "it ends with an exit code that is not 0: {self:#?}"
        );
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is said: {self:#?}");
        }
        for noise in ["panicked", "RUST_BACKTRACE", "Os {", "Error { "] {
            assert!(
                !self.stderr.contains(noise),
                "{noise:?} is not a sentence: {self:#?}"
            );
        }
    }

    /// Asserts that it ended well.
    ///
    /// # Panics
    ///
    /// When not.
    #[track_caller]
    pub fn assert_success(&self) {
        assert_eq!(self.code, Some(0), "it ends well: {self:#?}");
    }
}

/// Runs a program with these words; its input is empty. At most a minute: the watchdog of the test looks after it.
///
/// # Panics
///
/// When it cannot be started.
pub fn run<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Ended {
    let mut words = words.into_iter();
    let program = words.next().expect("a command has a first word");
    let output = Command::new(program.as_ref())
        .args(words)
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .output();
    output
        .unwrap_or_else(|error| panic!("{} does not start: {error}", program.as_ref().display()))
        .into()
}

/// The binary of an example, `target/<profile>/examples/NAME` seen from `target/<profile>/deps/it-HASH`; `None` where it
/// was not built.
#[must_use]
pub fn example(name: &str) -> Option<PathBuf> {
    let mut path = std::env::current_exe().ok()?;
    path.pop();
    path.pop();
    path.extend(["examples", name]);
    path.is_file().then_some(path)
}

/// Whether a program is on the path.
#[must_use]
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether strace can be used here: it may be missing, and tracing may be forbidden.
#[must_use]
pub fn strace_works() -> bool {
    exists("strace") && run(["strace", "-o", "/dev/null", "true"]).code == Some(0)
}

/// The words in front of a command that make it run as a user without privileges, of whom there are no other processes: what
/// they use would count. `None` where we may not.
#[must_use]
pub fn as_nobody_else() -> Option<Vec<String>> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // Far enough apart that another run of the tests, with a number next to ours, is somebody else.
    let user = 100_000 + std::process::id() + (CALLS.fetch_add(1, Ordering::Relaxed) << 23);
    let mut words = vec![String::from("setpriv")];
    words.extend(["reuid", "regid"].map(|what| format!("--{what}={user}")));
    words.extend(["--clear-groups", "--bounding-set=-all"].map(String::from));
    let works =
        exists("setpriv") && run(words.iter().map(String::as_str).chain(["true"])).code == Some(0);
    works.then_some(words)
}

/// The words in front of a command that make it run as the user nobody, without privileges; `None` where we may not.
#[must_use]
pub fn as_nobody() -> Option<Vec<&'static str>> {
    let words = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
    ];
    let works = exists("setpriv") && run(words.iter().chain(&["true"])).code == Some(0);
    works.then(|| words.to_vec())
}
