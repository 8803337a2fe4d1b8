//! UDP as std documents it.

use coring::coro;
use coring::net::UdpSocket;
use coring_tests::{check, runtime, until_fails, until_in_flight};
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
            one.set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            until_fails(ErrorKind::ConnectionRefused, || {
                one.send(b"anybody?").and_then(|_| one.recv(&mut [0; 4]))
            });
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
            let (shown, number) = (format!("{one:?}"), one.as_raw_fd());
            let theirs = one.into_std();
            assert_eq!(shown, format!("{theirs:?}"));
            let back = UdpSocket::from_std(theirs);
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

/// Two sockets, over each family.
fn each_family(mut body: impl FnMut(UdpSocket, UdpSocket)) {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        body(
            UdpSocket::bind(host).unwrap(),
            UdpSocket::bind(host).unwrap(),
        );
    }
}

#[test]
fn addresses_that_cannot_be_bound() {
    // Goal: AddrNotAvailable for what is not ours, InvalidInput for none; of several, the first that can be.
    // Method: each.
    check(|| {
        runtime(1).run(|| {
            let foreign: SocketAddr = "1.1.1.1:9999".parse().unwrap();
            let kind = |outcome: std::io::Result<UdpSocket>| outcome.unwrap_err().kind();
            assert_eq!(kind(UdpSocket::bind(foreign)), ErrorKind::AddrNotAvailable);
            assert_eq!(kind(UdpSocket::bind(&[][..])), ErrorKind::InvalidInput);
            let good: SocketAddr = "127.0.0.1:0".parse().unwrap();
            UdpSocket::bind(&[foreign, good][..]).unwrap();
        });
    });
}

