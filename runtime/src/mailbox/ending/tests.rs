//! The end under every interleaving (loom): lanes that open while the receiver goes, and messages that lie in them.
#![expect(
    unsafe_code,
    reason = "the tests keep the promise of one producer and one consumer"
)]

use super::Ending;
use crate::mailbox::atomics::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::mailbox::ring::Ring;
use loom::sync::Arc;

/// As `Lanes`: a count of those that are open, and each of them visible or not. The rings are there from the start.
struct World {
    ending: Ending,
    open: AtomicUsize,
    lanes: Vec<(AtomicBool, Ring<usize>)>,
    dropped: AtomicUsize,
}

impl World {
    fn new(lanes: usize) -> Arc<Self> {
        Arc::new(Self {
            ending: Ending::new(),
            open: AtomicUsize::new(0),
            lanes: (0..lanes)
                .map(|_| (AtomicBool::new(false), Ring::new(2)))
                .collect(),
            dropped: AtomicUsize::new(0),
        })
    }

    /// Whether the message was taken.
    fn send(&self, lane: usize, is_new: bool) -> bool {
        if self.ending.has_come() {
            return false;
        }
        let (visible, ring) = &self.lanes[lane];
        if is_new {
            self.open.fetch_add(1, Ordering::Release);
            visible.store(true, Ordering::Release);
        }
        // SAFETY: the only producer of this lane.
        unsafe { ring.push(lane) }.expect("there is room");
        // As a notifier does.
        fence(Ordering::SeqCst);
        if self.ending.has_come() {
            self.drop_orphans();
        }
        true
    }

    fn drop_orphans(&self) {
        self.ending.take_orphans(|| {
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            for (visible, ring) in &self.lanes {
                if visible.load(Ordering::Acquire) {
                    let drop_it = |_| drop(self.dropped.fetch_add(1, Ordering::Relaxed));
                    // SAFETY: the receiver has gone, and the lock is held.
                    unsafe { ring.pop_each(2, drop_it) };
                }
            }
        });
    }

    /// As the receiver's drop.
    fn go(&self) {
        self.ending.begin(|| ());
        self.drop_orphans();
    }
}

/// Two senders, each with a lane that opens or is open, and a receiver that goes: every message that was taken is dropped, once, when
/// all three are through. All interleavings with up to two preemptions: all there are would take hours.
fn nothing_stays(is_new: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let world = World::new(2);
        if !is_new {
            world.open.store(2, Ordering::Release);
            for (visible, _) in &world.lanes {
                visible.store(true, Ordering::Release);
            }
        }
        let senders: Vec<_> = (0..2)
            .map(|lane| {
                let world = Arc::clone(&world);
                loom::thread::spawn(move || usize::from(world.send(lane, is_new)))
            })
            .collect();
        world.go();
        let sent: usize = senders.into_iter().map(|it| it.join().unwrap()).sum();
        assert_eq!(world.dropped.load(Ordering::Relaxed), sent);
    });
}

#[test]
fn loom_nothing_stays_in_lanes_that_open() {
    nothing_stays(true);
}

#[test]
fn loom_nothing_stays_in_open_lanes() {
    nothing_stays(false);
}

/// A sender with two messages: the second may come back, the first may not stay.
#[test]
fn loom_a_stream_into_the_end() {
    loom::model(|| {
        let world = World::new(1);
        let there = Arc::clone(&world);
        let sender = loom::thread::spawn(move || {
            let first = there.send(0, true);
            usize::from(first) + usize::from(there.send(0, !first))
        });
        world.go();
        let sent = sender.join().unwrap();
        assert_eq!(world.dropped.load(Ordering::Relaxed), sent);
    });
}
