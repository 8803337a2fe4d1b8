//! What to start, and how.

use super::Child;
use super::orphans::{self, Only};
use crate::io::{Limit, offload, pause};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::mem;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a program is tried again that somebody is still writing to, and the pause before.
const BUSY_TRIES: usize = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// A process to be started. Compare [`std::process::Command`], which it is made of: whatever that one can do more
/// (`pre_exec`, groups) is done there, and then converted with `From`. Such a command does not tell whether its standard streams
/// were set: [`output`](Self::output) knows of those that are set here.
///
/// The process is started by a thread of the offload pool, which ends when it had nothing to do for a while. To
/// `PR_SET_PDEATHSIG`, prctl(2), that thread is the parent: with it a child is killed although this process goes on. Start such a
/// one with std.
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
pub struct Command {
    theirs: std::process::Command,
    /// Which of the standard streams were set here: input, output, error.
    set: [bool; 3],
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

    /// Sets variables of the environment.
    pub fn envs(
        &mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> &mut Self {
        self.theirs.envs(variables);
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
        self.set[0] = true;
        self
    }

    /// Sets the standard output. Default: this process's; a pipe for [`output`](Self::output).
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.theirs.stdout(stdout);
        self.set[1] = true;
        self
    }

    /// Sets the standard error. Default: this process's; a pipe for [`output`](Self::output).
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.theirs.stderr(stderr);
        self.set[2] = true;
        self
    }

    /// Starts it. A program that this process has just written can be started as soon as its [`File`](crate::fs::File) is
    /// dropped: the kernel's thread that did the writing may hold on to the file for a moment longer, until it gets a CPU and the
    /// core a turn, so one that is busy is tried again for some 100 ms. (With std's command, which gives the core no turn, it can be
    /// busy for ever.)
    ///
    /// # Parks
    ///
    /// Until it has been started or could not be.
    ///
    /// # Cancellation
    ///
    /// A start that is under way is waited for all the same, so that no process is lost sight of.
    ///
    /// # Errors
    ///
    /// As fork(2) and execve(2): `NotFound` if there is no such program, `ExecutableFileBusy` if somebody goes on writing to it.
    pub fn spawn(&mut self) -> io::Result<Child> {
        for _ in 0..BUSY_TRIES {
            match self.start() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    pause(BUSY_PAUSE, "a program to be written", Limit::NONE)?;
                }
                outcome => return outcome,
            }
        }
        self.start()
    }

    /// Tries to, once.
    fn start(&mut self) -> io::Result<Child> {
        // Shared with the job, so that it comes back also from one that is refused.
        let theirs = mem::replace(&mut self.theirs, std::process::Command::new(""));
        let theirs = Arc::new(Mutex::new(theirs));
        let there = Arc::clone(&theirs);
        let outcome = offload(move || {
            orphans::collect();
            lock(&there).spawn()
        });
        mem::swap(&mut self.theirs, &mut lock(&theirs));
        outcome?.map(Child::from)
    }

    /// Starts it and waits for its end.
    ///
    /// # Parks
    ///
    /// Until then.
    ///
    /// # Cancellation
    ///
    /// The process runs on, and nobody will wait for it. When it has ended, the next start of a process collects what it leaves.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        Only(self.spawn()?).wait()
    }

    /// Starts it, waits for its end, and collects what it writes. Standard streams that were set stay as they are.
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
        self.set_defaults(Stdio::null, Stdio::piped);
        let child = self.spawn();
        // Those of `spawn` and `status` again, for the next time.
        self.set_defaults(Stdio::inherit, Stdio::inherit);
        child?.wait_with_output()
    }

    /// What the standard streams are that nobody has set.
    fn set_defaults(&mut self, input: fn() -> Stdio, others: fn() -> Stdio) {
        if !self.set[0] {
            self.theirs.stdin(input());
        }
        if !self.set[1] {
            self.theirs.stdout(others());
        }
        if !self.set[2] {
            self.theirs.stderr(others());
        }
    }
}

/// Users and process groups, as `std::os::unix::process::CommandExt` has them.
impl Command {
    /// Sets the first argument, by which a program knows its own name.
    pub fn arg0(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.theirs.arg0(argument);
        self
    }

    /// Sets the user.
    pub fn uid(&mut self, user: u32) -> &mut Self {
        self.theirs.uid(user);
        self
    }

    /// Sets the group.
    pub fn gid(&mut self, group: u32) -> &mut Self {
        self.theirs.gid(group);
        self
    }

    /// Puts it into a process group; 0 for one of its own.
    pub fn process_group(&mut self, group: i32) -> &mut Self {
        self.theirs.process_group(group);
        self
    }
}

/// What was set.
impl Command {
    /// The program.
    #[must_use]
    pub fn get_program(&self) -> &OsStr {
        self.theirs.get_program()
    }

    /// The arguments.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.theirs.get_args()
    }

    /// The variables that were set, or taken out (`None`).
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.theirs.get_envs()
    }

    /// The working directory, if one was set.
    #[must_use]
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.theirs.get_current_dir()
    }
}

fn lock(shared: &Mutex<std::process::Command>) -> MutexGuard<'_, std::process::Command> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As std's: the words as a shell would take them.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.theirs.fmt(f)
    }
}

impl From<std::process::Command> for Command {
    fn from(theirs: std::process::Command) -> Self {
        Self {
            theirs,
            set: [false; 3],
        }
    }
}

impl From<Command> for std::process::Command {
    fn from(this: Command) -> Self {
        this.theirs
    }
}
