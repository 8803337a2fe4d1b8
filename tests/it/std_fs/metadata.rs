//! Metadata, permissions, owners and times.

use super::{kind, with_scratch};
use coring::fs::{self, File, FileTimes};
use coring_tests::{alone, check, proc};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

#[test]
fn metadata_is_stds() {
    // Goal: by path and by file it says what std's says, for files, directories and devices, without any permission
    // on the file itself.
    // Method: compare field by field.
    check(|| {
        with_scratch(|scratch| {
            let file = scratch.join("file");
            fs::write(&file, vec![1; 12_345]).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o0)).unwrap();
            for path in [
                &*file,
                scratch,
                Path::new("/dev/null"),
                Path::new("/proc/self"),
            ] {
                let (ours, theirs) = (
                    fs::metadata(path).unwrap(),
                    std::fs::metadata(path).unwrap(),
                );
                assert_eq!(ours.ino(), theirs.ino());
                assert_eq!(ours.len(), theirs.len());
                assert_eq!(ours.mode(), theirs.mode());
                assert_eq!(ours.file_type(), theirs.file_type());
            }
            assert_eq!(
                kind(fs::metadata(scratch.join("none"))),
                ErrorKind::NotFound
            );
            assert_eq!(kind(fs::metadata("nul\0")), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn a_file_is_a_file() {
    // Goal: by handle and by path a file is a file, and a directory is none.
    // Method: is_file and is_dir of both.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            let mut file = File::create_new(&path).unwrap();
            file.write_all(b"hw").unwrap();
            for metadata in [file.metadata().unwrap(), fs::metadata(&path).unwrap()] {
                assert!(metadata.is_file() && !metadata.is_dir());
                assert_eq!(metadata.len(), 2);
            }
            for metadata in [
                fs::metadata(scratch).unwrap(),
                File::open(scratch).unwrap().metadata().unwrap(),
            ] {
                assert!(metadata.is_dir() && !metadata.is_file());
            }
            fs::remove_file(&path).unwrap();
            assert!(!fs::exists(&path).unwrap());
            assert_eq!(file.metadata().unwrap().nlink(), 0);
        });
    });
}

#[test]
fn permissions_by_path() {
    // Goal: readonly is set and taken back; all twelve bits are kept; what is not there is NotFound.
    // Method: a file, a directory with the sticky bit.
    check(|| {
        with_scratch(|scratch| {
            let (file, directory) = (scratch.join("file"), scratch.join("dir"));
            fs::write(&file, "").unwrap();
            let mut permissions = fs::metadata(&file).unwrap().permissions();
            assert!(!permissions.readonly());
            permissions.set_readonly(true);
            fs::set_permissions(&file, permissions.clone()).unwrap();
            assert!(fs::metadata(&file).unwrap().permissions().readonly());
            let nothing = fs::set_permissions(scratch.join("no"), permissions);
            assert_eq!(kind(nothing), ErrorKind::NotFound);
            fs::create_dir(&directory).unwrap();
            for mode in [0, 0o1777, 0o755] {
                fs::set_permissions(&directory, PermissionsExt::from_mode(mode)).unwrap();
                let now = fs::metadata(&directory).unwrap().permissions().mode();
                assert_eq!(now & 0o7777, mode);
            }
        });
    });
}

#[test]
fn permissions_by_handle() {
    // Goal: as by path, also through a handle that only reads.
    // Method: set and look.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            fs::write(&path, "").unwrap();
            let file = File::open(&path).unwrap();
            let mut permissions = file.metadata().unwrap().permissions();
            permissions.set_readonly(true);
            file.set_permissions(permissions).unwrap();
            assert!(fs::metadata(&path).unwrap().permissions().readonly());
        });
    });
}

