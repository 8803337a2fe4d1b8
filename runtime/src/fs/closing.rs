//! How a file is closed: whether that waits for a server, and in whose company.
//!
//! A file system may have something to do at each close (its `flush`): one whose files are elsewhere sends what was written, and
//! waits for the answer. The others are done at once, in the ring as well, which closes their files on the core's own thread.
//!
//! ```text
//!   statx, from memory --> number of the device --> its type in /proc/self/mountinfo, looked up once
//! ```
//!
//! fstatfs(2) would say the type, too, but asks the server for it. A device that is not listed - an overlay may have some - is taken
//! for one of ours.
//!
//! Who waits for its close ([`File::close`](super::File::close)) has it done with the core's next batch, in one call with those of others;
//! who is alone on its core would make a call for it in any case, and the plain one costs less.
#![expect(
    unsafe_code,
    reason = "statx fills a structure in this frame; closes descriptors, by calls and by the ring"
)]

use crate::io::{self as ops, may_wait};
use crate::per_core::{self, Engine};
use coring_uring::{Feature, op};
use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::{fs, io};

/// Types of file systems whose files are elsewhere. Those in user space (fuse) are known by how they begin.
const ELSEWHERE: [&str; 12] = [
    "nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "afs", "coda", "pvfs2", "lustre",
    "gpfs",
];
/// Devices whose type is remembered. There are about as many as mounts in use.
const MOST_KNOWN: usize = 64;

/// Major and minor number.
type Device = (u32, u32);

thread_local! {
    static KNOWN: RefCell<Vec<(Device, bool)>> = const { RefCell::new(Vec::new()) };
}

/// Closes a file and waits for that. Who is refused has it closed as by a drop.
pub(super) fn close(fd: OwnedFd) -> io::Result<()> {
    let in_company = per_core::current().is_none_or(is_in_company);
    if in_company || waits_for_a_server(fd.as_fd()) {
        return ops::close(fd).map_err(|(error, open)| {
            open.into_iter().for_each(close_silently);
            error
        });
    }
    may_wait()?;
    close_now(fd)
}

/// Closes a file that was dropped: here, or by the ring if it waits for a server.
pub(super) fn close_silently(fd: OwnedFd) {
    let Some(engine) = per_core::current().filter(|_| waits_for_a_server(fd.as_fd())) else {
        return drop(fd);
    };
    let sqe = op::fs::close(fd.as_raw_fd());
    // SAFETY: a close points at nothing.
    let submitted = unsafe { engine.ring().borrow_mut().submit_detached(sqe) };
    if submitted.is_ok() {
        // The ring owns the descriptor now.
        let _ = fd.into_raw_fd();
        engine.hand_over();
    }
}

/// Whether a close goes with others. Not where a thread of the kernel takes submissions: it lets go of the file, and of its lock, a little
/// after it has said so.
fn is_in_company(engine: &Engine) -> bool {
    let polled = || engine.ring().borrow().capabilities().has(Feature::SqPoll);
    engine.has_other_work() && !polled()
}

fn close_now(fd: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor was ours alone; it is closed whatever this returns, close(2).
    match unsafe { libc::close(fd.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the close of this file may wait for a server.
fn waits_for_a_server(fd: BorrowedFd<'_>) -> bool {
    let Some(device) = device_of(fd) else {
        return false;
    };
    let known = KNOWN.try_with(|known| {
        let mut known = known.borrow_mut();
        if let Some((_, answer)) = known.iter().find(|(known, _)| *known == device) {
            return *answer;
        }
        // A device that can be mounted elsewhere meanwhile is asked for again, some time.
        known.truncate(MOST_KNOWN - 1);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let answer = is_elsewhere(&mounts, device);
        known.insert(0, (device, answer));
        answer
    });
    known.unwrap_or(false)
}

/// Without asking a server.
fn device_of(fd: BorrowedFd<'_>) -> Option<Device> {
    // SAFETY: all zeroes is a valid value: numbers only.
    let mut answer: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor; the answer is writable.
    let outcome = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, 0, &raw mut answer) };
    (outcome == 0).then_some((answer.stx_dev_major, answer.stx_dev_minor))
}

/// A line is `36 35 0:52 / /mnt rw,noatime shared:1 - nfs4 server:/ rw`, with any number of words before the dash.
fn is_elsewhere(mounts: &str, (major, minor): Device) -> bool {
    let device = format!("{major}:{minor}");
    let mount = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some(&device));
    let types = mount.and_then(|line| line.split_once(" - "));
    let name = types.and_then(|(_, types)| types.split(' ').next());
    name.is_some_and(|name| ELSEWHERE.contains(&name) || name.starts_with("fuse"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_known_by_its_type() {
        let mounts = "\
            22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            31 27 0:41 / /home rw shared:1 master:2 - nfs4 server:/home rw\n\
            32 27 0:42 / /nfs rw - tmpfs nfs rw\n\
            33 27 0:43 / /mnt/ssh rw - fuse.sshfs me@there: rw\n\
            34 27 0:4 / /mnt/share rw - cifs //there/share rw\n\
            35 27 8:1 / / rw - ext4 /dev/sda1 rw\n\
            36 27 8:2 / /mnt/other rw - fuseblk /dev/sda2 rw\n";
        let elsewhere = [(0, 41), (0, 43), (0, 4), (8, 2)];
        for device in [
            (0, 21),
            (0, 41),
            (0, 42),
            (0, 43),
            (0, 4),
            (0, 44),
            (4, 1),
            (8, 1),
            (8, 2),
        ] {
            let expected = elsewhere.contains(&device);
            assert_eq!(is_elsewhere(mounts, device), expected, "{device:?}");
        }
    }

    #[test]
    fn files_of_this_machine_wait_for_none() {
        use std::os::fd::AsFd;
        for path in ["/proc/self/stat", "/dev/null", "/dev/shm"] {
            let file = fs::File::open(path).unwrap();
            assert!(!waits_for_a_server(file.as_fd()), "{path}");
        }
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(!waits_for_a_server(reader.as_fd()));
    }
}
