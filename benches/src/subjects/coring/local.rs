//! What coroutines of one core do with each other: calls that block, on `coro`'s own types.
//!
//! Timers are measured on the wheel that the scheduler has, by the calls that it makes. It runs on virtual time here, and is
//! moved on millisecond by millisecond: to jump, as the other runtimes do, would be cheaper.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;

use coring::coro::channel::{bounded, broadcast, oneshot, watch};
use coring::coro::sync::{Mutex, Semaphore};
use coring::coro::timer::Wheel;
use coring::coro::{self};

use fastrand::Rng;

use crate::subject::{Job, Skip};
use crate::work::channel::{CAPACITY, consume, ping, pong};
use crate::work::park::Census;
use crate::work::sleep::sleep;
use crate::work::timers::{Costs, SPREAD, batch, draw, offset, rounds, timed};
use crate::work::{Local, repeat};

/// Values that a broadcast keeps.
const KEPT: usize = 16;

pub(super) fn run(job: &Job, what: Local) -> Result<(), Skip> {
    match what {
        Local::PingPong => ping_pong(*job),
        Local::Stream => stream(job),
        Local::Lock => {
            let mutex = Mutex::new(0);
            repeat(job, |number| {
                let mut count = black_box(black_box(&mutex).lock());
                assert_eq!(*count, number);
                *count += 1;
            });
        }
        Local::Semaphore => {
            let semaphore = Semaphore::new(1);
            repeat(job, |_| {
                let permit = black_box(&semaphore).acquire();
                black_box(&permit);
            });
            assert_eq!(semaphore.available(), 1);
        }
        Local::Oneshot => repeat(job, |number| {
            let (sender, receiver) = oneshot();
            sender
                .send(black_box(number))
                .expect("its receiver is there");
            assert_eq!(receiver.recv(), Ok(number));
        }),
        Local::Watch => {
            let (sender, receiver) = watch(0);
            repeat(job, |number| {
                black_box(&sender)
                    .send(number)
                    .expect("its receiver is there");
                assert_eq!(*black_box(&receiver).borrow(), number);
            });
        }
        Local::Broadcast => {
            let (sender, receiver) = broadcast(KEPT);
            repeat(job, |number| {
                black_box(&sender).send(number);
                assert_eq!(black_box(&receiver).recv(), Ok(number));
            });
        }
        Local::Timers { live } => timers(job, live),
        Local::Sleep => return sleep(job, coro::sleep),
        Local::Park { tasks } => return park(tasks),
    }
    Ok(())
}

fn ping_pong(job: Job) {
    let (there, from_there) = bounded(1);
    let (back, from_back) = bounded(1);
    let send = move |number| there.send(number).expect("the other task receives");
    let receive = move || from_back.recv().expect("the other task answers");
    let answer = move |number| back.send(number).expect("the other task receives");
    let first = coro::spawn(move || ping(&job, send, receive));
    let second = coro::spawn(move || pong(answer, || from_there.recv().ok()));
    first.join().expect("no task panics");
    second.join().expect("no task panics");
}

fn stream(job: &Job) {
    let (sender, receiver) = bounded(CAPACITY);
    let producer = coro::spawn(move || (0..).all(|number| sender.send(number).is_ok()));
    consume(job, || receiver.recv().expect("the producer goes on"));
    drop(receiver);
    producer.join().expect("no task panics");
}

fn timers(job: &Job, live: usize) {
    let mut meter = job.meter(1);
    let mut costs = Costs::default();
    let mut random = Rng::with_seed(live as u64);
    let mut wheel = Wheel::new(0);
    let mut now_ns = 0;
    while costs.fire.is_empty() || meter.lap() {
        let due = |index| now_ns + nanoseconds(offset(index));
        let mut keys: Vec<_> = (0..live)
            .map(|index| wheel.insert(due(index), index))
            .collect();
        for round in 0..2 * rounds(live) {
            let any = round >= rounds(live);
            if any {
                draw(&mut keys, batch(live), &mut random);
            }
            let removed: Vec<_> = keys.drain(..batch(live)).collect();
            let remove = timed(removed.len(), || {
                for key in removed {
                    wheel.discard(key);
                }
            });
            costs.removed(any, remove);
            keys.reserve(batch(live));
            costs.add.push(timed(batch(live), || {
                keys.extend((0..batch(live)).map(|index| wheel.insert(due(index), index)));
            }));
        }
        let mut fired = Vec::with_capacity(live);
        costs.fire.push(timed(live, || {
            for _ in 0..SPREAD.as_millis() {
                now_ns += 1_000_000;
                wheel.advance(now_ns, |_, index| fired.push(index));
            }
        }));
        assert_eq!(fired.len(), live, "every timer that is left fires");
    }
    costs.finish();
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a second has fewer nanoseconds than 2^64")
}

fn park(tasks: usize) -> Result<(), Skip> {
    let waiting = Rc::new(Cell::new(0));
    let resumed = Rc::new(Cell::new(0));
    let (gate, waiters) = (Rc::new(coro::sync::Event::new()), Rc::clone(&waiting));
    let mut census = Census::start(tasks)?;
    let mut handles = Vec::with_capacity(tasks);
    handles.extend((0..tasks).map(|_| {
        let (gate, waiting, resumed) = (Rc::clone(&gate), Rc::clone(&waiters), Rc::clone(&resumed));
        coro::spawn(move || {
            waiting.set(waiting.get() + 1);
            gate.wait();
            resumed.set(resumed.get() + 1);
        })
    }));
    while waiting.get() < tasks {
        coro::yield_now();
    }
    census.parked(waiting.get())?;
    gate.set();
    for handle in handles {
        handle.join().expect("no task panics");
    }
    census.finish(resumed.get());
    Ok(())
}
