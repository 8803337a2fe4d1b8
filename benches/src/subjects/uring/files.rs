//! The limit of `file`: one loop over the ring, as many operations under way as asked for.
//!
//! ```text
//! read:   completion of slot n -> check its buffer -> next block of slot n into the same buffer
//! open:   open, read, close linked, in one submission, over a direct descriptor (slot n of a table)
//! ```
//!
//! `user_data` is the slot, and the operation where there are several.
#![expect(unsafe_code, reason = "submitting to a ring is unsafe")]

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use io_uring::{cqueue, opcode, squeue, types};

use crate::files::{
    BLOCK_BYTES, Block, Blocks, Opens, Reads, SmallFile, SmallFiles, WRITE_BYTES, Writes,
};
use crate::ring::Ring;
use crate::subject::{Job, Skip};
use crate::subjects::threads;
use crate::sys;

/// One read under way: whose it is, what it reads, and where to.
struct Slot<I, T> {
    work: I,
    current: T,
    buffer: *mut u8,
}

impl<I, T> Slot<I, T> {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the buffer is this long and never freed; no operation is under way while this is asked.
        unsafe { std::slice::from_raw_parts(self.buffer, BLOCK_BYTES) }
    }
}

/// A slot for each task. The buffers are one piece, so that they can be registered as one.
fn slots<I: Iterator>(
    tasks: impl ExactSizeIterator<Item = I>,
) -> io::Result<Vec<Slot<I, I::Item>>> {
    let memory = sys::leak_pages(tasks.len() * BLOCK_BYTES)?;
    let slots = tasks.enumerate().map(|(index, mut work)| Slot {
        current: work.next().expect("the time is not over yet"),
        work,
        // SAFETY: `index` is below the number of tasks, for which there is room.
        buffer: unsafe { memory.add(index * BLOCK_BYTES) },
    });
    Ok(slots.collect())
}

/// A length as the kernel takes it.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("buffers here are small")
}

/// What was put into `user_data`.
fn index(data: u64) -> usize {
    usize::try_from(data).expect("it was an index")
}

/// Reads with plain descriptors and buffers, or with both registered.
pub(super) fn reads(job: &Job, depth: usize, direct: bool, fixed: bool) -> Result<(), Skip> {
    let reads = Reads::begin(job, direct)?;
    let file = threads::open_large(direct)?;
    let mut slots = slots((0..depth).map(|task| reads.task(task)))?;
    let mut ring = Ring::new()?;
    if fixed {
        let buffers = libc::iovec {
            iov_base: slots[0].buffer.cast(),
            iov_len: depth * BLOCK_BYTES,
        };
        // SAFETY: one mapping of this length, which is never freed.
        unsafe { ring.submitter().register_buffers(&[buffers]) }?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
    }
    let read = |slot: &Slot<Blocks, Block>| match fixed {
        true => read_fixed(slot),
        false => read_plain(file.as_raw_fd(), slot),
    };
    for (place, slot) in (0..).zip(&slots) {
        // SAFETY: the slot's buffer is never freed, and is looked at only when this has completed.
        unsafe { ring.push(&read(slot).user_data(place)) }?;
    }
    let mut completions = Vec::new();
    let mut under_way = depth;
    while under_way > 0 {
        ring.turn(&mut completions)?;
        for completion in completions.drain(..) {
            let count = succeeded(&completion)?;
            let data = completion.user_data();
            let slot = &mut slots[index(data)];
            slot.current.check(&slot.bytes()[..count]);
            match slot.work.next() {
                None => under_way -= 1,
                Some(block) => {
                    slot.current = block;
                    // SAFETY: as above; the slot has one operation at a time.
                    unsafe { ring.push(&read(slot).user_data(data)) }?;
                }
            }
        }
    }
    reads.finish()
}

fn read_plain(file: RawFd, slot: &Slot<Blocks, Block>) -> squeue::Entry {
    opcode::Read::new(types::Fd(file), slot.buffer, length(BLOCK_BYTES))
        .offset(slot.current.offset())
        .build()
}

