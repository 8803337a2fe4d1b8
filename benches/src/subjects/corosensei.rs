//! The limit of `micro`: bare corosensei, with no scheduler, no panic guard, no result slot.
//!
//! Stacks are kept in a pool, and their tops are coloured: shifted by 64 B times a number of their own. Without
//! that every top has the same page offset, all of them share one cache set, and 100 coroutines cost four times
//! as much. A yield is a suspend and a resume by a loop over an array, all inlined; no runtime
//! can have that, since its suspend sits below a call. It is a floor, not a target.
//!
//! Timers are arrays without a wheel (timers.rs), parked tasks stacks without a coroutine (park.rs).
//!
//! Listed twice: the second is the twin of the A/A pair.
#![expect(unsafe_code, reason = "a stack for corosensei is an unsafe trait")]

mod park;
mod timers;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::rc::Rc;

use corosensei::stack::{DefaultStack, Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::machine;
use crate::subject::{Job, Role, Skip, Subject, Work};
use crate::work::channel::{CAPACITY, consume, ping, pong};
use crate::work::{Local, Turns, batches_a_lap};

/// The subject.
#[derive(Debug)]
pub(crate) struct Corosensei(&'static str);

/// The reference.
pub(crate) static FIRST: Corosensei = Corosensei("raw-corosensei");
/// The same again, to see how far apart two equal subjects are.
pub(crate) static AGAIN: Corosensei = Corosensei("raw-corosensei-again");

impl Subject for Corosensei {
    fn name(&self) -> &'static str {
        self.0
    }

    fn role(&self) -> Role {
        Role::Limit
    }

    fn version(&self) -> String {
        machine::locked_version("corosensei")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Yield { tasks } => yields(job, tasks),
            Work::SpawnJoin { batch } => spawns(job, batch),
            Work::Local(Local::PingPong) => ping_pong(*job),
            Work::Local(Local::Stream) => stream(*job),
            Work::Local(Local::Timers { live }) => {
                timers::timers(job, live);
                Ok(())
            }
            Work::Local(Local::Park { tasks }) => park::park(tasks),
            _ => job.not_offered(),
        }
    }
}

fn yields(job: &Job, tasks: usize) -> Result<(), Skip> {
    let mut pool = Pool::of(tasks)?;
    let mut meter = job.meter(0);
    while meter.more() {
        let turns = Turns::new(tasks);
        let mut coroutines: Vec<_> = (0..tasks)
            .map(|task| {
                let laps = turns.laps(task);
                Coroutine::with_stack(pool.take(), move |yielder, ()| {
                    for () in laps {
                        yielder.suspend(());
                    }
                })
            })
            .collect();
        // All take the same number of turns, so all end in the same pass.
        let mut ended = 0;
        while ended == 0 {
            for coroutine in &mut coroutines {
                if let CoroutineResult::Return(()) = coroutine.resume(()) {
                    ended += 1;
                }
            }
        }
        assert_eq!(ended, tasks, "all coroutines take as many turns");
        let stacks = coroutines.into_iter().map(Coroutine::into_stack);
        pool.stacks.extend(stacks);
        meter.record(turns.per_yield()?);
    }
    meter.finish();
    Ok(())
}

fn spawns(job: &Job, batch: usize) -> Result<(), Skip> {
    let mut pool = Pool::of(batch)?;
    let mut coroutines = Vec::with_capacity(batch);
    let batches = batches_a_lap(batch);
    let mut meter = job.meter(batches * batch);
    while meter.lap() {
        for _ in 0..batches {
            for value in 0..batch {
                let stack = pool.take();
                coroutines.push(Coroutine::<(), (), usize, _>::with_stack(
                    stack,
                    move |_, ()| black_box(value),
                ));
            }
            for (value, mut coroutine) in coroutines.drain(..).enumerate() {
                let CoroutineResult::Return(returned) = coroutine.resume(()) else {
                    unreachable!("it does not suspend");
                };
                assert_eq!(returned, value);
                pool.stacks.push(coroutine.into_stack());
            }
        }
    }
    meter.finish();
    Ok(())
}

/// A slot each way; who finds his empty lets the other one run.
#[derive(Default)]
struct Slots {
    there: Cell<Option<u64>>,
    back: Cell<Option<u64>>,
    over: Cell<bool>,
}

