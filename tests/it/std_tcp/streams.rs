//! Bytes over a TCP connection.

use super::{each_family, each_pair};
use coring::coro;
use coring::net::{Shutdown, TcpListener, TcpStream};
use coring_tests::tcp::{pair, pair_of_ours};
use coring_tests::{check, runtime, until_in_flight};
use std::cell::Cell;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

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

#[test]
fn files_sent_at_once_leave_the_socket_as_it_was() {
    // Goal: the descriptor is non-blocking as long as anybody sends a file through it, and after the last one as its
    // owner wants it, whichever ends first. Method: two that wait for a reader who does not read, by two handles.
    check(|| {
        runtime(1).run(|| {
            let plain = tempfile::tempfile().unwrap();
            plain.set_len(256 << 20).unwrap();
            let file = Arc::new(coring::fs::File::from(plain));
            let (ours, _theirs) = pair_of_ours();
            let send = || {
                let (file, socket) = (Arc::clone(&file), ours.try_clone().unwrap());
                let begun = Rc::new(Cell::new(false));
                let sender = coro::spawn({
                    let begun = Rc::clone(&begun);
                    move || {
                        begun.set(true);
                        socket.send_file(&file, 0, 256 << 20)
                    }
                });
                while !begun.get() {
                    coro::yield_now();
                }
                sender
            };
            let nonblocking = || socket2::SockRef::from(&ours).nonblocking().unwrap();
            let (first, second) = (send(), send());
            assert!(nonblocking());
            for (sender, others) in [(first, true), (second, false)] {
                sender.cancel();
                let sent = sender.join().unwrap().unwrap_or(0);
                assert!(sent < 256 << 20, "it ends before");
                assert_eq!(nonblocking(), others);
            }
            let third = send();
            ours.set_nonblocking(true).unwrap();
            third.cancel();
            let _ = third.join();
            assert!(nonblocking());
            let fourth = send();
            ours.set_nonblocking(false).unwrap();
            assert!(nonblocking());
            fourth.cancel();
            let _ = fourth.join();
            assert!(!nonblocking());
        });
    });
}

#[test]
fn connecting_by_name_and_by_number() {
    // Goal: "localhost" with a port, a tuple of text and number, and an address all reach the listener.
    // Method: a byte through each.
    check(|| {
        runtime(1).run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let clients = [
                TcpStream::connect(("localhost", address.port())).unwrap(),
                TcpStream::connect(("127.0.0.1", address.port())).unwrap(),
                TcpStream::connect(format!("localhost:{}", address.port())).unwrap(),
                TcpStream::connect(&[address][..]).unwrap(),
                TcpStream::connect(address).unwrap(),
            ];
            for mut client in clients {
                client.write_all(&[144]).unwrap();
                let mut byte = [0];
                listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [144]);
            }
        });
    });
}

#[test]
fn addresses_that_lead_nowhere() {
    // Goal: ConnectionRefused where nobody listens; InvalidInput for no address and for one that is none.
    // Method: as said.
    check(|| {
        runtime(1).run(|| {
            let kind = |outcome: std::io::Result<TcpStream>| outcome.unwrap_err().kind();
            assert_eq!(
                kind(TcpStream::connect("0.0.0.0:1")),
                ErrorKind::ConnectionRefused
            );
            assert_eq!(kind(TcpStream::connect(&[][..])), ErrorKind::InvalidInput);
            assert_eq!(kind(TcpStream::connect("no port")), ErrorKind::InvalidInput);
            assert_eq!(
                kind(TcpStream::connect("127.0.0.1:99999")),
                ErrorKind::InvalidInput
            );
            assert!(TcpStream::connect("no.such.name.invalid:80").is_err());
        });
    });
}

#[test]
fn the_end_is_read_again_and_again() {
    // Goal: after the peer has gone a read gives 0, and the next one, too.
    // Method: over both families.
    check(|| {
        runtime(1).run(|| {
            each_pair(|client, mut server| {
                drop(client);
                for _ in 0..3 {
                    assert_eq!(server.read(&mut [0; 4]).unwrap(), 0);
                }
            });
        });
    });
}

#[test]
fn writing_to_who_has_gone() {
    // Goal: the first write after the peer's close may succeed, a later one is BrokenPipe or ConnectionReset, and no signal
    // ends the process.
    // Method: write until it fails.
    check(|| {
        runtime(1).run(|| {
            each_pair(|client, mut server| {
                drop(client);
                let error = loop {
                    if let Err(error) = server.write(&[0]) {
                        break error;
                    }
                };
                assert!(
                    matches!(
                        error.kind(),
                        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                    ),
                    "{error}"
                );
            });
        });
    });
}

#[test]
fn a_read_takes_what_is_there() {
    // Goal: a read into a large buffer returns with the one byte that has come, and does not wait for more.
    // Method: the peer waits for an answer to it.
    check(|| {
        runtime(1).run(|| {
            each_pair(|mut client, mut server| {
                let serving = coro::spawn(move || {
                    server.write_all(&[10]).unwrap();
                    server.read(&mut [0; 1]).unwrap()
                });
                assert_eq!(client.read(&mut [0; 10]).unwrap(), 1);
                client.write_all(&[1]).unwrap();
                assert_eq!(serving.join().unwrap(), 1);
            });
        });
    });
}

