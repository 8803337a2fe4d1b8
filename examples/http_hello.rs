//! The smallest HTTP server that is one: says hello to everybody, on every core. For benchmarks.
//!
//! Requests that came together are answered together, with one write.

use coring::net::TcpStream;
use coring_examples::http::{Refusal, Requests, take_leave};
use coring_examples::{Arguments, exit, serve};
use std::error::Error;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;

const USAGE: &str = "http_hello [--port P] [--cores N]";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!";
const LAST_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\nConnection: close\r\n\r\nHello, world!";

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read(USAGE, &["port", "cores"])?;
    let port = arguments.option("port")?.unwrap_or(8080);
    let mut builder = coring::Runtime::builder();
    if let Some(cores) = arguments.option("cores")? {
        builder = builder.cores(cores);
    }
    builder
        .build()?
        .run(|| serve(Ipv4Addr::UNSPECIFIED.into(), port, greet))
}

/// Answers the requests of one connection.
fn greet(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut requests = Requests::default();
    let mut answers = Vec::with_capacity(4096);
    loop {
        match requests.parse() {
            Ok(Some(head)) if head.keep_alive => answers.extend_from_slice(ANSWER),
            Ok(Some(_last)) => {
                answers.extend_from_slice(LAST_ANSWER);
                return stream.write_all(&answers);
            }
            Ok(None) => {
                stream.write_all(&answers)?;
                answers.clear();
                if !requests.fill(stream)? {
                    return Ok(());
                }
            }
            Err(refusal) => {
                answers.extend_from_slice(&refuse(refusal));
                stream.write_all(&answers)?;
                return take_leave(stream);
            }
        }
    }
}

fn refuse(refusal: Refusal) -> Vec<u8> {
    let status = refusal.status();
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}
