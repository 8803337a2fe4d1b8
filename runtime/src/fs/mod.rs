//! Files with std's names: [`File`], [`OpenOptions`], and the functions of `std::fs`.
//!
//! What has an opcode goes through the ring: open, read, write, sync, and everything that changes a name. What only
//! looks at an open file is a plain system call, since that does not wait. What has neither opcode nor a call that
//! never waits - reading directories, resolving paths - goes to the [offload pool](crate::blocking()).
//!
//! [`metadata()`] opens the path without access to the contents (`O_PATH`), through the ring, and asks the open
//! file. A statx through the ring would be one operation, but the kernel always does it on a worker thread, and its
//! answer cannot become a [`std::fs::Metadata`].

mod aligned;
mod cached;
mod closing;
mod directory;
mod fifo;
mod file;
mod fixed;
mod lock;
mod mmap;
mod names;
mod open_options;
mod opening;
mod pool;
mod position;
mod space;
mod whole;

pub use aligned::AlignedBuf;
pub use directory::{DirBuilder, DirEntry, ReadDir, read_dir};
pub use file::File;
pub use fixed::FixedBuf;
pub use mmap::Mmap;
pub use names::{
    create_dir, create_dir_all, exists, hard_link, metadata, remove_dir, remove_file, rename,
    symlink, symlink_metadata,
};
pub use open_options::OpenOptions;
pub(crate) use opening::Openings;
pub use pool::{canonicalize, chown, copy, lchown, read_link, remove_dir_all, set_permissions};
pub use space::{Advice, DirectAlignment};
pub use std::fs::{FileTimes, FileType, Metadata, Permissions, TryLockError};
pub use whole::{read, read_to_string, write};
