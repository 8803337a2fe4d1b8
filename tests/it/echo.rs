//! Echo: every byte of thousands of connections comes back, and nothing stays behind.

use coring::coro;
use coring::net::TcpStream;
use coring_tests::random::Random;
use coring_tests::tcp::{connect, finish, listen, round_trip, round_trip_of_ours, serve};
use coring_tests::{alone, check, in_flight, proc, rounds, runtime, until};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Message sizes at and around every boundary that matters: a page, a socket buffer, the server's buffer.
const SIZES: [usize; 15] = [
    1,
    2,
    63,
    64,
    65,
    4095,
    4096,
    4097,
    32 * 1024 - 1,
    32 * 1024,
    32 * 1024 + 1,
    65_536,
    300_001,
    (1 << 20) - 1,
    1 << 20,
];

#[test]
fn every_size_comes_back_to_threads() {
    // Goal: messages of 1 B to 1 MiB come back unchanged, one after the other on the same connection.
    // Method: std clients on threads, one connection each; the server counts what it echoed.
    check(|| {
        let clients = 4;
        let (send, addresses) = mpsc::channel();
        let threads = thread::spawn(move || {
            let address = addresses.recv().unwrap();
            thread::scope(|scope| {
                for client in 0..clients {
                    scope.spawn(move || {
                        let stream = connect(address);
                        for (index, size) in SIZES.into_iter().enumerate() {
                            round_trip(&stream, client * 100 + index, size);
                        }
                        finish(&stream);
                    });
                }
            });
        });
        let echoed = runtime(1).run(|| {
            let (listener, address) = listen();
            send.send(address).unwrap();
            serve(&listener, clients)
        });
        threads.join().unwrap();
        let sent = SIZES.iter().sum::<usize>() * clients;
        assert_eq!(echoed, sent as u64, "the server has seen every byte once");
    });
}

#[test]
fn thousands_of_connections_from_threads() {
    // Goal: 2,000 connections that are open at once each get their own bytes back; no descriptor and little memory
    // is left, while the server still runs and after it.
    // Method: four threads hold 500 connections each and send on all of them, several rounds. Then everything again
    // in the same runtime: what the second time leaves behind is a leak.
    alone(|| {
        let (threads, each) = (4, 500);
        let (before, start) = (proc::fds(), proc::rss_kib());
        let (send, addresses) = mpsc::channel();
        let (done, closed) = mpsc::channel();
        let clients = thread::spawn(move || {
            while let Ok(address) = addresses.recv() {
                thread::scope(|scope| {
                    for client in 0..threads {
                        scope.spawn(move || hold_many(address, client, each));
                    }
                });
                done.send(()).unwrap();
            }
        });
        runtime(2).run(|| {
            let (listener, address) = listen();
            let mut after = Vec::new();
            for _ in 0..4 {
                send.send(address).unwrap();
                serve(&listener, threads * each);
                until("the clients have closed", || closed.try_recv().is_ok());
                // Idle moments, in which the core gives stacks back.
                (0..200).for_each(|_| coro::sleep(Duration::from_millis(1)));
                after.push((proc::fds(), proc::rss_kib()));
            }
            drop(send);
            assert_eq!(in_flight(), 0, "nothing is in flight any more");
            println!("descriptors and KiB after each round: {after:?}");
            let (first, last) = (after[0], after[2]);
            assert_eq!(first.0, last.0, "descriptors stay the same: {after:?}");
            assert!(last.1 < first.1 + 4096, "memory stays the same: {after:?}");
            // 2,000 stacks that were used for 32 KiB and more, each.
            assert!(
                last.1 < start + 16 * 1024,
                "memory is given back: {start}, {after:?}"
            );
        });
        clients.join().unwrap();
        assert_eq!(proc::fds(), before, "every descriptor is closed");
    });
}

fn hold_many(address: std::net::SocketAddr, client: usize, connections: usize) {
    let streams: Vec<_> = (0..connections).map(|_| connect(address)).collect();
    for round in 0..3 {
        for (index, stream) in streams.iter().enumerate() {
            round_trip(
                stream,
                client * 100_000 + round * 10_000 + index,
                1 + index * 7 % 3000,
            );
        }
    }
    streams.iter().for_each(finish);
}

#[test]
fn coroutine_clients_on_the_same_core() {
    // Goal: client and server coroutines on one core, 1,000 connections at once, random sizes up to 64 KiB.
    // Method: each client checks its own bytes; the sums of both sides are compared.
    alone(|| {
        let connections = 1000;
        let mut random = Random::new();
        runtime(1).run(|| {
            let (listener, address) = listen();
            let server = coro::spawn(move || serve(&listener, connections));
            let clients: Vec<_> = (0..connections)
                .map(|client| {
                    let mut random = random.fork();
                    coro::spawn(move || {
                        let stream = TcpStream::connect(address).unwrap();
                        let mut sent = 0;
                        for round in 0..3 {
                            let exponent = random.below(17);
                            let length = 1 + random.below(1 << exponent);
                            round_trip_of_ours(&stream, client * 10 + round, length);
                            sent += length as u64;
                        }
                        sent
                    })
                })
                .collect();
            let sent: u64 = clients
                .into_iter()
                .map(|client| client.join().unwrap())
                .sum();
            assert_eq!(server.join().unwrap(), sent, "every byte once");
        });
    });
}

#[test]
fn coroutine_clients_on_another_core() {
    // Goal: a server on each core behind one address (`SO_REUSEPORT`), clients on both cores.
    // Method: 200 clients a core, several messages each. Servers run until main ends, which cancels them.
    check(|| {
        let (clients, messages) = (200, rounds(5, 50));
        runtime(2).run(|| {
            let first = coring::net::TcpListener::bind_reuse_port("127.0.0.1:0").unwrap();
            let address = first.local_addr().unwrap();
            let servers = coring::spawn_on_each(move |_core| {
                let listener = coring::net::TcpListener::bind_reuse_port(address).unwrap();
                coro::spawn(move || {
                    while let Ok((stream, _)) = listener.accept() {
                        coro::spawn(move || coring_tests::tcp::echo(&stream));
                    }
                });
            });
            servers
                .into_iter()
                .for_each(|server| server.join().unwrap());
            drop(first);
            let cores = coring::spawn_on_each(move |core| {
                let clients: Vec<_> = (0..clients)
                    .map(|client| {
                        coro::spawn(move || {
                            let stream = TcpStream::connect(address).unwrap();
                            for message in 0..messages {
                                let seed = core * 1_000_000 + client * 1000 + message;
                                round_trip_of_ours(&stream, seed, 1 + client * 31);
                            }
                        })
                    })
                    .collect();
                let count = clients.len();
                clients
                    .into_iter()
                    .for_each(|client| client.join().unwrap());
                count
            });
            let done: usize = cores.into_iter().map(|core| core.join().unwrap()).sum();
            assert_eq!(done, 2 * clients);
        });
    });
}
