//! Queues between two threads, without a runtime: both sides spin over `try_send` and `try_recv`; a receiver that
//! sleeps does so in the queue's own blocking call.
//!
//! Each queue is a type with four functions ([`Queue`]); the work is the same for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::beside::{self, Alarm, BATCH, CAPACITY, END, Message, SPUN_LAP, STREAM_LAP, spin};
use crate::machine;
use crate::subject::{Between, Job, Role, Skip, Subject, Work};

/// A bounded queue.
pub(super) trait Queue: Sync + 'static {
    type Sender<T: Send + 'static>: Send;
    type Receiver<T: Send + 'static>: Send + 'static;

    fn make<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>);

    fn try_send<T: Send + 'static>(sender: &mut Self::Sender<T>, message: T) -> Result<(), T>;

    fn try_recv<T: Send + 'static>(receiver: &mut Self::Receiver<T>) -> Option<T>;

    /// Sleeps until there is a message; `None` where it cannot.
    fn sleep<T: Send + 'static>(receiver: &mut Self::Receiver<T>) -> Option<T>;

    /// A stream with the calls that take many, where there are such.
    fn batches<const WORDS: usize>(job: &Job) -> Result<(), Skip> {
        job.not_offered()
    }
}

/// A queue's crate, as a subject.
#[derive(Debug)]
pub(crate) struct Queues<Q> {
    name: &'static str,
    queue: Q,
}

#[derive(Debug)]
pub(crate) struct Crossbeam;
#[derive(Debug)]
pub(crate) struct Kanal;
#[derive(Debug)]
pub(crate) struct Flume;

pub(crate) static CROSSBEAM: Queues<Crossbeam> = Queues {
    name: "crossbeam-channel",
    queue: Crossbeam,
};
pub(crate) static KANAL: Queues<Kanal> = Queues {
    name: "kanal",
    queue: Kanal,
};
pub(crate) static FLUME: Queues<Flume> = Queues {
    name: "flume",
    queue: Flume,
};

impl<Q: Queue> Subject for Queues<Q> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::locked_version(self.name)
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        let Self { queue, .. } = self;
        work(queue, job)
    }
}

/// What a queue can do of a job.
pub(super) fn work<Q: Queue>(_: &Q, job: &Job) -> Result<(), Skip> {
    let Work::Between(work) = job.work else {
        return job.not_offered();
    };
    match work {
        Between::PingPong => ping_pong::<Q>(job),
        Between::Stream { bytes: 8 } => stream::<Q, 1>(job),
        Between::Stream { .. } => stream::<Q, 8>(job),
        Between::Batches { bytes: 8 } => return Q::batches::<1>(job),
        Between::Batches { .. } => return Q::batches::<8>(job),
        Between::Wake { pause } => wake::<Q>(job, pause),
        Between::WakeBeside { .. }
        | Between::Call
        | Between::BlockOnReady
        | Between::BlockOnWake => return job.not_offered(),
    }
    Ok(())
}

fn ping_pong<Q: Queue>(job: &Job) {
    let (mut ping, mut there) = Q::make::<u64>(CAPACITY);
    let (mut back, mut pong) = Q::make::<u64>(CAPACITY);
    let echo = move || {
        loop {
            let word = spin(|| Q::try_recv(&mut there));
            if word == END {
                return;
            }
            Q::try_send(&mut back, word).expect("there is room for one");
        }
    };
    // Kept until the end: an endless loop over a queue without a sender would hang.
    let peer = beside::start(job, echo);
    let mut meter = job.meter(SPUN_LAP);
    while meter.lap() {
        for word in 0..SPUN_LAP as u64 {
            Q::try_send(&mut ping, word).expect("there is room for one");
            assert_eq!(spin(|| Q::try_recv(&mut pong)), word);
        }
    }
    Q::try_send(&mut ping, END).expect("there is room for one");
    peer.join().expect("it answers and ends");
    meter.finish();
}

fn stream<Q: Queue, const WORDS: usize>(job: &Job) {
    let (mut sender, mut receiver) = Q::make::<Message<WORDS>>(CAPACITY);
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let producer = beside::start(job, move || {
        for number in 0.. {
            let mut message = Message::numbered(number);
            while let Err(back) = Q::try_send(&mut sender, message) {
                message = back;
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                std::hint::spin_loop();
            }
        }
    });
    let mut expected = 0;
    let mut meter = job.meter(STREAM_LAP);
    while meter.lap() {
        for _ in 0..STREAM_LAP {
            spin(|| Q::try_recv(&mut receiver)).check(expected);
            expected += 1;
        }
    }
    // The queue fills up, and then the producer looks.
    over.store(true, Ordering::Relaxed);
    producer.join().expect("it sends and ends");
    meter.finish();
}

