//! Time limits of TCP calls.

use coring::coro;
use coring::net::{TcpListener, TcpSocket, TcpStream};
use coring_tests::tcp::{listen, pair, pair_of_ours};
use coring_tests::{check, runtime, until_fails};
use std::io::{ErrorKind, IoSliceMut, Read, Write};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

#[test]
fn a_read_timeout_ends_a_read_and_loses_nothing() {
    // Goal: a read without data ends with WouldBlock after the time, not before; what comes later is read by the next.
    // Method: read, peek and a vectored read of a silent peer, who then speaks.
    check(|| {
        runtime(1).run(|| {
            let (mut ours, mut theirs) = pair();
            let time = Duration::from_millis(30);
            ours.set_read_timeout(Some(time)).unwrap();
            assert_eq!(ours.read_timeout().unwrap(), Some(time));
            let mut buffer = [0; 16];
            for call in 0..3 {
                let start = Instant::now();
                let outcome = match call {
                    0 => ours.read(&mut buffer),
                    1 => ours.peek(&mut buffer),
                    _ => ours.read_vectored(&mut [IoSliceMut::new(&mut buffer)]),
                };
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WouldBlock);
                assert!(start.elapsed() >= time, "{:?}", start.elapsed());
            }
            theirs.write_all(b"late").unwrap();
            assert_eq!(ours.read(&mut buffer).unwrap(), 4);
            assert_eq!(&buffer[..4], b"late");
            ours.set_read_timeout(None).unwrap();
            assert_eq!(ours.read_timeout().unwrap(), None);
            drop(theirs);
            assert_eq!(ours.read(&mut buffer).unwrap(), 0);
        });
    });
}

