//! What may's coroutines do with each other. Between two of them its single-producer channel is the fastest it has;
//! it has no bound, so the sender of a stream yields now and then.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use may::sync::{Mutex, Semphore, spsc};
use may::{coroutine, go};

use crate::subject::{Job, Skip};
use crate::work::channel::{CAPACITY, consume, ping, pong};
use crate::work::park::Census;
use crate::work::sleep::sleep;
use crate::work::{Local, repeat};

/// Mappings that may makes for a stack and its guard.
const MAPPINGS_A_STACK: usize = 2;

pub(super) fn run(job: &Job, what: Local) -> Result<(), Skip> {
    match what {
        Local::PingPong => ping_pong(*job),
        Local::Stream => stream(job),
        Local::Lock => {
            let mutex = Mutex::new(0);
            repeat(job, |number| {
                let mut count = black_box(black_box(&mutex).lock().expect("no task panics"));
                assert_eq!(*count, number);
                *count += 1;
            });
        }
        Local::Semaphore => {
            let semaphore = Semphore::new(1);
            repeat(job, |_| {
                black_box(&semaphore).wait();
                black_box(());
                semaphore.post();
            });
            assert_eq!(semaphore.get_value(), 1);
        }
        Local::Sleep => return sleep(job, coroutine::sleep),
        Local::Park { tasks } => return park(tasks),
        _ => return job.not_offered(),
    }
    Ok(())
}

fn ping_pong(job: Job) {
    let (there, from_there) = spsc::channel();
    let (back, from_back) = spsc::channel();
    let send = move |number| there.send(number).expect("the other task receives");
    let receive = move || from_back.recv().expect("the other task answers");
    let answer = move |number| back.send(number).expect("the other task receives");
    let first = go!(move || ping(&job, send, receive));
    let second = go!(move || pong(answer, || from_there.recv().ok()));
    first.join().expect("no task panics");
    second.join().expect("no task panics");
}

fn stream(job: &Job) {
    let (sender, receiver) = spsc::channel();
    let producer = go!(move || {
        for number in 0.. {
            if sender.send(number).is_err() {
                return;
            }
            if number % CAPACITY as u64 == 0 {
                coroutine::yield_now();
            }
        }
    });
    consume(job, || receiver.recv().expect("the producer goes on"));
    drop(receiver);
    producer.join().expect("no task panics");
}

fn park(tasks: usize) -> Result<(), Skip> {
    let mappings = std::fs::read_to_string("/proc/sys/vm/max_map_count")?;
    let mappings: usize = mappings.trim().parse().expect("the kernel writes a number");
    if tasks * MAPPINGS_A_STACK >= mappings {
        return Err(Skip(format!(
            "two mappings a stack: vm.max_map_count ({mappings}) ends it below {}",
            mappings / MAPPINGS_A_STACK
        )));
    }
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let mut census = Census::start(tasks)?;
    let mut handles = Vec::with_capacity(tasks);
    handles.extend((0..tasks).map(|_| {
        let counts = Arc::clone(&counts);
        go!(move || {
            counts.0.fetch_add(1, Ordering::Relaxed);
            coroutine::park();
            counts.1.fetch_add(1, Ordering::Relaxed);
        })
    }));
    while counts.0.load(Ordering::Relaxed) < tasks {
        // Its worker takes a coroutine that yields before those that were spawned.
        coroutine::sleep(Duration::from_millis(1));
    }
    census.parked(counts.0.load(Ordering::Relaxed))?;
    handles
        .iter()
        .for_each(|handle| handle.coroutine().unpark());
    for handle in handles {
        handle.join().expect("no task panics");
    }
    census.finish(counts.1.load(Ordering::Relaxed));
    Ok(())
}
