//! coring as another binary of this harness has it: what a change to the runtime brings is told by both in one run.

use std::path::{Path, PathBuf};

use crate::subject::{Job, Role, Skip, Subject};

/// The other binary's coring.
#[derive(Debug)]
struct Against {
    name: &'static str,
    binary: PathBuf,
}

/// A subject for this binary, which lives until the harness ends.
pub(crate) fn against(binary: &Path) -> &'static dyn Subject {
    let name = format!("coring@{}", binary.display());
    Box::leak(Box::new(Against {
        name: name.leak(),
        binary: binary.to_owned(),
    }))
}

impl Subject for Against {
    fn name(&self) -> &'static str {
        self.name
    }

    fn role(&self) -> Role {
        Role::Ours
    }

    /// Of another binary only its path is known.
    fn version(&self) -> String {
        self.binary.display().to_string()
    }

    fn program(&self) -> std::io::Result<(PathBuf, &'static str)> {
        Ok((self.binary.clone(), "coring"))
    }

    fn run(&self, _: &Job) -> Result<(), Skip> {
        Err(Skip::because("runs in a binary of its own"))
    }
}
