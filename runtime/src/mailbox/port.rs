//! A core's port: its inbox, its wake list, and the bell that wakes it.
//!
//! ```text
//!   sender                                  receiver, about to sleep
//!   1 put the message or the waiter in      1 sleeping = true
//!   2 fence                                 2 fence
//!   3 sleeping? then take the flag, ring    3 inbox and wake list empty? then sleep in the ring
//! ```
//!
//! Why no wake is lost. Each side writes one location, fences (`SeqCst`), and reads the other's. The two fences are
//! ordered; whichever side's comes second sees the other's write. So either the sender sees `sleeping` and rings,
//! and a rung bell makes the receiver's current or next sleep return; or the receiver sees the message and does
//! not sleep. Taking the flag with `swap` makes one sleeper cost one ring, however many send.
//!
//! A running core is never rung: it drains both once a turn.
//!
//! What is not a message - the order to stop - takes the same way: it raises `alert` in place of step 1, and the
//! receiver's step 3 looks at that too.
//!
//! Step 1 is argued in lanes.rs and wake_list.rs; this file's part is [`Sleep`], which is modelled with loom.

use super::atomics::{AtomicBool, Ordering, fence};
use super::bias::OpenTurn;
use super::lanes::{Lanes, Round};
use super::remote::Start;
use super::waiter::Waiter;
use super::wake_list::WakeList;
use crate::report;
use crate::watch::Pulse;
use coring_uring::Doorbell;
use std::sync::{Arc, OnceLock};

/// What travels: a closure that becomes a coroutine.
pub(crate) type Message = Box<dyn Start>;
/// Where a core is in the round of its inbox.
pub(crate) type InboxRound = Round<Message>;

/// Whether a core sleeps: the flag between it and those who may have to ring.
#[derive(Debug)]
struct Sleep(AtomicBool);

impl Sleep {
    fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Steps 1 and 2 of the receiver.
    fn publish(&self) {
        self.0.store(true, Ordering::Relaxed);
        // Pairs with the fence in `must_ring`.
        fence(Ordering::SeqCst);
    }

    fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Steps 2 and 3 of the sender. `true` for one sender a sleep.
    #[inline]
    fn must_ring(&self) -> bool {
        // Pairs with the fence in `publish`.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// The way to one core, shared by all cores and foreign threads.
#[derive(Debug)]
pub(crate) struct Port {
    inbox: Lanes<Message>,
    wakes: WakeList<Waiter>,
    sleep: Sleep,
    /// There is something to see that is no message.
    alert: AtomicBool,
    closed: AtomicBool,
    doorbell: OnceLock<Doorbell>,
    pulse: Pulse,
    open_turn: Arc<OpenTurn>,
}

impl Port {
    pub(super) fn new(cores: usize, inbox_capacity: usize) -> Self {
        Self {
            inbox: Lanes::new(cores, inbox_capacity),
            wakes: WakeList::new(),
            sleep: Sleep::new(),
            alert: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            doorbell: OnceLock::new(),
            pulse: Pulse::default(),
            open_turn: Arc::new(OpenTurn::new()),
        }
    }

    /// Hangs up the bell of the core's ring.
    pub(crate) fn connect(&self, doorbell: Doorbell) {
        assert!(
            self.doorbell.set(doorbell).is_ok(),
            "a core opens its ring once"
        );
    }

    pub(super) fn inbox(&self) -> &Lanes<Message> {
        &self.inbox
    }

    pub(super) fn wakes(&self) -> &WakeList<Waiter> {
        &self.wakes
    }

    /// Whether it takes no more messages. A message that is put in nevertheless is dropped, never delivered.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Makes the core look up: its current or next sleep ends at once.
    pub(crate) fn alert(&self) {
        self.alert.store(true, Ordering::Release);
        self.wake();
    }

    /// Rings if the core sleeps, or is about to. Comes after what it is to see.
    #[inline]
    pub(super) fn wake(&self) {
        if self.sleep.must_ring() {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        let Some(doorbell) = self.doorbell.get() else {
            return;
        };
        // At once, and not with what this core submits at the end of its turn: whoever took the flag is the only one
        // to ring, and a coroutine that computes on would keep a core asleep that others have sent to as well.
        doorbell.ring();
    }

    /// The core's sign of life.
    #[inline]
    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Whether the core is in a turn in which it notified without a fence.
    #[inline]
    pub(crate) fn open_turn(&self) -> &Arc<OpenTurn> {
        &self.open_turn
    }

    /// Step 1 and 2 of the receiver.
    pub(crate) fn publish_sleeping(&self) {
        self.sleep.publish();
    }

    pub(crate) fn publish_awake(&self) {
        self.sleep.end();
    }

    /// Whether there is a message, a wake, or an alert that [`take_alert`](Self::take_alert) has not seen.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        !self.wakes.is_empty() || self.inbox.has_messages() || self.alert.load(Ordering::Relaxed)
    }

    /// Whether there was an alert; lowers it. Pairs with the store in `alert`.
    #[inline]
    pub(crate) fn take_alert(&self) -> bool {
        self.alert.load(Ordering::Relaxed) && self.alert.swap(false, Ordering::Acquire)
    }

    /// Wakes who is on the wake list, and hands out what is in the inbox; what arrives meanwhile waits for the next
    /// time. How many closures those were. Called on the port's own core.
    #[inline]
    pub(crate) fn drain(&self, round: &mut Round<Message>, deliver: impl FnMut(Message)) -> usize {
        self.wakes.drain(|waiter| waiter.run());
        if self.inbox.used() > 0 {
            self.drain_inbox(round, deliver)
        } else {
            0
        }
    }

    #[expect(unsafe_code, reason = "a core is the one receiver of its inbox")]
    fn drain_inbox(&self, round: &mut Round<Message>, mut deliver: impl FnMut(Message)) -> usize {
        let waiting = self.inbox.len();
        for _ in 0..waiting {
            // SAFETY: `drain` and `discard` are called by the core's thread, and `discard` by who has joined it.
            let Some(message) = (unsafe { self.inbox.pop(round, None) }) else {
                break;
            };
            // What cannot be started, or is dropped unsent, drops its captures here; their panic must not end the loop.
            report::contain(|| deliver(message));
        }
        waiting
    }

    /// Takes no more messages, and sends those away who wait for room.
    pub(crate) fn close(&self) {
        // Pairs with the load in `is_closed`: senders look after each wake.
        self.closed.store(true, Ordering::Release);
        self.inbox.wake_senders();
    }

    /// Drops the messages that nobody will deliver any more; each one's sender learns it from the drop.
    pub(crate) fn discard(&self) {
        self.drain_inbox(&mut Round::default(), drop);
    }

    /// The very end: nobody waits on this core any more.
    pub(crate) fn close_wakes(&self) {
        self.wakes.close();
    }

    /// Closures that wait to be started, and the rings they wait in.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.inbox.len(), self.inbox.used())
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::Sleep;
    use crate::mailbox::atomics::{AtomicUsize, Ordering};
    use loom::sync::Arc;

    /// Two senders and a receiver that is about to sleep: it sees every message or is rung, and is rung once.
    #[test]
    fn loom_a_sleeper_is_rung_exactly_once() {
        loom::model(|| {
            let shared = Arc::new((Sleep::new(), AtomicUsize::new(0)));
            let senders = [(); 2].map(|()| {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    shared.1.fetch_add(1, Ordering::Relaxed);
                    usize::from(shared.0.must_ring())
                })
            });
            shared.0.publish();
            let seen = shared.1.load(Ordering::Relaxed);
            let rings: usize = senders.map(|sender| sender.join().unwrap()).iter().sum();
            assert!(rings <= 1);
            assert!(
                seen == 2 || rings == 1,
                "it would sleep with {seen} of 2 seen"
            );
        });
    }
}
