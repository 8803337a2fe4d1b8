//! Streams and listeners.

use super::{name, path_of, with_scratch};
use coring::coro;
use coring::net::{Shutdown, UnixDatagram, UnixListener, UnixSocketAddr, UnixStream};
use coring_tests::random::pattern;
use coring_tests::{check, runtime, until_fails, until_in_flight};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::time::{Duration, Instant};

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
            until_fails(ErrorKind::ConnectionRefused, || UnixStream::connect(&path));
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
            until_fails(ErrorKind::ConnectionRefused, || {
                UnixStream::connect_addr(&address)
            });
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
fn gathered_and_scattered() {
    // Goal: a vectored write sends its buffers in order, a vectored read fills them in order.
    // Method: twelve bytes through a pair.
    check(|| {
        runtime(1).run(|| {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            let parts = [b"hello".as_slice(), b" ", b"world!"].map(IoSlice::new);
            assert_eq!(one.write_vectored(&parts).unwrap(), 12);
            let (mut a, mut b) = ([0; 6], [0; 7]);
            let mut into = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
            assert_eq!(other.read_vectored(&mut into).unwrap(), 12);
            assert_eq!((&a, &b), (b"hello ", b"world!\0"));
        });
    });
}

#[test]
fn a_pair_has_no_names() {
    // Goal: both ends of a pair are unnamed, talk in both directions, and end.
    // Method: a word each.
    check(|| {
        runtime(1).run(|| {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            assert!(one.local_addr().unwrap().is_unnamed());
            assert!(other.peer_addr().unwrap().is_unnamed());
            let answering = coro::spawn(move || {
                let mut word = [0; 5];
                one.read_exact(&mut word).unwrap();
                assert_eq!(&word, b"hello");
                one.write_all(b"world!").unwrap();
            });
            other.write_all(b"hello").unwrap();
            let mut rest = String::new();
            other.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "world!");
            answering.join().unwrap();
        });
    });
}

#[test]
fn a_clone_reads_on() {
    // Goal: what one handle has not read the other one does.
    // Method: ten bytes, five each.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("s");
            let listener = UnixListener::bind(&path).unwrap();
            let mut client = UnixStream::connect(&path).unwrap();
            let mut clone = client.try_clone().unwrap();
            let mut server = listener.accept().unwrap().0;
            server.write_all(b"helloworld").unwrap();
            let mut word = [0; 5];
            client.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"hello");
            clone.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"world");
        });
    });
}

#[test]
fn listeners_are_iterators() {
    // Goal: `incoming`, and a loop over `&listener`, give connection after connection; by path and by abstract name.
    // Method: two clients for each.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("s");
            let by_path = UnixSocketAddr::from_pathname(&path).unwrap();
            for address in [by_path, name("iterators")] {
                let listener = UnixListener::bind_addr(&address).unwrap();
                let clients = coro::spawn(move || {
                    for byte in 0..4 {
                        let mut stream = UnixStream::connect_addr(&address).unwrap();
                        stream.write_all(&[byte]).unwrap();
                    }
                });
                let mut bytes = Vec::new();
                for stream in listener.incoming().take(2) {
                    stream.unwrap().read_to_end(&mut bytes).unwrap();
                }
                for stream in &listener {
                    stream.unwrap().read_to_end(&mut bytes).unwrap();
                    if bytes.len() == 4 {
                        break;
                    }
                }
                assert_eq!(bytes, [0, 1, 2, 3]);
                clients.join().unwrap();
            }
        });
    });
}

#[test]
fn how_long_a_path_may_be() {
    // Goal: 107 bytes work, for listeners, clients and datagrams; 108 are InvalidInput, before anything is made.
    // Method: paths of just these lengths.
    check(|| {
        with_scratch(|scratch| {
            let longest = path_of(107, scratch, "a");
            let listener = UnixListener::bind(&longest).unwrap();
            let client = UnixStream::connect(&longest).unwrap();
            assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*longest));
            listener.accept().unwrap();
            let too_long = path_of(108, scratch, "b");
            let kinds = [
                UnixListener::bind(&too_long).unwrap_err().kind(),
                UnixStream::connect(&too_long).unwrap_err().kind(),
                UnixDatagram::bind(&too_long).unwrap_err().kind(),
            ];
            assert_eq!(kinds, [ErrorKind::InvalidInput; 3]);
        });
    });
}

