//! Stopping with work under way: everything is cancelled, reaped, unwound and closed.

use crate::overlay::Overlay;
use coring::coro;
use coring::fs::File;
use coring::net::TcpStream;
use coring_tests::conserve::Token;
use coring_tests::tcp::{listen, pair};
use coring_tests::{
    alone, builder, check, proc, rounds, runtime, skip, until_in_flight, until_outside,
};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// More than the buffers of a socket take. Never written to, so it costs no memory.
static MUCH: [u8; 32 << 20] = [0; 32 << 20];

/// Spawns coroutines that wait in every way there is, each with a token. How many.
fn wait_in_every_way(drops: &Arc<AtomicUsize>) -> usize {
    let mut count = 0;
    let mut spawn = |wait: Box<dyn FnOnce()>| {
        let token = Token(Arc::clone(drops));
        count += 1;
        coro::spawn(move || {
            let _token = token;
            wait();
        });
    };
    for _ in 0..20 {
        let (mut ours, theirs) = pair();
        spawn(Box::new(move || {
            let _theirs = theirs;
            assert!(coring::io::is_cancelled(
                &ours.read(&mut [0; 64]).unwrap_err()
            ));
        }));
        let (mut ours, theirs) = pair();
        spawn(Box::new(move || {
            let _theirs = theirs;
            assert!(ours.write_all(&MUCH).is_err());
        }));
        let (mut ours, theirs) = pair();
        spawn(Box::new(move || {
            let _theirs = theirs;
            loop {
                let _ = ours.read(&mut [0; 64]);
            }
        }));
        let (listener, _) = listen();
        spawn(Box::new(move || {
            assert!(listener.accept().is_err());
        }));
        spawn(Box::new(|| coro::sleep(Duration::MAX)));
        spawn(Box::new(|| {
            loop {
                coro::park();
            }
        }));
        spawn(Box::new(|| {
            loop {
                coro::yield_now();
            }
        }));
        let forever = coro::spawn(|| coro::sleep(Duration::MAX));
        spawn(Box::new(move || drop(forever.join())));
        spawn(Box::new(|| {
            let there = coring::spawn_on(0, || coro::sleep(Duration::MAX));
            drop(there.join());
        }));
        spawn(Box::new(|| {
            // Cancelled in the middle of a clean-up that takes a while.
            coro::shield(|| coro::sleep(Duration::from_millis(20)));
        }));
        spawn(Box::new(|| {
            // Spawns more while it is being stopped.
            struct Late;
            impl Drop for Late {
                fn drop(&mut self) {
                    drop(coro::try_spawn(|| coro::sleep(Duration::MAX)));
                }
            }
            let _late = Late;
            coro::sleep(Duration::MAX);
        }));
    }
    count
}

#[test]
fn everything_that_waits_is_ended() {
    // Goal: when main returns, coroutines that wait in any way on any core are unwound, their connections are closed,
    // and the process is as it was before; nobody is abandoned.
    // Method: tokens on every stack count their drops; descriptors and threads are counted; several rounds. The grace
    // period is an hour: who waited for its end would meet the watchdog.
    alone(|| {
        runtime(2).run(|| ());
        let before = (proc::fds(), proc::threads());
        for round in 0..rounds(5, 100) {
            let drops = Arc::new(AtomicUsize::new(0));
            let patient = builder(2).shutdown_grace(Duration::from_secs(3600));
            let spawned = patient.build().unwrap().run(|| {
                let there = Arc::clone(&drops);
                let there = coring::spawn_on(1, move || {
                    let count = wait_in_every_way(&there);
                    (0..round).for_each(|_| coro::yield_now());
                    count
                });
                let here = wait_in_every_way(&drops);
                there.join().unwrap() + here
            });
            assert_eq!(
                drops.load(Ordering::Relaxed),
                spawned,
                "unwound, in round {round}"
            );
            assert_eq!(proc::fds(), before.0, "in round {round}");
            // The kernel takes a thread off its list a moment after who joins it was told.
            until_outside("the threads have ended", || proc::threads() <= before.1);
        }
    });
}

#[test]
fn files_dropped_at_the_very_end_are_closed() {
    // Goal: a close is not lost when it was the last thing that happened.
    // Method: main drops files as its last act, on both cores; descriptors are counted after.
    alone(|| {
        runtime(2).run(|| ());
        let before = proc::fds();
        for _ in 0..rounds(50, 1000) {
            runtime(2).run(|| {
                let open = || {
                    (0..5)
                        .map(|_| File::open("/dev/null").unwrap())
                        .collect::<Vec<_>>()
                };
                let there = coring::spawn_on(1, move || drop(open()));
                let here = open();
                there.join().unwrap();
                drop(here);
            });
            assert_eq!(proc::fds(), before);
        }
    });
}

