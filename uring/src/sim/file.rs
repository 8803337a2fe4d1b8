//! Files with a memory of what a crash would leave of them.
//!
//! ```text
//!    write  -> contents, and a note in `pending`
//!    fsync  -> durable = contents, pending is forgotten
//!    crash  -> contents = durable + some of pending, each write whole, torn at a sector, or gone
//! ```
//!
//! Names are durable at once: a simulation of directories would be another of this size.

use std::cell::RefCell;
use std::rc::Rc;

use super::fault::Chance;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// One inode.
#[derive(Debug, Default)]
pub(super) struct File {
    contents: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Change {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if contents.len() < end {
                    contents.resize(end, 0);
                }
                contents[*offset..end].copy_from_slice(bytes);
            }
            Change::Length(length) => contents.resize(*length, 0),
        }
    }
}

impl File {
    pub(super) fn length(&self) -> usize {
        self.contents.len()
    }

    /// Up to `most` bytes from `offset`; none at the end.
    pub(super) fn read(&self, offset: usize, most: usize) -> Vec<u8> {
        self.contents
            .iter()
            .skip(offset)
            .take(most)
            .copied()
            .collect()
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.change(Change::Write {
            offset,
            bytes: bytes.to_vec(),
        });
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.change(Change::Length(length));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.contents);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.contents);
        self.pending.clear();
    }

    /// An fsync failed: what was pending is in an unknown state, and a later fsync will not say so again.
    pub(super) fn lose_pending(&mut self) {
        self.pending.clear();
    }

    /// The machine stops and comes back.
    pub(super) fn crash(&mut self, chance: &mut Chance) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                _ if chance.below(2) == 0 => {}
                Change::Write { offset, mut bytes } => {
                    // A torn write ends at a sector of the disk, not of the buffer.
                    if chance.below(2) == 0 {
                        let sectors = (offset + bytes.len()).div_ceil(SECTOR) - offset / SECTOR;
                        let end = (offset / SECTOR + chance.index(sectors + 1)) * SECTOR;
                        bytes.truncate(end.saturating_sub(offset));
                    }
                    Change::Write { offset, bytes }.apply(&mut self.durable);
                }
                length @ Change::Length(_) => length.apply(&mut self.durable),
            }
        }
        self.contents.clone_from(&self.durable);
    }
}

/// An open file: an inode and a position, shared by its descriptors.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: Rc<RefCell<File>>,
    pub(super) position: usize,
    pub(super) append: bool,
    pub(super) readable: bool,
    pub(super) writable: bool,
}
