//! Doorbells, peers and the kernel's task-work flag: a ring that sleeps is woken, one that works is not held up.

use super::*;

/// Goal: a doorbell ends a sleep, in every way that it is implemented. Method: the sleeper has no deadline; each
/// wake is answered before the next ring, so that none can stand in for another.
#[test]
fn a_doorbell_from_a_thread_wakes_whatever_is_switched_off() {
    for features in feature_sets() {
        let mut ring = open(8, 16, features);
        let doorbell = ring.doorbell();
        let (awake, asleep) = mpsc::channel::<u64>();
        let peer = thread::spawn(move || {
            for round in asleep {
                thread::sleep(Duration::from_micros(round % 3 * 100));
                doorbell.ring();
            }
        });
        for round in 0..20u64 {
            let wakes = ring.stats().wakes;
            awake.send(round).unwrap();
            while ring.stats().wakes == wakes {
                ring.turn(Wait::Until(Some(monotonic_ns() + 10 * SECOND)), &mut |_| ())
                    .unwrap();
            }
        }
        drop(awake);
        peer.join().unwrap();
    }
}

/// Goal: a wake that is reaped while the ring is busy still ends the next sleep.
#[test]
fn a_wake_heard_while_busy_is_not_slept_over() {
    for features in [Features::ALL, Features::ALL.without(Feature::SyncMsgRing)] {
        let mut ring = open(8, 16, features);
        ring.turn(Wait::Submit, &mut |_| ()).unwrap();
        ring.doorbell().ring();
        while ring.stats().wakes == 0 {
            ring.turn(Wait::Submit, &mut |_| ()).unwrap();
        }
        let start = Instant::now();
        ring.turn(Wait::Until(Some(monotonic_ns() + 10 * SECOND)), &mut |_| ())
            .unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "slept over a wake"
        );
    }
}

/// Goal: the eventfd is watched again after the kernel ended the poll, as it may do under pressure.
#[test]
fn the_doorbell_is_watched_again() {
    let mut ring = open(8, 16, Features::ALL.without(Feature::SyncMsgRing));
    for _ in 0..3 {
        ring.turn(Wait::Submit, &mut |_| ()).unwrap();
        let wakes = ring.stats().wakes;
        ring.cancel_all().unwrap(); // Meets the poll, too, which says so like a wake.
        while ring.stats().wakes == wakes {
            ring.turn(Wait::Submit, &mut |_| ()).unwrap();
        }
        ring.turn(Wait::Until(Some(1)), &mut |_| ()).unwrap();

        let wakes = ring.stats().wakes;
        ring.doorbell().ring();
        let deadline = monotonic_ns() + 5 * SECOND;
        while ring.stats().wakes == wakes {
            ring.turn(Wait::Until(Some(deadline)), &mut |_| ()).unwrap();
            assert!(monotonic_ns() < deadline, "nobody listens to the bell");
        }
    }
}

/// Goal: a flag that the kernel raised too late holds no turn up, and lowering it loses nothing.
/// Method: a thread on another CPU rings, and rings again when it was heard, while this one enters again and again,
/// with a nop each time, so that enters meet wake-ups in every phase. A turn without an end or a lost wake stops the
/// exchange. Without the cure it stops within the first thousands of rounds.
#[test]
fn a_flag_raised_too_late_is_lowered() {
    const ROUNDS: u64 = 20_000;
    let heard = Arc::new(AtomicU64::new(0));
    let (done, finished) = mpsc::channel();
    let ears = Arc::clone(&heard);
    thread::spawn(move || {
        let mut ring = ring();
        let doorbell = ring.doorbell();
        let peer = thread::spawn(move || {
            let start = Instant::now();
            // One CPU for both makes few rounds, and nothing to be found in them.
            for round in (1..=ROUNDS).take_while(|_| start.elapsed() < Duration::from_secs(1)) {
                doorbell.ring();
                let mut spins = 0u32;
                while heard.load(Ordering::Acquire) < round {
                    spins += 1;
                    if spins.is_multiple_of(1000) {
                        thread::yield_now();
                    }
                }
            }
        });
        let mut turns = 0u32;
        while !peer.is_finished() {
            turns += 1;
            let wait = if turns.is_multiple_of(64) {
                Wait::Until(None)
            } else {
                Wait::Submit
            };
            // SAFETY: a nop points at nothing.
            unsafe { ring.submit_detached(op::msg::nop()) }.unwrap();
            ring.turn(wait, &mut |_| ()).unwrap();
            ears.store(ring.stats().wakes, Ordering::Release);
        }
        peer.join().unwrap();
        drain(&mut ring);
        done.send(ring.stats()).unwrap();
    });
    let stats = finished
        .recv_timeout(Duration::from_secs(20))
        .expect("a turn without an end, or a lost wake");
    println!("{stats:?}");
}

#[test]
fn one_ring_wakes_another() {
    for features in [
        Features::ALL,
        Features::ALL.without(Feature::MsgRing),
        Features::NONE,
    ] {
        let (send, receive) = mpsc::channel();
        let sleeper = thread::spawn(move || {
            let mut ring = open(8, 16, features);
            send.send(ring.doorbell()).unwrap();
            while ring.stats().wakes == 0 {
                ring.turn(Wait::Until(Some(monotonic_ns() + 10 * SECOND)), &mut |_| ())
                    .unwrap();
            }
        });
        let mut ring = open(8, 16, features);
        let doorbell = receive.recv().unwrap();
        // SAFETY: the next turn enters, and the peer is there until it was rung.
        unsafe { ring.ring_doorbell(&doorbell) };
        ring.turn(Wait::Submit, &mut |_| ()).unwrap();
        sleeper.join().unwrap();
        assert_eq!(ring.stats().doorbells_failed, 0);

        // The peer is gone: its bell is silent, and says so.
        doorbell.ring();
        // SAFETY: the bell knows that it is gone, so nothing is queued.
        unsafe { ring.ring_doorbell(&doorbell) };
        assert_eq!((ring.stats().doorbells_failed, ring.pending()), (1, 0));
    }
}
