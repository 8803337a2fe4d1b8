//! Files in unusual memory: registered buffers, and files mapped as memory.
#![expect(
    unsafe_code,
    reason = "takes pages away behind the back of a buffer; maps files; asks for a thread's page faults"
)]

use coring::fs::{Advice, File, FixedBuf, Mmap, OpenOptions};
use coring::{Builder, coro};
use coring_tests::lane::{Lane, in_every_lane, is_allowed};
use coring_tests::random::pattern;
use coring_tests::{builder, check, runtime, skip, until, until_outside};
use std::fs;
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::FileExt;

/// A file without a name, with these bytes.
fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    File::from(file)
}

#[test]
fn bytes_come_and_go() {
    // Goal: whole buffers and parts of them are read and written, at offsets and at the position, alone and by many at
    // once, with the feature and without it; no byte beside the part is touched.
    // Method: in every lane, against a pattern; 16 coroutines with a buffer each copy a file in pieces.
    check(|| {
        in_every_lane(|lane: &Lane| {
            let bytes = pattern(3, 300_000);
            let copied = lane.runtime().run(|| {
                let (from, to) = (file_of(&bytes), file_of(b""));
                let mut buffer = FixedBuf::take().unwrap();
                buffer.fill(0xee);
                from.read_exact_at(&mut buffer[100..200], 1000).unwrap();
                assert_eq!(buffer[100..200], bytes[1000..1100], "{}", lane.name());
                assert!(
                    buffer[..100]
                        .iter()
                        .chain(&buffer[200..])
                        .all(|&byte| byte == 0xee)
                );
                assert_eq!((&from).read(&mut buffer[..10]).unwrap(), 10);
                assert_eq!((&from).read(&mut buffer[..10]).unwrap(), 10);
                assert_eq!(buffer[..10], bytes[10..20], "the position has moved");
                assert_eq!(from.read_at(&mut buffer, 299_990).unwrap(), 10);
                assert_eq!(from.read_at(&mut buffer, 300_000).unwrap(), 0);
                assert_eq!(from.read_at(&mut buffer[5..5], 0).unwrap(), 0);
                let end = buffer.len();
                assert_eq!(from.read_at(&mut buffer[end..], 0).unwrap(), 0);
                drop(buffer);
                coro::scope(|scope| {
                    for first in 0..16 {
                        let (from, to) = (&from, &to);
                        scope.spawn(move || {
                            let mut buffer = FixedBuf::take().unwrap();
                            for offset in (first * 5000..300_000).step_by(16 * 5000) {
                                from.read_exact_at(&mut buffer[7..5007], offset).unwrap();
                                to.write_all_at(&buffer[7..5007], offset).unwrap();
                            }
                        });
                    }
                });
                let mut copied = Vec::new();
                (&to).read_to_end(&mut copied).unwrap();
                copied
            });
            assert!(copied == bytes, "{}", lane.name());
        });
    });
}

#[test]
fn the_kernel_uses_what_it_has_pinned() {
    // Goal: a read into a registered buffer is a fixed one, not a plain one that happens to work.
    // Method: the pages behind the buffer are taken away. A fixed read goes to the pages that were pinned at the start,
    // which nobody sees any more; with the feature off it goes to the fresh ones.
    check(|| {
        use coring::uring::{Feature, Features};
        let sees = |builder: Builder| {
            // One buffer of a page, which any limit on locked memory allows.
            builder.fixed_buffers(1, 4096).build().unwrap().run(|| {
                let file = file_of(&[7; 4096]);
                let mut buffer = FixedBuf::take().unwrap();
                // SAFETY: anonymous memory that stays mapped; it reads as zeroes afterwards.
                let outcome =
                    unsafe { libc::madvise(buffer.as_mut_ptr().cast(), 4096, libc::MADV_DONTNEED) };
                assert_eq!(outcome, 0);
                assert_eq!(file.read_at(&mut buffer[..4096], 0).unwrap(), 4096);
                (buffer.is_registered(), buffer[0])
            })
        };
        if is_allowed(Feature::RegisteredBuffers) {
            // Where memory that may be locked is short, the kernel must first give back what other tests had.
            until_outside("it is registered", || sees(builder(1)) == (true, 0));
        }
        let without = Features::ALL.without(Feature::RegisteredBuffers);
        assert_eq!(sees(builder(1).features(without)), (false, 7));
    });
}

