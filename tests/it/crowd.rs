//! More receives at once than a core begins in one turn: each ends as it would alone.

use coring::coro::sync::Event;
use coring::coro::{self, JoinError};
use coring::io::is_cancelled;
use coring::net::{Shutdown, UnixStream};
use coring_tests::conserve::stagger;
use coring_tests::{alone, builder, in_flight, proc, rounds, until};
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// More than twice what a turn begins.
const CROWD: usize = 300;

#[test]
fn each_of_a_crowd_of_receives_ends_as_it_would_alone() {
    // Goal: a byte that was there, one that comes, the peer's end, a shutdown of this half, a timeout and a cancel each end a receive
    // as they should, though most receives have to wait for their turn, and nothing is left.
    // Method: 300 at once, one of these for each, some of it before the last have begun.
    alone(|| {
        // However slow the machine is, all of them run in one turn.
        let runtime = builder(1).time_slice(Duration::from_secs(1)).build();
        runtime.expect("io_uring is allowed").run(|| {
            crowd(0);
            until("nothing in flight", || in_flight() == 0);
            let fds = proc::fds();
            (1..rounds(30, 1000)).for_each(crowd);
            until("nothing in flight", || in_flight() == 0);
            assert_eq!(proc::fds(), fds, "descriptors before and after");
        });
    });
}

fn crowd(round: usize) {
    let mut pairs = Vec::new();
    for number in 0..CROWD {
        let (here, mut there) = UnixStream::pair().unwrap();
        if number % 6 == 0 {
            there.write_all(&[1]).unwrap();
        }
        if number % 6 == 4 {
            here.set_read_timeout(Some(Duration::from_micros(200)))
                .unwrap();
        }
        pairs.push((Arc::new(here), there));
    }
    let mut readers = Vec::new();
    let begin = Rc::new(Event::new());
    for (here, _) in &pairs {
        let (here, begin) = (Arc::clone(here), Rc::clone(&begin));
        readers.push(coro::spawn(move || {
            begin.wait();
            let mut byte = [0];
            (&*here).read(&mut byte).map(|bytes| (bytes, byte[0]))
        }));
    }
    coro::yield_now();
    begin.set();
    stagger(round);
    let mut peers = Vec::new();
    for (number, (here, mut there)) in pairs.into_iter().enumerate() {
        match number % 6 {
            1 => there.write_all(&[2]).unwrap(),
            2 => {
                drop(there);
                continue;
            }
            3 => here.shutdown(Shutdown::Read).unwrap(),
            5 => readers[number].cancel(),
            _ => {}
        }
        peers.push(there);
    }
    for (number, reader) in readers.into_iter().enumerate() {
        let outcome = reader.join();
        match (number % 6, outcome) {
            (0, Ok(Ok((1, 1)))) | (1, Ok(Ok((1, 2)))) | (2 | 3, Ok(Ok((0, 0)))) => {}
            (4, Ok(Err(error))) if error.kind() == ErrorKind::WouldBlock => {}
            // Before it began, or while it waited.
            (5, Err(JoinError::Cancelled)) => {}
            (5, Ok(Err(error))) if is_cancelled(&error) => {}
            (kind, outcome) => panic!("{kind} ended as {outcome:?}"),
        }
    }
}
