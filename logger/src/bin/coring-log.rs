//! `coring-log`: shows binary log files as text or JSON, merges several by time, follows one that grows, and recovers crash rings.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use coring_logger::{Filter, Format, Json, Line, LogReader, Recovered, Text, TornAt};

const USAGE: &str = "\
coring-log [OPTIONS] FILE...        show binary log files, merged by time
coring-log [OPTIONS] recover RING   show what is in the crash ring of a process that died

  --filter FILTER      only what this allows, as info,net=debug
  --key KEY[=VALUE]    only lines with this field
  --core N             only lines of this core
  --since T --until T  only lines in this span; T is nanoseconds or seconds since 1970
  --json               JSON lines instead of text
  --pattern PATTERN    text by this pattern, as '{time} {level} {message}{fields}'
  --follow             wait for more at the end of the (one) file, and for the file that takes its name
";

#[derive(Default)]
struct Options {
    filter: Option<Filter>,
    key: Option<(String, Option<String>)>,
    core: Option<u32>,
    since_ns: u64,
    until_ns: Option<u64>,
    json: bool,
    pattern: Option<Text>,
    follow: bool,
    files: Vec<PathBuf>,
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let Some(argument) = argument.to_str() else {
            // Any bytes may name a file, and no option has such.
            options.files.push(argument.into());
            continue;
        };
        let mut value = || {
            let value = arguments.next();
            let value = value.ok_or_else(|| format!("{argument} needs a value"))?;
            let not_text = |value: OsString| format!("{argument} {}: not UTF-8", value.display());
            value.into_string().map_err(not_text)
        };
        match argument {
            "--filter" => {
                options.filter = Some(
                    value()?
                        .parse()
                        .map_err(|error| format!("--filter: {error}"))?,
                )
            }
            "--key" => {
                let value = value()?;
                options.key = Some(match value.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (value, None),
                });
            }
            "--core" => {
                options.core = Some(
                    value()?
                        .parse()
                        .map_err(|error| format!("--core: {error}"))?,
                )
            }
            "--since" => options.since_ns = time_ns(&value()?)?,
            "--until" => options.until_ns = Some(time_ns(&value()?)?),
            "--json" => options.json = true,
            "--pattern" => {
                options.pattern = Some(
                    value()?
                        .parse()
                        .map_err(|error| format!("--pattern: {error}"))?,
                )
            }
            "--follow" => options.follow = true,
            "--help" | "-h" => return Err(USAGE.to_owned()),
            option if option.starts_with("--") => {
                return Err(format!("{option} is unknown\n\n{USAGE}"));
            }
            file => options.files.push(file.into()),
        }
    }
    match options.files.len() {
        0 => Err(USAGE.to_owned()),
        2.. if options.follow => Err(format!("--follow is for one file\n\n{USAGE}")),
        _ => Ok(options),
    }
}

/// Nanoseconds, or seconds if the number is too small to be nanoseconds of this century.
fn time_ns(text: &str) -> Result<u64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{text}: {error}"))?;
    match text.parse::<u64>() {
        Ok(ns) if ns > 1_000_000_000_000_000 => Ok(ns),
        _ => u64::try_from(
            Duration::try_from_secs_f64(seconds)
                .map_err(|error| format!("{text}: {error}"))?
                .as_nanos(),
        )
        .map_err(|error| format!("{text}: {error}")),
    }
}

impl Options {
    fn wants(&self, line: &Line<'_>) -> bool {
        let has_key = |(wanted, value): &(String, Option<String>)| {
            line.fields().any(|(key, found)| {
                key == wanted
                    && value
                        .as_ref()
                        .is_none_or(|value| found.to_string() == *value)
            })
        };
        line.time_ns() >= self.since_ns
            && self.until_ns.is_none_or(|until| line.time_ns() <= until)
            && self.core.is_none_or(|core| line.core() == Some(core))
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.allows(line.target(), line.level()))
            && self.key.as_ref().is_none_or(has_key)
    }

    fn format(&self) -> Box<dyn Format> {
        if self.json {
            Box::new(Json::new())
        } else {
            Box::new(self.pattern.clone().unwrap_or_default())
        }
    }
}

