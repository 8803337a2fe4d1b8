//! Scheduling groups of a runtime's cores.

use coring::coro::{self, Builder, Group, GroupConfig, SpawnError};
use coring_tests::{check, runtime};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

fn config(name: &'static str, shares: u32, latency: bool) -> GroupConfig {
    GroupConfig {
        name: name.into(),
        shares,
        latency,
    }
}

#[test]
fn background_work_lets_the_quick_ones_run() {
    // Goal: on every core, groups made inside of the runtime: work that never waits gets its share, and those of a latency group
    // run whenever they are ready.
    // Method: eight that compute until they are told to end, at checkpoints, and one of a latency group that sleeps a hundred times.
    check(|| {
        let stats = runtime(2).run(|| {
            let cores = coring::spawn_on_each(|_| {
                let background = Group::new(config("background", 10, false)).unwrap();
                let quick = Group::new(config("quick", 100, true)).unwrap();
                let done = Rc::new(Cell::new(false));
                let work: Vec<_> = (0..8)
                    .map(|_| {
                        let done = Rc::clone(&done);
                        let steps = move || {
                            let mut steps = 0_u64;
                            while !done.get() {
                                steps += 1;
                                coro::checkpoint();
                            }
                            steps
                        };
                        Builder::new().group(background).spawn(steps).unwrap()
                    })
                    .collect();
                let sleeps = || (0..100).for_each(|_| coro::sleep(Duration::from_micros(50)));
                let sleeper = Builder::new().group(quick).spawn(sleeps).unwrap();
                sleeper.join().unwrap();
                done.set(true);
                for work in work {
                    assert!(work.join().unwrap() > 0, "everybody had a turn");
                }
                coro::group_stats()
            });
            cores
                .into_iter()
                .map(|core| core.join().unwrap())
                .collect::<Vec<_>>()
        });
        for groups in stats {
            let names: Vec<_> = groups.iter().map(|group| &*group.name).collect();
            assert_eq!(names, ["default", "background", "quick"]);
            assert!(
                groups[1].run_ns > 0 && groups[2].switches > 100,
                "{groups:?}"
            );
            assert_eq!((groups[1].ready, groups[2].ready), (0, 0));
        }
    });
}

#[test]
fn groups_have_an_end() {
    // Goal: 64 groups a core, and an error that says so; each core has its own.
    // Method: as many as there may be on one of two cores, and one on the other.
    check(|| {
        runtime(2).run(|| {
            for _ in 1..64 {
                Group::new(config("one of many", 1, false)).unwrap();
            }
            let refused = Group::new(config("one too many", 1, false));
            assert!(matches!(
                refused,
                Err(SpawnError::TooManyGroups { limit: 64 })
            ));
            let other = coring::call(1, || Group::new(config("elsewhere", 1, false)).is_ok());
            assert!(other.unwrap());
        });
    });
}
