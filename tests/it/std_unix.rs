//! Unix sockets as std documents them, and descriptors that travel.

use coring::coro;
use coring::fs::File;
use coring::net::{
    MAX_DESCRIPTORS, Shutdown, UnixDatagram, UnixListener, UnixSocketAddr, UnixStream,
};
use coring_tests::{alone, check, proc, runtime, until_in_flight};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::time::Duration;

#[test]
fn a_connection_through_a_path() {
    // Goal: bind, connect, accept, both directions, addresses; a second bind fails; the path stays after the drop.
    // Method: a scratch directory.
    check(|| {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        runtime(1).run(|| {
            let listener = UnixListener::bind(&path).unwrap();
            let address = listener.local_addr().unwrap();
            assert_eq!(address.as_pathname(), Some(&*path));
            let taken = UnixListener::bind(&path).unwrap_err();
            assert_eq!(taken.kind(), ErrorKind::AddrInUse);
            let server = coro::spawn(move || {
                let (mut stream, from) = listener.accept().unwrap();
                assert!(from.is_unnamed());
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                stream.write_all(text.to_uppercase().as_bytes()).unwrap();
            });
            let mut client = UnixStream::connect(&path).unwrap();
            assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*path));
            assert!(client.local_addr().unwrap().is_unnamed());
            client.write_all(b"hello").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "HELLO");
            server.join().unwrap();
            let refused = UnixStream::connect(&path).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let missing = UnixStream::connect(scratch.path().join("nothing")).unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::NotFound);
        });
        assert!(path.exists(), "as with std");
    });
}

#[test]
fn abstract_names() {
    // Goal: a name without a file works for streams and datagrams, and is gone with its socket.
    // Method: a name with this process's number.
    check(|| {
        runtime(1).run(|| {
            let name = format!("coring-test-{}", std::process::id());
            let address = UnixSocketAddr::from_abstract_name(&name).unwrap();
            let listener = UnixListener::bind_addr(&address).unwrap();
            let reported = listener.local_addr().unwrap();
            assert_eq!(reported.as_abstract_name(), Some(name.as_bytes()));
            let client = UnixStream::connect_addr(&address).unwrap();
            let (_accepted, _) = listener.accept().unwrap();
            let peer = client.peer_addr().unwrap();
            assert_eq!(peer.as_abstract_name(), Some(name.as_bytes()));
            drop((listener, client));
            assert_eq!(
                UnixStream::connect_addr(&address).unwrap_err().kind(),
                ErrorKind::ConnectionRefused
            );
            let receiver = UnixDatagram::bind_addr(&address).unwrap();
            let sender = UnixDatagram::unbound().unwrap();
            sender.send_to_addr(b"datagram", &address).unwrap();
            let mut buffer = [0; 16];
            let (bytes, from) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..bytes], b"datagram");
            assert!(from.is_unnamed());
        });
    });
}

#[test]
fn paths_that_cannot_be() {
    // Goal: too long, and a NUL byte inside, are InvalidInput before any system call.
    // Method: both, for each call that takes a path.
    check(|| {
        runtime(1).run(|| {
            for path in ["x".repeat(200), "nul\0byte".to_owned()] {
                let kinds = [
                    UnixListener::bind(&path).unwrap_err().kind(),
                    UnixStream::connect(&path).unwrap_err().kind(),
                    UnixDatagram::bind(&path).unwrap_err().kind(),
                    UnixDatagram::unbound()
                        .unwrap()
                        .send_to(b"", &path)
                        .unwrap_err()
                        .kind(),
                ];
                assert_eq!(kinds, [ErrorKind::InvalidInput; 4]);
            }
        });
    });
}

#[test]
fn pairs_timeouts_and_clones() {
    // Goal: a pair is connected; timeouts end reads with WouldBlock; the end is seen when all handles are gone.
    // Method: one pair.
    check(|| {
        runtime(1).run(|| {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            one.set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            let error = one.read(&mut [0; 4]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let zero = one.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
            assert_eq!(zero.kind(), ErrorKind::InvalidInput);
            other.write_all(b"late").unwrap();
            let mut clone = one.try_clone().unwrap();
            assert_eq!(clone.read(&mut [0; 8]).unwrap(), 4);
            drop(one);
            clone.write_all(b"x").unwrap();
            drop(clone);
            let mut rest = Vec::new();
            other.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"x");
            assert_eq!(other.write(b"y").unwrap_err().kind(), ErrorKind::BrokenPipe);
        });
    });
}

#[test]
fn shutdown_wakes_a_reader() {
    // Goal: `shutdown(Read)` on another handle ends a read that waits.
    // Method: seen in flight first.
    check(|| {
        runtime(1).run(|| {
            let (one, _other) = UnixStream::pair().unwrap();
            let mut clone = one.try_clone().unwrap();
            let reader = coro::spawn(move || clone.read(&mut [0; 4]));
            until_in_flight(1);
            one.shutdown(Shutdown::Read).unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), 0);
        });
    });
}

