//! The load client: a closed loop on each connection, a line a second, a table at the end.
//!
//! Each connection is a coroutine on the last core that sends a message, waits for its echo and sends the next.
//! Latencies are those of a closed loop: a slow answer delays the next request, so they say little about an open
//! system under the same rate.

use coring::coro;
use coring::net::TcpStream;
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What all connections record into, since the last line and in all.
struct Record {
    second: RefCell<Histogram<u64>>,
    total: RefCell<Histogram<u64>>,
    stop: Cell<bool>,
}

/// Loads the server from the last core and prints what it sees.
pub(crate) fn run(
    address: SocketAddr,
    connections: usize,
    length: Duration,
    size: usize,
) -> Result<(), Box<dyn Error>> {
    if connections == 0 || size == 0 {
        return Err("--load and --size are at least 1".into());
    }
    let core = coring::cores() - 1;
    let client = coring::spawn_on(core, move || {
        client(address, connections, length, size).map_err(|e| e.to_string())
    });
    Ok(client.join()??)
}

fn client(
    address: SocketAddr,
    connections: usize,
    length: Duration,
    size: usize,
) -> Result<(), Box<dyn Error>> {
    let streams: io::Result<Vec<_>> = (0..connections).map(|_| connect(address)).collect();
    let streams = streams.map_err(|error| cause_and_cure(&error, connections))?;
    let record = Rc::new(Record {
        second: RefCell::new(histogram()?),
        total: RefCell::new(histogram()?),
        stop: Cell::new(false),
    });
    println!(
        "{connections} connections to {address}, {size} bytes a message, for {} s",
        length.as_secs()
    );
    let started = Instant::now();
    let loops: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let record = Rc::clone(&record);
            coro::spawn(move || request_loop(stream, size, &record))
        })
        .collect();
    while started.elapsed() < length {
        let second_started = Instant::now();
        coro::sleep(Duration::from_secs(1).min(length.saturating_sub(started.elapsed())));
        print_second(&record, started.elapsed(), second_started.elapsed())?;
    }
    record.stop.set(true);
    let elapsed = started.elapsed();
    for request_loop in loops {
        request_loop.join()??;
    }
    print_table(&record.total.borrow(), elapsed);
    Ok(())
}

/// From 1 ns to a minute, to three digits.
fn histogram() -> Result<Histogram<u64>, hdrhistogram::CreationError> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn request_loop(mut stream: TcpStream, size: usize, record: &Record) -> io::Result<()> {
    let message = vec![0x5A; size];
    let mut answer = vec![0; size];
    while !record.stop.get() {
        let started = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut answer)?;
        let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if answer != message {
            return Err(io::Error::other("the echo differs from what was sent"));
        }
        record.second.borrow_mut().saturating_record(nanoseconds);
    }
    Ok(())
}

fn print_second(record: &Record, at: Duration, length: Duration) -> Result<(), Box<dyn Error>> {
    let mut second = record.second.borrow_mut();
    let rate = second.len() as f64 / length.as_secs_f64();
    let [p50, p99, p999] =
        [0.5, 0.99, 0.999].map(|quantile| micros(second.value_at_quantile(quantile)));
    println!(
        "{:>4.0} s {rate:>10.0} requests/s   p50 {p50:>7.1} us   p99 {p99:>7.1}   p99.9 {p999:>7.1}",
        at.as_secs_f64()
    );
    record.total.borrow_mut().add(&*second)?;
    second.reset();
    Ok(())
}

fn print_table(total: &Histogram<u64>, elapsed: Duration) {
    println!("\n{:<12} {:>12}", "requests", total.len());
    println!(
        "{:<12} {:>12.0}",
        "requests/s",
        total.len() as f64 / elapsed.as_secs_f64()
    );
    let rows = [
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("max", 1.0),
    ];
    for (name, quantile) in rows {
        println!(
            "{name:<12} {:>9.1} us",
            micros(total.value_at_quantile(quantile))
        );
    }
}

fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

fn cause_and_cure(error: &io::Error, connections: usize) -> String {
    const EMFILE: i32 = 24;
    if error.raw_os_error() == Some(EMFILE) {
        let needed = 2 * connections + 32;
        return format!(
            "cannot open {connections} connections: the process may not have that many open files; client and server \
             need about {needed} here: raise the limit with `ulimit -n {needed}`, or ask for fewer with --load"
        );
    }
    format!("cannot connect to the server: {error}")
}
