//! coring's logger on coring's runtime: one core, the drain on the other CPU.
//!
//! `coring` reads the counter for each line, `coring-turn` takes the time of the core's turn (its lines stand in the order they were
//! logged in all the same), `coring-binary` writes records instead of text.

use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::path::Path;
use std::thread;
use std::time::Duration;

use coring::coro;
use coring::logger::{Binary, Builder, Drain, Format as _, Full, LogReader, info, trace};
use coring::net::{TcpListener, TcpStream};

use super::Of;
use crate::effect;
use crate::lines::{self, Logger, Values};
use crate::machine;
use crate::subject::{ECHO_BUFFER_BYTES, Job, Role, Skip, Work};
use crate::sys;

const fn subject<const TURN: bool, const BINARY: bool>(
    name: &'static str,
) -> Of<Coring<TURN, BINARY>> {
    Of {
        name,
        role: Role::Ours,
        version: |_| machine::locked_version("coring-logger"),
        serve: serve::<TURN, BINARY>,
        logger: PhantomData,
    }
}

/// As it comes.
pub(super) static COUNTER: Of<Coring<false, false>> = subject("coring");
/// With the time of the turn.
pub(super) static TURN: Of<Coring<true, false>> = subject("coring-turn");
/// With binary files.
pub(super) static BINARY: Of<Coring<false, true>> = subject("coring-binary");

pub(super) struct Coring<const TURN: bool, const BINARY: bool>(coring::logger::Logger);

impl<const TURN: bool, const BINARY: bool> Coring<TURN, BINARY> {
    fn builder(path: &Path) -> Builder {
        let mut builder = coring::logging::builder().turn_time(TURN);
        if BINARY {
            builder = builder.format(Binary::new());
        }
        builder.file(path)
    }
}

impl<const TURN: bool, const BINARY: bool> Logger for Coring<TURN, BINARY> {
    fn start(path: &Path, lossless: bool) -> Result<Self, Skip> {
        let full = if lossless { Full::Wait } else { Full::Drop };
        Ok(Coring(Self::builder(path).full(full).start()?))
    }

    fn inside(&self, body: impl FnOnce() -> Values) -> Values {
        let runtime = coring::Runtime::builder().cores(1).build();
        runtime.expect("a ring").run(body)
    }

    #[inline(never)]
    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        info!("order id={} price={} sym={}", id, price, symbol);
    }

    #[inline(always)]
    fn off(&self, id: u64, price: f64, symbol: &'static str) {
        trace!("order id={} price={} sym={}", id, price, symbol);
    }

    fn settle(&self) -> bool {
        self.0.flush().is_ok()
    }

    fn pause(&self, time: Duration) {
        coro::sleep(time);
    }

    fn end(self) {
        self.0.shutdown();
    }

    fn text(bytes: Vec<u8>) -> Vec<u8> {
        if !BINARY {
            return bytes;
        }
        text_of_binary(&bytes)
    }
}

/// What a binary log says.
pub(crate) fn text_of_binary(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut reader = LogReader::new(bytes);
    while let Some(line) = reader.next_line().expect("no torn record") {
        line.write_message(&mut text);
        text.push(b'\n');
    }
    text
}

/// Whether a log is binary: it begins as such files do.
pub(crate) fn is_binary(bytes: &[u8]) -> bool {
    let mut begin = Vec::new();
    Binary::new().begin(&mut begin);
    bytes.starts_with(&begin)
}

/// The echo server of suite `net`, with a line for each request.
fn serve<const TURN: bool, const BINARY: bool>(job: &Job) -> Result<(), Skip> {
    let sliced = matches!(job.work, Work::EchoLogged { sliced: true });
    if BINARY && !sliced {
        return Err(Skip::because("differs from coring in its file only"));
    }
    sys::pin(&[job.peer])?;
    let builder = Coring::<TURN, BINARY>::builder(&lines::scratch_path(std::process::id()));
    let logger = if sliced {
        let (logger, drain) = builder.build()?;
        thread::spawn(|| drain_in_gaps(drain));
        logger
    } else {
        builder.start()?
    };
    let logger = Coring::<TURN, BINARY>(logger);
    sys::pin(&[job.cpu])?;
    let result = listen(job, |id| {
        if !sliced || effect::part_now().logs() {
            logger.line(id, lines::price(id), lines::SYMBOL);
        }
    });
    logger.end();
    result
}

/// The drain's thread, but that it writes only when it may, and looks now and then otherwise.
fn drain_in_gaps(mut drain: Drain) {
    loop {
        let _progress = drain.drain(if effect::may_write() { usize::MAX } else { 0 });
        thread::sleep(effect::nap());
    }
}

/// The same server without the line.
pub(super) fn serve_silently(job: &Job) -> Result<(), Skip> {
    listen(job, |_| {})
}

fn listen(job: &Job, log: impl Fn(u64) + Copy) -> Result<(), Skip> {
    let runtime = coring::Runtime::builder().cores(1).build();
    let runtime = runtime.map_err(|error| Skip::because(error.to_string()))?;
    runtime.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        job.listening(listener.local_addr()?);
        let requests = std::cell::Cell::new(0);
        let served = coro::scope(|scope| -> io::Result<()> {
            loop {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                let requests = &requests;
                scope.spawn(move || {
                    // A connection that breaks is the client's affair.
                    let _ = echo(stream, || log(requests.replace(requests.get() + 1)));
                });
            }
        });
        Ok(served?)
    })
}

fn echo(mut stream: TcpStream, log: impl Fn()) -> io::Result<()> {
    let mut buffer = vec![0; ECHO_BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        log();
        stream.write_all(&buffer[..count])?;
    }
}
