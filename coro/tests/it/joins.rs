//! Goal: a joiner that runs its coroutine itself, without the run loop, is not to be told from one that does not: same order, same
//! time slices, same answers to who is running.
//!
//! Method: with a second group, unused, nobody does so. That is the reference.

use coring_coro as coro;
use coro::testing::VirtualDriver;
use coro::{Builder, Coroutine, Driver, GroupConfig, JoinHandle, Scheduler, SchedulerConfig};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

fn scheduler() -> Scheduler {
    Scheduler::new(SchedulerConfig::default())
}

/// One in which everybody runs by way of the loop.
fn by_the_loop() -> Scheduler {
    let scheduler = scheduler();
    let unused = GroupConfig {
        name: "unused".into(),
        shares: 100,
        latency: true,
    };
    scheduler.add_group(unused).unwrap();
    scheduler
}

#[derive(Clone, Debug)]
enum Step {
    Yield,
    /// A new child of the coroutine, with a program of its own.
    Spawn(Vec<Step>),
    /// The child spawned last is joined.
    Join,
    /// The child spawned last is cancelled.
    Cancel,
    /// Whoever spawned it is woken, whatever it waits for.
    WakeParent,
    WaitForWake,
}

fn programs() -> impl Strategy<Value = Vec<Step>> {
    let leaf = prop_oneof![
        2 => Just(Step::Yield),
        4 => Just(Step::Join),
        1 => Just(Step::Cancel),
        1 => Just(Step::WakeParent),
        1 => Just(Step::WaitForWake),
    ];
    let steps = prop::collection::vec(leaf, 0..4);
    steps.prop_recursive(5, 40, 6, |inner| {
        let step = prop_oneof![
            3 => inner.prop_map(Step::Spawn),
            4 => Just(Step::Join),
            1 => Just(Step::Yield),
            1 => Just(Step::WakeParent),
        ];
        prop::collection::vec(step, 1..6)
    })
}

/// Who, which step of its program, and what came of it.
type Event = (u64, usize, &'static str);

#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Vec<Event>>>);

impl Trace {
    fn note(&self, step: usize, what: &'static str) {
        let id = coro::current_id().expect("in a coroutine");
        assert_eq!(
            coro::with_running(|running| running.map(|running| (running.id, running.switching))),
            Some((id, false))
        );
        self.0.borrow_mut().push((id, step, what));
    }
}

/// Notes in the trace how it is left, also by unwinding.
struct Left(Trace);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.note(usize::MAX, "left");
    }
}

fn run(trace: &Trace, steps: Vec<Step>, parent: Option<&Coroutine>) {
    let _left = Left(trace.clone());
    let mut children: Vec<JoinHandle<()>> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        let what = match step {
            Step::Yield => {
                coro::yield_now();
                "yielded"
            }
            Step::Spawn(steps) => {
                let (trace, me) = (trace.clone(), coro::current());
                children.push(coro::spawn(move || run(&trace, steps, Some(&me))));
                "spawned"
            }
            Step::Join => match children.pop().map(JoinHandle::join) {
                None => "childless",
                Some(Ok(())) => "joined",
                Some(Err(coro::JoinError::Cancelled)) => "joined a cancelled one",
                Some(Err(_)) => "refused",
            },
            Step::Cancel => {
                children.last().inspect(|child| child.cancel());
                "cancelled"
            }
            Step::WakeParent => {
                parent.inspect(|parent| parent.unpark());
                "woke"
            }
            Step::WaitForWake => {
                coro::park_timeout(std::time::Duration::from_millis(1));
                "woken"
            }
        };
        trace.note(number, what);
    }
}

fn trace_of(scheduler: &Scheduler, steps: Vec<Step>) -> Vec<Event> {
    let trace = Trace::default();
    let noted = trace.clone();
    let first = move || {
        let first = coro::current_id().unwrap();
        run(&noted, steps, None);
        first
    };
    let main = scheduler.spawn(Builder::new(), first).unwrap();
    scheduler.run(&VirtualDriver::default(), |scheduler| scheduler.live() == 0);
    let first = main.join().unwrap();
    let trace = trace.0.borrow();
    trace
        .iter()
        .map(|(id, step, what)| (id - first, *step, *what))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn who_runs_when_does_not_depend_on_who_switches(steps in programs()) {
        prop_assert_eq!(trace_of(&scheduler(), steps.clone()), trace_of(&by_the_loop(), steps));
    }
}

/// Goal: who spawns and joins for ever leaves the driver its turns, and timers their time.
#[test]
fn joins_in_a_row_end_with_the_time_slice() {
    #[derive(Default)]
    struct Polled {
        now_ns: Cell<u64>,
        polls: Rc<Cell<u32>>,
    }
    impl Driver for Polled {
        fn now(&self) -> u64 {
            self.now_ns.set(self.now_ns.get() + 50_000);
            self.now_ns.get()
        }
        fn poll(&self, _: &Scheduler) {
            self.polls.set(self.polls.get() + 1);
        }
        fn park(&self, _: &Scheduler, _: Option<u64>) {}
    }
    let driver = Polled::default();
    let polls = driver.polls.clone();
    let restless = move || {
        let mut joins = 0;
        while polls.get() < 10 && joins < 1_000_000 {
            coro::spawn(|| ()).join().unwrap();
            joins += 1;
        }
        joins
    };
    let scheduler = scheduler();
    let main = scheduler.spawn(Builder::new(), restless).unwrap();
    scheduler.run(&driver, |scheduler| scheduler.live() == 0);
    let joins = main.join().unwrap();
    assert!(joins < 10_000, "{joins} joins between ten polls");
}

/// Goal: a joiner that runs its coroutine itself is seen to wait for it, and can be woken and inspected by it.
#[test]
fn a_joiner_waits_while_its_coroutine_runs_on_top_of_it() {
    crate::every_order(|| {
        let outer = Builder::new().name("outer").spawn(|| {
            let me = coro::current();
            let inner = coro::spawn(move || {
                let is_outer = |info: &coro::CoroutineInfo| info.id == me.id();
                let seen = coro::dump().into_iter().find(is_outer).unwrap();
                let traced = coro::dump_with_backtraces().into_iter().find(is_outer);
                me.unpark();
                (
                    seen.activity,
                    traced.unwrap().backtrace.map(|trace| trace.to_string()),
                )
            });
            inner.join().unwrap()
        });
        let (activity, trace) = outer.unwrap().join().unwrap();
        assert!(
            matches!(
                activity,
                coro::Activity::Waiting {
                    what_for: "join",
                    ..
                }
            ),
            "{activity:?}"
        );
        assert!(trace.unwrap().contains("a_joiner_waits_while"));
    });
}
