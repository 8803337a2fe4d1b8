//! The process's own input and output, without holding up a core.
//!
//! Unbuffered, and without std's locks: wrap them in `BufReader` or `BufWriter`. What std's `println!` has buffered
//! is not known here.

use super::stream::{readable, writable};
use std::os::fd::{AsFd, BorrowedFd};

macro_rules! standard {
    ($(#[$doc:meta])* $type:ident, $make:ident, $theirs:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $type(BorrowedFd<'static>);

        $(#[$doc])*
        #[must_use]
        #[expect(unsafe_code, reason = "the standard descriptors are taken to be open, as std does")]
        pub fn $make() -> $type {
            // SAFETY: std's runtime opens /dev/null in the place of a standard descriptor that is closed at start.
            $type(unsafe { BorrowedFd::borrow_raw($theirs) })
        }

        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0
            }
        }
    };
}

standard!(
    /// Standard input.
    Stdin,
    stdin,
    libc::STDIN_FILENO
);
standard!(
    /// Standard output.
    Stdout,
    stdout,
    libc::STDOUT_FILENO
);
standard!(
    /// Standard error.
    Stderr,
    stderr,
    libc::STDERR_FILENO
);

readable!(Stdin);
writable!(Stdout);
writable!(Stderr);
