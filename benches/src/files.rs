//! Suite `file`, seen from inside a subject: what to read or write next, whether it was right, how fast it went.
//!
//! ```text
//! Reads::begin(job) --task(n)--> Blocks: for block in ... { read at block.offset(); block.check(bytes) }
//! Opens::begin(job) --task(n)--> Files:  for file in ... { open, read, close file.path(); file.check(bytes) }
//! Writes::begin(job) --pass()--> a pass: for index in ... { write writes.stamp(...) } sync
//!                    finish()  -> what was counted goes to the harness
//! ```
//!
//! Iterators, so that a loop over them fits a coroutine, a future and a thread. What is read was written by
//! [`prepare`]: each word says which block it is in, and where. Every read is checked at both ends, the whole file
//! before the clock starts.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use fastrand::Rng;

use crate::subject::{Job, Skip};
use crate::sys;
use tally::Tally;

mod tally;

/// Bytes of one read, and of one small file.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Bytes of one write.
pub(crate) const WRITE_BYTES: usize = 128 * 1024;
/// Blocks of the file that stays in the page cache: 256 MiB.
const CACHED_BLOCKS: u64 = 64 * 1024;
/// Blocks of the file that is read past the page cache: 512 MiB.
const DIRECT_BLOCKS: u64 = 128 * 1024;
/// Small files.
const FILES: u64 = 20_000;
/// Writes between two syncs: 32 MiB.
const WRITES_A_PASS: u64 = 256;

/// Makes what is missing. It stays for the next run.
pub(crate) fn prepare() -> io::Result<()> {
    fs::create_dir_all(scratch()?)?;
    write_blocks(&large_file(false)?, 0, CACHED_BLOCKS)?;
    write_blocks(&large_file(true)?, 0, DIRECT_BLOCKS)?;
    fs::create_dir_all(scratch()?.join("small"))?;
    for (file, path) in (0..).zip(small_files()?) {
        write_blocks(&path, file, 1)?;
    }
    Ok(())
}

/// Beside the binary: not in a directory that may be in memory.
fn scratch() -> io::Result<PathBuf> {
    let binary = std::env::current_exe()?;
    Ok(binary.with_file_name("coring-bench-files"))
}

/// The file for reads through the page cache, or past it.
pub(crate) fn large_file(direct: bool) -> io::Result<PathBuf> {
    let name = if direct { "direct" } else { "cached" };
    Ok(scratch()?.join(name))
}

/// How many blocks it has.
fn large_file_blocks(direct: bool) -> u64 {
    if direct { DIRECT_BLOCKS } else { CACHED_BLOCKS }
}

fn small_files() -> io::Result<impl Iterator<Item = PathBuf>> {
    let folder = scratch()?.join("small");
    Ok((0..FILES).map(move |file| folder.join(file.to_string())))
}

/// Writes a file of stamped blocks, counted from `first`, unless one of its length is there.
fn write_blocks(path: &PathBuf, first: u64, blocks: u64) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|it| it.len() == blocks * BLOCK_BYTES as u64) {
        return Ok(());
    }
    let mut file = io::BufWriter::with_capacity(1 << 20, File::create(path)?);
    for block in first..first + blocks {
        file.write_all(&stamped(block))?;
    }
    file.into_inner()?.sync_all()
}

/// A block that says in every word where it is from.
fn stamped(block: u64) -> Vec<u8> {
    let words = BLOCK_BYTES as u64 / 8;
    (0..words)
        .flat_map(|word| stamp(block, word).to_le_bytes())
        .collect()
}

fn stamp(block: u64, word: u64) -> u64 {
    // An odd factor: no two blocks have the same stamp.
    block.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word
}

/// Panics unless these are the bytes of this block. Looks at both ends.
#[inline]
fn check(block: u64, bytes: &[u8]) {
    assert_eq!(bytes.len(), BLOCK_BYTES, "a read was short");
    let word = |at: usize| {
        let bytes = bytes[at..at + 8].try_into().expect("a word is eight bytes");
        u64::from_le_bytes(bytes)
    };
    let last = BLOCK_BYTES - 8;
    assert!(
        word(0) == stamp(block, 0) && word(last) == stamp(block, last as u64 / 8),
        "a read gave the bytes of another block"
    );
}

/// Random reads of one file by any number of tasks.
#[derive(Debug)]
pub(crate) struct Reads {
    tally: Tally,
    blocks: u64,
}

impl Reads {
    /// Checks the file, and has it in the page cache or not at all.
    pub(crate) fn begin(job: &Job, direct: bool) -> io::Result<Arc<Reads>> {
        let blocks = large_file_blocks(direct);
        let file = File::open(large_file(direct)?)?;
        if direct {
            sys::drop_from_page_cache(&file)?;
        } else {
            check_all(&file, blocks)?;
        }
        Ok(Arc::new(Reads {
            tally: Tally::begin(job),
            blocks,
        }))
    }

    /// The reads of task number `task`.
    pub(crate) fn task(self: &Arc<Reads>, task: usize) -> Blocks {
        Blocks {
            reads: Arc::clone(self),
            random: Rng::with_seed(task as u64),
        }
    }

    /// Tells the harness, once all tasks have ended.
    pub(crate) fn finish(&self) -> Result<(), Skip> {
        self.tally.finish(1.0)
    }
}

fn check_all(file: &File, blocks: u64) -> io::Result<()> {
    let mut reader = io::BufReader::with_capacity(1 << 20, file);
    let mut bytes = [0; BLOCK_BYTES];
    for block in 0..blocks {
        reader.read_exact(&mut bytes)?;
        let words = (0..).zip(bytes.chunks_exact(8));
        if { words }.any(|(word, bytes)| bytes != stamp(block, word).to_le_bytes()) {
            let complaint = "the file to read is not what was written: delete coring-bench-files";
            return Err(io::Error::other(complaint));
        }
    }
    Ok(())
}

