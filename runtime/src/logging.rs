//! Logging on a runtime: lines know their coroutine, waiting parks, files are written through a ring.
//!
//! The logger itself is [`coring::logger`](crate::logger), a leaf that knows no coroutine and no ring. This file is
//! what connects them: [`builder`] presets the hooks, each core registers a byte ring of its own (per_core/mod.rs)
//! and publishes it at the end of a turn, and [`RingFile`] is a sink that writes through io_uring.
//!
//! ```text
//!   core 0: info!(..) -> byte ring --+
//!   core 1: info!(..) -> byte ring --+--> drain's thread --> RingFile: its own small io_uring --> file
//!   threads ------------ byte ring --+
//! ```

use coring_coro as coro;
use coring_logger::{Builder, ContextId, ContextWord, Hooks, Logger, Sink};
use coring_uring::{Ring, SetupOptions, Token, Wait, op};
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A logger's builder that knows coroutines: lines carry the coroutine's number and name, `flush` and a full ring
/// park the coroutine and not the core.
///
/// Start it before the runtime, so that its limits hold for the cores' rings.
///
/// # Examples
///
/// ```
/// use coring::logger::info;
///
/// let (builder, lines) = coring::logging::builder().pattern("{message}").memory();
/// let logger = builder.start()?;
/// coring::Runtime::builder().cores(1).build()?.run(|| info!("from core {}", 0));
/// logger.flush()?;
/// assert_eq!(lines.text(), "from core 0\n");
/// logger.shutdown();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn builder() -> Builder {
    Logger::builder().hooks(hooks())
}

/// The hooks that [`builder`] presets, for a builder of one's own.
#[must_use]
pub fn hooks() -> Hooks {
    Hooks {
        context_id: CONTEXT_ID,
        context_name,
        pause,
    }
}

/// Read from where the scheduler keeps it: a log line makes no call for it.
#[expect(unsafe_code, reason = "vouches for what coro says of its word")]
// SAFETY: `current_id_word` gives a word of the calling thread that may be read until the thread ends, and is what `current_id` reads.
const CONTEXT_ID: ContextId = unsafe { ContextId::in_memory(context_id, context_word) };

fn context_word() -> ContextWord {
    let (word, offset) = coro::current_id_word();
    ContextWord::new(word, u32::try_from(offset).expect("a block is small"))
}

fn context_id() -> u64 {
    coro::current_id().unwrap_or(0)
}

fn context_name(_id: u64, take: &mut dyn FnMut(&str)) {
    if let Some(coroutine) = coro::try_current()
        && let Some(name) = coroutine.name()
    {
        take(name);
    }
}

/// Lets the drain catch up. A cancelled coroutine waits too: its last lines are worth the same.
fn pause(duration: Duration) -> bool {
    let may_wait = coro::current_id().is_some() && !std::thread::panicking();
    if may_wait {
        coro::shield(|| coro::sleep(duration));
    }
    may_wait
}

thread_local! {
    /// The ring of a thread that drains: opened with its first write. `None` inside when io_uring is refused.
    static RING: RefCell<Option<Option<Ring>>> = const { RefCell::new(None) };
}

/// A log file written through io_uring, so that a slow disk holds up nothing but the drain.
///
/// Appends; opens the path again after [`Logger::reopen`] (SIGHUP, logrotate). Where io_uring is refused it writes
/// with write(2). For rotation and retention use the logger's own file sink.
///
/// # Examples
///
/// ```
/// use coring::logger::info;
/// use coring::logging::{RingFile, builder};
///
/// # fn main() -> std::io::Result<()> {
/// let path = std::env::temp_dir().join(format!("coring-log-{}", std::process::id()));
/// let logger = builder().pattern("{message}").sink(RingFile::open(&path)?).start()?;
/// info!("through a ring");
/// logger.shutdown();
/// assert_eq!(std::fs::read_to_string(&path)?, "through a ring\n");
/// # std::fs::remove_file(path)
/// # }
/// ```
#[derive(Debug)]
pub struct RingFile {
    path: PathBuf,
    file: File,
    reopen: bool,
}

impl RingFile {
    /// Opens a file to append to, created if it is not there.
    ///
    /// # Errors
    ///
    /// As open(2).
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_path_buf();
        Ok(Self {
            file: append_to(&path)?,
            path,
            reopen: false,
        })
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl Sink for RingFile {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        RING.with_borrow_mut(
            |ring| match ring.get_or_insert_with(|| Ring::open(&small()).ok()) {
                Some(ring) => write_through(ring, &self.file, block),
                None => self.file.write(block),
            },
        )
    }

    fn begin_block(&mut self) -> io::Result<bool> {
        let reopened = std::mem::take(&mut self.reopen);
        if reopened {
            self.file = append_to(&self.path)?;
        }
        Ok(reopened)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn reopen(&mut self) {
        self.reopen = true;
    }
}

/// One block at a time: the smallest ring there is.
fn small() -> SetupOptions {
    SetupOptions {
        sq_entries: 8,
        cq_entries: 16,
        max_operations: 8,
        ..SetupOptions::default()
    }
}

/// Writes at the file's end (it is open for append) and waits for the completion.
#[expect(
    unsafe_code,
    reason = "lends the block to the kernel until the operation is done"
)]
fn write_through(ring: &mut Ring, file: &File, block: &[u8]) -> io::Result<usize> {
    let sqe = op::fs::write(file.as_raw_fd(), block.as_ptr(), block.len(), u64::MAX);
    // SAFETY: `block` is borrowed, and the loop below ends only when the token came back, or with the process.
    let op = unsafe { ring.submit(sqe, Token::from_number(NonZeroUsize::MIN)) }?;
    loop {
        if let Err(error) = ring.turn(Wait::Until(None), &mut |_token| {}) {
            crate::report::fatal(format_args!("the log's ring cannot be entered: {error}"));
        }
        if let Some(completion) = ring.take(op) {
            return completion.into_result().map(|written| written as usize);
        }
    }
}
