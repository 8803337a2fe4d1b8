//! Many datagrams at once: all arrive, in order, with the right sender; limits and errors are told.
#![expect(unsafe_code, reason = "makes a network of its own")]

use coring::coro;
use coring::io::is_cancelled;
use coring::net::{DatagramBatch, UdpSocket};
use coring_tests::conserve::conserved;
use coring_tests::lane::{Lane, in_every_lane};
use coring_tests::random::pattern;
use coring_tests::{alone, check, rounds, runtime, skip, until_in_flight};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn batches_arrive_in_order() {
    // Goal: batches shorter and longer than one system call takes arrive in order, whole, with their sender, in every
    // lane; a batch takes no more than it has room for, and cuts what is too long.
    // Method: 100 datagrams of growing length, to two receivers in turn.
    check(|| {
        in_every_lane(|lane: &Lane| {
            lane.runtime().run(|| {
                let ((sender, from), (one, first), (two, second)) = (socket(), socket(), socket());
                let bytes: Vec<_> = (0..100).map(|number| pattern(number, number * 3)).collect();
                let turns = [first, second].into_iter().cycle();
                let all: Vec<_> = bytes.iter().map(Vec::as_slice).zip(turns).collect();
                assert_eq!(sender.send_batch(&all).unwrap(), 100, "{}", lane.name());
                for (receiver, parity) in [(one, 0), (two, 1)] {
                    let mut batch = DatagramBatch::new(40, 200);
                    let mut numbers = (parity..100).step_by(2);
                    for count in [40, 10] {
                        assert_eq!(receiver.recv_batch(&mut batch).unwrap(), count);
                        assert_eq!(batch.iter().len(), count);
                        for (datagram, sender) in batch.iter() {
                            let sent = &bytes[numbers.next().unwrap()];
                            assert_eq!(sender, from);
                            assert!(datagram == &sent[..sent.len().min(200)], "{}", lane.name());
                        }
                    }
                    receiver
                        .set_read_timeout(Some(Duration::from_millis(1)))
                        .unwrap();
                    let nothing = receiver.recv_batch(&mut batch).unwrap_err();
                    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
                    assert_eq!(batch.iter().len(), 0);
                }
            });
        });
    });
}

