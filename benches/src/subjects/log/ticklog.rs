//! ticklog: deferred formatting, a ring of 1 MiB for each thread, a level that is chosen at compile time.
//!
//! Its `configure!` leaves two macros behind, which its log macros look for in the module they stand in. Here two modules would have to share
//! one of each, so they are written out.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ticklog::{Backpressure, FileSink, Guard};

use super::Of;
use crate::lines::Logger;
use crate::subject::Skip;

pub(super) static SUBJECT: Of<Ticklog> = Of::peer("ticklog");

/// What happens when the ring is full: each log call asks.
static LOSSLESS: AtomicBool = AtomicBool::new(false);

macro_rules! __ticklog_max_level {
    () => {
        ::ticklog::Level::Info
    };
}

macro_rules! __ticklog_backpressure {
    () => {
        if LOSSLESS.load(Ordering::Relaxed) {
            Backpressure::Block
        } else {
            Backpressure::Drop
        }
    };
}

pub(super) struct Ticklog(Guard);

impl Logger for Ticklog {
    const HAS_OFF: bool = false;

    #[expect(missing_docs, reason = "the macros that `configure!` leaves behind")]
    fn start(path: &Path, lossless: bool) -> Result<Self, Skip> {
        LOSSLESS.store(lossless, Ordering::Relaxed);
        let guard = ticklog::configure! {
            sink: FileSink::new(path)?,
        };
        let guard = guard.map_err(|error| Skip::because(error.to_string()))?;
        Ok(Ticklog(guard))
    }

    #[inline(never)]
    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        ticklog::info!("order id={} price={} sym={}", id, price, symbol);
    }

    fn off(&self, _: u64, _: f64, _: &'static str) {}

    fn end(self) {
        drop(self.0);
    }
}
