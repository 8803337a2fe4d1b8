//! Goal: fields and spans follow the coroutine, not the thread, and the logger works at the edges of a thread's and a program's life.
//! Coroutines are played by a variable that says which one runs.
#![expect(unsafe_code, reason = "says where the variable is")]

use coring_logger::{
    ContextId, ContextWord, Full, Hooks, Logger, NameTaker, error, info, register_core, warn,
    with_context,
};
use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::exclusive;

thread_local! {
    static RUNNING: Cell<u64> = const { Cell::new(0) };
    /// Leads to it, unless no coroutine runs.
    static WORD: Cell<*const u8> = const { Cell::new(std::ptr::null()) };
    static PAUSES: Cell<u64> = const { Cell::new(0) };
}

/// Lets this coroutine run; 0: none.
pub(crate) fn run(id: u64) {
    RUNNING.set(id);
    let begin = RUNNING.with(|running| {
        std::ptr::from_ref(running)
            .cast::<u8>()
            .wrapping_sub(OFFSET as usize)
    });
    WORD.set(if id == 0 { std::ptr::null() } else { begin });
}

const OFFSET: u32 = 24;

fn word() -> ContextWord {
    ContextWord::new(WORD.with(|word| word.as_ptr().cast_const()), OFFSET)
}

/// Both ways to tell which coroutine runs.
const WAYS: [ContextId; 2] = [
    ContextId::by_call(|| RUNNING.get()),
    // SAFETY: `run` keeps the word so, for its thread.
    unsafe { ContextId::in_memory(|| RUNNING.get(), word) },
];

fn name(id: u64, take: NameTaker<'_>) {
    if id == 7 {
        take("session");
    }
}

pub(crate) fn hooks() -> Hooks {
    Hooks {
        context_id: WAYS[1],
        context_name: name,
        pause: |duration| {
            PAUSES.set(PAUSES.get() + 1);
            std::thread::sleep(duration);
            RUNNING.get() != 0
        },
    }
}

#[test]
fn lines_say_core_and_coroutine() {
    let _turn = exclusive();
    for context_id in WAYS {
        lines_say_core_and_coroutine_by(context_id);
    }
}

fn lines_say_core_and_coroutine_by(context_id: ContextId) {
    let (builder, lines) = Logger::builder()
        .hooks(Hooks {
            context_id,
            ..hooks()
        })
        .pattern("[{origin}] {message}{fields}")
        .memory();
    let logger = builder.start().expect("starts");
    let ring = register_core(3).expect("a ring");
    {
        let _here = ring.enter();
        info!("no coroutine");
        run(7);
        info!("a");
        info!("b");
        with_context("user", "ann", || {
            info!("c");
            run(8); // another coroutine runs while 7 is inside
            info!("d");
            with_context("job", 1, || info!("e"));
            run(7);
            with_context("try", 2, || info!("f"));
            info!("g");
        });
        info!("h");
        run(0);
        info!("i");
    }
    logger.shutdown();
    assert_eq!(
        lines.text(),
        "[core 3] no coroutine\n[core 3 session#7] a\n[core 3 session#7] b\n[core 3 session#7] c user=ann\n[core 3 #8] d\n\
         [core 3 #8] e job=1\n[core 3 session#7] f user=ann try=2\n[core 3 session#7] g user=ann\n[core 3 session#7] h\n[core 3] i\n"
    );
}

#[test]
fn context_ends_when_the_call_unwinds() {
    let _turn = exclusive();
    struct LogsInDrop;
    impl Drop for LogsInDrop {
        fn drop(&mut self) {
            info!("dropped while panicking: {}", std::thread::panicking());
        }
    }
    let (builder, lines) = Logger::builder().pattern("{message}{fields}").memory();
    let logger = builder.start().expect("starts");
    let result = std::panic::catch_unwind(|| {
        with_context("inside", true, || {
            let _guard = LogsInDrop;
            std::panic::resume_unwind(Box::new("unwinds"));
        })
    });
    assert!(result.is_err());
    info!("after");
    logger.shutdown();
    assert_eq!(
        lines.text(),
        "dropped while panicking: true inside=true\nafter\n"
    );
}

