//! Goal: who waits ends as a simple model says and when it says, whatever is granted, cancelled or out of patience.
//!
//! Method: a random program of instants, ten milliseconds apart. At each one either a waiter begins, or several things
//! happen at once, with no wait in between: acts (set, notify, send...) and cancellations. Patience ends between two
//! instants. A model is told of the same and says who ends, and how. A grant counts even if its waiter is cancelled at the
//! same instant, before or after: it is still in line until it runs.

use coring_coro as coro;
use coro::channel::{RecvError, oneshot, watch};
use coro::sync::{Barrier, Event, Gate, Notify, Semaphore, WaitError, WaitGroup};
use coro::wait::{Interrupt, Refusal};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

mod models;

use models::{
    BarrierModel, Condition, CondvarModel, Entered, EventModel, GroupModel, NotifyModel,
    OneshotModel, Reply, SemaphoreModel, WatchModel, Watched,
};

/// How a wait ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Done,
    /// The value of a oneshot; the leader of a barrier.
    Special,
    Closed,
    TimedOut,
    Cancelled,
}
use End::{Cancelled, Closed, Done, TimedOut};

/// Who ends, and how.
type Ends = Vec<(usize, End)>;

fn all(waiting: &mut Vec<usize>, end: End) -> Ends {
    waiting.drain(..).map(|id| (id, end)).collect()
}

trait Model {
    /// Somebody begins to wait.
    fn begin(&mut self, id: usize) -> Ends;
    fn act(&mut self, act: u8) -> Ends;
    fn waiting(&mut self) -> &mut Vec<usize>;
    /// Whoever was granted something runs; who gives up has left, which may let others in.
    fn settle(&mut self) -> Ends {
        Vec::new()
    }
}

trait Real: 'static {
    fn wait(&self, id: usize, patience: Option<Duration>) -> End;
    fn act(&self, act: u8);
}

#[derive(Clone, Debug)]
enum Step {
    Wait { patience: u64 },
    Burst(Vec<Thing>),
}

#[derive(Clone, Debug)]
enum Thing {
    Act(u8),
    Cancel(usize),
}

fn programs() -> impl Strategy<Value = Vec<Step>> {
    let thing = prop_oneof![
        3 => (0u8..3).prop_map(Thing::Act),
        2 => (0usize..40).prop_map(Thing::Cancel),
    ];
    let step = prop_oneof![
        (0u64..5).prop_map(|patience| Step::Wait { patience }),
        prop::collection::vec(thing, 1..4).prop_map(Step::Burst),
    ];
    prop::collection::vec(step, 1..40)
}

const INSTANT: u64 = 10_000_000;

/// Between two instants, and not at the same time for two waiters.
fn patience_ns(patience: u64, id: usize) -> Option<u64> {
    (patience > 0).then(|| patience * INSTANT - INSTANT / 2 + id as u64)
}

/// How and when each waiter ends, according to the model.
fn predict(program: &[Step], model: &mut dyn Model) -> Vec<(End, u64)> {
    let mut ends = Vec::new();
    let mut limits: Vec<(u64, usize)> = Vec::new();
    let mut now = 0;
    for step in program {
        now += INSTANT;
        limits.sort_unstable();
        while let Some(&(limit, id)) = limits.first().filter(|(limit, _)| *limit < now) {
            limits.remove(0);
            give_up(model, &mut ends, id, TimedOut, limit);
        }
        let mut leaving = Vec::new();
        match step {
            Step::Wait { patience } => {
                let id = ends.len();
                ends.push((Cancelled, 0));
                let begun = model.begin(id);
                note(&mut ends, begun, now);
                let limit = patience_ns(*patience, id);
                limits.extend(limit.map(|limit| (now + limit, id)));
            }
            Step::Burst(things) => {
                for thing in things {
                    match thing {
                        Thing::Act(act) => note(&mut ends, model.act(*act), now),
                        Thing::Cancel(_) if ends.is_empty() => {}
                        Thing::Cancel(id) => leaving.push(id % ends.len()),
                    }
                }
            }
        }
        for id in leaving {
            give_up(model, &mut ends, id, Cancelled, now);
        }
        let settled = model.settle();
        note(&mut ends, settled, now);
    }
    ends
}

fn note(ends: &mut [(End, u64)], ended: Ends, now: u64) {
    ended
        .into_iter()
        .for_each(|(id, end)| ends[id] = (end, now));
}

/// Who waits still leaves.
fn give_up(model: &mut dyn Model, ends: &mut [(End, u64)], id: usize, end: End, now: u64) {
    let waiting = model.waiting();
    if let Some(place) = waiting.iter().position(|other| *other == id) {
        waiting.remove(place);
        ends[id] = (end, now);
        let settled = model.settle();
        note(ends, settled, now);
    }
}

