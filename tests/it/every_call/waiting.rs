//! Calls that wait for as long as it takes.

use super::{Call, Row, boxed, called_after_the_deadline, called_too_late};
use coring::coro::{self, Activity};
use coring::fs::{self, File, OpenOptions};
use coring::io::{Interest, is_cancelled, pipe, poll_fd};
use coring::net::{
    DatagramBatch, TcpSocket, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream,
};
use coring::process::{Command, Stdio};
use coring::signal::{Signals, ctrl_c};
use coring_tests::tcp::{Silent, listen, pair_of_ours};
use coring_tests::{alone, in_flight, note, proc, runtime, until};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// More than the kernel keeps for a peer that does not read.
const TOO_MUCH: usize = 64 << 20;

/// Keeps `other` as long as `call`.
fn with<T, O: 'static>(other: O, mut call: impl FnMut() -> io::Result<T> + 'static) -> Call {
    boxed(move || {
        let _kept = &other;
        call()
    })
}

/// A call on one of two connected TCP streams; the other one is silent.
fn tcp<T: 'static>(call: fn(&TcpStream) -> io::Result<T>) -> Call {
    let (ours, theirs) = pair_of_ours();
    with(theirs, move || call(&ours))
}

/// As [`tcp`], for a call that is made until it fails.
fn tcp_until_full(call: fn(&TcpStream) -> io::Result<usize>) -> Call {
    let (ours, theirs) = pair_of_ours();
    with(theirs, move || -> io::Result<()> {
        loop {
            call(&ours)?;
        }
    })
}

fn unix<T: 'static>(call: fn(&UnixStream) -> io::Result<T>) -> Call {
    let (ours, theirs) = UnixStream::pair().unwrap();
    with(theirs, move || call(&ours))
}

/// A datagram socket that hears nothing.
fn udp<T: 'static>(call: fn(&UdpSocket) -> io::Result<T>) -> Call {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    boxed(move || call(&socket))
}

fn datagrams<T: 'static>(call: fn(&UnixDatagram) -> io::Result<T>) -> Call {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    with(theirs, move || call(&ours))
}

/// A Unix listener in the directory.
fn unix_listener<T: 'static>(here: &Path, call: fn(&UnixListener) -> io::Result<T>) -> Call {
    let listener = UnixListener::bind(here.join("socket")).unwrap();
    boxed(move || call(&listener))
}

/// A FIFO that nobody else opens.
fn fifo<T: 'static>(here: &Path, call: fn(&Path) -> io::Result<T>) -> Call {
    let path = here.join("fifo");
    make_fifo(&path);
    boxed(move || call(&path))
}

fn make_fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

/// A file that somebody else has locked.
fn locked(here: &Path, call: fn(&File) -> io::Result<()>) -> Call {
    let path = here.join("locked");
    std::fs::write(&path, "").unwrap();
    let (theirs, ours) = (
        std::fs::File::open(&path).unwrap(),
        File::open(&path).unwrap(),
    );
    theirs.lock().unwrap();
    with(theirs, move || call(&ours))
}

/// A program that runs until the call is dropped.
fn program<T: 'static>(call: fn(&mut Command) -> io::Result<T>) -> Call {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new("cat");
    command.stdin(Stdio::from(reader)).stdout(Stdio::null());
    with(writer, move || call(&mut command))
}

