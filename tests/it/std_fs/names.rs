//! Names of files: renaming, linking.

use super::{kind, with_scratch};
use coring::fs::{self, File};
use coring_tests::check;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[test]
fn rename_replaces() {
    // Goal: the new name has the contents, the old one is gone; what had the new name is replaced.
    // Method: two files; then one that does not exist.
    check(|| {
        with_scratch(|scratch| {
            let (a, b) = (scratch.join("a"), scratch.join("b"));
            fs::write(&a, "a").unwrap();
            fs::write(&b, "b").unwrap();
            fs::rename(&a, &b).unwrap();
            assert_eq!(fs::read_to_string(&b).unwrap(), "a");
            assert!(!fs::exists(&a).unwrap());
            assert_eq!(kind(fs::rename(&a, &b)), ErrorKind::NotFound);
        });
    });
}

#[test]
fn removing_files_and_directories() {
    // Goal: each removes its own sort only, and a directory only when it is empty.
    // Method: every wrong combination, then the right ones.
    check(|| {
        with_scratch(|scratch| {
            let (directory, file) = (scratch.join("d"), scratch.join("d/f"));
            fs::create_dir(&directory).unwrap();
            assert_eq!(kind(fs::create_dir(&directory)), ErrorKind::AlreadyExists);
            fs::write(&file, "x").unwrap();
            assert_eq!(kind(fs::remove_dir(&file)), ErrorKind::NotADirectory);
            assert_eq!(
                kind(fs::remove_dir(&directory)),
                ErrorKind::DirectoryNotEmpty
            );
            assert_eq!(kind(fs::remove_file(&directory)), ErrorKind::IsADirectory);
            fs::remove_file(&file).unwrap();
            assert_eq!(kind(fs::remove_file(&file)), ErrorKind::NotFound);
            fs::remove_dir(&directory).unwrap();
            assert!(!directory.exists());
        });
    });
}

#[test]
fn links() {
    // Goal: a hard link is the same file; a symbolic link says its target, is followed by metadata and not by
    // symlink_metadata; a dangling one does not exist.
    // Method: inode numbers.
    check(|| {
        with_scratch(|scratch| {
            let [file, hard, soft, dangling] =
                ["file", "hard", "soft", "dangling"].map(|name| scratch.join(name));
            fs::write(&file, "contents").unwrap();
            fs::hard_link(&file, &hard).unwrap();
            fs::symlink(&file, &soft).unwrap();
            fs::symlink("nowhere", &dangling).unwrap();
            let inode = |path: &PathBuf| fs::metadata(path).unwrap().ino();
            assert_eq!(inode(&file), inode(&hard));
            assert_eq!(inode(&file), inode(&soft));
            assert_eq!(fs::metadata(&file).unwrap().nlink(), 2);
            let itself = fs::symlink_metadata(&soft).unwrap();
            assert!(itself.file_type().is_symlink());
            assert_eq!(std::fs::read_link(&soft).unwrap(), file);
            assert!(!fs::exists(&dangling).unwrap());
            assert!(fs::symlink_metadata(&dangling).is_ok());
            assert_eq!(kind(fs::hard_link(&file, &hard)), ErrorKind::AlreadyExists);
            assert_eq!(kind(fs::symlink("x", &soft)), ErrorKind::AlreadyExists);
        });
    });
}

#[test]
fn a_directory_moves_with_what_is_in_it() {
    // Goal: a renamed directory has its contents at the new place.
    // Method: from one branch of a tree into another.
    check(|| {
        with_scratch(|scratch| {
            let from = scratch.join("foo/bar/baz");
            fs::create_dir_all(&from).unwrap();
            fs::write(from.join("file"), "x").unwrap();
            let to = scratch.join("quux/blat");
            fs::create_dir_all(&to).unwrap();
            fs::rename(&from, to.join("new")).unwrap();
            assert!(fs::metadata(to.join("new")).unwrap().is_dir());
            assert_eq!(fs::read(to.join("new/file")).unwrap(), b"x");
            assert!(!fs::exists(&from).unwrap());
        });
    });
}

#[test]
fn a_full_directory_is_not_replaced() {
    // Goal: a directory replaces an empty one, and not one with something in it; a file replaces no directory.
    // Method: each, and what is there afterwards.
    check(|| {
        with_scratch(|scratch| {
            let [source, target, file] =
                ["source", "target", "file"].map(|name| scratch.join(name));
            fs::create_dir(&source).unwrap();
            fs::create_dir(&target).unwrap();
            fs::write(target.join("there"), "x").unwrap();
            fs::write(&file, "x").unwrap();
            assert_eq!(
                kind(fs::rename(&source, &target)),
                ErrorKind::DirectoryNotEmpty
            );
            assert_eq!(kind(fs::rename(&file, &source)), ErrorKind::IsADirectory);
            assert_eq!(kind(fs::rename(&source, &file)), ErrorKind::NotADirectory);
            fs::remove_file(target.join("there")).unwrap();
            fs::rename(&source, &target).unwrap();
            assert!(!fs::exists(&source).unwrap());
        });
    });
}

