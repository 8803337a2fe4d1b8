//! TCP as std documents it: what a caller of `std::net` may rely on holds for ours, too.

use coring::coro;
use coring::net::{Shutdown, TcpListener, TcpSocket, TcpStream};
use coring_tests::tcp::{listen, pair, pair_of_ours};
use coring_tests::{check, runtime, until_in_flight};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
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
            let refused = TcpStream::connect_timeout(&address, Duration::from_secs(5));
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
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
fn vectored_reads_fill_buffers_in_order() {
    // Goal: bytes go into the buffers in order, across empty ones.
    // Method: ten bytes into 3, 0, 4 and 8.
    check(|| {
        runtime(1).run(|| {
            let (mut ours, mut theirs) = pair();
            theirs.write_all(b"0123456789").unwrap();
            let (mut a, mut b, mut c, mut d) = ([0; 3], [0; 0], [0; 4], [0; 8]);
            let bytes = ours
                .read_vectored(&mut [
                    IoSliceMut::new(&mut a),
                    IoSliceMut::new(&mut b),
                    IoSliceMut::new(&mut c),
                    IoSliceMut::new(&mut d),
                ])
                .unwrap();
            assert_eq!(bytes, 10);
            assert_eq!((&a, &c, &d[..3]), (b"012", b"3456", &b"789"[..]));
            let sent = ours
                .write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"c")])
                .unwrap();
            assert_eq!(sent, 3);
            let mut text = [0; 3];
            theirs.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"abc");
        });
    });
}

#[test]
fn both_families_name_both_ends() {
    // Goal: over IPv4 and IPv6 alike each side's local address is the other's peer, and the listener reports its own.
    // Method: ::1 and 127.0.0.1.
    check(|| {
        runtime(1).run(|| {
            for host in ["127.0.0.1:0", "[::1]:0"] {
                let listener = TcpListener::bind(host).unwrap();
                let address = listener.local_addr().unwrap();
                let stream = TcpStream::connect(address).unwrap();
                let (accepted, from) = listener.accept().unwrap();
                assert_eq!(stream.peer_addr().unwrap(), address);
                assert_eq!(stream.local_addr().unwrap(), from);
                assert_eq!(accepted.peer_addr().unwrap(), from);
                assert_eq!(accepted.local_addr().unwrap(), address);
            }
        });
    });
}

#[test]
fn reads_and_writes_of_nothing() {
    // Goal: an empty buffer gives 0 at once for a write, and does not end the stream for a read.
    // Method: empty calls between real ones.
    check(|| {
        runtime(1).run(|| {
            let (mut ours, mut theirs) = pair();
            assert_eq!(ours.write(&[]).unwrap(), 0);
            theirs.write_all(b"x").unwrap();
            assert_eq!(ours.read(&mut []).unwrap(), 0);
            assert_eq!(ours.read(&mut [0; 4]).unwrap(), 1);
        });
    });
}

#[test]
fn shutdown_in_each_direction() {
    // Goal: after `Write` writes fail with BrokenPipe and reads go on; after `Read` reads give 0; twice is no error
    // worse than NotConnected.
    // Method: one connection for each.
    check(|| {
        runtime(1).run(|| {
            let (mut ours, mut theirs) = pair();
            ours.shutdown(Shutdown::Write).unwrap();
            assert_eq!(ours.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            theirs.write_all(b"y").unwrap();
            assert_eq!(ours.read(&mut [0; 2]).unwrap(), 1);
            let (mut ours, _theirs) = pair();
            ours.shutdown(Shutdown::Read).unwrap();
            assert_eq!(ours.read(&mut [0; 2]).unwrap(), 0);
            ours.shutdown(Shutdown::Both).unwrap();
            let (ours, theirs) = pair();
            ours.shutdown(Shutdown::Both).unwrap();
            drop(theirs);
            if let Err(error) = ours.shutdown(Shutdown::Both) {
                assert_eq!(error.kind(), ErrorKind::NotConnected);
            }
        });
    });
}

#[test]
fn closing_a_clone_closes_nothing() {
    // Goal: the connection lives as long as one handle does.
    // Method: the original goes, the clone reads; then the clone goes, and the peer sees the end.
    check(|| {
        runtime(1).run(|| {
            let (ours, mut theirs) = pair();
            let mut clone = ours.try_clone().unwrap();
            drop(ours);
            theirs.write_all(b"still here").unwrap();
            let mut text = [0; 10];
            clone.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"still here");
            drop(clone);
            assert_eq!(theirs.read(&mut text).unwrap(), 0);
        });
    });
}

