//! UDP as std documents it.

use coring::coro;
use coring::net::UdpSocket;
use coring_tests::{check, runtime, until_in_flight};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn datagrams_keep_their_borders_and_their_sender() {
    // Goal: each receive gives one datagram, whole, and who sent it; also an empty one; in both families.
    // Method: three of different lengths.
    check(|| {
        runtime(1).run(|| {
            for host in ["127.0.0.1:0", "[::1]:0"] {
                let one = UdpSocket::bind(host).unwrap();
                let other = UdpSocket::bind(host).unwrap();
                let to = other.local_addr().unwrap();
                for message in [&b"first"[..], b"", b"the third"] {
                    assert_eq!(one.send_to(message, to).unwrap(), message.len());
                }
                let mut buffer = [0; 64];
                for message in [&b"first"[..], b"", b"the third"] {
                    let (bytes, from) = other.recv_from(&mut buffer).unwrap();
                    assert_eq!(&buffer[..bytes], message);
                    assert_eq!(from, one.local_addr().unwrap());
                }
            }
        });
    });
}

#[test]
fn a_long_datagram_is_cut_and_the_next_is_whole() {
    // Goal: what does not fit the buffer is gone, and only that.
    // Method: ten bytes into four, then a short one.
    check(|| {
        runtime(1).run(|| {
            let (one, (other, to)) = (socket().0, socket());
            one.send_to(b"0123456789", to).unwrap();
            one.send_to(b"next", to).unwrap();
            let mut buffer = [0; 4];
            assert_eq!(other.recv_from(&mut buffer).unwrap().0, 4);
            assert_eq!(&buffer, b"0123");
            assert_eq!(other.recv(&mut buffer).unwrap(), 4);
            assert_eq!(&buffer, b"next");
        });
    });
}

#[test]
fn peeking_leaves_the_datagram() {
    // Goal: peek and peek_from see it, the next receive takes it.
    // Method: each, twice.
    check(|| {
        runtime(1).run(|| {
            let ((one, from), (other, to)) = (socket(), socket());
            one.send_to(b"here", to).unwrap();
            let mut buffer = [0; 8];
            for _ in 0..2 {
                assert_eq!(other.peek(&mut buffer).unwrap(), 4);
                assert_eq!(other.peek_from(&mut buffer).unwrap(), (4, from));
            }
            assert_eq!(other.recv_from(&mut buffer).unwrap(), (4, from));
            assert_eq!(&buffer[..4], b"here");
        });
    });
}

#[test]
fn a_connected_socket_hears_one_peer_only() {
    // Goal: `connect` filters, `send` needs it, `peer_addr` tells.
    // Method: a stranger sends first.
    check(|| {
        runtime(1).run(|| {
            let ((one, address), (other, to), (stranger, _)) = (socket(), socket(), socket());
            assert_eq!(one.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
            assert!(one.send(b"to whom?").is_err());
            one.connect(to).unwrap();
            assert_eq!(one.peer_addr().unwrap(), to);
            stranger.send_to(b"ignored", address).unwrap();
            other.send_to(b"heard", address).unwrap();
            let mut buffer = [0; 16];
            let bytes = one.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..bytes], b"heard");
            one.send(b"answer").unwrap();
            assert_eq!(other.recv(&mut buffer).unwrap(), 6);
        });
    });
}