/// How and when each waiter ends, in fact.
fn perform(program: Vec<Step>, real: impl Real) -> Vec<(End, u64)> {
    /// A wait that is unwound has been cancelled.
    struct Ending<'a>(
        &'a RefCell<Vec<(End, u64)>>,
        usize,
        Cell<End>,
        coro::Instant,
    );
    impl Drop for Ending<'_> {
        fn drop(&mut self) {
            let now = self.3.elapsed().as_nanos();
            self.0.borrow_mut()[self.1] = (self.2.get(), u64::try_from(now).unwrap());
        }
    }
    coro::testing::run(move || {
        let start = coro::Instant::now();
        let ends = Rc::new(RefCell::new(Vec::new()));
        let real = Rc::new(real);
        let mut waiters: Vec<coro::JoinHandle<()>> = Vec::new();
        for step in program {
            coro::sleep(Duration::from_nanos(INSTANT));
            match step {
                Step::Wait { patience } => {
                    let (id, ends, real) = (waiters.len(), ends.clone(), real.clone());
                    ends.borrow_mut().push((Cancelled, 0));
                    waiters.push(coro::spawn(move || {
                        let ending = Ending(&ends, id, Cell::new(Cancelled), start);
                        let patience = patience_ns(patience, id).map(Duration::from_nanos);
                        ending.2.set(real.wait(id, patience));
                    }));
                }
                Step::Burst(things) => things.into_iter().for_each(|thing| match thing {
                    Thing::Act(act) => real.act(act),
                    Thing::Cancel(_) if waiters.is_empty() => {}
                    Thing::Cancel(id) => waiters[id % waiters.len()].cancel(),
                }),
            }
        }
        for waiter in waiters {
            waiter.join().ok();
        }
        ends.take()
    })
}

/// At the end everybody who waits still is cancelled.
fn complete(mut program: Vec<Step>) -> Vec<Step> {
    let waits = program
        .iter()
        .filter(|step| matches!(step, Step::Wait { .. }));
    let cancel = (0..waits.count()).map(Thing::Cancel).collect();
    program.push(Step::Burst(cancel));
    program
}

fn agree(program: Vec<Step>, real: impl Real, mut model: impl Model) -> Result<(), TestCaseError> {
    let program = complete(program);
    let expected = predict(&program, &mut model);
    prop_assert_eq!(perform(program, real), expected);
    Ok(())
}

fn end_of(outcome: Result<(), WaitError>) -> End {
    match outcome {
        Ok(()) => Done,
        Err(WaitError::TimedOut) => TimedOut,
        Err(WaitError::Refused(Refusal::Interrupted(Interrupt::Cancelled))) => Cancelled,
        Err(other) => panic!("{other:?}"),
    }
}

fn end_of_receive(outcome: Result<(), RecvError>) -> End {
    match outcome {
        Ok(()) => Done,
        Err(RecvError::Closed) => Closed,
        Err(RecvError::TimedOut) => TimedOut,
        Err(RecvError::Refused(Refusal::Interrupted(Interrupt::Cancelled))) => Cancelled,
        Err(other) => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn event(program in programs()) {
        agree(program, Event::new(), EventModel::default())?;
    }

    #[test]
    fn notify(program in programs()) {
        agree(program, Notify::new(), NotifyModel::default())?;
    }

    #[test]
    fn condvar(program in programs()) {
        agree(program, Condition::default(), CondvarModel::default())?;
    }

    #[test]
    fn barrier(program in programs(), size in 1usize..5) {
        agree(program, Barrier::new(size), BarrierModel { size, waiting: Vec::new() })?;
    }

    #[test]
    fn wait_group(program in programs()) {
        agree(program, WaitGroup::new(), GroupModel::default())?;
    }

    #[test]
    fn gate(program in programs()) {
        let gate = Box::leak(Box::new(Gate::new()));
        let real = Entered { gate, inside: RefCell::default() };
        agree(program, real, GroupModel { is_gate: true, ..GroupModel::default() })?;
    }

    #[test]
    fn semaphore(program in programs()) {
        agree(program, Semaphore::new(0), SemaphoreModel::default())?;
    }

    /// Who of several gets the value is whoever runs first, and not a promise: the ends are compared without names.
    #[test]
    fn oneshot_channel(program in programs()) {
        let (sender, receiver) = oneshot();
        let real = Reply { sender: Cell::new(Some(sender)), receiver };
        let program = complete(program);
        let mut expected = predict(&program, &mut OneshotModel::default());
        let mut ends = perform(program, real);
        expected.sort_unstable();
        ends.sort_unstable();
        prop_assert_eq!(ends, expected);
    }

    #[test]
    fn watch_channel(program in programs()) {
        let (sender, receiver) = watch(0);
        agree(program, Watched { sender: RefCell::new(Some(sender)), receiver }, WatchModel::default())?;
    }
}
