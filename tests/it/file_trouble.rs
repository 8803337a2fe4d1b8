//! Files when something is in the way: no space, a limit on their size, signals without end, no CPU to spare.
#![expect(
    unsafe_code,
    reason = "mounts a small file system; sets limits, handlers and a timer of the process"
)]

use coring::coro;
use coring::fs::{self, File};
use coring_tests::command::{exists, run};
use coring_tests::random::pattern;
use coring_tests::{alone, builder, check, heavy, runtime, skip, until};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// A tmpfs of one MiB, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    const BYTES: usize = 1 << 20;

    /// `None` where we may not mount.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = CString::new(folder.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: all of them are texts that end with NUL.
        let outcome = unsafe {
            libc::mount(
                c"tmpfs".as_ptr(),
                path.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                c"size=1m".as_ptr().cast(),
            )
        };
        (outcome == 0).then_some(Self(folder))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Waits until what removed files had is there again: who drops a file does not wait for its close.
    fn until_free(&self) {
        let path = CString::new(self.0.path().as_os_str().as_bytes()).unwrap();
        until("all blocks are free", || {
            // SAFETY: all zeroes are a statvfs.
            let mut figures: libc::statvfs = unsafe { std::mem::zeroed() };
            // SAFETY: the path ends with NUL, the struct is writable.
            let outcome = unsafe { libc::statvfs(path.as_ptr(), &raw mut figures) };
            assert_eq!(outcome, 0);
            figures.f_bfree == figures.f_blocks
        });
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let path = CString::new(self.0.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: a text that ends with NUL.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// What becomes of writing more than there is room for: what each write says, to the first error and one beyond.
fn overfill(
    mut write: impl FnMut(&[u8]) -> std::io::Result<usize>,
) -> Vec<Result<usize, ErrorKind>> {
    let (bytes, mut done, mut errors, mut said) = (pattern(1, 3 << 20), 0, 0, Vec::new());
    while errors < 2 {
        let piece = &bytes[done..bytes.len().min(done + 300_000)];
        let outcome = write(piece).map_err(|error| error.kind());
        match outcome {
            Ok(written) => done += written,
            Err(_) => errors += 1,
        }
        said.push(outcome);
    }
    said
}

#[test]
fn no_space_left() {
    // Goal: a write that does not fit is short, the next one fails with StorageFull, once for each call; what was
    // written stays; the calls say what std's say on the same ground; with room again, writing goes on where it stopped.
    // Method: a tmpfs of 1 MiB. The same for `copy`, `allocate` and a write of a whole file.
    check(|| {
        let Some(disk) = SmallDisk::mount() else {
            skip!("a file system cannot be mounted here");
        };
        let full = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::StorageFull);
        runtime(1).run(|| {
            let path = disk.path("ours");
            let mut file = File::create(&path).unwrap();
            let ours = overfill(|piece| file.write(piece));
            let written = ours.iter().flatten().sum();
            assert!(
                (SmallDisk::BYTES - 65_536..=SmallDisk::BYTES).contains(&written),
                "{ours:?}"
            );
            assert_eq!(ours[ours.len() - 2..], [Err(ErrorKind::StorageFull); 2]);
            assert!(fs::read(&path).unwrap() == pattern(1, 3 << 20)[..written]);
            file.sync_all().unwrap();
            file.set_len(500_000).unwrap();
            file.write_all_at(b"room again", 500_000).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 500_010);
            drop(file);
            fs::remove_file(&path).unwrap();
            disk.until_free();

            let mut stds = std::fs::File::create(disk.path("stds")).unwrap();
            assert_eq!(overfill(|piece| stds.write(piece)), ours);
            drop(stds);
            std::fs::remove_file(disk.path("stds")).unwrap();

            let source = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(source.path(), pattern(2, 2 << 20)).unwrap();
            full(fs::copy(source.path(), disk.path("copy")).unwrap_err());
            let part = fs::read(disk.path("copy")).unwrap();
            assert!(!part.is_empty() && part == pattern(2, 2 << 20)[..part.len()]);
            fs::remove_file(disk.path("copy")).unwrap();

            full(fs::write(disk.path("whole"), pattern(3, 2 << 20)).unwrap_err());
            fs::remove_file(disk.path("whole")).unwrap();
            disk.until_free();
            let file = File::create(disk.path("reserved")).unwrap();
            full(file.allocate(0, 2 << 20).unwrap_err());
            file.allocate(0, 1 << 19).unwrap();
        });
    });
}

