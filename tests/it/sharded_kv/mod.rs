//! The key-value example, from outside: clients of ours, redis-cli, redis-benchmark, and a real redis-server beside it.
//!
//! The example is the binary that `cargo test` at the root has built beside this one. Each test has servers of its own,
//! on free ports.

mod crash;
mod differential;
mod files;
mod malformed;
mod messages;
mod tools;

use coring_tests::command::example;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// The example, running.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// `None` where it was not built.
    fn start<S: AsRef<OsStr>>(
        cores: usize,
        arguments: impl IntoIterator<Item = S>,
    ) -> Option<Self> {
        let mut server = Self::launch(cores, arguments)?;
        server.wait();
        Some(server)
    }

    /// As [`start`](Self::start), before it listens.
    fn launch<S: AsRef<OsStr>>(
        cores: usize,
        arguments: impl IntoIterator<Item = S>,
    ) -> Option<Self> {
        Self::launch_under(&["env"], cores, arguments)
    }

    /// As [`launch`](Self::launch), by a program that is given the server's command.
    fn launch_under<S: AsRef<OsStr>>(
        wrapper: &[&str],
        cores: usize,
        arguments: impl IntoIterator<Item = S>,
    ) -> Option<Self> {
        let child = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg(example("sharded_kv")?)
            .args(["--port", "0", "--cores", &cores.to_string()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example starts");
        Some(Self { child, port: 0 })
    }

    /// Waits until it listens.
    fn wait(&mut self) {
        let mut line = String::new();
        let stdout = self.child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a pipe");
        let address = line.strip_prefix("listening on 127.0.0.1:");
        let port = address.and_then(|rest| rest.split(' ').next()?.parse().ok());
        self.port = port.unwrap_or_else(|| panic!("no port in {line:?}: {}", self.complaints()));
    }

    fn logging(cores: usize, file: &Path, fsync: &str) -> Option<Self> {
        Self::start(cores, Self::log_arguments(file, fsync))
    }

    fn log_arguments<'a>(file: &'a Path, fsync: &'a str) -> [&'a OsStr; 4] {
        [
            "--appendonly".as_ref(),
            file.as_os_str(),
            "--fsync".as_ref(),
            fsync.as_ref(),
        ]
    }

    fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// Asks it to end, and waits: its exit code.
    fn end(mut self) -> Option<i32> {
        let pid = self.child.id().try_into().expect("a pid is small");
        assert_eq!(signal(pid, libc::SIGTERM), 0);
        self.child.wait().expect("our child").code()
    }

    fn kill(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// What it says on stderr, to its end.
    fn complaints(&mut self) -> String {
        let mut text = String::new();
        let stderr: Option<ChildStderr> = self.child.stderr.take();
        stderr
            .expect("piped, and taken once")
            .read_to_string(&mut text)
            .expect("it is text");
        text
    }
}

#[expect(unsafe_code, reason = "kill(2) has no safe name in std")]
fn signal(pid: libc::pid_t, signal: libc::c_int) -> libc::c_int {
    // SAFETY: it sends a signal.
    unsafe { libc::kill(pid, signal) }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example or leave the test.
macro_rules! server {
    ($start:expr) => {
        match $start {
            Some(server) => server,
            None => coring_tests::skip!(
                "the sharded_kv example is not built: run `cargo test` at the root"
            ),
        }
    };
}
pub(crate) use server;

/// A client that knows the protocol and nothing else.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        let limit = Some(Duration::from_secs(30));
        stream.set_read_timeout(limit).expect("a valid time");
        stream.set_write_timeout(limit).expect("a valid time");
        stream.set_nodelay(true).expect("a socket option");
        Self {
            stream: BufReader::new(stream),
        }
    }

    fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// One answer, as it came. Errors when the connection ends.
    fn answer(&mut self) -> std::io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        self.read_answer(&mut answer)?;
        Ok(answer)
    }

    fn read_answer(&mut self, into: &mut Vec<u8>) -> std::io::Result<()> {
        let start = into.len();
        if self.stream.read_until(b'\n', into)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&into[start..]).into_owned();
        let number = || line[1..].trim_end().parse::<i64>();
        match line.as_bytes()[0] {
            b'$' => {
                if let Ok(length @ 0..) = number() {
                    let start = into.len();
                    let length = usize::try_from(length).expect("a length") + 2;
                    into.resize(start + length, 0);
                    self.stream.read_exact(&mut into[start..])?;
                }
            }
            kind @ (b'*' | b'>' | b'%') => {
                let parts = number().expect("a count") * if kind == b'%' { 2 } else { 1 };
                for _ in 0..parts {
                    self.read_answer(into)?;
                }
            }
            b'+' | b'-' | b':' | b'_' => {}
            other => panic!("an answer begins with {other:?}: {line:?}"),
        }
        Ok(())
    }

    /// Sends a command and returns its answer.
    fn try_ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> std::io::Result<Vec<u8>> {
        self.send_bytes(&request(words))?;
        self.answer()
    }

    #[track_caller]
    fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> String {
        let answer = self.try_ask(words).expect("the server answers");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A command as clients send it.
fn request<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
