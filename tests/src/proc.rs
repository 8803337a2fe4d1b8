//! What the kernel says about a process: descriptors, memory, mappings, threads.
#![expect(
    unsafe_code,
    reason = "raises a resource limit; asks whether memory can be read"
)]

use std::fs;
use std::time::Duration;

/// Open descriptors of this process.
#[must_use]
pub fn fds() -> usize {
    fds_of("self")
}

/// Open descriptors of a process.
///
/// # Panics
///
/// When it has gone.
#[must_use]
pub fn fds_of(pid: impl std::fmt::Display) -> usize {
    let path = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(path).expect("the process is alive").count();
    // Reading the directory takes one itself.
    entries - usize::from(pid.to_string() == "self")
}

/// Resident memory of this process in KiB, as [`rss_kib_of`].
#[must_use]
pub fn rss_kib() -> u64 {
    rss_kib_of("self")
}

/// Resident memory of a process in KiB, without the pages of files: how much of its program is mapped is up to the
/// kernel, which maps more at once where the page cache holds it in larger pieces.
///
/// # Panics
///
/// When it has gone.
#[must_use]
pub fn rss_kib_of(pid: impl std::fmt::Display) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is alive");
    let kib = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        let number = number.unwrap_or_else(|| panic!("status has {name}"));
        number.parse::<u64>().expect("it is a number")
    };
    kib("RssAnon:") + kib("RssShmem:")
}

/// CPU time that this process has used, in the kernel and outside of it.
///
/// # Panics
///
/// When the kernel does not tell.
#[must_use]
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the struct is writable.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0, "clock_gettime");
    let seconds = Duration::from_secs(time.tv_sec.cast_unsigned());
    seconds + Duration::from_nanos(time.tv_nsec.cast_unsigned())
}

/// Mappings of this process.
///
/// # Panics
///
/// Without /proc.
#[must_use]
pub fn mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    maps.lines().count()
}

/// Threads of this process, without those that submit for a ring: the kernel ends them a while after the ring was closed.
///
/// # Panics
///
/// Without /proc.
#[must_use]
pub fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    // Who has ended between the listing and the look has no name any more.
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| !name.starts_with("iou-sqp-")).count()
}

/// The children of this process, of any thread, that were not waited for.
///
/// # Panics
///
/// Without /proc.
#[must_use]
pub fn children() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    // A thread may have ended between the listing and the look.
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let lists: Vec<_> = lists.collect();
    let numbers = lists.iter().flat_map(|list| list.split_whitespace());
    numbers
        .map(|number| number.parse().expect("a number"))
        .collect()
}

/// Whether a child has ended and was not waited for.
#[must_use]
pub fn is_zombie(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status
        .rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with('Z'))
}

/// Lets this process open as many files as it may.
///
/// # Panics
///
/// When the kernel does not tell the limits.
pub fn raise_file_limit() -> u64 {
    let hard = hard_limit(libc::RLIMIT_NOFILE);
    set_file_limit(hard, hard);
    hard
}

/// Lets this process have so many descriptors and no more, until told otherwise.
///
/// # Panics
///
/// When the limit is above the hard one.
pub fn limit_files(files: usize) {
    set_file_limit(files as u64, raise_file_limit());
}

fn set_file_limit(soft: u64, hard: u64) {
    set_limit(libc::RLIMIT_NOFILE, soft, hard);
}

fn set_limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the struct is readable.
    let outcome = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(outcome, 0, "the soft limit may be up to the hard one");
}

fn hard_limit(resource: libc::__rlimit_resource_t) -> u64 {
    get_limit(resource).rlim_max
}

fn get_limit(resource: libc::__rlimit_resource_t) -> libc::rlimit {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct is writable.
    let outcome = unsafe { libc::getrlimit(resource, &raw mut limit) };
    assert_eq!(outcome, 0, "getrlimit");
    limit
}

/// How many bytes this process may lock, rings and registered buffers among them; `None` where nobody counts.
///
/// # Panics
///
/// Without /proc.
#[must_use]
pub fn locked_memory() -> Option<usize> {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .expect("status has CapEff");
    let rights = u64::from_str_radix(line.trim(), 16).expect("a hexadecimal number");
    let limit = get_limit(libc::RLIMIT_MEMLOCK).rlim_cur;
    let bound = rights & CAP_IPC_LOCK == 0 && limit != libc::RLIM_INFINITY;
    bound.then(|| usize::try_from(limit).expect("memory is addressable"))
}

/// Whether a load from this address would fault. Asks the kernel, which answers instead of faulting.
///
/// # Panics
///
/// When it gives no answer.
#[must_use]
pub fn is_guarded(address: usize) -> bool {
    let mut byte = 0u8;
    let local = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address),
        iov_len: 1,
    };
    // SAFETY: it only asks.
    let pid = unsafe { libc::getpid() };
    // SAFETY: writes one byte into `byte`; the other address is only a number to the kernel.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    let error = std::io::Error::last_os_error().raw_os_error();
    assert!(
        read == 1 || error == Some(libc::EFAULT),
        "process_vm_readv: {error:?}"
    );
    read != 1
}