#[test]
fn timeouts_are_read_back() {
    // Goal: none, what was set, none again, each direction for itself; zero is refused; they go to std's type and back.
    // Method: set and ask.
    check(|| {
        runtime(1).run(|| {
            let (stream, _other) = UnixStream::pair().unwrap();
            let time = Some(Duration::from_secs(15410));
            assert_eq!(stream.read_timeout().unwrap(), None);
            stream.set_read_timeout(time).unwrap();
            assert_eq!(stream.read_timeout().unwrap(), time);
            assert_eq!(stream.write_timeout().unwrap(), None);
            stream.set_write_timeout(time).unwrap();
            assert_eq!(stream.write_timeout().unwrap(), time);
            let zero = Some(Duration::ZERO);
            let kinds = [
                stream.set_read_timeout(zero).unwrap_err().kind(),
                stream.set_write_timeout(zero).unwrap_err().kind(),
            ];
            assert_eq!(kinds, [ErrorKind::InvalidInput; 2]);
            let stream = UnixStream::from_std(stream.into_std());
            assert_eq!(stream.read_timeout().unwrap(), time);
            stream.set_read_timeout(None).unwrap();
            stream.set_write_timeout(None).unwrap();
            assert_eq!(stream.read_timeout().unwrap(), None);
            assert_eq!(stream.write_timeout().unwrap(), None);
        });
    });
}