#[test]
fn a_bounded_pool() {
    // Goal: the pool has as many buffers as the builder says, an error names the limit, a dropped buffer can be taken
    // again, also one dropped by a coroutine that was cancelled in a read; outside a runtime there is none.
    // Method: two buffers; wrong sizes are refused by name.
    check(|| {
        builder(1).fixed_buffers(2, 5000).build().unwrap().run(|| {
            let (one, other) = (FixedBuf::take().unwrap(), FixedBuf::take().unwrap());
            assert_eq!((one.len(), one.as_ptr().addr() % 4096), (8192, 0));
            assert_ne!(one.as_ptr(), other.as_ptr());
            let refused = FixedBuf::take().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::QuotaExceeded);
            assert!(refused.to_string().contains("fixed_buffers"), "{refused}");
            drop(one);
            let (reader, _writer) = std::io::pipe().unwrap();
            let pipe = File::from(std::os::fd::OwnedFd::from(reader));
            let waiting = coro::spawn(move || {
                let mut buffer = FixedBuf::take().unwrap();
                (&pipe).read(&mut buffer).map(drop)
            });
            coring_tests::until_in_flight(1);
            assert!(FixedBuf::take().is_err());
            waiting.cancel();
            assert!(coring::io::is_cancelled(
                &waiting.join().unwrap().unwrap_err()
            ));
            drop(FixedBuf::take().unwrap());
            drop(other);
        });
        assert!(
            FixedBuf::take()
                .unwrap_err()
                .to_string()
                .contains("Runtime::run")
        );
        for (count, bytes) in [(0, 1), (1, 0), (20_000, 1), (1, usize::MAX)] {
            let refused = builder(1).fixed_buffers(count, bytes).build().unwrap_err();
            assert!(refused.to_string().contains("fixed_buffers"), "{refused}");
        }
    });
}

#[test]
fn memory_of_another_runtime_is_memory() {
    // Goal: a buffer that outlives its runtime is read into like any other memory.
    // Method: a buffer is carried out of a runtime into the next one of the same thread, which has a pool of its own.
    check(|| {
        let mut old = runtime(1).run(|| FixedBuf::take().unwrap());
        runtime(1).run(|| {
            let _own = FixedBuf::take().unwrap();
            let file = file_of(b"elsewhere");
            assert_eq!(file.read_at(&mut old, 0).unwrap(), 9);
            assert_eq!(&old[..9], b"elsewhere");
        });
    });
}

#[test]
fn around_the_page_cache() {
    // Goal: registered buffers are aligned well enough for O_DIRECT, and what is written so is what std reads.
    // Method: write, read back, compare.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("direct");
        runtime(1).run(|| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).direct(true);
            let file = match options.open(&path) {
                Err(error) if error.kind() == ErrorKind::InvalidInput => {
                    skip!("this file system has no direct I/O")
                }
                opened => opened.unwrap(),
            };
            let mut buffer = FixedBuf::take().unwrap();
            let bytes = pattern(1, buffer.len());
            buffer.copy_from_slice(&bytes);
            file.write_all_at(&buffer, 0).unwrap();
            assert!(fs::read(&path).unwrap() == bytes);
            buffer.fill(0);
            file.read_exact_at(&mut buffer[8192..16384], 4096).unwrap();
            assert_eq!(buffer[8192..16384], bytes[4096..12288]);
        });
    });
}

/// Page faults of this thread that waited for a device, and all others.
fn faults() -> (i64, i64) {
    // SAFETY: all zeroes is a valid value: numbers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is writable.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    (usage.ru_majflt, usage.ru_minflt)
}

