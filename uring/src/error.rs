//! Why a ring could not be made, and what to do about it.
//!
//! io_uring is refused in more ways than most interfaces: by a sysctl, by a container's seccomp filter, by a
//! limit on locked memory, by a kernel built without it. All of them arrive as a bare errno. This file finds out
//! which it was, so that the user reads a sentence with a cure instead of "Operation not permitted".
//!
//! ```text
//!    EPERM    kernel.io_uring_disabled = 2        -> Disabled
//!             kernel.io_uring_disabled = 1        -> Group       (CAP_SYS_ADMIN or the group of io_uring_group)
//!             otherwise                           -> Filtered    (seccomp, or a security module)
//!    ENOSYS                                       -> Missing
//!    EINVAL   on the lowest rung of the ladder    -> TooOld
//!    ENOMEM   with as small queues as may be      -> LockedMemory, or OutOfMemory without a limit
//!    EMFILE, ENFILE                               -> OpenFiles
//! ```

use std::{fmt, fs, io};

use crate::sys;

/// Setting up a ring failed. Its text names the cause and the cure in one or two sentences.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// `kernel.io_uring_disabled` is 2: nobody may create rings.
    Disabled,
    /// `kernel.io_uring_disabled` is 1: only a group and administrators may.
    Group {
        /// `kernel.io_uring_group`; negative when no group is set.
        group: i64,
    },
    /// The system call is filtered: seccomp, as containers have it, or a security module.
    Filtered,
    /// The kernel has no io_uring, or something pretends so.
    Missing,
    /// The kernel's io_uring is older than the floor.
    TooOld {
        /// The release of the running kernel.
        release: String,
    },
    /// `RLIMIT_MEMLOCK` leaves no room, even for the smallest queues if the ring may shrink.
    LockedMemory {
        /// What the ring needs.
        needed_kib: u64,
        /// The limit, shared by all processes of the user.
        limit_kib: u64,
    },
    /// The kernel is out of memory, and no limit of ours is the reason.
    OutOfMemory,
    /// No descriptor is left for the ring.
    OpenFiles {
        /// The limit that was met.
        limit: u64,
        /// Whether it is the whole system's (`fs.file-max`) or this process's (`RLIMIT_NOFILE`).
        system_wide: bool,
    },
    /// Anything else.
    Other {
        /// What was being done.
        doing: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

impl SetupError {
    /// Classifies the failure of `doing`, with the size of the ring that was tried last.
    pub(crate) fn classify(
        doing: &'static str,
        source: io::Error,
        needed_bytes: u64,
    ) -> SetupError {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                match read_number("/proc/sys/kernel/io_uring_disabled") {
                    Some(2) => SetupError::Disabled,
                    Some(1) => SetupError::Group {
                        group: read_number("/proc/sys/kernel/io_uring_group").unwrap_or(-1),
                    },
                    _ => SetupError::Filtered,
                }
            }
            Some(libc::ENOSYS) => SetupError::Missing,
            Some(libc::EINVAL) => SetupError::TooOld {
                release: kernel_release(),
            },
            Some(libc::ENOMEM) => match sys::soft_limit(libc::RLIMIT_MEMLOCK) {
                Some(limit) => SetupError::LockedMemory {
                    needed_kib: needed_bytes.div_ceil(1024),
                    limit_kib: limit / 1024,
                },
                None => SetupError::OutOfMemory,
            },
            Some(libc::EMFILE) => SetupError::OpenFiles {
                limit: sys::soft_limit(libc::RLIMIT_NOFILE).unwrap_or(u64::MAX),
                system_wide: false,
            },
            Some(libc::ENFILE) => SetupError::OpenFiles {
                limit: read_number("/proc/sys/fs/file-max")
                    .and_then(|limit| u64::try_from(limit).ok())
                    .unwrap_or(u64::MAX),
                system_wide: true,
            },
            _ => SetupError::Other { doing, source },
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            SetupError::Disabled | SetupError::Group { .. } | SetupError::Filtered => {
                io::ErrorKind::PermissionDenied
            }
            SetupError::Missing | SetupError::TooOld { .. } => io::ErrorKind::Unsupported,
            SetupError::LockedMemory { .. } | SetupError::OutOfMemory => io::ErrorKind::OutOfMemory,
            SetupError::OpenFiles { .. } => io::ErrorKind::QuotaExceeded,
            SetupError::Other { source, .. } => source.kind(),
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Disabled => f.write_str(
                "io_uring is switched off on this machine (kernel.io_uring_disabled = 2). \
                 Allow it as root with: sysctl kernel.io_uring_disabled=0",
            ),
            SetupError::Group { group: group @ 0.. } => write!(
                f,
                "io_uring is reserved for the members of group {group} (kernel.io_uring_disabled = 1, \
                 kernel.io_uring_group = {group}). Add this user to the group, or run as root: \
                 sysctl kernel.io_uring_disabled=0"
            ),
            SetupError::Group { .. } => f.write_str(
                "io_uring is reserved for administrators (kernel.io_uring_disabled = 1). \
                 Allow it as root with: sysctl kernel.io_uring_disabled=0, or name a group in kernel.io_uring_group",
            ),
            SetupError::Filtered => f.write_str(
                "io_uring_setup is not permitted here, most likely by the seccomp filter of a container. \
                 Allow io_uring_setup, io_uring_enter and io_uring_register in the profile \
                 (docker run --security-opt seccomp=PROFILE.json)",
            ),
            SetupError::Missing => f.write_str(
                "this kernel offers no io_uring: it was built without CONFIG_IO_URING, or a sandbox hides it. \
                 Use Linux 6.1 or newer, or allow io_uring_setup in the sandbox",
            ),
            SetupError::TooOld { release } => write!(
                f,
                "the io_uring of this kernel ({release}) is too old. Use Linux 6.1 or newer"
            ),
            SetupError::LockedMemory { needed_kib, limit_kib } => write!(
                f,
                "the limit on locked memory ({limit_kib} KiB for all processes of this user) leaves no room for \
                 a ring of {needed_kib} KiB. Raise it (ulimit -l unlimited, or LimitMEMLOCK= in the \
                 systemd unit)"
            ),
            SetupError::OutOfMemory => f.write_str(
                "the kernel has no memory for a ring. Free some, or raise the memory limit of this control group",
            ),
            SetupError::OpenFiles { limit, system_wide: false } => write!(
                f,
                "no file descriptor is left for a ring (the limit is {limit}). Raise it (ulimit -n, or \
                 LimitNOFILE= in the systemd unit)"
            ),
            SetupError::OpenFiles { limit, system_wide: true } => write!(
                f,
                "the whole system is out of file descriptors (fs.file-max = {limit}). Raise it as root with: \
                 sysctl fs.file-max=NUMBER"
            ),
            SetupError::Other { doing, source } => write!(f, "{doing} failed: {source}"),
        }
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SetupError::Other { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<SetupError> for io::Error {
    fn from(error: SetupError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

/// An operation could not be handed to the kernel. Nothing of it is in flight.
#[derive(Debug)]
#[non_exhaustive]
pub enum SubmitError {
    /// The ring's bound on operations is reached.
    TooManyOperations {
        /// The bound: [`SetupOptions::max_operations`](crate::SetupOptions).
        limit: u32,
    },
    /// The submission queue is full and the kernel does not empty it.
    Kernel(io::Error),
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::TooManyOperations { limit } => write!(
                f,
                "{limit} operations are already in flight on this ring. Raise max_operations, or start fewer at once"
            ),
            SubmitError::Kernel(source) => {
                write!(
                    f,
                    "the kernel takes no operation from the full submission queue: {source}"
                )
            }
        }
    }
}

impl std::error::Error for SubmitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SubmitError::Kernel(source) => Some(source),
            SubmitError::TooManyOperations { .. } => None,
        }
    }
}