#[test]
fn data_in_time_are_read() {
    // Goal: with a limit set, what is there is read, and then the limit ends the wait; a write that finds no room ends, too.
    // Method: eleven bytes; then far more than fits.
    check(|| {
        runtime(1).run(|| {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            let time = Duration::from_millis(20);
            one.set_read_timeout(Some(time)).unwrap();
            one.set_write_timeout(Some(time)).unwrap();
            other.write_all(b"hello world").unwrap();
            let mut buffer = [0; 11];
            one.read_exact(&mut buffer).unwrap();
            let start = Instant::now();
            let error = one.read_exact(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(start.elapsed() >= time);
            let mut taken = 0;
            let error = loop {
                match one.write(&[1; 1 << 20]) {
                    Ok(bytes) => taken += bytes,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            other.read_exact(&mut vec![0; taken]).unwrap();
        });
    });
}

#[test]
fn peeking() {
    // Goal: peek shows what the next read gives, as often as one likes.
    // Method: four bytes, twice.
    check(|| {
        runtime(1).run(|| {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            other.write_all(&[1, 3, 3, 7]).unwrap();
            let mut buffer = [0; 10];
            for _ in 0..2 {
                assert_eq!(one.peek(&mut buffer).unwrap(), 4);
            }
            assert_eq!(one.read(&mut buffer).unwrap(), 4);
            assert_eq!(buffer[..4], [1, 3, 3, 7]);
        });
    });
}

#[test]
fn abstract_connections() {
    // Goal: bind_addr and connect_addr by an abstract name, which both sides tell; a path that begins with NUL is none.
    // Method: a word there and one back.
    check(|| {
        runtime(1).run(|| {
            let address = name("connection");
            let listener = UnixListener::bind_addr(&address).unwrap();
            let taken = UnixListener::bind_addr(&address).unwrap_err();
            assert_eq!(taken.kind(), ErrorKind::AddrInUse);
            let serving = coro::spawn(move || {
                let mut stream = listener.accept().unwrap().0;
                let mut word = [0; 5];
                stream.read_exact(&mut word).unwrap();
                stream.write_all(b"world").unwrap();
                word
            });
            let mut stream = UnixStream::connect_addr(&address).unwrap();
            let peer = stream.peer_addr().unwrap();
            assert_eq!(peer.as_abstract_name(), address.as_abstract_name());
            stream.write_all(b"hello").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert_eq!(text, "world");
            assert_eq!(&serving.join().unwrap(), b"hello");
            let by_path = UnixStream::connect("\0asdf").unwrap_err();
            assert_eq!(by_path.kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn conversions_keep_the_descriptor() {
    // Goal: to std, to a plain descriptor and back it is the same socket, for each type; `{:?}` names it.
    // Method: follow the number.
    check(|| {
        runtime(1).run(|| {
            let (one, mut other) = UnixStream::pair().unwrap();
            let number = one.as_raw_fd();
            let fd = OwnedFd::from(UnixStream::from_std(one.into_std()));
            assert_eq!(fd.as_raw_fd(), number);
            let mut one = UnixStream::from(fd);
            one.write_all(b"same").unwrap();
            other.read_exact(&mut [0; 4]).unwrap();
            assert_eq!(
                format!("{one:?}"),
                format!("UnixStream {{ fd: {number}, local: (unnamed), peer: (unnamed) }}")
            );
            let listener = UnixListener::bind_addr(&name("conversions")).unwrap();
            let number = listener.as_raw_fd();
            let listener = UnixListener::from_std(listener.into_std());
            assert_eq!(listener.as_raw_fd(), number);
            assert!(format!("{listener:?}").contains("(abstract)"));
            let (datagram, _other) = UnixDatagram::pair().unwrap();
            let number = datagram.as_raw_fd();
            let datagram = UnixDatagram::from_std(datagram.into_std());
            assert_eq!(datagram.as_raw_fd(), number);
            assert!(datagram.take_error().unwrap().is_none());
        });
    });
}

#[test]
fn gathered_writes_go_on() {
    // Goal: a gathered write that the socket takes in many parts sends all bytes in order, those of at most 1,024 buffers; empty
    // buffers change nothing.
    // Method: buffers of odd lengths, so that parts end inside of them; a receiver that compares.
    check(|| {
        runtime(1).run(|| {
            let bytes = pattern(11, 5 << 20);
            let (mut buffers, mut rest) = (Vec::new(), &bytes[..]);
            while let Some((part, more)) = rest.split_at_checked(buffers.len() * 7 % 9973) {
                buffers.push(std::io::IoSlice::new(part));
                rest = more;
            }
            assert!(buffers.len() > 1024);
            let all: usize = buffers[..1024].iter().map(|part| part.len()).sum();
            let (mut one, mut other) = UnixStream::pair().unwrap();
            let expected = bytes[..all].to_vec();
            let receiving = coro::spawn(move || {
                let mut got = Vec::new();
                other.read_to_end(&mut got).unwrap();
                assert!(got == expected);
            });
            assert_eq!(one.write_vectored(&buffers).unwrap(), all);
            drop(one);
            receiving.join().unwrap();
        });
    });
}

#[test]
fn many_that_wait_to_connect_hold_up_nobody() {
    // Goal: connects to a listener that never accepts wait, more of them than the kernel has workers for the core, and hold up
    // no connect to another one, which has to wait for room as well.
    // Method: listeners with room for one connection; the second one accepts, the first one at the end.
    check(|| {
        with_scratch(|scratch| {
            let listen = |name: &str| {
                let socket =
                    socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
                let socket = socket.unwrap();
                let path = scratch.join(name);
                socket
                    .bind(&socket2::SockAddr::unix(&path).unwrap())
                    .unwrap();
                socket.listen(0).unwrap();
                (UnixListener::from(OwnedFd::from(socket)), path)
            };
            let connect = |path: &std::path::Path| {
                let path = path.to_owned();
                coro::spawn(move || UnixStream::connect(path))
            };
            let ((never, silent), (alive, busy)) = (listen("silent"), listen("busy"));
            let stuck: Vec<_> = (0..40).map(|_| connect(&silent)).collect();
            let first = connect(&busy).join().unwrap().unwrap();
            let second = connect(&busy);
            coro::sleep(Duration::from_millis(50));
            assert!(!second.is_finished(), "there is room for one");
            alive.accept().unwrap();
            second.join().unwrap().unwrap();
            drop(first);
            for _ in 0..40 {
                never.accept().unwrap();
            }
            for stuck in stuck {
                stuck.join().unwrap().unwrap();
            }
        });
    });
}

#[test]
fn calls_that_fail_at_once_let_others_run() {
    // Goal: a loop of connects that are refused, or of writes to a peer that has gone, does not keep the core, and hears of its
    // cancellation. Method: each alone on its core, until another coroutine, which sleeps, has cancelled it.
    check(|| {
        runtime(1).run(|| {
            for writes in [false, true] {
                let looping = coro::spawn(move || {
                    let (mut one, other) = UnixStream::pair().unwrap();
                    drop(other);
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_secs(5) {
                        let error = match writes {
                            true => one.write(b"x").unwrap_err(),
                            false => UnixStream::connect("/nowhere").map(drop).unwrap_err(),
                        };
                        if coring::io::is_cancelled(&error) {
                            return true;
                        }
                    }
                    false
                });
                coro::sleep(Duration::from_millis(1));
                looping.cancel();
                assert!(looping.join().unwrap(), "writes: {writes}");
            }
        });
    });
}
