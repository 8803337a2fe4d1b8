//! spdlog-rs with its asynchronous sink: records are boxed by the caller, formatted and written by a thread.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use spdlog::sink::{AsyncPoolSink, FileSink, OverflowPolicy};
use spdlog::{Logger as SpdLogger, ThreadPool};

use super::Of;
use crate::lines::Logger;
use crate::subject::Skip;

pub(super) static SUBJECT: Of<Spdlog> = Of::peer("spdlog-rs");

pub(super) struct Spdlog {
    logger: Arc<SpdLogger>,
    pool: Arc<ThreadPool>,
}

impl Logger for Spdlog {
    fn start(path: &Path, lossless: bool) -> Result<Self, Skip> {
        build(path, lossless).map_err(|error| Skip::because(error.to_string()))
    }

    #[inline(never)]
    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        spdlog::info!(logger: self.logger, "order id={} price={} sym={}", id, price, symbol);
    }

    #[inline(always)]
    fn off(&self, id: u64, price: f64, symbol: &'static str) {
        spdlog::trace!(logger: self.logger, "order id={} price={} sym={}", id, price, symbol);
    }

    fn settle(&self) -> bool {
        self.logger.flush();
        false // It has only been asked for.
    }

    fn end(self) {
        self.logger.flush();
        drop(self.logger);
        // The last owner waits for the queue to be empty.
        drop(self.pool);
    }
}

fn build(path: &Path, lossless: bool) -> spdlog::Result<Spdlog> {
    let capacity = NonZeroUsize::new(131_072).expect("not zero");
    let pool = ThreadPool::builder().capacity(capacity).build_arc()?;
    let full = if lossless {
        OverflowPolicy::Block
    } else {
        OverflowPolicy::DropIncoming
    };
    let file = FileSink::builder().path(path).build_arc()?;
    let sink = AsyncPoolSink::builder()
        .thread_pool(Arc::clone(&pool))
        .overflow_policy(full)
        .sink(file)
        .build_arc()?;
    let logger = SpdLogger::builder().sink(sink).build_arc()?;
    Ok(Spdlog { logger, pool })
}