impl From<SubmitError> for io::Error {
    fn from(error: SubmitError) -> io::Error {
        let kind = match &error {
            SubmitError::TooManyOperations { .. } => io::ErrorKind::QuotaExceeded,
            SubmitError::Kernel(source) => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

/// [`Ring::drain`](crate::Ring::drain) gave up at its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainTimedOut {
    /// Operations the kernel still holds.
    pub in_flight: usize,
}

impl fmt::Display for DrainTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} operations did not end although they were cancelled (a disk or a worker thread of the kernel is \
             still busy with them)",
            self.in_flight
        )
    }
}

impl std::error::Error for DrainTimedOut {}

/// A broken invariant of the ring: memory that the kernel writes to is no longer accounted for, so going on is
/// worse than stopping. Prints to stderr and aborts.
#[cold]
pub(crate) fn fatal(message: fmt::Arguments<'_>) -> ! {
    eprintln!("coring-uring: {message}; aborting");
    std::process::abort()
}

fn read_number(path: &str) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(
        |_| "unknown release".to_owned(),
        |release| release.trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_becomes_a_sentence_with_a_cure() {
        let cases = [
            (libc::EPERM, "Allow"),
            (libc::ENOSYS, "6.1"),
            (libc::EINVAL, "6.1"),
            (libc::EMFILE, "ulimit -n"),
            (libc::ENFILE, "fs.file-max"),
        ];
        for (errno, cure) in cases {
            let error =
                SetupError::classify("io_uring_setup", io::Error::from_raw_os_error(errno), 8192);
            let text = error.to_string();
            assert!(text.contains(cure), "errno {errno}: {text}");
            assert!(!text.contains("Os {"), "no debug noise: {text}");
            let error: io::Error = error.into();
            assert_eq!(
                error.to_string(),
                text,
                "the sentence survives the conversion"
            );
        }
    }

    #[test]
    fn locked_memory_names_both_numbers() {
        let error = SetupError::LockedMemory {
            needed_kib: 8,
            limit_kib: 4,
        };
        assert!(error.to_string().contains("8 KiB") && error.to_string().contains("4 KiB"));
    }
}