#[test]
fn both_sides_are_named() {
    // Goal: local addresses are the loopback's, there is no peer before `connect`, and then it is the other's address.
    // Method: both families.
    check(|| {
        runtime(1).run(|| {
            each_family(|one, other| {
                let [first, second] = [&one, &other].map(|socket| socket.local_addr().unwrap());
                assert!(first.ip().is_loopback());
                assert_eq!(one.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
                one.connect(second).unwrap();
                other.connect(first).unwrap();
                assert_eq!(one.peer_addr().unwrap(), second);
                assert_eq!(other.peer_addr().unwrap(), first);
            });
        });
    });
}

#[test]
fn two_handles_receive() {
    // Goal: two coroutines that wait on two handles of one socket get one datagram each.
    // Method: both in flight first, in both families.
    check(|| {
        runtime(1).run(|| {
            each_family(|one, other| {
                let to = one.local_addr().unwrap();
                let clone = one.try_clone().unwrap();
                let receivers = [one, clone].map(|socket| {
                    coro::spawn(move || {
                        let mut byte = [0];
                        socket.recv_from(&mut byte).unwrap();
                        byte[0]
                    })
                });
                until_in_flight(2);
                other.send_to(&[1], to).unwrap();
                other.send_to(&[2], to).unwrap();
                let mut bytes = receivers.map(|receiver| receiver.join().unwrap());
                bytes.sort_unstable();
                assert_eq!(bytes, [1, 2]);
            });
        });
    });
}

#[test]
fn two_handles_send() {
    // Goal: datagrams of two handles come from one address, none is lost or torn.
    // Method: two coroutines, ten each.
    check(|| {
        runtime(1).run(|| {
            each_family(|one, other| {
                let (from, to) = (one.local_addr().unwrap(), other.local_addr().unwrap());
                let clone = one.try_clone().unwrap();
                let senders = [(one, b'a'), (clone, b'b')].map(|(socket, letter)| {
                    coro::spawn(move || {
                        for _ in 0..10 {
                            assert_eq!(socket.send_to(&[letter; 4], to).unwrap(), 4);
                        }
                    })
                });
                let mut letters = Vec::new();
                for _ in 0..20 {
                    let mut buffer = [0; 8];
                    assert_eq!(other.recv_from(&mut buffer).unwrap(), (4, from));
                    assert_eq!(buffer[..4], [buffer[0]; 4]);
                    letters.push(buffer[0]);
                }
                for sender in senders {
                    sender.join().unwrap();
                }
                letters.sort_unstable();
                assert_eq!(letters, [[b'a'; 10], [b'b'; 10]].concat());
            });
        });
    });
}

#[test]
fn a_socket_that_talks_to_itself() {
    // Goal: connected to its own address, what it sends it peeks at and receives.
    // Method: both families.
    check(|| {
        runtime(1).run(|| {
            each_family(|socket, _| {
                let address = socket.local_addr().unwrap();
                socket.connect(address).unwrap();
                assert_eq!(socket.send(b"hello world").unwrap(), 11);
                let mut buffer = [0; 11];
                for _ in 0..2 {
                    assert_eq!(socket.peek(&mut buffer).unwrap(), 11);
                    assert_eq!(socket.peek_from(&mut buffer).unwrap(), (11, address));
                    assert_eq!(&buffer, b"hello world");
                }
                assert_eq!(socket.recv(&mut buffer).unwrap(), 11);
            });
        });
    });
}

#[test]
fn limits_are_read_back() {
    // Goal: none, what was set, none again, each direction for itself; zero is refused; clones share them.
    // Method: set and ask.
    check(|| {
        runtime(1).run(|| {
            let (socket, _) = socket();
            let clone = socket.try_clone().unwrap();
            let time = Some(Duration::from_secs(15410));
            assert_eq!(socket.read_timeout().unwrap(), None);
            socket.set_read_timeout(time).unwrap();
            assert_eq!(clone.read_timeout().unwrap(), time);
            assert_eq!(socket.write_timeout().unwrap(), None);
            clone.set_write_timeout(time).unwrap();
            assert_eq!(socket.write_timeout().unwrap(), time);
            for set in [UdpSocket::set_read_timeout, UdpSocket::set_write_timeout] {
                let zero = set(&socket, Some(Duration::ZERO)).unwrap_err();
                assert_eq!(zero.kind(), ErrorKind::InvalidInput);
                set(&socket, None).unwrap();
            }
            assert_eq!(socket.read_timeout().unwrap(), None);
            assert_eq!(socket.write_timeout().unwrap(), None);
        });
    });
}

#[test]
fn a_datagram_in_time() {
    // Goal: with a limit set, what is there is received; then the limit ends the wait, not earlier.
    // Method: one datagram to itself.
    check(|| {
        runtime(1).run(|| {
            let (socket, address) = socket();
            let time = Duration::from_millis(30);
            socket.set_read_timeout(Some(time)).unwrap();
            socket.send_to(b"hello world", address).unwrap();
            let mut buffer = [0; 11];
            assert_eq!(socket.recv_from(&mut buffer).unwrap(), (11, address));
            let start = Instant::now();
            let error = socket.recv_from(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(start.elapsed() >= time);
        });
    });
}

#[test]
fn datagrams_of_gigabytes() {
    // Goal: a datagram of more than 2^31 bytes is refused and not cut to what fits a number of 31 or 32 bits.
    // Method: memory that is mapped and never touched, so it takes none.
    check(|| {
        runtime(1).run(|| {
            let (socket, address) = socket();
            socket.connect(address).unwrap();
            for bytes in [1_usize << 31, (1 << 32) + 8] {
                let zeroes = memmap2::MmapOptions::new().len(bytes).map_anon().unwrap();
                assert!(socket.send_to(&zeroes, address).is_err());
                assert!(socket.send(&zeroes).is_err());
            }
            socket
                .set_read_timeout(Some(Duration::from_millis(5)))
                .unwrap();
            let nothing = socket.recv(&mut [0; 16]).unwrap_err();
            assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        });
    });
}

#[test]
fn multicasts_reach_their_group() {
    // Goal: who has joined a group hears what is sent to it, and no more when it has left; options of both families are
    // read back.
    // Method: over the loopback interface.
    check(|| {
        runtime(1).run(|| {
            let ((receiver, address), (sender, _)) = (socket(), socket());
            let group: std::net::Ipv4Addr = "239.255.77.5".parse().unwrap();
            let loopback = std::net::Ipv4Addr::LOCALHOST;
            let receiver_on_all = UdpSocket::bind("0.0.0.0:0").unwrap();
            let port = receiver_on_all.local_addr().unwrap().port();
            receiver_on_all
                .join_multicast_v4(&group, &loopback)
                .unwrap();
            socket2::SockRef::from(&sender)
                .set_multicast_if_v4(&loopback)
                .unwrap();
            sender.send_to(b"to all", (group, port)).unwrap();
            assert_eq!(receiver_on_all.recv(&mut [0; 8]).unwrap(), 6);
            receiver_on_all
                .leave_multicast_v4(&group, &loopback)
                .unwrap();
            let again = receiver_on_all.leave_multicast_v4(&group, &loopback);
            assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
            receiver.set_multicast_ttl_v4(7).unwrap();
            assert_eq!(receiver.multicast_ttl_v4().unwrap(), 7);
            assert_eq!(receiver.local_addr().unwrap(), address);
            let six = UdpSocket::bind("[::1]:0").unwrap();
            six.set_multicast_loop_v6(false).unwrap();
            assert!(!six.multicast_loop_v6().unwrap());
            let group = "ff02::1234".parse().unwrap();
            six.join_multicast_v6(&group, 1).unwrap();
            six.leave_multicast_v6(&group, 1).unwrap();
        });
    });
}
