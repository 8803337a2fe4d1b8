//! What is measured: the subjects, the work they are asked to do, and the job that carries it.
//!
//! A subject lives in one file of `subjects/` and always runs in a child process of its own, pinned
//! to one CPU. The child calls [`Subject::run`] once, with one [`Job`]; the subject does the work in
//! the way its own documentation recommends and reports through the job. What it cannot do it answers
//! with a [`Skip`] that says why; an `io::Error` on the way (ring refused, no memory) becomes one too.
//!
//! A later suite adds variants to [`Work`] and arms to those subjects that can do them. The others
//! keep compiling: their last arm is `_ => job.not_offered()`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::lines::Lines;
use crate::work::{Local, Meter};

/// One contender.
pub(crate) trait Subject: Sync {
    /// The name on the command line, in tables and in JSON.
    fn name(&self) -> &'static str;

    /// The role it plays, which decides what it is compared with.
    fn role(&self) -> Role;

    /// The version of the crate, or of the kernel for loops with nothing in between.
    fn version(&self) -> String;

    /// Whether it is measured only when it is named: a twin, for one question.
    fn only_when_named(&self) -> bool {
        false
    }

    /// The binary it is part of, and its name in there.
    fn program(&self) -> io::Result<(PathBuf, &'static str)> {
        Ok((std::env::current_exe()?, self.name()))
    }

    /// Does the job and reports through it. Returns when a measurement is finished; a server never returns.
    fn run(&self, job: &Job) -> Result<(), Skip>;
}

/// Why a subject is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The runtime of this repository.
    Ours,
    /// What the machine can do with no runtime in between.
    Limit,
    /// Another runtime.
    Peer,
}

/// What a bench asks of a subject.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// `tasks` runnable tasks of one core yield to each other in turn.
    Yield {
        /// How many are runnable at once.
        tasks: usize,
    },
    /// Spawn `batch` tasks that return a number, then join them all, again and again.
    SpawnJoin {
        /// How many are alive at once.
        batch: usize,
    },
    /// What tasks of one core do with each other, with time, and in large numbers.
    Local(Local),
    /// Accept TCP connections on a free port of the loopback and send back every byte received.
    Echo,
    /// Accept TCP connections as for `Echo`, and answer HTTP/1.1 requests with [`HELLO`](crate::load::HELLO).
    Hello,
    /// Accept TCP connections as for `Echo`, and answer each [`BULK_REQUEST`](crate::load::BULK_REQUEST) with so many bytes of
    /// [`bulk`](crate::load::bulk), written by one call.
    Bulk {
        /// Bytes of an answer.
        bytes: usize,
    },
    /// Log lines; see [`crate::lines`].
    Log(Lines),
    /// [`Work::Echo`], with a log line for each request.
    EchoLogged {
        /// Only in the slices that [`crate::effect`] says.
        sliced: bool,
    },
    /// Read 4 KiB blocks at random from [`large_file`](crate::files::large_file), with so many reads under way.
    Read {
        /// How many tasks read, each one block at a time.
        depth: usize,
        /// Whether past the page cache (`O_DIRECT`).
        direct: bool,
    },
    /// Open, read whole and close small files.
    OpenRead {
        /// How many tasks do so.
        depth: usize,
    },
    /// Write a file from its beginning to its end in 128 KiB blocks, then sync it, again and again.
    WriteSync,
    /// Something between two cores.
    Between(Between),
}

/// Work between the core of the job and its peer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Between {
    /// One word goes there and comes back.
    PingPong,
    /// Messages of so many bytes go one way, one at a time.
    Stream {
        /// Bytes of a message: 8 or 64.
        bytes: u64,
    },
    /// The same with calls that pass on many at once.
    Batches {
        /// Bytes of a message: 8 or 64.
        bytes: u64,
    },
    /// A message to a receiver that has slept for a while: from the send until it has it.
    Wake {
        /// How long it was left asleep.
        pause: Duration,
    },
    /// The same in turn with the limit's way, in one process.
    WakeBeside {
        /// As in `Wake`.
        pause: Duration,
    },
    /// A closure runs there and its value comes back.
    Call,
    /// A future that is ready is driven to its end. Needs no other core.
    BlockOnReady,
    /// A future is woken by a thread of the other core.
    BlockOnWake,
}

/// Why a subject does not do a piece of work.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl Skip {
    /// A skip for this reason.
    pub(crate) fn because(reason: impl Into<String>) -> Skip {
        Skip(reason.into())
    }
}

impl From<io::Error> for Skip {
    fn from(error: io::Error) -> Skip {
        Skip(format!("failed to start here: {error}"))
    }
}

/// One measurement, seen from inside the child process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    /// What to do.
    pub(crate) work: Work,
    /// How long to do it before it counts.
    pub(crate) warm_up: Duration,
    /// How long to do it so that it counts.
    pub(crate) measure: Duration,
    /// The CPU that this process is pinned to.
    pub(crate) cpu: usize,
    /// The CPU of the harness, which sleeps while a subject measures itself: for work between two cores, and for threads of the subject that are
    /// not part of what is measured.
    pub(crate) peer: usize,
}

/// Bytes an echo server reads at once; each has one such buffer for each connection.
pub(crate) const ECHO_BUFFER_BYTES: usize = 4096;

impl Job {
    /// Starts the clock of a job that measures itself; every lap of it is `operations` long.
    pub(crate) fn meter(&self, operations: usize) -> Meter {
        Meter::start(self.warm_up, self.measure, operations)
    }

    /// Tells the harness where the server listens. From here on the harness is the clock.
    pub(crate) fn listening(&self, address: SocketAddr) {
        say(&format!("port {}", address.port()));
    }

    /// The answer of a subject that has no such function.
    pub(crate) fn not_offered(&self) -> Result<(), Skip> {
        let what = match self.work {
            Work::Yield { .. } | Work::SpawnJoin { .. } => "tasks",
            Work::Local(local) => local.needs(),
            Work::Echo => "sockets",
            Work::Hello => "HTTP",
            Work::Bulk { .. } => "server of large answers here",
            Work::Between(Between::PingPong | Between::Stream { .. } | Between::Wake { .. }) => {
                "channels between cores"
            }
            Work::Between(Between::WakeBeside { .. }) => "comparison with the limit in one process",
            Work::Between(Between::Batches { .. }) => "batches on channels between cores",
            Work::Between(Between::Call) => "calls on other cores",
            Work::Between(Between::BlockOnReady | Between::BlockOnWake) => {
                "way to wait for a future in the middle of plain code"
            }
            Work::Read { .. } | Work::OpenRead { .. } | Work::WriteSync => "files",
            Work::Log(_) => "log",
            Work::EchoLogged { .. } => "server",
        };
        Err(Skip(format!("offers no {what}")))
    }
}

/// Writes one line to the harness, which reads this process's standard output.
pub(crate) fn say(line: &str) {
    let mut output = io::stdout().lock();
    let written = writeln!(output, "{line}").and_then(|()| output.flush());
    written.expect("the harness reads until its child has ended");
}
