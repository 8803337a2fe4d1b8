//! Several coroutines at one socket for datagrams: those that come away empty hold up nobody.

use coring::net::{UdpSocket, UnixDatagram};
use coring::{coro, io::is_cancelled};
use coring_tests::{builder, check, until};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// One worker of the kernel for all that may wait for ever: a second one of them shows.
fn with_one_worker(main: impl FnOnce() + 'static) {
    check(|| {
        let runtime = builder(1).io_workers(4, 1).build().unwrap();
        runtime.run(main);
    });
}

/// Receives with several coroutines until they are cancelled; they count.
fn receive_all(socket: UdpSocket, most: usize) -> (Rc<Cell<usize>>, Vec<coro::JoinHandle<()>>) {
    let (socket, count) = (Rc::new(socket), Rc::new(Cell::new(0)));
    let receivers = (0..4).map(|_| {
        let (socket, count) = (Rc::clone(&socket), Rc::clone(&count));
        coro::spawn(move || {
            while let Ok(bytes) = socket.recv(&mut [0; 8]) {
                assert_eq!(bytes, 4);
                count.set(count.get() + 1);
                if count.get() >= most {
                    break;
                }
            }
        })
    });
    let receivers = receivers.collect();
    (count, receivers)
}

#[test]
fn receivers_of_one_socket_hold_up_nobody() {
    // Goal: of several coroutines that receive with one socket any gets what comes, however often others were faster, and
    // whatever others do who share another socket.
    // Method: two sockets; on each 300 datagrams, one by one. From then on each receiver of the second takes one and ends.
    with_one_worker(|| {
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let addresses = [0, 1].map(|one: usize| sockets[one].local_addr().unwrap());
        let [first, second] = sockets;
        let (first, second) = (receive_all(first, usize::MAX), receive_all(second, 300));
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for ((count, _), to) in [&first, &second].into_iter().zip(addresses) {
            for number in 0..303_u32 {
                sender.send_to(&number.to_le_bytes(), to).unwrap();
                until("somebody received it", || count.get() > number as usize);
            }
        }
        let (receivers, ended) = (first.1, second.1);
        receivers.iter().for_each(coro::JoinHandle::cancel);
        for receiver in receivers.into_iter().chain(ended) {
            receiver.join().unwrap();
        }
    });
}

/// Sends for ever, until cancelled.
fn send_all(send: impl Fn() -> io::Result<usize> + 'static) -> coro::JoinHandle<()> {
    coro::spawn(move || {
        let error = loop {
            match send() {
                Ok(bytes) => assert_eq!(bytes, 4),
                Err(error) => break error,
            }
        };
        assert!(is_cancelled(&error), "{error}");
    })
}

#[test]
fn senders_to_a_full_queue_hold_up_nobody() {
    // Goal: those who send to a Unix socket that nobody receives from wait, and hold up none who sends to another one whose
    // queue is full now and then; nor does it matter whether they are connected to it.
    // Method: four senders of each kind to the first; a hundred datagrams to the second, received late.
    with_one_worker(|| {
        let scratch = tempfile::tempdir().unwrap();
        let (silent, busy) = (scratch.path().join("silent"), scratch.path().join("busy"));
        let never = UnixDatagram::bind(&silent).unwrap();
        let alive = UnixDatagram::bind(&busy).unwrap();
        let mut stuck = Vec::new();
        for _ in 0..4 {
            let (socket, path) = (UnixDatagram::unbound().unwrap(), silent.clone());
            stuck.push(send_all(move || socket.send_to(b"word", &path)));
            let socket = UnixDatagram::unbound().unwrap();
            socket.connect(&silent).unwrap();
            stuck.push(send_all(move || socket.send(b"word")));
        }
        // Each of these wakes them all, and one is faster.
        for _ in 0..300 {
            assert_eq!(never.recv(&mut [0; 8]).unwrap(), 4);
        }
        let sending = coro::spawn(move || {
            let socket = UnixDatagram::unbound().unwrap();
            for number in 0..100_u32 {
                assert_eq!(socket.send_to(&number.to_le_bytes(), &busy).unwrap(), 4);
            }
        });
        coro::sleep(Duration::from_millis(20));
        let mut buffer = [0; 4];
        for number in 0..100_u32 {
            assert_eq!(alive.recv(&mut buffer).unwrap(), 4);
            assert_eq!(buffer, number.to_le_bytes());
        }
        sending.join().unwrap();
        stuck.iter().for_each(coro::JoinHandle::cancel);
        for stuck in stuck {
            stuck.join().unwrap();
        }
    });
}

#[test]
fn a_full_queue_is_waited_for_until_the_limit() {
    // Goal: the write timeout and the non-blocking mode count for a receiver's full queue as they do with std: `WouldBlock`.
    // Method: a queue that is filled up.
    with_one_worker(|| {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("silent");
        let _never = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        let error = loop {
            if let Err(error) = socket.send_to(b"word", &path) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        socket.set_nonblocking(false).unwrap();
        let time = Duration::from_millis(30);
        socket.set_write_timeout(Some(time)).unwrap();
        let begun = std::time::Instant::now();
        let error = socket.send_to(b"word", &path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(begun.elapsed() >= time, "{:?}", begun.elapsed());
    });
}
