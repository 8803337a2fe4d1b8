//! A core's pool of registered buffers: made when first asked for, recognised by address.

use crate::report;
use coring_uring::{BufferError, RegisteredBuffers, Ring};
use std::cell::{OnceCell, RefCell};
use std::io;
use std::sync::Once;

/// The pool, and what it is to be like.
#[derive(Debug)]
pub(crate) struct FixedPool {
    count: u16,
    buffer_bytes: usize,
    pool: OnceCell<RegisteredBuffers>,
}

impl FixedPool {
    pub(super) fn new((count, buffer_bytes): (u16, usize)) -> Self {
        Self {
            count,
            buffer_bytes,
            pool: OnceCell::new(),
        }
    }

    /// The pool. Where the kernel will not register it, one for plain reads and writes.
    pub(crate) fn get_or_make(&self, ring: &RefCell<Ring>) -> io::Result<&RegisteredBuffers> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool);
        }
        let registered = ring
            .borrow_mut()
            .register_buffers(self.count, self.buffer_bytes);
        let pool = match registered {
            Ok(pool) => pool,
            Err(refusal) => {
                explain(&refusal);
                RegisteredBuffers::unregistered(self.count, self.buffer_bytes)?
            }
        };
        Ok(self.pool.get_or_init(|| pool))
    }

    /// The number by which the core's ring knows the memory of this slice; `None` for any other memory.
    #[inline]
    pub(crate) fn number_of(&self, slice: &[u8]) -> Option<u16> {
        self.pool.get()?.number_of(slice)
    }
}

/// Says once that it will be slower than it could be, and what to do about it. Who has switched the feature off knows.
fn explain(refusal: &BufferError) {
    static SAID: Once = Once::new();
    if !matches!(refusal, BufferError::Unsupported(_)) {
        SAID.call_once(|| {
            report::say(format_args!(
                "registered buffers are used as plain ones: {refusal}"
            ));
        });
    }
}