#[test]
fn an_open_file_survives_its_replacement() {
    // Goal: who has the file open that a rename replaces goes on reading it; the name has the new one.
    // Method: read both after the rename.
    check(|| {
        with_scratch(|scratch| {
            let [source, target] = ["source", "target"].map(|name| scratch.join(name));
            fs::write(&source, "source").unwrap();
            fs::write(&target, "target").unwrap();
            let mut open = File::open(&target).unwrap();
            fs::rename(&source, &target).unwrap();
            let mut text = String::new();
            open.read_to_string(&mut text).unwrap();
            assert_eq!(text, "target");
            assert_eq!(fs::read_to_string(&target).unwrap(), "source");
        });
    });
}

#[test]
fn a_renamed_link_says_the_same() {
    // Goal: a rename does not follow a link, also one to nothing.
    // Method: read the link at its new name.
    check(|| {
        with_scratch(|scratch| {
            fs::symlink("nowhere", scratch.join("link")).unwrap();
            fs::rename(scratch.join("link"), scratch.join("moved")).unwrap();
            assert_eq!(
                fs::read_link(scratch.join("moved")).unwrap(),
                Path::new("nowhere")
            );
        });
    });
}

#[test]
fn a_file_has_two_names() {
    // Goal: a hard link shares contents and length; a file is not linked to itself, nor what does not exist.
    // Method: read through the new name; AlreadyExists and NotFound.
    check(|| {
        with_scratch(|scratch| {
            let [file, link] = ["file", "link"].map(|name| scratch.join(name));
            fs::write(&file, "foobar").unwrap();
            fs::hard_link(&file, &link).unwrap();
            assert_eq!(fs::read(&link).unwrap(), b"foobar");
            assert_eq!(fs::metadata(&link).unwrap().len(), 6);
            assert_eq!(kind(fs::hard_link(&file, &file)), ErrorKind::AlreadyExists);
            let nothing = fs::hard_link(scratch.join("no"), scratch.join("other"));
            assert_eq!(kind(nothing), ErrorKind::NotFound);
            assert!(fs::hard_link(scratch, scratch.join("dir")).is_err());
        });
    });
}

#[test]
fn links_are_followed_when_opened() {
    // Goal: a symbolic link opens what it says, metadata follows it, symlink_metadata does not.
    // Method: a link to a file.
    check(|| {
        with_scratch(|scratch| {
            let [file, link] = ["file", "link"].map(|name| scratch.join(name));
            fs::write(&file, "foobar").unwrap();
            fs::symlink(&file, &link).unwrap();
            assert!(
                fs::symlink_metadata(&link)
                    .unwrap()
                    .file_type()
                    .is_symlink()
            );
            assert_eq!(fs::metadata(&link).unwrap().len(), 6);
            assert_eq!(fs::read(&link).unwrap(), b"foobar");
        });
    });
}

#[test]
fn a_link_says_what_it_was_told() {
    // Goal: read_link gives the text of the link, also of one to nothing; what is no link is InvalidInput.
    // Method: a relative target; a directory; nothing.
    check(|| {
        with_scratch(|scratch| {
            let link = scratch.join("link");
            fs::symlink("foo", &link).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new("foo"));
            assert_eq!(kind(fs::read_link(scratch)), ErrorKind::InvalidInput);
            assert_eq!(kind(fs::read_link(scratch.join("no"))), ErrorKind::NotFound);
            assert_eq!(kind(fs::read(&link)), ErrorKind::NotFound);
        });
    });
}

#[test]
fn a_link_of_a_link() {
    // Goal: a hard link to a symbolic link is that link; both dangle when the file is renamed, and stay links.
    // Method: open all names before and after.
    check(|| {
        with_scratch(|scratch| {
            let [file, soft, hard, moved] =
                ["file", "soft", "hard", "moved"].map(|name| scratch.join(name));
            fs::write(&file, "").unwrap();
            fs::symlink("file", &soft).unwrap();
            fs::hard_link(&soft, &hard).unwrap();
            assert!(
                fs::symlink_metadata(&hard)
                    .unwrap()
                    .file_type()
                    .is_symlink()
            );
            let open = |path: &Path| File::open(path).is_ok();
            assert!(open(&file) && open(&soft) && open(&hard) && !open(&moved));
            fs::rename(&file, &moved).unwrap();
            assert!(!open(&file) && !open(&soft) && !open(&hard) && open(&moved));
            assert_eq!(fs::read_link(&soft).unwrap(), Path::new("file"));
            assert_eq!(fs::read_link(&hard).unwrap(), Path::new("file"));
            fs::remove_file(&moved).unwrap();
            assert!(fs::symlink_metadata(&hard).is_ok());
        });
    });
}

