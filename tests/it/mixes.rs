//! Mailboxes in programs that mix all their calls.

use coring::coro;
use coring::mailbox::{Receiver, RecvError, Sender, TryRecvError, TrySendError};
use coring::{call, mailbox, spawn_on};
use coring_tests::random::Random;
use coring_tests::{builder, check, note, rounds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

/// What a message says: who sent it, and its number.
trait Message: Send + 'static {
    fn of(sender: usize, number: usize) -> Self;
    /// Whether it may be this one.
    fn is(&self, next: &mut [usize]);
}

impl Message for () {
    fn of(_: usize, _: usize) {}
    fn is(&self, next: &mut [usize]) {
        next[0] += 1;
    }
}

/// The sender above, the number below.
impl Message for u8 {
    fn of(sender: usize, number: usize) -> Self {
        u8::try_from((sender << 4) | (number & 15)).unwrap()
    }
    fn is(&self, next: &mut [usize]) {
        let sender = usize::from(self >> 4);
        assert_eq!(usize::from(self & 15), next[sender] & 15, "of {sender}");
        next[sender] += 1;
    }
}

impl<const N: usize> Message for [usize; N] {
    fn of(sender: usize, number: usize) -> Self {
        let mut words = [number; N];
        words[N / 2] = sender;
        words
    }
    fn is(&self, next: &mut [usize]) {
        let sender = self[N / 2];
        let number = next[sender];
        let whole = self
            .iter()
            .enumerate()
            .all(|(at, word)| at == N / 2 || *word == number);
        assert!(whole, "of {sender}: {number} {:?}", &self[..2]);
        next[sender] += 1;
    }
}

impl Message for Box<usize> {
    fn of(sender: usize, number: usize) -> Self {
        Box::new((sender << 32) | number)
    }
    fn is(&self, next: &mut [usize]) {
        let sender = **self >> 32;
        assert_eq!(**self & 0xffff_ffff, next[sender], "of {sender}");
        next[sender] += 1;
    }
}

fn send<M: Message>(sender: &Sender<M>, me: usize, count: usize, mut random: Random) {
    let in_coroutine = coro::try_current().is_some();
    let mut next = 0;
    while next < count {
        let some = (1 + random.below(20)).min(count - next);
        match random.below(6) {
            0 => match sender.try_send(M::of(me, next)) {
                Ok(()) => next += 1,
                Err(TrySendError::Full(_)) if in_coroutine => coro::yield_now(),
                Err(TrySendError::Full(_)) => thread::yield_now(),
                Err(_) => panic!("the receiver is there"),
            },
            1 => {
                (next..next + some).for_each(|n| sender.send(M::of(me, n)).map_err(drop).unwrap());
                next += some;
            }
            2 => {
                let limit = Duration::from_micros(random.below(50) as u64);
                next += usize::from(sender.send_timeout(M::of(me, next), limit).is_ok());
            }
            3 => {
                let mut batch: Vec<_> = (next..next + some).map(|n| M::of(me, n)).collect();
                sender.send_many(&mut batch).map_err(drop).unwrap();
                assert!(batch.is_empty());
                next += some;
            }
            4 => {
                let mut numbers = next..next + some;
                let mut batch = numbers.by_ref().map(|n| {
                    if in_coroutine && n % 5 == 0 {
                        coro::yield_now();
                    }
                    M::of(me, n)
                });
                sender.send_all(&mut batch).map_err(drop).unwrap();
                next += some;
            }
            _ if in_coroutine => {
                // Cancelled at some moment.
                let (there, message) = (sender.clone(), M::of(me, next));
                let attempt = coro::spawn(move || there.send(message).map_err(drop));
                (0..random.below(3)).for_each(|_| coro::yield_now());
                attempt.cancel();
                next += usize::from(matches!(attempt.join(), Ok(Ok(()))));
            }
            _ => drop(sender.clone()),
        }
    }
}

