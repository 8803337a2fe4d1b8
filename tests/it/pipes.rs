//! Several coroutines at one pipe: those that come away empty hold up nobody.

use coring::{coro, io};
use coring_tests::{builder, check, until};
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::rc::Rc;

/// Reads, and writes, that several coroutines have done until one fails, or so many were done.
fn several(
    most: usize,
    transfer: impl Fn() -> std::io::Result<usize> + 'static,
) -> (Rc<Cell<usize>>, Vec<coro::JoinHandle<()>>) {
    let (count, transfer) = (Rc::new(Cell::new(0)), Rc::new(transfer));
    let each = || {
        let (count, transfer) = (Rc::clone(&count), Rc::clone(&transfer));
        coro::spawn(move || {
            while let Ok(bytes) = transfer() {
                assert!(bytes > 0);
                count.set(count.get() + 1);
                if count.get() >= most {
                    break;
                }
            }
        })
    };
    let all = (0..4).map(|_| each()).collect();
    (count, all)
}

fn end(coroutines: Vec<coro::JoinHandle<()>>) {
    coroutines.iter().for_each(coro::JoinHandle::cancel);
    for coroutine in coroutines {
        coroutine.join().unwrap();
    }
}

/// With one worker of the kernel for all that may wait for ever a second one of them shows.
fn with_one_worker(main: impl FnOnce() + 'static) {
    check(|| {
        let runtime = builder(1).io_workers(4, 1).build().unwrap();
        runtime.run(main);
    });
}

#[test]
fn readers_of_one_pipe_hold_up_nobody() {
    // Goal: of several coroutines that read one pipe any gets what comes, however often others were faster, and whatever
    // others do who share another pipe.
    // Method: two pipes; to each 300 bytes, one by one. From then on each reader of the second takes one and ends.
    with_one_worker(|| {
        let pipes = [usize::MAX, 300].map(|most| {
            let (reader, writer) = io::pipe().unwrap();
            let (count, readers) = several(most, move || (&reader).read(&mut [0]));
            (count, readers, writer)
        });
        for (count, _, writer) in &pipes {
            for number in 0..303 {
                (&mut &*writer).write_all(b"x").unwrap();
                until("somebody read it", || count.get() > number);
            }
        }
        pipes.into_iter().for_each(|(_, readers, _)| end(readers));
    });
}

#[test]
fn writers_to_one_pipe_hold_up_nobody() {
    // Goal: as above, for those who write to a pipe that is full.
    // Method: as above, with room made for one write at a time.
    const PAGE: usize = 4096;
    with_one_worker(|| {
        let pipes = [usize::MAX, 300].map(|most| {
            let (reader, writer) = io::pipe().unwrap();
            let (count, writers) = several(most, move || (&writer).write(&[7; PAGE]));
            (count, writers, reader)
        });
        for (count, _, reader) in &pipes {
            coro::yield_now();
            until("it is full", || count.get() == 16);
            for number in 16..303 {
                (&mut &*reader).read_exact(&mut [0; PAGE]).unwrap();
                until("somebody wrote", || count.get() > number);
            }
        }
        pipes.into_iter().for_each(|(_, writers, _)| end(writers));
    });
}

#[test]
fn readers_and_writers_of_one_fifo() {
    // Goal: several may share also a pipe with a name, of which the kernel does not know how to try.
    // Method: four read a byte each before one is there, four write more than there is room for before one reads.
    const MUCH: usize = 40_000;
    check(|| {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("fifo");
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        // For both, so that nobody waits for the other side.
        let fifo = std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let other: OwnedFd = fifo.try_clone().unwrap().into();
        let (reader, writer) = (
            io::PipeReader::from(OwnedFd::from(fifo)),
            io::PipeWriter::from(other),
        );
        builder(1).build().unwrap().run(move || {
            coro::scope(|scope| {
                let readers: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| (&reader).read_exact(&mut [0])))
                    .collect();
                coro::yield_now();
                (&writer).write_all(b"four").unwrap();
                readers
                    .into_iter()
                    .for_each(|it| it.join().unwrap().unwrap());
                let writers: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| (&writer).write_all(&[7; MUCH])))
                    .collect();
                coro::yield_now();
                (&reader).read_exact(&mut vec![0; 4 * MUCH]).unwrap();
                writers
                    .into_iter()
                    .for_each(|it| it.join().unwrap().unwrap());
            });
        });
    });
}
