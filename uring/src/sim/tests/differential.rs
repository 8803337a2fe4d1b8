//! Goal: the simulated kernel does what the running one does.
//!
//! Method: random programs of stream and file operations run on both, step by step. After each step both machines
//! are given time until nothing moves any more; then the completions so far, with their bytes, must be the same.
//! Without faults there is no freedom left but the order within a step, which is sorted away. Few bytes are in
//! flight at a time, because how much a socket buffers is the real kernel's secret; and at most one operation waits
//! on an end, because which of several is served first is another.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

use super::*;
use crate::{Backend, Completion, KernelRing};

const STREAMS: usize = 3;
const FILE: usize = 2 * STREAMS;

#[derive(Clone, Debug)]
enum Step {
    /// On one of the ends.
    Send {
        end: usize,
        length: usize,
        flags: i32,
    },
    Recv {
        end: usize,
        length: usize,
        flags: i32,
    },
    Poll {
        end: usize,
        events: i16,
    },
    Shutdown {
        end: usize,
        how: i32,
    },
    Close {
        end: usize,
    },
    CancelFd {
        end: usize,
    },
    /// The n-th operation still in flight.
    Cancel(usize),
    Write {
        offset: u64,
        length: usize,
    },
    Read {
        offset: u64,
        length: usize,
    },
    Truncate(u64),
    Allocate {
        offset: u64,
        length: u64,
    },
    Sync,
    Statx,
    Nop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = 0..2 * STREAMS;
    let how = prop_oneof![
        Just(libc::SHUT_RD),
        Just(libc::SHUT_WR),
        Just(libc::SHUT_RDWR)
    ];
    let send_flags =
        prop_oneof![4 => Just(0), 1 => Just(libc::MSG_WAITALL), 1 => Just(libc::MSG_DONTWAIT)];
    let recv_flags = prop_oneof![
        4 => Just(0),
        1 => Just(libc::MSG_WAITALL),
        1 => Just(libc::MSG_PEEK),
        1 => Just(libc::MSG_DONTWAIT)
    ];
    let events = prop_oneof![Just(libc::POLLIN), Just(libc::POLLOUT)];
    let offset = prop_oneof![3 => 0..3000u64, 1 => Just(op::fs::AT_POSITION)];
    let step = prop_oneof![
        6 => (end.clone(), 1..200usize, send_flags).prop_map(|(end, length, flags)| Step::Send { end, length, flags }),
        8 => (end.clone(), 1..300usize, recv_flags).prop_map(|(end, length, flags)| Step::Recv { end, length, flags }),
        2 => (end.clone(), events).prop_map(|(end, events)| Step::Poll { end, events }),
        1 => (end.clone(), how).prop_map(|(end, how)| Step::Shutdown { end, how }),
        1 => end.clone().prop_map(|end| Step::Close { end }),
        1 => end.prop_map(|end| Step::CancelFd { end }),
        2 => any::<usize>().prop_map(Step::Cancel),
        2 => (offset.clone(), 1..2000usize).prop_map(|(offset, length)| Step::Write { offset, length }),
        2 => (offset, 1..2000usize).prop_map(|(offset, length)| Step::Read { offset, length }),
        1 => (0..3000u64).prop_map(Step::Truncate),
        1 => (0..3000u64, 1..3000u64).prop_map(|(offset, length)| Step::Allocate { offset, length }),
        1 => Just(Step::Sync),
        1 => Just(Step::Statx),
        1 => Just(Step::Nop),
    ];
    prop::collection::vec(step, 1..40)
}

/// What both machines say about a step: operation, result, and what is in its buffer.
type Report = Vec<(usize, i32, Vec<u8>)>;

struct InFlight {
    number: usize,
    op: OpId,
    /// The end it may wait on.
    on: Option<usize>,
    buffer: Box<[u8]>,
}

struct Runner<B: Backend> {
    ring: Ring<B>,
    /// Both ends of each stream, then the file; `None` once closed.
    descriptors: Vec<Option<RawFd>>,
    in_flight: Vec<InFlight>,
    count: usize,
}

impl<B: Backend> Runner<B> {
    fn new(ring: Ring<B>, descriptors: Vec<RawFd>) -> Runner<B> {
        Runner {
            ring,
            descriptors: descriptors.into_iter().map(Some).collect(),
            in_flight: Vec::new(),
            count: 0,
        }
    }

