//! One accept operation for many connections: every client is served or told, whatever goes wrong.

use coring::coro;
use coring::net::{TcpListener, TcpStream, UnixListener, UnixSocketAddr, UnixStream};
use coring::uring::Feature;
use coring_tests::conserve::{conserved, stagger};
use coring_tests::lane::{Lane, in_every_lane, is_allowed};
use coring_tests::tcp::listen;
use coring_tests::{alone, builder, check, in_flight, proc, rounds, runtime, until};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::time::{Duration, Instant};

/// Connects, says its number and waits for the answer.
fn call(address: SocketAddr, number: u32) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&number.to_ne_bytes()).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(u32::from_ne_bytes(answer), number);
}

/// Takes a call; the number.
fn answer(mut stream: impl Read + Write) -> u32 {
    let mut number = [0; 4];
    stream.read_exact(&mut number).unwrap();
    stream.write_all(&number).unwrap();
    u32::from_ne_bytes(number)
}

#[test]
fn every_client_is_accepted_once() {
    // Goal: more clients at once than rings have entries, in every lane: each is accepted, none twice. TCP and Unix.
    // Method: clients have numbers.
    check(|| {
        in_every_lane(|lane: &Lane| {
            lane.runtime().run(|| {
                let (listener, address) = listen();
                let clients: Vec<_> = (0..100)
                    .map(|number| coro::spawn(move || call(address, number)))
                    .collect();
                let answers: Vec<_> = listener
                    .accept_stream()
                    .take(100)
                    .map(|stream| coro::spawn(move || answer(stream.unwrap())))
                    .collect();
                let mut numbers: Vec<_> = answers
                    .into_iter()
                    .map(|answer| answer.join().unwrap())
                    .collect();
                numbers.sort_unstable();
                assert!(numbers.into_iter().eq(0..100), "{}", lane.name());
                clients
                    .into_iter()
                    .for_each(|client| client.join().unwrap());

                let name = format!("coring-accept-stream-{}", std::process::id());
                let address = UnixSocketAddr::from_abstract_name(name).unwrap();
                let listener = UnixListener::bind_addr(&address).unwrap();
                let clients: Vec<_> = (0..20u32)
                    .map(|number| {
                        let mut stream = UnixStream::connect_addr(&address).unwrap();
                        stream.write_all(&number.to_ne_bytes()).unwrap();
                        stream
                    })
                    .collect();
                let numbers = listener
                    .accept_stream()
                    .take(20)
                    .map(|stream| answer(stream.unwrap()));
                assert!(numbers.eq(0..20), "{}", lane.name());
                drop(clients);
            });
        });
    });
}

#[test]
fn a_full_window_delivers_everything() {
    // Goal: an owner who does not keep up makes the kernel stop, not the clients fail: all are delivered, in order.
    // Method: a window of two, 300 clients that are there before the second connection is taken.
    check(|| {
        let runtime = builder(1).multishot_window(2).build().unwrap();
        runtime.run(|| {
            let (listener, address) = listen();
            let mut stream = listener.accept_stream();
            let first = coro::spawn(move || call(address, 0));
            assert_eq!(answer(stream.accept().unwrap()), 0);
            first.join().unwrap();
            let clients: Vec<_> = (0..300u32)
                .map(|number| {
                    let mut client = TcpStream::connect(address).unwrap();
                    client.write_all(&number.to_ne_bytes()).unwrap();
                    client
                })
                .collect();
            for number in 0..300 {
                assert_eq!(answer(stream.accept().unwrap()), number);
            }
            let has = coring::stats().unwrap();
            let many = is_allowed(Feature::MultishotAccept);
            assert_eq!(
                has.ring.crowded > 0,
                many,
                "the window was full: {:?}",
                has.ring
            );
            drop(clients);
        });
    });
}

