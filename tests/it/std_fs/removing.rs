//! What is removed, and above all what is not.

use super::{kind, with_scratch};
use coring::fs;
use coring_tests::check;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

#[test]
fn whole_trees_and_nothing_beside_them() {
    // Goal: remove_dir_all removes links as links: what they point at, file or directory, stays.
    // Method: a tree with links out of it.
    check(|| {
        with_scratch(|scratch| {
            let (tree, outside) = (scratch.join("d1"), scratch.join("d2"));
            let canary = outside.join("do_not_delete");
            fs::create_dir_all(tree.join("t/t")).unwrap();
            fs::create_dir_all(&outside).unwrap();
            fs::write(&canary, "foo").unwrap();
            fs::symlink(&outside, tree.join("t/d2")).unwrap();
            fs::symlink(&canary, tree.join("canary")).unwrap();
            fs::remove_dir_all(&tree).unwrap();
            assert!(!fs::exists(&tree).unwrap());
            assert_eq!(fs::read(&canary).unwrap(), b"foo");
        });
    });
}

#[test]
fn a_link_to_a_directory_is_a_link() {
    // Goal: remove_dir_all of a link removes the link.
    // Method: the directory behind it has a file.
    check(|| {
        with_scratch(|scratch| {
            let (link, directory) = (scratch.join("d1"), scratch.join("d2"));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("do_not_delete"), "foo").unwrap();
            fs::symlink(&directory, &link).unwrap();
            fs::remove_dir_all(&link).unwrap();
            assert!(fs::symlink_metadata(&link).is_err());
            assert!(fs::exists(directory.join("do_not_delete")).unwrap());
        });
    });
}

#[test]
fn a_file_is_no_tree() {
    // Goal: remove_dir_all of a file is NotADirectory, and the file stays.
    // Method: as said.
    check(|| {
        with_scratch(|scratch| {
            let canary = scratch.join("do_not_delete");
            fs::write(&canary, "foo").unwrap();
            assert_eq!(kind(fs::remove_dir_all(&canary)), ErrorKind::NotADirectory);
            assert!(fs::exists(&canary).unwrap());
        });
    });
}

#[test]
fn somebody_swaps_a_link_in() {
    // Goal: while a directory is removed over and over, somebody else puts a link to another one in its place, again and
    // again: what is in that other one is never removed.
    // Method: a thread of std's as the attacker, a few thousand rounds.
    check(|| {
        with_scratch(|scratch| {
            let (victim, outside) = (scratch.join("victim"), scratch.join("outside"));
            let canary = outside.join("canary");
            std::fs::create_dir(&outside).unwrap();
            std::fs::write(&canary, "").unwrap();
            let attacker = std::thread::spawn({
                let (victim, outside) = (victim.clone(), outside.clone());
                move || {
                    for _ in 0..coring_tests::rounds(3000, 100_000) {
                        let _ = std::fs::create_dir(&victim);
                        let _ = std::fs::remove_dir(&victim);
                        let _ = std::os::unix::fs::symlink(&outside, &victim);
                    }
                }
            });
            while !attacker.is_finished() {
                let _ = fs::remove_dir_all(&victim);
                assert!(canary.exists());
            }
            attacker.join().unwrap();
        });
    });
}

#[test]
fn what_may_not_be_written_may_be_removed() {
    // Goal: a read-only file is removed: that is a matter of its directory.
    // Method: mode 0o444.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
            fs::remove_file(&path).unwrap();
            assert!(!fs::exists(&path).unwrap());
        });
    });
}

#[test]
fn what_is_not_there() {
    // Goal: NotFound from each.
    // Method: remove_file, remove_dir, remove_dir_all.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("nothing");
            assert_eq!(kind(fs::remove_file(&path)), ErrorKind::NotFound);
            assert_eq!(kind(fs::remove_dir(&path)), ErrorKind::NotFound);
            assert_eq!(kind(fs::remove_dir_all(&path)), ErrorKind::NotFound);
        });
    });
}
