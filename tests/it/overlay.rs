//! A file system whose files have something to do at each close (`flush`): a ring leaves their closes to a worker of the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An overlay file system, unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Overlay(PathBuf);

impl Overlay {
    /// In an empty directory; `None` where the kernel or our rights do not allow one.
    pub(crate) fn mount(scratch: &Path) -> Option<Self> {
        let base = scratch.join("base");
        fs::create_dir(&base).ok()?;
        let sh = |script: String| {
            let status = Command::new("sh").args(["-c", &script]).status();
            status.is_ok_and(|status| status.success())
        };
        let base = base.display();
        if !sh(format!("mount -t tmpfs none {base} 2>/dev/null")) {
            return None;
        }
        let overlay = Self(scratch.join("base"));
        let dirs = format!("cd {base} && mkdir lower upper work merged");
        let options = "lowerdir=lower,upperdir=upper,workdir=work";
        sh(format!(
            "{dirs} && mount -t overlay none -o {options} merged 2>/dev/null"
        ))
        .then_some(overlay)
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.join("merged")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        for mount in [self.path(), self.0.clone()] {
            let _ = Command::new("umount")
                .arg(mount)
                .stderr(Stdio::null())
                .status();
        }
    }
}
