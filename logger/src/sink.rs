//! Where bytes go.
//!
//! A [`Sink`] is called on the drain's thread only, with whole lines in large blocks. It may fail: what it did not take is kept (within
//! a bound), offered again later, and lines that cannot be kept are counted. Nothing a sink does can reach a core.

mod datagram;
mod file;
mod memory;
mod stderr;

pub use datagram::{Datagram, Journal, Syslog};
pub use file::{File, FileOptions};
pub use memory::{Memory, MemoryLines};
pub use stderr::Stderr;
pub(crate) use stderr::write_without_blocking;

use std::io;

/// Takes formatted lines.
///
/// Implement it to send logs elsewhere. The runtime implements it over its ring; that is all this crate has to know of io_uring.
///
/// # Examples
/// ```
/// use coring_logger::{Logger, Sink, info};
/// use std::io;
/// use std::sync::mpsc;
///
/// struct Channel(mpsc::Sender<Vec<u8>>);
/// impl Sink for Channel {
///     fn write(&mut self, block: &[u8]) -> io::Result<usize> {
///         self.0.send(block.to_vec()).map_err(io::Error::other)?;
///         Ok(block.len())
///     }
/// }
///
/// let (sender, receiver) = mpsc::channel();
/// let logger = Logger::builder().pattern("{message}").sink(Channel(sender)).start()?;
/// info!("hello");
/// logger.shutdown();
/// assert_eq!(receiver.iter().flatten().collect::<Vec<u8>>(), b"hello\n");
/// # Ok::<(), io::Error>(())
/// ```
pub trait Sink: Send {
    /// Takes bytes from the front of `block` and returns how many, as [`io::Write::write`] does. Must not block for long.
    ///
    /// # Errors
    /// Whatever keeps it from taking any byte. `WouldBlock` means "later" and is not reported.
    fn write(&mut self, block: &[u8]) -> io::Result<usize>;

    /// Called before each block, when no line is half written: the place to change files. Returns true if the next byte begins a new file.
    ///
    /// # Errors
    /// If there is no file to write to; the block is kept and offered again.
    fn begin_block(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// As `fsync(2)`.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Opens its file anew at the next block, as after SIGHUP.
    fn reopen(&mut self) {}

    /// Asked again and again while a block cannot be written: whether the place that it began in has gone, as a file does that is removed. The block is
    /// given up then, and what can be kept of it begins the next one. Not asked of who takes line by line.
    fn has_moved(&mut self) -> bool {
        false
    }

    /// Whether each call of [`Sink::write`] must be given exactly one line, as datagram sockets need.
    fn line_by_line(&self) -> bool {
        false
    }
}