fn wake<Q: Queue>(job: &Job, pause: Duration) {
    let (mut sender, mut receiver) = Q::make::<u64>(CAPACITY);
    let alarm = Alarm::new();
    let there = Arc::clone(&alarm);
    let sleeper = beside::start(job, move || {
        while Q::sleep(&mut receiver).is_some() && there.heard() {}
    });
    alarm.ring(job, pause, || {
        Q::try_send(&mut sender, 1).expect("there is room for one");
    });
    sleeper.join().expect("it hears the last one");
}

/// rtrb: the fastest queue there is for one producer and one consumer. It cannot wait.
#[derive(Debug)]
pub(super) struct Rtrb;

impl Queue for Rtrb {
    type Sender<T: Send + 'static> = rtrb::Producer<T>;
    type Receiver<T: Send + 'static> = rtrb::Consumer<T>;

    fn make<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>) {
        rtrb::RingBuffer::new(capacity)
    }

    fn try_send<T: Send + 'static>(sender: &mut Self::Sender<T>, message: T) -> Result<(), T> {
        let pushed = sender.push(message);
        pushed.map_err(|rtrb::PushError::Full(message)| message)
    }

    fn try_recv<T: Send + 'static>(receiver: &mut Self::Receiver<T>) -> Option<T> {
        receiver.pop().ok()
    }

    fn sleep<T: Send + 'static>(_: &mut Self::Receiver<T>) -> Option<T> {
        None
    }

    fn batches<const WORDS: usize>(job: &Job) -> Result<(), Skip> {
        let (mut sender, mut receiver) = Self::make::<Message<WORDS>>(CAPACITY);
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let producer = beside::start(job, move || {
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                if let Ok(chunk) = sender.write_chunk_uninit(BATCH) {
                    chunk.fill_from_iter((number..).map(Message::numbered));
                    number += BATCH as u64;
                }
            }
        });
        let mut expected = 0;
        let mut meter = job.meter(STREAM_LAP);
        while meter.lap() {
            for _ in 0..STREAM_LAP / BATCH {
                spin(|| (receiver.slots() >= BATCH).then_some(()));
                let chunk = receiver.read_chunk(BATCH).expect("so many are there");
                for message in chunk {
                    message.check(expected);
                    expected += 1;
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        producer.join().expect("it sends and ends");
        meter.finish();
        Ok(())
    }
}

impl Queue for Crossbeam {
    type Sender<T: Send + 'static> = crossbeam_channel::Sender<T>;
    type Receiver<T: Send + 'static> = crossbeam_channel::Receiver<T>;

    fn make<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>) {
        crossbeam_channel::bounded(capacity)
    }

    fn try_send<T: Send + 'static>(sender: &mut Self::Sender<T>, message: T) -> Result<(), T> {
        sender
            .try_send(message)
            .map_err(crossbeam_channel::TrySendError::into_inner)
    }

    fn try_recv<T: Send + 'static>(receiver: &mut Self::Receiver<T>) -> Option<T> {
        receiver.try_recv().ok()
    }

    fn sleep<T: Send + 'static>(receiver: &mut Self::Receiver<T>) -> Option<T> {
        receiver.recv().ok()
    }
}

impl Queue for Kanal {
    type Sender<T: Send + 'static> = kanal::Sender<T>;
    type Receiver<T: Send + 'static> = kanal::Receiver<T>;

    fn make<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>) {
        kanal::bounded(capacity)
    }

    fn try_send<T: Send + 'static>(sender: &mut Self::Sender<T>, message: T) -> Result<(), T> {
        let mut message = Some(message);
        match sender.try_send_option(&mut message) {
            Ok(true) => Ok(()),
            _ => Err(message.expect("it was not sent")),
        }
    }

    fn try_recv<T: Send + 'static>(receiver: &mut Self::Receiver<T>) -> Option<T> {
        receiver.try_recv().ok().flatten()
    }

    fn sleep<T: Send + 'static>(receiver: &mut Self::Receiver<T>) -> Option<T> {
        receiver.recv().ok()
    }
}

impl Queue for Flume {
    type Sender<T: Send + 'static> = flume::Sender<T>;
    type Receiver<T: Send + 'static> = flume::Receiver<T>;

    fn make<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>) {
        flume::bounded(capacity)
    }

    fn try_send<T: Send + 'static>(sender: &mut Self::Sender<T>, message: T) -> Result<(), T> {
        sender
            .try_send(message)
            .map_err(flume::TrySendError::into_inner)
    }

    fn try_recv<T: Send + 'static>(receiver: &mut Self::Receiver<T>) -> Option<T> {
        receiver.try_recv().ok()
    }

    fn sleep<T: Send + 'static>(receiver: &mut Self::Receiver<T>) -> Option<T> {
        receiver.recv().ok()
    }
}