const ROWS: &[Row] = &[
    ("TcpListener::accept", |_| {
        let (listener, _) = listen();
        boxed(move || listener.accept())
    }),
    ("TcpListener::incoming", |_| {
        let (listener, _) = listen();
        boxed(move || listener.incoming().next().expect("it never ends"))
    }),
    ("TcpListener::accept_stream", |_| {
        let (listener, _) = listen();
        boxed(move || listener.accept_stream().accept())
    }),
    ("TcpStream::connect", |_| {
        let silent = Silent::new();
        boxed(move || TcpStream::connect(silent.address()))
    }),
    ("TcpStream::connect_timeout", |_| {
        let silent = Silent::new();
        boxed(move || TcpStream::connect_timeout(&silent.address(), Duration::from_secs(600)))
    }),
    ("TcpStream::connect to several", |_| {
        let (one, other) = (Silent::new(), Silent::new());
        boxed(move || TcpStream::connect([one.address(), other.address()].as_slice()))
    }),
    ("TcpSocket::connect", |_| {
        let silent = Silent::new();
        boxed(move || TcpSocket::new_v4()?.connect(silent.address()))
    }),
    ("TcpStream::read", |_| {
        tcp(|mut ours| ours.read(&mut [0; 8]))
    }),
    ("TcpStream::read_vectored", |_| {
        tcp(|mut ours| ours.read_vectored(&mut [IoSliceMut::new(&mut [0; 8])]))
    }),
    ("TcpStream::read_exact", |_| {
        tcp(|mut ours| ours.read_exact(&mut [0; 8]))
    }),
    ("TcpStream::read_to_end", |_| {
        tcp(|mut ours| ours.read_to_end(&mut Vec::new()))
    }),
    ("TcpStream::peek", |_| tcp(|ours| ours.peek(&mut [0; 8]))),
    ("TcpStream::recv_buffer", |_| tcp(TcpStream::recv_buffer)),
    ("TcpStream::recv_stream", |_| {
        tcp(|ours| ours.recv_stream().recv())
    }),
    ("TcpStream::write", |_| {
        tcp_until_full(|mut ours| ours.write(&[1; 1 << 20]))
    }),
    ("TcpStream::write_vectored", |_| {
        tcp_until_full(|mut ours| {
            ours.write_vectored(&[IoSlice::new(&[1; 1 << 16]), IoSlice::new(&[2; 1 << 16])])
        })
    }),
    ("TcpStream::write_all", |_| {
        tcp(|mut ours| ours.write_all(&vec![1; TOO_MUCH]))
    }),
    ("TcpStream::send_zero_copy", |_| {
        tcp_until_full(|ours| ours.send_zero_copy(vec![1; 1 << 20]).0)
    }),
    ("TcpStream::send_file", |here| {
        let path = here.join("long");
        let file = std::fs::File::create_new(&path).unwrap();
        file.set_len(TOO_MUCH as u64).unwrap();
        let (file, (ours, theirs)) = (File::open(&path).unwrap(), pair_of_ours());
        with(theirs, move || -> io::Result<()> {
            loop {
                ours.send_file(&file, 0, TOO_MUCH as u64)?;
            }
        })
    }),
    ("UdpSocket::recv", |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(socket.local_addr().unwrap()).unwrap();
        boxed(move || socket.recv(&mut [0; 8]))
    }),
    ("UdpSocket::recv_from", |_| {
        udp(|socket| socket.recv_from(&mut [0; 8]))
    }),
    ("UdpSocket::peek", |_| {
        udp(|socket| socket.peek(&mut [0; 8]))
    }),
    ("UdpSocket::peek_from", |_| {
        udp(|socket| socket.peek_from(&mut [0; 8]))
    }),
    ("UdpSocket::recv_batch", |_| {
        udp(|socket| socket.recv_batch(&mut DatagramBatch::new(4, 8)))
    }),
    ("UdpSocket::recv_segments", |_| {
        udp(|socket| socket.recv_segments(&mut [0; 8]))
    }),
    ("UnixListener::accept", |here| {
        unix_listener(here, UnixListener::accept)
    }),
    ("UnixListener::incoming", |here| {
        unix_listener(here, |listener| {
            listener.incoming().next().expect("it never ends")
        })
    }),
    ("UnixListener::accept_stream", |here| {
        unix_listener(here, |listener| listener.accept_stream().accept())
    }),
    ("UnixStream::connect", |here| {
        let path = here.join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let queued = fill_queue(&listener, &path);
        with((listener, queued), move || UnixStream::connect(&path))
    }),
    ("UnixStream::read", |_| {
        unix(|mut ours| ours.read(&mut [0; 8]))
    }),
    ("UnixStream::read_vectored", |_| {
        unix(|mut ours| ours.read_vectored(&mut [IoSliceMut::new(&mut [0; 8])]))
    }),
    ("UnixStream::write_vectored", |_| {
        unix(|mut ours| -> io::Result<()> {
            loop {
                let parts = [IoSlice::new(&[1; 1 << 16]), IoSlice::new(&[2; 1 << 16])];
                let _written = ours.write_vectored(&parts)?;
            }
        })
    }),
    ("UnixStream::peek", |_| unix(|ours| ours.peek(&mut [0; 8]))),
    ("UnixStream::write_all", |_| {
        unix(|mut ours| ours.write_all(&vec![1; TOO_MUCH]))
    }),
    ("UnixStream::recv_buffer", |_| unix(UnixStream::recv_buffer)),
    ("UnixStream::recv_stream", |_| {
        unix(|ours| ours.recv_stream().recv())
    }),
    ("UnixStream::recv_with_fds", |_| {
        unix(|ours| ours.recv_with_fds(&mut [0; 8]))
    }),
    ("UnixStream::send_with_fds", |_| {
        unix(|ours| -> io::Result<()> {
            loop {
                ours.send_with_fds(&[1; 1 << 12], &[ours.as_fd()])?;
            }
        })
    }),
    ("UnixDatagram::recv", |_| {
        datagrams(|ours| ours.recv(&mut [0; 8]))
    }),
    ("UnixDatagram::recv_from", |_| {
        datagrams(|ours| ours.recv_from(&mut [0; 8]))
    }),
    ("UnixDatagram::peek", |_| {
        datagrams(|ours| ours.peek(&mut [0; 8]))
    }),
    ("UnixDatagram::peek_from", |_| {
        datagrams(|ours| ours.peek_from(&mut [0; 8]))
    }),
    ("UnixDatagram::send", |_| {
        datagrams(|ours| -> io::Result<()> {
            loop {
                ours.send(&[1; 1 << 10])?;
            }
        })
    }),
    ("UnixDatagram::send_to", |here| {
        let path = here.join("theirs");
        let theirs = UnixDatagram::bind(&path).unwrap();
        let ours = UnixDatagram::unbound().unwrap();
        with(theirs, move || -> io::Result<()> {
            loop {
                ours.send_to(&[1; 1 << 10], &path)?;
            }
        })
    }),
    ("UnixDatagram::recv_with_fds", |_| {
        datagrams(|ours| ours.recv_with_fds(&mut [0; 8]))
    }),
    ("File::open of a FIFO", |here| {
        fifo(here, |path| File::open(path))
    }),
    ("File::open of a FIFO to write", |here| {
        fifo(here, |path| OpenOptions::new().write(true).open(path))
    }),
    ("fs::read of a FIFO", |here| {
        fifo(here, |path| fs::read(path))
    }),
    ("fs::write to a FIFO", |here| {
        fifo(here, |path| fs::write(path, "word"))
    }),
    ("File::read of a FIFO", |here| {
        let path = here.join("fifo");
        make_fifo(&path);
        let mut both = std::fs::OpenOptions::new();
        let other = both.read(true).write(true).open(&path).unwrap();
        let mut ours = File::open(&path).unwrap();
        with(other, move || ours.read(&mut [0; 8]))
    }),
    ("File::lock", |here| locked(here, File::lock)),
    ("File::lock_shared", |here| locked(here, File::lock_shared)),
    ("PipeReader::read", |_| {
        let (mut reader, writer) = pipe().unwrap();
        with(writer, move || reader.read(&mut [0; 8]))
    }),
    ("PipeWriter::write_all", |_| {
        let (reader, mut writer) = pipe().unwrap();
        with(reader, move || writer.write_all(&vec![1; TOO_MUCH]))
    }),
    ("poll_fd", |_| {
        let (reader, writer) = std::io::pipe().unwrap();
        with(writer, move || poll_fd(&reader, Interest::READABLE))
    }),
    ("Signals::recv", |_| {
        let mut signals = Signals::new([libc::SIGUSR1]).unwrap();
        boxed(move || signals.recv())
    }),
    ("signal::ctrl_c", |_| boxed(ctrl_c)),
    ("Child::wait", |_| {
        program(|command| command.spawn()?.wait())
    }),
    ("Child::wait_with_output", |_| {
        program(|command| command.stdout(Stdio::piped()).spawn()?.wait_with_output())
    }),
    ("Command::status", |_| program(Command::status)),
    ("Command::output", |_| program(Command::output)),
];

