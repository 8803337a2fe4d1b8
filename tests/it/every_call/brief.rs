//! Calls that end by themselves. `File::metadata` is not among them: it asks memory of the kernel, or a server, and cannot be interrupted.

use super::{Call, Row, boxed, called_after_the_deadline, called_too_late};
use coring::fs::{self, Advice, AlignedBuf, DirBuilder, File, OpenOptions};
use coring::io::is_cancelled;
use coring::net::UdpSocket;
use coring::process::Command;
use coring_tests::{alone, note, proc, runtime, until};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A call with the path of a file of some bytes.
fn on_path<T: 'static>(here: &Path, call: fn(&Path, &Path) -> io::Result<T>) -> Call {
    let path = here.join("file");
    std::fs::write(&path, "some bytes").unwrap();
    let other = here.join("other");
    boxed(move || call(&path, &other))
}

/// A call on such a file, open for all.
fn on_file<T: 'static>(here: &Path, call: fn(&File) -> io::Result<T>) -> Call {
    let path = here.join("file");
    std::fs::write(&path, "some bytes").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.unwrap();
    boxed(move || call(&file))
}

/// A call on a datagram socket, with the address of another.
fn udp<T: 'static>(call: fn(&UdpSocket, SocketAddr) -> io::Result<T>) -> Call {
    let (ours, theirs) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    boxed(move || call(&ours, theirs.local_addr()?))
}

const ROWS: &[Row] = &[
    ("File::open", |here| {
        on_path(here, |path, _| File::open(path))
    }),
    ("File::create", |here| {
        on_path(here, |path, _| File::create(path))
    }),
    ("File::create_new", |here| {
        on_path(here, |_, other| File::create_new(other))
    }),
    ("File::create_unnamed", |here| {
        on_path(here, |path, _| {
            File::create_unnamed(path.parent().expect("it has one"))
        })
    }),
    ("File::link_to", |here| {
        let (file, path) = (File::create_unnamed(here).unwrap(), here.join("other"));
        boxed(move || file.link_to(&path))
    }),
    ("File::read", |here| {
        on_file(here, |mut file| file.read(&mut [0; 8]))
    }),
    ("File::read_vectored", |here| {
        on_file(here, |mut file| {
            file.read_vectored(&mut [IoSliceMut::new(&mut [0; 8])])
        })
    }),
    ("File::read_at", |here| {
        on_file(here, |file| file.read_at(&mut [0; 8], 0))
    }),
    ("File::read_vectored_at", |here| {
        on_file(here, |file| {
            file.read_vectored_at(&mut [IoSliceMut::new(&mut [0; 8])], 0)
        })
    }),
    ("File::write", |here| {
        on_file(here, |mut file| file.write(b"others"))
    }),
    ("File::write_vectored", |here| {
        on_file(here, |mut file| {
            file.write_vectored(&[IoSlice::new(b"others")])
        })
    }),
    ("File::write_at", |here| {
        on_file(here, |file| file.write_at(b"others", 3))
    }),
    ("File::write_vectored_at", |here| {
        on_file(here, |file| {
            file.write_vectored_at(&[IoSlice::new(b"others")], 3)
        })
    }),
    ("File::sync_all", |here| on_file(here, File::sync_all)),
    ("File::sync_data", |here| on_file(here, File::sync_data)),
    ("File::set_len", |here| {
        on_file(here, |file| file.set_len(3))
    }),
    ("File::allocate", |here| {
        on_file(here, |file| file.allocate(0, 1 << 16))
    }),
    ("File::advise", |here| {
        on_file(here, |file| file.advise(0, 0, Advice::Sequential))
    }),
    ("fs::read", |here| on_path(here, |path, _| fs::read(path))),
    ("fs::read_to_string", |here| {
        on_path(here, |path, _| fs::read_to_string(path))
    }),
    ("fs::write", |here| {
        on_path(here, |path, _| fs::write(path, "others"))
    }),
    ("fs::copy", |here| {
        on_path(here, |path, other| fs::copy(path, other))
    }),
    ("fs::rename", |here| {
        on_path(here, |path, other| fs::rename(path, other))
    }),
    ("fs::hard_link", |here| {
        on_path(here, |path, other| fs::hard_link(path, other))
    }),
    ("fs::symlink", |here| {
        on_path(here, |path, other| fs::symlink(path, other))
    }),
    ("fs::remove_file", |here| {
        on_path(here, |path, _| fs::remove_file(path))
    }),
    ("fs::create_dir", |here| {
        on_path(here, |_, other| fs::create_dir(other))
    }),
    ("fs::create_dir_all", |here| {
        on_path(here, |_, other| fs::create_dir_all(other.join("below")))
    }),
    ("DirBuilder::create", |here| {
        on_path(here, |_, other| DirBuilder::new().create(other))
    }),
    ("fs::remove_dir", |here| {
        let path = here.join("folder");
        std::fs::create_dir(&path).unwrap();
        boxed(move || fs::remove_dir(&path))
    }),
    ("fs::remove_dir_all", |here| {
        let path = here.join("folder");
        std::fs::create_dir_all(path.join("below")).unwrap();
        boxed(move || fs::remove_dir_all(&path))
    }),
    ("fs::read_dir", |here| {
        let here = here.to_owned();
        boxed(move || fs::read_dir(&here))
    }),
    ("fs::metadata", |here| {
        on_path(here, |path, _| fs::metadata(path))
    }),
    ("fs::symlink_metadata", |here| {
        on_path(here, |path, _| fs::symlink_metadata(path))
    }),
    ("fs::exists", |here| {
        on_path(here, |path, _| fs::exists(path))
    }),
    ("fs::canonicalize", |here| {
        on_path(here, |path, _| fs::canonicalize(path))
    }),
    ("fs::read_link", |here| {
        let link = here.join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        boxed(move || fs::read_link(&link))
    }),
    ("fs::set_permissions", |here| {
        on_path(here, |path, _| {
            let mut permissions = std::fs::metadata(path)?.permissions();
            permissions.set_readonly(true);
            fs::set_permissions(path, permissions)
        })
    }),
    ("fs::chown", |here| {
        on_path(here, |path, _| fs::chown(path, None, None))
    }),
    ("fs::lchown", |here| {
        on_path(here, |path, _| fs::lchown(path, None, None))
    }),
    ("File::close", |here| {
        let path = here.join("file");
        std::fs::write(&path, "some bytes").unwrap();
        let mut file = Some(File::open(&path).unwrap());
        boxed(move || file.take().expect("closed once").close())
    }),
    ("UdpSocket::send", |_| {
        udp(|ours, theirs| {
            ours.connect(theirs)?;
            ours.send(b"some bytes")
        })
    }),
    ("UdpSocket::send_to", |_| {
        udp(|ours, theirs| ours.send_to(b"some bytes", theirs))
    }),
    ("UdpSocket::send_batch", |_| {
        udp(|ours, theirs| ours.send_batch(&[(b"some", theirs), (b"bytes", theirs)]))
    }),
    ("UdpSocket::send_segments", |_| {
        udp(|ours, theirs| ours.send_segments(b"some bytes", 5, theirs))
    }),
    ("Command::spawn", |here| {
        let path = here.join("made");
        boxed(move || {
            let mut child = Command::new("touch").arg(&path).spawn()?;
            child.wait()
        })
    }),
    ("File::read of a direct file", |here| {
        let path = here.join("direct");
        std::fs::write(&path, [7; 8192]).unwrap();
        let mut options = OpenOptions::new();
        let Ok(file) = options.read(true).direct(true).open(&path) else {
            // Not on every file system.
            return boxed(move || File::open(&path));
        };
        let mut buffer = AlignedBuf::new(4096, 4096);
        boxed(move || file.read_at(&mut buffer, 0))
    }),
];

