//! The generator against servers whose behaviour is known: honest, lying, stalling.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::{Exchange, Load, Pace, Plan};

/// An echo server of one thread a connection, which ends with the test process. `pause` says how long to wait
/// before an answer, by the number of the request.
fn server(pause: fn(usize) -> Duration) -> SocketAddr {
    serve(move |stream| echo(stream, pause))
}

fn serve(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener
        .local_addr()
        .expect("a bound listener has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn echo(mut stream: TcpStream, pause: fn(usize) -> Duration) {
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
    exchange: Exchange::Echo { bytes: 64, deep: 1 },
    pace: Pace::Closed,
};

/// Goal: requests are counted, their latencies recorded, and waiting for a slow server is idle time.
#[test]
fn closed_loop_counts() {
    let address = server(|_| Duration::from_millis(5));
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
    let address = serve(|mut stream| {
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
    let address = server(|request| Duration::from_millis(if request == 50 { 100 } else { 0 }));
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

/// Goal: a load that was drained has nothing under way, and starts anew as if it were the first time. Method: both
/// paces; a clock that went on from before would show in each latency, and have nothing due in the open loop.
#[test]
fn a_load_pauses_and_goes_on() {
    let address = server(|_| Duration::ZERO);
    for pace in [Pace::Closed, Pace::Open { rate: 1000 }] {
        let mut load = Load::connect(address, Plan { pace, ..CLOSED }).expect("an honest server");
        let mut slice = |time| {
            load.start().expect("three requests fit");
            let tally = load.run(Duration::from_millis(time));
            load.drain().expect("all is answered");
            assert!(load.connections.iter().all(|it| !it.busy), "{pace:?}");
            tally.expect("nothing is lost")
        };
        slice(500);
        thread::sleep(Duration::from_millis(100));
        let tally = slice(200);
        assert!(tally.requests > 20, "{pace:?}: {}", tally.requests);
        let half = tally.latency.value_at_quantile(0.5);
        assert!(half < 100_000_000, "{pace:?}: {half} ns");
    }
}

/// Goal: a drain ends although the server does not answer. Method: the first request after the check is never answered in time.
#[test]
fn a_drain_does_not_wait_for_ever() {
    let address = server(|request| Duration::from_secs(if request == 2 { 60 } else { 0 }));
    let mut load = Load::connect(address, CLOSED).expect("an honest server passes");
    load.start().expect("three requests fit");
    let error = load.drain().expect_err("nobody answers");
    assert!(error.to_string().contains("unanswered"), "{error}");
}

/// Goal: a server that falls silent is told apart from one that is slow. Method: the third request (after the two
/// of the check) is answered, the fourth never in time.
#[test]
fn silence_is_starvation() {
    let address = server(|request| Duration::from_millis(if request == 3 { 2000 } else { 0 }));
    let mut load = Load::connect(address, CLOSED).expect("an honest server passes");
    load.start().expect("three requests fit");
    let phase = |load: &mut Load| {
        load.run(Duration::from_millis(50))
            .expect("nothing is lost")
    };
    let (first, second) = (phase(&mut load), phase(&mut load));
    assert!(!first.starved && second.starved);
}

/// Goal: thousands of connections are no problem to the generator.
#[test]
fn two_thousand_connections() {
    crate::sys::raise_file_limit().expect("a soft limit may be raised to the hard one");
    let address = server(|_| Duration::ZERO);
    let plan = Plan {
        connections: 2000,
        ..CLOSED
    };
    let mut load = Load::connect(address, plan).expect("an honest server passes");
    load.start().expect("one request a connection fits");
    let tally = load
        .run(Duration::from_millis(500))
        .expect("nothing is lost");
    assert!(tally.requests > 2000, "{} requests", tally.requests);
}
