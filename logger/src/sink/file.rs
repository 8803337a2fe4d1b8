//! A log file: appended to, rotated by size and by time, old ones removed, opened anew when it was moved away.
//!
//! ```text
//!   server.log                        the current file always has this name
//!   server.log.20261120T185846.000    renamed when full or when its time was over; names sort by age
//!   server.log.20261119T000000.000.zst       compressed, which a thread of its own does
//!   server.log.20261120T000000.000.zst.part  being compressed; the plain file is there until it is done
//! ```
//!
//! All of it happens at the beginning of a block, on the drain's thread: no line is ever split between files, and a file may be
//! longer than its limit by less than one block. Once a second the sink checks that the name still leads to the open
//! file, so `mv` and `logrotate` need no signal (and [`Logger::reopen`](crate::Logger::reopen) serves those that send one).

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::sink::Sink;
#[cfg(feature = "zstd")]
use pack::Packer;

#[cfg(feature = "zstd")]
mod pack;

/// How often the name is compared with the open file.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// What a log file may grow to, and what is kept of old ones. Without any limit there is one file that grows.
///
/// # Examples
/// ```
/// use coring_logger::FileOptions;
/// use std::time::Duration;
/// let options = FileOptions::new("/var/log/server.log")
///     .rotate_bytes(100 << 20)
///     .rotate_every(Duration::from_secs(24 * 3600))
///     .keep_files(14)
///     .keep_bytes(1 << 30);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct FileOptions {
    path: PathBuf,
    rotate_bytes: Option<u64>,
    rotate_every: Option<Duration>,
    keep_files: Option<usize>,
    keep_age: Option<Duration>,
    keep_bytes: Option<u64>,
    #[cfg(feature = "zstd")]
    compress: bool,
}

impl FileOptions {
    /// A file at `path`; missing directories are made.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            rotate_bytes: None,
            rotate_every: None,
            keep_files: None,
            keep_age: None,
            keep_bytes: None,
            #[cfg(feature = "zstd")]
            compress: false,
        }
    }

    /// Begins a new file when the current one has so many bytes (or up to one block of 256 KiB more).
    #[must_use]
    pub fn rotate_bytes(mut self, bytes: u64) -> Self {
        self.rotate_bytes = Some(bytes);
        self
    }

    /// Begins a new file at every multiple of `interval` since 1970 (UTC): a day's files begin at midnight.
    #[must_use]
    pub fn rotate_every(mut self, interval: Duration) -> Self {
        self.rotate_every = Some(interval);
        self
    }

    /// Keeps so many rotated files.
    #[must_use]
    pub fn keep_files(mut self, count: usize) -> Self {
        self.keep_files = Some(count);
        self
    }

    /// Removes rotated files last written longer ago than this.
    #[must_use]
    pub fn keep_age(mut self, age: Duration) -> Self {
        self.keep_age = Some(age);
        self
    }

    /// Keeps so many bytes of rotated files.
    #[must_use]
    pub fn keep_bytes(mut self, bytes: u64) -> Self {
        self.keep_bytes = Some(bytes);
        self
    }

    /// Compresses rotated files with zstd, one after the other on a thread of their own; their names end in `.zst`. The plain file
    /// stays until the other is complete: what was interrupted, by a crash too, is done again by the next logger of this file.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn compress(mut self, on: bool) -> Self {
        self.compress = on;
        self
    }
}

impl<P: Into<PathBuf>> From<P> for FileOptions {
    fn from(path: P) -> Self {
        Self::new(path)
    }
}

/// Writes to a file with write(2).
#[derive(Debug)]
pub struct File {
    options: FileOptions,
    open: Option<Open>,
    reopen: bool,
    #[cfg(feature = "zstd")]
    packer: Option<Packer>,
    /// What an earlier process has left to be compressed is being done.
    #[cfg(feature = "zstd")]
    resumed: bool,
}

#[derive(Debug)]
struct Open {
    file: fs::File,
    bytes: u64,
    period: u64,
    checked: Instant,
}

impl File {
    /// A sink for the file that `options` describe. It is opened at the first line.
    pub fn new(options: impl Into<FileOptions>) -> Self {
        Self {
            options: options.into(),
            open: None,
            reopen: false,
            #[cfg(feature = "zstd")]
            packer: None,
            #[cfg(feature = "zstd")]
            resumed: false,
        }
    }

