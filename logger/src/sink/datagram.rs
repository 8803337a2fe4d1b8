//! The system's log daemons: syslog (RFC 5424 over a datagram socket) and journald (its native protocol, with fields).
//!
//! Both want one datagram a line, so each comes as a format and a sink that belong together. A daemon that does not keep up makes the
//! socket say `WouldBlock`; the lines then wait in the drain, within its bound.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use log::Level;

use crate::format::{Format, push_fields, timestamp};
use crate::line::{Line, escape};
use crate::sink::Sink;

/// A Unix datagram socket that takes one line per datagram. Connects at the first line, and again after the daemon was restarted.
#[derive(Debug)]
pub struct Datagram {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Datagram {
    /// A sink for the socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            socket: None,
        }
    }

    fn connect(path: &Path) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        Ok(socket)
    }
}

impl Sink for Datagram {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => Self::connect(&self.path)?,
        };
        match socket.send(line) {
            // The daemon has gone, and perhaps come back: connect anew, at the next attempt if not at this.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected
                ) =>
            {
                self.socket = Some(Self::connect(&self.path)?);
                self.socket.as_ref().expect("just connected").send(line)
            }
            result => {
                self.socket = Some(socket);
                result
            }
        }
    }

    fn line_by_line(&self) -> bool {
        true
    }
}

/// The severity of syslog(3) for a level.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Lines as RFC 5424 has them: `<14>1 TIME - APP PID - - target: message key=value`.
#[derive(Debug, Clone)]
pub struct Syslog {
    app: String,
}

impl Syslog {
    /// A format that gives `app` as the program's name (RFC 5424 allows 48 visible ASCII characters; others are left out).
    #[must_use]
    pub fn new(app: &str) -> Self {
        let app: String = app
            .chars()
            .filter(char::is_ascii_graphic)
            .take(48)
            .collect();
        Self {
            app: if app.is_empty() { "-".to_owned() } else { app },
        }
    }
}

impl Format for Syslog {
    fn line(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        const USER: u8 = 1;
        let priority = USER * 8 + severity(line.level());
        let (time, app, process) = (timestamp(line.time_ns()), &self.app, std::process::id());
        out.extend_from_slice(format!("<{priority}>1 {time} - {app} {process} - - ").as_bytes());
        let start = out.len();
        out.extend_from_slice(line.target().as_bytes());
        out.extend_from_slice(b": ");
        line.write_message(out);
        push_fields(line, out);
        escape(out, start);
    }
}

/// Lines as journald's native protocol has them: `KEY=value` lines, or `KEY`, a length and bytes where the value holds line ends.
///
/// The message, the level and the source position use journald's own names; fields are named as they are, in capitals, behind `F_`, so that
/// none can pose as one of those.
#[derive(Debug, Clone)]
pub struct Journal {
    app: String,
    value: Vec<u8>,
}

impl Journal {
    /// A format that gives `app` as `SYSLOG_IDENTIFIER`.
    #[must_use]
    pub fn new(app: &str) -> Self {
        Self {
            app: app.to_owned(),
            value: Vec::new(),
        }
    }
}

/// One entry. The form with a length takes any bytes.
fn entry(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

impl Format for Journal {
    fn line(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        self.value.clear();
        line.write_message(&mut self.value);
        entry(out, "MESSAGE", &self.value);
        entry(out, "PRIORITY", &[b'0' + severity(line.level())]);
        entry(out, "SYSLOG_IDENTIFIER", self.app.as_bytes());
        entry(out, "TARGET", line.target().as_bytes());
        entry(out, "CODE_FILE", line.file().as_bytes());
        entry(out, "CODE_LINE", line.line().to_string().as_bytes());
        if let Some(core) = line.core() {
            entry(out, "CORE", core.to_string().as_bytes());
        }
        if let Some((id, name)) = line.coroutine() {
            entry(out, "COROUTINE", format!("{name}#{id}").as_bytes());
        }
        for (key, value) in line.fields() {
            let name: String = key
                .chars()
                .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
                .take(60)
                .collect();
            entry(
                out,
                &format!("F_{}", name.to_ascii_uppercase()),
                value.to_string().as_bytes(),
            );
        }
    }
}