#[test]
fn out_of_descriptors_it_pauses_and_goes_on() {
    // Goal: at the limit on descriptors the stream neither fails nor spins nor loses a client; it goes on by itself as
    // soon as descriptors are free.
    // Method: 60 clients with sockets made beforehand, room for ten more descriptors. What was accepted is let go after
    // some pauses were seen; a pause is never shorter than it says, so their number is bounded by the time.
    alone(|| {
        runtime(1).run(|| {
            let (listener, address) = listen();
            let sockets: Vec<_> = (0..60)
                .map(|_| coring::net::TcpSocket::new_v4().unwrap())
                .collect();
            let limit = proc::fds() + 10;
            proc::limit_files(limit);
            let clients: Vec<_> = (0..60u32)
                .zip(sockets)
                .map(|(number, socket)| {
                    coro::spawn(move || {
                        let mut stream = socket.connect(address).unwrap();
                        stream.write_all(&number.to_ne_bytes()).unwrap();
                        let mut answer = [0; 4];
                        stream.read_exact(&mut answer).unwrap();
                        assert_eq!(u32::from_ne_bytes(answer), number);
                        // Kept: only what the server closes becomes free.
                        stream
                    })
                })
                .collect();
            let mut stream = listener.accept_stream();
            let (start, mut numbers) = (Instant::now(), Vec::new());
            let mut held: Vec<TcpStream> = Vec::new();
            while numbers.len() < 60 {
                // Ten fit, so the eleventh accept fails: whoever waits here is let go by the alarm.
                let accepted = coro::timeout(Duration::from_millis(20), || stream.accept());
                match accepted {
                    Ok(Ok(accepted)) => held.push(accepted),
                    _ => numbers.extend(held.drain(..).map(answer)),
                }
                if held.len() + numbers.len() == 60 {
                    numbers.extend(held.drain(..).map(answer));
                }
            }
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..60));
            let milliseconds = start.elapsed().as_millis();
            let pauses = stream.pauses();
            assert!(pauses >= 5, "each ten clients reach the limit: {pauses}");
            assert!(
                u128::from(pauses) <= 70 + milliseconds,
                "{pauses} pauses in {milliseconds} ms"
            );
            clients
                .into_iter()
                .for_each(|client| drop(client.join().unwrap()));
        });
    });
}

#[test]
fn a_pause_ends_with_the_listeners_time() {
    // Goal: out of descriptors, a call still ends with the listener's read timeout, and not with the pause.
    // Method: calls of 10 ms until the pause has its full length of 100 ms; then one beside a sleeper of 50 ms, which has
    // to see it end.
    alone(|| {
        runtime(1).run(|| {
            let (listener, address) = listen();
            let std = listener.into_std();
            socket2::SockRef::from(&std)
                .set_read_timeout(Some(Duration::from_millis(10)))
                .unwrap();
            let listener = TcpListener::from(std);
            let client = coring::net::TcpSocket::new_v4().unwrap();
            proc::limit_files(proc::fds() + 10);
            let _held: Vec<_> = std::iter::from_fn(|| listener.try_clone().ok()).collect();
            let _client = client.connect(address).unwrap();
            let mut stream = listener.accept_stream();
            while stream.pauses() < 10 {
                assert_eq!(stream.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            }
            let ended = std::rc::Rc::new(std::cell::Cell::new(false));
            let sleeper = coro::spawn({
                let ended = ended.clone();
                move || {
                    coro::sleep(Duration::from_millis(50));
                    ended.get()
                }
            });
            assert_eq!(stream.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            ended.set(true);
            assert!(sleeper.join().unwrap(), "the call outlasted its time");
        });
    });
}

#[test]
fn a_cancelled_stream_closes_or_delivers() {
    // Goal: a connection that comes as its acceptor is cancelled is answered, or closed, or left for the next accept;
    // no client hangs, no descriptor is left.
    // Method: cancel after a varying moment; the client reads what becomes of it. If nobody has taken it the listener
    // still has it.
    alone(|| {
        let mut outcomes = [0; 3];
        conserved(rounds(3000, 30_000), |round| {
            let (listener, address) = listen();
            let clone = listener.try_clone().unwrap();
            let acceptor = coro::spawn(move || {
                let mut stream = clone.accept_stream();
                stagger(round / 4);
                stream
                    .accept()
                    .and_then(|mut stream| stream.write_all(b"x"))
            });
            stagger(round);
            let client = coro::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                let end = stream.read(&mut [0; 2]);
                match end {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                        0
                    }
                }
            });
            if round % 4 == 0 {
                until("it is served", || acceptor.is_finished());
            }
            for _ in 0..round % 23 {
                coro::yield_now();
            }
            acceptor.cancel();
            let served = acceptor.join().is_ok_and(|outcome| outcome.is_ok());
            if served {
                outcomes[0] += 1;
                assert_eq!(client.join().unwrap(), 1);
                return;
            }
            // In the backlog or closed: which, the end of the listener decides.
            let left = coro::timeout(Duration::from_micros(200), || listener.accept());
            outcomes[if matches!(left, Ok(Ok(_))) { 1 } else { 2 }] += 1;
            drop((left, listener));
            assert_eq!(client.join().unwrap(), 0);
        });
        assert!(
            outcomes[0] > 0 && outcomes[1] + outcomes[2] > 0,
            "{outcomes:?}"
        );
    });
}

