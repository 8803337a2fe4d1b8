//! The load generator: one thread that spins over non-blocking sockets.
//!
//! ```text
//! connect -> check the answers (blocking, untimed) -> warm-up phase -> measured phase
//! a turn: open loop: send what is due -> epoll_wait(0) -> for each answer: discard, record, send the next
//! ```
//!
//! It uses no runtime, and epoll rather than io_uring, so that it shares no code with a subject. It never
//! sleeps, so that its own wake-up is in no latency. It throws answers away in the kernel
//! (MSG_TRUNC) once the check has shown that the server returns the right bytes; every later answer
//! is still counted byte by byte.
//!
//! **Closed loop**: each connection sends its next request when the answer is there. **Open loop**:
//! request `i` is due at `start + i * interval` on connection `i % n`, whatever the server does. A connection
//! that still waits sends its due request as soon as it can, and the latency counts from when it was due:
//! a server that stalls is charged for every request that would have come meanwhile (no coordinated omission).
//!
//! **Self-check**: how many answers a turn finds. As long as it is about one, the generator waits for the server
//! and not the other way round; a generator that is too slow finds most connections waiting for it.
//! The time spent in turns that found nothing, and the time during which the thread was not running, are told as well.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::sys::{self, CpuClock, Epoll, Interest};
use exchange::{PATIENCE, Wire};

pub(crate) use exchange::{BULK_REQUEST, Exchange, HELLO, bulk};

mod exchange;

/// What to send, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// How many connections, each with one message under way at most.
    pub(crate) connections: usize,
    /// What goes to and fro.
    pub(crate) exchange: Exchange,
    /// When a connection sends.
    pub(crate) pace: Pace,
}

/// When a connection sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as its answer has come.
    Closed,
    /// By a clock: so many requests a second over all connections, evenly spaced.
    Open {
        /// Requests a second.
        rate: u64,
    },
}

/// What one phase gave.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Answers received in full.
    pub(crate) requests: u64,
    /// How long the phase was.
    pub(crate) elapsed: Duration,
    /// Nanoseconds from when a request was due to its last byte of answer.
    pub(crate) latency: Histogram<u64>,
    /// Share of the time in turns that found nothing to do, 0 to 1.
    pub(crate) idle: f64,
    /// Share of the connections whose answer a turn found waiting, on average, 0 to 1.
    pub(crate) queued: f64,
    /// Whether a connection waited for its answer from the beginning to the end: in a closed loop nothing else shows that.
    pub(crate) starved: bool,
    /// Share of the time in which the generator had its CPU, 0 to 1: it spins, so less than 1 was taken from it.
    pub(crate) running: f64,
}

/// Connections under load.
#[derive(Debug)]
pub(crate) struct Load {
    epoll: Epoll,
    connections: Vec<Connection>,
    wire: Wire,
    schedule: Schedule,
    begin: Instant,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// Whether a request is under way.
    busy: bool,
    /// Bytes of its answer that have come.
    received: usize,
    /// When the request under way was due.
    due_ns: u64,
    /// When the next one is due (open loop).
    next_due_ns: u64,
}

/// The open loop's clock; in the closed loop nothing is ever due.
#[derive(Debug)]
struct Schedule {
    pace: Pace,
    interval_ns: f64,
    slot: u64,
    connections: u64,
}

/// Answers taken in one turn at most.
const BATCH: usize = 256;
/// Latencies above are recorded as this.
const LONGEST_NS: u64 = 60_000_000_000;

impl Load {
    /// Connects and checks every connection.
    pub(crate) fn connect(server: SocketAddr, plan: Plan) -> io::Result<Load> {
        let mut load = Load {
            epoll: Epoll::new(BATCH)?,
            connections: Vec::with_capacity(plan.connections),
            wire: Wire::new(plan.exchange),
            schedule: Schedule::new(plan),
            begin: Instant::now(),
        };
        for token in 0..plan.connections {
            let stream = load.wire.connect(server).map_err(|error| {
                io::Error::new(error.kind(), format!("connection {token}: {error}"))
            })?;
            load.epoll.add(&stream, token, Interest::Edge)?;
            load.connections.push(Connection {
                stream,
                busy: false,
                received: 0,
                due_ns: 0,
                next_due_ns: 0,
            });
        }
        Ok(load)
    }