#[test]
fn a_timeout_of_zero_is_refused() {
    // Goal: InvalidInput for a duration of zero, and the limits stay as they were.
    // Method: each call that takes a duration.
    check(|| {
        runtime(1).run(|| {
            let (ours, _theirs) = pair();
            let zero = Some(Duration::ZERO);
            let kind = |outcome: std::io::Result<()>| outcome.unwrap_err().kind();
            assert_eq!(kind(ours.set_read_timeout(zero)), ErrorKind::InvalidInput);
            assert_eq!(kind(ours.set_write_timeout(zero)), ErrorKind::InvalidInput);
            assert_eq!(ours.read_timeout().unwrap(), None);
            assert_eq!(ours.write_timeout().unwrap(), None);
            let (_listener, address) = listen();
            let refused = TcpStream::connect_timeout(&address, Duration::ZERO).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn a_write_timeout_reports_what_was_taken() {
    // Goal: a write to a peer that does not read ends: first with the bytes that were taken, then with WouldBlock;
    // every byte that was reported arrives.
    // Method: write far more than the buffers hold, then drain the other side and count.
    check(|| {
        runtime(1).run(|| {
            let (mut ours, mut theirs) = pair_of_ours();
            ours.set_write_timeout(Some(Duration::from_millis(30)))
                .unwrap();
            let chunk = vec![7; 8 << 20];
            let mut taken = 0;
            let error = loop {
                match ours.write(&chunk) {
                    Ok(bytes) => taken += bytes,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(taken > 0);
            drop(ours);
            let mut arrived = Vec::new();
            theirs.read_to_end(&mut arrived).unwrap();
            assert_eq!(arrived.len(), taken);
        });
    });
}

#[test]
fn timeouts_belong_to_the_socket() {
    // Goal: a clone shares them in both directions; they go along into std's type and come back out of it.
    // Method: set on one handle, read on the other.
    check(|| {
        runtime(1).run(|| {
            let (ours, _theirs) = pair();
            let clone = ours.try_clone().unwrap();
            let (one, two) = (Duration::from_secs(1), Duration::from_secs(2));
            ours.set_read_timeout(Some(one)).unwrap();
            clone.set_write_timeout(Some(two)).unwrap();
            assert_eq!(clone.read_timeout().unwrap(), Some(one));
            assert_eq!(ours.write_timeout().unwrap(), Some(two));
            let theirs = ours.into_std();
            assert_eq!(theirs.read_timeout().unwrap(), Some(one));
            assert_eq!(theirs.write_timeout().unwrap(), Some(two));
            let again = TcpStream::from_std(theirs);
            assert_eq!(again.read_timeout().unwrap(), Some(one));
            assert_eq!(again.write_timeout().unwrap(), Some(two));
        });
    });
}

#[test]
fn connect_timeout_gives_up_on_silence() {
    // Goal: TimedOut after the time when nobody answers; an answer in time is a connection; a refusal is a refusal.
    // Method: a listener with a full backlog drops SYNs without a word.
    check(|| {
        runtime(1).run(|| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let listener = socket.listen(0).unwrap();
            let address = listener.local_addr().unwrap();
            let mut held = Vec::new();
            let time = Duration::from_millis(40);
            let (error, waited) = loop {
                let start = Instant::now();
                match TcpStream::connect_timeout(&address, time) {
                    Ok(stream) => held.push(stream),
                    Err(error) => break (error, start.elapsed()),
                }
                assert!(held.len() < 8, "the backlog is full some time");
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(waited >= time);
            let (listener, address) = listen();
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
            drop(listener);
            until_fails(ErrorKind::ConnectionRefused, || {
                TcpStream::connect_timeout(&address, Duration::from_secs(5))
            });
        });
    });
}

#[test]
fn a_deadline_around_a_read_is_another_thing_than_its_timeout() {
    // Goal: a `coro::timeout` ends the read with TimedOut; the socket's own timeout stays WouldBlock; data survive both.
    // Method: each of the two is the shorter one once.
    check(|| {
        runtime(1).run(|| {
            let (mut ours, mut theirs) = pair();
            let (short, long) = (Duration::from_millis(20), Duration::from_secs(20));
            ours.set_read_timeout(Some(long)).unwrap();
            let mut kind = None;
            let elapsed = coro::timeout(short, || {
                kind = ours.read(&mut [0; 4]).map_err(|error| error.kind()).err();
            });
            assert_eq!(elapsed, Err(coro::Elapsed));
            assert_eq!(kind, Some(ErrorKind::TimedOut));
            ours.set_read_timeout(Some(short)).unwrap();
            let inner = coro::timeout(long, || ours.read(&mut [0; 4]).unwrap_err().kind());
            assert_eq!(inner, Ok(ErrorKind::WouldBlock));
            theirs.write_all(b"data").unwrap();
            assert_eq!(ours.read(&mut [0; 4]).unwrap(), 4);
        });
    });
}

#[test]
fn accept_obeys_the_timeout_of_an_adopted_listener() {
    // Goal: SO_RCVTIMEO on a listener that comes from elsewhere limits accept, as it does in the kernel.
    // Method: set it with socket2, hand the descriptor over.
    check(|| {
        runtime(1).run(|| {
            let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let time = Duration::from_millis(20);
            socket2::SockRef::from(&theirs)
                .set_read_timeout(Some(time))
                .unwrap();
            let error = TcpListener::from_std(theirs).accept().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        });
    });
}

#[test]
fn timeouts_are_read_back() {
    // Goal: none at first, then what was set, hours of it as well, then none again; each direction for itself.
    // Method: set and ask.
    check(|| {
        runtime(1).run(|| {
            let (ours, _theirs) = pair();
            let time = Some(Duration::from_secs(15410));
            ours.set_read_timeout(None).unwrap();
            ours.set_write_timeout(None).unwrap();
            ours.set_read_timeout(time).unwrap();
            assert_eq!(ours.read_timeout().unwrap(), time);
            assert_eq!(ours.write_timeout().unwrap(), None);
            ours.set_write_timeout(time).unwrap();
            assert_eq!(ours.write_timeout().unwrap(), time);
            ours.set_read_timeout(None).unwrap();
            ours.set_write_timeout(None).unwrap();
            assert_eq!(ours.read_timeout().unwrap(), None);
            assert_eq!(ours.write_timeout().unwrap(), None);
        });
    });
}

#[test]
fn data_in_time_are_read() {
    // Goal: with a limit set a read of what is there returns it, and the next one waits the whole time.
    // Method: eleven bytes, then read_exact of more.
    check(|| {
        runtime(1).run(|| {
            let (mut ours, mut theirs) = pair();
            let time = Duration::from_millis(40);
            ours.set_read_timeout(Some(time)).unwrap();
            theirs.write_all(b"hello world").unwrap();
            let mut buffer = [0; 11];
            ours.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"hello world");
            let start = Instant::now();
            let error = ours.read_exact(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(start.elapsed() >= time);
        });
    });
}

#[test]
fn connects_in_time() {
    // Goal: connect_timeout of a listener is a connection, of a port without one a refusal; what cannot be an address of
    // the other side is an error, not a wait.
    // Method: over both families.
    check(|| {
        runtime(1).run(|| {
            super::each_family(|listener, address| {
                let time = Duration::from_secs(10);
                let stream = TcpStream::connect_timeout(&address, time).unwrap();
                assert_eq!(stream.peer_addr().unwrap(), address);
                // The limit was for the connect alone.
                assert_eq!(stream.read_timeout().unwrap(), None);
                drop((stream, listener));
                until_fails(ErrorKind::ConnectionRefused, || {
                    TcpStream::connect_timeout(&address, time)
                });
            });
        });
    });
}
