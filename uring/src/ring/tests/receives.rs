//! Receives go behind all else of a large batch, and nothing is lost or late for it.

use super::*;
use crate::ring::receives::LARGE;

/// Makes the next batch a large one.
fn crowd(ring: &mut Ring) {
    for _ in 0..LARGE {
        // SAFETY: a nop points at nothing.
        unsafe { ring.submit_detached(op::msg::nop()) }.unwrap();
    }
}

fn recv(socket: &UnixStream, buffer: &mut [u8], flags: i32) -> Sqe {
    op::net::recv(socket.as_raw_fd(), buffer.as_mut_ptr(), buffer.len(), flags)
}

fn send(socket: &UnixStream, bytes: &[u8]) -> Sqe {
    op::net::send(socket.as_raw_fd(), bytes.as_ptr(), bytes.len(), 0)
}

/// Goal: a receive finds what is sent by the same large batch, though it was queued before; in a small one it goes first. Method: one
/// that does not wait.
#[test]
fn a_receive_comes_after_the_sends_of_a_large_batch() {
    for features in feature_sets() {
        let mut ring = open(64, 256, features);
        let (here, there) = UnixStream::pair().unwrap();
        let mut buffer = [0; 10];
        let early = submit(&mut ring, recv(&here, &mut buffer, libc::MSG_DONTWAIT), 0);
        submit(&mut ring, send(&there, b"hello"), 1);
        wait(&mut ring, 2);
        assert_eq!(ring.take(early).unwrap().result, -libc::EAGAIN);
        crowd(&mut ring);
        let queued = LARGE as usize;
        let received = submit(&mut ring, recv(&here, &mut buffer, libc::MSG_DONTWAIT), 0);
        let sent = submit(&mut ring, send(&there, b", you"), 1);
        assert_eq!(ring.pending(), queued + 2);
        wait(&mut ring, 2);
        assert_eq!(ring.pending(), 0);
        assert_eq!(ring.take(sent).unwrap().result, 5);
        assert_eq!(ring.take(received).unwrap().result, 10);
        assert_eq!(&buffer, b"hello, you");
    }
}

/// Goal: a cancel that is queued with the receive finds it. Method: nothing else would end it.
#[test]
fn a_receive_is_cancelled_in_its_own_batch() {
    let mut ring = ring();
    let (here, _there) = UnixStream::pair().unwrap();
    let mut buffers = [[0; 8]; 3];
    for (cancel, buffer) in buffers.iter_mut().enumerate() {
        crowd(&mut ring);
        let received = submit(&mut ring, recv(&here, buffer, 0), 0);
        match cancel {
            0 => ring.cancel(received),
            1 => ring.cancel_fd(here.as_raw_fd()).unwrap(),
            _ => ring.cancel_all().unwrap(),
        }
        wait(&mut ring, 1);
        assert_eq!(ring.take(received).unwrap().result, -libc::ECANCELED);
    }
}

/// Goal: none is lost or done twice, however many there are. Method: more than may wait, and than the queue takes, with the sends
/// that they need in between.
#[test]
fn more_receives_than_may_wait_are_all_done() {
    const PAIRS: u16 = 300;
    let mut ring = open(64, 128, Features::ALL);
    let pairs: Vec<_> = (0..PAIRS).map(|_| UnixStream::pair().unwrap()).collect();
    let count = usize::from(PAIRS);
    let mut buffers = vec![[0; 2]; count];
    let numbers: Vec<_> = (0..PAIRS).map(u16::to_le_bytes).collect();
    let mut received = Vec::new();
    for (n, (here, there)) in pairs.iter().enumerate() {
        received.push(submit(&mut ring, recv(here, &mut buffers[n], 0), n));
        submit(&mut ring, send(there, &numbers[n]), count + n);
    }
    let mut woken = wait(&mut ring, 2 * count);
    woken.sort_unstable();
    assert_eq!(woken, (0..2 * count).collect::<Vec<_>>());
    for op in received {
        assert_eq!(ring.take(op).unwrap().result, 2);
    }
    assert_eq!(buffers, numbers);
}

/// Goal: what is handed over has been taken by the kernel, receives included. Method: its descriptor is closed at once.
#[test]
fn a_receive_is_handed_over() {
    let mut ring = ring();
    let (here, mut there) = UnixStream::pair().unwrap();
    let mut buffer = [0; 8];
    crowd(&mut ring);
    let received = submit(&mut ring, recv(&here, &mut buffer, 0), 0);
    ring.hand_over(&mut |_| panic!("nothing was sent")).unwrap();
    assert_eq!(ring.pending(), 0);
    drop(here);
    there.write_all(b"bye").unwrap();
    wait(&mut ring, 1);
    assert_eq!(ring.take(received).unwrap().result, 3);
}
