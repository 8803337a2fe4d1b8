//! Where in a file: the position, and calls that leave it alone.

use super::with_scratch;
use coring::fs::{self, File};
use coring_tests::check;
use std::io::{Read, Seek, SeekFrom, Write};

#[test]
fn reads_go_on_where_the_last_one_ended() {
    // Goal: two reads give the two halves.
    // Method: eight bytes into two buffers of four.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            fs::write(&path, "ten-four").unwrap();
            let mut file = File::open(&path).unwrap();
            let mut both = [0; 8];
            assert_eq!(file.read(&mut both[..4]).unwrap(), 4);
            assert_eq!(file.read(&mut both[4..]).unwrap(), 4);
            assert_eq!(&both, b"ten-four");
        });
    });
}

#[test]
fn the_position_is_told() {
    // Goal: stream_position is what was sought, then what was read up to.
    // Method: seek to 4 of 8, read to the end.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            fs::write(&path, "ten-four").unwrap();
            let mut file = File::open(&path).unwrap();
            assert_eq!(file.stream_position().unwrap(), 0);
            file.seek(SeekFrom::Start(4)).unwrap();
            assert_eq!(file.stream_position().unwrap(), 4);
            let mut rest = [0; 4];
            file.read_exact(&mut rest).unwrap();
            assert_eq!(&rest, b"four");
            assert_eq!(file.stream_position().unwrap(), 8);
            file.rewind().unwrap();
            assert_eq!(file.stream_position().unwrap(), 0);
        });
    });
}

#[test]
fn a_write_in_the_middle_overwrites() {
    // Goal: after a seek a write replaces what was there and leaves what was before.
    // Method: the end of the text is longer than the old one.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            let mut file = File::create(&path).unwrap();
            file.write_all(b"food-is-yummy").unwrap();
            file.seek(SeekFrom::Start(3)).unwrap();
            file.write_all(b"-the-bar!!").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"foo-the-bar!!");
        });
    });
}

#[test]
fn seeking_from_everywhere() {
    // Goal: seeks from the end, from here and from the start find their bytes.
    // Method: three words, read backwards.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            fs::write(&path, "qwer-asdf-zxcv").unwrap();
            let mut file = File::open(&path).unwrap();
            let mut word = [0; 4];
            for (to, place, expected) in [
                (SeekFrom::End(-4), 10, b"zxcv"),
                (SeekFrom::Current(-9), 5, b"asdf"),
                (SeekFrom::Start(0), 0, b"qwer"),
            ] {
                assert_eq!(file.seek(to).unwrap(), place);
                file.read_exact(&mut word).unwrap();
                assert_eq!(&word, expected);
            }
        });
    });
}

#[test]
fn calls_with_an_offset_leave_the_position() {
    // Goal: read_at and write_at find their place whatever the position is and leave it; a write beyond the end
    // leaves a hole of zeroes; a read at or beyond the end gives 0.
    // Method: both kinds of call in turn, the position asked after each.
    check(|| {
        with_scratch(|scratch| {
            let mut file = File::create_new(scratch.join("file")).unwrap();
            let mut buffer = [0; 16];
            assert_eq!(file.write_at(b"asdf", 5).unwrap(), 4);
            assert_eq!(file.stream_position().unwrap(), 0);
            assert_eq!(file.read_at(&mut buffer, 5).unwrap(), 4);
            assert_eq!(&buffer[..4], b"asdf");
            assert_eq!(file.read_at(&mut buffer[..5], 0).unwrap(), 5);
            assert_eq!(&buffer[..5], b"\0\0\0\0\0");
            assert_eq!(file.stream_position().unwrap(), 0);
            assert_eq!(file.write(b"qwer-").unwrap(), 5);
            assert_eq!(file.stream_position().unwrap(), 5);
            assert_eq!(file.read(&mut buffer).unwrap(), 4);
            assert_eq!(&buffer[..4], b"asdf");
            assert_eq!(file.stream_position().unwrap(), 9);
            assert_eq!(file.read_at(&mut buffer[..5], 0).unwrap(), 5);
            assert_eq!(&buffer[..5], b"qwer-");
            assert_eq!(file.write_at(b"-zxcv", 9).unwrap(), 5);
            assert_eq!(file.stream_position().unwrap(), 9);
            assert_eq!(file.seek(SeekFrom::End(-5)).unwrap(), 9);
            assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 14);
            assert_eq!(&buffer[..14], b"qwer-asdf-zxcv");
            assert_eq!(file.stream_position().unwrap(), 9);
            assert_eq!(file.read_at(&mut buffer, 14).unwrap(), 0);
            assert_eq!(file.read_at(&mut buffer, 15).unwrap(), 0);
        });
    });
}

#[test]
fn a_clone_shares_the_position() {
    // Goal: what one handle reads the other has passed; the file lives on when one of them goes.
    // Method: write and seek with one, read with the other, write again.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            let mut one = File::create_new(&path).unwrap();
            let mut other = one.try_clone().unwrap();
            one.write_all(b"hello world").unwrap();
            one.seek(SeekFrom::Start(2)).unwrap();
            let mut text = String::new();
            other.read_to_string(&mut text).unwrap();
            assert_eq!(text, "llo world");
            drop(other);
            one.write_all(b"!").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"hello world!");
        });
    });
}
