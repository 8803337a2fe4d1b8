//! TCP: ends, resets, errors and their kinds, as std has them.

use coring::coro;
use coring::net::{Shutdown, TcpListener, TcpStream};
use coring_tests::port::Port;
use coring_tests::tcp::{listen, pair, pair_of_ours, reset};
use coring_tests::{check, runtime, until_fails, until_in_flight};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;

#[test]
fn half_close_leaves_the_other_direction_open() {
    // Goal: after the peer's end, reads give 0 for ever and writes still arrive.
    // Method: the peer shuts its writing side and goes on reading.
    check(|| {
        runtime(1).run(|| {
            let (mut ours, mut theirs) = pair();
            theirs.write_all(b"last words").unwrap();
            theirs.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            ours.read_to_string(&mut text).unwrap();
            assert_eq!(text, "last words");
            for _ in 0..3 {
                assert_eq!(ours.read(&mut [0; 8]).unwrap(), 0, "the end stays the end");
            }
            ours.write_all(b"answer").unwrap();
            drop(ours);
            theirs.read_to_string(&mut text).unwrap();
            assert_eq!(text, "last wordsanswer");
        });
    });
}

#[test]
fn a_reset_is_an_error_of_its_own_kind() {
    // Goal: an abrupt reset ends a read that waits, and one that comes later, with ConnectionReset.
    // Method: the peer closes with SO_LINGER 0, once before and once while our read is in flight.
    check(|| {
        runtime(1).run(|| {
            let (mut ours, theirs) = pair();
            reset(theirs);
            let error = ours.read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert_eq!(
                ours.read(&mut [0; 8]).unwrap(),
                0,
                "told once, then the end"
            );

            let (mut ours, theirs) = pair();
            let reader = coro::spawn(move || ours.read(&mut [0; 8]));
            until_in_flight(1);
            reset(theirs);
            let error = reader.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
    });
}

#[test]
fn a_write_to_a_peer_that_has_gone() {
    // Goal: it fails with BrokenPipe or ConnectionReset; no SIGPIPE ends the process.
    // Method: the default action of SIGPIPE is put back (std ignores it), then we write after a reset, with each call.
    check(|| {
        with_deadly_sigpipe(|| {
            runtime(1).run(|| {
                for vectored in [false, true] {
                    let (mut ours, theirs) = pair();
                    reset(theirs);
                    let mut write = || match vectored {
                        false => ours.write(&[7; 64]),
                        true => ours.write_vectored(&[IoSlice::new(&[7; 64]), IoSlice::new(&[8])]),
                    };
                    let first = write().unwrap_err().kind();
                    let second = write().unwrap_err().kind();
                    assert!(
                        matches!(first, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                        "{first:?}"
                    );
                    assert_eq!(second, ErrorKind::BrokenPipe);
                }
            });
        });
    });
}

#[expect(unsafe_code, reason = "changes what a signal does")]
fn with_deadly_sigpipe(body: impl FnOnce()) {
    // SAFETY: the default action is always valid. Other tests' threads do not write to closed pipes.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    body();
    // SAFETY: as above; this is what std had set.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

#[test]
fn shutdown_wakes_who_waits() {
    // Goal: `shutdown` ends a read that another coroutine waits in, and one of a listener its accept.
    // Method: as said; the operation is seen in flight first.
    check(|| {
        runtime(1).run(|| {
            let (ours, _theirs) = pair();
            let ours = Rc::new(ours);
            let reader = coro::spawn({
                let ours = Rc::clone(&ours);
                move || (&*ours).read(&mut [0; 8])
            });
            until_in_flight(1);
            ours.shutdown(Shutdown::Read).unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), 0);

            let (listener, _) = listen();
            let same = std::net::TcpStream::from(std::os::fd::OwnedFd::from(
                listener.try_clone().unwrap(),
            ));
            let acceptor = coro::spawn(move || listener.accept().map(|_| ()));
            until_in_flight(1);
            same.shutdown(Shutdown::Both).unwrap();
            let error = acceptor.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "as accept(2) says");
        });
    });
}

#[test]
fn several_coroutines_on_one_stream() {
    // Goal: reads and writes of clones and references go on at the same time; a read survives the drop of a clone.
    // Method: one coroutine waits in a read through a clone while the other handle writes and is dropped.
    check(|| {
        runtime(1).run(|| {
            let (ours, mut theirs) = pair();
            let clone = ours.try_clone().unwrap();
            let reader = coro::spawn(move || {
                let mut text = [0; 4];
                (&clone).read_exact(&mut text).map(|()| text)
            });
            until_in_flight(1);
            (&ours).write_all(b"ping").unwrap();
            drop(ours);
            let mut text = [0; 4];
            theirs.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"ping");
            theirs.write_all(b"pong").unwrap();
            assert_eq!(&reader.join().unwrap().unwrap(), b"pong");
        });
    });
}