/// Shows the lines of all files in time order. Each file is in order by itself, so the next line is the earliest of their next ones.
fn show(options: &Options) -> io::Result<()> {
    let files = options.files.iter().map(|path| Input::open(path));
    let mut files = files.collect::<io::Result<Vec<_>>>()?;
    let (mut format, mut out) = (options.format(), Vec::new());
    loop {
        let mut next: Option<(u64, usize)> = None;
        for (index, file) in files.iter_mut().enumerate() {
            if let Some(time) = file.next_time_ns()?
                && next.is_none_or(|(earliest, _)| time < earliest)
            {
                next = Some((time, index));
            }
        }
        let Some((_, index)) = next else { break };
        let file = &mut files[index];
        let shown = file.read(|reader| {
            match reader.next_line() {
                Ok(Some(line)) if options.wants(&line) => format.line(&line, &mut out),
                Ok(_) => {}
                Err(torn) => return Err(torn),
            }
            Ok(())
        });
        if let Err(torn) = shown {
            file.skip(torn);
        }
        if out.len() > 64 * 1024 {
            io::stdout().write_all(&out)?;
            out.clear();
        }
    }
    io::stdout().write_all(&out)?;
    for file in files {
        let (end, left) = (file.reader.offset(), file.unread.len() - file.done);
        if left > 0 {
            let file = file.path.display();
            say(format_args!(
                "{file}: ends within a record at byte {end}: being written, or not a log of ours"
            ));
        }
    }
    Ok(())
}

/// A file that is read from its beginning to its end, a piece at a time.
struct Input<'a> {
    path: &'a Path,
    file: std::fs::File,
    /// A piece, and how much of it is done with.
    unread: Vec<u8>,
    done: usize,
    /// There is no more.
    is_over: bool,
    /// What has been learned; it looks at the piece for the time of a call.
    reader: LogReader<'static>,
}

impl<'a> Input<'a> {
    /// So much is at hand, until the end: more than any record has.
    const AHEAD_BYTES: usize = 1 << 20;
    const PIECE_BYTES: u64 = 4 << 20;

    fn open(path: &'a Path) -> io::Result<Self> {
        let mut this = Self {
            file: named(path, std::fs::File::open(path))?,
            path,
            unread: Vec::new(),
            done: 0,
            is_over: false,
            reader: LogReader::new(&[]),
        };
        this.fill()?;
        if this.unread.starts_with(&PACKED) {
            let cure = format!(
                "compressed; `zstd -dc {} | coring-log /dev/stdin` shows it",
                path.display()
            );
            return named(path, Err(io::Error::new(io::ErrorKind::InvalidData, cure)));
        }
        Ok(this)
    }

    fn fill(&mut self) -> io::Result<()> {
        while !self.is_over && self.unread.len() - self.done < Self::AHEAD_BYTES {
            self.unread.drain(..self.done);
            self.done = 0;
            let mut piece = (&mut self.file).take(Self::PIECE_BYTES);
            let count = named(self.path, piece.read_to_end(&mut self.unread))?;
            self.is_over = count == 0;
        }
        Ok(())
    }

    /// The time of the next line.
    fn next_time_ns(&mut self) -> io::Result<Option<u64>> {
        loop {
            self.fill()?;
            match self.read(|reader| reader.peek_time_ns()) {
                // It has learned, and there is more.
                Ok(None) if !self.is_over => {}
                Ok(time) => return Ok(time),
                Err(torn) => self.skip(torn),
            }
        }
    }

    fn skip(&mut self, torn: TornAt) {
        say(format_args!("{}: {torn}", self.path.display()));
        self.read(|reader| reader.skip_torn());
    }

