//! The ring on the running kernel. Each test waits with a deadline, so that a lost completion is a failure and not
//! a hang. A kernel without io_uring fails them: skipping would hide that nothing was tested.

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::sim::{Faults, SimKernel};
use crate::{Features, TABLE, monotonic_ns, op};

mod batch;
mod multishot;
mod parts;
mod polled;
mod portions;
mod receives;
mod restricted;
mod wakes;

const SECOND: u64 = 1_000_000_000;

fn open(sq_entries: u32, cq_entries: u32, features: Features) -> Ring {
    let options = SetupOptions {
        sq_entries,
        cq_entries,
        features,
        ..SetupOptions::default()
    };
    Ring::open(&options).expect("these tests need io_uring")
}

fn ring() -> Ring {
    open(64, 256, Features::ALL)
}

fn token(number: usize) -> Token {
    Token::from_number(NonZeroUsize::new(number + 1).unwrap())
}

/// Submits an operation on memory that the test keeps until the end.
fn submit(ring: &mut Ring, sqe: Sqe, number: usize) -> OpId {
    // SAFETY: every test waits for its operations, or drains the ring, before its buffers go.
    unsafe { ring.submit(sqe, token(number)) }.expect("there is room")
}

/// Turns until `count` tokens came back, in the order they came.
fn wait(ring: &mut Ring, count: usize) -> Vec<usize> {
    let mut woken = Vec::new();
    let deadline = monotonic_ns() + 10 * SECOND;
    while woken.len() < count {
        let mut wake = |token: Token| woken.push(token.number().get() - 1);
        ring.turn(Wait::Until(Some(deadline)), &mut wake).unwrap();
        assert!(
            monotonic_ns() < deadline,
            "{} of {count} came back",
            woken.len()
        );
    }
    woken
}

fn drain(ring: &mut Ring) {
    ring.drain(monotonic_ns() + 10 * SECOND, &mut |_| ())
        .expect("everything can be cancelled");
    assert_eq!(ring.in_flight(), 0);
}

/// Every set of features worth a run: all, none, and each one off.
fn feature_sets() -> impl Iterator<Item = Features> {
    let each_off = TABLE.iter().map(|row| Features::ALL.without(row.feature));
    [Features::ALL, Features::NONE].into_iter().chain(each_off)
}

#[test]
fn nops_come_back_in_order() {
    let mut ring = ring();
    let ops: Vec<OpId> = (0..50)
        .map(|n| submit(&mut ring, op::msg::nop(), n))
        .collect();
    assert_eq!((ring.pending(), ring.in_flight()), (50, 50));
    assert_eq!(wait(&mut ring, 50), (0..50).collect::<Vec<_>>());
    assert_eq!((ring.pending(), ring.in_flight()), (0, 0));
    for op in ops {
        assert_eq!(ring.take(op).unwrap().result, 0);
        assert_eq!(ring.take(op), None);
    }
}

