//! Goal: groups share the core by weight, and a latency group goes first without starving the rest.

use coring_coro as coro;
use coro::{Builder, Driver, GroupConfig, Scheduler, SchedulerConfig};
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;

/// A clock that the coroutines move: work takes time.
#[derive(Default)]
struct WorkClock(Rc<Cell<u64>>);
impl Driver for WorkClock {
    fn now(&self) -> u64 {
        self.0.get()
    }
    fn poll(&self, _: &Scheduler) {}
    fn park(&self, _: &Scheduler, _: Option<u64>) {
        panic!("something is always ready here");
    }
}

fn config(name: &'static str, shares: u32, latency: bool) -> GroupConfig {
    GroupConfig {
        name: name.into(),
        shares,
        latency,
    }
}

/// Coroutines that work `cost` nanoseconds at a time for ever.
fn load(scheduler: &Scheduler, group: coro::Group, clock: &Rc<Cell<u64>>, cost: u64, count: usize) {
    for _ in 0..count {
        let clock = clock.clone();
        let forever = move || {
            loop {
                clock.set(clock.get() + cost);
                coro::yield_now();
            }
        };
        drop(
            scheduler
                .spawn(Builder::new().group(group), forever)
                .unwrap(),
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Goal: run time is divided by shares, whatever the cost and number of the coroutines in each group.
    #[test]
    fn time_is_shared_by_weight(
        groups in prop::collection::vec((1u32..8, 1u64..60, 1usize..20), 2..5),
    ) {
        let scheduler = Scheduler::new(SchedulerConfig::default());
        let driver = WorkClock::default();
        for &(weight, cost_us, count) in &groups {
            let group = scheduler.add_group(config("group", weight * 100, false)).unwrap();
            load(&scheduler, group, &driver.0, cost_us * 1000, count);
        }
        while driver.0.get() < 4_000_000_000 {
            scheduler.turn(&driver);
        }
        let total: u32 = groups.iter().map(|group| group.0).sum();
        for (stats, group) in scheduler.group_stats()[1..].iter().zip(&groups) {
            let expected = f64::from(group.0) / f64::from(total);
            let share = stats.run_ns as f64 / driver.0.get() as f64;
            prop_assert!((share - expected).abs() < 0.03, "{share} instead of {expected}");
        }
        // The test ends with live coroutines, whose stacks stay: a live stack is never freed.
    }
}

/// Goal: a woken latency coroutine waits for one background step, not for the background queue.
#[test]
fn latency_goes_first_and_does_not_starve_the_rest() {
    let scheduler = Scheduler::new(SchedulerConfig::default());
    let driver = WorkClock::default();
    let background = scheduler
        .add_group(config("background", 100, false))
        .unwrap();
    let quick = scheduler.add_group(config("quick", 100, true)).unwrap();
    load(&scheduler, background, &driver.0, 50_000, 200);
    let worst = Rc::new(Cell::new(0));
    let (woken_at, parked) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
    let service = scheduler.spawn(Builder::new().group(quick), {
        let (clock, worst, woken_at) = (driver.0.clone(), worst.clone(), woken_at.clone());
        let parked = parked.clone();
        move || {
            parked.set(Some(coro::current()));
            loop {
                coro::park();
                worst.set(worst.get().max(clock.get() - woken_at.get()));
                clock.set(clock.get() + 1_000);
            }
        }
    });
    drop(service.unwrap());
    // A background coroutine that wakes the service now and then.
    let waker = scheduler.spawn(Builder::new().group(background), {
        let (clock, parked) = (driver.0.clone(), parked.clone());
        move || {
            loop {
                coro::yield_now();
                let Some(service): Option<coro::Coroutine> = parked.take() else {
                    continue;
                };
                woken_at.set(clock.get());
                service.unpark();
                parked.set(Some(service));
            }
        }
    });
    drop(waker.unwrap());
    for _ in 0..2_000 {
        scheduler.turn(&driver);
    }
    assert!(worst.get() <= 50_000, "waited {} ns", worst.get());

    // A flood in the latency group gets its share and its head start, no more.
    load(&scheduler, quick, &driver.0, 50_000, 50);
    let before: Vec<_> = scheduler
        .group_stats()
        .iter()
        .map(|group| group.run_ns)
        .collect();
    let started = driver.0.get();
    while driver.0.get() - started < 1_000_000_000 {
        scheduler.turn(&driver);
    }
    let after = scheduler.group_stats();
    let background_ns = after[1].run_ns - before[1];
    assert!(
        (450_000_000..550_000_000).contains(&background_ns),
        "{background_ns}"
    );
}

/// Goal: however many shares one group has, the others get some time; and however long groups have run, it goes on.
///
/// Method: a step of nothing, which counts for a nanosecond, of a group with so many shares that it is less than one of virtual time;
/// steps that come to the end of virtual time together.
#[test]
fn shares_and_times_without_bounds() {
    for (many, cost, least) in [(u32::MAX, 0, 100), (100, u64::MAX / 4096, 400)] {
        let scheduler = Scheduler::new(SchedulerConfig::default());
        let driver = WorkClock::default();
        for shares in [many, 100] {
            let group = scheduler.add_group(config("group", shares, false)).unwrap();
            load(&scheduler, group, &driver.0, cost, 1);
        }
        for _ in 0..2_000 {
            scheduler.turn(&driver);
        }
        for stats in &scheduler.group_stats()[1..] {
            assert!(stats.switches >= least, "{stats:?} at {cost} ns a step");
        }
    }
}

#[test]
fn groups_are_bounded_and_belong_to_one_scheduler() {
    let scheduler = Scheduler::new(SchedulerConfig::default());
    let mut last = None;
    let refused = (0..100).find_map(|_| match scheduler.add_group(config("more", 1, false)) {
        Ok(group) => {
            last = Some(group);
            None
        }
        Err(error) => Some(error),
    });
    assert!(matches!(
        refused,
        Some(coro::SpawnError::TooManyGroups { limit: 64 })
    ));
    let other = Scheduler::new(SchedulerConfig::default());
    let foreign = other.spawn(Builder::new().group(last.unwrap()), || ());
    assert!(matches!(foreign, Err(coro::SpawnError::UnknownGroup)));
}

/// Goal: a group cannot be named on another thread, where its scheduler's number may be somebody else's.
#[test]
fn a_group_stays_on_its_thread() {
    use std::marker::PhantomData;
    trait OrNot {
        const IS_SEND: bool = false;
    }
    impl<T> OrNot for T {}
    struct Probe<T>(PhantomData<T>);
    // Found before the trait's, where it applies.
    impl<T: Send> Probe<T> {
        const IS_SEND: bool = true;
    }
    const { assert!(Probe::<u8>::IS_SEND) };
    const { assert!(!Probe::<coro::Group>::IS_SEND) };
}

/// Goal: a time slice of nothing still runs something, with one group and with several.
#[test]
fn a_time_slice_of_nothing_makes_progress() {
    for groups in [0, 2] {
        let scheduler = Scheduler::new(SchedulerConfig {
            time_slice_ns: 0,
            ..SchedulerConfig::default()
        });
        for _ in 0..groups {
            scheduler.add_group(config("more", 100, false)).unwrap();
        }
        let handle = scheduler.spawn(Builder::new(), || 1).unwrap();
        let driver = WorkClock::default();
        for _ in 0..10 {
            scheduler.turn(&driver);
        }
        assert!(handle.is_finished(), "with {groups} more groups");
    }
}
