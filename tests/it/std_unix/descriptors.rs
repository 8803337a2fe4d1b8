//! Descriptors that travel with bytes.
#![expect(unsafe_code, reason = "sets an option that has no safe name")]

use super::with_scratch;
use coring::coro;
use coring::fs::File;
use coring::net::{MAX_DESCRIPTORS, UnixDatagram, UnixStream};
use coring_tests::random::pattern;
use coring_tests::{alone, check, proc, runtime, skip};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};

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

#[test]
fn a_socket_through_a_datagram() {
    // Goal: a bound and connected datagram socket carries a descriptor of a socket, which works at the other end.
    // Method: send one end of a pair, talk through it.
    check(|| {
        with_scratch(|scratch| {
            let [a, b] = ["a", "b"].map(|name| scratch.join(name));
            let (one, other) = (
                UnixDatagram::bind(&a).unwrap(),
                UnixDatagram::bind(&b).unwrap(),
            );
            let (sent, mut kept) = UnixStream::pair().unwrap();
            one.connect(&b).unwrap();
            assert_eq!(one.send_with_fds(&[1; 8], &[sent.as_fd()]).unwrap(), 8);
            let mut buffer = [0; 8];
            let mut received = other.recv_with_fds(&mut buffer).unwrap();
            assert_eq!((received.bytes, buffer), (8, [1; 8]));
            drop(sent);
            let mut arrived = UnixStream::from(received.descriptors.pop().unwrap());
            arrived.write_all(b"through it").unwrap();
            drop(arrived);
            let mut text = String::new();
            kept.read_to_string(&mut text).unwrap();
            assert_eq!(text, "through it");
        });
    });
}

#[test]
fn descriptors_nobody_asked_for() {
    // Goal: a plain read of bytes that carry a descriptor gets the bytes, and no descriptor stays behind.
    // Method: count them, in a process of its own.
    alone(|| {
        runtime(1).run(|| {
            let (one, mut other) = UnixStream::pair().unwrap();
            let file = tempfile::tempfile().unwrap();
            let before = proc::fds();
            for _ in 0..100 {
                one.send_with_fds(b"x", &[file.as_fd()]).unwrap();
                assert_eq!(other.read(&mut [0; 4]).unwrap(), 1);
            }
            assert_eq!(proc::fds(), before);
        });
    });
}

#[test]
fn no_room_for_what_comes() {
    // Goal: where the process may have no more descriptors, the bytes come, `truncated` says that some were lost, and none
    // leaks.
    // Method: a limit that leaves room for two of four, in a process of its own.
    alone(|| {
        runtime(1).run(|| {
            let (one, other) = UnixStream::pair().unwrap();
            let file = tempfile::tempfile().unwrap();
            one.send_with_fds(b"four", &[file.as_fd(); 4]).unwrap();
            let before = proc::fds();
            let highest = (0..)
                .filter(|number| !std::path::Path::new(&format!("/proc/self/fd/{number}")).exists())
                .nth(1);
            proc::limit_files(highest.unwrap() + 1);
            let received = other.recv_with_fds(&mut [0; 8]).unwrap();
            proc::raise_file_limit();
            assert_eq!((received.bytes, received.descriptors.len()), (4, 2));
            assert!(received.truncated);
            drop(received);
            assert_eq!(proc::fds(), before);
        });
    });
}

#[test]
fn what_comes_beside_descriptors() {
    // Goal: where somebody has asked for the sender's credentials and for a descriptor of its process, all descriptors of a full
    // message arrive none the less, and the one that was not sent leaks not.
    // Method: the options by their numbers; count descriptors, in a process of its own.
    const SO_PASSPIDFD: libc::c_int = 76;
    alone(|| {
        runtime(1).run(|| {
            let (one, other) = UnixDatagram::pair().unwrap();
            let file = tempfile::tempfile().unwrap();
            for option in [libc::SO_PASSCRED, SO_PASSPIDFD] {
                let on: libc::c_int = 1;
                // SAFETY: the value is readable, and as long as it is said to be.
                let outcome = unsafe {
                    libc::setsockopt(
                        other.as_raw_fd(),
                        libc::SOL_SOCKET,
                        option,
                        (&raw const on).cast(),
                        4,
                    )
                };
                if outcome != 0 {
                    skip!("the kernel has no SO_PASSPIDFD");
                }
            }
            let before = proc::fds();
            for _ in 0..10 {
                let many = vec![file.as_fd(); MAX_DESCRIPTORS];
                one.send_with_fds(b"x", &many).unwrap();
                let received = other.recv_with_fds(&mut [0; 1]).unwrap();
                assert_eq!(received.descriptors.len(), MAX_DESCRIPTORS);
                assert!(!received.truncated);
            }
            assert_eq!(proc::fds(), before);
        });
    });
}

#[test]
fn descriptors_go_with_the_first_byte() {
    // Goal: a message that is larger than the socket's buffer arrives whole, with its descriptors once.
    // Method: a slow receiver that counts both, and compares the bytes.
    check(|| {
        runtime(1).run(|| {
            let file = tempfile::tempfile().unwrap();
            let (one, other) = UnixStream::pair().unwrap();
            let bytes = pattern(7, 3 << 20);
            let expected = bytes.clone();
            let receiving = coro::spawn(move || {
                let (mut got, mut descriptors) = (Vec::<u8>::new(), 0);
                let mut buffer = [0; 10_000];
                loop {
                    let received = other.recv_with_fds(&mut buffer).unwrap();
                    if received.bytes == 0 {
                        assert!(got == expected);
                        return descriptors;
                    }
                    got.extend(&buffer[..received.bytes]);
                    descriptors += received.descriptors.len();
                    coro::yield_now();
                }
            });
            let sent = one.send_with_fds(&bytes, &[file.as_fd(); 3]).unwrap();
            assert_eq!(sent, bytes.len());
            drop(one);
            assert_eq!(receiving.join().unwrap(), 3);
        });
    });
}