/// A file system of its own whose one folder may hold a megabyte; unmounted when dropped.
struct Quota(tempfile::TempDir);

impl Quota {
    /// `None` where the tools are missing or we may not mount.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let [image, mount] = ["image", "mount"].map(|name| folder.path().join(name));
        std::fs::create_dir(&mount).unwrap();
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(128 << 20).unwrap();
        let [image, mount] = [image, mount].map(|path| path.to_str().unwrap().to_owned());
        let limited = format!("{mount}/limited");
        if !exists("mkfs.btrfs") || run(["mkfs.btrfs", "-q", &image]).code != Some(0) {
            return None;
        }
        if run(["mount", "-o", "loop", &image, &mount]).code != Some(0) {
            return None;
        }
        let this = Self(folder);
        for words in [
            &["btrfs", "quota", "enable", &mount][..],
            &["btrfs", "subvolume", "create", &limited],
            &["btrfs", "qgroup", "limit", "1M", &limited],
        ] {
            run(words).assert_success();
        }
        Some(this)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("mount/limited").join(name)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        run([OsStr::new("umount"), self.0.path().join("mount").as_ref()]);
    }
}

#[test]
fn a_quota() {
    // Goal: at a quota a write fails with QuotaExceeded, once for each call; what was written before stays, also on the
    // device; `copy` and a whole file say the same; with room again, writing goes on.
    // Method: a btrfs in a file, a megabyte allowed; writes are synced, since it counts what is to be written in advance.
    check(|| {
        let Some(disk) = Quota::mount() else {
            skip!("a file system with quotas cannot be mounted here");
        };
        let exceeded = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        runtime(1).run(|| {
            let path = disk.path("ours");
            let mut file = File::create(&path).unwrap();
            let mut written = 0;
            let said = overfill(|piece| {
                let bytes = file.write(piece)?;
                written += bytes;
                file.sync_data().map(|()| bytes)
            });
            assert!((300_000..=SmallDisk::BYTES).contains(&written), "{said:?}");
            assert_eq!(said[said.len() - 2..], [Err(ErrorKind::QuotaExceeded); 2]);
            assert!(fs::read(&path).unwrap() == pattern(1, 3 << 20)[..written]);
            let source = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(source.path(), pattern(2, 2 << 20)).unwrap();
            exceeded(fs::copy(source.path(), disk.path("copy")).unwrap_err());
            exceeded(fs::write(disk.path("whole"), pattern(3, 2 << 20)).unwrap_err());
        });
    });
}

#[test]
fn a_limit_on_the_size_of_files() {
    // Goal: at a limit (RLIMIT_FSIZE, as a quota would be) a write is short, the next one fails, and what was written
    // stays; other files go on.
    // Method: a process of its own, which ignores SIGXFSZ as servers do; the same steps with std.
    alone(|| {
        // SAFETY: the signal is ignored; no handler of ours runs.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let limit = libc::rlimit {
            rlim_cur: 700_000,
            rlim_max: 700_000,
        };
        // SAFETY: reads a valid struct.
        let limited = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
        assert_eq!(limited, 0);
        runtime(1).run(|| {
            let mut ours = File::from(tempfile::tempfile().unwrap());
            let said = overfill(|piece| ours.write(piece));
            assert_eq!(said.iter().flatten().sum::<usize>(), 700_000);
            assert_eq!(said[said.len() - 1], Err(ErrorKind::FileTooLarge));
            let mut stds = tempfile::tempfile().unwrap();
            assert_eq!(overfill(|piece| stds.write(piece)), said);
            let mut back = vec![0; 700_000];
            ours.read_exact_at(&mut back, 0).unwrap();
            assert!(back == pattern(1, 3 << 20)[..700_000]);
            assert_eq!(
                ours.set_len(800_000).unwrap_err().kind(),
                ErrorKind::FileTooLarge
            );
            ours.set_len(10).unwrap();
            ours.write_all_at(b"goes on", 10).unwrap();
        });
    });
}

