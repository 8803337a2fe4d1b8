//! Go between two cores, from outside: goroutines and channels, where a Go compiler is installed.
//!
//! The program is `go/cores.go`. It is built when a sample is taken, beside this binary, and measures and checks as the others do; its
//! answer goes to the harness as it is.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::beside;
use crate::subject::{Between, Job, Role, Skip, Subject, Work, say};

const SOURCE: &str = include_str!("go/cores.go");

/// The subject.
#[derive(Debug)]
pub(crate) struct Go;

impl Subject for Go {
    fn name(&self) -> &'static str {
        "go"
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        let told = Command::new("go").arg("version").output();
        told.map_or("none".to_owned(), |told| {
            String::from_utf8_lossy(&told.stdout).trim().to_owned()
        })
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        let Work::Between(work) = job.work else {
            return Err(Skip::because("is here for what passes between cores"));
        };
        let (work, number) = match work {
            Between::PingPong => ("ping_pong", 8),
            Between::Stream { bytes } => ("stream", u128::from(bytes)),
            Between::Wake { pause } => ("wake", pause.as_nanos()),
            Between::Call => ("call", 8),
            Between::WakeBeside { .. }
            | Between::Batches { .. }
            | Between::BlockOnReady
            | Between::BlockOnWake => {
                return job.not_offered();
            }
        };
        beside::use_both(job)?;
        let said = Command::new(build()?)
            .arg(work)
            .arg(number.to_string())
            .args([job.warm_up, job.measure].map(|time| time.as_nanos().to_string()))
            .args([job.cpu, job.peer].map(|cpu| cpu.to_string()))
            .output()?;
        match String::from_utf8_lossy(&said.stdout).lines().next() {
            Some(sample) if said.status.success() => say(sample),
            _ => return Err(complaint(&said.stderr)),
        }
        Ok(())
    }
}

/// The program, up to date.
fn build() -> Result<PathBuf, Skip> {
    let place = std::env::current_exe()?.with_file_name("coring-bench-go");
    fs::create_dir_all(&place)?;
    let (source, program) = (place.join("cores.go"), place.join("cores"));
    fs::write(&source, SOURCE)?;
    let mut go = Command::new("go");
    go.arg("build").arg("-o").args([&program, &source]);
    let built = match go.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Skip::because("go is not installed"));
        }
        built => built?,
    };
    if built.status.success() {
        Ok(program)
    } else {
        Err(complaint(&built.stderr))
    }
}

fn complaint(said: &[u8]) -> Skip {
    let said = String::from_utf8_lossy(said);
    Skip(format!(
        "said: {}",
        said.lines().next().unwrap_or("nothing")
    ))
}