    /// Sends the first requests, or starts the clock for them. Nothing may be under way: a load starts once, or after
    /// [`drain`](Load::drain) again.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        self.begin = Instant::now();
        self.schedule.slot = 0;
        for (slot, connection) in self.connections.iter_mut().enumerate() {
            match self.schedule.pace {
                Pace::Closed => connection.send(0, &self.wire)?,
                Pace::Open { .. } => connection.next_due_ns = self.schedule.due_ns(slot as u64),
            }
        }
        Ok(())
    }

    /// Keeps the load up for `time` and says what happened in it.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<Tally> {
        let cpu = CpuClock::of_this_thread();
        let mut latency = latencies();
        let (cpu_begin, begin_ns) = (cpu.read()?, self.now_ns());
        let end_ns = begin_ns + nanoseconds(time);
        let mut idle_ns = 0;
        let mut turns = 0_u64;
        let mut now_ns = begin_ns;
        while now_ns < end_ns {
            turns += 1;
            let worked = self.turn(now_ns, &mut latency)?;
            let next_ns = self.now_ns();
            if !worked {
                idle_ns += next_ns - now_ns;
            }
            now_ns = next_ns;
        }
        let elapsed = Duration::from_nanos(now_ns - begin_ns);
        let messages = latency.len() as f64 / self.wire.requests() as f64;
        Ok(Tally {
            requests: latency.len(),
            elapsed,
            queued: messages / (turns * self.schedule.connections) as f64,
            latency,
            idle: Duration::from_nanos(idle_ns).as_secs_f64() / elapsed.as_secs_f64(),
            starved: (self.connections.iter()).any(|it| it.busy && it.due_ns < begin_ns),
            running: (cpu.read()? - cpu_begin).as_secs_f64() / elapsed.as_secs_f64(),
        })
    }

    /// Keeps the load up for `time` and adds the latencies to those that are there, without a pause in between.
    pub(crate) fn run_on(
        &mut self,
        time: Duration,
        latency: &mut Histogram<u64>,
    ) -> io::Result<()> {
        let end_ns = self.now_ns() + nanoseconds(time);
        let mut now_ns = self.now_ns();
        while now_ns < end_ns {
            self.turn(now_ns, latency)?;
            now_ns = self.now_ns();
        }
        Ok(())
    }

    /// Takes the answers that are under way and sends nothing more.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        while self.connections.iter().any(|connection| connection.busy) {
            if begin.elapsed() > PATIENCE {
                return Err(io::Error::other("the server left a request unanswered"));
            }
            for token in self.epoll.wait(Some(Duration::ZERO))? {
                self.connections[token].receive(&mut self.wire)?;
            }
        }
        Ok(())
    }

    /// One turn; whether there was anything to do.
    fn turn(&mut self, now_ns: u64, latency: &mut Histogram<u64>) -> io::Result<bool> {
        let mut worked = self.send_due(now_ns)?;
        for token in self.epoll.wait(Some(Duration::ZERO))? {
            worked = true;
            let connection = &mut self.connections[token];
            if !connection.receive(&mut self.wire)? {
                continue;
            }
            let now_ns = nanoseconds(self.begin.elapsed());
            let waited_ns = now_ns.saturating_sub(connection.due_ns);
            latency.saturating_record_n(waited_ns, self.wire.requests());
            match self.schedule.pace {
                Pace::Closed => connection.send(now_ns, &self.wire)?,
                Pace::Open { .. } if connection.next_due_ns <= now_ns => {
                    connection.send_scheduled(&self.schedule, &self.wire)?;
                }
                Pace::Open { .. } => {}
            }
        }
        Ok(worked)
    }

    /// Sends what the open loop's clock demands. A connection that is busy is passed over: it sends when it is
    /// done, with the time at which it should have.
    fn send_due(&mut self, now_ns: u64) -> io::Result<bool> {
        let mut worked = false;
        while let Some(connection) = self.schedule.pass(now_ns) {
            let connection = &mut self.connections[connection];
            if !connection.busy {
                connection.send_scheduled(&self.schedule, &self.wire)?;
                worked = true;
            }
        }
        Ok(worked)
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.begin.elapsed())
    }
}

impl Connection {
    /// Sends a request that is, or was, due at `due_ns`.
    fn send(&mut self, due_ns: u64, wire: &Wire) -> io::Result<()> {
        self.busy = true;
        self.due_ns = due_ns;
        match sys::send_now(&self.stream, &wire.message)? {
            sent if sent == wire.message.len() => Ok(()),
            _ => Err(io::Error::other(
                "a request does not fit the socket's buffer",
            )),
        }
    }

    fn send_scheduled(&mut self, schedule: &Schedule, wire: &Wire) -> io::Result<()> {
        let due_ns = self.next_due_ns;
        self.next_due_ns = schedule.after(due_ns);
        self.send(due_ns, wire)
    }

    /// Takes what has come; whether the answer is complete. Reading less than is missing means that the socket
    /// is empty, so the next byte makes a new edge and nothing is left behind.
    fn receive(&mut self, wire: &mut Wire) -> io::Result<bool> {
        if !self.busy {
            return Err(io::Error::other(
                "the server sent more than it was asked for",
            ));
        }
        let missing = &mut wire.scratch[self.received..];
        match sys::receive_discarding(&self.stream, missing) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(count) => self.received += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if self.received < wire.scratch.len() {
            return Ok(false);
        }
        self.received = 0;
        self.busy = false;
        Ok(true)
    }
}

impl Schedule {
    fn new(plan: Plan) -> Schedule {
        let interval_ns = match plan.pace {
            Pace::Closed => f64::INFINITY,
            Pace::Open { rate } => 1e9 / rate as f64,
        };
        Schedule {
            pace: plan.pace,
            interval_ns,
            slot: 0,
            connections: plan.connections as u64,
        }
    }

    /// When request number `slot` is due.
    fn due_ns(&self, slot: u64) -> u64 {
        nanoseconds(Duration::from_secs_f64(
            slot as f64 * self.interval_ns / 1e9,
        ))
    }

    /// When a connection's next request is due, after the one that was due at `due_ns`.
    fn after(&self, due_ns: u64) -> u64 {
        due_ns + self.due_ns(self.connections)
    }

    /// The connection of the next slot, if that slot's time has come.
    fn pass(&mut self, now_ns: u64) -> Option<usize> {
        if matches!(self.pace, Pace::Closed) || self.due_ns(self.slot) > now_ns {
            return None;
        }
        let connection = self.slot % self.connections;
        self.slot += 1;
        usize::try_from(connection).ok()
    }
}

/// Nothing yet, in nanoseconds.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3)
        .expect("three digits from 1 ns to a minute are valid bounds")
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
}

#[cfg(test)]
mod tests;