#[test]
fn a_dropped_stream_holds_nothing() {
    // Goal: when a stream and its listener are gone, so is the socket: clients that were accepted and not taken see
    // the end, and the address can be bound again at once.
    // Method: the same address each round, with clients that nobody takes.
    alone(|| {
        // An address of its own: on the usual one some other client may be given the port between two rounds.
        let own = Ipv4Addr::from_bits(0x7f00_0000 | std::process::id() << 1 | 1);
        let mut address = SocketAddr::from((own, 0));
        conserved(rounds(2000, 20_000), |round| {
            let listener = TcpListener::bind(address).unwrap();
            address = listener.local_addr().unwrap();
            let mut stream = listener.accept_stream();
            let first = TcpStream::connect(address).unwrap();
            stream
                .accept()
                .unwrap()
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(first);
            let mut clients: Vec<_> = (0..round % 4)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            stagger(round / 4);
            drop(stream);
            drop(listener);
            for client in &mut clients {
                // Reset and not ended: nothing of ours stays behind in the address's TIME-WAIT.
                client.set_linger(Some(Duration::ZERO)).unwrap();
                match client.read(&mut [0; 1]) {
                    Ok(bytes) => assert_eq!(bytes, 0),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                }
            }
        });
    });
}

#[test]
fn other_errors_and_limits_are_the_callers() {
    // Goal: a listener that is shut down ends the stream with an error each time; a read timeout ends a call; a
    // non-blocking listener waits like any other.
    // Method: one after the other.
    check(|| {
        runtime(1).run(|| {
            let (listener, address) = listen();
            let std = listener.into_std();
            std.set_nonblocking(true).unwrap();
            let listener = TcpListener::from(std);
            let mut stream = listener.accept_stream();
            let client = coro::spawn(move || call(address, 7));
            assert_eq!(answer(stream.accept().unwrap()), 7);
            client.join().unwrap();
            drop(stream);

            let std = listener.into_std();
            socket2::SockRef::from(&std)
                .set_read_timeout(Some(Duration::from_millis(5)))
                .unwrap();
            std.set_nonblocking(false).unwrap();
            let listener = TcpListener::from(std);
            let mut stream = listener.accept_stream();
            for _ in 0..3 {
                assert_eq!(stream.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            }
            drop(stream);

            // Without the time limit: how long an error takes is not asked here.
            let std = listener.into_std();
            socket2::SockRef::from(&std).set_read_timeout(None).unwrap();
            let listener = TcpListener::from(std);
            let mut stream = listener.accept_stream();
            socket2::SockRef::from(&listener)
                .shutdown(std::net::Shutdown::Both)
                .unwrap();
            for _ in 0..3 {
                assert_eq!(stream.accept().unwrap_err().kind(), ErrorKind::InvalidInput);
            }
            assert_eq!(stream.pauses(), 0);
            drop(stream);
            until("nothing in flight", || in_flight() == 0);
        });
    });
}

#[test]
fn a_stream_that_is_forgotten_ends_with_its_core() {
    // Goal: an accept that nobody will ever end, because its stream was leaked, does not hold up the end of the runtime.
    // Method: forget one that waits, and one that nobody has asked for anything; a grace period that would be noticed.
    check(|| {
        let ended = builder(1)
            .shutdown_grace(Duration::from_secs(20))
            .build()
            .unwrap()
            .run_to_end(|| {
                let (listener, address) = listen();
                let mut stream = listener.accept_stream();
                let client = coro::spawn(move || call(address, 1));
                answer(stream.accept().unwrap());
                client.join().unwrap();
                let _leaked = std::mem::ManuallyDrop::new(stream);
                let _leaked = std::mem::ManuallyDrop::new(listener.accept_stream());
            });
        assert!(ended.outcome.is_ok());
        assert_eq!(ended.abandoned, [""; 0]);
    });
}

#[test]
fn a_listener_that_took_its_number_is_left_alone() {
    // Goal: an accept never reaches a listener that got the number of the one it was for.
    // Method: it is cancelled before the core has entered the kernel; then its stream is forgotten, its listener is
    // closed and another one opened, whose client must be its own.
    alone(|| {
        runtime(1).run(|| {
            let (listener, _) = listen();
            let number = listener.as_raw_fd();
            let accepting = coro::spawn(move || {
                let mut stream = listener.accept_stream();
                assert!(coring::io::is_cancelled(&stream.accept().unwrap_err()));
                let _leaked = std::mem::ManuallyDrop::new(stream);
                drop(listener);
                let next = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                assert_eq!(next.as_raw_fd(), number, "the number is used again");
                next
            });
            coro::spawn({
                let accepting = accepting;
                move || {
                    accepting.cancel();
                    let next = accepting.join().unwrap();
                    let address = next.local_addr().unwrap();
                    let client = std::net::TcpStream::connect(address).unwrap();
                    coro::sleep(Duration::from_millis(1));
                    next.set_nonblocking(true).unwrap();
                    let (_, from) = next.accept().unwrap();
                    assert_eq!(from, client.local_addr().unwrap());
                }
            })
            .join()
            .unwrap();
        });
    });
}
