//! tokio between two cores: a `current_thread` runtime on each, its channels and handles between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::runtime;
use crate::beside::{self, Alarm, BATCH, CAPACITY, Message, SLEPT_LAP, STREAM_LAP};
use crate::subject::{Between, Job, Skip};

/// A runtime on the other core, which runs what it is given until it is dropped.
struct There {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl There {
    fn start(job: &Job) -> There {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let thread = beside::start(job, move || {
            let runtime = runtime().expect("the first one could be made");
            tell.send(runtime.handle().clone())
                .expect("the other side waits for it");
            let _ = runtime.block_on(ended);
        });
        There {
            handle: told.recv().expect("it tells"),
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for There {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it serves and ends");
        }
    }
}

pub(super) fn work(job: &Job, work: Between) -> Result<(), Skip> {
    let here = runtime()?;
    match work {
        Between::BlockOnReady => beside::ready(job, |future| here.block_on(future)),
        Between::BlockOnWake => beside::woken(job, |bell| here.block_on(bell.rung())),
        Between::PingPong => here.block_on(ping_pong(job, &There::start(job))),
        Between::Call => here.block_on(call(job, &There::start(job))),
        Between::Stream { bytes: 8 } => here.block_on(stream::<1>(job, &There::start(job), false)),
        Between::Stream { .. } => here.block_on(stream::<8>(job, &There::start(job), false)),
        Between::Batches { bytes: 8 } => here.block_on(stream::<1>(job, &There::start(job), true)),
        Between::Batches { .. } => here.block_on(stream::<8>(job, &There::start(job), true)),
        Between::Wake { pause } => here.block_on(wake(job, &There::start(job), pause)),
        Between::WakeBeside { .. } => return job.not_offered(),
    }
    Ok(())
}

async fn ping_pong(job: &Job, there: &There) {
    let (ping, mut far) = mpsc::channel(CAPACITY);
    let (back, mut pong) = mpsc::channel(CAPACITY);
    let peer = there.handle.spawn(async move {
        while let Some(word) = far.recv().await {
            back.send(word).await.expect("it is received");
        }
    });
    let mut meter = job.meter(SLEPT_LAP);
    while meter.lap() {
        for word in 0..SLEPT_LAP as u64 {
            ping.send(word).await.expect("it is received");
            assert_eq!(pong.recv().await, Some(word));
        }
    }
    drop(ping);
    peer.await.expect("it answers and ends");
    meter.finish();
}

/// Batches are of the receiver only: tokio has no call that sends many.
async fn stream<const WORDS: usize>(job: &Job, there: &There, in_batches: bool) {
    let (sender, mut receiver) = mpsc::channel::<Message<WORDS>>(CAPACITY);
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let producer = there.handle.spawn(async move {
        for number in 0u64.. {
            let gone = sender.send(Message::numbered(number)).await.is_err();
            if gone || is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    });
    let mut expected = 0;
    let mut batch = Vec::with_capacity(BATCH);
    let mut meter = job.meter(STREAM_LAP);
    while meter.lap() {
        let mut left = STREAM_LAP;
        while left > 0 {
            if in_batches {
                left -= receiver.recv_many(&mut batch, BATCH.min(left)).await;
            } else {
                batch.push(receiver.recv().await.expect("somebody sends"));
                left -= 1;
            }
            for message in batch.drain(..) {
                message.check(expected);
                expected += 1;
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    drop(receiver);
    producer.await.expect("it sends and ends");
    meter.finish();
}

async fn wake(job: &Job, there: &There, pause: Duration) {
    let (sender, mut receiver) = mpsc::channel(CAPACITY);
    let alarm = Alarm::new();
    let far = Arc::clone(&alarm);
    let sleeper = there
        .handle
        .spawn(async move { while receiver.recv().await.is_some() && far.heard() {} });
    alarm.ring(job, pause, || {
        sender.try_send(1).expect("there is room for one")
    });
    sleeper.await.expect("it hears the last one");
}

async fn call(job: &Job, there: &There) {
    let mut meter = job.meter(SLEPT_LAP);
    while meter.lap() {
        for number in 0..SLEPT_LAP {
            let answer = there.handle.spawn(async move { number }).await;
            assert_eq!(answer.ok(), Some(number));
        }
    }
    meter.finish();
}
