//! Goal: the hot paths allocate nothing from the heap. Method: a global allocator that counts, per thread.
#![expect(unsafe_code, reason = "a counting allocator")]

use coring_coro as coro;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(work: impl Fn()) -> u64 {
    // Warm: stacks, wheel, queues.
    for _ in 0..200 {
        work();
    }
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..1_000 {
        work();
    }
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(
        allocations_of(|| drop(std::hint::black_box(Box::new(1)))),
        1_000
    );
}

#[test]
fn hot_paths_allocate_nothing() {
    coro::testing::run(|| {
        let ms = Duration::from_millis(1);
        let spawn = allocations_of(|| {
            let (a, b) = (1u64, [2u64; 8]);
            let handle = coro::spawn(move || a + b[3]);
            assert_eq!(handle.join().unwrap(), 3);
        });
        assert_eq!(spawn, 0, "spawn and join");
        assert_eq!(allocations_of(coro::yield_now), 0, "yield");
        assert_eq!(allocations_of(|| coro::sleep(ms)), 0, "sleep");
        let me = coro::current();
        let unpark = allocations_of(|| {
            let me = &me;
            coro::scope(|s| {
                s.spawn(|| me.unpark());
                coro::park();
            });
        });
        assert_eq!(unpark, 0, "scope, park and unpark");
        assert_eq!(
            allocations_of(|| assert!(coro::timeout(ms, || ()).is_ok())),
            0,
            "timeout"
        );

        let (sender, receiver) = coro::channel::bounded(1);
        let (reply_sender, reply) = coro::channel::bounded(0);
        let echo = coro::spawn(move || {
            receiver
                .iter()
                .for_each(|n: u32| reply_sender.send(n).unwrap())
        });
        let ping = allocations_of(|| {
            sender.send(1).unwrap();
            assert_eq!(reply.recv(), Ok(1));
        });
        assert_eq!(ping, 0, "send and receive, both waiting");
        drop(sender);
        echo.join().unwrap();

        let mutex = coro::sync::Mutex::new(0);
        assert_eq!(allocations_of(|| *mutex.lock() += 1), 0, "uncontended lock");
        let contended = allocations_of(|| {
            let guard = mutex.lock();
            coro::scope(|s| {
                s.spawn(|| *mutex.lock() += 1);
                coro::yield_now();
                drop(guard);
                drop(mutex.lock_timeout(ms));
            });
        });
        assert_eq!(contended, 0, "contended lock");
        let event = coro::sync::Event::new();
        event.set();
        let timer = coro::select::after(ms);
        let select = allocations_of(|| {
            coro::select! {
                () = event.wait() => (),
                () = timer.wait() => (),
            }
        });
        assert_eq!(select, 0, "select");
    });
}

/// Goal: the timer wheel allocates nothing once it has had as many timers. Method: thousands of live timers at random
/// distances, of which some are cancelled and the others fire, many times over.
#[test]
fn timers_allocate_nothing() {
    let mut wheel = coro::timer::Wheel::new(0);
    let (mut now, mut random) = (0, 1u64);
    let mut round = || {
        let mut keys = [None; 500];
        for key in &mut keys {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *key = Some(wheel.insert(now + (random >> 34), ()));
        }
        for (n, key) in keys.into_iter().flatten().step_by(3).enumerate() {
            match n % 2 {
                0 => assert!(wheel.cancel(key).is_some()),
                _ => wheel.discard(key),
            }
        }
        now += 100_000_000;
        wheel.advance(now, |_, ()| ());
        wheel.len()
    };
    // Warm: as many blocks as it will ever need.
    for _ in 0..10_000 {
        round();
    }
    let before = ALLOCATIONS.with(Cell::get);
    let live = (0..10_000).map(|_| round()).max();
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    assert!(live > Some(1_500), "{live:?}");
}