/// Receives some. Whether there will be more.
fn receive<M: Message>(
    receiver: &mut Receiver<M>,
    next: &mut [usize],
    random: &mut Random,
) -> bool {
    for _ in 0..1 + random.below(40) {
        let ended = match random.below(5) {
            0 => match receiver.try_recv() {
                Ok(message) => {
                    message.is(next);
                    false
                }
                Err(TryRecvError::Disconnected) => true,
                Err(_) => false,
            },
            1 => match receiver.recv() {
                Ok(message) => {
                    message.is(next);
                    false
                }
                Err(_) => true,
            },
            2 => match receiver.recv_timeout(Duration::from_micros(random.below(50) as u64)) {
                Ok(message) => {
                    message.is(next);
                    false
                }
                Err(RecvError::TimedOut) => false,
                Err(_) => true,
            },
            3 => {
                let mut batch = Vec::new();
                let most = 1 + random.below(30);
                match receiver.recv_many(&mut batch, most) {
                    Ok(count) => {
                        assert!(count == batch.len() && count <= most);
                        batch.iter().for_each(|message| message.is(next));
                        false
                    }
                    Err(_) => true,
                }
            }
            _ => {
                let stop_after = random.below(10);
                let mut taken = 0;
                let received = catch_unwind(AssertUnwindSafe(|| {
                    receiver.recv_each(30, |message| {
                        message.is(next);
                        taken += 1;
                        if taken == stop_after {
                            std::panic::resume_unwind(Box::new(()));
                        }
                    })
                }));
                matches!(received, Ok(Err(_)))
            }
        };
        if ended {
            return false;
        }
    }
    true
}

/// Its cores have the same numbers, and no lanes.
fn in_another_runtime<T>(work: impl FnOnce() -> T) -> T {
    let runtime = builder(1).stack_bytes(1 << 20).build();
    runtime.unwrap().run(work)
}

fn program<M: Message>(capacity: usize, random: &mut Random) {
    let cores = 1 + random.below(3);
    let count = 200 + random.below(400);
    let mut mine = random.fork();
    note(format!(
        "{} capacity {capacity} cores {cores}",
        std::any::type_name::<M>()
    ));
    // A build without optimisation copies large messages often.
    let runtime = builder(cores).stack_bytes(1 << 20).build().unwrap();
    runtime.run(move || {
        let (sender, mut receiver) = mailbox::<M>(capacity);
        let mut me = 0;
        let mut threads = Vec::new();
        for core in 0..cores {
            for _ in 0..2 {
                let (sender, random, who) = (sender.clone(), mine.fork(), me);
                me += 1;
                drop(spawn_on(core, move || send(&sender, who, count, random)));
            }
        }
        for _ in 0..2 {
            let (sender, random, who) = (sender.clone(), mine.fork(), me);
            me += 1;
            threads.push(thread::spawn(move || {
                let work = || send(&sender, who, count, random);
                match who % 2 {
                    0 => work(),
                    _ => in_another_runtime(work),
                }
            }));
        }
        drop(sender);
        let mut next = vec![0; me];
        loop {
            let (mut random, more);
            random = mine.fork();
            let work = move || {
                let more = receive(&mut receiver, &mut next, &mut random);
                (receiver, next, more)
            };
            (receiver, next, more) = match mine.below(2 * cores + 2) {
                core if core < 2 * cores => call(core % cores, work).unwrap(),
                way if way == 2 * cores => coring::blocking(|| in_another_runtime(work)).unwrap(),
                _ => coring::blocking(work).unwrap(),
            };
            if !more {
                break;
            }
        }
        assert_eq!(next.iter().sum::<usize>(), me * count);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn mailboxes_in_random_programs() {
    // Goal: whatever calls are mixed, and wherever the receiver goes in between, each message arrives once, whole and in its sender's order.
    // Method: messages of no byte to five thousand; rings of one to some more than a block and a group; senders on cores, threads and another
    // runtime use all calls; the receiver goes from core to core, to threads and to another runtime, with all calls.
    check(|| {
        let mut random = Random::new();
        for round in 0..rounds(12, 400) {
            let capacity = [1, 2, 3, 6, 7, 8, 9, 13, 14, 15, 63, 64, 65, 500][random.below(14)];
            match round % 6 {
                0 => program::<()>(capacity, &mut random),
                1 => program::<u8>(capacity, &mut random),
                2 => program::<[usize; 2]>(capacity, &mut random),
                3 => program::<[usize; 7]>(capacity, &mut random),
                4 => program::<[usize; 625]>(capacity, &mut random),
                _ => program::<Box<usize>>(capacity, &mut random),
            }
        }
    });
}
