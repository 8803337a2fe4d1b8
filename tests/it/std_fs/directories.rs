//! Directories: making them, and what is in them.

use super::{kind, with_scratch};
use coring::coro;
use coring::fs::{self, DirBuilder, File};
use coring_tests::{check, rounds};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

#[test]
fn directories_all_the_way_down() {
    // Goal: create_dir_all makes what is missing, agrees with what exists, fails over a file; many at once agree.
    // Method: deep paths, relative and absolute; eight coroutines on the same path.
    check(|| {
        with_scratch(|scratch| {
            let deep = scratch.join("a/b/c/d");
            fs::create_dir_all(&deep).unwrap();
            fs::create_dir_all(&deep).unwrap();
            assert!(deep.is_dir());
            fs::create_dir_all("").unwrap();
            fs::write(deep.join("file"), "").unwrap();
            assert_eq!(
                kind(fs::create_dir_all(deep.join("file/below"))),
                ErrorKind::NotADirectory
            );
            assert_eq!(
                kind(fs::create_dir_all(deep.join("file"))),
                ErrorKind::AlreadyExists
            );
            let racing = scratch.join("r/a/c/e/s");
            coro::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| fs::create_dir_all(&racing).unwrap());
                }
            });
            assert!(racing.is_dir());
        });
    });
}

#[test]
fn directories_are_listed_and_removed_whole() {
    // Goal: read_dir names every entry once, more than one batch; remove_dir_all removes them all and nothing that a
    // link points at; canonicalize and read_link agree with std's.
    // Method: a thousand files, a directory below, a link to the outside.
    check(|| {
        with_scratch(|scratch| {
            let [tree, outside] = ["tree", "outside"].map(|name| scratch.join(name));
            fs::create_dir_all(tree.join("below")).unwrap();
            fs::write(&outside, "stays").unwrap();
            fs::symlink(&outside, tree.join("below/link")).unwrap();
            for number in 0..1000 {
                std::fs::write(tree.join(number.to_string()), "").unwrap();
            }
            let mut names: Vec<_> = fs::read_dir(&tree)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), 1001);
            assert_eq!(kind(fs::read_dir(&outside)), ErrorKind::NotADirectory);
            assert_eq!(fs::read_link(tree.join("below/link")).unwrap(), outside);
            assert_eq!(
                fs::canonicalize(tree.join("below/../below/link")).unwrap(),
                std::fs::canonicalize(&outside).unwrap()
            );
            fs::remove_dir_all(&tree).unwrap();
            assert!(!tree.exists());
            assert_eq!(fs::read_to_string(&outside).unwrap(), "stays");
            assert_eq!(kind(fs::remove_dir_all(&tree)), ErrorKind::NotFound);
        });
    });
}

#[test]
fn a_directory_comes_and_goes() {
    // Goal: it exists between create_dir and remove_dir, and is a directory.
    // Method: looked at before, between and after.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("dir");
            assert!(!fs::exists(&path).unwrap());
            fs::create_dir(&path).unwrap();
            let metadata = fs::metadata(&path).unwrap();
            assert!(metadata.is_dir() && !metadata.is_file());
            assert_eq!(kind(fs::create_dir(&path)), ErrorKind::AlreadyExists);
            assert_eq!(
                kind(fs::create_dir(scratch.join("no/dir"))),
                ErrorKind::NotFound
            );
            fs::remove_dir(&path).unwrap();
            assert!(!fs::exists(&path).unwrap());
        });
    });
}

#[test]
fn what_exists_already() {
    // Goal: create_dir_all of the root, of ".", of "" and of a path with a slash at its end.
    // Method: each.
    check(|| {
        with_scratch(|scratch| {
            fs::create_dir_all("/").unwrap();
            fs::create_dir_all(".").unwrap();
            fs::create_dir_all("").unwrap();
            fs::create_dir_all(scratch.join("a/b/")).unwrap();
            fs::create_dir_all(scratch.join("a/./b/../c")).unwrap();
            assert!(scratch.join("a/c").is_dir());
        });
    });
}

