//! Whether a socket's descriptor blocks: what its owner has chosen, and what sending a file needs meanwhile.

use socket2::SockRef;
use std::io;

/// Whether a socket's descriptor blocks, which all its handles share. Sending files borrows that: the first one that begins
/// sets `O_NONBLOCK`, the last one that ends puts back what the owner has chosen.
#[derive(Debug, Default)]
pub(super) struct Mode {
    /// Calls that need the descriptor non-blocking now.
    users: usize,
    /// What it shall be when there is none.
    chosen: bool,
}

impl Mode {
    /// The owner's choice; while a file is being sent it comes into force afterwards.
    pub(super) fn choose(&mut self, socket: SockRef<'_>, nonblocking: bool) -> io::Result<()> {
        if self.users == 0 {
            socket.set_nonblocking(nonblocking)?;
        }
        self.chosen = nonblocking;
        Ok(())
    }

    /// From now on it does not block.
    pub(super) fn enter(&mut self, socket: SockRef<'_>) -> io::Result<()> {
        if self.users == 0 {
            self.chosen = socket.nonblocking()?;
            socket.set_nonblocking(true)?;
        }
        self.users += 1;
        Ok(())
    }

    /// One call less that needs that.
    pub(super) fn leave(&mut self, socket: SockRef<'_>) {
        self.users -= 1;
        if self.users == 0 {
            // Cannot fail for a mode that it had before.
            let _ = socket.set_nonblocking(self.chosen);
        }
    }
}