fn read_fixed(slot: &Slot<Blocks, Block>) -> squeue::Entry {
    opcode::ReadFixed::new(types::Fixed(0), slot.buffer, length(BLOCK_BYTES), 0)
        .offset(slot.current.offset())
        .build()
}

/// What an operation brought, or its error.
fn succeeded(completion: &cqueue::Entry) -> io::Result<usize> {
    let result = completion.result();
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// `user_data` of an open chain: the slot times four, and which of the three.
const READ: u64 = 1;
const CLOSE: u64 = 2;

pub(super) fn opens(job: &Job, depth: usize) -> Result<(), Skip> {
    let opens = Opens::begin(job, depth)?;
    let mut slots = slots((0..depth).map(|task| opens.task(task)))?;
    let mut ring = Ring::new()?;
    let table = u32::try_from(depth).expect("depths are small");
    ring.submitter().register_files_sparse(table)?;
    let paths: Vec<CString> = (opens.paths())
        .map(|path| CString::new(path.as_os_str().as_bytes()).expect("no path has a zero in it"))
        .collect();
    for (place, slot) in (0..).zip(&slots) {
        push_chain(&mut ring, place, slot, &paths)?;
    }
    let mut completions = Vec::new();
    let mut under_way = depth;
    while under_way > 0 {
        ring.turn(&mut completions)?;
        for completion in completions.drain(..) {
            let count = succeeded(&completion)?;
            let data = completion.user_data();
            let (place, operation) = (data / 4, data % 4);
            let slot = &mut slots[index(place)];
            if operation == READ {
                slot.current.check(&slot.bytes()[..count]);
            }
            if operation == CLOSE {
                match slot.work.next() {
                    None => under_way -= 1,
                    Some(file) => {
                        slot.current = file;
                        push_chain(&mut ring, place, slot, &paths)?;
                    }
                }
            }
        }
    }
    opens.finish()
}

fn push_chain(
    ring: &mut Ring,
    place: u64,
    slot: &Slot<SmallFiles, SmallFile>,
    paths: &[CString],
) -> io::Result<()> {
    let data = place * 4;
    let place = u32::try_from(place).expect("the table is small");
    let target = types::DestinationSlot::try_from_slot_target(place).expect("the table is small");
    let path = paths[slot.current.index()].as_ptr();
    let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path)
        .flags(libc::O_RDONLY)
        .file_index(Some(target));
    let read = opcode::Read::new(types::Fixed(place), slot.buffer, length(BLOCK_BYTES));
    let close = opcode::Close::new(types::Fixed(place));
    let link = squeue::Flags::IO_LINK;
    let chain = [
        open.build().flags(link).user_data(data),
        read.build().flags(link).user_data(data + READ),
        close.build().user_data(data + CLOSE),
    ];
    for entry in &chain {
        // SAFETY: paths and buffers are there until the last chain has completed; a slot has one chain at a time.
        unsafe { ring.push(entry) }?;
    }
    Ok(())
}

pub(super) fn writes(job: &Job) -> Result<(), Skip> {
    let mut writes = Writes::begin(job)?;
    let file = OpenOptions::new().write(true).open(writes.path())?;
    let fd = types::Fd(file.as_raw_fd());
    let buffer = sys::leak_buffer(WRITE_BYTES)?;
    let mut ring = Ring::new()?;
    let mut completions = Vec::new();
    let mut wait_for = |entry: squeue::Entry| {
        // SAFETY: the buffer is never freed, and nobody touches it before this returns.
        unsafe { ring.push(&entry) }?;
        ring.turn(&mut completions)?;
        completions
            .drain(..)
            .map(|it| succeeded(&it))
            .sum::<io::Result<usize>>()
    };
    while writes.pass() {
        for index in writes.writes() {
            let offset = writes.stamp(index, buffer);
            let write = opcode::Write::new(fd, buffer.as_ptr(), length(WRITE_BYTES)).offset(offset);
            let written = wait_for(write.build())?;
            assert_eq!(written, WRITE_BYTES, "a regular file takes all");
        }
        wait_for(opcode::Fsync::new(fd).build())?;
    }
    writes.finish()
}