#[test]
fn through_links() {
    // Goal: create_dir_all follows a link to a directory; a link to nothing is an error, and nothing is made through it.
    // Method: both.
    check(|| {
        with_scratch(|scratch| {
            fs::create_dir(scratch.join("target")).unwrap();
            fs::symlink(scratch.join("target"), scratch.join("link")).unwrap();
            fs::create_dir_all(scratch.join("link/c/d")).unwrap();
            assert!(scratch.join("target/c/d").is_dir());
            fs::symlink("nowhere", scratch.join("dangling")).unwrap();
            let ours = kind(fs::create_dir_all(scratch.join("dangling/x")));
            let theirs = kind(std::fs::create_dir_all(scratch.join("dangling/x")));
            assert_eq!(ours, theirs);
            assert!(!scratch.join("nowhere").exists());
        });
    });
}

#[test]
fn many_make_the_same_path() {
    // Goal: whoever makes a long path at the same time as others succeeds.
    // Method: eight coroutines on each of two cores, forty directories deep, a hundred times.
    check(|| {
        let scratch = tempfile::tempdir().unwrap();
        coring_tests::runtime(2).run(|| {
            for round in 0..rounds(20, 100) {
                let deep = "a/".repeat(40);
                let path = scratch.path().join(round.to_string()).join(deep);
                let make = |path: &Path| {
                    coro::scope(|scope| {
                        for _ in 0..8 {
                            scope.spawn(|| fs::create_dir_all(path).unwrap());
                        }
                    });
                };
                let there = coring::spawn_on(1, {
                    let path = path.clone();
                    move || make(&path)
                });
                make(&path);
                there.join().unwrap();
                assert!(path.is_dir());
            }
        });
    });
}

#[test]
fn a_builder_follows_its_options() {
    // Goal: the mode less the umask, for all that are made; not recursive is AlreadyExists and NotFound, recursive neither.
    // Method: 0o700, two levels; a file in the way.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("for/me");
            let mut builder = DirBuilder::new();
            builder.mode(0o700);
            assert_eq!(kind(builder.create(&path)), ErrorKind::NotFound);
            builder.recursive(true).create(&path).unwrap();
            builder.create(&path).unwrap();
            for made in [&path, &scratch.join("for")] {
                assert_eq!(fs::metadata(made).unwrap().mode() & 0o777, 0o700);
            }
            let again = builder.recursive(false).create(&path);
            assert_eq!(kind(again), ErrorKind::AlreadyExists);
            fs::write(path.join("file"), "").unwrap();
            let over = builder.recursive(true).create(path.join("file"));
            assert_eq!(kind(over), ErrorKind::AlreadyExists);
        });
    });
}

#[test]
fn entries_are_files_that_open() {
    // Goal: the paths of entries are the directory's and the name, and open.
    // Method: three files that contain their own names.
    check(|| {
        with_scratch(|scratch| {
            for name in ["0", "1", "2"] {
                fs::write(scratch.join(name), format!("foo{name}")).unwrap();
            }
            let mut seen = 0;
            for entry in fs::read_dir(scratch).unwrap() {
                let entry = entry.unwrap();
                assert_eq!(entry.path(), scratch.join(entry.file_name()));
                let name = entry.file_name().into_string().unwrap();
                let text = fs::read_to_string(entry.path()).unwrap();
                assert_eq!(text, format!("foo{name}"));
                fs::remove_file(entry.path()).unwrap();
                seen += 1;
            }
            assert_eq!(seen, 3);
            assert!(fs::read_dir(scratch).unwrap().next().is_none());
        });
    });
}

