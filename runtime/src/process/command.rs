//! What to start, and how.

use super::Child;
use crate::io::offload;
use std::ffi::OsStr;
use std::io;
use std::mem;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};

/// A process to be started. Compare [`std::process::Command`], which it is made of: whatever that one can do more
/// (users, groups, `pre_exec`) is done there, and then converted with `From`.
///
/// # Examples
///
/// ```
/// use coring::process::Command;
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let output = Command::new("echo").arg("hello").output()?;
///     assert!(output.status.success());
///     assert_eq!(output.stdout, b"hello\n");
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Command {
    theirs: std::process::Command,
}

impl Command {
    /// A command without arguments, with this process's environment and directory.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        std::process::Command::new(program).into()
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.theirs.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.theirs.args(arguments);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.theirs.env(name, value);
        self
    }

    /// Takes a variable out of the environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.theirs.env_remove(name);
        self
    }

    /// Starts with an empty environment.
    pub fn env_clear(&mut self) -> &mut Self {
        self.theirs.env_clear();
        self
    }

    /// Sets the working directory.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.theirs.current_dir(directory);
        self
    }

    /// Sets the standard input. Default: this process's; nothing for [`output`](Self::output).
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.theirs.stdin(stdin);
        self
    }

    /// Sets the standard output. Default: this process's; a pipe for [`output`](Self::output).
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.theirs.stdout(stdout);
        self
    }

    /// Sets the standard error. Default: this process's; a pipe for [`output`](Self::output).
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.theirs.stderr(stderr);
        self
    }

    /// Starts it.
    ///
    /// # Parks
    ///
    /// Until it has been started or could not be.
    ///
    /// # Cancellation
    ///
    /// Waits for the start all the same, so that no process is lost sight of.
    ///
    /// # Errors
    ///
    /// As fork(2) and execve(2): `NotFound` if there is no such program.
    pub fn spawn(&mut self) -> io::Result<Child> {
        let mut theirs = mem::replace(&mut self.theirs, std::process::Command::new(""));
        let (theirs, outcome) = offload(move || {
            let outcome = theirs.spawn();
            (theirs, outcome)
        })?;
        self.theirs = theirs;
        outcome.map(Child::from)
    }

    /// Starts it and waits for its end.
    ///
    /// # Parks
    ///
    /// Until then.
    ///
    /// # Cancellation
    ///
    /// The process runs on, and nobody will wait for it.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Starts it, waits for its end, and collects what it writes.
    ///
    /// # Parks
    ///
    /// Until it has ended and closed its output.
    ///
    /// # Cancellation
    ///
    /// As [`status`](Self::status).
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn output(&mut self) -> io::Result<Output> {
        self.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?
            .wait_with_output()
    }
}

impl From<std::process::Command> for Command {
    fn from(theirs: std::process::Command) -> Self {
        Self { theirs }
    }
}
