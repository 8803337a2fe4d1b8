//! What is queued together goes in together: in the order of the calls, with cancels that find what they mean.

use super::*;

fn recv(socket: &UnixStream, buffer: &mut [u8], flags: i32) -> Sqe {
    op::net::recv(socket.as_raw_fd(), buffer.as_mut_ptr(), buffer.len(), flags)
}

fn send(socket: &UnixStream, bytes: &[u8]) -> Sqe {
    op::net::send(socket.as_raw_fd(), bytes.as_ptr(), bytes.len(), 0)
}

/// Goal: operations begin in the order of the calls, in a small batch and in one of several portions. Method: a receive that does not
/// wait, before the send that it would need and after it.
#[test]
fn operations_begin_in_the_order_of_the_calls() {
    for features in feature_sets() {
        let mut ring = open(512, 1024, features);
        for others in [0, 300] {
            let (here, there) = UnixStream::pair().unwrap();
            let mut buffers = [[0; 8]; 2];
            for _ in 0..others {
                // SAFETY: a nop points at nothing.
                unsafe { ring.submit_detached(op::msg::nop()) }.unwrap();
            }
            let [early, late] = &mut buffers;
            let early = submit(&mut ring, recv(&here, early, libc::MSG_DONTWAIT), 0);
            submit(&mut ring, send(&there, b"hello"), 1);
            let late = submit(&mut ring, recv(&here, late, libc::MSG_DONTWAIT), 2);
            wait(&mut ring, 3);
            assert_eq!(ring.take(early).unwrap().result, -libc::EAGAIN);
            assert_eq!(ring.take(late).unwrap().result, 5);
        }
    }
}

/// Goal: a cancel that is queued with the receive finds it. Method: nothing else would end it.
#[test]
fn a_receive_is_cancelled_in_its_own_batch() {
    let mut ring = ring();
    let (here, _there) = UnixStream::pair().unwrap();
    let mut buffers = [[0; 8]; 3];
    for (cancel, buffer) in buffers.iter_mut().enumerate() {
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

/// Goal: none is lost or done twice, however many there are. Method: more than the queue takes, with the sends that they need in between.
#[test]
fn more_receives_than_the_queue_takes_are_all_done() {
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

/// Goal: what is handed over has been taken by the kernel. Method: its descriptor is closed at once.
#[test]
fn a_receive_is_handed_over() {
    let mut ring = ring();
    let (here, mut there) = UnixStream::pair().unwrap();
    let mut buffer = [0; 8];
    let received = submit(&mut ring, recv(&here, &mut buffer, 0), 0);
    ring.hand_over(&mut |_| panic!("nothing was sent")).unwrap();
    assert_eq!(ring.pending(), 0);
    drop(here);
    there.write_all(b"bye").unwrap();
    wait(&mut ring, 1);
    assert_eq!(ring.take(received).unwrap().result, 3);
}
