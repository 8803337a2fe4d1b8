//! Goal: select waits for any mix of branches, favours none, uses up only the one it takes.

use crate::every_order;
use coring_coro as coro;
use coro::channel::{bounded, broadcast, oneshot, watch};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

#[test]
fn any_kind_of_branch_wakes_it() {
    every_order(|| {
        for which in 0..9 {
            let (b_send, b_recv) = bounded::<u8>(1);
            let (full, drain) = bounded(1);
            full.send(0u8).unwrap();
            let (o_send, o_recv) = oneshot::<u8>();
            let mut o_send = Some(o_send);
            let (c_send, c_recv) = broadcast::<u8>(1);
            let (w_send, w_recv) = watch(0u8);
            let event = std::rc::Rc::new(coro::sync::Event::new());
            let notify = std::rc::Rc::new(coro::sync::Notify::new());
            let (e, n) = (event.clone(), notify.clone());
            let child = coro::spawn(move || {
                coro::sleep(if which == 7 { MS } else { 100 * MS });
                77
            });
            let timer = coro::select::after(if which == 8 { MS } else { 50 * MS });
            let trigger = coro::spawn(move || {
                coro::sleep(MS);
                match which {
                    0 => drop(b_send.send(1)),
                    1 => drop(drain.recv()),
                    2 => drop(o_send.take().map(|sender| sender.send(1))),
                    3 => drop(c_send.send(1)),
                    4 => drop(w_send.send(1)),
                    5 => event.set(),
                    6 => notify.notify_one(),
                    _ => {}
                }
                coro::sleep(100 * MS);
                drop((b_send, drain, o_send, c_send, w_send));
            });
            let chosen = coro::select! {
                value = b_recv.recv() => { assert_eq!(value, Ok(1)); 0 },
                sent = full.send(9) => { sent.unwrap(); 1 },
                value = o_recv.recv() => { assert_eq!(value, Ok(1)); 2 },
                value = c_recv.recv() => { assert_eq!(value, Ok(1)); 3 },
                changed = w_recv.changed() => { changed.unwrap(); 4 },
                () = e.wait() => 5,
                () = n.notified() => 6,
                value = child.join() => { assert_eq!(value.unwrap(), 77); 7 },
                () = timer.wait() => 8,
            };
            assert_eq!(chosen, which);
            assert!(!n.is_notified());
            trigger.join().ok();
        }
    });
}

#[test]
fn with_a_default_it_never_waits() {
    every_order(|| {
        let (sender, receiver) = bounded(2);
        let event = coro::sync::Event::new();
        let look = || {
            coro::select! {
                value = receiver.recv() => value.unwrap(),
                () = event.wait() => "event",
                default => "nothing",
            }
        };
        assert_eq!(look(), "nothing");
        sender.send("value").unwrap();
        let before = coro::Instant::now();
        assert_eq!((look(), look()), ("value", "nothing"));
        assert_eq!(before.elapsed(), Duration::ZERO);
        event.set();
        assert_eq!(look(), "event");
        let only = coro::select! { () = event.wait() => 1, default => 2 };
        assert_eq!(only, 1);
    });
}

#[test]
fn ready_branches_take_turns() {
    every_order(|| {
        let (a_send, a) = bounded(100);
        let (b_send, b) = bounded(100);
        for value in 0..100 {
            a_send.send(value).unwrap();
            b_send.send(value).unwrap();
        }
        let (mut from_a, mut from_b) = (0, 0);
        for _ in 0..100 {
            coro::select! {
                _ = a.recv() => from_a += 1,
                _ = b.recv() => from_b += 1,
            }
        }
        assert_eq!((from_a, from_b), (50, 50));
    });
}

/// A select that wakes for another reason must not have eaten a value, nor keep its place in a queue.
#[test]
fn what_it_does_not_take_is_left_for_others() {
    every_order(|| {
        let (sender, receiver) = bounded(1);
        let other = receiver.clone();
        let direct = coro::spawn(move || other.recv());
        let selecting = coro::spawn(move || {
            let timer = coro::select::after(5 * MS);
            coro::select! {
                value = receiver.recv() => value.ok(),
                () = timer.wait() => None,
            }
        });
        coro::sleep(MS);
        sender.send(1).unwrap();
        assert_eq!(
            direct.join().unwrap(),
            Ok(1),
            "who waits in line goes first"
        );
        assert_eq!(selecting.join().unwrap(), None);
        sender.send(2).ok();
    });
}

#[test]
fn cancelled_it_unwinds_and_leaves_every_branch() {
    every_order(|| {
        let (sender, receiver) = bounded(1);
        let event = std::rc::Rc::new(coro::sync::Event::new());
        let keep = receiver.clone();
        let handle = coro::spawn({
            let event = event.clone();
            move || {
                coro::select! {
                    _ = receiver.recv() => (),
                    () = event.wait() => (),
                }
            }
        });
        coro::sleep(MS);
        handle.cancel();
        assert!(matches!(handle.join(), Err(coro::JoinError::Cancelled)));
        event.set(); // would touch the dead stack
        sender.send(5).unwrap();
        assert_eq!(keep.recv(), Ok(5));
    });
}

#[test]
fn two_selects_on_one_handle_are_told() {
    every_order(|| {
        let sleeper = coro::spawn(|| coro::sleep(10 * MS));
        let sleeper = std::rc::Rc::new(sleeper);
        let select = |sleeper: std::rc::Rc<coro::JoinHandle<()>>| {
            coro::spawn(move || {
                let sleeper = &*sleeper;
                coro::select::wait_any([sleeper])
            })
        };
        let (a, b) = (select(sleeper.clone()), select(sleeper));
        let failed = usize::from(a.join().is_err()) + usize::from(b.join().is_err());
        assert_eq!(failed, 1);
    });
}
