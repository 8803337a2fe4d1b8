//! Files with std's names: [`File`], [`OpenOptions`].

mod file;
mod open_options;

pub use file::File;
pub use open_options::OpenOptions;
pub use std::fs::Metadata;
