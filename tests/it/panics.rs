//! Panics: they end one coroutine, reach who joins it, and disturb nobody else.

use coring::coro::{self, JoinError};
use coring::fs::File;
use coring_tests::random::Random;
use coring_tests::tcp::{listen, pair, round_trip_of_ours, serve};
use coring_tests::{alone, check, runtime, until, until_in_flight};
use std::cell::Cell;
use std::io::{BufWriter, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

#[test]
fn one_of_ten_thousand() {
    // Goal: a panic in one coroutine of 10,000 leaves the others running, and reaches join with its text.
    // Method: all have begun before one panics; each then does more and returns its number.
    check(|| {
        runtime(1).run(|| {
            let (all, unlucky) = (10_000, 7_777);
            let begun = Rc::new(Cell::new(0));
            let handles: Vec<_> = (0..all)
                .map(|number| {
                    let begun = Rc::clone(&begun);
                    coro::spawn(move || {
                        begun.set(begun.get() + 1);
                        while begun.get() < all {
                            coro::yield_now();
                        }
                        assert_ne!(number, unlucky, "the unlucky one");
                        coro::sleep(Duration::from_millis(1));
                        assert!(!std::thread::panicking(), "nobody else's panic is seen");
                        number
                    })
                })
                .collect();
            for (number, handle) in handles.into_iter().enumerate() {
                match handle.join() {
                    Ok(value) => assert_eq!((value, true), (number, number != unlucky)),
                    Err(error) => {
                        assert_eq!(number, unlucky);
                        let text = error.panic_message().unwrap();
                        assert!(text.contains("the unlucky one"), "{text}");
                    }
                }
            }
        });
    });
}

#[test]
fn a_buffered_writer_dropped_while_unwinding() {
    // Goal: std's `BufWriter` over a socket, whose destructor writes, neither waits nor aborts when it is dropped by a
    // panic or a cancellation: what was flushed arrives, what was not is lost, and the connection ends.
    // Method: the writer has both in it; the other end, a thread's, reads to the end.
    check(|| {
        for cancelled in [false, true] {
            let reading = runtime(1).run(move || {
                let (ours, mut theirs) = pair();
                let reading = std::thread::spawn(move || {
                    let mut text = String::new();
                    theirs.read_to_string(&mut text).map(|_| text)
                });
                let filled = Rc::new(Cell::new(false));
                let is_filled = Rc::clone(&filled);
                let writing = coro::spawn(move || {
                    let mut writer = BufWriter::new(ours);
                    writer.write_all(b"flushed").unwrap();
                    writer.flush().unwrap();
                    writer.write_all(b"kept back").unwrap();
                    filled.set(true);
                    if cancelled {
                        coro::sleep(Duration::MAX);
                    }
                    resume_unwind(Box::new("unwinds"));
                });
                until("the buffer to be filled", || is_filled.get());
                writing.cancel();
                match writing.join() {
                    Err(JoinError::Cancelled) => assert!(cancelled),
                    Err(JoinError::Panicked(_)) => assert!(!cancelled),
                    other => panic!("{other:?}"),
                }
                reading
            });
            let text = reading.join().unwrap().unwrap();
            assert_eq!(text, "flushed");
        }
    });
}

#[test]
fn panics_among_io() {
    // Goal: coroutines that panic between and in their I/O take their connections down and nobody else's.
    // Method: echo clients of which a random third panic half-way, with payloads of their own; the others finish.
    alone(|| {
        let mut random = Random::new();
        runtime(1).run(|| {
            let before = coring_tests::proc::fds();
            let (listener, address) = listen();
            let server = coro::spawn(move || serve(&listener, 300));
            let clients: Vec<_> = (0..300usize)
                .map(|number| {
                    let panics = random.one_in(3);
                    let client = coro::spawn(move || {
                        let stream = coring::net::TcpStream::connect(address).unwrap();
                        round_trip_of_ours(&stream, number, 3000);
                        if panics {
                            // Without the hook: a hundred reports would tell nobody anything.
                            resume_unwind(Box::new(number));
                        }
                        round_trip_of_ours(&stream, number, 3000);
                    });
                    (number, panics, client)
                })
                .collect();
            for (number, panics, client) in clients {
                match client.join() {
                    Ok(()) => assert!(!panics),
                    Err(JoinError::Panicked(payload)) => {
                        assert!(panics);
                        assert_eq!(payload.into_inner().downcast_ref(), Some(&number));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            server.join().unwrap();
            assert_eq!(coring_tests::in_flight(), 0);
            assert_eq!(
                coring_tests::proc::fds(),
                before,
                "unwinding closed everything"
            );
        });
    });
}

/// Does everything in its destructor that could wait.
struct WaitsInDrop {
    stream: coring::net::TcpStream,
    told: Rc<Cell<Option<String>>>,
}

impl Drop for WaitsInDrop {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking(),
            "the tests drop it while unwinding only"
        );
        let error = self.stream.read(&mut [0; 8]).unwrap_err();
        let opened = File::open("/dev/null");
        coro::sleep(Duration::from_secs(3600));
        coro::yield_now();
        coro::park();
        let joined = coro::spawn(|| ()).join();
        assert!(matches!(joined, Err(JoinError::Refused(_))));
        assert!(opened.is_err());
        self.told.set(Some(error.to_string()));
    }
}

#[test]
fn destructors_that_wait_while_unwinding() {
    // Goal: a blocking call in a destructor that runs during a panic or a cancellation gets an error at once: it
    // neither hangs nor switches, so no other coroutine ever sees `thread::panicking()`.
    // Method: a guard whose drop reads a silent socket, opens, sleeps, yields, parks and joins; a bystander looks.
    check(|| {
        runtime(1).run(|| {
            let stop = Rc::new(Cell::new(false));
            let stopped = Rc::clone(&stop);
            let bystander = coro::spawn(move || {
                while !stopped.get() {
                    assert!(!std::thread::panicking());
                    coro::yield_now();
                }
            });
            for cancelled in [false, true] {
                let (stream, _theirs) = pair();
                let told = Rc::new(Cell::new(None));
                let guard = WaitsInDrop {
                    stream,
                    told: Rc::clone(&told),
                };
                let victim = coro::spawn(move || {
                    let _guard = guard;
                    if cancelled {
                        coro::sleep(Duration::from_secs(3600));
                    }
                    resume_unwind(Box::new("on purpose"))
                });
                coro::yield_now();
                victim.cancel();
                let error = victim.join().map(|(): ()| ()).unwrap_err();
                match cancelled {
                    true => assert!(matches!(error, JoinError::Cancelled), "{error}"),
                    false => assert_eq!(error.panic_message(), Some("on purpose")),
                }
                let text = told.take().expect("the destructor ran to its end");
                assert!(
                    text.contains("destructor") && text.contains("unwinds"),
                    "{text}"
                );
            }
            stop.set(true);
            bystander.join().unwrap();
            assert_eq!(coring_tests::in_flight(), 0);
        });
    });
}

#[test]
fn a_panic_that_is_caught_inside() {
    // Goal: `catch_unwind` in a coroutine works as on a thread, also when the coroutine waits before and after.
    // Method: panics are caught around I/O, in several coroutines that interleave.
    check(|| {
        runtime(1).run(|| {
            let catchers: Vec<_> = (0..50u32)
                .map(|number| {
                    coro::spawn(move || {
                        for _ in 0..20 {
                            let caught = catch_unwind(AssertUnwindSafe(|| {
                                coro::yield_now();
                                resume_unwind(Box::new(number))
                            }));
                            let payload = caught.map(|(): ()| ()).unwrap_err();
                            assert_eq!(payload.downcast_ref(), Some(&number));
                            assert!(!std::thread::panicking());
                            coro::yield_now();
                        }
                    })
                })
                .collect();
            catchers
                .into_iter()
                .for_each(|catcher| catcher.join().unwrap());
        });
    });
}

#[test]
fn mains_panic_comes_out_after_all_has_stopped() {
    // Goal: a panic of main leaves `run` with its payload, when coroutines on all cores have ended, and the thread
    // can start the next runtime.
    // Method: coroutines on two cores hold tokens that count; the count is read when the panic is caught.
    use std::sync::Arc;
    check(|| {
        for _ in 0..20 {
            let token = Arc::new(());
            let runtime = runtime(2);
            let caught = catch_unwind(AssertUnwindSafe(|| {
                runtime.run(|| {
                    let hold = |token: Arc<()>| {
                        let (mut stream, _theirs) = pair();
                        coro::spawn(move || {
                            let _token = token;
                            stream.read(&mut [0; 8]).map(drop)
                        });
                        until_in_flight(1);
                    };
                    hold(Arc::clone(&token));
                    let there = Arc::clone(&token);
                    coring::spawn_on(1, move || hold(there)).join().unwrap();
                    resume_unwind(Box::new("main gives up"));
                });
            }));
            let payload = caught.unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"main gives up"));
            assert_eq!(Arc::strong_count(&token), 1, "everybody has ended");
        }
    });
}

#[expect(unsafe_code, reason = "puts a broken pipe in the place of stderr")]
#[test]
fn a_panic_while_stderr_is_broken() {
    // Goal: the report of a panic that nobody can read is no second panic: the coroutine ends, the process goes on.
    // Method: stderr is a pipe whose reader has gone, in a process of its own.
    use std::os::fd::AsRawFd;
    alone(|| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        // SAFETY: both are open, and nobody owns descriptor 2.
        let outcome = unsafe { libc::dup2(writer.as_raw_fd(), 2) };
        assert_eq!(outcome, 2);
        runtime(1).run(|| {
            let handle = coro::spawn(|| panic!("unheard"));
            assert!(matches!(handle.join(), Err(JoinError::Panicked(_))));
        });
    });
}