#[test]
fn a_failure_says_how_many_went() {
    // Goal: what goes before a datagram that cannot go is sent, once; the call that begins with it tells the error.
    // Method: one that is longer than UDP allows, in the middle of a batch.
    check(|| {
        runtime(1).run(|| {
            let ((sender, _), (receiver, to)) = (socket(), socket());
            let huge = vec![0; 70_000];
            let all: Vec<(&[u8], _)> =
                vec![(b"one", to), (b"two", to), (&huge, to), (b"three", to)];
            assert_eq!(sender.send_batch(&all).unwrap(), 2);
            let error = sender.send_batch(&all[2..]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
            assert_eq!(sender.send_batch(&all[3..]).unwrap(), 1);
            assert_eq!(sender.send_batch(&[]).unwrap(), 0);
            let mut batch = DatagramBatch::new(8, 16);
            assert_eq!(receiver.recv_batch(&mut batch).unwrap(), 3);
            let words: Vec<_> = batch.iter().map(|(bytes, _)| bytes.to_vec()).collect();
            assert_eq!(words, [&b"one"[..], b"two", b"three"]);
        });
    });
}

#[test]
fn a_cancelled_batch_loses_nothing() {
    // Goal: a datagram that arrives as its receiver is cancelled is received by it or by the next, once.
    // Method: cancel at a varying moment; the numbers must come out in order without a gap.
    alone(|| {
        let mut refused = 0;
        conserved(rounds(2000, 20_000), |round| {
            let ((sender, _), (receiver, to)) = (socket(), socket());
            let clone = receiver.try_clone().unwrap();
            let waiting = coro::spawn(move || {
                let mut batch = DatagramBatch::new(4, 8);
                let outcome = clone.recv_batch(&mut batch);
                outcome.map(|_| batch)
            });
            for _ in 0..round % 3 {
                coro::yield_now();
            }
            if round % 4 == 0 {
                waiting.cancel();
                if round % 8 == 0 {
                    until_in_flight(0);
                }
            }
            let numbers: Vec<_> = (0..3u64).map(u64::to_ne_bytes).collect();
            let all: Vec<_> = numbers.iter().map(|number| (&number[..], to)).collect();
            assert_eq!(sender.send_batch(&all).unwrap(), 3);
            for _ in 0..round / 3 % 3 {
                coro::yield_now();
            }
            waiting.cancel();
            let mut got = Vec::new();
            let mut take = |batch: &DatagramBatch| {
                got.extend(
                    batch
                        .iter()
                        .map(|(bytes, _)| u64::from_ne_bytes(bytes.try_into().unwrap())),
                );
                got.len()
            };
            match waiting.join() {
                Ok(Ok(batch)) => _ = take(&batch),
                Ok(Err(error)) => {
                    assert!(is_cancelled(&error), "{error}");
                    refused += 1;
                }
                Err(_) => {}
            }
            let mut batch = DatagramBatch::new(4, 8);
            while take(&batch) < 3 {
                receiver.recv_batch(&mut batch).unwrap();
            }
            assert_eq!(got, [0, 1, 2]);
        });
        assert!(refused > 0, "some were cancelled while they waited");
    });
}

/// Does what ip(8) does with these words. Whether it could.
fn ip(words: &str) -> bool {
    let words = words.split(' ');
    let outcome = std::process::Command::new("ip").args(words).output();
    outcome.is_ok_and(|output| output.status.success())
}

#[test]
fn a_full_socket_is_waited_for() {
    // Goal: a batch larger than the socket's send buffer goes all the same, with waiting; a write timeout cuts it and
    // tells how many went.
    // Method: a network in which nobody answers for the receiver: what is sent waits in the kernel, on the sender's account, until
    // the receiver's hardware address is told.
    alone(|| {
        // SAFETY: takes a number; this process is the test's own.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            skip!("makes a network: needs root");
        }
        let made = ip("link add v0 type veth peer name v1")
            && ip("address add 10.9.9.1/24 dev v0")
            && ip("link set v0 up")
            && ip("link set v1 up");
        if !made {
            skip!("makes a network: needs ip(8), and veth in the kernel");
        }
        runtime(1).run(|| {
            let bytes = [0; 1024];
            let batch = move |to: &str| vec![(bytes, SocketAddr::new(to.parse().unwrap(), 9)); 200];
            let sender = || {
                let sender = UdpSocket::bind("10.9.9.1:0").unwrap();
                let options = socket2::SockRef::from(&sender);
                options.set_send_buffer_size(16 << 10).unwrap();
                sender
            };
            let send = |sender: &UdpSocket, all: &[([u8; 1024], SocketAddr)]| {
                let all: Vec<_> = all.iter().map(|(bytes, to)| (&bytes[..], *to)).collect();
                sender.send_batch(&all)
            };
            let waiting = coro::spawn(move || send(&sender(), &batch("10.9.9.2")));
            until_in_flight(1);
            assert!(ip(
                "neighbour replace 10.9.9.2 lladdr 02:00:00:00:00:01 dev v0"
            ));
            assert_eq!(waiting.join().unwrap().unwrap(), 200);

            let sender = sender();
            let time = Duration::from_millis(5);
            sender.set_write_timeout(Some(time)).unwrap();
            let told = send(&sender, &batch("10.9.9.3")).unwrap();
            assert!((1..200).contains(&told), "{told}");
            let error = send(&sender, &batch("10.9.9.3")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        });
    });
}

#[test]
fn batches_that_never_wait_let_others_run() {
    // Goal: a loop of batches that always find room, or always find datagrams, or always fail, does not keep the core, and hears of
    // its cancellation.
    // Method: one coroutine sends to itself, or receives what std's socket has sent, or sends too much, until another that cancels
    // it has run.
    check(|| {
        runtime(1).run(|| {
            for way in ["sends", "receives", "fails"] {
                let looping = coro::spawn(move || {
                    let (socket, to) = socket();
                    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                    let mut batch = DatagramBatch::new(4, 8);
                    let begun = std::time::Instant::now();
                    while begun.elapsed() < Duration::from_secs(5) {
                        let outcome = match way {
                            "receives" => {
                                other.send_to(b"x", to).unwrap();
                                socket.recv_batch(&mut batch)
                            }
                            "sends" => socket.send_batch(&[(&b"x"[..], to); 2]),
                            _ => socket.send_batch(&[(&[0; 70_000][..], to)]),
                        };
                        match outcome {
                            Err(error) if is_cancelled(&error) => return true,
                            outcome => assert_eq!(outcome.is_err(), way == "fails"),
                        }
                    }
                    false
                });
                coro::yield_now();
                looping.cancel();
                assert!(looping.join().unwrap(), "{way}");
            }
        });
    });
}

#[test]
fn a_batch_that_is_late_tells_its_part() {
    // Goal: when a deadline passes in the middle of a batch, how many were sent is told, and not that it is late.
    // Method: a batch that takes many times as long.
    check(|| {
        runtime(1).run(|| {
            let ((sender, _), (_receiver, to)) = (socket(), socket());
            let all = vec![(&b"x"[..], to); 500_000];
            let limit = Duration::from_millis(5);
            let told = coro::timeout(limit, || sender.send_batch(&all));
            let told = told.expect("some went, so it is told").unwrap();
            assert!((1..all.len()).contains(&told), "{told}");
            let refused = coro::timeout(Duration::ZERO, || sender.send_batch(&all));
            assert_eq!(refused.map(drop), Err(coro::Elapsed));
        });
    });
}

#[test]
fn segments_are_cut_and_joined() {
    // Goal: one send becomes datagrams of the length asked for, the last one shorter; a receiver that allows it gets them
    // joined, with that length; others get them one by one.
    // Method: both receivers.
    check(|| {
        runtime(1).run(|| {
            let ((sender, from), (plain, one), (joining, other)) = (socket(), socket(), socket());
            joining.set_join_segments(true).unwrap();
            let bytes = pattern(1, 10_000);
            assert_eq!(sender.send_segments(&bytes, 1200, one).unwrap(), 10_000);
            let mut batch = DatagramBatch::new(16, 2000);
            assert_eq!(plain.recv_batch(&mut batch).unwrap(), 9);
            assert!(batch.iter().map(|(bytes, _)| bytes).eq(bytes.chunks(1200)));

            assert_eq!(sender.send_segments(&bytes, 1200, other).unwrap(), 10_000);
            let (mut buffer, mut got) = (vec![0; 65_536], Vec::new());
            while got.len() < bytes.len() {
                let (count, segment, peer) = joining.recv_segments(&mut buffer).unwrap();
                assert_eq!(peer, from);
                assert!(
                    segment == 1200 || count == segment,
                    "{count} in pieces of {segment}"
                );
                got.extend_from_slice(&buffer[..count]);
            }
            assert!(got == bytes);
            sender.send_to(b"alone", other).unwrap();
            assert_eq!(joining.recv_segments(&mut buffer).unwrap(), (5, 5, from));

            let error = sender.send_segments(&bytes, 0, one).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let waiting = coro::spawn(move || joining.recv_segments(&mut [0; 8]).map(drop));
            until_in_flight(1);
            waiting.cancel();
            assert!(is_cancelled(&waiting.join().unwrap().unwrap_err()));
        });
    });
}

#[test]
fn a_batch_that_fits_nowhere_is_refused() {
    // Goal: sizes whose product is no number of bytes are refused when the batch is made.
    // Method: a product that would wrap around to little.
    check(|| {
        let made = std::panic::catch_unwind(|| DatagramBatch::new(1 << 20, (1 << 44) + 1));
        let panic = made.unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("address space"), "{text}");
    });
}
