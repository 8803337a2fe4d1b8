//! The file server and the hello server under curl, wrk and raw requests.

use super::{curl, run, site};
use coring_tests::command::exists;
use coring_tests::random::pattern;
use coring_tests::server::Server;
use coring_tests::{check, skip};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

#[test]
fn static_files_under_curl() {
    // Goal: whole files and ranges arrive unchanged, small ones and those by sendfile; what is refused has the status
    // that HTTP wants; no way leads out of the root; a connection is kept.
    // Method: bodies are compared; statuses are listed.
    check(|| {
        need!("curl");
        let (_folder, root) = site();
        let root = root.to_str().unwrap();
        let server = server!(
            "static_files",
            "--port",
            "0",
            "--root",
            root,
            "--cores",
            "2"
        );
        let url = |path: &str| format!("http://127.0.0.1:{}{path}", server.port);
        let before = server.usage();
        for file in ["index.html", "empty", "small", "big", "sub/index.html"] {
            let (status, body) = curl(&[&url(&format!("/{file}"))]);
            assert_eq!(status, 200, "{file}");
            assert!(
                body == fs::read(format!("{root}/{file}")).unwrap(),
                "{file}"
            );
        }
        let big = pattern(2, 20_000_001);
        for (asked, range) in [
            ("0-0", 0..1),
            ("65530-65600", 65_530..65_601),
            ("100000-15000000", 100_000..15_000_001),
            ("-70000", 19_930_001..20_000_001),
            ("19999990-", 19_999_990..20_000_001),
        ] {
            let (status, body) = curl(&["--range", asked, &url("/big")]);
            assert_eq!(status, 206, "{asked}");
            assert!(body == big[range], "{asked}");
        }
        let long = format!("X-Long: {}", "x".repeat(9000));
        let upload = format!("{root}/big");
        for (expected, arguments) in [
            (416, &["--range", "20000001-", "/big"][..]),
            (404, &["/nowhere"]),
            (404, &["/sub"]),
            (200, &["/sub/"]),
            (405, &["-X", "DELETE", "/"]),
            (405, &["--data", "small", "/"]),
            (413, &["-T", &upload, "/put"]),
            (
                413,
                &[
                    "--data-binary",
                    &format!("@{upload}"),
                    "-H",
                    "Expect:",
                    "/post",
                ],
            ),
            (
                413,
                &["-H", "Transfer-Encoding: chunked", "-X", "POST", "/"],
            ),
            (400, &["-H", "Content-Length: +5", "/"]),
            (431, &["-H", &long, "/"]),
            (400, &["/../secret"]),
            (400, &["/sub/../../secret"]),
            (400, &["/%2e%2e/secret"]),
            (400, &["/..%2fsecret"]),
            (400, &["//etc/passwd"]),
            (400, &["/nul%00"]),
        ] {
            let (path, options) = arguments.split_last().unwrap();
            let url = url(path);
            let arguments: Vec<_> = options.iter().copied().chain([&*url]).collect();
            let (status, body) = curl(&arguments);
            assert_eq!(status, expected, "{arguments:?}");
            assert!(!body.windows(6).any(|part| part == b"secret"));
        }
        let head = run(["curl", "--silent", "--head", &url("/big")]);
        assert!(head.contains("Content-Length: 20000001\r\n"), "{head}");
        let twice = [
            "curl",
            "--silent",
            "--write-out",
            "/%{num_connects}",
            &url("/empty"),
            &url("/empty"),
        ];
        assert_eq!(run(twice), "/1/0", "the second one needs no connection");
        server.settles(before);
    });
}

