//! The system calls that std does not offer, each as a small safe function.
//!
//! Three users: the child side of [`crate::child`] (pinning, limits), the load generator and the raw
//! epoll loop ([`Epoll`]), and the accounting of CPU time ([`CpuClock`]). Everything here is a thin
//! cover over one call of libc: errno becomes `io::Error`, file descriptors are owned or borrowed,
//! pointers never leave the function.
#![expect(
    unsafe_code,
    reason = "the one place where the harness calls libc directly"
)]

use std::io::{self, Error};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// Turns the `-1 and errno` convention into a `Result`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(result)
}

/// The same for calls that return a length.
fn check_length(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| Error::last_os_error())
}

/// The CPUs this process may run on, in ascending order.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a cpu_set_t is an array of integers, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is a live cpu_set_t and the size given is its own.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) })?;
    let highest = usize::try_from(libc::CPU_SETSIZE).expect("CPU_SETSIZE is positive");
    Ok((0..highest)
        .filter(|&cpu| {
            // SAFETY: `cpu` is below CPU_SETSIZE, so the bit lies inside the set.
            unsafe { libc::CPU_ISSET(cpu, &set) }
        })
        .collect())
}

/// Pins the calling thread, and every thread it starts later, to these CPUs.
pub(crate) fn pin(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a cpu_set_t is an array of integers, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &cpu in cpus {
        // SAFETY: CPU_SET checks `cpu` against the size of the set itself.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: `set` is a live cpu_set_t and the size given is its own.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }).map(drop)
}

/// Raises the soft limit on open files to the hard one: 2,000 connections need more than the usual 1,024.
pub(crate) fn raise_file_limit() -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a live rlimit for the kernel to fill.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a live rlimit that the kernel only reads.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}

/// Has each allocation of so many bytes and more mapped by itself, at the same place of its page, whatever was freed before.
/// How fast the kernel copies a buffer depends on that place.
pub(crate) fn map_allocations_from(bytes: libc::c_int) {
    // SAFETY: it sets a number in the allocator; a number that it does not like is ignored.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) };
}

/// Asks the kernel to kill this process when its parent ends, so that no server outlives the harness.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: this option takes a signal number and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// Bounds the life of this process: SIGALRM ends it after `seconds`.
pub(crate) fn die_after(seconds: u32) {
    // SAFETY: alarm takes a plain integer and touches no memory.
    unsafe { libc::alarm(seconds) };
}

/// Makes closing this socket send a reset, so that a run leaves no port in TIME_WAIT behind.
pub(crate) fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let length = libc::socklen_t::try_from(size_of_val(&linger)).expect("a linger is 8 bytes");
    let fd = socket.as_fd().as_raw_fd();
    let value: *const libc::linger = &linger;
    // SAFETY: `value` points at a live linger of the length given.
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, value.cast(), length) })
        .map(drop)
}

/// Receives and throws away up to `scratch.len()` bytes without copying them, and without waiting.
pub(crate) fn receive_discarding(socket: &impl AsFd, scratch: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `scratch` is writable for its length. With MSG_TRUNC a TCP socket writes nothing into it.
    check_length(unsafe { libc::recv(fd, scratch.as_mut_ptr().cast(), scratch.len(), flags) })
}

/// Sends without waiting; a full socket buffer is `WouldBlock` or a short count.
pub(crate) fn send_now(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `bytes` is readable for its length.
    check_length(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// The CPU time of a process, all of its threads and kernel workers included, or of this thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuClock(libc::clockid_t);

impl CpuClock {
    /// The clock of the process with this id, which must be alive whenever the clock is read.
    pub(crate) fn of(process: u32) -> io::Result<CpuClock> {
        let process = libc::pid_t::try_from(process).expect("a process id is a pid_t");
        let mut clock = 0;
        // SAFETY: `clock` is a live clockid_t to be filled.
        match unsafe { libc::clock_getcpuclockid(process, &mut clock) } {
            0 => Ok(CpuClock(clock)),
            errno => Err(Error::from_raw_os_error(errno)),
        }
    }

    /// The clock of the calling thread alone.
    pub(crate) fn of_this_thread() -> CpuClock {
        CpuClock(libc::CLOCK_THREAD_CPUTIME_ID)
    }

    /// The clock of this process, with all its threads.
    pub(crate) fn of_this_process() -> CpuClock {
        CpuClock(libc::CLOCK_PROCESS_CPUTIME_ID)
    }

    /// CPU time used since the process, or the thread, began.
    pub(crate) fn read(self) -> io::Result<Duration> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a live timespec to be filled.
        check(unsafe { libc::clock_gettime(self.0, &mut time) })?;
        let seconds = u64::try_from(time.tv_sec).expect("CPU time is not negative");
        let nanoseconds = u32::try_from(time.tv_nsec).expect("tv_nsec is below 10^9");
        Ok(Duration::new(seconds, nanoseconds))
    }
}

/// CPU time used so far by this process and by all its children that have been waited for.
pub(crate) fn own_cpu_time() -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for who in [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN] {
        // SAFETY: an rusage is plain integers, for which all zeroes is a value.
        let mut usage: libc::rusage = unsafe { mem::zeroed() };
        // SAFETY: `usage` is a live rusage to be filled.
        check(unsafe { libc::getrusage(who, &mut usage) })?;
        for part in [usage.ru_utime, usage.ru_stime] {
            total += Duration::from_secs(part.tv_sec.unsigned_abs());
            total += Duration::from_micros(part.tv_usec.unsigned_abs());
        }
    }
    Ok(total)
}

