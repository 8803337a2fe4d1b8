//! What a receive costs: CPU of the receiving core for a gigabyte over loopback, by method and by pool; and for a message of
//! 64 bytes.
//!
//! `cargo run --release -p coring --example recv_stream`
//!
//! Method: a thread with blocking sockets sends; the core's thread is asked for its CPU time (`CLOCK_THREAD_CPUTIME_ID`) before
//! and after; rounds of all methods alternate; the least of five rounds.
#![expect(unsafe_code, reason = "asks for the CPU time of the thread")]

use coring::net::{Filling, TcpListener, TcpStream};
use std::error::Error;
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

const ROUNDS: usize = 5;
const BULK: (usize, usize) = (256 << 20, 256 << 10);
const SHORT: (usize, usize) = (16 << 20, 64);

/// How the bytes are taken.
#[derive(Clone, Copy, PartialEq)]
enum Method {
    Read,
    Pooled,
    Stream(Filling),
}

const METHODS: [(&str, Method); 5] = [
    ("read", Method::Read),
    ("recv_buffer", Method::Pooled),
    ("stream, whole", Method::Stream(Filling::Whole)),
    ("stream, bundles", Method::Stream(Filling::Bundles)),
    ("stream, incremental", Method::Stream(Filling::Incremental)),
];

fn main() -> Result<(), Box<dyn Error>> {
    for (what, (bytes, message)) in [("bulk, 256 KiB writes", BULK), ("64 byte writes", SHORT)] {
        for pool in [(256, 4096), (64, 65_536)] {
            println!(
                "{what}, {} buffers of {} KiB: ms of CPU a GB",
                pool.0,
                pool.1 >> 10
            );
            let mut least = [f64::MAX; METHODS.len()];
            for _ in 0..ROUNDS {
                for (least, (_, method)) in least.iter_mut().zip(METHODS) {
                    *least = least.min(round(method, pool, bytes, message)?);
                }
            }
            for (least, (name, _)) in least.iter().zip(METHODS) {
                println!("  {name:<20} {least:>8.1}");
            }
        }
    }
    Ok(())
}

/// One stream from beginning to end. Milliseconds of CPU for a gigabyte.
fn round(
    method: Method,
    pool: (u16, usize),
    bytes: usize,
    message: usize,
) -> Result<f64, Box<dyn Error>> {
    let filling = match method {
        Method::Stream(filling) => filling,
        _ => Filling::Whole,
    };
    let runtime = coring::Runtime::builder()
        .cores(1)
        .receive_pool(pool.0, pool.1)
        .stream_filling(filling)
        .build()?;
    let spent = runtime.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let sender = thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address)?;
            let message = vec![7; message];
            (0..bytes / message.len()).try_for_each(|_| stream.write_all(&message))
        });
        let (stream, _) = listener.accept()?;
        let before = cpu_time();
        let received = receive(&stream, method, pool.1)?;
        let spent = cpu_time() - before;
        sender.join().expect("it does not panic")?;
        assert_eq!(received, bytes);
        Ok::<_, std::io::Error>(spent)
    })?;
    Ok(spent.as_secs_f64() * 1e3 * (1 << 30) as f64 / bytes as f64)
}

fn receive(stream: &TcpStream, method: Method, buffer_bytes: usize) -> std::io::Result<usize> {
    let mut received = 0;
    let mut buffer = vec![0; buffer_bytes];
    let mut recv_stream = stream.recv_stream();
    loop {
        let bytes = match method {
            Method::Read => {
                let mut stream = stream;
                stream.read(&mut buffer)?
            }
            Method::Pooled => stream.recv_buffer()?.len(),
            Method::Stream(_) => recv_stream.recv()?.len(),
        };
        if bytes == 0 {
            return Ok(received);
        }
        received += bytes;
    }
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the place is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec
            .unsigned_abs()
            .try_into()
            .expect("below a second"),
    )
}