#[test]
fn paths_without_links() {
    // Goal: canonicalize of a file, a directory and links to both; the empty path and a missing one are NotFound.
    // Method: a link in a directory that is itself reached through a link.
    check(|| {
        with_scratch(|scratch| {
            let scratch = fs::canonicalize(scratch).unwrap();
            let [file, directory, linked] =
                ["file", "dir", "linked"].map(|name| scratch.join(name));
            fs::write(&file, "").unwrap();
            fs::create_dir(&directory).unwrap();
            fs::symlink(&file, directory.join("link")).unwrap();
            fs::symlink(&directory, &linked).unwrap();
            for (path, real) in [
                (scratch.clone(), &scratch),
                (file.clone(), &file),
                (directory.join("link"), &file),
                (linked.clone(), &directory),
                (linked.join("link"), &file),
            ] {
                assert_eq!(&fs::canonicalize(&path).unwrap(), real, "{path:?}");
            }
            assert_eq!(kind(fs::canonicalize("")), ErrorKind::NotFound);
            assert_eq!(
                kind(fs::canonicalize(scratch.join("no"))),
                ErrorKind::NotFound
            );
        });
    });
}

#[test]
fn paths_through_links_that_climb() {
    // Goal: relative links with `..` that lead through each other.
    // Method: c -> ../d/e, and e -> ../f.
    check(|| {
        with_scratch(|scratch| {
            let a = fs::canonicalize(scratch).unwrap().join("a");
            fs::create_dir_all(a.join("b")).unwrap();
            fs::create_dir_all(a.join("d")).unwrap();
            fs::write(a.join("f"), "").unwrap();
            fs::symlink("../d/e", a.join("b/c")).unwrap();
            fs::symlink("../f", a.join("d/e")).unwrap();
            assert_eq!(fs::canonicalize(a.join("b/c")).unwrap(), a.join("f"));
            assert_eq!(fs::canonicalize(a.join("d/e")).unwrap(), a.join("f"));
            fs::symlink("loop", a.join("loop")).unwrap();
            assert!(fs::canonicalize(a.join("loop")).is_err());
            assert!(File::open(a.join("loop")).is_err());
        });
    });
}

#[test]
fn names_in_any_script() {
    // Goal: names are bytes: Hangul, kana, and what is no UTF-8 at all.
    // Method: a directory and a file in it, seen, listed and removed.
    check(|| {
        with_scratch(|scratch| {
            use std::os::unix::ffi::OsStrExt;
            let directory = scratch.join("test-\u{ac00}\u{4e00}\u{30fc}");
            fs::create_dir(&directory).unwrap();
            assert!(fs::metadata(&directory).unwrap().is_dir());
            let odd = std::ffi::OsStr::from_bytes(&[b'a', 0xff, b'z']);
            fs::write(directory.join(odd), "").unwrap();
            let file = fs::metadata(directory.join(odd)).unwrap();
            assert!(file.is_file() && !file.is_dir());
            let listed = fs::read_dir(&directory).unwrap().next().unwrap().unwrap();
            assert_eq!(listed.file_name(), odd);
            assert!(!fs::exists(scratch.join("test-\u{ac01}")).unwrap());
            fs::remove_file(directory.join(odd)).unwrap();
        });
    });
}

#[test]
fn a_nul_byte_is_refused() {
    // Goal: InvalidInput for a path with a NUL byte, from every function that takes one, before anything is done.
    // Method: all of them.
    check(|| {
        with_scratch(|scratch| {
            let (bad, good) = (Path::new("a\0b"), scratch);
            let kinds = [
                kind(File::open(bad)),
                kind(fs::read(bad)),
                kind(fs::write(bad, "")),
                kind(fs::create_dir(bad)),
                kind(fs::create_dir_all(bad)),
                kind(fs::remove_file(bad)),
                kind(fs::remove_dir(bad)),
                kind(fs::remove_dir_all(bad)),
                kind(fs::rename(bad, good)),
                kind(fs::rename(good, bad)),
                kind(fs::hard_link(bad, good)),
                kind(fs::symlink("x", bad)),
                kind(fs::metadata(bad)),
                kind(fs::symlink_metadata(bad)),
                kind(fs::exists(bad)),
                kind(fs::read_dir(bad)),
                kind(fs::read_link(bad)),
                kind(fs::canonicalize(bad)),
                kind(fs::copy(good, bad)),
                kind(fs::copy(bad, good)),
            ];
            for (index, kind) in kinds.into_iter().enumerate() {
                assert_eq!(kind, ErrorKind::InvalidInput, "call {index}");
            }
        });
    });
}
