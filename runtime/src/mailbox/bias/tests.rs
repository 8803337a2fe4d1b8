//! The bias under every interleaving (loom), with a barrier that falls at each point of the notifier's program.

use super::{Bias, OpenTurn};
use crate::mailbox::WaitQueue;
use crate::mailbox::atomics::{AtomicUsize, Ordering, fence};
use loom::sync::Arc;

/// What the waiter will do, for the barrier's sake.
const UNDECIDED: usize = 0;
const NO_BARRIER: usize = 1;
const BARRIER: usize = 2;

/// membarrier between two threads: the notifier fences at one point of its program, once the waiter has asked. Each
/// model has that point in another place. A notifier that comes to the point waits until the waiter has decided:
/// without that a barrier could have been over before it was asked for.
#[derive(Default)]
struct Barrier {
    decision: AtomicUsize,
    passed: AtomicUsize,
}

impl Barrier {
    /// By the notifier, at the point.
    fn point(&self) {
        // Relaxed: a waiter that asks for no barrier must not order anything by saying so.
        loop {
            match self.decision.load(Ordering::Relaxed) {
                UNDECIDED => loom::thread::yield_now(),
                BARRIER => break,
                _ => return,
            }
        }
        fence(Ordering::SeqCst);
        self.passed.store(1, Ordering::Relaxed);
    }

    /// By the waiter.
    fn all_threads(&self) {
        fence(Ordering::SeqCst);
        self.decision.store(BARRIER, Ordering::Relaxed);
        while self.passed.load(Ordering::Relaxed) == 0 {
            loom::thread::yield_now();
        }
        fence(Ordering::SeqCst);
    }
}

struct World {
    /// Messages sent.
    sent: AtomicUsize,
    queue: WaitQueue<()>,
    bias: Bias,
    turns: [OpenTurn; 2],
    barrier: Barrier,
}

/// Steps of a notifier's program.
#[derive(Clone, Copy)]
enum Step {
    /// A message, from this core.
    Send(usize),
    /// The turn of this core ends.
    End(usize),
    /// The last message has found somebody else.
    Found,
}

/// A waiter that wants to see all `sent` messages waits once, while the notifier takes `steps`: it sees all, or it is
/// picked by a message it has not seen.
fn no_wake_is_lost(steps: &'static [Step]) {
    for point in 0..=steps.len() {
        loom::model(move || {
            let world = Arc::new(World {
                sent: AtomicUsize::new(0),
                queue: WaitQueue::default(),
                bias: Bias::new(),
                turns: [OpenTurn::new(), OpenTurn::new()],
                barrier: Barrier::default(),
            });
            let there = Arc::clone(&world);
            let notifier = loom::thread::spawn(move || {
                // The last message that found the waiter.
                let mut found = 0;
                for (number, step) in steps.iter().enumerate() {
                    if number == point {
                        there.barrier.point();
                    }
                    match *step {
                        Step::Send(core) => {
                            let sent = there.sent.load(Ordering::Relaxed) + 1;
                            there.sent.store(sent, Ordering::Relaxed);
                            there.bias.settle(Some((core, &there.turns[core])));
                            if there.queue.pick_settled().is_some() {
                                there.bias.found_waiter();
                                found = sent;
                            }
                        }
                        Step::End(core) => there.turns[core].end(),
                        Step::Found => there.bias.found_waiter(),
                    }
                }
                if point == steps.len() {
                    there.barrier.point();
                }
                found
            });
            let mut ticket = None;
            world.queue.enter(&mut ticket, || ());
            if world.bias.needs_barrier(|core| &world.turns[core]) {
                world.barrier.all_threads();
            } else {
                world.barrier.decision.store(NO_BARRIER, Ordering::Relaxed);
            }
            let seen = world.sent.load(Ordering::Relaxed);
            let found = notifier.join().unwrap();
            let sends = steps
                .iter()
                .filter(|step| matches!(step, Step::Send(_)))
                .count();
            assert!(
                seen == sends || found > 0,
                "it would sleep with {seen} of {sends} seen"
            );
        });
    }
}

/// Biased by the first message; the second has no fence.
#[test]
fn loom_a_waiter_meets_a_notifier_without_a_fence() {
    no_wake_is_lost(&[Step::Send(0), Step::Send(0)]);
}

/// The turn ends, and there is a fence in the next one.
#[test]
fn loom_a_turn_ends_and_the_next_begins() {
    no_wake_is_lost(&[Step::Send(0), Step::End(0), Step::Send(0), Step::Send(0)]);
}

/// The notifier has moved to another core.
#[test]
fn loom_a_notifier_moves() {
    no_wake_is_lost(&[Step::Send(0), Step::Send(0), Step::Send(1), Step::Send(1)]);
}

/// The bias ends after a message without a fence.
#[test]
fn loom_a_bias_ends() {
    no_wake_is_lost(&[Step::Send(0), Step::Send(0), Step::Found]);
}

/// The turn ends after a message without a fence.
#[test]
fn loom_a_turn_ends() {
    no_wake_is_lost(&[Step::Send(0), Step::Send(0), Step::End(0)]);
}
