//! One cache line between two spinning threads: no message can cross faster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::beside::{self, END, SPUN_LAP, spin};
use crate::machine;
use crate::subject::{Between, Job, Role, Skip, Subject, Work};

/// The subject.
#[derive(Debug)]
pub(crate) struct Line;

impl Subject for Line {
    fn name(&self) -> &'static str {
        "raw-line"
    }

    fn role(&self) -> Role {
        Role::Limit
    }

    fn version(&self) -> String {
        machine::kernel()
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Between(Between::PingPong) => ping_pong(job),
            _ => return job.not_offered(),
        }
        Ok(())
    }
}

/// Odd numbers go there, the next even ones come back.
fn ping_pong(job: &Job) {
    let line = Arc::new(AtomicU64::new(0));
    let there = Arc::clone(&line);
    let until = |line: &AtomicU64, wanted: fn(u64) -> bool| {
        spin(|| Some(line.load(Ordering::Acquire)).filter(|&word| wanted(word)))
    };
    let peer = beside::start(job, move || {
        loop {
            let word = until(&there, |word| word % 2 == 1);
            if word == END {
                return;
            }
            there.store(word + 1, Ordering::Release);
        }
    });
    let mut meter = job.meter(SPUN_LAP);
    while meter.lap() {
        for _ in 0..SPUN_LAP {
            let word = until(&line, |word| word.is_multiple_of(2));
            line.store(word + 1, Ordering::Release);
        }
    }
    until(&line, |word| word.is_multiple_of(2));
    line.store(END, Ordering::Release);
    peer.join().expect("it answers and ends");
    meter.finish();
}