    /// Which interval of `rotate_every` a time lies in.
    fn period(&self, time: SystemTime) -> u64 {
        let Some(interval) = self.options.rotate_every else {
            return 0;
        };
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// Whether it has been opened just now.
    fn ensure_open(&mut self) -> io::Result<bool> {
        let closed = self.open.is_none();
        if closed {
            self.open = Some(self.open()?);
        }
        Ok(closed)
    }

    fn open(&self) -> io::Result<Open> {
        let path = &self.options.path;
        let try_open = || fs::OpenOptions::new().create(true).append(true).open(path);
        let file = match try_open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
                try_open()
            }
            other => other,
        }
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        let metadata = file.metadata()?;
        let written = if metadata.len() == 0 {
            SystemTime::now()
        } else {
            metadata.modified()?
        };
        Ok(Open {
            file,
            bytes: metadata.len(),
            period: self.period(written),
            checked: Instant::now(),
        })
    }

    /// Whether the name still leads to the open file; asked once a second.
    fn was_moved(&mut self) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        if open.checked.elapsed() < CHECK_EVERY {
            return false;
        }
        open.checked = Instant::now();
        match (open.file.metadata(), fs::metadata(&self.options.path)) {
            (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) != (named.dev(), named.ino()),
            (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    fn is_due(&self) -> bool {
        let Some(open) = &self.open else { return false };
        let too_large = self
            .options
            .rotate_bytes
            .is_some_and(|limit| open.bytes >= limit);
        let too_old =
            self.options.rotate_every.is_some() && self.period(SystemTime::now()) != open.period;
        open.bytes > 0 && (too_large || too_old)
    }

    /// Renames the current file and removes what is over the limits.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        let aside = self.free_name();
        fs::rename(&self.options.path, &aside)?;
        self.retain();
        self.compress(vec![aside]);
        Ok(())
    }

    /// A name for the rotated file that no other has, and that sorts behind all older ones.
    fn free_name(&self) -> PathBuf {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let time: String =
            crate::format::timestamp(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
                .chars()
                .filter(|c| !"-:Z".contains(*c))
                .collect();
        let name = |count: u32| {
            let mut path = self.options.path.clone().into_os_string();
            path.push(if count == 0 {
                format!(".{time}")
            } else {
                format!(".{time}.{count}")
            });
            PathBuf::from(path)
        };
        (0..)
            .map(name)
            .find(|path| !path.exists())
            .expect("some name is free")
    }

    /// Rotated files, newest first.
    fn rotated(&self) -> Vec<Rotated> {
        let path = &self.options.path;
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let Some(name) = path.file_name() else {
            return Vec::new();
        };
        let prefix = format!("{}.", name.to_string_lossy());
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut files: Vec<Rotated> = Vec::new();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(key) = name.strip_prefix(&prefix).and_then(key_of) else {
                continue;
            };
            let Ok((length, modified)) = entry
                .metadata()
                .and_then(|it| Ok((it.len(), it.modified()?)))
            else {
                continue;
            };
            match files.iter_mut().find(|it| it.key == key) {
                Some(same) => {
                    same.paths.push(entry.path());
                    same.bytes += length;
                    same.modified = same.modified.max(modified);
                }
                None => files.push(Rotated {
                    key: key.to_owned(),
                    paths: vec![entry.path()],
                    bytes: length,
                    modified,
                }),
            }
        }
        files.sort_unstable_by(|a, b| b.key.cmp(&a.key));
        files
    }

    fn retain(&self) {
        let mut total = 0;
        for (index, file) in self.rotated().into_iter().enumerate() {
            total += file.bytes;
            let age = file.modified.elapsed().unwrap_or_default();
            let excess = self.options.keep_files.is_some_and(|limit| index >= limit)
                || self.options.keep_bytes.is_some_and(|limit| total > limit)
                || self.options.keep_age.is_some_and(|limit| age > limit);
            if excess {
                for path in file.paths {
                    // It may be gone already, or not ours to remove; the log goes on either way.
                    let _ = fs::remove_file(path);
                }
            }
        }
    }

    #[cfg(not(feature = "zstd"))]
    fn compress(&mut self, _files: Vec<PathBuf>) {}

    /// Compresses rotated files on a thread of their own: a gigabyte takes seconds, and the drain has lines to write.
    #[cfg(feature = "zstd")]
    fn compress(&mut self, files: Vec<PathBuf>) {
        if !self.options.compress || files.is_empty() {
            return;
        }
        if self.packer.is_none() {
            self.packer = Packer::start().ok();
        }
        if let Some(packer) = &self.packer {
            files.into_iter().for_each(|file| packer.pack(file));
        }
    }

    /// Compresses what a process that ended in the middle of it has left.
    #[cfg(feature = "zstd")]
    fn resume(&mut self) {
        if std::mem::replace(&mut self.resumed, true) {
            return;
        }
        let files = self.rotated().into_iter();
        let plain = files.filter_map(|it| it.paths.into_iter().find(|path| is_plain(path)));
        self.compress(plain.collect());
    }
}

/// A rotated file under one or more of its names: plain, compressed, being compressed.
struct Rotated {
    /// The time in its name.
    key: String,
    paths: Vec<PathBuf>,
    bytes: u64,
    /// When it was last written.
    modified: SystemTime,
}

const PACKED: &str = ".zst";
const PART: &str = ".part";

/// The time in the name of a rotated file, of which the log's own name has been taken off. `None` of any other name: what lies beside a log is not ours
/// to remove.
fn key_of(rest: &str) -> Option<&str> {
    let key = rest.strip_suffix(PART).unwrap_or(rest);
    let key = key.strip_suffix(PACKED).unwrap_or(key);
    let (day, rest) = key.split_at_checked(8)?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = rest.strip_prefix('T')?.split('.');
    let time = parts.next()?;
    let whole = digits(day) && time.len() == 6 && digits(time) && parts.next().is_some_and(digits);
    (whole && parts.all(digits)).then_some(key)
}

#[cfg(feature = "zstd")]
fn is_plain(path: &Path) -> bool {
    let name = path.to_string_lossy();
    !name.ends_with(PACKED) && !name.ends_with(PART)
}

impl Sink for File {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        let open = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let written = open.file.write(block)?;
        open.bytes += written as u64;
        Ok(written)
    }

    fn begin_block(&mut self) -> io::Result<bool> {
        if self.has_moved() {
            (self.open, self.reopen) = (None, false);
        }
        let mut new = self.ensure_open()?;
        #[cfg(feature = "zstd")]
        self.resume();
        if self.is_due() {
            // If the name cannot be changed the file goes on growing: better than losing lines.
            let _ = self.rotate();
            new |= self.ensure_open()?;
        }
        Ok(new)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.open
            .as_ref()
            .map_or(Ok(()), |open| open.file.sync_data())
    }

    fn reopen(&mut self) {
        self.reopen = true;
    }

    fn has_moved(&mut self) -> bool {
        // It is asked by who gives a block up, and again by the next.
        self.reopen |= self.was_moved();
        self.reopen
    }
}
