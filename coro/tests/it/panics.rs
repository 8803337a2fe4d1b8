//! Goal: a panic ends one coroutine, wherever it comes from, and nothing else.

use crate::every_order;
use coring_coro as coro;
use coro::JoinError;
use std::cell::Cell;
use std::panic::panic_any;
use std::rc::Rc;
use std::time::Duration;

struct PanicsWhenDropped(&'static str);
impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("{}", self.0);
        }
    }
}

#[test]
fn is_handed_to_join_with_its_text() {
    every_order(|| {
        let error = coro::spawn(|| -> u8 { panic!("number {}", 7) })
            .join()
            .unwrap_err();
        assert_eq!(error.panic_message(), Some("number 7"));
        let error = coro::spawn(|| -> u8 { panic!("literal") })
            .join()
            .unwrap_err();
        assert_eq!(error.panic_message(), Some("literal"));
    });
}

#[test]
fn in_the_drop_of_a_local_is_the_coroutines_panic() {
    every_order(|| {
        let handle = coro::spawn(|| {
            let _local = PanicsWhenDropped("local");
        });
        assert_eq!(handle.join().unwrap_err().panic_message(), Some("local"));
    });
}

#[test]
fn in_the_drop_of_a_closure_that_never_ran_too() {
    every_order(|| {
        let captured = PanicsWhenDropped("captured");
        let handle = coro::spawn(move || {
            let _captured = &captured;
        });
        handle.cancel();
        assert_eq!(handle.join().unwrap_err().panic_message(), Some("captured"));
    });
}

#[test]
fn in_the_drop_of_an_unclaimed_result_stays_inside() {
    every_order(|| {
        drop(coro::spawn(|| PanicsWhenDropped("result")));
        coro::sleep(Duration::from_millis(1));
        assert_eq!(coro::spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn with_a_payload_that_panics_when_dropped_stays_inside() {
    every_order(|| {
        drop(coro::spawn(|| panic_any(PanicsWhenDropped("payload"))));
        coro::sleep(Duration::from_millis(1));
        // Joined, the payload is the joiner's, who may forget it.
        let Err(JoinError::Panicked(payload)) =
            coro::spawn(|| panic_any(PanicsWhenDropped("payload"))).join()
        else {
            panic!("it must be handed over");
        };
        let payload = std::mem::ManuallyDrop::new(payload.into_inner());
        assert!(payload.is::<PanicsWhenDropped>());
    });
}

/// Goal: a payload that panics when dropped, in a handle that nobody joins, harms its dropper and not the scheduler.
#[test]
fn with_a_payload_that_panics_when_its_handle_is_dropped() {
    every_order(|| {
        let handle = coro::spawn(|| panic_any(PanicsWhenDropped("payload")));
        while !handle.is_finished() {
            coro::yield_now();
        }
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(handle)));
        if let Err(payload) = dropped {
            assert_eq!(payload.downcast_ref(), Some(&"payload".to_owned()));
        }
        // The stack is free again, and whole.
        for round in 0..3 {
            assert_eq!(coro::spawn(move || round).join().unwrap(), round);
        }
    });
}

#[test]
fn drop_of_a_finished_handle_drops_the_result_once() {
    every_order(|| {
        struct Count(Rc<Cell<u32>>);
        impl Drop for Count {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let drops = Rc::new(Cell::new(0));
        let handle = coro::spawn({
            let count = Count(drops.clone());
            move || count
        });
        while !handle.is_finished() {
            coro::yield_now();
        }
        assert_eq!(drops.get(), 0);
        drop(handle);
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn many_random_ones_leave_the_scheduler_whole() {
    let panicked = coro::testing::run(|| {
        std::panic::set_hook(Box::new(|_| {}));
        let mut panicked = 0;
        for round in 0..2_000u32 {
            let handle = coro::spawn(move || {
                if round % 3 == 0 {
                    coro::yield_now();
                }
                assert!(round % 2 == 0, "odd");
                round
            });
            panicked += u32::from(handle.join().is_err());
        }
        let _ = std::panic::take_hook();
        panicked
    });
    assert_eq!(panicked, 1_000);
}
