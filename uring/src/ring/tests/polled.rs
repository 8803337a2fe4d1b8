//! Rings whose submissions a kernel thread takes, and rings that poll network cards.

use super::*;
use crate::{NapiPoll, SqPoll};

fn polled(sq_entries: u32, idle_ms: u64) -> Ring {
    let options = SetupOptions {
        sq_entries,
        sq_poll: Some(SqPoll {
            idle: Duration::from_millis(idle_ms),
            cpu: None,
        }),
        ..SetupOptions::default()
    };
    let ring = Ring::open(&options).unwrap();
    assert!(ring.capabilities().has(Feature::SqPoll), "since 5.11");
    assert!(!ring.capabilities().has(Feature::DeferTaskrun));
    ring
}

#[test]
fn a_poller_takes_what_is_pushed_without_an_enter() {
    // Goal: while the thread is awake a submission needs no system call.
    // Method: an idle time that nobody outwaits; the completion is looked for in memory, and enters are counted.
    let mut ring = polled(64, 60_000);
    let op = submit(&mut ring, op::msg::nop(), 0);
    assert_eq!(wait(&mut ring, 1), [0]);
    assert_eq!(ring.take(op).unwrap().result, 0);
    let system_calls = ring.stats().enters;
    for number in 0..50 {
        let deadline = monotonic_ns() + 10 * SECOND;
        submit(&mut ring, op::msg::nop(), number);
        let mut woken = 0;
        while woken == 0 {
            woken = ring.reap(&mut |_| ());
            assert!(monotonic_ns() < deadline, "number {number} is not taken");
            thread::yield_now();
        }
    }
    assert_eq!(ring.stats().enters, system_calls);
}

#[test]
fn a_poller_that_sleeps_is_woken() {
    // Goal: no submission is left lying when the thread goes to sleep, at whatever moment that is.
    // Method: the shortest idle time, and pauses around it; every wait has a deadline.
    let mut ring = polled(8, 1);
    for round in 0..300u64 {
        let pause = Duration::from_micros(500 + 10 * (round % 150));
        // Not to wait for something: the pause is what is tried.
        thread::sleep(pause);
        let op = submit(&mut ring, op::msg::nop(), 0);
        assert_eq!(wait(&mut ring, 1), [0], "after {pause:?}");
        assert!(ring.take(op).is_some());
    }
}

