//! coring between two cores: `mailbox`, `call`, `block_on`. Coroutines wait as in any program; nothing spins by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::beside::{self, Alarm, BATCH, CAPACITY, Message, SPUN_LAP, STREAM_LAP, quantiles_us};
use crate::subject::{Between, Job, Skip, say};
use crate::subjects::pair::Sleeper;

/// Runs on core 0 of two.
pub(super) fn work(job: &Job, work: Between) -> Result<(), Skip> {
    match work {
        Between::PingPong => ping_pong(job),
        Between::Stream { bytes: 8 } => stream::<1>(job, false),
        Between::Stream { .. } => stream::<8>(job, false),
        Between::Batches { bytes: 8 } => stream::<1>(job, true),
        Between::Batches { .. } => stream::<8>(job, true),
        Between::Wake { pause } => wake(job, pause),
        Between::WakeBeside { pause } => wake_beside(job, pause)?,
        Between::Call => call(job),
        Between::BlockOnReady => beside::ready(job, |future| {
            coring::coro::block_on(future).expect("nobody cancels it")
        }),
        Between::BlockOnWake => beside::woken(job, |bell| {
            coring::coro::block_on(bell.rung()).expect("nobody cancels it");
        }),
    }
    Ok(())
}

fn ping_pong(job: &Job) {
    let (ping, mut there) = coring::mailbox(CAPACITY);
    let (back, mut pong) = coring::mailbox(CAPACITY);
    let peer = coring::spawn_on(1, move || {
        while let Ok(word) = there.recv() {
            back.send(word).expect("there is room for one");
        }
    });
    let mut meter = job.meter(SPUN_LAP);
    while meter.lap() {
        for word in 0..SPUN_LAP as u64 {
            ping.send(word).expect("it is received");
            assert_eq!(pong.recv(), Ok(word));
        }
    }
    drop(ping);
    peer.join().expect("it answers and ends");
    meter.finish();
}

fn stream<const WORDS: usize>(job: &Job, in_batches: bool) {
    let (sender, mut receiver) = coring::mailbox::<Message<WORDS>>(CAPACITY);
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let producer = coring::spawn_on(1, move || {
        let mut messages = (0..).map(Message::numbered);
        while !is_over.load(Ordering::Relaxed) {
            let mut some = messages.by_ref().take(BATCH);
            let sent = if in_batches {
                sender.send_all(some).is_ok()
            } else {
                some.all(|message| sender.send(message).is_ok())
            };
            if !sent {
                return;
            }
        }
    });
    let mut expected = 0;
    let mut check = |message: Message<WORDS>| {
        message.check(expected);
        expected += 1;
    };
    let mut meter = job.meter(STREAM_LAP);
    while meter.lap() {
        let mut left = STREAM_LAP;
        while left > 0 {
            if in_batches {
                let taken = receiver.recv_each(BATCH.min(left), &mut check);
                left -= taken.expect("somebody sends");
            } else {
                check(receiver.recv().expect("somebody sends"));
                left -= 1;
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    drop(receiver);
    producer.join().expect("it sends and ends");
    meter.finish();
}

fn wake(job: &Job, pause: Duration) {
    let (sender, mut receiver) = coring::mailbox(CAPACITY);
    let alarm = Alarm::new();
    let there = Arc::clone(&alarm);
    let sleeper = coring::spawn_on(1, move || while receiver.recv().is_ok() && there.heard() {});
    alarm.ring(job, pause, || sender.send(1).expect("it is received"));
    sleeper.join().expect("it hears the last one");
}

/// Wakes of each kind, all in one minute of the machine: both receivers sleep on the same CPU, and are woken from the same thread.
const WAKES: usize = 2000;

fn wake_beside(job: &Job, pause: Duration) -> std::io::Result<()> {
    let (sender, mut receiver) = coring::mailbox(CAPACITY);
    let alarm = Alarm::new();
    let there = Arc::clone(&alarm);
    let sleeper = coring::spawn_on(1, move || while receiver.recv().is_ok() && there.heard() {});
    let raw_alarm = Alarm::new();
    let mut raw_sleeper = Sleeper::start(job, &raw_alarm)?;
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for count in 0..=WAKES {
        let is_last = count == WAKES;
        let mut wake_ours = || {
            let send = || sender.send(1).expect("it is received");
            ours.push(alarm.ring_once(pause, is_last, send));
        };
        if count % 2 == 0 {
            wake_ours();
        }
        raw.push(raw_alarm.ring_once(pause, is_last, || raw_sleeper.wake()));
        if count % 2 == 1 {
            wake_ours();
        }
    }
    sleeper.join().expect("it hears the last one");
    raw_sleeper.join()?;
    let ([p50, p99], [raw_p50, raw_p99]) = (quantiles_us(ours), quantiles_us(raw));
    let more = |ours: f64, raw: f64| (ours / raw - 1.0) * 100.0;
    let (p50_more, p99_more) = (more(p50, raw_p50), more(p99, raw_p99));
    say(&format!(
        "sample {p50} {p99} {raw_p50} {raw_p99} {p50_more} {p99_more}"
    ));
    Ok(())
}

fn call(job: &Job) {
    let mut meter = job.meter(SPUN_LAP);
    while meter.lap() {
        for number in 0..SPUN_LAP {
            assert_eq!(coring::call(1, move || number).ok(), Some(number));
        }
    }
    meter.finish();
}