/// Connections that wait to be accepted, as many as there is room for.
fn fill_queue(listener: &std::os::unix::net::UnixListener, path: &Path) -> Vec<socket2::Socket> {
    socket2::SockRef::from(listener).listen(0).unwrap();
    let address = socket2::SockAddr::unix(path).unwrap();
    let mut queued = Vec::new();
    loop {
        let socket =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        if socket.connect(&address).is_err() {
            return queued;
        }
        queued.push(socket);
    }
}

/// Calls each row, in a directory of its own, and sees that it leaves neither descriptors nor operations.
fn each_row(judge: impl Fn(&'static str, Call)) {
    runtime(1).run(|| {
        // Whatever is made once and kept.
        let (scratch, kept) = (tempfile::tempdir().unwrap(), Signals::new([libc::SIGUSR2]));
        let before = (in_flight(), proc::fds());
        for (index, (name, stage)) in ROWS.iter().enumerate() {
            note(*name);
            let here: PathBuf = scratch.path().join(index.to_string());
            std::fs::create_dir(&here).unwrap();
            judge(name, stage(&here));
            until(name, || (in_flight(), proc::fds()) == before);
        }
        drop(kept);
    });
}

/// What the coroutine with this name waits for.
fn waits_for(name: &str) -> Option<&'static str> {
    let dump = coro::dump();
    let info = dump
        .iter()
        .find(|info| info.name.as_deref() == Some(name))?;
    match info.activity {
        Activity::Waiting { what_for, .. } => Some(what_for),
        _ => None,
    }
}