#[test]
fn datagrams_wait_for_room_and_lose_nothing() {
    // Goal: a sender that is faster than the receiver waits, and every message arrives, in order.
    // Method: more messages than the queue holds.
    check(|| {
        runtime(1).run(|| {
            let (sender, receiver) = UnixDatagram::pair().unwrap();
            let sending = coro::spawn(move || {
                for number in 0..2000_u32 {
                    assert_eq!(sender.send(&number.to_le_bytes()).unwrap(), 4);
                }
            });
            let mut buffer = [0; 8];
            for number in 0..2000_u32 {
                assert_eq!(receiver.recv(&mut buffer).unwrap(), 4);
                assert_eq!(buffer[..4], number.to_le_bytes());
            }
            sending.join().unwrap();
        });
    });
}

#[test]
fn datagrams_through_paths() {
    // Goal: send_to, connect, recv_from with the sender's path.
    // Method: two bound sockets.
    check(|| {
        let scratch = tempfile::tempdir().unwrap();
        let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
        runtime(1).run(|| {
            let one = UnixDatagram::bind(&a).unwrap();
            let other = UnixDatagram::bind(&b).unwrap();
            one.send_to(b"to b", &b).unwrap();
            let mut buffer = [0; 8];
            let (bytes, from) = other.recv_from(&mut buffer).unwrap();
            assert_eq!((bytes, from.as_pathname()), (4, Some(&*a)));
            assert_eq!(
                other.peer_addr().unwrap_err().kind(),
                ErrorKind::NotConnected
            );
            other.connect(&a).unwrap();
            assert_eq!(other.peer_addr().unwrap().as_pathname(), Some(&*a));
            other.send(b"back").unwrap();
            assert_eq!(one.recv(&mut buffer).unwrap(), 4);
        });
    });
}

#[test]
fn descriptors_travel() {
    // Goal: a descriptor that is sent arrives as another one for the same file, close-on-exec, on streams and
    // datagrams; none at all is fine; as many as the kernel allows are fine, one more is refused.
    // Method: write through the one that arrived, read through the original.
    check(|| {
        runtime(1).run(|| {
            let mut file = File::from(tempfile::tempfile().unwrap());
            let (one, other) = UnixStream::pair().unwrap();
            one.send_with_fds(b"take this", &[file.as_fd()]).unwrap();
            let mut buffer = [0; 16];
            let mut received = other.recv_with_fds(&mut buffer).unwrap();
            assert_eq!(&buffer[..received.bytes], b"take this");
            assert!(!received.truncated);
            let copy = received.descriptors.pop().unwrap();
            assert!(received.descriptors.is_empty());
            assert_ne!(copy.as_raw_fd(), file.as_raw_fd());
            File::from(copy).write_all(b"through the copy").unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "through the copy");

            one.send_with_fds(b"nothing", &[]).unwrap();
            assert!(
                other
                    .recv_with_fds(&mut buffer)
                    .unwrap()
                    .descriptors
                    .is_empty()
            );
            let (one, other) = UnixDatagram::pair().unwrap();
            let many = vec![file.as_fd(); MAX_DESCRIPTORS];
            one.send_with_fds(b"", &many).unwrap();
            let received = other.recv_with_fds(&mut buffer).unwrap();
            assert_eq!(received.descriptors.len(), MAX_DESCRIPTORS);
            let more = vec![file.as_fd(); MAX_DESCRIPTORS + 1];
            let refused = one.send_with_fds(b"", &more).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn a_cancelled_receive_leaks_no_descriptor() {
    // Goal: whether the cancellation or the message is first, no descriptor stays open that nobody holds.
    // Method: both at once, two thousand times; count descriptors before and after, in a process of its own.
    alone(|| {
        runtime(1).run(|| {
            let (one, other) = UnixStream::pair().unwrap();
            let file = tempfile::tempfile().unwrap();
            let before = proc::fds();
            let mut delivered = 0;
            for round in 0..2000 {
                let clone = other.try_clone().unwrap();
                let waiting = coro::spawn(move || {
                    clone
                        .recv_with_fds(&mut [0; 1])
                        .map(|got| got.descriptors.len())
                });
                coro::yield_now();
                if round % 2 == 0 {
                    waiting.cancel();
                    one.send_with_fds(b"x", &[file.as_fd()]).unwrap();
                } else {
                    one.send_with_fds(b"x", &[file.as_fd()]).unwrap();
                    waiting.cancel();
                }
                match waiting.join() {
                    Ok(Ok(count)) => {
                        assert_eq!(count, 1);
                        delivered += 1;
                    }
                    _ => {
                        let left = other.recv_with_fds(&mut [0; 1]).unwrap();
                        assert_eq!(left.descriptors.len(), 1);
                    }
                }
            }
            assert_eq!(proc::fds(), before);
            assert!(delivered > 0, "both outcomes happened");
        });
    });
}