/// All below a directory: what kind it is, its mode, its bytes.
fn picture(of: &Path) -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            all.extend(picture(&path));
        }
        let bytes = metadata.is_file().then(|| std::fs::read(&path).unwrap());
        all.insert(path, (metadata.mode(), bytes));
    }
    all
}

/// Makes each call three times: cancelled before, out of time before, and undisturbed.
#[test]
fn each_is_refused_before_it_does_anything() {
    // Goal: who is cancelled, or out of time, changes nothing: the call fails with the error that says so, the kernel is
    // not asked. The same call works for everybody else.
    // Method: what is below the directory before and after, and the operations that were submitted.
    alone(|| {
        runtime(1).run(|| {
            let scratch = tempfile::tempdir().unwrap();
            let submitted = || coring::stats().expect("on a core").ring.submitted;
            let fds = proc::fds();
            for (index, (name, stage)) in ROWS.iter().enumerate() {
                note(*name);
                let staged = |kind: &str| {
                    let here = scratch.path().join(format!("{index}-{kind}"));
                    std::fs::create_dir(&here).unwrap();
                    (stage(&here), picture(&here), submitted(), here)
                };

                let (call, before, operations, here) = staged("cancelled");
                let (outcome, call) = called_too_late(call);
                let error = outcome.expect_err(name);
                assert!(is_cancelled(&error), "{name}: {error}");
                assert_eq!(picture(&here), before, "{name}: cancelled");
                assert_eq!(submitted(), operations, "{name}: cancelled");
                drop(call);

                let (mut call, before, operations, here) = staged("late");
                let (outcome, elapsed) = called_after_the_deadline(&mut call);
                assert_eq!(
                    outcome.expect_err(name).kind(),
                    ErrorKind::TimedOut,
                    "{name}"
                );
                assert!(elapsed, "{name}");
                assert_eq!(picture(&here), before, "{name}: late");
                assert_eq!(submitted(), operations, "{name}: late");
                drop(call);

                staged("in time").0().expect(name);
                until(name, || proc::fds() == fds);
            }
        });
    });
}