impl Slots {
    fn wait(&self, yielder: &Yielder<(), ()>, slot: &Cell<Option<u64>>) -> Option<u64> {
        loop {
            match slot.take() {
                Some(number) => return Some(number),
                None if self.over.get() => return None,
                None => yielder.suspend(()),
            }
        }
    }
}

fn ping_pong(job: Job) -> Result<(), Skip> {
    let mut pool = Pool::of(2)?;
    let slots = Rc::new(Slots::default());
    let other = Rc::clone(&slots);
    let first = Coroutine::with_stack(pool.take(), move |yielder, ()| {
        let answer = || slots.wait(yielder, &slots.back);
        let receive = || answer().expect("the other one answers");
        ping(&job, |number| slots.there.set(Some(number)), receive);
        slots.over.set(true);
    });
    let second = Coroutine::with_stack(pool.take(), move |yielder, ()| {
        let send = |number| other.back.set(Some(number));
        pong(send, || other.wait(yielder, &other.there));
    });
    run_both(first, second);
    Ok(())
}

/// A queue; who finds it empty or full lets the other one run.
fn stream(job: Job) -> Result<(), Skip> {
    let mut pool = Pool::of(2)?;
    let queue = Rc::new(RefCell::new(VecDeque::with_capacity(CAPACITY)));
    let (source, over) = (Rc::clone(&queue), Rc::new(Cell::new(false)));
    let stop = Rc::clone(&over);
    let producer = Coroutine::with_stack(pool.take(), move |yielder, ()| {
        for number in 0.. {
            while queue.borrow().len() == CAPACITY {
                yielder.suspend(());
                if over.get() {
                    return;
                }
            }
            queue.borrow_mut().push_back(number);
        }
    });
    let consumer = Coroutine::with_stack(pool.take(), move |yielder, ()| {
        let receive = || {
            loop {
                let number = source.borrow_mut().pop_front();
                match number {
                    Some(number) => return number,
                    None => yielder.suspend(()),
                }
            }
        };
        consume(&job, receive);
        stop.set(true);
    });
    run_both(producer, consumer);
    Ok(())
}

/// Lets two coroutines take turns until both have ended.
fn run_both(mut first: Task, mut second: Task) {
    while !first.done() || !second.done() {
        for coroutine in [&mut first, &mut second] {
            if !coroutine.done() {
                coroutine.resume(());
            }
        }
    }
}

type Task = Coroutine<(), (), (), Coloured>;

/// Stacks that are not in use; the one used last is taken first, since it is still in the cache.
struct Pool {
    stacks: Vec<Coloured>,
}

impl Pool {
    fn of(count: usize) -> Result<Pool, Skip> {
        let stacks: Result<_, _> = (0..count).map(Coloured::new).collect();
        Ok(Pool { stacks: stacks? })
    }

    fn take(&mut self) -> Coloured {
        self.stacks.pop().expect("as many stacks as coroutines")
    }
}

/// A guarded stack whose top is shifted down.
struct Coloured {
    stack: DefaultStack,
    top: StackPointer,
}

const STACK_BYTES: usize = 64 * 1024;
/// The shifts differ by a cache line, and stay within the top page: 48 x 64 B of 4 KiB.
const COLOURS: usize = 48;
const CACHE_LINE_BYTES: usize = 64;

impl Coloured {
    fn new(number: usize) -> std::io::Result<Coloured> {
        let stack = DefaultStack::new(STACK_BYTES)?;
        let shift_bytes = number % COLOURS * CACHE_LINE_BYTES;
        let top = NonZeroUsize::new(stack.base().get() - shift_bytes);
        let top = top.expect("no stack lies at address zero");
        Ok(Coloured { stack, top })
    }
}

// SAFETY: `base` stays 16-byte aligned, since it is shifted by multiples of 64 B, and lies within
// `stack`, at least 60 KiB above its guard page; `limit` is that of `stack`, whose memory lives as long as this does.
unsafe impl Stack for Coloured {
    fn base(&self) -> StackPointer {
        self.top
    }

    fn limit(&self) -> StackPointer {
        self.stack.limit()
    }
}
