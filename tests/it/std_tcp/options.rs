//! Options, conversions, and what is shown of a socket.

use super::each_pair;
use coring::io::{Interest, poll_fd};
use coring::net::{TcpListener, TcpSocket, TcpStream};
use coring_tests::tcp::{listen, pair};
use coring_tests::{check, runtime};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

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
    // Goal: `{:?}` shows what std's does, in the same words.
    // Method: compare with std's on the same socket.
    check(|| {
        runtime(1).run(|| {
            let (ours, _theirs) = pair();
            let shown = format!("{ours:?}");
            assert_eq!(shown, format!("{:?}", ours.into_std()));
            let (listener, _) = listen();
            let shown = format!("{listener:?}");
            assert_eq!(shown, format!("{:?}", listener.into_std()));
        });
    });
}

#[test]
fn options_are_read_back() {
    // Goal: nodelay, linger and ttl are what was set, and the defaults before; the listener's ttl is its own.
    // Method: set, ask, take back.
    check(|| {
        runtime(1).run(|| {
            let (stream, _theirs) = pair();
            assert!(!stream.nodelay().unwrap());
            stream.set_nodelay(true).unwrap();
            assert!(stream.nodelay().unwrap());
            stream.set_nodelay(false).unwrap();
            assert!(!stream.nodelay().unwrap());
            let second = Some(Duration::from_secs(1));
            assert_eq!(stream.linger().unwrap(), None);
            stream.set_linger(second).unwrap();
            assert_eq!(stream.linger().unwrap(), second);
            stream.set_linger(None).unwrap();
            assert_eq!(stream.linger().unwrap(), None);
            stream.set_ttl(100).unwrap();
            assert_eq!(stream.ttl().unwrap(), 100);
            let (listener, _) = listen();
            listener.set_ttl(101).unwrap();
            assert_eq!(listener.ttl().unwrap(), 101);
            assert_ne!(stream.ttl().unwrap(), 101);
        });
    });
}

#[test]
fn a_pending_error_is_taken_once() {
    // Goal: take_error is None on a healthy socket, the reset after one, then None again.
    // Method: the peer resets, and the reset is waited for.
    check(|| {
        runtime(1).run(|| {
            let (ours, theirs) = pair();
            assert!(ours.take_error().unwrap().is_none());
            coring_tests::tcp::reset(theirs);
            // On a busy machine the reset is delivered later.
            poll_fd(&ours, Interest::READABLE).unwrap();
            let error = ours.take_error().unwrap().expect("the reset is there");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(ours.take_error().unwrap().is_none());
        });
    });
}

#[test]
fn sockets_may_go_to_other_cores() {
    // Goal: what std promises of Send and Sync holds; a connection works on another core than the one it was made on.
    // Method: the compiler; both families.
    fn is_shared<T: Send + Sync + Unpin + 'static>() {}
    is_shared::<TcpStream>();
    is_shared::<TcpListener>();
    is_shared::<TcpSocket>();
    check(|| {
        runtime(2).run(|| {
            each_pair(|mut client, mut server| {
                let there = coring::spawn_on(1, move || {
                    let mut text = String::new();
                    server.read_to_string(&mut text).map(|_| text)
                });
                client.write_all(b"over there").unwrap();
                drop(client);
                assert_eq!(there.join().unwrap().unwrap(), "over there");
            });
        });
    });
}