#[test]
fn nobody_there_is_told_once() {
    // Goal: a datagram to a closed port comes back as ConnectionRefused on a connected socket.
    // Method: bind, close, send, receive.
    check(|| {
        runtime(1).run(|| {
            let ((one, _), (other, to)) = (socket(), socket());
            drop(other);
            one.connect(to).unwrap();
            one.send(b"anybody?").unwrap();
            let error = one.recv(&mut [0; 4]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        });
    });
}

#[test]
fn timeouts_end_receives() {
    // Goal: recv and recv_from end with WouldBlock after the time; a later datagram is there; zero is refused.
    // Method: as said.
    check(|| {
        runtime(1).run(|| {
            let ((one, _), (other, to)) = (socket(), socket());
            let time = Duration::from_millis(25);
            other.set_read_timeout(Some(time)).unwrap();
            let mut buffer = [0; 8];
            for _ in 0..2 {
                let start = Instant::now();
                let error = other.recv(&mut buffer).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                let error = other.recv_from(&mut buffer).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert!(start.elapsed() >= 2 * time);
            }
            one.send_to(b"late", to).unwrap();
            assert_eq!(other.recv(&mut buffer).unwrap(), 4);
            let zero = other.set_write_timeout(Some(Duration::ZERO)).unwrap_err();
            assert_eq!(zero.kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn clones_and_two_coroutines() {
    // Goal: one coroutine receives while another sends through a clone.
    // Method: ping and pong.
    check(|| {
        runtime(1).run(|| {
            let ((one, address), (other, to)) = (socket(), socket());
            let clone = one.try_clone().unwrap();
            let receiver = coro::spawn(move || {
                let mut buffer = [0; 8];
                let (bytes, from) = one.recv_from(&mut buffer).unwrap();
                (buffer[..bytes].to_vec(), from)
            });
            until_in_flight(1);
            clone.send_to(b"ping", to).unwrap();
            let mut buffer = [0; 8];
            let (bytes, from) = other.recv_from(&mut buffer).unwrap();
            assert_eq!((bytes, from), (4, address));
            other.send_to(b"pong", from).unwrap();
            assert_eq!(receiver.join().unwrap(), (b"pong".to_vec(), to));
        });
    });
}

#[test]
fn errors_have_stds_kinds() {
    // Goal: AddrInUse, InvalidInput for no address, an error for a datagram that is too long; options read back.
    // Method: each.
    check(|| {
        runtime(1).run(|| {
            let (one, address) = socket();
            let taken = UdpSocket::bind(address).unwrap_err();
            assert_eq!(taken.kind(), ErrorKind::AddrInUse);
            let nobody = one.send_to(b"x", &[][..]).unwrap_err();
            assert_eq!(nobody.kind(), ErrorKind::InvalidInput);
            let long = one.send_to(&vec![0; 70_000], address).unwrap_err();
            assert_eq!(long.raw_os_error(), Some(libc::EMSGSIZE));
            for on in [true, false] {
                one.set_broadcast(on).unwrap();
                assert_eq!(one.broadcast().unwrap(), on);
                one.set_multicast_loop_v4(on).unwrap();
                assert_eq!(one.multicast_loop_v4().unwrap(), on);
            }
            one.set_ttl(33).unwrap();
            assert_eq!(one.ttl().unwrap(), 33);
            one.set_multicast_ttl_v4(5).unwrap();
            assert_eq!(one.multicast_ttl_v4().unwrap(), 5);
            assert!(one.take_error().unwrap().is_none());
            let text = format!("{one:?}");
            assert!(text.contains(&address.to_string()), "{text}");
            let number = one.as_raw_fd();
            let back = UdpSocket::from_std(one.into_std());
            assert_eq!(back.as_raw_fd(), number);
        });
    });
}

#[test]
fn a_cancelled_receive_loses_no_datagram() {
    // Goal: after a cancelled receive the datagram is either its result or still there.
    // Method: cancel and send at the same time, a thousand times.
    check(|| {
        runtime(1).run(|| {
            let ((one, _), (other, to)) = (socket(), socket());
            for round in 0..1000_u32 {
                let clone = other.try_clone().unwrap();
                let waiting = coro::spawn(move || {
                    let mut buffer = [0; 4];
                    clone.recv(&mut buffer).map(|_| buffer)
                });
                coro::yield_now();
                if round % 2 == 0 {
                    waiting.cancel();
                    one.send_to(&round.to_le_bytes(), to).unwrap();
                } else {
                    one.send_to(&round.to_le_bytes(), to).unwrap();
                    waiting.cancel();
                }
                let got = match waiting.join() {
                    Ok(Ok(bytes)) => bytes,
                    _ => {
                        let mut buffer = [0; 4];
                        other.recv(&mut buffer).unwrap();
                        buffer
                    }
                };
                assert_eq!(u32::from_le_bytes(got), round);
            }
        });
    });
}
