//! A program at work: it says on stdout when it is ready, gets signals, and its stderr is read line by line.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

/// Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    /// Starts it and waits until it says `ready`.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn start<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Self {
        let mut running = Self::begin(words);
        let line = running.line();
        assert!(
            line == "ready\n",
            "not ready but {line:?}: {:?}",
            running.end()
        );
        running
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn begin<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Self {
        let mut words = words.into_iter();
        let program = words.next().expect("a command has a first word");
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        Self {
            stdout: BufReader::new(child.stdout.take().expect("piped")),
            stderr: BufReader::new(child.stderr.take().expect("piped")),
            child,
        }
    }

    /// The next line of its stdout.
    ///
    /// # Panics
    ///
    /// When it is no text.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("text");
        line
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `TERM`, `INT`, ...
    ///
    /// # Panics
    ///
    /// When it has gone.
    pub fn signal(&self, name: &str) {
        let killed = Command::new("kill")
            .args([format!("-{name}"), self.id().to_string()])
            .status();
        assert!(killed.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// The lines of stderr up to one with these words.
    ///
    /// # Panics
    ///
    /// When it ends without them.
    pub fn until_said(&mut self, words: &str) -> String {
        let mut text = String::new();
        while !text.contains(words) {
            let bytes = self.stderr.read_line(&mut text).expect("text");
            assert!(bytes > 0, "{words:?} was not said: {text}");
        }
        text
    }

    /// Waits for its end: the exit code, and the rest of stdout and stderr.
    ///
    /// # Panics
    ///
    /// When it writes what is no text.
    pub fn end(&mut self) -> (Option<i32>, String, String) {
        let (mut out, mut text) = (String::new(), String::new());
        self.stderr.read_to_string(&mut text).expect("text");
        self.stdout.read_to_string(&mut out).expect("text");
        let status = self.child.wait().expect("a child of ours");
        (status.code(), out, text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
