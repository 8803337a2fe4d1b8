//! Rings that outlive their process: a file in memory (tmpfs) that holds all rings, and what is needed to read them.
//!
//! ```text
//!   0          4096          4096 + 256 KiB
//!   | FileHead | dictionary  | ring 0: header, data | ring 1 | ...
//! ```
//!
//! The pages of a file in /dev/shm belong to the kernel, so they are there after SIGKILL, a panic, or an abort; the price on the hot path
//! is none (a store costs the same as into anonymous memory). A file on disk is refused: every now and then a store into it would wait for
//! writeback. What survives a kill does not survive the machine; for that there is [`SyncPolicy`](crate::SyncPolicy).
//!
//! The *dictionary* holds a description of every call site, appended when the site is first reached, before its first line. Each *ring header*
//! also says how large the ring is and who writes it. The file is locked while its process lives: who gets the lock may recover it.

#![expect(
    unsafe_code,
    reason = "writes into a mapped file; statfs(2), flock(2), posix_fallocate(3)"
)]

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use memmap2::MmapRaw;

use crate::callsite::{self, Callsite};
use crate::clock::{Line, Pair};
use crate::memory::{HEADER_BYTES, Label, Ring, lock};
use crate::record;

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"cor-ring");
pub(crate) const DICTIONARY_BYTES: usize = 256 * 1024;

/// The first page. All fields are words that are written whole.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct FileHead {
    magic: AtomicU64,
    process: AtomicU64,
    rings: AtomicU64,
    dictionary_used: AtomicU64,
    /// Which of the two clocks holds.
    clock: AtomicU64,
    /// Ticks, wall time, slope.
    clocks: [[AtomicU64; 3]; 2],
}

/// Behind [`Shared`](crate::ring::Shared) in a ring's header page: who writes the ring.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct RingHead {
    pub(crate) capacity: AtomicU64,
    /// 0: free. The rest is valid if it is not.
    id: AtomicU64,
    /// The core's index + 1, or 0.
    core: AtomicU64,
    name: [AtomicU64; 8],
}

/// Where the `RingHead` is in the header page.
pub(crate) const RING_HEAD_OFFSET: usize = 2048;

#[derive(Debug)]
struct CrashFile {
    path: PathBuf,
    map: Arc<MmapRaw>,
    /// Offsets and capacities of the rings; those in use hold a ring.
    slots: Vec<(usize, usize, Option<Arc<Ring>>)>,
    /// Keeps the lock.
    _file: fs::File,
}

static FILE: Mutex<Option<CrashFile>> = Mutex::new(None);
/// 1 while there is a file: spares call sites the lock.
static ACTIVE: AtomicU32 = AtomicU32::new(0);

/// How many rings of which size the file is to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slots {
    pub(crate) cores: usize,
    pub(crate) core_bytes: usize,
    pub(crate) threads: usize,
    pub(crate) thread_bytes: usize,
}

