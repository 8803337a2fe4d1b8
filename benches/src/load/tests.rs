//! The generator against servers whose behaviour is known: honest, lying, stalling.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::{Load, Pace, Plan};

/// A server of one thread a connection, each running `serve`; it ends with the test process.
fn server(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener
        .local_addr()
        .expect("a bound listener has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn echo_after(mut stream: TcpStream, pause: impl Fn(usize) -> Duration) {
    let mut buffer = [0; 256];
    for request in 0.. {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => {
                thread::sleep(pause(request));
                if stream.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

const CLOSED: Plan = Plan {
    connections: 3,
    message_bytes: 64,
    pace: Pace::Closed,
};

/// Goal: requests are counted, their latencies recorded, and waiting for a slow server is idle time.
#[test]
fn closed_loop_counts() {
    let address = server(|stream| echo_after(stream, |_| Duration::from_millis(5)));
    let mut load = Load::connect(address, CLOSED).expect("an honest server passes");
    load.start().expect("three requests fit");
    let tally = load
        .run(Duration::from_millis(200))
        .expect("nothing is lost");
    assert!(tally.requests > 10 && tally.requests <= 3 * 200 / 5);
    assert!(tally.latency.min() >= 5_000_000);
    assert!(tally.idle > 0.5);
}

/// Goal: a server that returns other bytes is found out before anything is measured.
#[test]
fn wrong_bytes_are_refused() {
    let address = server(|mut stream| {
        let mut buffer = [0; 64];
        while stream.read_exact(&mut buffer).is_ok() {
            buffer[63] ^= 1;
            let _ = stream.write_all(&buffer);
        }
    });
    let error = Load::connect(address, CLOSED).expect_err("the last byte is wrong");
    assert!(error.to_string().contains("other bytes"), "{error}");
}

/// Goal: the open loop charges a stall to every request that was due in it. Method: one stall of 100 ms in
/// 300 ms at 1,000 requests/s on one connection; a third of all requests must show a latency above 1 ms.
#[test]
fn open_loop_has_no_coordinated_omission() {
    let stall = |request| Duration::from_millis(if request == 50 { 100 } else { 0 });
    let address = server(move |stream| {
        echo_after(stream, |request| {
            Duration::from_millis(if request == 50 { 100 } else { 0 })
        });
    });
    assert_eq!(stall(50), Duration::from_millis(100));
    let plan = Plan {
        connections: 1,
        pace: Pace::Open { rate: 1000 },
        ..CLOSED
    };
    let mut load = Load::connect(address, plan).expect("an honest server passes");
    load.start().expect("nothing is sent yet");
    let tally = load
        .run(Duration::from_millis(300))
        .expect("nothing is lost");
    let slow = 1.0 - tally.latency.percentile_below(1_000_000) / 100.0;
    assert!(slow > 0.25, "only {slow} of the requests saw the stall");
    assert!(tally.requests > 280, "{} requests", tally.requests);
}