#[test]
fn a_cloned_listener_accepts() {
    // Goal: two handles of one listener each get connections.
    // Method: a coroutine waits on each; two clients.
    check(|| {
        runtime(1).run(|| {
            let (one, address) = listen();
            let other = one.try_clone().unwrap();
            let waiting: Vec<_> = [one, other]
                .map(|listener| coro::spawn(move || listener.accept().unwrap().1))
                .into();
            until_in_flight(2);
            let clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
            let mut seen: Vec<_> = waiting.into_iter().map(|one| one.join().unwrap()).collect();
            let mut expected: Vec<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
            seen.sort();
            expected.sort();
            assert_eq!(seen, expected);
        });
    });
}

#[test]
fn incoming_yields_each_connection() {
    // Goal: `incoming` accepts one after the other.
    // Method: three clients, three items.
    check(|| {
        runtime(1).run(|| {
            let (listener, address) = listen();
            let clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
            for (accepted, client) in listener.incoming().take(3).zip(&clients) {
                let peer = accepted.unwrap().peer_addr().unwrap();
                assert_eq!(peer, client.local_addr().unwrap());
            }
        });
    });
}

#[test]
fn options_before_the_bind() {
    // Goal: the builder's options reach the socket; two listeners share a port with reuse_port and not without.
    // Method: read back with socket2 what was set.
    check(|| {
        runtime(1).run(|| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.set_recv_buffer_size(32 * 1024).unwrap();
            socket.set_send_buffer_size(32 * 1024).unwrap();
            socket.set_keepalive(Some(Duration::from_secs(77))).unwrap();
            socket.set_nodelay(true).unwrap();
            socket.bind_device(Some("lo")).unwrap();
            let options = socket2::SockRef::from(&socket);
            assert!(options.reuse_port().unwrap());
            assert_eq!(options.recv_buffer_size().unwrap(), 64 * 1024);
            assert_eq!(options.send_buffer_size().unwrap(), 64 * 1024);
            assert!(options.keepalive().unwrap());
            assert_eq!(
                options.tcp_keepalive_time().unwrap(),
                Duration::from_secs(77)
            );
            assert_eq!(options.device().unwrap().as_deref(), Some(&b"lo"[..]));
            socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let address = socket.local_addr().unwrap();
            let _one = socket.listen(4).unwrap();
            let _two = TcpListener::bind_reuse_port(address).unwrap();
            let plain = TcpListener::bind(address).unwrap_err();
            assert_eq!(plain.kind(), ErrorKind::AddrInUse);
            let unknown = TcpSocket::new_v4().unwrap();
            assert!(unknown.bind_device(Some("no-such-device")).is_err());
        });
    });
}

#[test]
fn bind_before_connect_chooses_the_source() {
    // Goal: a client can choose its own address.
    // Method: 127.0.0.5 is loopback, too.
    check(|| {
        runtime(1).run(|| {
            let (listener, address) = listen();
            let socket = TcpSocket::new_v4().unwrap();
            let source: SocketAddr = "127.0.0.5:0".parse().unwrap();
            socket.bind(source).unwrap();
            let stream = socket.connect(address).unwrap();
            let (_accepted, from) = listener.accept().unwrap();
            assert_eq!(from, stream.local_addr().unwrap());
            assert_eq!(from.ip(), source.ip());
        });
    });
}

