//! How a file is opened: std's `OpenOptions`, lowered to `IORING_OP_OPENAT`.

use super::names::with_lowered;
use super::{File, fifo};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Options and flags for opening a file. Compare [`std::fs::OpenOptions`]: the same rules and error kinds.
///
/// # Examples
///
/// ```
/// use coring::fs::OpenOptions;
/// use std::io::Write;
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let path = std::env::temp_dir().join(format!("coring-doc-{}", std::process::id()));
///     OpenOptions::new().write(true).create(true).truncate(true).open(&path)?.write_all(b"text")?;
///     std::fs::remove_file(path)
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    mode: u32,
    custom_flags: i32,
    direct: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! option {
    ($name:ident: $type:ty, $text:literal) => {
        #[doc = $text]
        pub fn $name(&mut self, $name: $type) -> &mut Self {
            self.$name = $name;
            self
        }
    };
}

impl OpenOptions {
    /// Nothing set; mode 0o666 for files that are created, less the umask.
    #[must_use]
    pub fn new() -> Self {
        Self {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            mode: 0o666,
            custom_flags: 0,
            direct: false,
        }
    }

    option!(read: bool, "For reading.");
    option!(write: bool, "For writing.");
    option!(append: bool, "For writing at the end, whatever the position.");
    option!(truncate: bool, "Empties a file that exists. Needs `write`.");
    option!(create: bool, "Creates a file that does not exist. Needs `write` or `append`.");
    option!(create_new: bool, "Creates the file, and fails if it exists. Needs `write` or `append`.");
    option!(mode: u32, "Permission bits of a file that is created, before the umask.");
    option!(custom_flags: i32, "More `O_*` flags. Those of the access mode are ignored. With `O_NONBLOCK` an open does not wait for \
        the other side of a FIFO; reads and writes park all the same.");
    option!(direct: bool, "Reads and writes around the page cache (`O_DIRECT`): buffers, offsets and lengths must be \
        aligned as [`File::direct_alignment`] says, for example with [`AlignedBuf`](super::AlignedBuf).");

    /// Opens the file.
    ///
    /// # Parks
    ///
    /// Yes. `O_CREAT` and `O_TRUNC` are done by a worker thread of the kernel (6 us), others inline if the path is
    /// cached. A FIFO is waited for until its other side is open, as with open(2), which is seen up to 10 ms late.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds, and no descriptor is left; or the
    /// file, if it was open by then.
    ///
    /// # Errors
    ///
    /// As open(2); `InvalidInput` for options that contradict each other and for a path with a NUL byte.
    ///
    /// # Source
    ///
    /// `IORING_OP_OPENAT`, Linux 5.6.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let flags = self.flags()?;
        let path = path.as_ref();
        let (fd, a_file) = with_lowered(path, |path| fifo::open(path, flags, self.mode))?;
        let plain = a_file && !path.as_os_str().as_bytes().starts_with(b"/dev/");
        Ok(File::opened(fd, flags, plain))
    }

    /// The flags of open(2), by std's rules.
    fn flags(&self) -> io::Result<libc::c_int> {
        let invalid = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        let access = match (self.read, self.write, self.append) {
            (true, false, false) => libc::O_RDONLY,
            (false, true, false) => libc::O_WRONLY,
            (true, true, false) => libc::O_RDWR,
            (false, _, true) => libc::O_WRONLY | libc::O_APPEND,
            (true, _, true) => libc::O_RDWR | libc::O_APPEND,
            (false, false, false) => {
                return invalid("a file is opened for read, write or append: choose one");
            }
        };
        if !self.write && !self.append && (self.truncate || self.create || self.create_new) {
            return invalid("to create or truncate a file it must be opened for write or append");
        }
        if self.append && self.truncate && !self.create_new {
            return invalid("a file that is opened for append cannot be truncated");
        }
        let creation = match (self.create, self.truncate, self.create_new) {
            (_, _, true) => libc::O_CREAT | libc::O_EXCL,
            (true, true, false) => libc::O_CREAT | libc::O_TRUNC,
            (true, false, false) => libc::O_CREAT,
            (false, true, false) => libc::O_TRUNC,
            (false, false, false) => 0,
        };
        let direct = if self.direct { libc::O_DIRECT } else { 0 };
        Ok(libc::O_CLOEXEC | access | creation | direct | (self.custom_flags & !libc::O_ACCMODE))
    }
}
