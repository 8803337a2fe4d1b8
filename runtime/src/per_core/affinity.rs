//! CPUs: which ones this process may use, and keeping a core's thread on one of them.
//!
//! Only CPUs of the process's own mask are used, so `taskset`, cpusets and containers are respected.
#![expect(unsafe_code, reason = "sched_getaffinity and sched_setaffinity")]

use std::io;

/// The CPUs the calling thread may run on, in ascending order; empty when the kernel does not say.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    match get() {
        Ok(set) => {
            let limit = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
            // SAFETY: the index is below CPU_SETSIZE.
            (0..limit)
                .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
                .collect()
        }
        Err(_) => Vec::new(),
    }
}

/// A thread's CPU mask, put back when dropped: the thread that calls `run` is ours only for a while.
#[derive(Debug)]
pub(crate) struct Pinned {
    before: Option<libc::cpu_set_t>,
}

impl Pinned {
    /// Pins the calling thread to one CPU. A refusal leaves it where it was.
    pub(crate) fn to(cpu: Option<usize>) -> Self {
        let Some(cpu) = cpu else {
            return Self { before: None };
        };
        let before = get().ok();
        // SAFETY: a zeroed set is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `allowed_cpus` only reports CPUs below CPU_SETSIZE.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        match put(&set) {
            Ok(()) => Self { before },
            Err(_) => Self { before: None },
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A mask that was valid before can only be refused after hot-unplug; the thread then keeps ours.
            let _ = put(before);
        }
    }
}

/// Lets the calling thread run on these CPUs: it was started by a core, and inherited its pin. A refusal leaves it there.
pub(crate) fn allow(cpus: &[usize]) {
    if cpus.is_empty() {
        return;
    }
    // SAFETY: a zeroed set is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        // SAFETY: `allowed_cpus` only reports CPUs below CPU_SETSIZE.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    let _ = put(&set);
}

fn get() -> io::Result<libc::cpu_set_t> {
    // SAFETY: a zeroed set is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable and has the size given; 0 is the calling thread.
    let outcome = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if outcome == 0 {
        Ok(set)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn put(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: `set` is readable and has the size given; 0 is the calling thread.
    let outcome = unsafe { libc::sched_setaffinity(0, size_of_val(set), set) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
