//! The thread that compresses rotated files: one for a log, however fast files come. What waits for it is their names.

use super::{PACKED, PART};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

#[derive(Debug)]
pub(super) struct Packer {
    /// `None` at the end.
    files: Option<mpsc::Sender<PathBuf>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Packer {
    pub(super) fn start() -> io::Result<Self> {
        let (files, named) = mpsc::channel::<PathBuf>();
        let name = "log-compress".to_owned();
        let thread = thread::Builder::new().name(name).spawn(move || {
            for file in named {
                // On failure the plain file stays, which loses nothing. It may also have been removed since, as one too many.
                let _ = pack(&file);
            }
        })?;
        Ok(Self {
            files: Some(files),
            thread: Some(thread),
        })
    }

    /// Compresses a file, after those before it.
    pub(super) fn pack(&self, file: PathBuf) {
        if let Some(files) = &self.files {
            // The thread ends with this only.
            let _ = files.send(file);
        }
    }
}

impl Drop for Packer {
    /// Waits for files that are being compressed.
    fn drop(&mut self) {
        self.files = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Puts a compressed file in the place of a plain one. There is a whole one at every moment.
fn pack(file: &Path) -> io::Result<()> {
    let named = |endings: &[&str]| {
        let mut name = file.as_os_str().to_owned();
        endings.iter().for_each(|ending| name.push(ending));
        PathBuf::from(name)
    };
    let (packed, part) = (named(&[PACKED]), named(&[PACKED, PART]));
    let result = fs::File::open(file).and_then(|from| {
        let written = from.metadata()?.modified()?;
        let to = fs::File::create(&part)?;
        zstd::stream::copy_encode(from, &to, 3)?;
        // Its age is that of its lines.
        to.set_modified(written)?;
        // The machine may stop, too, and the plain file goes.
        to.sync_all()?;
        fs::rename(&part, &packed)?;
        fs::remove_file(file)
    });
    if result.is_err() {
        let _ = fs::remove_file(part);
    }
    result
}

#[cfg(test)]
mod tests {
    use crate::sink::{File, FileOptions};
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::process::Command;

    #[test]
    fn files_are_packed_one_after_the_other() {
        // Goal: files that come faster than they can be compressed take one thread, and all are compressed in the end.
        // Method: pipes in their place, each of which holds up who reads it until it is written; nobody reads the second while the
        // first is read.
        let folder = tempfile::tempdir().expect("a folder");
        let pipes: Vec<_> = ["one", "two", "three"]
            .map(|name| folder.path().join(name))
            .into();
        let made = Command::new("mkfifo").args(&pipes).status();
        assert!(made.expect("mkfifo runs").success());
        let options = FileOptions::new(folder.path().join("log")).compress(true);
        let mut sink = File::new(options);
        for pipe in &pipes {
            sink.compress(vec![pipe.clone()]);
        }
        let mut open = std::fs::File::options();
        open.write(true);
        for (number, pipe) in pipes.iter().enumerate() {
            let mut read = open.open(pipe).expect("it is read");
            for behind in &pipes[number + 1..] {
                let error = open.clone().custom_flags(libc::O_NONBLOCK).open(behind);
                let error = error.expect_err("nobody reads it yet");
                assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
            }
            write!(read, "{number}").expect("it is read");
        }
        drop(sink);
        for (number, pipe) in pipes.iter().enumerate() {
            assert!(!pipe.exists());
            let packed = std::fs::read(pipe.with_extension("zst")).expect("it is there");
            let text = zstd::decode_all(&packed[..]).expect("whole");
            assert_eq!(text, number.to_string().as_bytes());
        }
    }
}
