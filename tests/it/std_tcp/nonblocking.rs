//! Non-blocking mode: no call waits.

use super::{each_family, each_pair};
use coring::coro;
use coring::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use coring_tests::{check, runtime, until};
use std::io::{ErrorKind, IoSliceMut, Read, Write};

fn would_block<T: std::fmt::Debug>(outcome: std::io::Result<T>) {
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn reads_and_accepts_that_would_wait() {
    // Goal: WouldBlock from read, vectored read, peek and accept when there is nothing; what is there is got; in
    // blocking mode again they wait.
    // Method: a connection over each family.
    check(|| {
        runtime(1).run(|| {
            each_family(|listener, address| {
                listener.set_nonblocking(true).unwrap();
                would_block(listener.accept());
                let mut client = TcpStream::connect(address).unwrap();
                let mut server = listener.accept().unwrap().0;
                listener.set_nonblocking(false).unwrap();
                server.set_nonblocking(true).unwrap();
                let mut buffer = [0; 8];
                would_block(server.read(&mut buffer));
                would_block(server.peek(&mut buffer));
                would_block(server.read_vectored(&mut [IoSliceMut::new(&mut buffer)]));
                would_block(server.recv_buffer());
                client.write_all(b"data").unwrap();
                assert_eq!(server.peek(&mut buffer).unwrap(), 4);
                assert_eq!(server.read(&mut buffer).unwrap(), 4);
                server.set_nonblocking(false).unwrap();
                let reading = coro::spawn(move || server.read(&mut [0; 8]).unwrap());
                coring_tests::until_in_flight(1);
                client.write_all(b"late").unwrap();
                assert_eq!(reading.join().unwrap(), 4);
            });
        });
    });
}

#[test]
fn writes_take_what_fits() {
    // Goal: a write says how much was taken, then WouldBlock; all of it arrives; with room again it goes on.
    // Method: far more than the buffers hold.
    check(|| {
        runtime(1).run(|| {
            each_pair(|mut client, mut server| {
                client.set_nonblocking(true).unwrap();
                let chunk = vec![7; 8 << 20];
                let mut taken = 0;
                let error = loop {
                    match client.write(&chunk) {
                        Ok(bytes) => taken += bytes,
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert!(taken > 0);
                let mut left = vec![0; taken];
                server.read_exact(&mut left).unwrap();
                until("room again", || client.write(b"x").is_ok());
            });
        });
    });
}

#[test]
fn the_mode_is_the_sockets() {
    // Goal: clones share it, std's type has it, and one that comes back from there waits again; a time limit that is
    // set as well is kept.
    // Method: set on one handle, use the other.
    check(|| {
        runtime(1).run(|| {
            each_pair(|client, _server| {
                let mut clone = client.try_clone().unwrap();
                let time = std::time::Duration::from_millis(10);
                client.set_read_timeout(Some(time)).unwrap();
                client.set_nonblocking(true).unwrap();
                assert_eq!(client.read_timeout().unwrap(), Some(time));
                would_block(clone.read(&mut [0; 1]));
                let mut theirs = client.into_std();
                would_block(theirs.read(&mut [0; 1]));
                let mut again = TcpStream::from_std(theirs);
                let start = std::time::Instant::now();
                would_block(again.read(&mut [0; 1]));
                assert!(start.elapsed() >= time);
            });
        });
    });
}

#[test]
fn every_kind_of_socket() {
    // Goal: the same for UDP and for Unix sockets of all kinds.
    // Method: receive nothing, then something.
    check(|| {
        runtime(1).run(|| {
            let mut buffer = [0; 8];
            for host in ["127.0.0.1:0", "[::1]:0"] {
                let socket = UdpSocket::bind(host).unwrap();
                socket.connect(socket.local_addr().unwrap()).unwrap();
                socket.set_nonblocking(true).unwrap();
                would_block(socket.recv(&mut buffer));
                would_block(socket.recv_from(&mut buffer));
                would_block(socket.peek_from(&mut buffer));
                socket.send(b"x").unwrap();
                assert_eq!(socket.recv(&mut buffer).unwrap(), 1);
            }
            let (mut one, mut other) = UnixStream::pair().unwrap();
            one.set_nonblocking(true).unwrap();
            would_block(one.read(&mut buffer));
            would_block(one.peek(&mut buffer));
            other.write_all(b"x").unwrap();
            assert_eq!(one.read(&mut buffer).unwrap(), 1);
            let (one, other) = UnixDatagram::pair().unwrap();
            one.set_nonblocking(true).unwrap();
            would_block(one.recv(&mut buffer));
            let mut sent = 0;
            let full = loop {
                match one.send(b"x") {
                    Ok(_) => sent += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(full.kind(), ErrorKind::WouldBlock);
            assert!(sent > 0);
            assert_eq!(other.recv(&mut buffer).unwrap(), 1);
            let scratch = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(scratch.path().join("socket")).unwrap();
            listener.set_nonblocking(true).unwrap();
            would_block(listener.accept());
        });
    });
}

#[test]
fn who_polls_is_served() {
    // Goal: a loop of std's style, which tries and gives way, gets every byte and every connection in order.
    // Method: a hundred connections of a byte each.
    check(|| {
        runtime(1).run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            listener.set_nonblocking(true).unwrap();
            let clients = coro::spawn(move || {
                for number in 0..100 {
                    TcpStream::connect(address)
                        .unwrap()
                        .write_all(&[number])
                        .unwrap();
                }
            });
            let mut got = Vec::new();
            until("all connections", || {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        let mut byte = [0];
                        stream.read_exact(&mut byte).unwrap();
                        got.push(byte[0]);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                got.len() == 100
            });
            assert_eq!(got, (0..100).collect::<Vec<u8>>());
            clients.join().unwrap();
        });
    });
}
