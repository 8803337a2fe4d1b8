//! Connecting to one of several addresses: in order, without waiting for the silent, and without a trace of the losers.

use coring::coro;
use coring::io::is_cancelled;
use coring::net::{TcpListener, TcpStream};
use coring_tests::conserve::conserved;
use coring_tests::tcp::{Silent, listen, refusing};
use coring_tests::{alone, check, in_flight, proc, rounds, runtime, until};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Whether somebody waits to be accepted.
fn is_called(listener: &TcpListener) -> bool {
    matches!(
        coro::timeout(Duration::from_millis(5), || listener.accept()),
        Ok(Ok(_))
    )
}

#[test]
fn the_order_is_kept() {
    // Goal: the first address that answers is connected to; one after it is not even tried, one before it that refuses
    // costs no waiting.
    // Method: every order of live and refusing addresses; with a wait for each refusal the rounds would take minutes.
    check(|| {
        runtime(1).run(|| {
            let ((one, first), (two, second)) = (listen(), listen());
            for _ in 0..rounds(500, 3000) {
                let stream = TcpStream::connect(&[first, second][..]).unwrap();
                assert_eq!(stream.peer_addr().unwrap(), first);
                let stream =
                    TcpStream::connect(&[refusing(), refusing(), second, first][..]).unwrap();
                assert_eq!(stream.peer_addr().unwrap(), second);
                drop((one.accept().unwrap(), two.accept().unwrap()));
            }
            assert!(!is_called(&one) && !is_called(&two));
            let none: &[SocketAddr] = &[];
            assert_eq!(
                TcpStream::connect(none).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
            let refused = TcpStream::connect(&[refusing(), refusing()][..]).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        });
    });
}

#[test]
fn a_silent_address_holds_up_nobody() {
    // Goal: behind addresses that do not answer, one that does is found long before the kernel gives up (two minutes,
    // and the watchdog does not wait for one); descriptors and operations of the losers are gone when the call returns.
    // Method: one or two silent addresses first, 100 callers at once.
    alone(|| {
        runtime(1).run(|| {
            let silent = Silent::new();
            let (listener, live) = listen();
            let fds = proc::fds();
            for silents in [1, 2] {
                let callers: Vec<_> = (0..100)
                    .map(|_| {
                        let mut addresses = vec![silent.address(); silents];
                        addresses.push(live);
                        coro::spawn(move || {
                            let mut stream = TcpStream::connect(&addresses[..]).unwrap();
                            assert_eq!(stream.peer_addr().unwrap(), live);
                            let mut byte = [0];
                            stream.read_exact(&mut byte).unwrap();
                            assert_eq!(byte, *b"x");
                        })
                    })
                    .collect();
                for _ in 0..100 {
                    listener.accept().unwrap().0.write_all(b"x").unwrap();
                }
                callers
                    .into_iter()
                    .for_each(|caller| caller.join().unwrap());
                assert_eq!((proc::fds(), in_flight()), (fds, 0));
            }
        });
    });
}

#[test]
fn a_cancelled_connect_ends_all_attempts() {
    // Goal: whenever it is cancelled, or its deadline passes, all attempts are ended before it returns.
    // Method: silent, refusing and live addresses; a varying moment. With 250 ms between two attempts there are
    // seldom three under way, so some of the rounds have a deadline behind that.
    alone(|| {
        let mut outcomes = [0; 2];
        conserved(rounds(2000, 20_000), |round| {
            let silent = Silent::new();
            let (listener, live) = listen();
            let addresses = match round % 3 {
                0 => vec![silent.address(), live],
                1 => vec![refusing(), silent.address(), live],
                _ => vec![refusing(), live],
            };
            let caller = coro::spawn(move || {
                if round % 100 == 0 {
                    let dead = [silent.address(), silent.address(), silent.address()];
                    let outcome =
                        coro::timeout(Duration::from_millis(300), || TcpStream::connect(&dead[..]));
                    assert!(!matches!(outcome, Ok(Ok(_))), "nobody answers");
                }
                let outcome = TcpStream::connect(&addresses[..]);
                drop(silent);
                outcome
            });
            for _ in 0..round % 13 {
                coro::yield_now();
            }
            if round % 100 != 0 {
                caller.cancel();
            }
            match caller.join() {
                Ok(Ok(stream)) => {
                    assert_eq!(stream.peer_addr().unwrap(), live);
                    outcomes[0] += 1;
                }
                Ok(Err(error)) => {
                    assert!(is_cancelled(&error), "{error}");
                    outcomes[1] += 1;
                }
                Err(_) => {}
            }
            drop(listener);
            until("nothing in flight", || in_flight() == 0);
        });
        assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
    });
}