#[test]
fn entries_say_what_they_are() {
    // Goal: type, metadata and inode of an entry are those of the file, links not followed; it shows its path.
    // Method: a directory, a file, a link to the directory; compared with symlink_metadata.
    check(|| {
        with_scratch(|scratch| {
            fs::create_dir(scratch.join("a")).unwrap();
            File::create(scratch.join("b")).unwrap();
            fs::symlink("a", scratch.join("c")).unwrap();
            let mut types = Vec::new();
            for entry in fs::read_dir(scratch).unwrap() {
                let entry = entry.unwrap();
                let metadata = fs::symlink_metadata(entry.path()).unwrap();
                let sort = entry.file_type().unwrap();
                assert_eq!(sort, metadata.file_type());
                assert_eq!(entry.metadata().unwrap().file_type(), sort);
                assert_eq!(entry.ino(), metadata.ino());
                assert_eq!(
                    format!("{entry:?}"),
                    format!("DirEntry({:?})", entry.path())
                );
                let name = entry.file_name().into_string().unwrap();
                types.push((name, sort.is_dir(), sort.is_file(), sort.is_symlink()));
            }
            types.sort();
            assert_eq!(
                types,
                [
                    ("a".to_owned(), true, false, false),
                    ("b".to_owned(), false, true, false),
                    ("c".to_owned(), false, false, true),
                ]
            );
        });
    });
}

#[test]
fn an_entry_that_has_gone() {
    // Goal: an entry still has its name and type when its file has been removed; its metadata is NotFound.
    // Method: remove it between.
    check(|| {
        with_scratch(|scratch| {
            fs::write(scratch.join("file"), "").unwrap();
            let entry = fs::read_dir(scratch).unwrap().next().unwrap().unwrap();
            fs::remove_file(scratch.join("file")).unwrap();
            assert_eq!(entry.file_name(), "file");
            assert!(entry.file_type().unwrap().is_file());
            assert_eq!(kind(entry.metadata()), ErrorKind::NotFound);
        });
    });
}

#[test]
fn a_large_directory() {
    // Goal: every entry of a directory that takes many calls to read, once.
    // Method: 32,768 names in the heavy lane.
    check(|| {
        with_scratch(|scratch| {
            let count = rounds(3000, 32 * 1024);
            for number in 0..count {
                std::fs::write(scratch.join(number.to_string()), "").unwrap();
            }
            let entries = fs::read_dir(scratch).unwrap();
            let mut numbers: Vec<usize> = entries
                .map(|entry| {
                    entry
                        .unwrap()
                        .file_name()
                        .to_str()
                        .unwrap()
                        .parse()
                        .unwrap()
                })
                .collect();
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..count));
        });
    });
}

#[test]
fn a_listing_that_fails_ends() {
    // Goal: an error in the middle of a listing is told once, and then it is over.
    // Method: the network directory of a process that has ended and was not collected: it opens and cannot be read.
    check(|| {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let path = format!("/proc/{}/net", child.id());
        let status = format!("/proc/{}/stat", child.id());
        coring_tests::until_outside("a zombie", || {
            std::fs::read_to_string(&status).is_ok_and(|stat| stat.contains(") Z "))
        });
        coring_tests::runtime(1).run(|| {
            if let Ok(entries) = fs::read_dir(&path) {
                assert!(entries.filter(Result::is_err).take(2).count() < 2);
            }
        });
        child.wait().unwrap();
    });
}

#[test]
fn no_directory_to_read() {
    // Goal: NotFound for nothing, NotADirectory for a file, PermissionDenied where one may not look.
    // Method: each; the last one only where a runtime without root's rights is to be had.
    check(|| {
        with_scratch(|scratch| {
            assert_eq!(kind(fs::read_dir("/path/that/is/not")), ErrorKind::NotFound);
            fs::write(scratch.join("file"), "").unwrap();
            assert_eq!(
                kind(fs::read_dir(scratch.join("file"))),
                ErrorKind::NotADirectory
            );
            fs::set_permissions(scratch, PermissionsExt::from_mode(0o000)).unwrap();
            let (ours, theirs) = (fs::read_dir(scratch), std::fs::read_dir(scratch));
            assert_eq!(
                ours.err().map(|error| error.kind()),
                theirs.err().map(|error| error.kind())
            );
            fs::set_permissions(scratch, PermissionsExt::from_mode(0o700)).unwrap();
        });
    });
}