#[test]
fn linger_of_zero_resets() {
    // Goal: what is set is read back, and a close with zero resets the connection.
    // Method: the peer's read.
    check(|| {
        runtime(1).run(|| {
            let (ours, mut theirs) = pair();
            assert_eq!(ours.linger().unwrap(), None);
            ours.set_linger(Some(Duration::ZERO)).unwrap();
            assert_eq!(ours.linger().unwrap(), Some(Duration::ZERO));
            drop(ours);
            let error = theirs.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
    });
}

#[test]
fn conversions_keep_the_descriptor() {
    // Goal: from std, to std, to a plain descriptor and back it is the same one, and works.
    // Method: follow the number, then use it.
    check(|| {
        runtime(1).run(|| {
            let (ours, mut theirs) = pair();
            let number = ours.as_raw_fd();
            let std_stream = ours.into_std();
            assert_eq!(std_stream.as_raw_fd(), number);
            let fd = OwnedFd::from(TcpStream::from_std(std_stream));
            assert_eq!(fd.as_raw_fd(), number);
            let mut ours = TcpStream::from(fd);
            ours.write_all(b"same").unwrap();
            let mut text = [0; 4];
            theirs.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"same");
            let (listener, address) = listen();
            let listener = TcpListener::from_std(listener.into_std());
            let _client = TcpStream::connect(address).unwrap();
            listener.accept().unwrap();
        });
    });
}

#[test]
fn debug_names_the_addresses() {
    // Goal: `{:?}` shows what std's does: addresses and descriptor.
    // Method: look for them.
    check(|| {
        runtime(1).run(|| {
            let (ours, _theirs) = pair();
            let text = format!("{ours:?}");
            assert!(
                text.starts_with("TcpStream { addr: Some(127.0.0.1:"),
                "{text}"
            );
            assert!(
                text.contains(&format!("fd: {}", ours.as_raw_fd())),
                "{text}"
            );
            let (listener, address) = listen();
            let text = format!("{listener:?}");
            assert!(text.contains(&address.to_string()), "{text}");
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
fn a_file_is_sent_whole_to_a_slow_reader() {
    // Goal: send_file sends exactly the part asked for, waits for room, stops at the end of the file, and leaves the
    // socket blocking; its write timeout ends it.
    // Method: five megabytes, more than the socket holds, against the bytes themselves.
    check(|| {
        runtime(1).run(|| {
            let contents = coring_tests::random::pattern(1, 5_000_000);
            let mut plain = tempfile::tempfile().unwrap();
            plain.write_all(&contents).unwrap();
            let file = coring::fs::File::from(plain);
            let (ours, mut theirs) = pair_of_ours();
            let reader = coro::spawn(move || {
                let mut bytes = Vec::new();
                theirs.read_to_end(&mut bytes).map(|_| bytes)
            });
            assert_eq!(ours.send_file(&file, 1000, 4_000_000).unwrap(), 4_000_000);
            assert_eq!(ours.send_file(&file, 4_999_000, 9999).unwrap(), 1000);
            assert_eq!(ours.send_file(&file, 6_000_000, 10).unwrap(), 0);
            drop(ours);
            let bytes = reader.join().unwrap().unwrap();
            assert!(bytes[..4_000_000] == contents[1000..4_001_000]);
            assert!(bytes[4_000_000..] == contents[4_999_000..]);
            let (ours, _theirs) = pair_of_ours();
            ours.set_write_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            let whole = (0..100).try_for_each(|_| ours.send_file(&file, 0, 5_000_000).map(drop));
            assert_eq!(whole.unwrap_err().kind(), ErrorKind::WouldBlock);
            let flags = socket2::SockRef::from(&ours).nonblocking().unwrap();
            assert!(!flags);
        });
    });
}