#[test]
fn each_ends_when_it_is_cancelled() {
    // Goal: whatever a coroutine waits for, a cancellation ends it, with an error that says so, and leaves nothing behind.
    // Method: each call is seen waiting, for something that has a name, at two looks some time apart.
    alone(|| {
        each_row(|name, call| {
            let victim = coro::Builder::new().name(name).spawn(call).unwrap();
            until(name, || {
                let seen = waits_for(name);
                coro::sleep(Duration::from_millis(2));
                seen.is_some() && waits_for(name) == seen
            });
            victim.cancel();
            let error = victim.join().expect(name).expect_err(name);
            assert!(is_cancelled(&error), "{name}: {error}");
            assert_ne!(error.kind(), ErrorKind::Interrupted, "{name}");
        })
    });
}

#[test]
fn each_ends_at_its_deadline() {
    // Goal: the same for a deadline: not before its time, `TimedOut` for the call, `Elapsed` for who set it.
    // Method: each call within some milliseconds.
    alone(|| {
        each_row(|name, mut call| {
            let (mut outcome, start) = (Ok(()), Instant::now());
            let limit = Duration::from_millis(4);
            let elapsed = coro::timeout(limit, || outcome = call());
            assert_eq!(elapsed, Err(coro::Elapsed), "{name}");
            assert!(start.elapsed() >= limit, "{name}");
            let error = outcome.expect_err(name);
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{name}: {error}");
            assert!(!is_cancelled(&error), "{name}: {error}");
        })
    });
}

#[test]
fn each_is_refused_when_it_comes_too_late() {
    // Goal: who is cancelled already, or out of time, does not begin to wait.
    // Method: both, before the call; nothing may be submitted.
    alone(|| {
        for cancelled in [true, false] {
            each_row(|name, mut call| {
                let submitted = || coring::stats().expect("on a core").ring.submitted;
                let before = submitted();
                let outcome;
                if cancelled {
                    (outcome, call) = called_too_late(call);
                } else {
                    let elapsed;
                    (outcome, elapsed) = called_after_the_deadline(&mut call);
                    assert!(elapsed, "{name}");
                }
                let error = outcome.expect_err(name);
                assert_eq!(is_cancelled(&error), cancelled, "{name}: {error}");
                assert_eq!(submitted(), before, "{name}: operations");
                drop(call);
            });
        }
    });
}
