//! Multishot operations and provided buffers: simulated and real do the same, and nothing is lost under faults.
//!
//! Method of the comparison: as in `differential.rs`, random programs run on both, and after each step what came must
//! be the same: results, bytes, and whether more follows.

use std::collections::VecDeque;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

use super::*;
use crate::{Backend, BufferRing, CQE_F_NOTIF, Carries, Event, PooledBuffer};

const BUFFERS: u16 = 2;
const BUFFER_BYTES: usize = 16;

fn submit_multishot<B: Backend>(ring: &mut Ring<B>, sqe: Sqe, carries: Carries) -> OpId {
    // SAFETY: what an operation points at here is kept by `carries`, which says what its completions carry.
    unsafe { ring.submit_multishot(sqe, carries) }.expect("there is room")
}

fn receive<B: Backend>(ring: &mut Ring<B>, fd: RawFd, buffers: &BufferRing) -> OpId {
    let sqe = op::net::recv_multishot(fd, buffers.group().unwrap(), 0);
    submit_multishot(ring, sqe, Carries::Buffers(buffers.clone()))
}

fn accept(ring: &mut Ring<SimRing>, fd: RawFd) -> OpId {
    let sqe = op::net::accept_multishot(fd, 0);
    submit_multishot(ring, sqe, Carries::Descriptors)
}

fn next(ring: &mut Ring<SimRing>, op: OpId) -> Event {
    loop {
        if let Some(event) = ring.next_or_watch(op, token(0)) {
            return event;
        }
        ring.turn(Wait::Until(None), &mut |_| ()).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// By the peer, which is no part of the comparison.
    Send(usize),
    /// Submits the receive, if none is in flight.
    Receive,
    /// Submits one that completes once.
    ReceiveOnce(usize),
    /// Takes up to so many events, and keeps the buffers.
    Take(usize),
    /// Gives so many buffers back.
    GiveBack(usize),
    Cancel,
    Abandon,
    Shutdown(i32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![Just(libc::SHUT_RD), Just(libc::SHUT_WR)];
    let step = prop_oneof![
        6 => (1..40usize).prop_map(Step::Send),
        4 => Just(Step::Receive),
        2 => (1..20usize).prop_map(Step::ReceiveOnce),
        5 => (1..5usize).prop_map(Step::Take),
        4 => (1..4usize).prop_map(Step::GiveBack),
        1 => Just(Step::Cancel),
        1 => Just(Step::Abandon),
        1 => how.prop_map(Step::Shutdown),
    ];
    prop::collection::vec(step, 1..60)
}

/// What came of a step: result, bytes, and whether more follows; and the buffers in the ring.
type Report = (Vec<(i32, Vec<u8>, bool)>, u16);

struct Runner<B: Backend> {
    ring: Ring<B>,
    buffers: BufferRing,
    /// Where the receives are, and the other end.
    descriptors: [RawFd; 2],
    op: Option<OpId>,
    held: VecDeque<PooledBuffer>,
    sent: u8,
}

impl<B: Backend> Runner<B> {
    fn new(mut ring: Ring<B>, descriptors: [RawFd; 2]) -> Runner<B> {
        Runner {
            buffers: ring.provide_buffers(BUFFERS, BUFFER_BYTES).unwrap(),
            ring,
            descriptors,
            op: None,
            held: VecDeque::new(),
            sent: 0,
        }
    }

    fn run(&mut self, step: &Step) -> Report {
        let mut report = Vec::new();
        let [own, peer] = self.descriptors;
        match *step {
            Step::Send(length) => {
                self.sent += 1;
                let bytes = vec![self.sent; length];
                let send = op::net::send(peer, bytes.as_ptr(), length, libc::MSG_DONTWAIT);
                report.push((self.perform(send), Vec::new(), false));
            }
            Step::Shutdown(how) => {
                let shutdown = op::net::shutdown(peer, how);
                report.push((self.perform(shutdown), Vec::new(), false));
            }
            Step::Receive if self.op.is_none() => {
                self.op = Some(receive(&mut self.ring, own, &self.buffers));
            }
            Step::ReceiveOnce(length) if self.op.is_none() => {
                let sqe = op::net::recv_pooled(own, self.buffers.group().unwrap(), length, 0);
                let carries = Carries::Buffers(self.buffers.clone());
                self.op = Some(submit_multishot(&mut self.ring, sqe, carries));
            }
            Step::Take(count) => {
                for _ in 0..count {
                    let Some(event) = self.op.and_then(|op| self.ring.next(op)) else {
                        break;
                    };
                    let more = event.more();
                    let bytes = event.buffer.as_deref().unwrap_or_default().to_vec();
                    report.push((event.completion.result, bytes, more));
                    self.held.extend(event.buffer);
                    if !more {
                        self.op = None;
                    }
                }
            }
            Step::GiveBack(count) => _ = self.held.drain(..count.min(self.held.len())),
            Step::Cancel => {
                if let Some(op) = self.op {
                    self.ring.cancel(op);
                }
            }
            Step::Abandon => {
                if let Some(op) = self.op.take() {
                    self.ring.abandon(op);
                }
            }
            Step::Receive | Step::ReceiveOnce(_) => {}
        }
        self.settle();
        (report, self.buffers.available())
    }

    fn perform(&mut self, sqe: Sqe) -> i32 {
        // SAFETY: waited for here.
        let op = unsafe { self.ring.submit(sqe, token(0)) }.unwrap();
        loop {
            let soon = self.ring.now_ns() + 10_000_000;
            self.ring
                .turn(Wait::Until(Some(soon)), &mut |_| ())
                .unwrap();
            if let Some(completion) = self.ring.take(op) {
                return completion.result;
            }
        }
    }

    /// Turns until nothing moves any more.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let before = self.ring.stats().reaped;
            self.ring.turn(Wait::Submit, &mut |_| ()).unwrap();
            let moved = self.ring.stats().reaped != before || self.ring.has_events();
            quiet = if moved { 0 } else { quiet + 1 };
        }
    }

    fn finish(mut self) {
        if let Some(op) = self.op.take() {
            self.ring.abandon(op);
        }
        let deadline = self.ring.now_ns() + 10_000_000_000;
        self.ring.drain(deadline, &mut |_| ()).unwrap();
        self.held.clear();
        assert_eq!(self.buffers.available(), BUFFERS, "all came back");
    }
}

