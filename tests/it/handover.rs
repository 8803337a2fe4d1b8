//! Connections move: between cores through a mailbox, between processes through a Unix socket.

use coring::coro;
use coring::net::{TcpStream, UnixStream};
use coring_tests::command::example;
use coring_tests::tcp::{connect, echo, finish, listen, round_trip};
use coring_tests::{alone, check, proc, rounds, runtime, skip};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

#[test]
fn accepted_here_and_served_there() {
    // Goal: many connections, accepted on core 0, are each served whole by the core they were sent to, also when bytes
    // had come before; nothing is left open afterwards.
    // Method: clients are std's sockets in threads that write before they are accepted; mailboxes with little room.
    alone(|| {
        let before = proc::fds();
        let connections = rounds(300, 3000);
        let served = runtime(3).run(|| {
            let (listener, address) = listen();
            let clients = thread::spawn(move || {
                for batch in 0..connections / 50 {
                    let streams: Vec<_> = (0..50).map(|_| connect(address)).collect();
                    for (number, stream) in streams.iter().enumerate() {
                        round_trip(stream, batch * 50 + number, 1 + number * 97);
                    }
                    streams.iter().for_each(finish);
                }
            });
            let servers: Vec<_> = [1, 2]
                .map(|core| {
                    let (sender, mut receiver) = coring::mailbox::<TcpStream>(4);
                    let server = coring::spawn_on(core, move || {
                        let echoing: Vec<_> = receiver
                            .iter()
                            .map(|stream| {
                                coro::spawn(move || {
                                    assert_eq!(coring::current_core(), Some(core));
                                    echo(&stream).expect("the client is there")
                                })
                            })
                            .collect();
                        let served = echoing.len();
                        for one in echoing {
                            one.join().expect("no panic");
                        }
                        served
                    });
                    (sender, server)
                })
                .into();
            for number in 0..connections {
                let (stream, _) = listener.accept().expect("accept");
                servers[number % 2].0.send(stream).expect("it receives");
            }
            let served = servers.into_iter().map(|(sender, server)| {
                drop(sender);
                server.join().expect("no panic")
            });
            let served: Vec<_> = served.collect();
            clients.join().expect("no panic");
            served
        });
        assert_eq!(served, [connections / 2; 2]);
        assert_eq!(proc::fds(), before);
    });
}

#[test]
fn a_connection_goes_around() {
    // Goal: a connection may move as often as it likes: bytes stay in order, and the core that has it is the one that
    // reads.
    // Method: after every few bytes it is sent on, around three cores, while the client writes without a pause.
    check(|| {
        let moves = rounds(300, 10_000);
        runtime(3).run(|| {
            let (listener, address) = listen();
            let client = thread::spawn(move || {
                let stream = connect(address);
                let message = coring_tests::random::pattern(7, moves * 5);
                thread::scope(|scope| {
                    scope.spawn(|| (&stream).write_all(&message).expect("send"));
                    let mut back = vec![0; message.len()];
                    (&stream).read_exact(&mut back).expect("the echo");
                    assert!(back == message);
                });
            });
            let (mut stream, _) = listener.accept().expect("accept");
            for number in 0..moves {
                stream = coring::call(number % 3, move || {
                    let mut bytes = [0; 5];
                    stream.read_exact(&mut bytes).expect("the client writes");
                    stream.write_all(&bytes).expect("the client reads");
                    stream
                })
                .expect("the core runs");
            }
            drop(stream);
            client.join().expect("no panic");
        });
    });
}

#[test]
fn descriptors_travel_through_unix_sockets() {
    // Goal: accepted connections that are sent as descriptors to another core are served there; the sender's own
    // copies are closed meanwhile.
    // Method: a pair of Unix sockets, one end on each core; clients are std's.
    check(|| {
        let connections = 100;
        runtime(2).run(|| {
            let (listener, address) = listen();
            let clients = thread::spawn(move || {
                for number in 0..connections {
                    let stream = connect(address);
                    round_trip(&stream, number, 1000);
                    finish(&stream);
                }
            });
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let server = coring::spawn_on(1, move || {
                let mut served = 0;
                loop {
                    let received = theirs.recv_with_fds(&mut [0]).expect("the sender is there");
                    if received.bytes == 0 {
                        return served;
                    }
                    for descriptor in received.descriptors {
                        echo(&TcpStream::from(descriptor)).expect("the client is there");
                        served += 1;
                    }
                }
            });
            for _ in 0..connections {
                let (stream, _) = listener.accept().expect("accept");
                let sent = ours.send_with_fds(b"c", &[stream.as_fd()]);
                assert_eq!(sent.expect("it receives"), 1);
            }
            drop(ours);
            assert_eq!(server.join().expect("no panic"), connections);
            clients.join().expect("no panic");
        });
    });
}

/// The example, running; what it says first.
struct Running(Child, String);

impl Running {
    fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it says that it is ready");
        Self(child, line)
    }

    fn address(&self) -> SocketAddr {
        let address = self.1.strip_prefix("listening on ").expect("it listens");
        address.trim_end().parse().expect("an address")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connects often; how many connections each core of each process has greeted.
fn greeted(address: SocketAddr, connections: usize) -> HashMap<String, usize> {
    let mut greeted = HashMap::new();
    for number in 0..connections {
        let mut stream = BufReader::new(connect(address));
        let mut greeting = String::new();
        stream.read_line(&mut greeting).expect("the greeting");
        assert!(stream.buffer().is_empty(), "nothing more before we write");
        round_trip(stream.get_ref(), number, 300);
        *greeted.entry(greeting.trim_end().to_owned()).or_default() += 1;
    }
    greeted
}

#[test]
fn the_example() {
    // Goal: the example hands connections over to its other cores in turn, and to another process.
    // Method: its greetings are counted, for one process, and for one that accepts beside one that serves.
    check(|| {
        let Some(program) = example("handover") else {
            skip!("the handover example is not built: run `cargo test` at the root");
        };
        let alone = Running::start(&program, &["--port", "0", "--cores", "3"]);
        let counts = greeted(alone.address(), 40);
        let pid = alone.0.id();
        let expected = [1, 2].map(|core| (format!("core {core} of process {pid}"), 20));
        assert_eq!(counts, HashMap::from(expected));
        drop(alone);

        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let socket = socket.to_str().expect("a path of ours");
        let serving = Running::start(&program, &["--from", socket, "--cores", "3"]);
        let pid = serving.0.id();
        // The second process takes the place of the first; who serves goes on.
        for _ in 0..2 {
            let accepting =
                Running::start(&program, &["--port", "0", "--to", socket, "--cores", "1"]);
            let counts = greeted(accepting.address(), 40);
            let expected = [1, 2].map(|core| (format!("core {core} of process {pid}"), 20));
            assert_eq!(counts, HashMap::from(expected));
        }
    });
}