/// Goal: bytes arrive in the caller's buffer, with every set of features.
#[test]
fn a_pipe_carries_bytes_whatever_is_switched_off() {
    for features in feature_sets() {
        let mut ring = open(64, 256, features);
        let used = ring.capabilities().features();
        assert_eq!(
            used.iter().filter(|used| !features.has(*used)).count(),
            0,
            "{features:?}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        let mut buffer = [0u8; 8];
        let read = op::fs::read(
            reader.as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
            op::fs::AT_POSITION,
        );
        let read = submit(&mut ring, read, 0);
        ring.turn(Wait::Submit, &mut |_| panic!("the pipe is empty"))
            .unwrap();
        assert!(ring.is_in_flight(read));

        let write = op::fs::write(
            writer.as_raw_fd(),
            b"hello".as_ptr(),
            5,
            op::fs::AT_POSITION,
        );
        let write = submit(&mut ring, write, 1);
        wait(&mut ring, 2);
        assert_eq!(ring.take(write).unwrap().result, 5);
        assert_eq!(ring.take(read).unwrap().result, 5);
        assert_eq!(&buffer[..5], b"hello");
    }
}

#[test]
fn an_error_is_the_operations_own() {
    let mut ring = ring();
    let op = submit(&mut ring, op::fs::close(-1), 0);
    wait(&mut ring, 1);
    let error = ring.take(op).unwrap().into_result().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

#[test]
fn a_cancelled_read_ends_and_leaves_the_bytes() {
    let mut ring = ring();
    let (reader, mut writer) = UnixStream::pair().unwrap();
    let mut buffer = [0u8; 8];
    let recv = op::net::recv(reader.as_raw_fd(), buffer.as_mut_ptr(), buffer.len(), 0);
    let op = submit(&mut ring, recv, 0);
    ring.turn(Wait::Submit, &mut |_| panic!("nothing was sent"))
        .unwrap();
    ring.cancel(op);
    wait(&mut ring, 1);
    assert_eq!(ring.take(op).unwrap().result, -libc::ECANCELED);
    ring.cancel(op); // Long done: nothing happens.
    assert_eq!(ring.pending(), 0);

    writer.write_all(b"later").unwrap();
    let mut later = [0u8; 5];
    (&reader).read_exact(&mut later).unwrap();
    assert_eq!((&later, buffer), (b"later", [0; 8]));
}

/// Goal: however a cancel and a completion race, the operation ends once, and a byte is either delivered or still
/// in the socket. Method: a thread writes at changing moments while the operation is being cancelled.
#[test]
fn a_cancel_racing_a_completion_loses_no_byte() {
    let mut ring = ring();
    let (reader, mut writer) = UnixStream::pair().unwrap();
    let (go, went) = mpsc::channel::<u64>();
    let peer = thread::spawn(move || {
        for spins in went {
            (0..spins).for_each(|_| std::hint::spin_loop());
            writer.write_all(&[7]).unwrap();
        }
    });
    let (mut delivered, mut left) = (0, 0);
    for round in 0..2000 {
        let mut buffer = [0u8; 1];
        let op = submit(
            &mut ring,
            op::net::recv(reader.as_raw_fd(), buffer.as_mut_ptr(), 1, 0),
            0,
        );
        ring.turn(Wait::Submit, &mut |_| panic!("nothing was sent"))
            .unwrap();
        go.send(round * 7 % 3000).unwrap();
        (0..round % 1000).for_each(|_| std::hint::spin_loop());
        ring.cancel(op);
        wait(&mut ring, 1);
        match ring.take(op).unwrap().result {
            1 => delivered += 1,
            result => {
                assert_eq!(result, -libc::ECANCELED);
                (&reader).read_exact(&mut buffer).unwrap();
                left += 1;
            }
        }
        assert_eq!(buffer, [7]);
    }
    drop(go);
    peer.join().unwrap();
    assert_eq!(
        (delivered + left, ring.in_flight(), ring.stats().stale),
        (2000, 0, 0)
    );
}

#[test]
fn a_submission_queue_of_eight_takes_a_hundred_operations() {
    for features in [Features::ALL, Features::NONE] {
        let mut ring = open(8, 256, features);
        let ops: Vec<OpId> = (0..100)
            .map(|n| submit(&mut ring, op::msg::nop(), n))
            .collect();
        assert!(ring.stats().sq_full >= 11);
        assert_eq!(wait(&mut ring, 100).len(), 100);
        assert!(ops.into_iter().all(|op| ring.take(op).is_some()));
    }
}

#[test]
fn a_completion_queue_of_sixteen_loses_nothing() {
    for features in [Features::ALL, Features::NONE] {
        let mut ring = open(8, 16, features);
        let ops: Vec<OpId> = (0..200)
            .map(|n| submit(&mut ring, op::msg::nop(), n))
            .collect();
        assert_eq!(
            wait(&mut ring, 200),
            (0..200).collect::<Vec<_>>(),
            "in order, too"
        );
        assert!(ring.stats().overflows > 0);
        assert!(ops.into_iter().all(|op| ring.take(op).is_some()));
    }
}

#[test]
fn the_bound_on_operations_is_an_error_that_says_so() {
    let options = SetupOptions {
        max_operations: 2,
        ..SetupOptions::default()
    };
    let mut ring = Ring::open(&options).unwrap();
    submit(&mut ring, op::msg::nop(), 0);
    submit(&mut ring, op::msg::nop(), 1);
    // SAFETY: a nop points at nothing.
    let refused = unsafe { ring.submit(op::msg::nop(), token(2)) }.unwrap_err();
    assert!(refused.to_string().contains("max_operations"), "{refused}");
    drain(&mut ring);
}

#[test]
fn cancels_find_room_in_a_full_queue() {
    let mut ring = open(8, 16, Features::ALL);
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut buffers = [[0u8; 4]; 30];
    let mut ops = Vec::new();
    for (n, buffer) in buffers.iter_mut().enumerate() {
        let read = op::fs::read(
            reader.as_raw_fd(),
            buffer.as_mut_ptr(),
            4,
            op::fs::AT_POSITION,
        );
        ops.push(submit(&mut ring, read, n));
    }
    for op in &ops {
        ring.cancel(*op);
    }
    wait(&mut ring, 30);
    for op in ops {
        assert_eq!(ring.take(op).unwrap().result, -libc::ECANCELED);
    }
}

#[test]
fn closing_ends_nothing_but_cancelling_the_descriptor_does() {
    let mut ring = ring();
    let (reader, _writer) = UnixStream::pair().unwrap();
    let mut buffers = [[0u8; 4]; 3];
    for (n, buffer) in buffers.iter_mut().enumerate() {
        submit(
            &mut ring,
            op::net::recv(reader.as_raw_fd(), buffer.as_mut_ptr(), 4, 0),
            n,
        );
    }
    ring.cancel_fd(reader.as_raw_fd()).unwrap();
    wait(&mut ring, 3);
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn drain_ends_everything() {
    for features in [Features::ALL, Features::NONE] {
        let mut ring = open(16, 32, features);
        let (reader, _writer) = UnixStream::pair().unwrap();
        let mut buffers = vec![[0u8; 4]; 100];
        for (n, buffer) in buffers.iter_mut().enumerate() {
            submit(
                &mut ring,
                op::net::recv(reader.as_raw_fd(), buffer.as_mut_ptr(), 4, 0),
                n,
            );
        }
        drain(&mut ring);
    }
}

#[test]
fn a_close_that_nobody_waits_for_takes_no_place() {
    // Goal: with one operation allowed, closes do not keep out who waits; there is a bound on them, too.
    let options = SetupOptions {
        max_operations: 1,
        ..SetupOptions::default()
    };
    let mut ring = Ring::open(&options).unwrap();
    // SAFETY: a nop points at nothing.
    let detach = |ring: &mut Ring| unsafe { ring.submit_detached(op::msg::nop()) };
    detach(&mut ring).unwrap();
    let refused = detach(&mut ring).unwrap_err();
    assert!(matches!(
        refused,
        SubmitError::TooManyOperations { limit: 1 }
    ));
    let op = submit(&mut ring, op::msg::nop(), 0);
    assert_eq!(ring.in_flight(), 2);
    wait(&mut ring, 1);
    assert_eq!(ring.take(op).unwrap().result, 0);
    drain(&mut ring);
    detach(&mut ring).unwrap();
    drain(&mut ring);
    assert_eq!((ring.stats().submitted, ring.stats().stale), (3, 0));
}

#[test]
fn a_detached_close_is_counted_until_it_is_done() {
    let mut ring = ring();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let fd = std::os::fd::IntoRawFd::into_raw_fd(reader);
    // SAFETY: a close points at nothing.
    unsafe { ring.submit_detached(op::fs::close(fd)) }.unwrap();
    assert_eq!(ring.in_flight(), 1);
    while ring.in_flight() != 0 {
        ring.turn(Wait::Until(None), &mut |_| panic!("nobody waits"))
            .unwrap();
    }
    assert_eq!(
        writer.write(b"x").unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[test]
fn a_deadline_is_kept_and_never_early() {
    for features in [Features::ALL, Features::ALL.without(Feature::AbsTimer)] {
        let mut ring = open(8, 16, features);
        for delay in [0, 1000, 50_000, 1_000_000, 20_000_000] {
            let deadline = monotonic_ns() + delay;
            ring.turn(Wait::Until(Some(deadline)), &mut |_| ()).unwrap();
            let now = monotonic_ns();
            assert!(now >= deadline, "{} ns early", deadline - now);
            assert!(
                now < deadline + SECOND,
                "{} ms late",
                (now - deadline) / 1_000_000
            );
        }
        // One that has passed does not block, and still submits.
        let op = submit(&mut ring, op::msg::nop(), 0);
        ring.turn(Wait::Until(Some(1)), &mut |_| ()).unwrap();
        assert!(ring.take(op).is_some());
    }
}

/// Goal: a deadline at the end of time is none, and no overflow makes a busy loop of it.
#[test]
fn the_farthest_deadline_sleeps() {
    for features in [Features::ALL, Features::ALL.without(Feature::AbsTimer)] {
        let mut ring = open(8, 16, features);
        let doorbell = ring.doorbell();
        let peer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            doorbell.ring();
        });
        while ring.stats().wakes == 0 {
            ring.turn(Wait::Until(Some(u64::MAX)), &mut |_| ()).unwrap();
        }
        assert!(
            ring.stats().enters < 10,
            "{} enters to sleep once",
            ring.stats().enters
        );
        peer.join().unwrap();
    }
}

#[test]
fn a_kernel_timer_fires() {
    let mut ring = ring();
    let time = crate::types::Timespec::from(Duration::from_millis(5));
    let start = Instant::now();
    let op = submit(&mut ring, op::time::timeout(&raw const time, false), 0);
    wait(&mut ring, 1);
    assert_eq!(ring.take(op).unwrap().result, -libc::ETIME);
    assert!(start.elapsed() >= Duration::from_millis(5));
}

/// Goal: an enter runs only some of the deferred completions; a turn goes on until there are none.
#[test]
fn a_turn_brings_everything_that_is_ready() {
    let mut ring = ring();
    let mut buffers = [[0u8; 1]; 100];
    let mut streams = Vec::new();
    for (n, buffer) in buffers.iter_mut().enumerate() {
        let (reader, writer) = UnixStream::pair().unwrap();
        submit(
            &mut ring,
            op::net::recv(reader.as_raw_fd(), buffer.as_mut_ptr(), 1, 0),
            n,
        );
        streams.push((reader, writer));
    }
    ring.turn(Wait::Submit, &mut |_| panic!("nothing was sent"))
        .unwrap();
    for (_, writer) in &mut streams {
        writer.write_all(&[1]).unwrap();
    }
    assert!(ring.has_events(), "seen without a system call");
    assert_eq!(ring.turn(Wait::Until(None), &mut |_| ()).unwrap(), 100);
    assert!(!ring.has_events());
}

extern "C" fn on_signal(_: libc::c_int) {}

/// Goal: signals disturb nothing. Method: a thread sends 20,000 to one that reads from and sleeps in its ring.
#[test]
fn a_storm_of_signals_is_not_seen() {
    let action = libc::sigaction {
        sa_sigaction: on_signal as *const () as usize,
        sa_mask: {
            let mut mask = std::mem::MaybeUninit::uninit();
            // SAFETY: `mask` is a writable sigset_t.
            unsafe { libc::sigemptyset(mask.as_mut_ptr()) };
            // SAFETY: initialised by sigemptyset.
            unsafe { mask.assume_init() }
        },
        sa_flags: 0,
        sa_restorer: None,
    };
    // SAFETY: the handler does nothing, so it is safe in any context.
    let failed = unsafe { libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()) };
    assert_eq!(failed, 0);
    // SAFETY: takes no arguments.
    let target = unsafe { libc::pthread_self() };
    let (mut writer, reader) = UnixStream::pair().unwrap();
    let storm = thread::spawn(move || {
        for round in 0..20_000 {
            // SAFETY: the target thread joins this one before it ends.
            unsafe { libc::pthread_kill(target, libc::SIGUSR2) };
            if round % 100 == 0 {
                writer.write_all(&[1]).unwrap();
            }
        }
    });
    let mut ring = ring();
    for _ in 0..200 {
        let mut buffer = [0u8; 1];
        let op = submit(
            &mut ring,
            op::net::recv(reader.as_raw_fd(), buffer.as_mut_ptr(), 1, 0),
            0,
        );
        wait(&mut ring, 1);
        assert_eq!((ring.take(op).unwrap().result, buffer), (1, [1]));
        let deadline = monotonic_ns() + 10_000;
        while monotonic_ns() < deadline {
            ring.turn(Wait::Until(Some(deadline)), &mut |_| ()).unwrap();
        }
    }
    storm.join().unwrap();
}

#[test]
fn this_kernels_features_are_found() {
    let ring = ring();
    let capabilities = ring.capabilities();
    println!("{capabilities:#?}");
    // The floor has these; what is newer is only printed.
    for feature in [
        Feature::SingleIssuer,
        Feature::DeferTaskrun,
        Feature::MsgRing,
        Feature::RegisteredRingFd,
    ] {
        assert!(
            capabilities.has(feature),
            "{feature} is missing, older than the floor?"
        );
    }
    assert!(capabilities.has_opcode(crate::opcode::Nop::CODE) && !capabilities.has_opcode(255));
}

#[test]
fn workers_can_be_bounded_and_placed() {
    let mut ring = ring();
    ring.set_worker_limits(2, 4).unwrap();
    ring.set_worker_affinity(&[0]).unwrap();
    let beyond = ring.set_worker_affinity(&[1 << 20]).unwrap_err();
    assert_eq!(beyond.kind(), io::ErrorKind::InvalidInput);
    // An fsync is always done by a worker.
    let file = tempfile::tempfile().unwrap();
    let op = submit(&mut ring, op::fs::fsync(file.as_raw_fd()), 0);
    wait(&mut ring, 1);
    assert_eq!(ring.take(op).unwrap().result, 0);
}

#[test]
fn no_result_before_its_token() {
    // Goal: an operation whose completion was reaped to make room for another submission is not done before its
    // token was handed out; else its owner could go on, and the token come when it has gone.
    // Method: a simulated kernel that is busy most of the time, so that submissions into a full queue have to reap.
    let mut made_room = 0;
    for seed in 0..200 {
        let faults = Faults {
            busy: 900,
            ..Faults::NONE
        };
        let options = SetupOptions {
            sq_entries: 8,
            cq_entries: 16,
            ..SetupOptions::default()
        };
        let mut ring = SimKernel::new(seed, faults).ring(&options);
        let mut ops = Vec::new();
        for number in 0..100 {
            // SAFETY: a nop points at nothing.
            if let Ok(op) = unsafe { ring.submit(op::msg::nop(), token(number)) } {
                ops.push((number, op));
            }
            assert!(
                ops.iter().all(|&(_, op)| ring.take(op).is_none()),
                "seed {seed}"
            );
        }
        made_room += ring.stats().sq_full;
        let mut handed_out = Vec::new();
        while ring.in_flight() != 0 {
            ring.turn(Wait::Submit, &mut |token| {
                handed_out.push(token.number().get() - 1)
            })
            .unwrap();
        }
        for (number, op) in ops {
            assert!(
                handed_out.contains(&number) && ring.take(op).is_some(),
                "seed {seed}"
            );
        }
    }
    assert!(made_room > 0, "the queue was never full");
}
