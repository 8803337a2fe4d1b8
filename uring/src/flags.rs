//! The word in shared memory in which the kernel says that an enter would be worth it.
//!
//! ```text
//!    IORING_SQ_TASKRUN      deferred completions wait to be run by an enter
//!    IORING_SQ_CQ_OVERFLOW  completions wait in kernel memory for room in the queue
//!    IORING_SQ_NEED_WAKEUP  the kernel thread that takes submissions (`SQPOLL`) has gone to sleep
//! ```
//!
//! `TASKRUN` can be up with nothing behind it. Another CPU queues work and then raises the flag; an enter of ours in
//! between runs the work and lowers the flag before it is raised. From then on it is up until more work happens to
//! come, and who goes on entering while it is up does so for ever. So an enter that brought nothing and leaves the
//! flag up is followed by lowering it ourselves, and by one more enter:
//!
//! ```text
//!    other CPU:  A  queue work       B  raise the flag
//!    this ring:  C  lower the flag   D  enter, which looks at the queue
//! ```
//!
//! B before C: then A is before D, and D runs the work whose flag we took. C before B: the flag is up, and the next
//! look sees it. Work is never there without a flag or an enter to come. A queues with a full barrier (`llist_add`),
//! and C is an Acquire that reads B, which orders A before D.
//!
//! `NEED_WAKEUP` and the queue's tail are a store-buffer pair: we store the tail and look at the flag, the kernel's thread
//! raises the flag and looks at the tail once more before it sleeps. With a full fence on both sides (the kernel's is in
//! `io_sq_thread`) at least one of the two sees the other: the thread finds the submission, or we find it asleep.
//!
//! The io-uring crate maps this word, too, but only lets it be read; hence a mapping of our own, of its page.

#![expect(unsafe_code, reason = "maps and reads memory shared with the kernel")]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use io_uring::{IoUring, Parameters};

const NEED_WAKEUP: u32 = 1 << 0;
const TASKRUN: u32 = 1 << 2;
const CQ_OVERFLOW: u32 = 1 << 1;

/// Enough of the ring to hold the word: it is within the first few cache lines.
const MAPPED_BYTES: usize = 4096;
/// `IORING_OFF_SQ_RING`: where a ring's mapping starts.
const RING_OFFSET: libc::off_t = 0;
/// Place of `sq_off.flags` in `struct io_uring_params`, in words.
const FLAGS_FIELD: usize = 14;

const _: () = assert!(
    size_of::<Parameters>() == 120,
    "the kernel's io_uring_params"
);

/// The mapped flag word of one ring.
#[derive(Debug)]
pub(crate) struct SqFlags {
    page: NonNull<libc::c_void>,
    offset: usize,
}

impl SqFlags {
    /// Maps the flags of `ring`, out of the reach of forked children.
    pub(crate) fn map(ring: &IoUring) -> io::Result<SqFlags> {
        // SAFETY: Parameters is the kernel's structure of 30 words, all of them initialised.
        let words = unsafe { std::mem::transmute_copy::<Parameters, [u32; 30]>(ring.params()) };
        let offset = words[FLAGS_FIELD] as usize;
        assert!(
            offset + size_of::<u32>() <= MAPPED_BYTES,
            "the kernel moved the flags to {offset}"
        );
        Ok(SqFlags {
            page: map_page(ring.as_raw_fd())?,
            offset,
        })
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: within the mapped page, as checked when it was mapped.
        let word = unsafe { self.page.byte_add(self.offset) }.cast::<AtomicU32>();
        // SAFETY: aligned by the kernel, mapped while self lives, and written by the kernel only atomically.
        unsafe { word.as_ref() }
    }

    /// Whether an enter would bring something, as far as the kernel says.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.word().load(Ordering::Relaxed) & (TASKRUN | CQ_OVERFLOW) != 0
    }

    /// Whether completions overflowed.
    pub(crate) fn overflowed(&self) -> bool {
        self.word().load(Ordering::Relaxed) & CQ_OVERFLOW != 0
    }

    /// Whether the kernel says that there are deferred completions.
    #[inline]
    pub(crate) fn taskrun(&self) -> bool {
        self.word().load(Ordering::Relaxed) & TASKRUN != 0
    }

    /// Whether the kernel's thread sleeps and has to be woken for what was queued before this call.
    pub(crate) fn needs_wakeup(&self) -> bool {
        // The tail of the queue is stored before the flag is read: see the head of this file.
        fence(Ordering::SeqCst);
        self.word().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    /// Lowers the flag of the deferred completions. An enter has to follow.
    #[cold]
    pub(crate) fn lower_taskrun(&self) {
        // Acquire: see C in the head of this file.
        self.word().fetch_and(!TASKRUN, Ordering::Acquire);
    }
}

fn map_page(ring: RawFd) -> io::Result<NonNull<libc::c_void>> {
    let (access, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_POPULATE,
    );
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            MAPPED_BYTES,
            access,
            kind,
            ring,
            RING_OFFSET,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page just mapped.
    unsafe { libc::madvise(page, MAPPED_BYTES, libc::MADV_DONTFORK) };
    Ok(NonNull::new(page).expect("mmap never maps the null page of its own accord"))
}

impl Drop for SqFlags {
    fn drop(&mut self) {
        // SAFETY: mapped by `map_page`, and no reference into it outlives self.
        unsafe { libc::munmap(self.page.as_ptr(), MAPPED_BYTES) };
    }
}
