//! Multishot operations, provided and registered buffers, on the running kernel.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;

use super::*;
use crate::{BufferError, BufferRing, Carries, Event};

pub(super) fn submit_multishot(ring: &mut Ring, sqe: Sqe, carries: Carries) -> OpId {
    // SAFETY: what an operation points at here is kept by `carries`, which says what its completions carry.
    unsafe { ring.submit_multishot(sqe, carries) }.expect("there is room")
}

fn accept(ring: &mut Ring, listener: &TcpListener) -> OpId {
    let sqe = op::net::accept_multishot(listener.as_raw_fd(), libc::SOCK_CLOEXEC);
    submit_multishot(ring, sqe, Carries::Descriptors)
}

fn recv(ring: &mut Ring, socket: &impl AsRawFd, buffers: &BufferRing) -> OpId {
    let group = buffers.group().expect("the kernel takes from it");
    let sqe = op::net::recv_multishot(socket.as_raw_fd(), group, 0);
    submit_multishot(ring, sqe, Carries::Buffers(buffers.clone()))
}

/// Waits for the next completion of an operation that is not over.
pub(super) fn next(ring: &mut Ring, op: OpId) -> Event {
    let deadline = monotonic_ns() + 10 * SECOND;
    loop {
        if let Some(event) = ring.next_or_watch(op, token(0)) {
            return event;
        }
        ring.turn(Wait::Until(Some(deadline)), &mut |_| ()).unwrap();
        assert!(monotonic_ns() < deadline, "nothing comes of {op:?}");
    }
}

/// Turns until the kernel has ended an operation.
fn end(ring: &mut Ring, op: OpId) {
    while ring.is_in_flight(op) {
        ring.turn(Wait::Until(None), &mut |_| ()).unwrap();
    }
}

/// Turns until `done`, whatever comes.
fn turn_until(ring: &mut Ring, mut done: impl FnMut(&mut Ring) -> bool) {
    let deadline = monotonic_ns() + 10 * SECOND;
    while !done(ring) {
        let soon = monotonic_ns() + SECOND / 1000;
        ring.turn(Wait::Until(Some(soon)), &mut |_| ()).unwrap();
        assert!(monotonic_ns() < deadline, "waited for nothing");
    }
}

