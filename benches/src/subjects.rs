//! The subjects, one file each, in the order in which they are listed.

use crate::subject::Subject;

mod against;
mod compio;
mod coring;
mod corosensei;
mod epoll;
mod fio;
mod glommio;
mod go;
mod hyper;
mod line;
pub(crate) mod log;
mod may;
mod may_minihttp;
mod monoio;
mod pair;
mod queues;
mod smol;
mod threads;
mod tokio;
mod tokio_uring;
mod unsync;
mod uring;
mod uring_multishot;

pub(crate) use against::against;

/// Every subject there is: ours, the limits with their twins, the peers.
const ALL: &[&dyn Subject] = &[
    &coring::AS_IT_COMES,
    &coring::NO_SPIN,
    &coring::SPIN,
    &coring::POOLED,
    &coring::SMALL,
    &coring::AGAIN,
    &coring::WATCHED,
    &corosensei::FIRST,
    &corosensei::AGAIN,
    &uring::FIRST,
    &uring::AGAIN,
    &uring::FIXED,
    &uring::AWAKE,
    &uring::FAIR,
    &uring_multishot::UringMultishot,
    &epoll::Epoll,
    &pair::FIRST,
    &pair::AGAIN,
    &line::Line,
    &tokio::Tokio,
    &tokio::TokioLocal,
    &hyper::Hyper,
    &tokio_uring::TokioUring,
    &monoio::AS_IT_COMES,
    &monoio::TUNED,
    &glommio::Glommio,
    &may::May,
    &may_minihttp::MayMinihttp,
    &smol::Smol,
    &compio::AS_IT_COMES,
    &compio::TUNED,
    &threads::Threads,
    &queues::CROSSBEAM,
    &queues::KANAL,
    &queues::FLUME,
    &fio::Fio,
    &go::Go,
];

/// All runtimes and their limits.
pub(crate) fn all() -> Vec<&'static dyn Subject> {
    ALL.to_vec()
}

/// The loggers, which have a suite of their own.
pub(crate) fn loggers() -> Vec<&'static dyn Subject> {
    log::ALL.to_vec()
}