#[test]
fn an_error_in_the_middle_of_a_read() {
    // Goal: a read that meets an error after some bytes gives those bytes and moves the position by them: the next read
    // never gives the same bytes again.
    // Method: a buffer whose second page the kernel cannot write to; compared with std.
    check(|| {
        let page = 4096;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: fresh memory at a place of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), 2 * page, access, kind, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: of the memory above, which nobody refers to yet.
        let closed =
            unsafe { libc::mprotect(start.wrapping_byte_add(page), page, libc::PROT_NONE) };
        assert_eq!(closed, 0);
        let tried = |file: &mut dyn ReadSeek| {
            let mut seen = Vec::new();
            for _ in 0..3 {
                // SAFETY: only the kernel writes to the second page, and is refused; only the first one is read.
                let buffer =
                    unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>(), 2 * page) };
                let read = file.read(buffer).map_err(|error| error.kind());
                seen.push((
                    read,
                    buffer[..page].to_vec(),
                    file.stream_position().unwrap(),
                ));
            }
            seen
        };
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&pattern(8, 8 * page)).unwrap();
        let stds = tried(&mut std::fs::File::open(file.path()).unwrap());
        assert_eq!((stds[2].0, stds[2].2), (Ok(page), 3 * page as u64));
        let ours = runtime(1).run(|| tried(&mut File::open(file.path()).unwrap()));
        assert!(
            ours == stds,
            "at {:?}",
            ours.iter().map(|seen| seen.2).collect::<Vec<_>>()
        );
    });
}

trait ReadSeek: Read + Seek {}

impl<F: Read + Seek> ReadSeek for F {}

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_signal: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Interrupts the calling thread a thousand times a second from now on, without SA_RESTART.
fn storm() {
    // SAFETY: all zeroes is a valid value of this plain struct: no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count as *const () as usize;
    // SAFETY: the struct is valid; the handler only counts.
    unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    // SAFETY: all zeroes is a valid value of this plain struct.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = libc::SIGUSR1;
    // SAFETY: asks for a number.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut timer = std::ptr::null_mut();
    // SAFETY: both places are valid.
    let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    assert_eq!(made, 0);
    let millisecond = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    let every = libc::itimerspec {
        it_interval: millisecond,
        it_value: millisecond,
    };
    // SAFETY: the timer was made above; reads a valid struct.
    let set = unsafe { libc::timer_settime(timer, 0, &raw const every, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

/// Copies in three ways: through the position, by pieces out of order from many coroutines, and by `fs::copy`.
fn copies(folder: &Path, from: &Path, bytes: &[u8]) {
    let (one, two, three) = (folder.join("one"), folder.join("two"), folder.join("three"));
    std::io::copy(
        &mut File::open(from).unwrap(),
        &mut File::create(&one).unwrap(),
    )
    .unwrap();
    let (source, target) = (File::open(from).unwrap(), File::create(&two).unwrap());
    coro::scope(|scope| {
        for first in 0..8 {
            let (source, target) = (&source, &target);
            scope.spawn(move || {
                let mut piece = vec![0; 65_537];
                for offset in (first * 65_537..bytes.len()).step_by(8 * 65_537) {
                    let length = piece.len().min(bytes.len() - offset);
                    source
                        .read_exact_at(&mut piece[..length], offset as u64)
                        .unwrap();
                    target
                        .write_all_at(&piece[..length], offset as u64)
                        .unwrap();
                }
            });
        }
    });
    target.sync_all().unwrap();
    assert_eq!(fs::copy(from, &three).unwrap(), bytes.len() as u64);
    for copy in [one, two, three] {
        let mut back = Vec::new();
        File::open(&copy).unwrap().read_to_end(&mut back).unwrap();
        assert!(back == bytes, "{} differs", copy.display());
        assert!(
            std::fs::read(&copy).unwrap() == bytes,
            "{} differs for std",
            copy.display()
        );
    }
}

#[test]
fn copies_under_a_storm_of_signals_and_without_cpu() {
    // Goal: files are copied without an error and without a changed byte while the core's thread is interrupted a
    // thousand times a second, and again while more threads compute than there are CPUs.
    // Method: a timer aimed at the core's thread, whose handler counts; threads that spin. Every copy is compared byte
    // by byte, read by us and by std.
    alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let (from, bytes) = (folder.path().join("from"), pattern(6, 30_000_001));
        std::fs::write(&from, &bytes).unwrap();
        let enough = if heavy() { 20_000 } else { 300 };
        runtime(1).run(|| {
            storm();
            while SIGNALS.load(Ordering::Relaxed) < enough {
                copies(folder.path(), &from, &bytes);
            }
        });
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 * thread::available_parallelism().unwrap().get() {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            runtime(2).run(|| copies(folder.path(), &from, &bytes));
            stop.store(true, Ordering::Relaxed);
        });
    });
}

