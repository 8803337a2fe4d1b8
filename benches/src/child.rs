//! One process for each sample, and the few lines it exchanges with the harness.
//!
//! ```text
//! harness                                     child (the same binary, pinned)
//!   start -> coring-bench --child SUITE BENCH SUBJECT CPU PEER_CPU WARM_UP_US MEASURE_US
//!                                             finds bench and subject, runs the subject
//!   <- "skip REASON" | "sample VALUE..." | "port NUMBER" on its standard output
//!   kill once the sample is taken
//! ```
//!
//! A process of its own makes the CPU time of a subject readable from outside, keeps global state of
//! one runtime away from the next, and turns a crash into a line in the report. A child can neither hang
//! nor be left behind: an alarm ends it after its time, and the kernel ends it with its parent.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::machine::Cpus;
use crate::subject::{Job, Skip, Subject, say};
use crate::suite::{Bench, Suite, Timing};
use crate::{suites, sys};

/// The hidden sub-command.
pub(crate) const COMMAND: &str = "--child";

/// Why there is no sample.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The subject says that it cannot; asking again is no use.
    Skipped(String),
    /// Something went wrong this time.
    Broken(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Broken(error.to_string())
    }
}

/// A subject at work in a process of its own.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    lines: io::Lines<BufReader<std::process::ChildStdout>>,
}

/// Bytes of a process that are in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// All of them.
    pub(crate) resident: u64,
    /// Those that are not as they are on disk: without the program, which holds every subject here.
    pub(crate) own: u64,
}

impl Child {
    /// Starts `subject` on `bench`, pinned to its CPU.
    pub(crate) fn start(
        suite: &dyn Suite,
        bench: &Bench,
        subject: &dyn Subject,
        timing: Timing,
        cpus: Cpus,
    ) -> io::Result<Child> {
        let (binary, name) = subject.program()?;
        let mut process = Command::new(binary)
            .args([COMMAND, suite.name(), &bench.key(), name])
            .arg(cpus.subject.to_string())
            .arg(cpus.harness.to_string())
            .arg(timing.warm_up.as_micros().to_string())
            .arg(timing.measure.as_micros().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().expect("its output is piped");
        let lines = BufReader::new(output).lines();
        Ok(Child { process, lines })
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The clock of the CPU time the child uses.
    pub(crate) fn cpu_clock(&self) -> io::Result<sys::CpuClock> {
        sys::CpuClock::of(self.process.id())
    }

    /// How much memory the child uses now.
    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        let bytes = |field: &str| -> Option<u64> {
            let rest = rollup.lines().find_map(|line| line.strip_prefix(field))?;
            let kibibytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kibibytes * 1024)
        };
        let memory = || {
            let resident = bytes("Rss:")?;
            let clean = bytes("Shared_Clean:")? + bytes("Private_Clean:")?;
            Some(Memory {
                resident,
                own: resident.saturating_sub(clean),
            })
        };
        memory().ok_or_else(|| io::Error::other("the kernel tells no memory of the child"))
    }

    /// Waits until the server listens.
    pub(crate) fn address(&mut self) -> Result<SocketAddr, Failure> {
        let port = self.answer("port")?;
        let port = port
            .parse()
            .map_err(|_| Failure::Broken(format!("spoke of a port that is none: {port}")))?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Waits for what a subject has measured itself.
    pub(crate) fn values(&mut self) -> Result<Vec<f64>, Failure> {
        let line = self.answer("sample")?;
        let values: Result<Vec<f64>, _> = line.split(' ').map(str::parse).collect();
        values.map_err(|_| Failure::Broken(format!("spoke of values that are none: {line}")))
    }

    /// The rest of the next line, which must begin with `word`.
    fn answer(&mut self, word: &str) -> Result<String, Failure> {
        let Some(line) = self.lines.next().transpose()? else {
            return Err(Failure::Broken(self.end()));
        };
        match line.split_once(' ') {
            Some((first, rest)) if first == word => Ok(rest.to_owned()),
            Some(("skip", reason)) => Err(Failure::Skipped(reason.to_owned())),
            _ => Err(Failure::Broken(format!("spoke out of turn: {line}"))),
        }
    }

    /// How the child ended, in words; waits for it.
    fn end(&mut self) -> String {
        self.process
            .wait()
            .map_or_else(|error| error.to_string(), describe)
    }

    /// How the child ended, if it is about to: its sockets are closed a moment before it is gone.
    pub(crate) fn post_mortem(&mut self) -> Option<String> {
        thread::sleep(MOMENT);
        self.process.try_wait().ok().flatten().map(describe)
    }
}

const MOMENT: Duration = Duration::from_millis(20);

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(libc::SIGALRM)) => "did not finish in time".to_owned(),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        (code, _) => format!("ended with exit code {}", code.unwrap_or_default()),
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Fails only if the child has ended already, and then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child's side: runs the job that the arguments after [`COMMAND`] describe.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [suite, bench, subject, cpu, peer, warm_up, measure] = arguments else {
        return Err("a child takes seven arguments and is started by the harness only".to_owned());
    };
    let suite = suites::find(suite).ok_or("no such suite")?;
    let benches = suite.benches();
    let bench = benches
        .iter()
        .find(|it| it.key() == *bench)
        .ok_or("no such bench")?;
    let subjects = suite.subjects().into_iter();
    let subject = { subjects }
        .find(|it| it.name() == *subject)
        .ok_or("no such subject")?;
    let number = |text: &String| {
        text.parse::<u64>()
            .map_err(|error| format!("{text}: {error}"))
    };
    let job = Job {
        work: bench.work,
        warm_up: Duration::from_micros(number(warm_up)?),
        measure: Duration::from_micros(number(measure)?),
        cpu: usize::try_from(number(cpu)?).map_err(|error| error.to_string())?,
        peer: usize::try_from(number(peer)?).map_err(|error| error.to_string())?,
    };
    confine(&job).map_err(|error| format!("cannot confine the child: {error}"))?;
    if let Err(Skip(reason)) = subject.run(&job) {
        say(&format!("skip {reason}"));
    }
    Ok(())
}

/// Pins the child and bounds its life: the time it was given, thrice, and half a minute, which a million of
/// anything can take on memory that the host has to find first.
fn confine(job: &Job) -> io::Result<()> {
    sys::die_with_parent()?;
    let seconds = (job.warm_up + job.measure).as_secs() * 3 + 30;
    sys::die_after(u32::try_from(seconds).unwrap_or(u32::MAX));
    sys::raise_file_limit()?;
    sys::pin(&[job.cpu])
}
