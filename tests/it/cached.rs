//! Reads of files whose pages the kernel has in memory, or some of them.
#![expect(
    unsafe_code,
    reason = "asks the kernel which reads it answers at once; takes pages out of the cache"
)]

use coring::coro;
use coring::fs::File;
use coring_tests::random::pattern;
use coring_tests::{check, runtime, skip};
use std::cell::Cell;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

const BYTES: usize = 1 << 20;

/// A file with these bytes on disk.
fn file_of(bytes: &[u8]) -> fs::File {
    let file = tempfile::tempfile_in(".").unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
    file
}

/// Whether the file system answers reads at once or not at all.
fn tells_at_once(file: &fs::File) -> bool {
    let mut byte = 0_u8;
    let vector = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: the vector names one byte of this frame.
    unsafe { libc::preadv2(file.as_raw_fd(), &vector, 1, 0, libc::RWF_NOWAIT) == 1 }
}

/// Takes the file's clean pages out of the page cache.
fn forget_pages(file: &fs::File) {
    // SAFETY: plain integers.
    let outcome = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(outcome, 0);
}

fn completions() -> u64 {
    coring::stats().unwrap().ring.reaped
}

#[test]
fn what_is_in_memory_is_read_without_the_ring() {
    // Goal: reads that the page cache answers, the end of the file included, need no operation of the ring.
    // Method: its counter of completions does not move while a file that was just written is read whole.
    check(|| {
        let bytes = pattern(1, BYTES);
        let file = file_of(&bytes);
        if !tells_at_once(&file) {
            skip!("the file system has no RWF_NOWAIT");
        }
        runtime(1).run(|| {
            let file = File::from(file);
            let before = completions();
            let mut buffer = vec![0; 4096];
            for (offset, expected) in (0..).step_by(4096).zip(bytes.chunks(4096)) {
                assert_eq!(file.read_at(&mut buffer, offset).unwrap(), 4096);
                assert_eq!(buffer, expected);
            }
            let end = BYTES as u64;
            assert_eq!(file.read_at(&mut buffer, end - 10).unwrap(), 10);
            assert_eq!(file.read_at(&mut buffer, end).unwrap(), 0);
            assert_eq!(completions(), before);
        });
    });
}

#[test]
fn what_is_not_in_memory_is_read_on() {
    // Goal: a read that finds a part of its bytes in memory brings all of them all the same.
    // Method: some pages of a file are brought in, then reads of many lengths at many offsets are compared.
    check(|| {
        let bytes = pattern(2, BYTES);
        let file = file_of(&bytes);
        let other = file.try_clone().unwrap();
        runtime(1).run(|| {
            let file = File::from(file);
            let mut buffer = vec![0; 300_000];
            for round in 0..40 {
                forget_pages(&other);
                other.read_exact_at(&mut [0; 5000], round * 20_000).unwrap();
                for turn in 0..20 {
                    let offset = (round * 20_011 + turn * 977) % (BYTES as u64 - 1000);
                    let length =
                        1 + usize::try_from((round * 7919 + turn * 15_013) % 300_000).unwrap();
                    let read = file.read_at(&mut buffer[..length], offset).unwrap();
                    let begin = usize::try_from(offset).unwrap();
                    assert_eq!(read, length.min(BYTES - begin), "{length} at {offset}");
                    assert!(buffer[..read] == bytes[begin..begin + read]);
                }
            }
        });
    });
}

#[test]
fn who_reads_from_memory_gives_way() {
    // Goal: a coroutine whose reads never wait does not keep the core from the others.
    // Method: it reads until another one, which is ready, has run.
    check(|| {
        let file = file_of(&pattern(3, 4096));
        runtime(1).run(|| {
            let others_ran = Rc::new(Cell::new(false));
            let file = File::from(file);
            let reader = coro::spawn({
                let others_ran = Rc::clone(&others_ran);
                move || {
                    while !others_ran.get() {
                        assert_eq!(file.read_at(&mut [0; 64], 0).unwrap(), 64);
                    }
                }
            });
            let other = coro::spawn(move || others_ran.set(true));
            reader.join().unwrap();
            other.join().unwrap();
        });
    });
}

#[test]
fn a_cancelled_read_is_refused_also_from_memory() {
    // Goal: who is cancelled gets the error from a read that would not have waited.
    // Method: a coroutine is cancelled while it is shielded; then it reads.
    check(|| {
        let file = file_of(&pattern(4, 4096));
        runtime(1).run(|| {
            let file = File::from(file);
            let reader = coro::spawn(move || {
                coro::shield(coro::yield_now);
                file.read_at(&mut [0; 64], 0)
            });
            coro::yield_now();
            reader.cancel();
            let error = reader.join().unwrap().unwrap_err();
            assert!(coring::io::is_cancelled(&error));
        });
    });
}

#[test]
fn who_gives_way_and_is_cancelled_has_read() {
    // Goal: a read from memory that let others run first, one of which cancelled its coroutine, still says what it read;
    // the next one is refused, with an error.
    // Method: a coroutine that reads until it is refused is cancelled by one that runs only when it gives way.
    check(|| {
        let file = file_of(&pattern(5, 4096));
        runtime(1).run(|| {
            let file = File::from(file);
            let reader = coro::spawn(move || {
                loop {
                    if let Err(error) = file.read_at(&mut [0; 64], 0) {
                        return error;
                    }
                }
            });
            coro::yield_now();
            reader.cancel();
            let error = reader.join().expect("it is not unwound");
            assert!(coring::io::is_cancelled(&error));
        });
    });
}