#[test]
fn a_full_ring_does_not_hold_up_an_unwinding() {
    // Goal: with `Full::Wait` a Drop that logs while the thread unwinds neither parks nor waits: its line is lost, counted, and told.
    let _turn = exclusive();
    struct Floods;
    impl Drop for Floods {
        fn drop(&mut self) {
            for number in 0..1000 {
                info!("dropped {}", number);
            }
        }
    }
    let (builder, lines) = Logger::builder()
        .hooks(Hooks {
            // Does not wait, so that whoever does not give up is at its end soon all the same.
            pause: |_| {
                PAUSES.set(PAUSES.get() + 1);
                true
            },
            ..hooks()
        })
        .full(Full::Wait)
        .thread_ring_bytes(4096)
        .pattern("{message}")
        .memory();
    // Nobody drains before the unwinding is over: who waits then waits in vain.
    let (logger, mut drain) = builder.build().expect("starts");
    let before = logger.stats().dropped[2];
    let pauses = std::thread::spawn(|| {
        run(7);
        let result = std::panic::catch_unwind(|| {
            let _guard = Floods;
            std::panic::resume_unwind(Box::new("unwinds"));
        });
        assert!(result.is_err());
        PAUSES.get()
    });
    let pauses = pauses.join().expect("the thread ends well");
    assert_eq!(pauses, 0, "it waited while the thread unwound");
    let lost = logger.stats().dropped[2] - before;
    drain.finish();
    logger.shutdown();
    let text = lines.text();
    let written = text.matches("dropped ").count() as u64;
    assert!(written > 0 && lost > 0, "{text}");
    assert_eq!(written + lost, 1000);
    assert!(text.contains(&format!("{lost} lines of ")), "{text}");
}

#[test]
fn several_cores_on_one_thread_take_turns() {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder().pattern("{core} {message}").memory();
    let logger = builder.start().expect("starts");
    let rings = [
        register_core(0).expect("a ring"),
        register_core(1).expect("a ring"),
    ];
    for turn in 0..6 {
        let ring = &rings[turn % 2];
        let _here = ring.enter();
        info!("turn {}", turn);
    }
    info!("outside");
    logger.shutdown();
    assert_eq!(
        lines.text(),
        "0 turn 0\n1 turn 1\n0 turn 2\n1 turn 3\n0 turn 4\n1 turn 5\n outside\n"
    );
}

#[test]
fn lines_of_a_turn_may_share_its_time_and_keep_their_order() {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder().pattern("{unix} {message}").memory();
    let logger = builder.start().expect("starts");
    let ring = register_core(0).expect("a ring");
    {
        let _here = ring.enter();
        ring.set_turn_ticks(coring_logger::ticks());
        for number in 0..100 {
            info!("{}", number);
        }
    }
    logger.shutdown();
    let text = lines.text();
    let (times, numbers): (Vec<_>, Vec<u64>) = text
        .lines()
        .map(|line| line.split_once(' ').expect("two words"))
        .map(|(time, number)| (time, number.parse::<u64>().expect("a number")))
        .unzip();
    assert!(times.iter().all(|time| *time == times[0]));
    assert!(numbers.into_iter().eq(0..100));
}

#[test]
fn with_turn_time_each_turn_has_its_own() {
    // Goal: the builder's switch gives all lines of a turn one time and those of the next a later one, entered anew or not.
    let _turn = exclusive();
    let (builder, lines) = Logger::builder().turn_time(true).pattern("{unix}").memory();
    let logger = builder.start().expect("starts");
    let ring = register_core(0).expect("a ring");
    for _ in 0..2 {
        let _here = ring.enter();
        for _ in 0..2 {
            info!("one");
            info!("two");
            ring.turn();
        }
    }
    logger.shutdown();
    let text = lines.text();
    let times: Vec<u64> = text
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert_eq!(times.len(), 8);
    assert!(times.chunks(2).all(|turn| turn[0] == turn[1]), "{times:?}");
    assert!(
        times.chunks(2).is_sorted_by(|a, b| a[0] < b[0]),
        "{times:?}"
    );
}

#[test]
fn flush_parks_inside_a_coroutine() {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder()
        .hooks(hooks())
        .pattern("{message}")
        .memory();
    let (logger, mut drain) = builder.build().expect("starts");
    run(9);
    let before = PAUSES.get();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            while drain.drain(100).lines == 0 {}
            let _ = drain.drain(100);
        });
        info!("line");
        logger.flush().expect("flushes");
        assert_eq!(lines.text(), "line\n");
    });
    run(0);
    assert!(PAUSES.get() > before, "flush asked the runtime to park");
    logger.shutdown();
}

#[test]
fn a_core_is_not_registered_while_its_thread_ends() {
    // Goal: a runtime may be made by the destructor of a thread-local: a core that cannot be known to the thread any more gets an
    // error; a panic there would end the process.
    // Method: a thread-local that is registered before the logger's own, so destroyed after it.
    let _turn = exclusive();
    struct Registers(std::sync::mpsc::Sender<bool>);
    impl Drop for Registers {
        fn drop(&mut self) {
            let _ = self.0.send(register_core(0).is_err());
        }
    }
    thread_local! {
        static LAST: RefCell<Option<Registers>> = const { RefCell::new(None) };
    }
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(|| {
        LAST.with(|last| *last.borrow_mut() = Some(Registers(tell)));
        drop(register_core(0).expect("a ring"));
    });
    thread.join().expect("ends");
    assert_eq!(told.recv(), Ok(true));
}