    fn read<R>(&mut self, read: impl FnOnce(&mut LogReader<'_>) -> R) -> R {
        let reader = std::mem::replace(&mut self.reader, LogReader::new(&[]));
        let begin = reader.offset();
        let mut reader = reader.go_on(&self.unread[self.done..]);
        let result = read(&mut reader);
        self.done += reader.offset() - begin;
        self.reader = reader.go_on(&[]);
        result
    }
}

/// Shows one file and what is appended to it, until the reader of our output goes away.
fn follow(options: &Options) -> io::Result<()> {
    let mut format = options.format();
    let mut tail = Tail::open(&options.files[0])?;
    let mut reader = LogReader::new(&[]);
    loop {
        let grown = tail.read()?;
        let mut out = Vec::new();
        let before = reader.offset();
        let mut current = reader.go_on(&tail.unread);
        loop {
            match current.next_line() {
                Ok(Some(line)) if options.wants(&line) => format.line(&line, &mut out),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(torn) => {
                    say(torn);
                    current.skip_torn();
                }
            }
        }
        let done = current.offset() - before;
        reader = current.go_on(&[]);
        tail.unread.drain(..done);
        io::stdout().write_all(&out)?;
        if grown {
            continue;
        }
        if tail.begins_anew()? {
            reader = LogReader::new(&[]);
        } else {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The end of a file that grows.
struct Tail {
    path: PathBuf,
    file: std::fs::File,
    /// Bytes of the file that were read.
    read: u64,
    /// Those of them that are not yet a whole record.
    unread: Vec<u8>,
}

impl Tail {
    fn open(path: &Path) -> io::Result<Tail> {
        Ok(Tail {
            file: named(path, std::fs::File::open(path))?,
            path: path.to_owned(),
            read: 0,
            unread: Vec::new(),
        })
    }

    /// Reads what there is, a MiB at most. Whether there was anything.
    fn read(&mut self) -> io::Result<bool> {
        let mut part = (&mut self.file).take(1 << 20);
        let count = named(&self.path, part.read_to_end(&mut self.unread))?;
        self.read += count as u64;
        Ok(count > 0)
    }

    /// At the end: goes to the beginning of the file that has taken the name, or of this one if it was cut. Whether it was so. Between two files
    /// there may be none.
    fn begins_anew(&mut self) -> io::Result<bool> {
        let now = match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            found => named(&self.path, found)?,
        };
        let ours = self.file.metadata()?;
        let replaced = (now.dev(), now.ino()) != (ours.dev(), ours.ino());
        if replaced && ours.len() > self.read {
            return Ok(false); // Its last lines came in this very moment.
        }
        if replaced || ours.len() < self.read {
            *self = match Tail::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                tail => tail?,
            };
            return Ok(true);
        }
        Ok(false)
    }
}

fn recover(options: &Options) -> io::Result<()> {
    let recovered = Recovered::open(&options.files[1])?;
    let (mut format, mut out) = (options.format(), Vec::new());
    recovered.for_each(|line| {
        if options.wants(line) {
            format.line(line, &mut out);
        }
    });
    io::stdout().write_all(&out)?;
    say(format_args!(
        "{} lines of process {}",
        recovered.len(),
        recovered.process()
    ));
    recovered
        .torn()
        .iter()
        .for_each(|place| say(format_args!("torn record: {place}")));
    Ok(())
}

/// How a file begins that was compressed with zstd.
const PACKED: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Says something beside what is shown. Who hears nothing of it still sees the rest.
fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// An error that names the file.
fn named<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn main() -> ExitCode {
    let options = match parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            say(message);
            return ExitCode::from(2);
        }
    };
    let result = match options.files.as_slice() {
        [word, _] if word.as_os_str() == "recover" => recover(&options),
        [_] if options.follow => follow(&options),
        _ => show(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("coring-log: {error}"));
            ExitCode::FAILURE
        }
    }
}
