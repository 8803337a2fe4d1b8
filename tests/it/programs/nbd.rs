//! The block device under fio, qemu-io and nbdcopy.

use super::run;
use coring_tests::command::{self, exists};
use coring_tests::random::pattern;
use coring_tests::server::Server;
use coring_tests::{check, skip};
use std::fs;
use std::path::{Path, PathBuf};

/// A disk of 64 MiB, served.
fn disk(folder: &Path) -> Option<(Server, PathBuf, String)> {
    let path = folder.join("disk");
    fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let server = Server::start("nbd", &["--port", "0", "--file", path.to_str().unwrap()])?;
    let url = format!("nbd://127.0.0.1:{}", server.port);
    Some((server, path, url))
}

#[test]
fn nbd_under_fio() {
    // Goal: a block device over our sockets and files loses and mixes up nothing, with many requests in flight.
    // Method: fio writes with a checksum in each block and reads all of it back; random 4 KiB, mixed sizes, sequential.
    check(|| {
        need!("fio");
        if !run(["fio", "--enghelp"]).contains("nbd") {
            skip!("this fio has no nbd engine");
        }
        let folder = tempfile::tempdir().unwrap();
        let Some((_server, _, url)) = disk(folder.path()) else {
            skip!("the example nbd is not built: run `cargo test` at the root");
        };
        for line in [
            "--rw=randwrite --bs=4k --iodepth=32",
            "--rw=randrw --bsrange=512-64k --bs_unaligned=1 --iodepth=16",
            "--rw=write --bs=1M --iodepth=8",
        ] {
            let common = [
                "fio",
                "--name=verify",
                "--ioengine=nbd",
                "--size=32M",
                "--verify=crc32c",
                "--verify_fatal=1",
            ];
            let uri = format!("--uri={url}");
            let directory = format!("--aux-path={}", folder.path().display());
            run(common
                .into_iter()
                .chain([&*uri, &*directory])
                .chain(line.split(' ')));
        }
    });
}

#[test]
fn nbd_under_qemu_io() {
    // Goal: patterns that were written are read back, at odd offsets, with requests in flight side by side, zeroed,
    // flushed and with forced access; a read beyond the end is an error and no end of the connection.
    // Method: qemu-io checks each pattern itself and says when one differs.
    check(|| {
        need!("qemu-io");
        let folder = tempfile::tempdir().unwrap();
        let Some((_server, path, url)) = disk(folder.path()) else {
            skip!("the example nbd is not built: run `cargo test` at the root");
        };
        let steps = [
            "write -P 7 0 1M",
            "write -P 9 4095 65539",
            "read -P 9 4095 65539",
            "read -P 7 0 4095",
            "aio_write -P 3 8M 2M",
            "aio_write -P 4 16M 2M",
            "aio_write -P 5 18M 64k",
            "aio_flush",
            "read -P 3 8M 2M",
            "read -P 4 16M 2M",
            "read -P 5 18M 64k",
            "flush",
            "write -z 8M 1M",
            "read -P 0 8M 1M",
            "write -f -P 6 32M 4k",
            "read -P 6 32M 4k",
            "read -P 0 63M 1M",
        ];
        let commands = steps.iter().flat_map(|step| ["-c", step]);
        let report = run(["qemu-io", "-f", "raw", &url].into_iter().chain(commands));
        for bad in ["Pattern verification failed", "failed:", "error"] {
            assert!(!report.contains(bad), "{report}");
        }
        let after = [
            "qemu-io",
            "-f",
            "raw",
            &url,
            "-c",
            "read 63M 2M",
            "-c",
            "read -P 6 32M 4k",
        ];
        let report = command::run(after);
        let words = format!("{}{}", report.stdout, report.stderr);
        assert!(
            words.contains("read 4096/4096"),
            "the connection goes on: {words}"
        );
        assert_eq!(fs::read(path).unwrap()[4095..4095 + 65539], [9; 65539]);
    });
}

#[test]
fn nbd_under_nbdcopy() {
    // Goal: an image copied onto the device and back is the same image.
    // Method: nbdcopy both ways, with its several connections; files are compared.
    check(|| {
        need!("nbdcopy");
        let folder = tempfile::tempdir().unwrap();
        let Some((_server, path, url)) = disk(folder.path()) else {
            skip!("the example nbd is not built: run `cargo test` at the root");
        };
        let (from, back) = (folder.path().join("from"), folder.path().join("back"));
        let image = pattern(5, 64 << 20);
        fs::write(&from, &image).unwrap();
        run(["nbdcopy", from.to_str().unwrap(), &url]);
        assert!(fs::read(path).unwrap() == image);
        run(["nbdcopy", &url, back.to_str().unwrap()]);
        assert!(fs::read(back).unwrap() == image);
    });
}
