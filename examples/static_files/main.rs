//! A file server: GET and HEAD with ranges, on every core.
//!
//! ```text
//!   request --> target.rs: a path below the root, or 400 --> open, through the ring --> 404 or 503, or
//!   range.rs: the part that is wanted, or 416 --> head, then the bytes: small ones with the head, others by sendfile
//! ```
//!
//! Symbolic links below the root are followed: who may write there decides what is served.

mod range;
mod target;

use coring::coro;
use coring::fs::File;
use coring::net::TcpStream;
use coring_examples::http::{Head, Method, Requests, take_leave};
use coring_examples::{Arguments, exit, serve};
use std::error::Error;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const USAGE: &str = "static_files [--port P] [--root DIR] [--cores N]";
/// Up to here a body is copied behind its head and both go out with one write.
const SMALL_BYTES: u64 = 64 * 1024;
/// A client that says nothing, or takes nothing, for so long is gone.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read(USAGE, &["port", "root", "cores"])?;
    let port = arguments.option("port")?.unwrap_or(8080);
    let root: PathBuf = arguments.option("root")?.unwrap_or_else(|| ".".into());
    let mut builder = coring::Runtime::builder();
    if let Some(cores) = arguments.option("cores")? {
        builder = builder.cores(cores);
    }
    builder.build()?.run(|| {
        let root: Arc<Path> = coring::fs::canonicalize(&root)
            .map_err(|error| format!("{}: {error}", root.display()))?
            .into();
        serve(Ipv4Addr::UNSPECIFIED.into(), port, move |stream| {
            connection(stream, &root)
        })
    })
}

/// Answers the requests of one connection.
fn connection(mut stream: &TcpStream, root: &Path) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut requests = Requests::default();
    loop {
        match requests.parse() {
            Ok(Some(head)) => {
                answer(stream, root, &requests, &head)?;
                if !head.keep_alive {
                    return Ok(());
                }
            }
            Ok(None) => {
                if !requests.fill(stream)? {
                    return Ok(());
                }
            }
            Err(refusal) => {
                stream.write_all(&empty(refusal.status(), "", false))?;
                return take_leave(stream);
            }
        }
    }
}

fn answer(mut stream: &TcpStream, root: &Path, requests: &Requests, head: &Head) -> io::Result<()> {
    let refuse = |mut stream: &TcpStream, status, more| {
        stream.write_all(&empty(status, more, head.keep_alive))
    };
    if head.method == Method::Other {
        return refuse(stream, "405 Method Not Allowed", "Allow: GET, HEAD\r\n");
    }
    let Some(path) = target::below(root, requests.text(head.target.clone())) else {
        return refuse(stream, "400 Bad Request", "");
    };
    let (file, bytes) = match open(&path) {
        Ok(opened) => opened,
        Err(error) => return refuse(stream, status_of(&error), ""),
    };
    let asked = head.range.clone().map(|range| requests.text(range));
    let (status, part, which) = match range::part(asked, bytes) {
        range::Part::Whole => ("200 OK", 0..bytes, String::new()),
        range::Part::Some(part) => {
            let which = format!(
                "Content-Range: bytes {}-{}/{bytes}\r\n",
                part.start,
                part.end - 1
            );
            ("206 Partial Content", part, which)
        }
        range::Part::Impossible => {
            let more = format!("Content-Range: bytes */{bytes}\r\n");
            return refuse(stream, "416 Range Not Satisfiable", &more);
        }
    };
    let length = part.end - part.start;
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nAccept-Ranges: bytes\r\n{which}{}\r\n",
        connection_header(head.keep_alive)
    )
    .into_bytes();
    if head.method == Method::Head {
        return stream.write_all(&answer);
    }
    if length <= SMALL_BYTES {
        let body = answer.len();
        answer.resize(body + usize::try_from(length).expect("it is small"), 0);
        file.read_exact_at(&mut answer[body..], part.start)?;
        return stream.write_all(&answer);
    }
    stream.write_all(&answer)?;
    match stream.send_file(&file, part.start, length)? {
        sent if sent == length => Ok(()),
        // The head has promised more: to end the connection is the only way to say so.
        _ => Err(io::Error::other("the file became shorter")),
    }
}

/// A regular file and its length. Not for ever: a FIFO opens when it has a writer.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = coro::timeout(PATIENCE, || File::open(path)).map_err(io::Error::other)??;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    Ok((file, metadata.len()))
}

/// A file that cannot be had now, for want of descriptors or memory, is not one that does not exist: caches remember that.
fn status_of(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG | libc::EACCES) => {
            "404 Not Found"
        }
        _ => "503 Service Unavailable",
    }
}

/// An answer without a body.
fn empty(status: &str, more: &str, keep_alive: bool) -> Vec<u8> {
    let connection = connection_header(keep_alive);
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{more}{connection}\r\n").into_bytes()
}

fn connection_header(keep_alive: bool) -> &'static str {
    if keep_alive {
        ""
    } else {
        "Connection: close\r\n"
    }
}
