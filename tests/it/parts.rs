//! A call that is ended in the middle tells how much it has done, whoever ended it: what is told and what has arrived are
//! the same.

use coring::coro::{self, Elapsed};
use coring::fs::File;
use coring::net::{TcpStream, UnixStream};
use coring_tests::tcp::pair_of_ours;
use coring_tests::{check, runtime, until_fails};
use std::fs;
use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::time::Duration;

/// More than a socket holds.
const BYTES: usize = 32 << 20;
const LIMIT: Duration = Duration::from_millis(5);

/// How much arrives, until the end.
fn arrives(mut peer: impl Read) -> usize {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap()
}

/// Calls under a deadline, and a later one if nothing went before it; the peer reads nothing meanwhile.
fn late(mut call: impl FnMut() -> io::Result<usize>) -> usize {
    let mut limit = LIMIT;
    loop {
        match coro::timeout(limit, &mut call) {
            Ok(told) => return told.unwrap(),
            Err(Elapsed) => limit *= 2,
        }
    }
}

#[test]
fn a_write_that_is_late() {
    // Goal: a deadline, a cancellation or the socket's own limit in the middle of a write: the part is told.
    // Method: nobody reads until it is over; then all that there is.
    check(|| {
        runtime(1).run(|| {
            let big = vec![1; BYTES];
            let (mut ours, theirs) = pair_of_ours();
            let told = late(|| ours.write(&big));
            drop(ours);
            assert_eq!(arrives(theirs), told);

            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let told = late(|| ours.write(&big));
            drop(ours);
            assert_eq!(arrives(theirs), told);

            let (ours, theirs) = pair_of_ours();
            let writer = coro::spawn(move || (&ours).write(&vec![1; BYTES]).unwrap());
            coro::sleep(LIMIT);
            writer.cancel();
            assert_eq!(writer.join().unwrap(), arrives(theirs));
        });
    });
}

#[test]
fn a_file_that_is_late() {
    // Goal: the same for a file to a socket, and for the socket's own limit. What begins too late is refused, and says so.
    // Method: as above.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big");
        fs::write(&path, vec![1; BYTES]).unwrap();
        runtime(1).run(|| {
            let file = File::open(&path).unwrap();
            let send = |stream: &TcpStream| {
                let sent = stream.send_file(&file, 0, BYTES as u64)?;
                Ok(usize::try_from(sent).unwrap())
            };
            let (ours, theirs) = pair_of_ours();
            let told = late(|| send(&ours));
            drop(ours);
            assert_eq!(arrives(theirs), told);

            let (ours, theirs) = pair_of_ours();
            ours.set_write_timeout(Some(LIMIT)).unwrap();
            let mut told = 0;
            // On a busy machine the time is over before the socket is full.
            until_fails(ErrorKind::WouldBlock, || {
                send(&ours).map(|more| told += more)
            });
            drop(ours);
            assert_eq!(arrives(theirs), told);

            let (ours, _theirs) = pair_of_ours();
            let refused = coro::timeout(Duration::ZERO, || send(&ours));
            assert_eq!(refused.map(drop), Err(Elapsed));
        });
    });
}

#[test]
fn nothing_is_asked_for() {
    // Goal: a vectored read into nothing returns at once, as readv(2) does, whether something is there or not.
    // Method: no buffers, and empty ones.
    check(|| {
        runtime(1).run(|| {
            let (mut ours, mut theirs) = pair_of_ours();
            assert_eq!(ours.read_vectored(&mut []).unwrap(), 0);
            let mut empty = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
            assert_eq!(ours.read_vectored(&mut empty).unwrap(), 0);
            theirs.write_all(b"x").unwrap();
            assert_eq!(ours.read_vectored(&mut empty).unwrap(), 0);
            assert_eq!(ours.read(&mut [0]).unwrap(), 1);
        });
    });
}

#[test]
fn who_unparks_itself_lets_others_run() {
    // Goal: a loop that gives itself the permit each time is ended by its deadline.
    // Method: the shortest such loop.
    check(|| {
        runtime(1).run(|| {
            let ended = coro::timeout(LIMIT, || {
                loop {
                    coro::current().unpark();
                    coro::park();
                }
            });
            assert_eq!(ended, Err::<(), _>(Elapsed));
        });
    });
}
