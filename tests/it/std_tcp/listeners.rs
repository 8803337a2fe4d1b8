//! Binding and accepting.

use super::each_family;
use coring::net::{TcpListener, TcpStream};
use coring_tests::tcp::listen;
use coring_tests::{check, runtime, until};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

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
fn addresses_that_cannot_be_bound() {
    // Goal: AddrNotAvailable for what is not ours, AddrInUse for what is taken, InvalidInput for no address at all; of
    // several, the first that can be bound.
    // Method: each.
    check(|| {
        runtime(1).run(|| {
            let kind = |outcome: std::io::Result<TcpListener>| outcome.unwrap_err().kind();
            let foreign: SocketAddr = "1.1.1.1:9999".parse().unwrap();
            assert_eq!(
                kind(TcpListener::bind(foreign)),
                ErrorKind::AddrNotAvailable
            );
            assert_eq!(kind(TcpListener::bind(&[][..])), ErrorKind::InvalidInput);
            let good: SocketAddr = "127.0.0.1:0".parse().unwrap();
            let bound = TcpListener::bind(&[foreign, good][..]).unwrap();
            assert_eq!(bound.local_addr().unwrap().ip(), good.ip());
        });
    });
}

#[test]
fn a_port_is_taken_once() {
    // Goal: AddrInUse for a second listener, in both families; free again when the first has gone.
    // Method: bind, drop, bind. Until it works: the child of another test has the descriptor too, between its fork and its exec.
    check(|| {
        runtime(1).run(|| {
            each_family(|listener, address| {
                let second = TcpListener::bind(address).unwrap_err();
                assert_eq!(second.kind(), ErrorKind::AddrInUse);
                drop(listener);
                until("the port is free", || TcpListener::bind(address).is_ok());
            });
        });
    });
}

#[test]
fn who_connects_is_told() {
    // Goal: accept gives the client's address, which is the client's local one; a byte comes through.
    // Method: both families.
    check(|| {
        runtime(1).run(|| {
            each_family(|listener, address| {
                let mut client = TcpStream::connect(address).unwrap();
                client.write_all(&[99]).unwrap();
                let (mut stream, from) = listener.accept().unwrap();
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [99]);
                assert_eq!(from, client.local_addr().unwrap());
                assert_eq!(stream.peer_addr().unwrap(), from);
            });
        });
    });
}

#[test]
fn one_listener_for_both_families() {
    // Goal: a listener on [::] takes IPv4 clients, too, whose addresses are mapped; only with `set_only_v6` it does not.
    // Method: connect to 127.0.0.1.
    check(|| {
        runtime(1).run(|| {
            let listener = TcpListener::bind("[::]:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (_stream, from) = listener.accept().unwrap();
            assert_eq!(from.ip().to_canonical(), client.local_addr().unwrap().ip());
            let socket = coring::net::TcpSocket::new_v6().unwrap();
            socket.set_only_v6(true).unwrap();
            socket.bind("[::]:0".parse().unwrap()).unwrap();
            let listener = socket.listen(4).unwrap();
            let port = listener.local_addr().unwrap().port();
            let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        });
    });
}
