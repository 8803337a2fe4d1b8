//! What a ring costs over the bare minimum: NOP round trips through `Ring`, beside the same loop over the io-uring
//! crate's queues with nothing around them, and through a `Ring` whose submissions a kernel thread takes.
//!
//! `cargo run --release -p coring-uring --example nop`
//!
//! Method: batches of 1, 8, 32, 128; rounds of all subjects alternate; the median of 15 rounds. The first two use the same
//! setup flags, and enter through the registered descriptor. CPU is that of all threads, the kernel's one included.

#![expect(unsafe_code, reason = "submits operations")]

use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use coring_uring::{OpId, Ring, SetupOptions, SqPoll, Token, Wait, op};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter};

const ROUNDS: usize = 15;
const OPERATIONS: usize = 400_000;

fn main() -> Result<(), Box<dyn Error>> {
    let options = SetupOptions::default();
    let mut ring = Ring::open(&options)?;
    let mut bare = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_cqsize(options.cq_entries)
        .build(options.sq_entries)?;
    // The registered index lives in the submitter, which borrows the ring; the queues are borrowed beside it.
    let (mut submitter, mut submissions, mut completions) = bare.split();
    submitter.register_ring_fd()?;
    let mut ops = [OpId::from_user_data(0); 128];
    println!(
        "{:>6} {:>12} {:>12} {:>14} {:>12} {:>12}   ns per NOP, median (min)",
        "batch", "bare", "Ring", "polled", "Ring CPU", "polled CPU"
    );
    let poll = SqPoll {
        idle: Duration::from_millis(1),
        cpu: None,
    };
    let polled_options = SetupOptions {
        sq_poll: Some(poll),
        ..options.clone()
    };
    for batch in [1, 8, 32, 128] {
        let (mut bare_ns, mut ring_ns, mut polled_ns) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ring_cpu, mut polled_cpu) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare_ns.push(time(
                || bare_batch(&submitter, &mut submissions, &mut completions, batch),
                batch,
            ));
            let mut both = |ring: &mut Ring, wait, ns: &mut Vec<f64>, cpu: &mut Vec<f64>| {
                let before = cpu_ns();
                ns.push(time(|| ring_batch(ring, &mut ops[..batch], wait), batch));
                let operations = OPERATIONS / batch / 4 * batch;
                cpu.push((cpu_ns() - before) / operations as f64);
            };
            both(&mut ring, Wait::Submit, &mut ring_ns, &mut ring_cpu);
            // Made anew each time, so that its thread does not disturb the others.
            let mut polled = Ring::open(&polled_options)?;
            let sleeps = Wait::Until(None);
            both(&mut polled, sleeps, &mut polled_ns, &mut polled_cpu);
        }
        println!(
            "{batch:>6} {:>12} {:>12} {:>14} {:>12} {:>12}",
            summary(&mut bare_ns),
            summary(&mut ring_ns),
            summary(&mut polled_ns),
            summary(&mut ring_cpu),
            summary(&mut polled_cpu)
        );
    }
    Ok(())
}

/// Nanoseconds for one operation, over many batches.
fn time(mut batch: impl FnMut(), size: usize) -> f64 {
    let batches = OPERATIONS / size / 4;
    let start = Instant::now();
    (0..batches).for_each(|_| batch());
    start.elapsed().as_secs_f64() * 1e9 / (batches * size) as f64
}

/// Queues, one system call, and a look at each CQE.
fn bare_batch(
    submitter: &Submitter<'_>,
    submissions: &mut SubmissionQueue<'_>,
    completions: &mut CompletionQueue<'_>,
    size: usize,
) {
    for number in 0..size {
        let sqe = op::msg::nop().user_data(number as u64);
        // SAFETY: a nop points at nothing.
        unsafe { submissions.push(&sqe) }.expect("the batch fits");
    }
    submissions.sync();
    let flags = EnterFlags::GETEVENTS.bits();
    let count = u32::try_from(size).expect("a small number");
    // SAFETY: nops point at nothing.
    let entered = unsafe { submitter.enter::<libc::sigset_t>(count, 0, flags, None) };
    assert_eq!(entered.expect("NOPs can be submitted"), size);
    submissions.sync();
    completions.sync();
    assert_eq!(completions.len(), size);
    completions.for_each(|cqe| {
        black_box(cqe);
    });
}

/// The same with slots, tokens and the turn.
fn ring_batch(ring: &mut Ring, ops: &mut [OpId], wait: Wait) {
    for (number, op) in ops.iter_mut().enumerate() {
        let token = Token::from_number(NonZeroUsize::MIN.saturating_add(number));
        // SAFETY: a nop points at nothing.
        *op = unsafe { ring.submit(op::msg::nop(), token) }.expect("the batch fits");
    }
    let mut woken = 0;
    while woken < ops.len() {
        woken += ring
            .turn(wait, &mut |token| {
                black_box(token);
            })
            .expect("NOPs can be submitted");
    }
    for op in ops {
        black_box(ring.take(*op));
    }
}

/// CPU time of the process, with the kernel threads that belong to it.
fn cpu_ns() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the place is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn summary(samples: &mut [f64]) -> String {
    samples.sort_by(f64::total_cmp);
    format!("{:.1} ({:.1})", samples[samples.len() / 2], samples[0])
}