#[test]
fn before_the_start_after_the_end_and_in_thread_locals_destructors() {
    let _turn = exclusive();
    struct LogsAtTheEnd;
    impl Drop for LogsAtTheEnd {
        fn drop(&mut self) {
            info!("destructor");
        }
    }
    thread_local! {
        static LAST: RefCell<Option<LogsAtTheEnd>> = const { RefCell::new(None) };
    }
    let ends = || {
        std::thread::spawn(|| {
            // Registered before the logger's own thread-local, so destroyed after it.
            LAST.with(|last| *last.borrow_mut() = Some(LogsAtTheEnd));
            info!("body");
        })
        .join()
        .expect("the thread ends well");
    };
    let (builder, lines) = Logger::builder().pattern("{message}").memory();
    let logger = builder.start().expect("starts");
    ends();
    let second = Logger::builder().start().expect_err("one at a time");
    assert!(second.to_string().contains("shut it down"), "{second}");
    logger.shutdown();
    assert_eq!(lines.text(), "body\ndestructor\n");
    ends();
    error!("ignored");
    assert_eq!(lines.text(), "body\ndestructor\n");
}

#[test]
fn threads_beyond_the_limit_share_a_ring() {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder().max_rings(2).pattern("{message}").memory();
    let logger = builder.start().expect("starts");
    let barrier = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                for line in 0..100 {
                    info!("{} {}", thread, line);
                }
                barrier.wait();
            });
        }
    });
    logger.shutdown();
    assert_eq!(lines.text().lines().count(), 800);
}

#[cfg(feature = "tracing")]
#[test]
fn a_span_brings_those_it_was_made_in() {
    // Goal: a line has the fields of parents that are not entered, and of a parent that is named, as tracing has it; each once, the outermost
    // first. Method: spans made in others, with named parents and with none, entered alone.
    use coring_logger::TracingLayer;
    use tracing_subscriber::prelude::*;
    let _turn = exclusive();
    let (builder, lines) = Logger::builder().pattern("{message}{fields}").memory();
    let logger = builder.start().expect("starts");
    let subscriber = tracing_subscriber::registry().with(TracingLayer::new());
    tracing::subscriber::with_default(subscriber, || {
        let outer = tracing::info_span!("outer", o = 1);
        let inner = outer.in_scope(|| tracing::info_span!("inner", i = 2));
        let named = tracing::info_span!(parent: &inner, "named", n = 3);
        let apart = inner.in_scope(|| tracing::info_span!(parent: None, "apart", a = 4));
        inner.in_scope(|| tracing::info!("1"));
        named.in_scope(|| tracing::info!("2"));
        apart.in_scope(|| tracing::info!("3"));
        apart.in_scope(|| tracing::info!(parent: &named, "4"));
        apart.in_scope(|| tracing::info!(parent: None, "5"));
        outer.in_scope(|| named.in_scope(|| tracing::info!("6")));
    });
    logger.shutdown();
    assert_eq!(
        lines.text(),
        "1 o=1 i=2\n2 o=1 i=2 n=3\n3 a=4\n4 o=1 i=2 n=3\n5\n6 o=1 i=2 n=3\n"
    );
}

#[cfg(feature = "tracing")]
#[test]
fn spans_follow_coroutines_across_switches() {
    use coring_logger::TracingLayer;
    use tracing_subscriber::prelude::*;
    let _turn = exclusive();
    let (builder, lines) = Logger::builder()
        .hooks(hooks())
        .pattern("{coroutine} {message}{fields}")
        .memory();
    let logger = builder.start().expect("starts");
    let subscriber = tracing_subscriber::registry().with(TracingLayer::new());
    tracing::subscriber::with_default(subscriber, || {
        run(7);
        let first = tracing::info_span!("first", a = 1).entered();
        tracing::info!("in first");
        run(8);
        let second = tracing::info_span!("second", b = "two").entered();
        tracing::info!(x = 1.5, "in second");
        run(7);
        tracing::info!("still only first");
        drop(first);
        tracing::info!("none");
        run(8);
        tracing::info!("second stays");
        drop(second);
        tracing::debug!("filtered");
        run(0);
    });
    logger.shutdown();
    assert_eq!(
        lines.text(),
        "session#7 in first a=1\n#8 in second b=two x=1.5\nsession#7 still only first a=1\nsession#7 none\n#8 second stays b=two\n"
    );
}

