//! `metrics [port]`: a Prometheus endpoint that tells what the cores of its own runtime do.
//!
//! `curl localhost:9100/metrics` has the figures of every core. Meanwhile coroutines on every core sleep and compute, so that there
//! is something to see; one of them computes for too long now and then, which the stall detector reports. `kill -USR2` writes
//! what every coroutine is doing.

use coring::metrics::{PROMETHEUS_CONTENT_TYPE, prometheus};
use coring::net::{TcpListener, TcpStream};
use coring::{Runtime, coro};
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

/// No more of a request is read.
const HEAD_BYTES: u64 = 16 << 10;
/// A client that has not had its answer by then is given up.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args()
        .nth(1)
        .map_or(Ok(9100), |port| port.parse::<u16>())?;
    let runtime = Runtime::builder()
        .stall_detector(Duration::from_millis(50))
        .build()?;
    runtime.run(|| {
        coring::dump_on_signal(libc::SIGUSR2)?;
        coring::spawn_on_each(work);
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        println!("listening on http://{}/metrics", listener.local_addr()?);
        loop {
            match listener.accept() {
                Ok((stream, _)) => drop(coro::spawn(move || serve(stream))),
                Err(error) if coring::io::is_cancelled(&error) => return Err(error.into()),
                // Too many clients, say: some will have gone soon.
                Err(error) => {
                    eprintln!("no client: {error}");
                    coro::sleep(Duration::from_millis(100));
                }
            }
        }
    })
}

/// Something to see.
fn work(core: usize) {
    for round in 0u64.. {
        let busy = match round % 1000 {
            999 if core == 0 => Duration::from_millis(100),
            _ => Duration::from_micros(20),
        };
        let begin = Instant::now();
        while begin.elapsed() < busy {}
        coro::sleep(Duration::from_millis(5));
    }
}

fn serve(stream: TcpStream) {
    let answered = coro::timeout(PATIENCE, || answer(stream));
    if let Err(error) = answered.map_err(io::Error::from).flatten() {
        eprintln!("a client: {error}");
    }
}

fn answer(stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new((&stream).take(HEAD_BYTES)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let (status, body) = if request.starts_with("GET /metrics ") {
        let stats = Runtime::stats().map_err(|error| io::Error::other(error.to_string()))?;
        ("200 OK", prometheus(&stats))
    } else {
        ("404 Not Found", "try /metrics\n".to_owned())
    };
    let length = body.len();
    write!(
        &stream,
        "HTTP/1.1 {status}\r\nContent-Type: {PROMETHEUS_CONTENT_TYPE}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
