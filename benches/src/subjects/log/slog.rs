//! slog with slog-term and slog-async, as slog's documentation shows, with a queue that holds a burst.

use std::fs::OpenOptions;
use std::io::BufWriter;
use std::path::Path;

use slog::Drain;
use slog_async::{Async, AsyncGuard, OverflowStrategy};
use slog_term::{FullFormat, PlainDecorator};

use super::Of;
use crate::lines::Logger;
use crate::subject::Skip;

pub(super) static SUBJECT: Of<Slog> = Of::peer("slog-async");

pub(super) struct Slog {
    logger: slog::Logger,
    guard: AsyncGuard,
}

impl Logger for Slog {
    fn start(path: &Path, lossless: bool) -> Result<Self, Skip> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let format = FullFormat::new(PlainDecorator::new(BufWriter::new(file))).build();
        let full = if lossless {
            OverflowStrategy::Block
        } else {
            OverflowStrategy::DropAndReport
        };
        let (drain, guard) = Async::new(format.fuse())
            .chan_size(131_072)
            .overflow_strategy(full)
            .build_with_guard();
        let filtered = drain.filter_level(slog::Level::Info).fuse();
        Ok(Slog {
            logger: slog::Logger::root(filtered, slog::o!()),
            guard,
        })
    }

    #[inline(never)]
    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        slog::info!(
            self.logger,
            "order id={} price={} sym={}",
            id,
            price,
            symbol
        );
    }

    #[inline(always)]
    fn off(&self, id: u64, price: f64, symbol: &'static str) {
        slog::debug!(
            self.logger,
            "order id={} price={} sym={}",
            id,
            price,
            symbol
        );
    }

    fn end(self) {
        drop(self.logger);
        drop(self.guard);
    }
}