#[test]
fn a_mapped_file_is_in_memory_before_it_is_touched() {
    // Goal: the core's thread takes no page fault when it reads a fresh map, though the file was on the device only:
    // another thread has read it in, and its pages are in the page table.
    // Method: 32 MiB are made durable and dropped from the cache; then the faults of the core's thread are counted.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes) = (folder.path().join("big"), pattern(9, 32 << 20));
        runtime(1).run(|| {
            coring::fs::write(&path, &bytes).unwrap();
            let file = File::open(&path).unwrap();
            file.sync_all().unwrap();
            file.advise(0, 0, Advice::DontNeed).unwrap();
            // SAFETY: nobody else knows the file.
            let map = unsafe { Mmap::map(&file) }.unwrap();
            let before = faults();
            let sum: u64 = map.iter().step_by(512).map(|&byte| u64::from(byte)).sum();
            let after = faults();
            assert_eq!(
                sum,
                bytes
                    .iter()
                    .step_by(512)
                    .map(|&byte| u64::from(byte))
                    .sum::<u64>()
            );
            assert_eq!(after.0 - before.0, 0, "faults that wait for a device");
            let others = after.1 - before.1;
            assert!(
                others < 64,
                "{others} faults for {} pages",
                map.len() / 4096
            );
            assert!(*map == *bytes);
        });
    });
}

#[test]
fn parts_and_ends_of_a_mapped_file() {
    // Goal: any range can be mapped; an empty file is an empty map; a range beyond the end, and one whose file has been
    // cut off since, is an error and not a signal; a map outlives file and runtime and goes to other threads.
    // Method: step by step.
    check(|| {
        let bytes = pattern(4, 100_000);
        let map = runtime(1).run(|| {
            let file = file_of(&bytes);
            for range in [0..100_000, 1..2, 4095..4097, 50_000..99_999] {
                // SAFETY: nobody else knows the file.
                let map = unsafe { Mmap::map_range(&file, range.start as u64, range.len()) };
                assert_eq!(map.unwrap()[..], bytes[range]);
            }
            // SAFETY: nobody else knows the file.
            assert!(unsafe { Mmap::map(&file_of(b"")) }.unwrap().is_empty());
            // SAFETY: nobody else knows the file.
            let beyond = unsafe { Mmap::map_range(&file, 0, 200_000) }.unwrap_err();
            assert_eq!(beyond.kind(), ErrorKind::UnexpectedEof);

            let cut = file_of(&bytes);
            // SAFETY: it is cut off below, and not touched there afterwards.
            let map = unsafe { Mmap::map(&cut) }.unwrap();
            cut.set_len(10_000).unwrap();
            map.populate(0..8192).unwrap();
            let gone = map.populate(0..100_000).unwrap_err();
            assert_eq!(gone.kind(), ErrorKind::UnexpectedEof);

            // SAFETY: nobody else knows the file.
            unsafe { Mmap::map(&file) }.unwrap()
        });
        let sum = std::thread::spawn(move || map.iter().map(|&byte| u64::from(byte)).sum::<u64>());
        assert_eq!(
            sum.join().unwrap(),
            bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>()
        );
    });
}

#[test]
fn a_cancelled_map() {
    // Goal: who is cancelled while its map is read in gets the error that says so, and nothing stays mapped.
    // Method: the mapper has parked when it is cancelled, again if its map was there sooner; the mappings of the process are
    // looked at until the file is not among them: the thread that reads it in may be the last to let go.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not mapped for long");
        fs::write(&path, pattern(1, 32 << 20)).unwrap();
        runtime(1).run(|| {
            let refused = loop {
                let file = File::open(&path).unwrap();
                let mapper = coro::spawn(move || {
                    // SAFETY: nobody else knows the file.
                    unsafe { Mmap::map(&file) }.map(drop)
                });
                coro::yield_now();
                mapper.cancel();
                if let Err(refused) = mapper.join().unwrap() {
                    break refused;
                }
            };
            assert!(coring::io::is_cancelled(&refused), "{refused}");
            until("the file is mapped no more", || {
                let maps = fs::read_to_string("/proc/self/maps").unwrap();
                !maps.contains("not mapped for long")
            });
        });
    });
}
