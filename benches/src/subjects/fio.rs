//! fio, the disk tester, from outside: its io_uring engine in its cheapest setting, where it is installed.
//!
//! It reads the same file at random with as many reads under way. It checks no contents, and opens and writes in
//! patterns of its own, so only reads are comparable.

use std::io;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::files::{BLOCK_BYTES, large_file};
use crate::subject::{Job, Role, Skip, Subject, Work, say};

/// The subject.
#[derive(Debug)]
pub(crate) struct Fio;

impl Subject for Fio {
    fn name(&self) -> &'static str {
        "fio"
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        let told = Command::new("fio").arg("--version").output();
        told.map_or("none".to_owned(), |told| {
            String::from_utf8_lossy(&told.stdout).trim().to_owned()
        })
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Read { depth, direct } => reads(job, depth, direct),
            _ => Err(Skip::because("its reads alone are comparable")),
        }
    }
}

/// What is used of its report.
#[derive(Deserialize)]
struct Report {
    jobs: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    error: i32,
    read: Rate,
    /// Per cent of its run time.
    usr_cpu: f64,
    sys_cpu: f64,
}

#[derive(Deserialize)]
struct Rate {
    iops: f64,
}

fn reads(job: &Job, depth: usize, direct: bool) -> Result<(), Skip> {
    let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
    let output = Command::new("fio")
        .args([
            "--name=read",
            "--readonly",
            "--rw=randread",
            "--norandommap",
        ])
        .args(["--ioengine=io_uring", "--gtod_reduce=1", "--invalidate=0"])
        .args(["--time_based", "--thread", "--output-format=json"])
        .arg(format!("--filename={}", large_file(direct)?.display()))
        .arg(format!("--bs={BLOCK_BYTES}"))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--direct={}", u8::from(direct)))
        .arg(format!("--ramp_time={}", milliseconds(job.warm_up)))
        .arg(format!("--runtime={}", milliseconds(job.measure)))
        .output();
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Skip::because("is not installed"));
        }
        output => output?,
    };
    let report: Report = serde_json::from_slice(&output.stdout).map_err(|_| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        Skip(format!(
            "said: {}",
            complaint.lines().next().unwrap_or("nothing")
        ))
    })?;
    match &report.jobs[..] {
        [job] if job.error == 0 && job.read.iops > 0.0 => {
            let cpu_us = (job.usr_cpu + job.sys_cpu) / 100.0 * 1e6 / job.read.iops;
            say(&format!("sample {} {cpu_us}", job.read.iops));
            Ok(())
        }
        _ => Err(Skip::because("read nothing")),
    }
}
