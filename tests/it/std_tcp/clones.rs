//! Several handles of one socket.

use super::{each_family, each_pair};
use coring::coro;
use coring::net::{Shutdown, TcpStream};
use coring_tests::tcp::{listen, pair};
use coring_tests::{check, runtime, until_in_flight};
use std::io::{Read, Write};

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
fn one_handle_reads_and_another_writes() {
    // Goal: both directions of one connection, each through its own handle in its own coroutine.
    // Method: a byte there and one back.
    check(|| {
        runtime(1).run(|| {
            each_pair(|mut client, mut server| {
                let mut clone = server.try_clone().unwrap();
                let writing = coro::spawn(move || clone.write_all(&[1]).unwrap());
                let mut byte = [0; 2];
                assert_eq!(client.read(&mut byte).unwrap(), 1);
                assert_eq!(byte, [1, 0]);
                client.write_all(&[2]).unwrap();
                assert_eq!(server.read(&mut byte).unwrap(), 1);
                assert_eq!(byte, [2, 0]);
                writing.join().unwrap();
            });
        });
    });
}

#[test]
fn two_read_the_same_connection() {
    // Goal: two handles that wait at once get one byte each, in whatever order.
    // Method: both in flight first, then two bytes with an answer between.
    check(|| {
        runtime(1).run(|| {
            each_pair(|mut client, server| {
                let clone = server.try_clone().unwrap();
                let readers = [server, clone].map(|mut handle| {
                    coro::spawn(move || {
                        let mut byte = [0];
                        handle.read_exact(&mut byte).unwrap();
                        byte[0]
                    })
                });
                until_in_flight(2);
                client.write_all(&[1]).unwrap();
                client.write_all(&[2]).unwrap();
                let mut bytes = readers.map(|reader| reader.join().unwrap());
                bytes.sort_unstable();
                assert_eq!(bytes, [1, 2]);
            });
        });
    });
}

#[test]
fn two_write_the_same_connection() {
    // Goal: what two handles write arrives whole, each in its own order.
    // Method: two coroutines with a letter each; small writes are not torn.
    check(|| {
        runtime(1).run(|| {
            each_pair(|mut client, server| {
                let clone = server.try_clone().unwrap();
                let writers = [(server, b'a'), (clone, b'b')].map(|(mut handle, letter)| {
                    coro::spawn(move || {
                        for _ in 0..100 {
                            handle.write_all(&[letter; 10]).unwrap();
                            coro::yield_now();
                        }
                    })
                });
                let mut bytes = Vec::new();
                client.read_to_end(&mut bytes).unwrap();
                for writer in writers {
                    writer.join().unwrap();
                }
                assert_eq!(bytes.len(), 2000);
                for piece in bytes.chunks(10) {
                    assert!(piece.iter().all(|byte| *byte == piece[0]), "{piece:?}");
                }
            });
        });
    });
}

#[test]
fn a_shutdown_is_for_all_handles() {
    // Goal: after a shutdown through one handle the others, also new ones, neither read nor write; more shutdowns do no
    // harm.
    // Method: three handles.
    check(|| {
        runtime(1).run(|| {
            each_pair(|mut one, _server| {
                let mut two = one.try_clone().unwrap();
                one.shutdown(Shutdown::Write).unwrap();
                assert!(one.write(&[0]).is_err());
                one.shutdown(Shutdown::Read).unwrap();
                assert_eq!(one.read(&mut [0; 1]).unwrap(), 0);
                let mut three = one.try_clone().unwrap();
                for handle in [&mut two, &mut three] {
                    assert!(handle.write(&[0]).is_err());
                    assert_eq!(handle.read(&mut [0; 1]).unwrap(), 0);
                    let _ = handle.shutdown(Shutdown::Read);
                    let _ = handle.shutdown(Shutdown::Write);
                }
            });
        });
    });
}

#[test]
fn cloning_while_another_reads() {
    // Goal: a clone can be made and dropped while a read waits on another handle, and the read goes on.
    // Method: in flight first; then the byte.
    check(|| {
        runtime(1).run(|| {
            each_pair(|mut client, server| {
                let mut clone = server.try_clone().unwrap();
                let reading = coro::spawn(move || clone.read(&mut [0; 1]).unwrap());
                until_in_flight(1);
                drop(server.try_clone().unwrap());
                client.write_all(&[0]).unwrap();
                assert_eq!(reading.join().unwrap(), 1);
            });
        });
    });
}

#[test]
fn accepting_with_either_handle() {
    // Goal: connections in the backlog are got through the listener and through its clone, one each.
    // Method: two clients first.
    check(|| {
        runtime(1).run(|| {
            each_family(|listener, address| {
                let clone = listener.try_clone().unwrap();
                let _clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
                let first = listener.accept().unwrap().1;
                let second = clone.accept().unwrap().1;
                assert_ne!(first, second);
            });
        });
    });
}