#[test]
fn gathered_and_scattered() {
    // Goal: a vectored write sends its buffers in order, a vectored read fills them in order, over empty ones, in both
    // families; many thousands of buffers are written in parts.
    // Method: three bytes; then 3,000 buffers, where 1,024 are taken at once.
    check(|| {
        runtime(1).run(|| {
            each_pair(|mut client, mut server| {
                let sent = client
                    .write_vectored(&[
                        IoSlice::new(&[]),
                        IoSlice::new(&[10]),
                        IoSlice::new(&[11, 12]),
                    ])
                    .unwrap();
                assert_eq!(sent, 3);
                let (mut a, mut b, mut c) = ([0; 0], [0; 1], [0; 3]);
                let got = server
                    .read_vectored(&mut [
                        IoSliceMut::new(&mut a),
                        IoSliceMut::new(&mut b),
                        IoSliceMut::new(&mut c),
                    ])
                    .unwrap();
                assert_eq!((got, b, c), (3, [10], [11, 12, 0]));
                let many = vec![IoSlice::new(b"x"); 3000];
                assert_eq!(client.write_vectored(&many).unwrap(), 1024);
            });
        });
    });
}

#[test]
fn peeking() {
    // Goal: peek shows what the next read gives, as often as one likes, and waits for data as a read does.
    // Method: four bytes, then silence.
    check(|| {
        runtime(1).run(|| {
            each_pair(|mut client, mut server| {
                server.write_all(&[1, 3, 3, 7]).unwrap();
                let mut buffer = [0; 10];
                for _ in 0..2 {
                    assert_eq!(client.peek(&mut buffer).unwrap(), 4);
                    assert_eq!(buffer[..4], [1, 3, 3, 7]);
                }
                assert_eq!(client.read(&mut buffer).unwrap(), 4);
                client
                    .set_read_timeout(Some(Duration::from_millis(10)))
                    .unwrap();
                let error = client.peek(&mut buffer).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                drop(server);
                assert_eq!(client.peek(&mut buffer).unwrap(), 0);
            });
        });
    });
}

#[test]
fn half_a_shutdown() {
    // Goal: after shutdown(Write) the peer reads the end and may still answer; our writes fail, our read gets the answer.
    // Method: over both families.
    check(|| {
        runtime(1).run(|| {
            each_pair(|mut client, mut server| {
                let serving = coro::spawn(move || {
                    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
                    server.write_all(&[1]).unwrap();
                });
                client.shutdown(Shutdown::Write).unwrap();
                assert!(client.write(&[1]).is_err());
                let mut answer = [0; 2];
                assert_eq!(client.read(&mut answer).unwrap(), 1);
                assert_eq!(answer, [1, 0]);
                serving.join().unwrap();
            });
        });
    });
}

#[test]
fn a_shutdown_ends_a_read_in_another_coroutine() {
    // Goal: shutdown(Read) through another handle wakes a read that waits, with 0.
    // Method: seen in flight first.
    check(|| {
        runtime(1).run(|| {
            each_pair(|client, _server| {
                let mut clone = client.try_clone().unwrap();
                let reading = coro::spawn(move || clone.read(&mut [0; 1]).unwrap());
                until_in_flight(1);
                client.shutdown(Shutdown::Read).unwrap();
                assert_eq!(reading.join().unwrap(), 0);
            });
        });
    });
}

#[test]
fn one_after_the_other() {
    // Goal: ten connections in a row, each served before the next.
    // Method: `incoming`, a byte each, both families.
    check(|| {
        runtime(1).run(|| {
            each_family(|listener, address| {
                let clients = coro::spawn(move || {
                    for _ in 0..10 {
                        let mut stream = TcpStream::connect(address).unwrap();
                        stream.write_all(&[99]).unwrap();
                    }
                });
                for stream in listener.incoming().take(10) {
                    let mut byte = [0];
                    stream.unwrap().read_exact(&mut byte).unwrap();
                    assert_eq!(byte, [99]);
                }
                clients.join().unwrap();
            });
        });
    });
}

#[test]
fn nested_connections_served_in_any_order() {
    // Goal: ten connections, each opened before the one before it has written; who is accepted first gets its own byte,
    // though it is written last.
    // Method: a coroutine for each connection on both sides, both families.
    fn connect(number: u8, address: std::net::SocketAddr) {
        if number < 10 {
            let mut stream = TcpStream::connect(address).unwrap();
            coro::spawn(move || connect(number + 1, address))
                .join()
                .unwrap();
            stream.write_all(&[number]).unwrap();
        }
    }
    check(|| {
        runtime(1).run(|| {
            each_family(|listener, address| {
                let clients = coro::spawn(move || connect(0, address));
                let serving: Vec<_> = listener
                    .incoming()
                    .take(10)
                    .map(|stream| {
                        coro::spawn(move || {
                            let mut byte = [0];
                            stream.unwrap().read_exact(&mut byte).unwrap();
                            byte[0]
                        })
                    })
                    .collect();
                clients.join().unwrap();
                let bytes: Vec<_> = serving.into_iter().map(|one| one.join().unwrap()).collect();
                assert_eq!(bytes, (0..10).collect::<Vec<u8>>());
            });
        });
    });
}