#[test]
fn static_files_under_raw_requests() {
    // Goal: requests that were sent together are answered in order; what is no HTTP is answered with 400; two lengths
    // that differ are refused; an answer that refuses a long body arrives, though the client is still sending.
    // Method: a plain socket that sends all it has and reads to the end.
    check(|| {
        let (_folder, root) = site();
        let server = file_server!(root);
        let ask = |request: &[u8]| {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            // A server that resets the connection in the middle is seen by the read.
            let _ = stream.write_all(request);
            let _ = stream.shutdown(Shutdown::Write);
            let mut answer = String::new();
            stream
                .read_to_string(&mut answer)
                .expect("an answer and its end, no reset");
            answer
        };
        let together = ask(b"GET /empty HTTP/1.1\r\n\r\nGET /sub/ HTTP/1.1\r\n\r\nGET /no HTTP/1.1\r\nConnection: x, Close\r\n\r\n");
        assert_eq!(together.matches("HTTP/1.1 ").count(), 3, "{together}");
        assert!(
            together.contains("\r\n\r\nsubHTTP/1.1 404 Not Found\r\n"),
            "{together}"
        );
        assert!(
            together.ends_with("Connection: close\r\n\r\n"),
            "{together}"
        );
        assert!(ask(b"GET http://any/sub/ HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nsub"));
        assert!(ask(b"GET / HTTP/1.0\r\n\r\n").contains("Connection: close\r\n"));
        assert_eq!(ask(b""), "");
        for (request, status) in [
            (&b"nonsense\r\n\r\n"[..], "400"),
            (b"GET ../x HTTP/1.1\r\n\r\n", "400"),
            (
                b"GET / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
                "400",
            ),
            (&[b'x'; 20_000], "431"),
        ] {
            let answer = ask(request);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
        let mut upload = b"PUT / HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n".to_vec();
        upload.resize(upload.len() + 8_000_000, b'x');
        for _ in 0..5 {
            assert!(ask(&upload).starts_with("HTTP/1.1 413 "));
        }
    });
}

#[test]
fn static_files_without_descriptors() {
    // Goal: a file that cannot be opened just now is not said to be missing, and is there again afterwards.
    // Method: a connection that is open already; meanwhile the server may have no new descriptor.
    check(|| {
        need!("prlimit");
        let (_folder, root) = site();
        let server = file_server!(root);
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let mut status = || {
            stream.write_all(b"HEAD /small HTTP/1.1\r\n\r\n").unwrap();
            let (mut answer, mut byte) = (Vec::new(), [0]);
            while !answer.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
            String::from_utf8(answer[9..12].to_vec()).unwrap()
        };
        assert_eq!(status(), "200");
        server.starve(true);
        assert_eq!(status(), "503");
        server.starve(false);
        assert_eq!(status(), "200");
    });
}

#[test]
fn http_under_wrk() {
    // Goal: thousands of requests over kept connections, hello and files, small and by sendfile: every one is answered
    // with 200, and nothing stays open.
    // Method: wrk for a second each; it counts errors and other answers. An answer that takes longer than its time limit is an
    // error to it, and none may come within the second: how fast this goes is not tested here.
    check(|| {
        need!("wrk");
        let (_folder, root) = site();
        let hello = server!("http_hello", "--port", "0", "--cores", "2");
        let files = file_server!(root);
        for (server, path) in [
            (&hello, "/"),
            (&files, "/index.html"),
            (&files, "/small"),
            (&files, "/big"),
        ] {
            let before = server.usage();
            let url = format!("http://127.0.0.1:{}{path}", server.port);
            let answered = ["1", "10", "30"].iter().find_map(|seconds| {
                let words = ["-t1", "-c32", "--timeout", "60", "-d", seconds, &url];
                let report = run(["wrk"].into_iter().chain(words));
                assert!(report.contains("Requests/sec"), "{report}");
                (!report.contains("Requests/sec:      0.00")).then_some(report)
            });
            let report = answered.expect("some are answered within half a minute");
            for bad in ["Socket errors", "Non-2xx"] {
                assert!(!report.contains(bad), "{report}");
            }
            server.settles((before.0, before.1 + 16 * 1024));
        }
    });
}
