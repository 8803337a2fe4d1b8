//! ftlog: lines are formatted by the caller and written by a thread. Its queue holds 100,000.

use std::path::Path;

use ftlog::LoggerGuard;
use ftlog::appender::FileAppender;

use super::{Of, facade};
use crate::lines::Logger;
use crate::subject::Skip;

pub(super) static SUBJECT: Of<Ftlog> = Of::peer("ftlog");

pub(super) struct Ftlog(LoggerGuard);

impl Logger for Ftlog {
    fn start(path: &Path, lossless: bool) -> Result<Self, Skip> {
        let guard = ftlog::builder()
            .max_log_level(ftlog::LevelFilter::Info)
            .bounded(100_000, lossless)
            .root(FileAppender::new(path))
            .try_init();
        let guard = guard.map_err(|error| Skip::because(error.to_string()))?;
        Ok(Ftlog(guard))
    }

    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        facade::line(id, price, symbol);
    }

    #[inline(always)]
    fn off(&self, id: u64, price: f64, symbol: &'static str) {
        facade::off(id, price, symbol);
    }

    fn end(self) {
        log::logger().flush();
        drop(self.0);
    }
}