    fn run(&mut self, step: &Step) -> Report {
        let fd = |end: usize| self.descriptors[end].unwrap_or(-1);
        let file = fd(FILE);
        let mut buffer: Box<[u8]> = Box::default();
        // Whether the operation ends in any case, on whatever thread the kernel does it.
        let mut certain = true;
        let mut on = None;
        let waits_on = |end| self.in_flight.iter().any(|other| other.on == Some(end));
        let sqe = match *step {
            Step::Recv { end, .. } | Step::Poll { end, .. } if waits_on(end) => op::msg::nop(),
            Step::Send { end, length, flags } => {
                buffer = (0..length).map(|n| (n + self.count) as u8).collect();
                op::net::send(fd(end), buffer.as_ptr(), length, flags)
            }
            Step::Recv { end, length, flags } => {
                (certain, on) = (false, Some(end));
                buffer = vec![0; length].into();
                op::net::recv(fd(end), buffer.as_mut_ptr(), length, flags)
            }
            Step::Poll { end, events } => {
                (certain, on) = (false, Some(end));
                op::net::poll_add(fd(end), u32::from(events.cast_unsigned()))
            }
            Step::Shutdown { end, how } => op::net::shutdown(fd(end), how),
            Step::Close { end } => op::fs::close(self.descriptors[end].take().unwrap_or(-1)),
            Step::CancelFd { end } => {
                let fd = fd(end);
                self.ring.cancel_fd(fd).unwrap();
                op::msg::nop()
            }
            Step::Cancel(n) => {
                if let Some(other) = self.in_flight.get(n % self.in_flight.len().max(1)) {
                    self.ring.cancel(other.op);
                }
                op::msg::nop()
            }
            Step::Write { offset, length } => {
                buffer = (0..length).map(|n| (n * 3 + self.count) as u8).collect();
                op::fs::write(file, buffer.as_ptr(), length, offset)
            }
            Step::Read { offset, length } => {
                buffer = vec![0; length].into();
                op::fs::read(file, buffer.as_mut_ptr(), length, offset)
            }
            Step::Truncate(length) => op::fs::ftruncate(file, length),
            Step::Allocate { offset, length } => op::fs::fallocate(file, 0, offset, length),
            Step::Sync => op::fs::fsync(file),
            Step::Statx => {
                buffer = vec![0; size_of::<libc::statx>()].into();
                let (flags, mask) = (libc::AT_EMPTY_PATH, libc::STATX_SIZE);
                op::fs::statx(file, c"".as_ptr(), flags, mask, buffer.as_mut_ptr().cast())
            }
            Step::Nop => op::msg::nop(),
        };
        self.count += 1;
        // SAFETY: the buffer stays in its box until the operation's result is taken.
        let op = unsafe { self.ring.submit(sqe, token(0)) }.unwrap();
        self.in_flight.push(InFlight {
            number: self.count,
            op,
            on,
            buffer,
        });
        self.settle(certain.then_some(op));
        self.report(matches!(step, Step::Statx))
    }

    /// Turns until nothing moves any more.
    fn settle(&mut self, certain: Option<OpId>) {
        let mut quiet = 0;
        while quiet < 3 {
            let pending = certain.is_some_and(|op| self.ring.is_in_flight(op));
            let wait = if pending {
                Wait::Until(Some(self.ring.now_ns() + 10_000_000))
            } else {
                Wait::Submit
            };
            let woken = self.ring.turn(wait, &mut |_| ()).unwrap();
            quiet = if woken != 0 || pending || self.ring.has_events() {
                0
            } else {
                quiet + 1
            };
        }
    }

    fn report(&mut self, statx: bool) -> Report {
        let mut report = Report::new();
        let ring = &mut self.ring;
        self.in_flight.retain(
            |InFlight {
                 number, op, buffer, ..
             }| match ring.take(*op) {
                None => true,
                Some(Completion { result, .. }) => {
                    let bytes = if statx && buffer.len() == size_of::<libc::statx>() {
                        let size = std::mem::offset_of!(libc::statx, stx_size);
                        buffer[size..size + 8].to_vec()
                    } else {
                        buffer.to_vec()
                    };
                    report.push((*number, result, bytes));
                    false
                }
            },
        );
        report
    }

    fn finish(mut self) -> Vec<RawFd> {
        self.ring
            .drain(self.ring.now_ns() + 10_000_000_000, &mut |_| ())
            .unwrap();
        self.descriptors.into_iter().flatten().collect()
    }
}

fn real() -> Runner<KernelRing> {
    let mut descriptors = Vec::new();
    for _ in 0..STREAMS {
        let (one, other) = UnixStream::pair().unwrap();
        descriptors.extend([one.into_raw_fd(), other.into_raw_fd()]);
    }
    let file = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile());
    descriptors.push(file.unwrap().into_raw_fd());
    let options = SetupOptions {
        sq_entries: 16,
        cq_entries: 64,
        ..SetupOptions::default()
    };
    Runner::new(
        Ring::open(&options).expect("this test needs io_uring"),
        descriptors,
    )
}

fn simulated(kernel: &SimKernel) -> Runner<SimRing> {
    let mut descriptors = Vec::new();
    for _ in 0..STREAMS {
        let (one, other) = kernel.socketpair();
        descriptors.extend([one, other]);
    }
    descriptors.push(kernel.open("file"));
    Runner::new(ring_of(kernel), descriptors)
}

/// Runs a program on both and compares after each step.
fn compare(steps: &[Step]) {
    let kernel = SimKernel::new(1, Faults::NONE);
    let (mut real, mut simulated) = (real(), simulated(&kernel));
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
    for fd in real.finish() {
        // SAFETY: the runner owned it and is gone.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    if let Some(difference) = difference {
        panic!("{difference}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_simulation_agrees_with_the_running_kernel(steps in steps()) {
        compare(&steps);
    }
}
