//! A turn begins some receives, the next ones the others, and nothing is lost, late or out of order for it.

use std::os::fd::IntoRawFd;

use proptest::prelude::*;

use super::*;
use crate::{Carries, opcode};

/// Receives of a turn.
const PART: usize = 4;

fn ring_in_parts(sq_entries: u32, features: Features) -> Ring {
    let mut ring = open(sq_entries, 256, features);
    ring.set_receives_at_once(4);
    ring
}

fn recv(socket: &UnixStream, buffer: &mut [u8], flags: i32) -> Sqe {
    op::net::recv(socket.as_raw_fd(), buffer.as_mut_ptr(), buffer.len(), flags)
}

fn turn(ring: &mut Ring, wait: Wait) -> Vec<usize> {
    let mut woken = Vec::new();
    ring.turn(wait, &mut |token: Token| {
        woken.push(token.number().get() - 1);
    })
    .unwrap();
    woken
}

/// Goal: a turn begins so many receives and no more, the next ones the others, in the order of the calls, and whatever else is asked
/// for goes at once. Method: all find what they wait for; a nop behind them.
#[test]
fn receives_take_turns() {
    for features in feature_sets() {
        let mut ring = ring_in_parts(64, features);
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(&[7; 3 * PART]).unwrap();
        let mut buffers = [[0]; 3 * PART - 1];
        for (n, buffer) in buffers.iter_mut().enumerate() {
            submit(&mut ring, recv(&here, buffer, 0), n);
        }
        let last = buffers.len();
        submit(&mut ring, op::msg::nop(), last);
        assert_eq!(ring.pending(), last + 1);
        let parts = [
            (0..PART).chain([last]).collect(),
            (PART..2 * PART).collect(),
            (2 * PART..last).collect::<Vec<_>>(),
        ];
        for part in parts {
            assert!(ring.pending() > 0 && ring.has_events());
            assert_eq!(turn(&mut ring, Wait::Submit), part, "{features:?}");
        }
        assert_eq!((ring.pending(), ring.has_events()), (0, false));
    }
}

/// Goal: the ring does not sleep before it has begun what waits. Method: only the last of many receives finds something.
#[test]
fn receives_that_wait_are_not_slept_over() {
    let mut ring = ring_in_parts(64, Features::ALL);
    let (here, mut there) = UnixStream::pair().unwrap();
    let (silent, _other) = UnixStream::pair().unwrap();
    there.write_all(b"x").unwrap();
    let mut buffers = [[0]; 3 * PART];
    let last = buffers.len() - 1;
    for (n, buffer) in buffers.iter_mut().enumerate() {
        let socket = if n == last { &here } else { &silent };
        submit(&mut ring, recv(socket, buffer, 0), n);
    }
    assert_eq!(wait(&mut ring, 1), [last]);
    drain(&mut ring);
}

/// Goal: a turn begins no more than its part after all that waited were begun early, either. Method: some are left over when a cancel
/// has them begun.
#[test]
fn receives_take_turns_after_they_were_begun_early() {
    let mut ring = ring_in_parts(64, Features::ALL);
    let (here, mut there) = UnixStream::pair().unwrap();
    there.write_all(&[7; 9 * PART]).unwrap();
    let mut buffers = [[0]; 6 * PART];
    let (early, late) = buffers.split_at_mut(3 * PART);
    let mut ops = Vec::new();
    for (n, buffer) in early.iter_mut().enumerate() {
        ops.push(submit(&mut ring, recv(&here, buffer, 0), n));
    }
    assert_eq!(turn(&mut ring, Wait::Submit).len(), PART);
    ring.cancel(ops[PART]);
    assert!(!ring.has_receives_waiting());
    assert_eq!(turn(&mut ring, Wait::Submit).len(), 2 * PART);
    for (n, buffer) in late.iter_mut().enumerate() {
        submit(&mut ring, recv(&here, buffer, 0), n);
    }
    for _ in 0..3 {
        assert_eq!(turn(&mut ring, Wait::Submit).len(), PART);
    }
    assert!(!ring.has_receives_waiting());
}

/// Goal: a receive with many results comes after those that wait. Method: all are about one socket.
#[test]
fn a_receive_with_many_results_overtakes_none() {
    let mut ring = ring_in_parts(64, Features::ALL);
    let pool = ring.provide_buffers(16, 64).unwrap();
    let (here, mut there) = UnixStream::pair().unwrap();
    there.write_all(b"0123456789").unwrap();
    let mut buffers = [[0]; PART + 1];
    for (n, buffer) in buffers.iter_mut().enumerate() {
        submit(&mut ring, recv(&here, buffer, 0), n);
    }
    let many = op::net::recv_multishot(here.as_raw_fd(), pool.group().unwrap(), 0);
    // SAFETY: the pool is kept by what the completions carry.
    let many = unsafe { ring.submit_multishot(many, Carries::Buffers(pool.clone())) }.unwrap();
    wait(&mut ring, PART + 1);
    assert_eq!(buffers.concat(), b"01234");
    let event = ring.next(many).expect("the rest was there, too");
    assert_eq!(event.buffer.as_deref(), Some(&b"56789"[..]));
    ring.abandon(many);
    drain(&mut ring);
}