fn descriptor(event: &Event) -> TcpStream {
    let fd = i32::try_from(event.completion.into_result().unwrap()).unwrap();
    // SAFETY: the kernel has just given us this descriptor.
    TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn connect(listener: &TcpListener, count: usize) -> Vec<TcpStream> {
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect(address).unwrap();
    std::iter::repeat_with(connect).take(count).collect()
}

/// Whether the peer has closed its end: the accepted descriptor did not leak.
fn is_closed_by_peer(mut client: &TcpStream) -> bool {
    let timeout = Some(Duration::from_secs(10));
    client.set_read_timeout(timeout).unwrap();
    match client.read(&mut [0]) {
        Ok(count) => count == 0,
        // Never accepted: the listener has gone with it in its queue.
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn one_accept_takes_many_connections() {
    let mut ring = ring();
    let listener = listen();
    let op = accept(&mut ring, &listener);
    let mut clients = connect(&listener, 100);
    for (n, client) in clients.iter_mut().enumerate() {
        let event = next(&mut ring, op);
        assert!(event.more());
        let mut server = descriptor(&event);
        assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
        server.write_all(&[u8::try_from(n).unwrap()]).unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(usize::from(byte[0]), n, "in the order they came");
    }
    assert!(ring.next(op).is_none());
    assert_eq!(ring.stats().submitted, 1);
    ring.abandon(op);
    end(&mut ring, op);
}

/// Goal: the same loop does without the feature, with an operation for each connection.
#[test]
fn an_accept_that_completes_once_fits_the_same_loop() {
    let mut ring = open(8, 16, Features::NONE);
    let listener = listen();
    let _clients = connect(&listener, 10);
    let null = std::ptr::null_mut();
    for _ in 0..10 {
        let sqe = op::net::accept(listener.as_raw_fd(), null, null.cast(), libc::SOCK_CLOEXEC);
        let op = submit_multishot(&mut ring, sqe, Carries::Descriptors);
        let event = next(&mut ring, op);
        assert!(!event.more());
        drop(descriptor(&event));
    }
}

/// Goal: two buffers are enough for a stream of any length, nothing is lost by running out of them.
#[test]
fn a_receive_with_two_buffers_runs_out_and_goes_on() {
    let mut ring = ring();
    let buffers = ring.provide_buffers(2, 16).unwrap();
    let (reader, mut writer) = UnixStream::pair().unwrap();
    let sent: Vec<u8> = (0..=255).collect();
    writer.write_all(&sent).unwrap();
    drop(writer);

    let (mut received, mut times_out, mut held) = (Vec::new(), 0, Vec::new());
    let mut op = recv(&mut ring, &reader, &buffers);
    loop {
        let event = next(&mut ring, op);
        match event.completion.result {
            0 => {
                assert!(event.buffer.is_none() && !event.more());
                break;
            }
            result if result == -libc::ENOBUFS => {
                assert!(event.buffer.is_none() && !event.more());
                assert_eq!((buffers.available(), held.len()), (0, 2), "both are here");
                times_out += 1;
                held.clear();
                assert_eq!(buffers.available(), 2);
                op = recv(&mut ring, &reader, &buffers);
            }
            result => {
                let buffer = event.buffer.expect("bytes come in a buffer");
                assert_eq!(buffer.len(), usize::try_from(result).unwrap());
                received.extend_from_slice(&buffer);
                held.push(buffer);
                if !event.completion.more() {
                    op = recv(&mut ring, &reader, &buffers);
                }
            }
        }
    }
    assert_eq!(received, sent);
    assert!(times_out >= 7, "256 bytes in 32s: {times_out}");
    let stats = buffers.stats();
    assert_eq!((stats.fewest_available, stats.exhausted), (0, times_out));
}

/// Goal: thousands of buffers go around in a pool of four, and their ids with them, past the wrap of the positions.
#[test]
fn ids_are_conserved_over_seventy_thousand_messages() {
    let mut ring = ring();
    let buffers = ring.provide_buffers(4, 64).unwrap();
    let (reader, mut writer) = UnixStream::pair().unwrap();
    let mut op = recv(&mut ring, &reader, &buffers);
    let mut round = 0u32;
    while round < 70_000 {
        // As many as there are buffers, since then none runs out.
        for _ in 0..3 {
            writer.write_all(&round.to_ne_bytes()).unwrap();
            round += 1;
        }
        let mut bytes = Vec::new();
        while bytes.len() < 12 {
            let event = next(&mut ring, op);
            bytes.extend_from_slice(event.buffer.as_deref().unwrap_or_default());
            if !event.more() {
                op = recv(&mut ring, &reader, &buffers);
            }
        }
        let expected: Vec<u8> = (round - 3..round).flat_map(u32::to_ne_bytes).collect();
        assert_eq!(bytes, expected);
    }
    ring.abandon(op);
    end(&mut ring, op);
    assert_eq!(buffers.available(), 4);
}

#[test]
fn a_receive_that_completes_once_takes_a_buffer_when_something_comes() {
    let mut ring = open(8, 16, Features::ALL.without(Feature::MultishotRecv));
    let buffers = ring.provide_buffers(1, 16).unwrap();
    let (reader, mut writer) = UnixStream::pair().unwrap();
    let group = buffers.group().unwrap();
    let sqe = op::net::recv_pooled(reader.as_raw_fd(), group, 4, 0);
    let op = submit_multishot(&mut ring, sqe.clone(), Carries::Buffers(buffers.clone()));
    ring.turn(Wait::Submit, &mut |_| ()).unwrap();
    assert_eq!(buffers.available(), 1, "an idle socket has none");
    writer.write_all(b"message").unwrap();
    let event = next(&mut ring, op);
    assert!(!event.more());
    assert_eq!(&event.buffer.unwrap()[..], b"mess");

    // The same by the path for one-shot operations.
    let op = submit(&mut ring, sqe, 0);
    wait(&mut ring, 1);
    let completion = ring.take(op).unwrap();
    // SAFETY: of this pool, and claimed once.
    let buffer = unsafe { buffers.claim(completion) }.unwrap();
    assert_eq!((&buffer[..], buffers.available()), (&b"age"[..], 0));
}

#[test]
fn without_the_feature_buffers_are_leased() {
    let mut ring = open(8, 16, Features::NONE);
    let refused = ring.provide_buffers(4, 16).unwrap_err();
    assert!(matches!(refused, BufferError::Unsupported(_)));
    assert!(refused.to_string().contains("buffer-ring"), "{refused}");
    let buffers = BufferRing::unprovided(4, 16).unwrap();
    let (reader, mut writer) = UnixStream::pair().unwrap();
    writer.write_all(b"plain").unwrap();
    let mut buffer = buffers.lease().unwrap();
    let sqe = op::net::recv(reader.as_raw_fd(), buffer.as_mut_ptr(), buffer.len(), 0);
    let op = submit(&mut ring, sqe, 0);
    wait(&mut ring, 1);
    let length = ring.take(op).unwrap().into_result().unwrap();
    buffer.set_length(length as usize);
    assert_eq!(&buffer[..], b"plain");
}

#[test]
fn a_cancel_ends_after_what_was_queued_before() {
    let mut ring = ring();
    let listener = listen();
    let op = accept(&mut ring, &listener);
    let clients = connect(&listener, 5);
    ring.turn(Wait::Submit, &mut |_| panic!("nobody watches"))
        .unwrap();
    ring.cancel(op);
    end(&mut ring, op);
    for client in &clients {
        let event = next(&mut ring, op);
        let server = descriptor(&event);
        assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    }
    let last = next(&mut ring, op);
    assert_eq!(
        (last.completion.result, last.more()),
        (-libc::ECANCELED, false)
    );
    assert!(ring.next(op).is_none());
    ring.cancel(op); // Long done: nothing happens.
    assert_eq!(ring.pending(), 0);
}

#[test]
fn what_an_owner_leaves_behind_is_closed() {
    let mut ring = ring();
    let listener = listen();
    let op = accept(&mut ring, &listener);
    let early = connect(&listener, 5);
    ring.turn(Wait::Submit, &mut |_| ()).unwrap();
    ring.abandon(op);
    // The kernel does not know yet.
    let late = connect(&listener, 5);
    end(&mut ring, op);
    drop(listener);
    for client in early.iter().chain(&late) {
        assert!(is_closed_by_peer(client));
    }
    assert!(ring.next(op).is_none());
    assert_eq!(ring.stats().stale, 0);
}

#[test]
fn buffers_that_an_owner_leaves_behind_come_back() {
    let mut ring = ring();
    let buffers = ring.provide_buffers(8, 4).unwrap();
    let (reader, mut writer) = UnixStream::pair().unwrap();
    let op = recv(&mut ring, &reader, &buffers);
    ring.turn(Wait::Submit, &mut |_| ()).unwrap();
    writer.write_all(&[1; 12]).unwrap();
    ring.turn(Wait::Submit, &mut |_| ()).unwrap();
    assert_eq!(buffers.available(), 5, "three wait");
    let held = ring.next(op).unwrap();
    writer.write_all(&[2; 8]).unwrap();
    ring.abandon(op);
    end(&mut ring, op);
    assert_eq!(buffers.available(), 7, "all but the one that is held");
    drop(held);
    assert_eq!(buffers.available(), 8);
}

#[test]
fn dropping_a_ring_gives_back_what_nobody_took() {
    let mut ring = ring();
    let buffers = ring.provide_buffers(4, 4).unwrap();
    let (reader, mut writer) = UnixStream::pair().unwrap();
    let listener = listen();
    let ops = [
        accept(&mut ring, &listener),
        recv(&mut ring, &reader, &buffers),
    ];
    let clients = connect(&listener, 3);
    writer.write_all(&[7; 8]).unwrap();
    ring.turn(Wait::Submit, &mut |_| ()).unwrap();
    let held = next(&mut ring, ops[1]).buffer.unwrap();
    drain(&mut ring);
    drop(ring);
    drop(listener);
    assert!(clients.iter().all(is_closed_by_peer));
    assert_eq!(&held[..], &[7; 4], "outlives the ring");
    assert_eq!(buffers.available(), 3);
    drop(held);
    assert_eq!(buffers.available(), 4);
}

/// Goal: an owner that does not keep up is not drowned: the kernel is told to stop, and goes on later.
#[test]
fn a_full_window_ends_the_operation_and_loses_no_connection() {
    let options = SetupOptions {
        multishot_window: 4,
        ..SetupOptions::default()
    };
    let mut ring = Ring::open(&options).unwrap();
    let listener = listen();
    let mut op = accept(&mut ring, &listener);
    let mut clients = connect(&listener, 30);
    end(&mut ring, op);
    assert_eq!(ring.stats().crowded, 1);
    clients.extend(connect(&listener, 30));

    let mut accepted = Vec::new();
    while accepted.len() < clients.len() {
        let event = next(&mut ring, op);
        match event.completion.result {
            0.. => accepted.push(descriptor(&event)),
            result => assert_eq!(result, -libc::ECANCELED),
        }
        if !event.more() {
            assert!(ring.next(op).is_none(), "after the last one");
            op = accept(&mut ring, &listener);
        }
    }
    let peer = |stream: &TcpStream| stream.peer_addr().unwrap();
    let own = |stream: &TcpStream| stream.local_addr().unwrap();
    assert!(accepted.iter().map(peer).eq(clients.iter().map(own)));
    ring.abandon(op);
    end(&mut ring, op);
}

#[test]
fn a_token_comes_once_and_only_to_who_asked() {
    let mut ring = open(8, 16, Features::ALL);
    let (reader, mut writer) = UnixStream::pair().unwrap();
    let buffers = ring.provide_buffers(8, 4).unwrap();
    let op = recv(&mut ring, &reader, &buffers);
    writer.write_all(b"one").unwrap();
    ring.turn(Wait::Submit, &mut |_| panic!("nobody asked"))
        .unwrap();
    assert!(ring.next_or_watch(op, token(1)).is_some());
    assert!(ring.next_or_watch(op, token(2)).is_none());
    writer.write_all(b"two").unwrap();
    assert_eq!(wait(&mut ring, 1), [2]);
    writer.write_all(b"more").unwrap();
    ring.turn(Wait::Submit, &mut |_| panic!("it knows already"))
        .unwrap();
    assert_eq!(std::iter::from_fn(|| ring.next(op)).count(), 2);

    // Who goes away is not told.
    assert!(ring.next_or_watch(op, token(3)).is_none());
    writer.write_all(b"last").unwrap();
    ring.unwatch(op);
    ring.turn(Wait::Submit, &mut |_| panic!("it went away"))
        .unwrap();
    assert_eq!(&next(&mut ring, op).buffer.unwrap()[..], b"last");
    ring.abandon(op);
    end(&mut ring, op);
}

/// Goal: a completion queue of sixteen holds up a flood of multishot completions, and loses none.
#[test]
fn a_flood_fits_through_a_small_completion_queue() {
    let mut ring = open(8, 16, Features::ALL);
    let buffers = ring.provide_buffers(64, 8).unwrap();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let (reader, writer) = UnixStream::pair().unwrap();
        let op = recv(&mut ring, &reader, &buffers);
        streams.push((reader, writer, op, Vec::new()));
    }
    ring.turn(Wait::Submit, &mut |_| ()).unwrap();
    for (_, writer, ..) in &mut streams {
        (0..50u8).for_each(|byte| writer.write_all(&[byte; 8]).unwrap());
    }
    turn_until(&mut ring, |ring| {
        for (reader, _, op, received) in &mut streams {
            while let Some(event) = ring.next(*op) {
                received.extend_from_slice(event.buffer.as_deref().unwrap_or_default());
                if !event.more() {
                    *op = recv(ring, reader, &buffers);
                    break;
                }
            }
        }
        streams.iter().all(|(.., received)| received.len() == 400)
    });
    let expected: Vec<u8> = (0..50).flat_map(|byte| [byte; 8]).collect();
    for (_, _, op, received) in streams {
        assert_eq!(received, expected);
        ring.abandon(op);
    }
    drain(&mut ring);
    assert_eq!((buffers.available(), ring.stats().stale), (64, 0));
}

/// Goal: of a zero-copy send both completions come, one by one or as one, and lent memory is kept until the second.
#[test]
fn a_zero_copy_send_answers_twice() {
    let mut ring = ring();
    let listener = listen();
    let client = connect(&listener, 1).remove(0);
    let (mut server, _) = listener.accept().unwrap();
    let memory: Rc<[u8; 5000]> = Rc::new([9; 5000]);
    let send = op::net::send_zc(client.as_raw_fd(), memory.as_ptr(), memory.len(), 0);
    let mut received = [0; 5000];

    let op = submit(&mut ring, send.clone(), 0);
    wait(&mut ring, 1);
    assert_eq!(ring.take(op).unwrap().result, 5000);
    server.read_exact(&mut received).unwrap();

    let op = submit_multishot(&mut ring, send.clone(), Carries::Lent(memory.clone()));
    let first = next(&mut ring, op);
    assert_eq!((first.completion.result, first.more()), (5000, true));
    let second = next(&mut ring, op);
    assert_eq!(
        second.completion.flags & crate::CQE_F_NOTIF,
        crate::CQE_F_NOTIF
    );
    assert!(!second.more());
    server.read_exact(&mut received).unwrap();
    assert_eq!(received, [9; 5000]);

    let abandoned = submit_multishot(&mut ring, send, Carries::Lent(memory.clone()));
    ring.abandon(abandoned);
    assert_eq!(Rc::strong_count(&memory), 2);
    end(&mut ring, abandoned);
    assert_eq!(Rc::strong_count(&memory), 1);
    assert!(ring.take_unlent().is_empty(), "it is ours");
}

#[test]
fn memory_that_the_kernel_had_last_is_handed_out() {
    let mut ring = ring();
    let listener = listen();
    let client = connect(&listener, 1).remove(0);
    let (_server, _) = listener.accept().unwrap();
    let memory: Rc<[u8; 5000]> = Rc::new([9; 5000]);
    let watched = Rc::downgrade(&memory);
    let send = op::net::send_zc(client.as_raw_fd(), memory.as_ptr(), memory.len(), 0);
    let op = submit_multishot(&mut ring, send, Carries::Lent(memory));
    ring.abandon_multishots();
    end(&mut ring, op);
    assert_eq!(watched.strong_count(), 1, "not dropped inside the ring");
    assert_eq!(ring.take_unlent().len(), 1);
    assert_eq!(watched.strong_count(), 0);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "submit_multishot is for this")]
fn the_path_for_one_result_refuses_an_operation_with_many() {
    submit(&mut ring(), op::net::accept_multishot(0, 0), 0);
}

#[test]
fn registered_buffers_read_and_write_a_file() {
    let mut ring = ring();
    let registered = ring.register_buffers(2, 100).unwrap();
    assert!(registered.is_registered());
    let again = ring.register_buffers(2, 100).unwrap_err();
    assert!(matches!(again, BufferError::Kernel(_)), "{again}");
    let mut without = open(8, 16, Features::ALL.without(Feature::RegisteredBuffers));
    let off = without.register_buffers(2, 100).unwrap_err();
    assert!(matches!(off, BufferError::Unsupported(_)), "{off}");
    let plain = crate::RegisteredBuffers::unregistered(2, 100).unwrap();
    for pool in [registered, plain] {
        let file = tempfile::tempfile().unwrap();
        let (mut one, mut other) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        assert_eq!((one.len(), one.as_ptr().addr() % 4096), (4096, 0));
        let number = |slice: &[u8]| pool.number_of(slice);
        let numbers = pool.is_registered().then_some((0, 1));
        assert_eq!(number(&one).zip(number(&other[4095..])), numbers);
        for elsewhere in [&one[..0], &[0; 8]] {
            assert_eq!(number(elsewhere), None);
        }
        one.fill(3);
        let op = submit(&mut ring, one.write(file.as_raw_fd(), 1000, 0), 0);
        wait(&mut ring, 1);
        assert_eq!(ring.take(op).unwrap().result, 1000);
        let op = submit(&mut ring, other.read(file.as_raw_fd(), 4096, 10), 0);
        wait(&mut ring, 1);
        assert_eq!(ring.take(op).unwrap().result, 990);
        assert_eq!((&other[..990], other[990]), (&[3; 990][..], 0));
        drop((one, other));
        assert_eq!(pool.available(), 2);
    }
}
