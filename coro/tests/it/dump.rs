//! Goal: a dump tells the truth about every coroutine, and taking it disturbs none.

use crate::every_order;
use coring_coro as coro;
use coro::Activity;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

#[test]
fn names_sites_waits_and_ages() {
    every_order(|| {
        let (_sender, receiver) = coro::channel::bounded::<u8>(1);
        let waiter = coro::Builder::new()
            .name("waiter")
            .spawn(move || receiver.recv());
        let waiter = waiter.unwrap();
        coro::sleep(3 * MS);
        coro::yield_now();
        let infos = coro::dump();
        assert_eq!(infos.len(), 2);
        let info = infos
            .iter()
            .find(|info| info.name.as_deref() == Some("waiter"))
            .unwrap();
        assert!(info.spawn_site.file().ends_with("dump.rs"));
        assert_eq!(
            info.activity,
            Activity::Waiting {
                what_for: "channel::recv",
                since: 3 * MS
            }
        );
        assert!(info.stack_bytes >= 256 * 1024 && info.stack_resident_bytes >= 4096);
        assert!(infos.iter().any(|info| info.activity == Activity::Running));
        waiter.cancel();
        assert!(waiter.join().unwrap().is_err());
    });
}

#[inline(never)]
fn a_recognisable_function(receiver: &coro::channel::bounded::Receiver<u8>) -> u8 {
    std::hint::black_box(receiver.recv().unwrap())
}

#[test]
fn backtraces_show_where_it_waits_and_the_wait_goes_on() {
    every_order(|| {
        let (sender, receiver) = coro::channel::bounded::<u8>(1);
        let waiter = coro::Builder::new()
            .name("waiter")
            .spawn(move || a_recognisable_function(&receiver))
            .unwrap();
        let sleeper = coro::spawn(|| coro::sleep(10 * MS));
        coro::sleep(MS);
        let infos = coro::dump_with_backtraces();
        let info = infos
            .iter()
            .find(|info| info.name.as_deref() == Some("waiter"))
            .unwrap();
        let trace = info.backtrace.as_ref().unwrap().to_string();
        assert!(trace.contains("a_recognisable_function"), "{trace}");
        assert_eq!(
            infos.iter().filter(|info| info.backtrace.is_some()).count(),
            2
        );
        sender.send(9).unwrap();
        assert_eq!(waiter.join().unwrap(), 9);
        sleeper.join().unwrap();
        assert_eq!(coro::Instant::now().as_ns(), 10_000_000);
    });
}

/// Goal: a dump never holds up the others for longer than a portion of stacks takes, whether a hundred thousand coroutines are
/// on them or few are left. Method: a clock by which each look at it is a time slice later, so that whoever may give way does;
/// another coroutine counts how often it comes on.
#[test]
fn of_a_hundred_thousand_lets_the_others_run() {
    const MOST_AT_ONCE: usize = 64;
    struct Hurried(Cell<u64>);
    impl coro::Driver for Hurried {
        fn now(&self) -> u64 {
            self.0.set(self.0.get() + 1_000_000);
            self.0.get()
        }
        fn poll(&self, _: &coro::Scheduler) {}
        fn park(&self, _: &coro::Scheduler, _: Option<u64>) {}
    }
    let scheduler = coro::Scheduler::new(coro::SchedulerConfig::default());
    let main = scheduler.spawn(coro::Builder::new(), || {
        let handles: Vec<_> = (0..100_000).map(|_| coro::spawn(coro::park)).collect();
        coro::yield_now();
        let (done, rounds) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let other = coro::spawn({
            let (done, rounds) = (done.clone(), rounds.clone());
            move || {
                while !done.get() {
                    rounds.set(rounds.get() + 1);
                    coro::yield_now();
                }
            }
        });
        let crowded = (coro::dump().len(), rounds.replace(0));
        handles.iter().for_each(coro::JoinHandle::cancel);
        handles.into_iter().for_each(|handle| drop(handle.join()));
        rounds.set(0);
        let empty = (coro::dump().len(), rounds.get());
        done.set(true);
        other.join().unwrap();
        (crowded, empty)
    });
    let (main, driver) = (main.unwrap(), Hurried(Cell::new(0)));
    scheduler.run(&driver, |_| main.is_finished());
    let (crowded, empty) = main.join().unwrap();
    assert_eq!((crowded.0, empty.0), (100_002, 2));
    for rounds in [crowded.1, empty.1] {
        let most = 100_000 / rounds.max(1);
        assert!(most <= MOST_AT_ONCE, "{most} stacks at once");
    }
}

/// Goal: samples say how deep a spawn site goes. Method: a site with a known large frame, spawned often.
#[test]
fn stack_usage_knows_the_deep_site() {
    let usage = coro::testing::run(|| {
        for _ in 0..20_000 {
            coro::spawn(|| {
                let mut frame = [0u8; 40_000];
                std::hint::black_box(&mut frame).fill(1);
            })
            .join()
            .unwrap();
        }
        coro::stack_usage()
    });
    let deep = usage
        .iter()
        .max_by_key(|site| site.high_water_bytes)
        .unwrap();
    assert!(deep.spawn_site.file().ends_with("dump.rs"));
    assert!(deep.samples >= 4);
    assert!(
        (40_000..60_000).contains(&deep.high_water_bytes),
        "{deep:?}"
    );
}

/// Goal: a dump while a panic unwinds, when nobody else can run, ends; and so does one from the panic hook.
#[test]
fn with_backtraces_ends_while_a_panic_unwinds() {
    struct Dumps(Rc<Cell<usize>>);
    impl Drop for Dumps {
        fn drop(&mut self) {
            let infos = coro::dump_with_backtraces();
            assert!(infos.iter().all(|info| info.backtrace.is_none()));
            self.0.set(infos.len());
        }
    }
    every_order(|| {
        let sleeper = coro::spawn(|| coro::sleep(MS));
        coro::sleep(MS / 2);
        let seen = Rc::new(Cell::new(0));
        let dumper = coro::spawn({
            let dumps = Dumps(seen.clone());
            move || {
                let _dumps = dumps;
                panic!("on purpose");
            }
        });
        assert!(dumper.join().is_err());
        assert_eq!(seen.get(), 3);
        sleeper.join().unwrap();
        assert_eq!(coro::Instant::now().as_ns(), 1_000_000);
    });
}

/// Goal: the stack of a coroutine that has suspended and been resumed leads an unwinder on to the stack of who resumed it.
#[test]
fn a_backtrace_goes_on_below_the_root() {
    #[inline(never)]
    fn after_a_switch() -> String {
        coro::yield_now();
        std::backtrace::Backtrace::force_capture().to_string()
    }
    let trace = coro::testing::run(|| {
        let other = coro::spawn(coro::yield_now);
        let trace = after_a_switch();
        other.join().unwrap();
        trace
    });
    let own = trace.find("after_a_switch");
    let turn = trace
        .find("Scheduler>::turn")
        .or(trace.find("Scheduler::turn"));
    let test = trace.find("a_backtrace_goes_on_below_the_root\n");
    assert!(own.is_some() && own < turn && turn < test, "{trace}");
}
