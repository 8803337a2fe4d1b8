//! Pipes with std's names.

use super::stream::{owns_descriptor, readable, writable};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

/// The end of a pipe that is read. Compare [`std::io::PipeReader`].
#[derive(Debug)]
pub struct PipeReader {
    fd: OwnedFd,
}

/// The end of a pipe that is written. Compare [`std::io::PipeWriter`].
///
/// A write to a pipe that nobody reads fails with `BrokenPipe`, as long as the process ignores SIGPIPE, as Rust's
/// programs do.
#[derive(Debug)]
pub struct PipeWriter {
    fd: OwnedFd,
}

/// A pipe. Compare [`std::io::pipe`].
///
/// # Errors
///
/// As pipe(2).
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let (mut reader, mut writer) = coring::io::pipe()?;
///     let writing = coring::coro::spawn(move || writer.write_all(b"through a pipe"));
///     let mut text = String::new();
///     reader.read_to_string(&mut text)?;
///     assert_eq!(text, "through a pipe");
///     writing.join().unwrap()
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((reader.into(), writer.into()))
}

macro_rules! end {
    ($type:ident, $std:ty) => {
        owns_descriptor!($type, $std);

        impl From<$type> for $std {
            fn from(this: $type) -> Self {
                this.fd.into()
            }
        }

        impl From<$type> for std::process::Stdio {
            fn from(this: $type) -> Self {
                this.fd.into()
            }
        }

        impl $type {
            /// Another handle to the same end.
            ///
            /// # Errors
            ///
            /// As fcntl(2): no descriptor may be left.
            pub fn try_clone(&self) -> io::Result<Self> {
                let fd = self.fd.try_clone()?;
                Ok(Self { fd })
            }
        }
    };
}

end!(PipeReader, std::io::PipeReader);
end!(PipeWriter, std::io::PipeWriter);
readable!(PipeReader);
writable!(PipeWriter);
