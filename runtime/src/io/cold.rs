//! What a burst has left in the pool of receive buffers goes back to the kernel.
//!
//! A coroutine of the core, which is there only while the pool is larger than at first: every now and then it has the kernel take as many
//! buffers as were not needed since the last time, and takes them out of use. They are taken one by one, by reads of a pipe, so that
//! nobody waits for it long.
#![expect(unsafe_code, reason = "claims the buffer that a completion names")]

use super::{Limit, complete_once, pause, result_of};
use crate::per_core::{self, Engine};
use coring_uring::{BufferRing, PooledBuffer, op};
use std::io::{self, PipeReader, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// A buffer that was not needed for so long is cold.
const COLD_AFTER: Duration = Duration::from_secs(2);
/// So many are taken from one pipe, which has room for as many bytes in any case.
const PIECE: u16 = 256;

/// The coroutine. Ends when the pool is as small as at first, or when it is told to.
pub(crate) fn give_back() {
    let Some(engine) = per_core::current() else {
        return;
    };
    let _over = Over(engine);
    let Some(pool) = engine.receive_buffers() else {
        return;
    };
    while pool.has_grown() {
        if pause(COLD_AFTER, "receive buffers to be cold", Limit::NONE).is_err() {
            return;
        }
        let mut left = pool.surplus();
        while left > 0 {
            let piece = left.min(PIECE);
            left -= piece;
            // Without descriptors, or buffers: the next time.
            if give_back_piece(pool, piece).is_err() {
                break;
            }
        }
    }
}

/// When it has ended another one may begin.
struct Over<'a>(&'a Engine);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.set_giving_back(false);
    }
}

fn give_back_piece(pool: &BufferRing, piece: u16) -> io::Result<()> {
    let (bytes, mut feed) = io::pipe()?;
    feed.write_all(&[0; PIECE as usize][..piece.into()])?;
    for _ in 0..piece {
        if let Some(buffer) = take(pool, &bytes)? {
            pool.retire(buffer);
        }
    }
    Ok(())
}

/// The next buffer of the ring.
fn take(pool: &BufferRing, bytes: &PipeReader) -> io::Result<Option<PooledBuffer>> {
    let Some(group) = pool.group() else {
        return Ok(pool.lease());
    };
    let sqe = op::fs::read_pooled(bytes.as_raw_fd(), group, 1);
    // SAFETY: the operation points at nothing of ours: the kernel writes to the pool.
    let (completion, cancelling) = unsafe { complete_once(sqe, "read", Limit::NONE) }?;
    // SAFETY: the completion of an operation on this pool; whatever its result is, its buffer is claimed here.
    let buffer = unsafe { pool.claim(completion) };
    result_of(completion, cancelling).map(|_| buffer)
}
