//! A network block device over one file: what NBD clients (qemu, nbd-client, nbdcopy, fio) can use as a disk.
//!
//! Each connection is a handshake (handshake.rs), then requests. Requests run at the same time, a coroutine each, up
//! to a bound; answers go out whole, in the order in which they are ready, behind a core-local lock.
//!
//! ```text
//!   read header (and data of a write) --> coroutine: read_at / write_at / sync --> lock --> answer
//! ```

mod handshake;

use coring::coro;
use coring::fs::{File, OpenOptions};
use coring::net::TcpStream;
use coring_examples::{Arguments, exit, serve};
use std::cell::Cell;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "nbd --port P --file F";
/// Requests of one connection that run at the same time.
const AT_ONCE: usize = 64;
/// The longest read or write; what clients ask for when they know nothing.
const LONGEST: u32 = 32 << 20;

const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
/// Of a write: durable before the answer.
const FORCE_UNIT_ACCESS: u16 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read(USAGE, &["port", "file"])?;
    let port = arguments.option("port")?.unwrap_or(10809);
    let path: PathBuf = arguments.option("file")?.ok_or(USAGE)?;
    coring::Runtime::new()?.run(|| {
        serve(Ipv4Addr::LOCALHOST.into(), port, move |stream| {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let bytes = file.metadata()?.len();
            stream.set_nodelay(true)?;
            if handshake::shake(stream, bytes)? {
                transmit(stream, &file, bytes)?;
            }
            Ok(())
        })
    })
}

struct Request {
    flags: u16,
    command: u16,
    /// Chosen by the client, given back with the answer.
    cookie: [u8; 8],
    offset: u64,
    length: u32,
}

impl Request {
    fn read(mut stream: &TcpStream) -> io::Result<Self> {
        let mut header = [0; 28];
        stream.read_exact(&mut header)?;
        let field = |from: usize| header[from..].first_chunk().expect("28 bytes are enough");
        if u32::from_be_bytes(*field(0)) != REQUEST_MAGIC {
            return Err(io::Error::other("this is no request"));
        }
        Ok(Self {
            flags: u16::from_be_bytes(*header[4..].first_chunk().expect("28 bytes")),
            command: u16::from_be_bytes(*header[6..].first_chunk().expect("28 bytes")),
            cookie: *header[8..].first_chunk().expect("28 bytes"),
            offset: u64::from_be_bytes(*header[16..].first_chunk().expect("28 bytes")),
            length: u32::from_be_bytes(*field(24)),
        })
    }

    /// Does it. For a read `data` is filled.
    fn serve(&self, file: &File, bytes: u64, data: &mut Vec<u8>) -> Result<(), u32> {
        let inside = self
            .offset
            .checked_add(self.length.into())
            .is_some_and(|end| end <= bytes);
        let outcome = match self.command {
            READ if !inside || self.length > LONGEST => return Err(EINVAL),
            READ => {
                data.resize(self.length as usize, 0);
                file.read_exact_at(data, self.offset)
            }
            WRITE if !inside => return Err(ENOSPC),
            WRITE => file.write_all_at(data, self.offset).and_then(|()| {
                match self.flags & FORCE_UNIT_ACCESS {
                    0 => Ok(()),
                    _ => file.sync_data(),
                }
            }),
            FLUSH => file.sync_data(),
            _ => return Err(EINVAL),
        };
        outcome.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => ENOSPC,
            _ => EIO,
        })
    }
}

/// Serves requests until the client disconnects.
fn transmit(mut stream: &TcpStream, file: &File, bytes: u64) -> io::Result<()> {
    let answers = coro::sync::Mutex::new(stream);
    let room = coro::sync::Semaphore::new(AT_ONCE);
    let broken = Cell::new(false);
    coro::scope(|scope| {
        loop {
            let request = Request::read(stream)?;
            if request.command == DISCONNECT {
                return Ok(());
            }
            let mut data = Vec::new();
            if request.command == WRITE {
                if request.length > LONGEST {
                    return Err(io::Error::other("a write is too long"));
                }
                data.resize(request.length as usize, 0);
                stream.read_exact(&mut data)?;
            }
            let place = room.acquire();
            if broken.get() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let (answers, broken) = (&answers, &broken);
            scope.spawn(move || {
                let _place = place;
                let outcome = request.serve(file, bytes, &mut data);
                if answer(answers, &request, outcome, &data).is_err() {
                    // The reader of requests finds out with the next one.
                    broken.set(true);
                }
            });
        }
    })
}

fn answer(
    stream: &coro::sync::Mutex<&TcpStream>,
    request: &Request,
    outcome: Result<(), u32>,
    data: &[u8],
) -> io::Result<()> {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&REPLY_MAGIC.to_be_bytes());
    header[4..8].copy_from_slice(&outcome.err().unwrap_or(0).to_be_bytes());
    header[8..].copy_from_slice(&request.cookie);
    let mut stream = stream.lock();
    stream.write_all(&header)?;
    if request.command == READ && outcome.is_ok() {
        stream.write_all(data)?;
    }
    Ok(())
}