fn cpus(status: &str) -> Option<&str> {
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(str::trim)
}

/// The kernel's I/O workers in this process: the number of each thread, and the CPUs that it may use.
fn workers() -> BTreeMap<OsString, String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let found = tasks.filter_map(|task| {
        // Some have ended between the listing and the look.
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let is_worker = status.starts_with("Name:\tiou-wrk");
        let cpus = cpus(&status).filter(|_| is_worker)?;
        Some((task.file_name(), cpus.to_owned()))
    });
    found.collect()
}

#[test]
fn workers_of_the_kernel_are_bounded_and_not_pinned() {
    // Goal: `io_workers` bounds the threads that the kernel uses for a core's file operations, however many wait for
    // them; they stay away from the CPU that the core is pinned to, if there is another.
    // Method: 64 coroutines write and sync a file each, on a core that is pinned; between their steps the threads named
    // iou-wrk are counted. The bound is seen to be used, too. Each bound has a thread of its own, to which the workers
    // belong; those of the bound before, which end when they get to it, are not counted.
    alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let own = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            cpus(&status).unwrap().to_owned()
        };
        let all = own();
        for bound in [1, 3] {
            let earlier = workers();
            let count = || {
                let builder = builder(1).pin(true).io_workers(bound, 1);
                builder.build().unwrap().run(|| {
                    let (most, pin) = (std::cell::Cell::new(0), own());
                    coro::scope(|scope| {
                        for number in 0..64 {
                            let (most, pin, all, earlier) = (&most, &pin, &all, &earlier);
                            scope.spawn(move || {
                                for _ in 0..4 {
                                    let file = File::create(path.join(number.to_string())).unwrap();
                                    file.write_all_at(&[1; 30_000], 0).unwrap();
                                    file.sync_all().unwrap();
                                    let mut workers = workers();
                                    workers.retain(|number, _| !earlier.contains_key(number));
                                    most.set(most.get().max(workers.len()));
                                    assert!(
                                        pin == all || workers.values().all(|cpus| cpus != pin),
                                        "they share the pin {pin}"
                                    );
                                }
                            });
                        }
                    });
                    most.get()
                })
            };
            let most = thread::scope(|scope| scope.spawn(count).join().unwrap());
            assert!(
                (1..=bound as usize).contains(&most),
                "{most} workers of {bound}"
            );
        }
    });
}