fn compare(steps: &[Step]) {
    let kernel = SimKernel::new(1, Faults::NONE);
    let (one, other) = kernel.socketpair();
    let mut simulated = Runner::new(ring_of(&kernel), [one, other]);
    let (one, other) = UnixStream::pair().unwrap();
    let descriptors = [one.into_raw_fd(), other.into_raw_fd()];
    let ring = Ring::open(&SetupOptions::default()).expect("this test needs io_uring");
    let mut real = Runner::new(ring, descriptors);
    let mut difference = None;
    for (n, step) in steps.iter().enumerate() {
        let (expected, got) = (real.run(step), simulated.run(step));
        if expected != got {
            difference = Some(format!(
                "step {n}, {step:?}:\n real      {expected:?}\n simulated {got:?}"
            ));
            break;
        }
    }
    simulated.finish();
    real.finish();
    for fd in descriptors {
        // SAFETY: taken out of the pair above, and nothing is in flight on it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    if let Some(difference) = difference {
        panic!("{difference}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn simulated_receives_agree_with_the_running_kernel(steps in steps()) {
        compare(&steps);
    }
}

/// Goal: a stream through a pool of two buffers is whole under every benign fault, and a second run with the same
/// seed does the same.
#[test]
fn a_pooled_stream_is_whole_under_every_benign_fault() {
    let mut exhausted = 0;
    for seed in 0..200 {
        let runs = [pooled_stream(seed), pooled_stream(seed)];
        assert_eq!(runs[0], runs[1], "seed {seed} did not repeat itself");
        exhausted += runs[0].1;
    }
    assert!(exhausted > 100, "the pool ran out only {exhausted} times");
}

/// Goal: what comes while room is made for receives that wait for their turn keeps its place.
/// Method: a byte comes with one enter, the next with the enter that makes room, and half the enters are refused.
#[test]
fn room_for_receives_that_wait_is_made_in_order() {
    let faults = Faults {
        busy: 512,
        ..Faults::NONE
    };
    for seed in 0..50 {
        let kernel = SimKernel::new(seed, faults);
        let mut ring = ring_of(&kernel);
        let fill = |ring: &mut Ring<SimRing>| {
            while !ring.backend().is_full() {
                submit(ring, op::msg::nop());
            }
        };
        let pool = ring.provide_buffers(64, 8).unwrap();
        let (reader, writer) = kernel.connection();
        let (silent, _) = kernel.socketpair();
        let receiving = receive(&mut ring, reader, &pool);
        let sent: Vec<u8> = (0..200).collect();
        let mut unused = vec![[0]; 1000];
        let mut receives = unused.iter_mut();
        let mut received = Vec::new();
        for two in sent.chunks(2) {
            // As many as a turn begins, and one more, so that some are left over.
            for buffer in receives.by_ref().take(4) {
                let receive = op::net::recv(silent, buffer.as_mut_ptr(), 1, libc::MSG_DONTWAIT);
                submit(&mut ring, receive);
            }
            for byte in two {
                submit(&mut ring, send(writer, std::slice::from_ref(byte)));
                fill(&mut ring);
            }
            ring.turn(Wait::Submit, &mut |_| ()).unwrap();
            while let Some(event) = ring.next(receiving) {
                assert!(event.more(), "seed {seed}");
                received.extend_from_slice(event.buffer.as_deref().unwrap_or_default());
            }
        }
        while received.len() < sent.len() {
            let event = next(&mut ring, receiving);
            received.extend_from_slice(event.buffer.as_deref().unwrap_or_default());
        }
        assert_eq!(received, sent, "seed {seed}");
        ring.abandon(receiving);
        ring.drain(u64::MAX, &mut |_| ()).unwrap();
    }
}

fn pooled_stream(seed: u64) -> (u64, u64) {
    let kernel = SimKernel::new(seed, Faults::benign(seed));
    kernel.set_stream_capacity(100);
    let mut ring = ring_of(&kernel);
    let buffers = ring.provide_buffers(2, 8).unwrap();
    let (reader, writer) = kernel.connection();
    let sent: Vec<u8> = (0..500).map(|n| (n * 7 + seed) as u8).collect();
    let (mut received, mut from, mut held) = (Vec::new(), 0, Vec::new());
    let mut receiving = receive(&mut ring, reader, &buffers);
    let mut sending = submit(&mut ring, send(writer, &sent));
    while received.len() < sent.len() {
        ring.turn(Wait::Until(None), &mut |_| ()).unwrap();
        if let Some(completion) = ring.take(sending) {
            from += usize::try_from(completion.result).expect("no fault here is an error");
            if from < sent.len() {
                sending = submit(&mut ring, send(writer, &sent[from..]));
            }
        }
        while let Some(event) = ring.next_or_watch(receiving, token(1)) {
            let more = event.more();
            received.extend_from_slice(event.buffer.as_deref().unwrap_or_default());
            held.extend(event.buffer);
            if !more {
                assert_eq!(event.completion.result, -libc::ENOBUFS, "seed {seed}");
                held.clear();
                receiving = receive(&mut ring, reader, &buffers);
            }
        }
    }
    assert_eq!(received, sent, "seed {seed}");
    held.clear();
    ring.abandon(receiving);
    ring.drain(u64::MAX, &mut |_| ()).unwrap();
    assert_eq!(buffers.available(), 2, "seed {seed}");
    (kernel.trace(), buffers.stats().exhausted)
}

/// Goal: whatever goes wrong, no descriptor is lost: each connection is accepted once, in order, or closed.
#[test]
fn accepted_descriptors_do_not_leak_under_faults() {
    let address = *b"an address";
    let (mut cut_short, mut left_behind) = (0, 0);
    for seed in 0..300 {
        let faults = Faults {
            no_descriptor: if seed % 3 == 0 { 200 } else { 0 },
            ..Faults::benign(seed)
        };
        let kernel = SimKernel::new(seed, faults);
        let mut ring = kernel.ring(&SetupOptions {
            multishot_window: 3,
            ..SetupOptions::default()
        });
        let listener = kernel.listen(&address, 100).unwrap();
        let mut op = accept(&mut ring, listener);
        let mut accepted = Vec::new();
        for round in 0..20 {
            let client = kernel.socket();
            let length = u32::try_from(address.len()).unwrap();
            let connect = op::net::connect(client, address.as_ptr().cast(), length);
            assert_eq!(run(&mut ring, connect), 0);
            // An owner who is not always there.
            while round % 5 == 4
                && let Some(event) = ring.next(op)
            {
                match event.completion.result {
                    0.. => accepted.push(event.completion.result),
                    error => assert!([-libc::ECANCELED, -libc::EMFILE].contains(&error)),
                }
                if !event.more() {
                    cut_short += 1;
                    op = accept(&mut ring, listener);
                }
            }
        }
        ring.abandon(op);
        ring.drain(u64::MAX, &mut |_| ()).unwrap();
        left_behind += 20 - accepted.len();
        kernel.close(listener).unwrap();
        for fd in &accepted {
            kernel.close(*fd).unwrap();
        }
        // What was not taken was closed by the ring: only the clients are left.
        assert_eq!(kernel.open_descriptors(), 20, "seed {seed}");
    }
    assert!(
        cut_short > 300 && left_behind > 300,
        "{cut_short}, {left_behind}"
    );
}

#[test]
fn a_zero_copy_send_keeps_its_buffer_until_the_second_completion() {
    for seed in 0..50 {
        let faults = Faults {
            delay: 700,
            reorder: 700,
            ..Faults::NONE
        };
        let kernel = SimKernel::new(seed, faults);
        let mut ring = ring_of(&kernel);
        let (one, other) = kernel.connection();
        let bytes = *b"by reference";
        let send = op::net::send_zc(one, bytes.as_ptr(), bytes.len(), 0);
        let op = submit_multishot(&mut ring, send.clone(), Carries::Nothing);
        let first = next(&mut ring, op);
        assert_eq!((first.completion.result, first.more()), (12, true));
        let second = next(&mut ring, op);
        assert_eq!(
            (second.completion.flags, second.more()),
            (CQE_F_NOTIF, false)
        );
        assert_eq!(run(&mut ring, send), 12, "or both as one");

        let mut buffer = [0; 24];
        assert_eq!(run(&mut ring, recv(other, &mut buffer)), 24);
        assert_eq!(&buffer, b"by referenceby reference");
        let (unix, _peer) = kernel.socketpair();
        let send = op::net::send_zc(unix, bytes.as_ptr(), bytes.len(), 0);
        assert_eq!(run(&mut ring, send), -libc::EOPNOTSUPP);
    }
}

#[test]
fn registered_buffers_are_checked() {
    let kernel = SimKernel::new(1, Faults::NONE);
    let mut ring = ring_of(&kernel);
    let file = kernel.open("file");
    let pool = ring.register_buffers(2, 4096).unwrap();
    let (mut one, mut other) = (pool.take().unwrap(), pool.take().unwrap());
    one.fill(5);
    assert_eq!(run(&mut ring, one.write(file, 100, 0)), 100);
    assert_eq!(run(&mut ring, other.read(file, 4096, 0)), 100);
    assert_eq!(other[..100], [5; 100]);
    let mut elsewhere = [0u8; 8];
    let read = op::fs::read_fixed(file, elsewhere.as_mut_ptr(), 8, 0, 1);
    assert_eq!(run(&mut ring, read), -libc::EFAULT);
    assert!(ring.register_buffers(1, 1).is_err());
}