/// Clock ticks a second, the unit of `/proc/stat`.
pub(crate) fn ticks_per_second() -> u64 {
    // SAFETY: sysconf takes a plain integer and touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).expect("Linux always knows its tick rate")
}

/// What to be told about a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Interest {
    /// Told on every wait while there is something to read.
    Level,
    /// Told once each time something arrives.
    Edge,
}

/// An epoll instance. Sockets are known by the token they were added with.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// An instance that returns at most `batch` tokens a wait.
    pub(crate) fn new(batch: usize) -> io::Result<Epoll> {
        // SAFETY: takes a flag and touches no memory.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just made this descriptor and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; batch];
        Ok(Epoll { fd, events })
    }

    /// Begins to watch `socket` for input. Closing the socket ends it.
    pub(crate) fn add(
        &self,
        socket: &impl AsFd,
        token: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let edge = match interest {
            Interest::Level => 0,
            Interest::Edge => libc::EPOLLET,
        };
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | edge).cast_unsigned(),
            u64: token as u64,
        };
        let (epoll, fd) = (self.fd.as_raw_fd(), socket.as_fd().as_raw_fd());
        // SAFETY: `event` is live and only read; both descriptors are borrowed for the call.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) }).map(drop)
    }

    /// Waits for input, for ever if `timeout` is `None`, and yields the tokens that have some.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
    ) -> io::Result<impl ExactSizeIterator<Item = usize>> {
        let milliseconds = match timeout {
            None => -1,
            Some(timeout) => i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        };
        let room = i32::try_from(self.events.len()).unwrap_or(i32::MAX);
        let (fd, events) = (self.fd.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: `events` points at `room` live entries, borrowed for as long as the call.
        let ready = check(unsafe { libc::epoll_wait(fd, events, room, milliseconds) })?;
        let ready = usize::try_from(ready).expect("check lets no negative count pass");
        Ok(self.events[..ready].iter().map(|event| {
            usize::try_from(event.u64).expect("every token was a usize when it was added")
        }))
    }
}

/// Takes what is in the page cache of a file out of it, as far as it is on disk.
pub(crate) fn drop_from_page_cache(file: &impl AsFd) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: takes plain integers and touches no memory of ours.
    match unsafe { libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        errno => Err(Error::from_raw_os_error(errno)),
    }
}

/// The same as a slice, which nobody else has.
pub(crate) fn leak_buffer(bytes: usize) -> io::Result<&'static mut [u8]> {
    let memory = leak_pages(bytes)?;
    // SAFETY: as many zeroed bytes, just mapped, that nobody else knows and nobody unmaps.
    Ok(unsafe { std::slice::from_raw_parts_mut(memory, bytes) })
}

/// Page-aligned zeroed memory that lives as long as the process: the kernel may be given its address.
pub(crate) fn leak_pages(bytes: usize) -> io::Result<*mut u8> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing.
    let memory = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(Error::last_os_error());
    }
    Ok(memory.cast())
}

/// Fetches the line of the cache at `at`, which will be written.
#[inline(always)]
pub(crate) fn fetch_for_writing<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which changes neither memory nor flags and never faults.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) ptr::from_ref(at), options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Lets the caches go of the line at `at`, waiting for nothing. Only where [`can_let_go`] says so.
#[inline(always)]
pub(crate) fn let_go<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: writes the line back to memory; what it holds stays the same.
    unsafe {
        std::arch::asm!("clflushopt [{}]", in(reg) ptr::from_ref(at), options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Whether the processor has an instruction for that. To be asked once: in a virtual machine the question takes microseconds.
pub(crate) fn can_let_go() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        /// Leaf 7, EBX (Intel's manual, volume 2A, CPUID).
        const CLFLUSHOPT: u32 = 1 << 23;
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & CLFLUSHOPT != 0
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The processor's counter, between two fences: what comes before is done, what comes after has not begun.
#[inline(always)]
pub(crate) fn fenced_ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::_mm_lfence;
        // SAFETY: every x86_64 processor has SSE2.
        unsafe { _mm_lfence() };
        let ticks = coring::logger::ticks();
        // SAFETY: as above.
        unsafe { _mm_lfence() };
        ticks
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        coring::logger::ticks()
    }
}

/// Memory that this process has in use.
pub(crate) fn resident_bytes() -> io::Result<u64> {
    own_status("VmRSS:")
}

/// The most it ever had.
pub(crate) fn peak_resident_bytes() -> io::Result<u64> {
    own_status("VmHWM:")
}

/// A line of proc_pid_status(5) that is in kB.
fn own_status(field: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let kilobytes = kilobytes.ok_or_else(|| Error::other(format!("no {field} in our status")))?;
    Ok(kilobytes * 1024)
}
