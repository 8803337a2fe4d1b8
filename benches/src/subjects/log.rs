//! The loggers, one file each; [`Of`] makes a subject of each.

use std::marker::PhantomData;

use crate::lines::{self, Logger};
use crate::machine;
use crate::subject::{Job, Role, Skip, Subject, Work};

pub(crate) mod coring;
mod fast_log;
mod flexi_logger;
mod ftlog;
mod quicklog;
mod raw;
mod raw_read;
mod raw_ring;
mod record;
mod slog;
mod spdlog;
mod ticklog;
mod tracing;

/// Ours, the limit with its twin, the peers.
pub(crate) const ALL: &[&dyn Subject] = &[
    &coring::COUNTER,
    &coring::TURN,
    &coring::BINARY,
    &raw::FIRST,
    &raw::AGAIN,
    &raw::COPY,
    &raw_read::SUBJECT,
    &raw_ring::SUBJECT,
    &ticklog::SUBJECT,
    &quicklog::SUBJECT,
    &tracing::SUBJECT,
    &ftlog::SUBJECT,
    &fast_log::SUBJECT,
    &spdlog::SUBJECT,
    &slog::SUBJECT,
    &flexi_logger::SUBJECT,
];

/// A logger as a subject.
pub(crate) struct Of<L> {
    name: &'static str,
    role: Role,
    version: fn(&'static str) -> String,
    /// What it does with [`Work::EchoLogged`].
    serve: fn(&Job) -> Result<(), Skip>,
    logger: PhantomData<fn() -> L>,
}

impl<L> Of<L> {
    /// A peer, named as its crate.
    const fn peer(name: &'static str) -> Of<L> {
        Of {
            name,
            role: Role::Peer,
            version: machine::locked_version,
            serve: |_| Err(Skip::because("is no server")),
            logger: PhantomData,
        }
    }
}

impl<L: Logger> Subject for Of<L> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn role(&self) -> Role {
        self.role
    }

    fn version(&self) -> String {
        (self.version)(self.name)
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Log(what) => lines::measure::<L>(job, what),
            Work::EchoLogged { .. } => (self.serve)(job),
            _ => job.not_offered(),
        }
    }
}

/// The line, through the macros of the `log` crate, which four of the peers are behind.
mod facade {
    #[inline(never)]
    pub(super) fn line(id: u64, price: f64, symbol: &'static str) {
        log::info!("order id={} price={} sym={}", id, price, symbol);
    }

    #[inline(always)]
    pub(super) fn off(id: u64, price: f64, symbol: &'static str) {
        log::trace!("order id={} price={} sym={}", id, price, symbol);
    }
}