#[test]
fn addresses_options_and_peek() {
    // Goal: what only asks or sets agrees with what std sees on the other side.
    // Method: both ends of one connection.
    check(|| {
        runtime(1).run(|| {
            let (ours, mut theirs) = pair();
            assert_eq!(ours.peer_addr().unwrap(), theirs.local_addr().unwrap());
            assert_eq!(ours.local_addr().unwrap(), theirs.peer_addr().unwrap());
            for on in [true, false] {
                ours.set_nodelay(on).unwrap();
                assert_eq!(ours.nodelay().unwrap(), on);
            }
            ours.set_ttl(17).unwrap();
            assert_eq!(ours.ttl().unwrap(), 17);
            assert!(ours.take_error().unwrap().is_none());
            theirs.write_all(b"seen twice").unwrap();
            let mut text = [0; 32];
            assert_eq!(ours.peek(&mut text).unwrap(), 10);
            assert_eq!((&ours).read(&mut text).unwrap(), 10);
            assert_eq!(&text[..10], b"seen twice");
        });
    });
}

#[test]
fn refused_and_occupied() {
    // Goal: the kinds of errors of connect and bind are std's.
    // Method: connect to a port that was just closed; bind one that is taken; an empty list of addresses.
    check(|| {
        runtime(1).run(|| {
            let (listener, address) = listen();
            let taken = TcpListener::bind(address).unwrap_err();
            assert_eq!(taken.kind(), ErrorKind::AddrInUse);
            drop(listener);
            until_fails(ErrorKind::ConnectionRefused, || TcpStream::connect(address));
            let nobody = TcpStream::connect(&[][..]).unwrap_err();
            assert_eq!(nobody.kind(), ErrorKind::InvalidInput);
            // The second address answers. The first is held: a closed one may be another test's by now.
            let held = Port::take();
            let silent = SocketAddr::from(([127, 0, 0, 1], held.number()));
            let (listener, answers) = listen();
            let stream = TcpStream::connect(&[silent, answers][..]).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        });
    });
}

#[test]
fn non_blocking_descriptors_still_wait() {
    // Goal: a descriptor that came from a library which made it non-blocking waits like any other; no WouldBlock.
    // Method: O_NONBLOCK on both ends of a connection and on a listener.
    check(|| {
        runtime(1).run(|| {
            let std_listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std_listener.set_nonblocking(true).unwrap();
            let address = std_listener.local_addr().unwrap();
            let listener = TcpListener::from(std_listener);
            let acceptor = coro::spawn(move || listener.accept().map(|(stream, _)| stream));
            until_in_flight(1);
            let theirs = std::net::TcpStream::connect(address).unwrap();
            let accepted = std::net::TcpStream::from(acceptor.join().unwrap().unwrap());
            accepted.set_nonblocking(true).unwrap();
            let accepted = TcpStream::from(accepted);
            let reader = coro::spawn(move || (&accepted).read(&mut [0; 8]));
            until_in_flight(1);
            (&theirs).write_all(b"late").unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), 4);
        });
    });
}

#[test]
fn vectored_writes_arrive_in_order() {
    // Goal: more buffers than the kernel takes at once (1,024), some empty, arrive whole and in order.
    // Method: `write_vectored` in a loop, as std's callers do; the other end compares.
    check(|| {
        runtime(1).run(|| {
            let (ours, mut theirs) = pair_of_ours();
            let message: Vec<u8> = (0..3000u16).flat_map(u16::to_le_bytes).collect();
            let expected = message.clone();
            let writer = coro::spawn(move || {
                let mut slices: Vec<_> = message
                    .chunks(2)
                    .flat_map(|two| [IoSlice::new(two), IoSlice::new(&[])])
                    .collect();
                let mut rest = &mut slices[..];
                while rest.iter().any(|slice| !slice.is_empty()) {
                    let bytes = (&ours).write_vectored(rest).unwrap();
                    IoSlice::advance_slices(&mut rest, bytes);
                }
            });
            let mut arrived = Vec::new();
            theirs.read_to_end(&mut arrived).unwrap();
            writer.join().unwrap();
            assert!(arrived == expected, "in order and whole");
        });
    });
}