/// Opens a file left behind by a dead process, if there is one, and returns its bytes.
///
/// # Errors
/// If its process still lives.
pub(crate) fn take_over(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(path, error)),
    };
    lock_file(&file).map_err(|_| {
        let message = format!(
            "{}: a running process logs there: give each process its own crash ring",
            path.display()
        );
        io::Error::new(io::ErrorKind::AddrInUse, message)
    })?;
    fs::read(path).map(Some)
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn lock_file(file: &fs::File) -> io::Result<()> {
    // SAFETY: a call on an open descriptor.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn refuse_disk(file: &fs::File, path: &Path) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid statfs.
    let mut info: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: an open descriptor, and a statfs to fill in.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut info) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if info.f_type == libc::TMPFS_MAGIC {
        return Ok(());
    }
    let message = format!(
        "{}: not in memory: put the crash ring into /dev/shm; on a disk, log calls would wait for writeback",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Creates the file; rings made from here on live in it, as long as it has room.
pub(crate) fn create(path: &Path, wanted: Slots, clock: Line) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut slots = Vec::new();
    let mut end = HEADER_BYTES + DICTIONARY_BYTES;
    let sizes = [
        (wanted.cores, wanted.core_bytes),
        (wanted.threads, wanted.thread_bytes),
    ];
    for (count, bytes) in sizes {
        for _ in 0..count {
            slots.push((end, bytes, None));
            end += HEADER_BYTES + bytes;
        }
    }
    let _ = fs::remove_file(path);
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| named(path, error))?;
    lock_file(&file)?;
    let prepared = refuse_disk(&file, path).and_then(|()| {
        let length = libc::off_t::try_from(end).map_err(io::Error::other)?;
        // SAFETY: an open descriptor. A hole in a full tmpfs would be SIGBUS at a store; this makes it an error here.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    });
    if let Err(error) = prepared {
        let _ = fs::remove_file(path);
        let message = format!(
            "{error} (the crash ring {} needs {end} bytes)",
            path.display()
        );
        return Err(io::Error::new(error.kind(), message));
    }
    let map = Arc::new(memmap2::MmapOptions::new().populate().map_raw(&file)?);
    let head = file_head(&map);
    head.process
        .store(u64::from(std::process::id()), Ordering::Relaxed);
    head.rings.store(slots.len() as u64, Ordering::Relaxed);
    set_clock_in(head, clock);
    for (offset, capacity, _) in &slots {
        ring_head(&map, *offset)
            .capacity
            .store(*capacity as u64, Ordering::Relaxed);
    }
    // Release: a reader that sees the magic sees the rest; for our own process the lock orders everything anyway.
    head.magic.store(MAGIC, Ordering::Release);
    *lock(&FILE) = Some(CrashFile {
        path: path.to_owned(),
        map,
        slots,
        _file: file,
    });
    ACTIVE.store(1, Ordering::SeqCst);
    callsite::all().for_each(describe);
    Ok(())
}

fn file_head(map: &MmapRaw) -> &FileHead {
    // SAFETY: the first page of the mapping, page-aligned, atomics only, lives as long as the mapping.
    unsafe { &*map.as_mut_ptr().cast::<FileHead>() }
}

fn ring_head(map: &MmapRaw, offset: usize) -> &RingHead {
    assert!(offset + HEADER_BYTES <= map.len());
    // SAFETY: inside the mapping, as just asserted.
    let at = unsafe { map.as_mut_ptr().add(offset + RING_HEAD_OFFSET) };
    // SAFETY: 2048-aligned, atomics only, lives as long as the mapping.
    unsafe { &*at.cast::<RingHead>() }
}

/// A ring in the file, if there is one with a free slot of this size.
pub(crate) fn allot(capacity: usize, label: &Label) -> Option<Arc<Ring>> {
    let mut file = lock(&FILE);
    let file = file.as_mut()?;
    let map = file.map.clone();
    let slot = file
        .slots
        .iter_mut()
        .find(|(_, bytes, ring)| *bytes == capacity && ring.is_none())?;
    let head = ring_head(&map, slot.0);
    head.core.store(
        label.core.map_or(0, |core| u64::from(core) + 1),
        Ordering::Relaxed,
    );
    let mut name = [0; 64];
    let length = label.thread.floor_char_boundary(name.len());
    name[..length].copy_from_slice(&label.thread.as_bytes()[..length]);
    for (word, bytes) in head.name.iter().zip(name.chunks_exact(8)) {
        word.store(
            u64::from_le_bytes(bytes.try_into().expect("eight bytes")),
            Ordering::Relaxed,
        );
    }
    head.id.store(u64::from(label.id), Ordering::Release);
    let ring = Arc::new(Ring::at(map, slot.0, capacity, label.clone()));
    ring.shared().forget_drops();
    slot.2 = Some(ring.clone());
    Some(ring)
}

/// Makes a ring's slot free for another. The positions in it go on, so that records of the old owner are not taken for fresh ones.
pub(crate) fn give_back(ring: &Arc<Ring>) {
    if let Some(file) = lock(&FILE).as_mut()
        && let Some(slot) = file
            .slots
            .iter_mut()
            .find(|slot| slot.2.as_ref().is_some_and(|held| Arc::ptr_eq(held, ring)))
    {
        slot.2 = None;
        let head = ring_head(&file.map, slot.0);
        head.id.store(0, Ordering::Release);
    }
}

/// Appends the description of a call site to the dictionary. No lock in the common case that there is no file.
pub(crate) fn describe(site: &Callsite) {
    if ACTIVE.load(Ordering::SeqCst) == 0 {
        return;
    }
    let Some(map) = lock(&FILE).as_ref().map(|file| file.map.clone()) else {
        return;
    };
    let mut bytes = Vec::new();
    crate::format::push_site(&mut bytes, &crate::drain::describe(site));
    let head = file_head(&map);
    let at = head
        .dictionary_used
        .fetch_add(bytes.len() as u64, Ordering::Relaxed);
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    if at.saturating_add(bytes.len()) > DICTIONARY_BYTES {
        return; // Lines of this site will be recovered without their text; the dictionary holds some 2000 sites.
    }
    // SAFETY: inside the dictionary, as just checked.
    let target = unsafe { map.as_mut_ptr().add(HEADER_BYTES + at) };
    // First a skip record of that length: if we are killed half way, the reader can step over it.
    let skip = record::first_word(bytes.len() as u64, 0, 0, record::id::SKIP).to_le();
    // SAFETY: 8-aligned, as all records are.
    let first = unsafe { AtomicU64::from_ptr(target.cast()) };
    first.store(skip, Ordering::Release);
    // SAFETY: the first word stays as it is until the rest is there.
    let rest = unsafe { target.add(8) };
    // SAFETY: `fetch_add` gave these bytes to us alone.
    unsafe { rest.copy_from_nonoverlapping(bytes[8..].as_ptr(), bytes.len() - 8) };
    let word = u64::from_ne_bytes(bytes[..8].try_into().expect("eight bytes"));
    first.store(word, Ordering::Release);
}

/// Keeps the drain's clock in the file.
pub(crate) fn set_clock(line: Line) {
    if ACTIVE.load(Ordering::Relaxed) == 1
        && let Some(file) = lock(&FILE).as_ref()
    {
        set_clock_in(file_head(&file.map), line);
    }
}

fn set_clock_in(head: &FileHead, line: Line) {
    let next = 1 - head.clock.load(Ordering::Relaxed).min(1);
    let words = [line.from.ticks, line.from.wall_ns, line.slope];
    let clock = &head.clocks[usize::from(next == 1)];
    clock
        .iter()
        .zip(words)
        .for_each(|(word, value)| word.store(value, Ordering::Relaxed));
    head.clock.store(next, Ordering::Release);
}

/// After an orderly end there is nothing to recover: the name goes, rings in use keep their memory.
pub(crate) fn remove() {
    ACTIVE.store(0, Ordering::SeqCst);
    if let Some(file) = lock(&FILE).take() {
        let _ = fs::remove_file(&file.path);
    }
}

/// The name of the crash ring, for messages.
pub(crate) fn path() -> Option<PathBuf> {
    lock(&FILE).as_ref().map(|file| file.path.clone())
}

/// In a forked child: the file is the parent's.
pub(crate) fn forget_after_fork() {
    ACTIVE.store(0, Ordering::SeqCst);
    if let Some(file) = lock(&FILE).take() {
        Box::leak(Box::new(file));
    }
}

/// What the first page says, read from the bytes of a file.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) process: u64,
    pub(crate) rings: u64,
    pub(crate) clock: Line,
}

