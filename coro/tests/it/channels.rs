//! Goal: each channel keeps its promises at its ends: closing, refusing, handing back.

use crate::every_order;
use coring_coro as coro;
use coro::channel::{
    RecvError, SendError, TryRecvError, TrySendError, bounded, broadcast, oneshot, watch,
};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

#[test]
fn bounded_gives_values_back_and_tells_why() {
    every_order(|| {
        let (sender, receiver) = bounded(1);
        sender.send("a").unwrap();
        assert_eq!(sender.try_send("b"), Err(TrySendError::Full("b")));
        assert_eq!(sender.send_timeout("b", MS), Err(SendError::TimedOut("b")));
        let waiting = coro::spawn({
            let sender = sender.clone();
            move || sender.send("c")
        });
        coro::sleep(MS);
        drop(receiver);
        assert_eq!(waiting.join().unwrap(), Err(SendError::Closed("c")));
        assert_eq!(sender.send("d"), Err(SendError::Closed("d")));

        let (sender, receiver) = bounded::<u8>(1);
        sender.send(1).unwrap();
        drop(sender);
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Err(RecvError::Closed));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
    });
}

#[test]
fn a_rendezvous_waits_for_its_partner() {
    every_order(|| {
        let (sender, receiver) = bounded(0);
        assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
        let sent = Rc::new(Cell::new(false));
        let handle = coro::spawn({
            let sent = sent.clone();
            move || {
                sender.send(1).unwrap();
                sent.set(true);
            }
        });
        coro::sleep(MS);
        assert!(!sent.get());
        assert_eq!(receiver.recv(), Ok(1));
        handle.join().unwrap();
    });
}

#[test]
fn a_value_handed_to_a_cancelled_receiver_is_received() {
    every_order(|| {
        let (sender, receiver) = bounded(4);
        let handle = coro::spawn(move || receiver.recv());
        coro::sleep(MS);
        sender.send(7).unwrap();
        handle.cancel();
        assert_eq!(handle.join().unwrap(), Ok(7));
    });
}

#[test]
fn unreceived_values_are_dropped_with_the_receiver_even_if_they_use_the_channel() {
    every_order(|| {
        struct Resend(
            coro::channel::bounded::Sender<Option<Resend>>,
            Rc<Cell<u32>>,
        );
        impl Drop for Resend {
            fn drop(&mut self) {
                assert!(self.0.try_send(None).is_err());
                self.1.set(self.1.get() + 1);
            }
        }
        let drops = Rc::new(Cell::new(0));
        let (sender, receiver) = bounded(3);
        for _ in 0..3 {
            let value = Resend(sender.clone(), drops.clone());
            assert!(sender.send(Some(value)).is_ok());
        }
        drop(receiver);
        assert_eq!(drops.get(), 3);
    });
}

#[test]
fn oneshot_answers_once() {
    every_order(|| {
        let (sender, receiver) = oneshot();
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(receiver.recv_timeout(MS), Err(RecvError::TimedOut));
        sender.send(1).unwrap();
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Err(RecvError::Closed));
        let (sender, receiver) = oneshot::<u8>();
        let handle = coro::spawn(move || receiver.recv());
        coro::yield_now();
        drop(sender);
        assert_eq!(handle.join().unwrap(), Err(RecvError::Closed));
        let (sender, receiver) = oneshot();
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.send(3), Err(3));
    });
}

#[test]
fn broadcast_reaches_everybody_and_ends() {
    every_order(|| {
        let (sender, receiver) = broadcast(8);
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let receiver = receiver.clone();
                coro::spawn(move || {
                    let mut sum = 0;
                    while let Ok(value) = receiver.recv() {
                        sum += value;
                    }
                    sum
                })
            })
            .collect();
        for value in 0..8 {
            assert_eq!(sender.send(value), 4);
            coro::yield_now();
        }
        assert_eq!(sender.subscribe().try_recv(), Err(TryRecvError::Empty));
        drop(sender);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 28);
        }
        drop(receiver);
    });
}

/// A value whose clone does something.
struct Busy(u32, Rc<dyn Fn(u32)>);

impl Clone for Busy {
    fn clone(&self) -> Self {
        (self.1)(self.0);
        Self(self.0, Rc::clone(&self.1))
    }
}

#[test]
fn broadcast_values_may_use_the_channel_while_they_are_cloned() {
    // Goal: a clone that waits holds up nobody, one that sends, too, even over the value it clones; two coroutines at
    // one receiver get different values. Method: a ring of one, so that each send overwrites what is being cloned.
    every_order(|| {
        let (sender, receiver) = broadcast(1);
        let wait: Rc<dyn Fn(u32)> = Rc::new(|number| {
            if number < 3 {
                coro::sleep(10 * MS);
            }
        });
        let receiver = Rc::new(receiver);
        sender.send(Busy(1, Rc::clone(&wait)));
        let receive = || {
            let receiver = Rc::clone(&receiver);
            coro::spawn(move || receiver.recv().map(|busy| busy.0))
        };
        let first = receive();
        coro::sleep(MS);
        sender.send(Busy(2, Rc::clone(&wait)));
        let second = receive();
        coro::sleep(MS);
        sender.send(Busy(3, wait));
        assert_eq!(receiver.recv().map(|busy| busy.0), Ok(3));
        assert_eq!(first.join().unwrap(), Ok(1));
        assert_eq!(second.join().unwrap(), Ok(2));
        assert_eq!(receiver.try_recv().err(), Some(TryRecvError::Empty));

        let again = sender.clone();
        let quiet: Rc<dyn Fn(u32)> = Rc::new(|_| ());
        let send: Rc<dyn Fn(u32)> = Rc::new(move |number| {
            again.send(Busy(number + 1, Rc::clone(&quiet)));
        });
        sender.send(Busy(4, send));
        assert_eq!(receiver.recv().map(|busy| busy.0), Ok(4));
        assert_eq!(receiver.recv().map(|busy| busy.0), Ok(5));
    });
}

/// Two coroutines at one receiver: who goes away empty waits again, and not for longer than it said.
#[test]
fn a_limit_holds_although_another_one_takes_what_comes() {
    every_order(|| {
        let (sender, receiver) = broadcast(8);
        let receiver = Rc::new(receiver);
        let greedy = coro::spawn({
            let receiver = receiver.clone();
            move || while receiver.recv().is_ok() {}
        });
        coro::sleep(MS);
        let patient = coro::spawn(move || {
            let started = coro::Instant::now();
            receiver.recv_timeout(10 * MS).ok();
            started.elapsed()
        });
        for value in 0..6 {
            coro::sleep(4 * MS);
            sender.send(value);
        }
        assert!(patient.join().unwrap() <= 10 * MS);
        drop(sender);
        greedy.join().unwrap();
    });
}

#[test]
fn watch_shows_the_latest_and_tells_of_changes_once() {
    every_order(|| {
        let (sender, receiver) = watch(0);
        assert!(!receiver.has_changed());
        sender.send(1).unwrap();
        sender.send_modify(|value| *value += 1);
        receiver.changed().unwrap();
        assert_eq!(*receiver.borrow(), 2);
        assert_eq!(receiver.changed_timeout(MS), Err(RecvError::TimedOut));
        let waiting = coro::spawn({
            let receiver = receiver.clone();
            move || (receiver.changed(), receiver.changed())
        });
        coro::yield_now();
        sender.send(3).unwrap();
        drop(sender);
        assert_eq!(waiting.join().unwrap(), (Ok(()), Err(RecvError::Closed)));
        let (sender, receiver) = watch(0);
        drop(receiver);
        assert_eq!(sender.send(1), Err(1));
    });
}