/// Goal: what may be about a receive that waits comes after it. Method: cancels of each kind, closes of both kinds, and a descriptor
/// that is closed by hand after it was handed over. Without an end of its own the receive would say so: nothing was sent, or is
/// sent only when the descriptor is gone.
#[test]
fn a_receive_is_begun_before_what_may_end_it() {
    for step in 0..7 {
        let mut ring = ring_in_parts(64, Features::ALL);
        let (silent, _other) = UnixStream::pair().unwrap();
        let (here, mut there) = UnixStream::pair().unwrap();
        let mut buffers = [[0; 8]; PART];
        for (n, buffer) in buffers.iter_mut().enumerate() {
            submit(&mut ring, recv(&silent, buffer, 0), n);
        }
        let mut buffer = [0; 8];
        let received = submit(&mut ring, recv(&here, &mut buffer, 0), PART);
        let close = op::fs::close(here.as_raw_fd());
        match step {
            0 => ring.cancel(received),
            1 => ring.cancel_fd(here.as_raw_fd()).unwrap(),
            2 => ring.cancel_all().unwrap(),
            3 => {
                let cancel = opcode::AsyncCancel::new(received.user_data()).build();
                submit(&mut ring, cancel, PART + 1);
            }
            4 => _ = submit(&mut ring, close, PART + 1),
            // SAFETY: a close points at nothing.
            5 => unsafe { ring.submit_detached(close) }.unwrap(),
            _ => {
                ring.hand_over(&mut |_| panic!("nothing was sent")).unwrap();
                assert_eq!(ring.pending(), 0);
            }
        }
        match step {
            6 => drop(here),
            // The ring's.
            4 | 5 => _ = here.into_raw_fd(),
            _ => {}
        }
        let expected = if step < 4 {
            -libc::ECANCELED
        } else {
            turn(&mut ring, Wait::Submit);
            there.write_all(b"bye").unwrap();
            3
        };
        let deadline = monotonic_ns() + 10 * SECOND;
        while ring.is_in_flight(received) {
            assert!(monotonic_ns() < deadline, "step {step}");
            turn(&mut ring, Wait::Until(Some(deadline)));
        }
        assert_eq!(ring.take(received).unwrap().result, expected, "step {step}");
        drain(&mut ring);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Receive,
    Nop,
    Cancel(usize),
    Turn,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Goal: receives are begun in the order of their calls, each once, whatever is asked for in between and however short the queue
    /// is. Method: each takes the next byte of one stream, and all bytes are there.
    #[test]
    fn no_receive_overtakes_another(
        steps in prop::collection::vec(
            prop_oneof![
                8 => Just(Step::Receive),
                2 => Just(Step::Nop),
                1 => any::<usize>().prop_map(Step::Cancel),
                1 => Just(Step::Turn),
            ],
            1..150,
        ),
        sq_entries in prop_oneof![Just(8), Just(64)],
    ) {
        let mut ring = ring_in_parts(sq_entries, Features::ALL);
        let (here, mut there) = UnixStream::pair().unwrap();
        let bytes: Vec<u8> = (0..150).collect();
        there.write_all(&bytes).unwrap();
        let mut buffers = [[255]; 150];
        let mut free = buffers.iter_mut();
        let mut receives = Vec::new();
        for step in steps {
            match step {
                Step::Receive => {
                    let receive = recv(&here, free.next().unwrap(), libc::MSG_DONTWAIT);
                    receives.push(submit(&mut ring, receive, 1));
                }
                Step::Nop => _ = submit(&mut ring, op::msg::nop(), 0),
                // Each is over as soon as it is begun, so that none is ended.
                Step::Cancel(which) if !receives.is_empty() => {
                    ring.cancel(receives[which % receives.len()]);
                }
                Step::Cancel(_) => {}
                Step::Turn => drop(turn(&mut ring, Wait::Submit)),
            }
        }
        drain(&mut ring);
        for (n, receive) in receives.iter().enumerate() {
            prop_assert_eq!(ring.take(*receive).unwrap().result, 1);
            prop_assert_eq!(usize::from(buffers[n][0]), n);
        }
    }
}