#[test]
fn a_full_queue_waits_for_the_poller() {
    // Goal: thousands of operations through a queue of 8, faster than the thread takes them: none is refused, lost or
    // doubled.
    let mut ring = polled(8, 1);
    let mut ops = Vec::new();
    for number in 0..5_000 {
        ops.push(submit(&mut ring, op::msg::nop(), number));
    }
    let mut woken = wait(&mut ring, ops.len());
    woken.sort_unstable();
    assert!(woken.into_iter().eq(0..5_000));
    assert!(ops.into_iter().all(|op| ring.take(op).is_some()));
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn buffers_come_and_go_through_a_polled_ring() {
    let mut ring = polled(8, 1);
    let (reader, mut writer) = UnixStream::pair().unwrap();
    for round in 0..2_000u32 {
        let mut buffer = [0u8; 4];
        let sqe = op::net::recv(reader.as_raw_fd(), buffer.as_mut_ptr(), 4, 0);
        let op = submit(&mut ring, sqe, 0);
        if round % 3 == 0 {
            // Cancelled before, while or after it is taken: what has come by then is told, the rest is in the socket.
            ring.cancel(op);
        }
        writer.write_all(&round.to_ne_bytes()).unwrap();
        wait(&mut ring, 1);
        match ring.take(op).unwrap().result {
            4 => assert_eq!(u32::from_ne_bytes(buffer), round),
            errno => {
                assert_eq!(errno, -libc::ECANCELED);
                let mut late = [0; 4];
                (&reader).read_exact(&mut late).unwrap();
                assert_eq!(u32::from_ne_bytes(late), round);
            }
        }
    }
}

#[test]
fn what_was_handed_over_needs_its_descriptor_no_more() {
    // Goal: after `hand_over` a descriptor that a queued operation names may be closed, and its number used again.
    // Method: the number is given to another socket at once, in which something lies: it must stay there.
    let mut ring = polled(8, 1);
    for _ in 0..500 {
        let (reader, writer) = UnixStream::pair().unwrap();
        let mut buffer = [0u8; 4];
        let sqe = op::net::recv(reader.as_raw_fd(), buffer.as_mut_ptr(), 4, 0);
        let op = submit(&mut ring, sqe, 0);
        ring.hand_over(&mut |_| ()).unwrap();
        assert_eq!(ring.pending(), 0);
        drop(reader);
        let (mut other, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"keep").unwrap();
        drop(writer);
        ring.cancel(op);
        while ring.is_in_flight(op) {
            ring.turn(Wait::Until(Some(monotonic_ns() + SECOND)), &mut |_| ())
                .unwrap();
        }
        assert!(ring.take(op).unwrap().result <= 0);
        let mut kept = [0; 4];
        other.read_exact(&mut kept).unwrap();
        assert_eq!(&kept, b"keep");
    }
}

#[test]
fn doorbells_wake_who_sleeps_in_a_polled_ring() {
    let mut ring = polled(8, 1);
    let bell = ring.doorbell();
    let ringer = thread::spawn(move || (0..200).for_each(|_| bell.ring()));
    let deadline = monotonic_ns() + 10 * SECOND;
    while ring.stats().wakes == 0 || !ringer.is_finished() {
        ring.turn(Wait::Until(Some(monotonic_ns() + SECOND)), &mut |_| ())
            .unwrap();
        assert!(monotonic_ns() < deadline, "not heard");
    }
    ringer.join().unwrap();
}

#[test]
fn without_the_features_rings_are_as_without_the_options() {
    let options = SetupOptions {
        sq_poll: Some(SqPoll {
            idle: Duration::from_millis(1),
            cpu: None,
        }),
        napi: Some(NapiPoll {
            longest: Duration::from_micros(50),
            prefer: false,
        }),
        features: Features::ALL
            .without(Feature::SqPoll)
            .without(Feature::NapiBusyPoll),
        ..SetupOptions::default()
    };
    let mut ring = Ring::open(&options).unwrap();
    let has = |feature| ring.capabilities().has(feature);
    assert!(!has(Feature::SqPoll) && !has(Feature::NapiBusyPoll));
    assert!(has(Feature::DeferTaskrun));
    submit(&mut ring, op::msg::nop(), 0);
    assert_eq!(wait(&mut ring, 1), [0]);
    // A CPU that does not exist: refused by the kernel, and done without.
    let nowhere = SetupOptions {
        sq_poll: Some(SqPoll {
            idle: Duration::from_millis(1),
            cpu: Some(1 << 20),
        }),
        ..SetupOptions::default()
    };
    let ring = Ring::open(&nowhere).unwrap();
    assert!(!ring.capabilities().has(Feature::SqPoll));
}

#[test]
fn a_ring_that_polls_cards_does_everything_else_too() {
    let options = SetupOptions {
        napi: Some(NapiPoll {
            longest: Duration::from_micros(50),
            prefer: true,
        }),
        ..SetupOptions::default()
    };
    let mut ring = Ring::open(&options).unwrap();
    assert!(ring.capabilities().has(Feature::NapiBusyPoll), "since 6.9");
    assert!(ring.capabilities().has(Feature::Restrictions));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    for round in 0..100u8 {
        let mut buffer = [0u8; 1];
        let sqe = op::net::recv(server.as_raw_fd(), buffer.as_mut_ptr(), 1, 0);
        let op = submit(&mut ring, sqe, 0);
        client.write_all(&[round]).unwrap();
        wait(&mut ring, 1);
        assert_eq!(ring.take(op).unwrap().result, 1);
        assert_eq!(buffer, [round]);
    }
    // A deadline is kept, polling or not.
    let deadline = monotonic_ns() + 1_000_000;
    ring.turn(Wait::Until(Some(deadline)), &mut |_| ()).unwrap();
    assert!(monotonic_ns() >= deadline);
}
