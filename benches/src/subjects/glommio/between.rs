//! glommio between two cores: an executor on each, `shared_channel` between them. A call is a closure through one
//! channel and its answer through another, since an executor takes no work from outside.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::channels::shared_channel::new_bounded;
use glommio::{LocalExecutorBuilder, Placement};

use crate::beside::{Alarm, CAPACITY, END, Message, SLEPT_LAP, STREAM_LAP};
use crate::subject::{Between, Job, Skip};

type Closure = Box<dyn FnOnce() -> usize + Send>;

pub(super) fn work(job: &Job, work: Between) -> Result<(), Skip> {
    match work {
        Between::PingPong => ping_pong(job),
        Between::Stream { bytes: 8 } => stream::<1>(job),
        Between::Stream { .. } => stream::<8>(job),
        Between::Wake { pause } => wake(job, pause),
        Between::Call => call(job),
        Between::WakeBeside { .. }
        | Between::Batches { .. }
        | Between::BlockOnReady
        | Between::BlockOnWake => {
            return job.not_offered();
        }
    }?;
    Ok(())
}

fn there<F: Future<Output = ()> + 'static>(
    job: &Job,
    body: impl FnOnce() -> F + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let cpu = job.peer;
    crate::beside::use_both(job)?;
    Ok(std::thread::spawn(move || {
        let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu)).make();
        executor.expect("the other one could be made").run(body());
    }))
}

fn here(job: &Job, body: impl Future<Output = ()>) -> io::Result<()> {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(job.cpu)).make();
    let executor = executor.map_err(|error| io::Error::other(error.to_string()))?;
    executor.run(body);
    Ok(())
}

fn ping_pong(job: &Job) -> io::Result<()> {
    let (ping, far) = new_bounded::<u64>(CAPACITY);
    let (back, pong) = new_bounded::<u64>(CAPACITY);
    let peer = there(job, move || async move {
        let (far, back) = (far.connect().await, back.connect().await);
        while let Some(word) = far.recv().await {
            if word == END {
                return;
            }
            back.send(word).await.expect("it is received");
        }
    })?;
    here(job, async {
        let (ping, pong) = (ping.connect().await, pong.connect().await);
        let mut meter = job.meter(SLEPT_LAP);
        while meter.lap() {
            for word in 0..SLEPT_LAP as u64 {
                ping.send(word).await.expect("it is received");
                assert_eq!(pong.recv().await, Some(word));
            }
        }
        ping.send(END).await.expect("it is received");
        meter.finish();
    })?;
    peer.join().expect("it answers and ends");
    Ok(())
}

fn stream<const WORDS: usize>(job: &Job) -> io::Result<()> {
    let (sender, receiver) = new_bounded::<Message<WORDS>>(CAPACITY);
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let producer = there(job, move || async move {
        let sender = sender.connect().await;
        for number in 0u64.. {
            let gone = sender.send(Message::numbered(number)).await.is_err();
            if gone || is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    })?;
    here(job, async {
        let receiver = receiver.connect().await;
        let mut expected = 0;
        let mut meter = job.meter(STREAM_LAP);
        while meter.lap() {
            for _ in 0..STREAM_LAP {
                let message = receiver.recv().await;
                message.expect("somebody sends").check(expected);
                expected += 1;
            }
        }
        over.store(true, Ordering::Relaxed);
        while receiver.recv().await.is_some() {}
        meter.finish();
    })?;
    producer.join().expect("it sends and ends");
    Ok(())
}

fn wake(job: &Job, pause: Duration) -> io::Result<()> {
    let (sender, receiver) = new_bounded::<u64>(CAPACITY);
    let alarm = Alarm::new();
    let far = Arc::clone(&alarm);
    let sleeper = there(job, move || async move {
        let receiver = receiver.connect().await;
        while receiver.recv().await.is_some() && far.heard() {}
    })?;
    here(job, async {
        let sender = sender.connect().await;
        alarm.ring(job, pause, || {
            sender.try_send(1).expect("there is room for one")
        });
    })?;
    sleeper.join().expect("it hears the last one");
    Ok(())
}

fn call(job: &Job) -> io::Result<()> {
    let (calls, far) = new_bounded::<Closure>(CAPACITY);
    let (back, answers) = new_bounded::<usize>(CAPACITY);
    let peer = there(job, move || async move {
        let (far, back) = (far.connect().await, back.connect().await);
        while let Some(closure) = far.recv().await {
            back.send(closure()).await.expect("it is received");
        }
    })?;
    here(job, async {
        let (calls, answers) = (calls.connect().await, answers.connect().await);
        let mut meter = job.meter(SLEPT_LAP);
        while meter.lap() {
            for number in 0..SLEPT_LAP {
                let sent = calls.send(Box::new(move || number)).await;
                sent.expect("it is received");
                assert_eq!(answers.recv().await, Some(number));
            }
        }
        meter.finish();
    })?;
    peer.join().expect("it answers and ends");
    Ok(())
}
