//! Datagrams.

use super::{name, path_of, with_scratch};
use coring::coro;
use coring::net::{Shutdown, UnixDatagram};
use coring_tests::{check, runtime, until_fails};
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::time::{Duration, Instant};

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
fn a_pair_talks() {
    // Goal: both directions of a pair, each message whole; without a peer it is BrokenPipe or ConnectionRefused, as std's.
    // Method: a word each; then one end goes.
    check(|| {
        runtime(1).run(|| {
            let (one, other) = UnixDatagram::pair().unwrap();
            let answering = coro::spawn(move || {
                let mut word = [0; 5];
                assert_eq!(one.recv(&mut word).unwrap(), 5);
                one.send(b"world!").unwrap();
                word
            });
            other.send(b"hello").unwrap();
            let mut word = [0; 6];
            assert_eq!(other.recv(&mut word).unwrap(), 6);
            assert_eq!(&word, b"world!");
            assert_eq!(&answering.join().unwrap(), b"hello");
            until_fails(ErrorKind::ConnectionRefused, || other.send(b"x"));
            let (stds, gone) = std::os::unix::net::UnixDatagram::pair().unwrap();
            drop(gone);
            until_fails(ErrorKind::ConnectionRefused, || stds.send(b"x"));
        });
    });
}

#[test]
fn who_has_no_name_sends_all_the_same() {
    // Goal: an unbound socket sends to a path and by connecting to it; the sender is unnamed.
    // Method: send_to, then connect and send, recv and recv_from.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("s");
            let receiver = UnixDatagram::bind(&path).unwrap();
            let sender = UnixDatagram::unbound().unwrap();
            assert!(sender.local_addr().unwrap().is_unnamed());
            assert!(sender.send(b"to whom?").is_err());
            sender.send_to(b"hello world", &path).unwrap();
            let mut buffer = [0; 16];
            let (bytes, from) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..bytes], b"hello world");
            assert!(from.is_unnamed());
            sender.connect(&path).unwrap();
            sender.send(b"again").unwrap();
            assert_eq!(receiver.recv(&mut buffer).unwrap(), 5);
        });
    });
}

#[test]
fn a_connection_can_be_changed() {
    // Goal: `connect` chooses the receiver, the last one counts; `connect_addr` takes the address a message came from.
    // Method: two receivers, then an answer to the sender.
    check(|| {
        with_scratch(|scratch| {
            let [a, b] = ["a", "b"].map(|name| scratch.join(name));
            let (one, other) = (
                UnixDatagram::bind(&a).unwrap(),
                UnixDatagram::bind(&b).unwrap(),
            );
            let sender = UnixDatagram::unbound().unwrap();
            let mut buffer = [0; 16];
            sender.connect(&a).unwrap();
            sender.send(b"to a").unwrap();
            assert_eq!(one.recv(&mut buffer).unwrap(), 4);
            sender.connect(&b).unwrap();
            sender.send(b"to b").unwrap();
            assert_eq!(other.recv(&mut buffer).unwrap(), 4);
            let address = one.local_addr().unwrap();
            other.send_to_addr(b"who?", &address).unwrap();
            let (_, from) = one.recv_from(&mut buffer).unwrap();
            one.connect_addr(&from).unwrap();
            one.send(b"me").unwrap();
            assert_eq!(other.recv(&mut buffer).unwrap(), 2);
        });
    });
}

#[test]
fn abstract_addresses() {
    // Goal: bind_addr, send_to_addr, connect_addr and recv_from by abstract names.
    // Method: two bound sockets and an unbound one.
    check(|| {
        runtime(1).run(|| {
            let [first, second] = ["ns1", "ns2"].map(name);
            let one = UnixDatagram::bind_addr(&first).unwrap();
            let local = one.local_addr().unwrap();
            assert_eq!(local.as_abstract_name(), first.as_abstract_name());
            let other = UnixDatagram::bind_addr(&second).unwrap();
            let mut buffer = [0; 16];
            one.send_to_addr(b"hello world", &second).unwrap();
            let (bytes, from) = other.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..bytes], b"hello world");
            assert_eq!(from.as_abstract_name(), first.as_abstract_name());
            let sender = UnixDatagram::unbound().unwrap();
            for (address, receiver) in [(&first, &one), (&second, &other)] {
                sender.connect_addr(address).unwrap();
                sender.send(b"x").unwrap();
                assert!(receiver.recv_from(&mut buffer).unwrap().1.is_unnamed());
            }
        });
    });
}

