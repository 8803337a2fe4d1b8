//! Several connects at once, of which the first that stands is wanted.
//!
//! They all have the same token: a wake says that some of them may be done, and each is asked. The call returns only when
//! all of them are: those that are not wanted any more are ended and waited for, as `perform` does with one. So their
//! addresses may live in this frame, and no descriptor outlives it but the winner's.
#![expect(
    unsafe_code,
    reason = "lends addresses to the kernel while the operations run"
)]

use super::{interrupted, park_to_ask_again, refused};
use crate::per_core::{self, Engine};
use coring_coro::wait::{self, Refusal};
use coring_uring::{OpId, Token, op};
use socket2::SockAddr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// A connect that is under way.
struct Attempt<S> {
    index: usize,
    socket: S,
    op: OpId,
}

/// What is known so far.
struct Race<'a, S> {
    engine: &'a Engine,
    addresses: &'a [SockAddr],
    running: Vec<Attempt<S>>,
    winner: Option<S>,
    /// The error of the last address that failed, last in the order of the list.
    failure: Option<(usize, io::Error)>,
}

/// Connects to the first of `addresses` that answers. Each has `head_start` before the next one is tried, or less when it
/// fails earlier.
pub(crate) fn connect_first<S: AsFd>(
    addresses: &[SocketAddr],
    head_start: Duration,
    open: impl Fn(&SocketAddr) -> io::Result<S>,
) -> io::Result<S> {
    let Some(engine) = per_core::current() else {
        return Err(refused(Refusal::Outside));
    };
    let token = Token::new(wait::begin().map_err(refused)?.into_raw());
    let lowered: Vec<_> = addresses.iter().copied().map(SockAddr::from).collect();
    let mut race = Race {
        engine,
        addresses: &lowered,
        running: Vec::with_capacity(addresses.len()),
        winner: None,
        failure: None,
    };
    for (index, address) in addresses.iter().enumerate() {
        let begun = match open(address) {
            // SAFETY: `finish` below waits for every attempt, and nothing between here and there returns or unwinds.
            Ok(socket) => unsafe { race.begin(index, socket, token) },
            Err(error) => race.failed(index, error),
        };
        if begun && index + 1 < addresses.len() {
            race.wait_for_news(head_start);
        }
        if race.is_decided() {
            break;
        }
    }
    race.finish();
    match (race.winner, race.failure) {
        (Some(socket), _) => Ok(socket),
        (None, _) if wait::interrupted().is_some() => Err(interrupted(wait::refuse_current())),
        (None, Some((_, error))) => Err(error),
        (None, None) => unreachable!("an attempt ends in one or the other"),
    }
}

impl<S: AsFd> Race<'_, S> {
    /// Whether the attempts that still run are not wanted any more.
    fn is_decided(&self) -> bool {
        self.winner.is_some() || wait::interrupted().is_some()
    }

    /// Whether it is under way now.
    ///
    /// # Safety
    ///
    /// The addresses stay where they are until the attempt has been reaped.
    unsafe fn begin(&mut self, index: usize, socket: S, token: Token) -> bool {
        let address = &self.addresses[index];
        let fd = socket.as_fd().as_raw_fd();
        let sqe = op::net::connect(fd, address.as_ptr().cast(), address.len());
        // SAFETY: passed on to the caller. The token is of this wait, which ends after the last attempt.
        match unsafe { self.engine.ring().borrow_mut().submit(sqe, token) } {
            Ok(op) => {
                self.running.push(Attempt { index, socket, op });
                true
            }
            Err(error) => self.failed(index, error.into()),
        }
    }

    /// Takes note of the error. Nothing is under way.
    fn failed(&mut self, index: usize, error: io::Error) -> bool {
        if self.failure.as_ref().is_none_or(|(last, _)| *last < index) {
            self.failure = Some((index, error));
        }
        false
    }

    /// Waits until an attempt has ended, or the coroutine is to give up, or the time is over.
    fn wait_for_news(&mut self, time: Duration) {
        let before = self.running.len();
        wait::with_alarm(time, |alarm| {
            while self.running.len() == before && !alarm.rang() && !self.is_decided() {
                wait::park("connect");
                self.collect();
            }
        });
    }

    /// Waits until every attempt has ended; those that are not wanted are asked to.
    fn finish(&mut self) {
        while !self.running.is_empty() {
            if self.is_decided() {
                let mut ring = self.engine.ring().borrow_mut();
                let running = self.running.iter();
                running.for_each(|attempt| ring.cancel(attempt.op));
                drop(ring);
                park_to_ask_again("connect");
            } else {
                wait::park("connect");
            }
            self.collect();
        }
    }

    /// Takes the results that are there. A second connection that stands is closed.
    fn collect(&mut self) {
        let mut place = 0;
        while let Some(attempt) = self.running.get(place) {
            let completion = self.engine.ring().borrow_mut().take(attempt.op);
            let Some(completion) = completion else {
                place += 1;
                continue;
            };
            let attempt = self.running.remove(place);
            match completion.result {
                0.. if self.winner.is_none() => self.winner = Some(attempt.socket),
                0.. => {}
                errno => _ = self.failed(attempt.index, io::Error::from_raw_os_error(-errno)),
            }
        }
    }
}