#[test]
fn descriptors_of_dropped_files_are_free() {
    // Goal: the descriptors of dropped files are there for what needs one next.
    // Method: nearly all descriptors there may be are opened and dropped by main, which then opens others without waiting.
    alone(|| {
        runtime(1).run(|| {
            proc::limit_files(1000);
            let files: Vec<File> = (0..900).map(|_| File::open("/dev/null").unwrap()).collect();
            drop(files);
            let others: std::io::Result<Vec<_>> = (0..400).map(|_| std::io::pipe()).collect();
            others.unwrap();
        });
    });
}

#[test]
fn a_handle_outlives_its_core() {
    // Goal: results and handles may be kept after the runtime has gone: a value is still there, who waits is told.
    // Method: handles are smuggled out of `run`; joined on this plain thread.
    check(|| {
        let (value, sleeper) = runtime(1).run(|| {
            let value = coro::spawn(|| String::from("kept"));
            coro::yield_now();
            (value, coro::spawn(|| coro::sleep(Duration::MAX)))
        });
        assert_eq!(value.join().unwrap(), "kept");
        assert!(sleeper.is_finished(), "unwound by the stop");
        assert!(matches!(sleeper.join(), Err(coro::JoinError::Cancelled)));
    });
}

#[test]
fn connections_outlive_their_core() {
    // Goal: a stream is a plain descriptor: it leaves `run` open, works in the next runtime and with std.
    // Method: half of a conversation in each.
    check(|| {
        let (ours, mut theirs): (TcpStream, _) = pair();
        runtime(1).run(|| (&ours).write_all(b"one ").unwrap());
        runtime(1).run(|| (&ours).write_all(b"two ").unwrap());
        std::net::TcpStream::from(ours).write_all(b"three").unwrap();
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two three");
    });
}

#[test]
fn a_peer_that_writes_while_all_stops() {
    // Goal: bytes that arrive while a core is being stopped are written nowhere but into buffers that still stand.
    // Method: threads flood connections whose readers are being cancelled; the readers' stacks hold canaries, and
    // each runtime's memory is recycled by the next one.
    check(|| {
        for _ in 0..rounds(30, 1000) {
            let peers = Arc::new(Mutex::new(Vec::new()));
            let intact = Arc::new(AtomicUsize::new(0));
            runtime(1).run(|| {
                for _ in 0..16 {
                    let (mut ours, theirs) = pair();
                    let intact = Arc::clone(&intact);
                    let flood =
                        std::thread::spawn(move || while (&theirs).write(&[0xee; 4096]).is_ok() {});
                    peers.lock().unwrap().push(flood);
                    coro::spawn(move || {
                        let mut areas = [[0x55u8; 512], [0; 512], [0x55; 512]];
                        while ours.read(std::hint::black_box(&mut areas[1])).is_ok() {}
                        let whole = |area: &[u8; 512]| area.iter().all(|byte| *byte == 0x55);
                        let areas = std::hint::black_box(&areas);
                        intact.fetch_add(
                            usize::from(whole(&areas[0]) && whole(&areas[2])),
                            Ordering::Relaxed,
                        );
                    });
                }
                until_in_flight_at_least_once();
            });
            assert_eq!(intact.load(Ordering::Relaxed), 16);
            let peers = std::mem::take(&mut *peers.lock().unwrap());
            peers.into_iter().for_each(|peer| peer.join().unwrap());
        }
    });
}

fn until_in_flight_at_least_once() {
    coring_tests::until("reads are under way", || coring_tests::in_flight() > 0);
}

#[test]
fn short_grace_is_enough_for_who_listens() {
    // Goal: the grace period bounds the stop, it does not delay it: a long one costs nothing when all end at once.
    // Method: grace of an hour, with blocked reads on both cores.
    check(|| {
        let start = Instant::now();
        let hour = Duration::from_secs(3600);
        builder(2).shutdown_grace(hour).build().unwrap().run(|| {
            let block = || {
                let (mut ours, theirs) = pair();
                coro::spawn(move || ours.read(&mut [0; 8]).map(|_| drop(theirs)));
                until_in_flight(1);
            };
            coring::spawn_on(1, block).join().unwrap();
            block();
        });
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn files_dropped_before_the_end_are_closed() {
    // Goal: files are closed when the runtime ends, also on a file system whose close may wait.
    // Method: an overlay mount of our own, where the kernel and our rights allow one; many files dropped at the end.
    alone(|| {
        let scratch = tempfile::tempdir().unwrap();
        let Some(mount) = Overlay::mount(scratch.path()) else {
            skip!("overlayfs cannot be mounted here");
        };
        runtime(1).run(|| ());
        let before = proc::fds();
        for _ in 0..5 {
            runtime(1).run(|| {
                let path = mount.path().join("file");
                drop(File::create(&path).unwrap());
                let files: Vec<File> = (0..300).map(|_| File::open(&path).unwrap()).collect();
                drop(files);
            });
        }
        assert_eq!(proc::fds(), before, "descriptors");
    });
}