#[test]
fn peeking() {
    // Goal: peek and peek_from show the message that the next receive takes.
    // Method: each twice.
    check(|| {
        with_scratch(|scratch| {
            let [a, b] = ["a", "b"].map(|name| scratch.join(name));
            let (one, other) = (
                UnixDatagram::bind(&a).unwrap(),
                UnixDatagram::bind(&b).unwrap(),
            );
            one.send_to(b"hello world", &b).unwrap();
            for _ in 0..2 {
                let mut buffer = [0; 11];
                assert_eq!(other.peek(&mut buffer).unwrap(), 11);
                assert_eq!(&buffer, b"hello world");
                let (bytes, from) = other.peek_from(&mut buffer).unwrap();
                assert_eq!((bytes, from.as_pathname()), (11, Some(&*a)));
            }
            let mut buffer = [0; 11];
            assert_eq!(other.recv(&mut buffer).unwrap(), 11);
            other
                .set_read_timeout(Some(Duration::from_millis(5)))
                .unwrap();
            assert_eq!(
                other.peek(&mut buffer).unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
        });
    });
}

#[test]
fn limits_in_both_directions() {
    // Goal: a receive that finds nothing and a send that finds no room end with WouldBlock in time; zero is refused.
    // Method: fill the receiver's queue.
    check(|| {
        runtime(1).run(|| {
            let (one, other) = UnixDatagram::pair().unwrap();
            let time = Duration::from_millis(20);
            for set in [
                UnixDatagram::set_read_timeout,
                UnixDatagram::set_write_timeout,
            ] {
                let zero = set(&one, Some(Duration::ZERO)).unwrap_err();
                assert_eq!(zero.kind(), ErrorKind::InvalidInput);
                set(&one, Some(time)).unwrap();
            }
            assert_eq!(one.read_timeout().unwrap(), Some(time));
            assert_eq!(one.write_timeout().unwrap(), Some(time));
            let start = Instant::now();
            let silence = one.recv(&mut [0; 4]).unwrap_err();
            assert_eq!(silence.kind(), ErrorKind::WouldBlock);
            assert!(start.elapsed() >= time);
            let mut sent = 0;
            let full = loop {
                match one.send(b"x") {
                    Ok(_) => sent += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(full.kind(), ErrorKind::WouldBlock);
            for _ in 0..sent {
                assert_eq!(other.recv(&mut [0; 4]).unwrap(), 1);
            }
        });
    });
}

#[test]
fn the_longest_paths() {
    // Goal: sockets on paths of 107 bytes send to each other, and name each other.
    // Method: two of them.
    check(|| {
        with_scratch(|scratch| {
            let [a, b] = ["a", "b"].map(|letter| path_of(107, scratch, letter));
            let one = UnixDatagram::bind(&a).unwrap();
            let other = UnixDatagram::bind(&b).unwrap();
            one.send_to(b"hello world", &b).unwrap();
            let mut buffer = [0; 16];
            let (bytes, from) = other.recv_from(&mut buffer).unwrap();
            assert_eq!((bytes, from.as_pathname()), (11, Some(&*a)));
            let taken = UnixDatagram::bind(&a).unwrap_err();
            assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        });
    });
}

#[test]
fn messages_of_any_length() {
    // Goal: an empty message is one; a long one is cut to the buffer and gone; one that is too long for the socket is an
    // error, and nothing of it arrives; a shutdown ends both sides as std's does.
    // Method: each, the next message after it.
    check(|| {
        runtime(1).run(|| {
            let (one, other) = UnixDatagram::pair().unwrap();
            one.send(b"").unwrap();
            one.send(b"0123456789").unwrap();
            assert!(one.send(&vec![0; 8 << 20]).is_err());
            one.send(b"next").unwrap();
            let mut buffer = [0; 4];
            assert_eq!(other.recv(&mut buffer).unwrap(), 0);
            assert_eq!(other.recv(&mut buffer).unwrap(), 4);
            assert_eq!(&buffer, b"0123");
            assert_eq!(other.recv(&mut buffer).unwrap(), 4);
            assert_eq!(&buffer, b"next");
            other.shutdown(Shutdown::Read).unwrap();
            assert_eq!(one.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        });
    });
}