/// The reads of one task.
#[derive(Debug)]
pub(crate) struct Blocks {
    reads: Arc<Reads>,
    random: Rng,
}

/// A block to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block(u64);

impl Iterator for Blocks {
    type Item = Block;

    #[inline]
    fn next(&mut self) -> Option<Block> {
        let go_on = self.reads.tally.count(1);
        go_on.then(|| Block(self.random.u64(0..self.reads.blocks)))
    }
}

impl Block {
    /// Where it begins in the file.
    pub(crate) fn offset(self) -> u64 {
        self.0 * BLOCK_BYTES as u64
    }

    /// Panics unless these are its bytes.
    #[inline]
    pub(crate) fn check(self, bytes: &[u8]) {
        check(self.0, bytes);
    }
}

/// Small files that are opened, read and closed by any number of tasks.
#[derive(Debug)]
pub(crate) struct Opens {
    tally: Tally,
    paths: Vec<PathBuf>,
    tasks: usize,
}

impl Opens {
    /// For so many tasks. Reads every file, so that all are known to the kernel.
    pub(crate) fn begin(job: &Job, tasks: usize) -> io::Result<Arc<Opens>> {
        let paths: Vec<PathBuf> = small_files()?.collect();
        for (file, path) in (0..).zip(&paths) {
            check(file, &fs::read(path)?);
        }
        Ok(Arc::new(Opens {
            tally: Tally::begin(job),
            paths,
            tasks,
        }))
    }

    /// The paths of all small files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.paths.iter()
    }

    /// The path of a small file.
    pub(crate) fn path(&self, file: SmallFile) -> &PathBuf {
        &self.paths[file.0]
    }

    /// The files of task number `task`: every task has its own.
    pub(crate) fn task(self: &Arc<Opens>, task: usize) -> SmallFiles {
        SmallFiles {
            opens: Arc::clone(self),
            next: task,
        }
    }

    /// Tells the harness, once all tasks have ended.
    pub(crate) fn finish(&self) -> Result<(), Skip> {
        self.tally.finish(1.0)
    }
}

/// The files of one task.
#[derive(Debug)]
pub(crate) struct SmallFiles {
    opens: Arc<Opens>,
    next: usize,
}

/// A file to open, read and close.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SmallFile(usize);

impl Iterator for SmallFiles {
    type Item = SmallFile;

    #[inline]
    fn next(&mut self) -> Option<SmallFile> {
        let file = self.next;
        self.next = (file + self.opens.tasks) % self.opens.paths.len();
        self.opens.tally.count(1).then_some(SmallFile(file))
    }
}

impl SmallFile {
    /// Its place among all paths.
    pub(crate) fn index(self) -> usize {
        self.0
    }

    /// Panics unless these are its bytes.
    #[inline]
    pub(crate) fn check(self, bytes: &[u8]) {
        check(self.0 as u64, bytes);
    }
}

/// A file that is written from its beginning to its end, and synced, again and again.
#[derive(Debug)]
pub(crate) struct Writes {
    tally: Tally,
    path: PathBuf,
    pass: u64,
}

impl Writes {
    /// A file of its full length, so that passes differ in nothing.
    pub(crate) fn begin(job: &Job) -> io::Result<Writes> {
        sys::map_allocations_from(64 * 1024);
        let path = scratch()?.join("written");
        let mut file = File::create(&path)?;
        for _ in 0..WRITES_A_PASS {
            file.write_all(&vec![0; WRITE_BYTES])?;
        }
        file.sync_all()?;
        Ok(Writes {
            tally: Tally::begin(job),
            path,
            pass: 0,
        })
    }

    /// The file, which exists.
    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Whether there is time for another pass, after which the file has to be synced.
    pub(crate) fn pass(&mut self) -> bool {
        let before = if self.pass == 0 { 0 } else { WRITES_A_PASS };
        self.pass += 1;
        self.tally.count(before)
    }

    /// The indices of the writes of a pass.
    pub(crate) fn writes(&self) -> std::ops::Range<u64> {
        0..WRITES_A_PASS
    }

    /// Makes `bytes` what write number `index` of this pass has to write, and says where.
    pub(crate) fn stamp(&self, index: u64, bytes: &mut [u8]) -> u64 {
        let stamp = stamp(self.pass, index).to_le_bytes();
        bytes[..8].copy_from_slice(&stamp);
        bytes[WRITE_BYTES - 8..].copy_from_slice(&stamp);
        index * WRITE_BYTES as u64
    }

    /// Checks the file, and tells the harness.
    pub(crate) fn finish(&self) -> Result<(), Skip> {
        let file = File::open(&self.path)?;
        // The pass for which there was no time is not in it.
        let last_pass = self.pass - 1;
        for index in self.writes() {
            let mut word = [0; 8];
            for at in [0, WRITE_BYTES as u64 - 8] {
                file.read_exact_at(&mut word, index * WRITE_BYTES as u64 + at)?;
                let expected = stamp(last_pass, index);
                assert_eq!(u64::from_le_bytes(word), expected, "a write is not there");
            }
        }
        self.tally.finish(WRITE_BYTES as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::{check, stamped};

    /// Goal: a block's own bytes pass, those of another block do not.
    #[test]
    fn blocks_are_told_apart() {
        check(7, &stamped(7));
        let wrong = std::panic::catch_unwind(|| check(7, &stamped(8)));
        assert!(wrong.is_err());
        let short = std::panic::catch_unwind(|| check(7, &stamped(7)[..100]));
        assert!(short.is_err());
    }
}
