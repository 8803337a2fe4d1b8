//! The suites, one file each.

use crate::suite::Suite;

mod cores;
mod file;
mod log;
mod micro;
pub(crate) mod net;

/// Every suite there is.
pub(crate) const ALL: &[&dyn Suite] = &[
    &micro::Micro,
    &net::Net,
    &file::Files,
    &cores::Cores,
    &log::Log,
];

/// The suite of this name.
pub(crate) fn find(name: &str) -> Option<&'static dyn Suite> {
    ALL.iter().copied().find(|suite| suite.name() == name)
}
