//! Mailboxes, meshes, topics: every message once, in its sender's order, whoever waits where and whoever goes.

use coring::mailbox::{
    Lagging, RecvError, SendError, Topic, TryRecvError, TrySendError, mesh, topic,
};
use coring::{coro, mailbox, spawn_on};
use coring_tests::conserve::Token;
use coring_tests::random::Random;
use coring_tests::{alone, builder, check, need_locked_kib, rounds, runtime, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn large_messages_need_no_large_stack() {
    // Goal: what a lane takes to set up does not depend on the size of its messages. Method: a stack of 256 KiB holds the copies that an
    // unoptimised call makes of a message of 4 KiB, but not a lane's; alone, since an overflow ends the process.
    alone(|| {
        runtime(2).run(|| {
            let (sender, mut receiver) = mailbox::<[u8; 4 << 10]>(4);
            let sending = spawn_on(1, move || sender.send([7; 4 << 10]).is_ok());
            assert!(receiver.recv().unwrap().iter().all(|byte| *byte == 7));
            assert!(sending.join().unwrap());
        });
    });
}

#[test]
fn every_message_once_and_in_its_senders_order() {
    // Goal: counted end to end: cores, several coroutines a core and foreign threads send into one mailbox; nothing is
    // lost, doubled or overtaken. Method: numbered messages; rings of one and of many; the receiver on core 0.
    check(|| {
        for (capacity, spin) in [(1, 0), (3, 20), (64, 0)] {
            let each = rounds(20_000, 10_000_000) / if capacity == 1 { 10 } else { 1 };
            let runtime = builder(3)
                .spin(Duration::from_micros(spin))
                .build()
                .unwrap();
            let threads = runtime.run(|| {
                let (sender, mut receiver) = mailbox(capacity);
                for core in 0..3 {
                    for lane in 0..2 {
                        let sender = sender.clone();
                        spawn_on(core, move || {
                            (0..each).for_each(|n| sender.send((core * 2 + lane, n)).unwrap());
                        });
                    }
                }
                let threads = [6, 7].map(|name| {
                    let sender = sender.clone();
                    thread::spawn(move || (0..each).for_each(|n| sender.send((name, n)).unwrap()))
                });
                drop(sender);
                let mut next = [0; 8];
                let mut batch = Vec::new();
                loop {
                    match receiver.recv_many(&mut batch, 50) {
                        Ok(count) => assert!((1..=50).contains(&count) && count == batch.len()),
                        Err(error) => break assert_eq!(error, RecvError::Disconnected),
                    }
                    for (name, n) in batch.drain(..) {
                        assert_eq!(n, next[name], "from {name}");
                        next[name] += 1;
                    }
                    if let Ok((name, n)) = receiver.try_recv() {
                        assert_eq!(n, next[name], "from {name}");
                        next[name] += 1;
                    }
                }
                assert_eq!(next, [each; 8]);
                threads
            });
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        }
    });
}

#[test]
fn bounds_and_ends_are_answers() {
    // Goal: full, empty and gone are told with the message; what was sent before the end is received.
    // Method: each case on one core; then with no runtime at all.
    let cases = || {
        let (sender, mut receiver) = mailbox(2);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        assert_eq!((sender.try_send(1), sender.try_send(2)), (Ok(()), Ok(())));
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        let limit = Duration::from_millis(5);
        assert_eq!(sender.send_timeout(3, limit), Err(SendError::TimedOut(3)));
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(sender.send(3), Ok(()));
        assert_eq!(receiver.len(), 2);
        drop(sender);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(receiver.recv_timeout(limit), Err(RecvError::Disconnected));

        let (sender, mut receiver) = mailbox::<u8>(1);
        let start = Instant::now();
        assert_eq!(receiver.recv_timeout(limit), Err(RecvError::TimedOut));
        assert!(start.elapsed() >= limit);
        drop(receiver);
        assert!(sender.is_disconnected());
        assert_eq!(sender.try_send(1), Err(TrySendError::Disconnected(1)));
        assert_eq!(sender.send(1), Err(SendError::Disconnected(1)));
    };
    check(|| {
        cases();
        runtime(1).run(cases);
    });
}

#[test]
fn room_that_cannot_exist_is_refused_at_once() {
    // Goal: whoever asks for too much hears of it, not who sends first. Method: the bounds of numbers and of memory,
    // for messages with and without bytes; what is possible is made, since nothing is allocated before a send.
    let refused = |make: fn()| std::panic::catch_unwind(make).is_err();
    assert!(refused(|| drop(mailbox::<u8>(0))));
    assert!(refused(|| drop(mailbox::<u8>(usize::MAX))));
    assert!(refused(|| drop(mailbox::<()>(usize::MAX))));
    assert!(refused(|| drop(mailbox::<u64>(usize::MAX / 16 + 2))));
    assert!(!refused(|| drop(mailbox::<u64>(usize::MAX / 32))));
    assert!(!refused(|| drop(mailbox::<()>(usize::MAX / 32))));
}

#[test]
fn a_cancelled_wait_loses_nothing() {
    // Goal: a receiver or sender that is cancelled at any moment neither loses nor doubles a message.
    // Method: receivers and senders on two cores are cancelled at random while numbers flow; all arrive, in order.
    check(|| {
        let count = rounds(2_000, 100_000);
        runtime(2).run(move || {
            let (sender, mut receiver) = mailbox(2);
            let sending = spawn_on(1, move || {
                let mut random = Random::new();
                for n in 0..count {
                    let mut message = n;
                    loop {
                        let sender = sender.clone();
                        let attempt = coro::spawn(move || sender.send(message));
                        (0..random.below(3)).for_each(|_| coro::yield_now());
                        attempt.cancel();
                        match attempt.join() {
                            Ok(Ok(())) => break,
                            Ok(Err(error)) => message = error.into_inner(),
                            // It had not begun.
                            Err(coro::JoinError::Cancelled) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
            let mut random = Random::new();
            let mut next = 0;
            while next < count {
                let attempt = coro::spawn(move || {
                    let message = receiver.recv();
                    (receiver, message)
                });
                // Let it begin, or the receiver would be dropped with the closure.
                (0..=random.below(3)).for_each(|_| coro::yield_now());
                attempt.cancel();
                let (back, message) = attempt.join().unwrap();
                receiver = back;
                match message {
                    Ok(n) => {
                        assert_eq!(n, next);
                        next += 1;
                    }
                    Err(error) => assert!(matches!(error, RecvError::Refused(_)), "{error}"),
                }
            }
            sending.join().unwrap();
        });
    });
}

#[test]
fn whoever_goes_the_other_side_learns_it() {
    // Goal: a receiver that goes wakes senders that wait for room, on every core and thread; a last sender that goes
    // wakes the receiver; every message is dropped exactly once. Method: tokens, many rounds, random moments.
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let made = Arc::new(AtomicUsize::new(0));
        let (dropped, counted) = (Arc::clone(&drops), Arc::clone(&made));
        runtime(2).run(move || {
            let mut random = Random::new();
            for _ in 0..rounds(200, 10_000) {
                let (sender, mut receiver) = mailbox(1);
                let send_on = {
                    let (drops, made) = (Arc::clone(&dropped), Arc::clone(&counted));
                    move |sender: coring::mailbox::Sender<Token>| loop {
                        made.fetch_add(1, Ordering::Relaxed);
                        if let Err(error) = sender.send(Token(Arc::clone(&drops))) {
                            break assert!(matches!(error, SendError::Disconnected(_)));
                        }
                    }
                };
                let (there, here, outside) = (send_on.clone(), send_on.clone(), send_on);
                let senders = [sender.clone(), sender.clone(), sender];
                let [one, two, three] = senders;
                let there = spawn_on(1, move || there(one));
                let here = coro::spawn(move || here(two));
                let thread = thread::spawn(move || outside(three));
                for _ in 0..random.below(20) {
                    drop(receiver.recv().unwrap());
                }
                drop(receiver);
                there.join().unwrap();
                here.join().unwrap();
                thread.join().unwrap();
            }
        });
        assert_eq!(drops.load(Ordering::Relaxed), made.load(Ordering::Relaxed));
    });
}

/// A message that is known to be whole, and counted when it goes.
struct Counted {
    words: [u64; 8],
    gone: Arc<AtomicU64>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gone.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn whoever_dies_nothing_is_halved_or_doubled() {
    // Goal: counted end to end, 10^8 messages in the heavy lane: cores and the whole runtime end at any moment, or the
    // receiver does. Of each sender a prefix arrives, in order, once and whole; all that it was told was sent, when the
    // receiver outlives it; and each message ever made is dropped once.
    // Method: senders on three cores, one at a time, from an iterator and in batches, with rings of 1 to 64; the receiver is a plain thread. In even
    // rounds main returns after a random number of messages has arrived, in odd ones the receiver goes.
    alone(|| {
        let wanted = rounds(100_000, 100_000_000) as u64;
        let mut random = Random::new();
        let mut total = 0;
        for round in 0u64.. {
            let (gone, made) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let told = Arc::new([const { AtomicU64::new(0) }; 3]);
            let until = random.below(20_000) as u64;
            let arrived = Arc::new(AtomicU64::new(0));
            let receiver_goes = round % 2 == 1;
            let capacity = 1 + random.below(64);
            let receiver = runtime(3).run(|| {
                let (sender, mut receiver) = mailbox(capacity);
                for core in 0..3 {
                    let sender = sender.clone();
                    let (gone, made, told) =
                        (Arc::clone(&gone), Arc::clone(&made), Arc::clone(&told));
                    spawn_on(core, move || {
                        let message = |n| {
                            made.fetch_add(1, Ordering::Relaxed);
                            let mut words = [n; 8];
                            words[0] = core as u64;
                            let gone = Arc::clone(&gone);
                            Counted { words, gone }
                        };
                        let mut next = 0;
                        loop {
                            let ended = match core {
                                0 => {
                                    let sent = sender.send(message(next));
                                    next += u64::from(sent.is_ok());
                                    sent.is_err()
                                }
                                1 => {
                                    let mut numbers = next..next + 50;
                                    let sent = sender.send_all(numbers.by_ref().map(message));
                                    // The one that came back was given, too.
                                    next = numbers.start - u64::from(sent.is_err());
                                    sent.is_err()
                                }
                                _ => {
                                    let mut batch: Vec<_> =
                                        (next..next + 50).map(message).collect();
                                    let sent = sender.send_many(&mut batch);
                                    next += 50 - batch.len() as u64;
                                    sent.is_err()
                                }
                            };
                            told[core].store(next, Ordering::Relaxed);
                            if ended {
                                return;
                            }
                        }
                    });
                }
                drop(sender);
                let there = Arc::clone(&arrived);
                let receiver = thread::spawn(move || {
                    let (mut next, mut batch) = ([0u64; 3], Vec::new());
                    let take = |message: &Counted, next: &mut [u64; 3]| {
                        let core = usize::try_from(message.words[0]).unwrap();
                        assert_eq!(message.words[1..], [next[core]; 7], "of core {core}");
                        next[core] += 1;
                    };
                    while receiver.recv_many(&mut batch, 100).is_ok() {
                        batch
                            .drain(..)
                            .for_each(|message| take(&message, &mut next));
                        if receiver
                            .recv_each(70, |message| take(&message, &mut next))
                            .is_err()
                        {
                            break;
                        }
                        let sum = next.iter().sum();
                        there.store(sum, Ordering::Relaxed);
                        if receiver_goes && sum >= until {
                            break;
                        }
                    }
                    next
                });
                coring_tests::until("messages have arrived", || {
                    let all_gone = receiver_goes && receiver.is_finished();
                    all_gone || arrived.load(Ordering::Relaxed) >= until
                });
                receiver
            });
            let received = receiver.join().unwrap();
            let told = told.each_ref().map(|told| told.load(Ordering::Relaxed));
            if receiver_goes {
                assert!(
                    received
                        .iter()
                        .zip(&told)
                        .all(|(received, told)| received <= told)
                );
            } else {
                assert_eq!(received, told, "what was sent arrives");
            }
            assert_eq!(
                gone.load(Ordering::Relaxed),
                made.load(Ordering::Relaxed),
                "dropped once"
            );
            total += received.iter().sum::<u64>();
            if total >= wanted {
                println!("{total} messages in {round} rounds");
                break;
            }
        }
    });
}

#[test]
fn calls_that_never_wait_let_others_run() {
    // Goal: who sends and receives without ever having to wait does not keep its core from other coroutines, timers and
    // the ring. Method: one core, both halves in one coroutine, until a sleeper has been woken; with single messages, with
    // batches, and with batches in place.
    check(|| {
        for way in 0..3 {
            runtime(1).run(|| {
                let (sender, mut receiver) = mailbox(4);
                let sleeper = coro::spawn(|| coro::sleep(Duration::from_millis(1)));
                let mut batch = Vec::new();
                while !sleeper.is_finished() {
                    match way {
                        0 => {
                            sender.send(1).unwrap();
                            assert_eq!(receiver.recv(), Ok(1));
                        }
                        1 => {
                            batch.extend([1, 2]);
                            sender.send_many(&mut batch).unwrap();
                            assert_eq!(receiver.recv_many(&mut batch, 4), Ok(2));
                            batch.clear();
                        }
                        _ => {
                            sender.send_all([1, 2]).unwrap();
                            assert_eq!(receiver.recv_each(4, |_| ()), Ok(2));
                        }
                    }
                }
                sleeper.join().unwrap();
            });
        }
    });
}

#[test]
fn a_stream_that_stops_in_the_middle_of_a_turn() {
    // Goal: a receiver that falls asleep while its sender, which has sent so much that it leaves fences out, computes on
    // without a switch, has the next message as soon as it is sent; and so does a sender that waits for room.
    // Method: thousands of messages in one turn, a random pause, one more; the sender looks for the answer without a switch.
    check(|| {
        for spin in [0, 20] {
            let runtime = builder(2)
                .spin(Duration::from_micros(spin))
                .build()
                .unwrap();
            runtime.run(|| {
                let (sender, mut receiver) = mailbox(4096);
                let received = Arc::new(AtomicU64::new(0));
                let there = Arc::clone(&received);
                let receiving = spawn_on(1, move || {
                    for n in receiver.iter() {
                        there.store(n, Ordering::Release);
                    }
                });
                let mut random = Random::new();
                let mut next = 0;
                for _ in 0..rounds(300, 30_000) {
                    for _ in 0..3_000 {
                        next += 1;
                        sender.send(next).unwrap();
                    }
                    let all_received = || received.load(Ordering::Acquire) == next;
                    while !all_received() {
                        std::hint::spin_loop();
                    }
                    (0..random.below(20_000)).for_each(|_| std::hint::spin_loop());
                    next += 1;
                    sender.try_send(next).unwrap();
                    while received.load(Ordering::Acquire) != next {
                        std::hint::spin_loop();
                    }
                }
                drop(sender);
                receiving.join().unwrap();
            });
        }
    });
}

#[test]
fn a_runtime_that_ends_disconnects_and_outlives_nothing() {
    // Goal: a thread that waits on a mailbox whose other side lived in a runtime is told when that runtime ends; the
    // halves may be used after. Method: a thread receives from, another sends to, a coroutine that never ends.
    check(|| {
        let (receiving, sending) = runtime(2).run(|| {
            let (to_thread, mut from_core) = mailbox(4);
            let (to_core, mut from_thread) = mailbox(4);
            let receiving = thread::spawn(move || from_core.iter().count());
            let received = Arc::new(AtomicBool::new(false));
            let has_received = Arc::clone(&received);
            spawn_on(1, move || {
                to_thread.send(1).unwrap();
                while from_thread.recv().is_ok() {
                    received.store(true, Ordering::Release);
                }
                drop(to_thread);
            });
            let sending = thread::spawn(move || while to_core.send(7).is_ok() {});
            until("it receives", || has_received.load(Ordering::Acquire));
            (receiving, sending)
        });
        assert_eq!(receiving.join().unwrap(), 1);
        sending.join().unwrap();
    });
}

#[test]
fn full_rings_in_a_cycle_do_not_lock_cores() {
    // Goal: A waits for room at B while B waits for room at A: both cores go on, and the receivers there resolve it.
    // Method: rings of one; each core floods the other from one coroutine and receives in another.
    check(|| {
        let each = rounds(5_000, 500_000);
        runtime(2).run(move || {
            let mesh = mesh::<usize>(1);
            let done = coring::call_all(move |core| {
                let mut node = mesh.node();
                let (sender, other) = (mailbox(1), 1 - core);
                let (out, mut queue) = sender;
                // The node cannot be borrowed by two, so what is to be sent comes through a mailbox of this core.
                let feeder = coro::spawn(move || (0..each).for_each(|n| out.send(n).unwrap()));
                let (mut sent, mut received) = (0, 0);
                while sent < each || received < each {
                    if sent < each
                        && let Ok(n) = queue.recv_timeout(Duration::from_secs(5))
                    {
                        let mut message = n;
                        while let Err(error) = node.try_send(other, message) {
                            message = error.into_inner();
                            if received == each {
                                // Nothing comes from there any more; it only receives.
                                node.send(other, message).unwrap();
                                break;
                            }
                            assert_eq!(node.recv().unwrap(), received);
                            received += 1;
                        }
                        sent += 1;
                    } else {
                        assert_eq!(node.recv().unwrap(), received);
                        received += 1;
                    }
                }
                feeder.join().unwrap();
                received
            });
            assert_eq!(done.unwrap(), [each; 2]);
        });
    });
}

#[test]
fn a_mesh_reaches_everyone_and_its_unused_part_is_small() {
    // Goal: 64 cores on two CPUs start, talk all to all, and stop; a mesh that is not used costs next to nothing.
    // Method: every core broadcasts and counts what it receives.
    check(|| {
        need_locked_kib!(8 * 64);
        let start = Instant::now();
        let runtime = runtime(64);
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
        let before = coring_tests::proc::rss_kib_of("self");
        runtime.run(move || {
            let unused = mesh::<[u8; 64]>(1024);
            let used = coring_tests::proc::rss_kib_of("self").saturating_sub(before);
            assert!(used < 8 * 1024, "{used} KiB");
            drop(unused);
            let mesh = mesh::<usize>(4);
            let sums = coring::call_all(move |core| {
                let mut node = mesh.node();
                node.broadcast(core).unwrap();
                (0..64).map(|_| node.recv().unwrap()).sum::<usize>()
            });
            assert_eq!(sums.unwrap(), [63 * 32; 64]);
        });
    });
}

#[test]
fn topics_reach_all_and_slow_subscribers_choose() {
    // Goal: each subscriber gets every message in order, or misses some and knows how many; one that goes is left out.
    // Method: three subscribers on two cores, one of them slow and lossy, one slow and holding up.
    check(|| {
        runtime(2).run(|| {
            let news = topic::<usize>();
            let mut lossy = news.subscribe(4, Lagging::Misses);
            let mut patient = news.subscribe(4, Lagging::HoldsUp);
            let gone = news.subscribe(4, Lagging::HoldsUp);
            assert_eq!(news.subscriber_count(), 3);
            drop(gone);
            let publisher = news.clone();
            let publishing = spawn_on(1, move || {
                (0..100)
                    .map(|n| publisher.publish(n).unwrap())
                    .sum::<usize>()
            });
            let seen: Vec<_> = (0..100).map(|_| patient.recv().unwrap()).collect();
            assert_eq!(seen, (0..100).collect::<Vec<_>>());
            let reached = publishing.join().unwrap();
            let missed = usize::try_from(lossy.missed()).unwrap();
            assert_eq!(reached, 200 - missed);
            drop(news);
            let rest: Vec<_> = std::iter::from_fn(|| lossy.recv().ok()).collect();
            assert_eq!(rest.len(), 100 - missed);
            assert!(rest.is_sorted());
        });
    });
}

#[test]
fn a_message_may_use_its_topic_when_it_is_dropped() {
    // Goal: messages of a subscriber that went are dropped where the topic can be used.
    // Method: the destructor of a message publishes; the list of subscribers is changed while one of them is gone.
    #[derive(Clone)]
    struct Last(Option<Topic<Last>>, Arc<AtomicUsize>);
    impl Drop for Last {
        fn drop(&mut self) {
            if let Some(topic) = self.0.take() {
                topic.publish(Last(None, Arc::clone(&self.1))).unwrap();
                self.1.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    check(|| {
        runtime(1).run(|| {
            let (news, dropped) = (topic(), Arc::new(AtomicUsize::new(0)));
            let gone = news.subscribe(4, Lagging::Misses);
            let message = Last(Some(news.clone()), Arc::clone(&dropped));
            let before = news.clone();
            // Sent, and left where it is by a subscriber that goes.
            news.publish(message).unwrap();
            let left = dropped.load(Ordering::Relaxed);
            drop(gone);
            let _new = before.subscribe(4, Lagging::Misses);
            assert!(dropped.load(Ordering::Relaxed) > left);
        });
    });
}