#[test]
fn guards_dropped_in_any_order_or_never_leave_no_dangling_ring() {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder().pattern("{core} {message}").memory();
    let logger = builder.start().expect("starts");
    std::thread::spawn(|| {
        info!("thread");
        let (first, second) = (
            register_core(1).expect("a ring"),
            register_core(2).expect("a ring"),
        );
        let of_first = first.enter();
        let of_second = second.enter();
        info!("second");
        drop(of_first); // out of order: the thread's own ring is current again
        info!("thread");
        drop(first);
        drop(of_second); // what was current before is gone
        info!("thread");
        // A guard that is never dropped, of a ring that is.
        let third = register_core(3).expect("a ring");
        let _never = std::mem::ManuallyDrop::new(third.enter());
        info!("third");
        drop(third);
        info!("thread");
    })
    .join()
    .expect("the thread ends well");
    logger.shutdown();
    assert_eq!(
        lines.text(),
        " thread\n2 second\n thread\n thread\n3 third\n thread\n"
    );
}

#[test]
fn rings_without_a_logger_do_not_pile_up() {
    let _turn = exclusive();
    for core in 0..100 {
        drop(register_core(core).expect("a ring"));
    }
    let logger = Logger::builder().memory().0.start().expect("starts");
    logger.flush().expect("flushes");
    let rings = logger.stats().rings;
    logger.shutdown();
    assert!(rings < 50, "{rings} rings");
}

#[test]
fn two_drains_at_once_are_refused() {
    let _turn = exclusive();
    let (logger, drain) = Logger::builder().memory().0.build().expect("starts");
    logger.shutdown();
    let refused = Logger::builder()
        .start()
        .expect_err("the old drain still reads");
    assert!(
        refused.to_string().contains("drain of the last logger"),
        "{refused}"
    );
    drop(drain);
    Logger::builder().start().expect("starts").shutdown();
}

/// Goal: who waits for room in the ring writes its line as its own, whoever has logged meanwhile.
/// Method: a full ring, and a pause in which another coroutine logs, once.
#[test]
fn a_line_that_waited_is_still_its_coroutines() {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder()
        .hooks(Hooks {
            pause: |duration| {
                std::thread::sleep(duration);
                if PAUSES.replace(1) == 0 {
                    run(9);
                    warn!("of nine"); // there is room kept for warnings
                    run(7);
                }
                true
            },
            ..hooks()
        })
        .core_ring_bytes(4096)
        .full(Full::Wait)
        .pattern("{coroutine} {message}")
        .memory();
    let logger = builder.start().expect("starts");
    let before = logger.stats().dropped; // by rings of other tests' threads
    let ring = register_core(0).expect("a ring");
    let text = "x".repeat(100);
    PAUSES.set(0);
    {
        let _here = ring.enter();
        run(7);
        for line in 0..200 {
            info!("of seven {} {}", line, text);
        }
        run(0);
    }
    assert_eq!(logger.stats().dropped, before);
    logger.shutdown();
    let text = lines.text();
    assert_eq!(text.matches("#9 of nine\n").count(), 1, "it was logged");
    assert_eq!(text.matches("session#7 of seven").count(), 200, "{text}");
}

/// Goal: a panic in a hook ends its line and no more: the ring takes the next ones.
/// Method: each hook that a line calls panics once, in a ring of a core and in that of a thread.
#[test]
fn a_hook_that_panics_costs_its_line_only() {
    let _turn = exclusive();
    let (builder, lines) = Logger::builder()
        .hooks(Hooks {
            context_id: ContextId::by_call(|| match RUNNING.get() {
                1 => panic!("no id"),
                id => id,
            }),
            context_name: |id, _| assert!(id != 2, "no name"),
            pause: |_| false,
        })
        .pattern("{message}")
        .memory();
    let logger = builder.start().expect("starts");
    let log = || {
        for id in [1, 2] {
            run(id);
            let line = std::panic::catch_unwind(|| info!("lost {}", id));
            run(0);
            assert!(line.is_err(), "the hook panics");
            info!("after {}", id);
        }
    };
    {
        let ring = register_core(0).expect("a ring");
        let _here = ring.enter();
        log();
    }
    std::thread::spawn(log)
        .join()
        .expect("the thread ends well");
    logger.shutdown();
    let text = lines.text();
    assert_eq!(text.matches("after 1\n").count(), 2, "{text}");
    assert_eq!(text.matches("after 2\n").count(), 2, "{text}");
    assert!(!text.contains("lost"), "{text}");
}