fn word(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset + 8)?;
    Some(u64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
}

impl Overview {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        use std::mem::offset_of;
        if word(bytes, offset_of!(FileHead, magic))? != MAGIC {
            return None;
        }
        let clock = usize::from(word(bytes, offset_of!(FileHead, clock))? == 1);
        let at = offset_of!(FileHead, clocks) + clock * 24;
        let from = Pair {
            ticks: word(bytes, at)?,
            wall_ns: word(bytes, at + 8)?,
        };
        Some(Self {
            process: word(bytes, offset_of!(FileHead, process))?,
            rings: word(bytes, offset_of!(FileHead, rings))?,
            clock: Line {
                from,
                slope: word(bytes, at + 16)?,
            },
        })
    }
}

/// What a ring's header page says, read from its bytes.
#[derive(Debug)]
pub(crate) struct RingOverview {
    pub(crate) capacity: u64,
    pub(crate) label: Option<Label>,
    pub(crate) head: u64,
    pub(crate) tail: u64,
}

impl RingOverview {
    pub(crate) fn read(page: &[u8]) -> Option<Self> {
        use crate::ring::Shared;
        use std::mem::offset_of;
        let at = |offset: usize| word(page, RING_HEAD_OFFSET + offset);
        let id = at(offset_of!(RingHead, id))?;
        let core = at(offset_of!(RingHead, core))?;
        let name = page
            .get(RING_HEAD_OFFSET + offset_of!(RingHead, name)..)?
            .get(..64)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let label = Label {
            id: u32::try_from(id).ok()?,
            core: core.checked_sub(1).map(u32::try_from).transpose().ok()?,
            thread: String::from_utf8_lossy(name).into_owned(),
        };
        Some(Self {
            capacity: at(offset_of!(RingHead, capacity))?,
            label: (id != 0).then_some(label),
            head: word(page, offset_of!(Shared, head))?,
            tail: word(page, offset_of!(Shared, tail))?,
        })
    }
}