#[test]
fn owners() {
    // Goal: chown sets user, group, one of them or none; lchown does so for a link itself; as std's on the same ground.
    // Method: to the same owner, which everybody may; to another one where we may.
    check(|| {
        with_scratch(|scratch| {
            let (file, link) = (scratch.join("file"), scratch.join("link"));
            fs::write(&file, "").unwrap();
            fs::symlink("file", &link).unwrap();
            let mine = fs::metadata(&file).unwrap();
            fs::chown(&file, Some(mine.uid()), Some(mine.gid())).unwrap();
            fs::chown(&file, None, None).unwrap();
            let owner = |path: &Path| {
                let metadata = fs::symlink_metadata(path).unwrap();
                (metadata.uid(), metadata.gid())
            };
            assert_eq!(owner(&file), (mine.uid(), mine.gid()));
            let ours = fs::lchown(&link, Some(4321), None).map_err(|error| error.kind());
            let theirs = std::os::unix::fs::lchown(&link, Some(4321), None);
            assert_eq!(ours, theirs.map_err(|error| error.kind()));
            if ours.is_ok() {
                assert_eq!(owner(&link), (4321, mine.gid()));
                assert_eq!(owner(&file), (mine.uid(), mine.gid()));
                fs::chown(&link, None, Some(1234)).unwrap();
                assert_eq!(owner(&file), (mine.uid(), 1234));
            }
            let nothing = fs::chown(scratch.join("no"), None, None);
            assert_eq!(kind(nothing), ErrorKind::NotFound);
        });
    });
}

#[test]
fn times_are_set() {
    // Goal: set_times sets what was given and leaves the rest; set_modified is one of them; times before 1970 are kept.
    // Method: read back by handle and by path.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            let file = File::create(&path).unwrap();
            let at = |seconds| SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
            let times = FileTimes::new()
                .set_accessed(at(12345))
                .set_modified(at(54321));
            file.set_times(times).unwrap();
            let metadata = file.metadata().unwrap();
            assert_eq!(metadata.accessed().unwrap(), at(12345));
            assert_eq!(metadata.modified().unwrap(), at(54321));
            file.set_modified(at(99)).unwrap();
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.accessed().unwrap(), at(12345));
            assert_eq!(metadata.modified().unwrap(), at(99));
            let before = SystemTime::UNIX_EPOCH - Duration::new(60, 500_000_000);
            file.set_modified(before).unwrap();
            assert_eq!(file.metadata().unwrap().modified().unwrap(), before);
        });
    });
}

#[test]
fn times_of_a_fresh_file() {
    // Goal: a fresh file was read and written at the same time; created is told, or not, as std tells it.
    // Method: a file and its directory, compared with std.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            File::create(&path).unwrap();
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.accessed().unwrap(), metadata.modified().unwrap());
            let theirs = std::fs::metadata(&path).unwrap();
            assert_eq!(metadata.modified().unwrap(), theirs.modified().unwrap());
            assert_eq!(metadata.created().ok(), theirs.created().ok());
            if let (Ok(first), Ok(second)) =
                (fs::metadata(scratch).unwrap().created(), metadata.created())
            {
                assert!(first <= second);
            }
        });
    });
}

#[test]
fn names_are_known_without_a_descriptor() {
    // Goal: what needs no descriptor with std needs none here: to look at a name, to see that a directory is there, to change the
    // permissions and times of an open file.
    // Method: a process that may have no more, seen by an open that fails.
    alone(|| {
        with_scratch(|scratch| {
            let (file, link) = (scratch.join("file"), scratch.join("link"));
            fs::symlink(&file, &link).unwrap();
            let open = File::create(&file).unwrap();
            proc::limit_files(0);
            assert_eq!(
                File::open(&file).unwrap_err().raw_os_error(),
                Some(libc::EMFILE)
            );
            assert!(fs::metadata(&link).unwrap().is_file());
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert!(fs::exists(&file).unwrap());
            assert!(!fs::exists(scratch.join("none")).unwrap());
            fs::create_dir_all(scratch).unwrap();
            let permissions = PermissionsExt::from_mode(0o600);
            open.set_permissions(permissions).unwrap();
            open.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            proc::raise_file_limit();
        });
    });
}
