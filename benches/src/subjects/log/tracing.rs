//! tracing with tracing-subscriber's `fmt` and tracing-appender's non-blocking writer, as its documentation shows.

use std::path::Path;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use super::Of;
use crate::lines::Logger;
use crate::subject::Skip;

pub(super) static SUBJECT: Of<Tracing> = Of::peer("tracing-appender");

pub(super) struct Tracing(WorkerGuard);

impl Logger for Tracing {
    fn start(path: &Path, lossless: bool) -> Result<Self, Skip> {
        let (directory, name) = (path.parent(), path.file_name());
        let appender = tracing_appender::rolling::never(
            directory.expect("a directory"),
            name.expect("a name"),
        );
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(!lossless)
            .finish(appender);
        tracing_subscriber::fmt()
            .with_writer(writer)
            .with_ansi(false)
            .init();
        Ok(Tracing(guard))
    }

    #[inline(never)]
    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        tracing::info!("order id={} price={} sym={}", id, price, symbol);
    }

    #[inline(always)]
    fn off(&self, id: u64, price: f64, symbol: &'static str) {
        tracing::trace!("order id={} price={} sym={}", id, price, symbol);
    }

    fn end(self) {
        drop(self.0);
    }
}
