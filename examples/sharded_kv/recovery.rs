//! What is in the files, and how a server starts from them.
//!
//! ```text
//!   FILE          generation 5, shards 2        a few lines of text, replaced as a whole
//!   FILE.5.0      the log of core 0
//!   FILE.5.1      the log of core 1
//!   FILE.lock     who holds it is the one server that uses these files
//! ```
//!
//! At each start the logs are replayed, every record to the core that owns its key *now*, and what results is written to
//! the logs of the next generation; then FILE is replaced, in one step, and the old logs are removed. So
//!
//! - the number of cores may be another one at each start;
//! - a log holds what was there at the start and what has changed since, and grows no further than that;
//! - until FILE is replaced a start has changed nothing: it may be interrupted, or fail, and be tried again.
//!
//! The records of one key are all in one log, in their order, because a key has one owner as long as a server runs. So
//! logs may be replayed at the same time.
//!
//! A log whose last frame is cut off is what a server leaves that was killed while it wrote: the frame is dropped, with a
//! notice, as none of it was acknowledged (with the policy "always"). Damage anywhere else refuses the start.

use crate::commands;
use crate::log::{HEADER_BYTES, Log, Policy, is_sealed, length_of, seal};
use crate::protocol::{Parser, encode};
use crate::route::Batch;
use crate::shard::{Shard, Shards};
use crate::store::{Entry, NEVER, Store, Value};
use coring::fs::{self, File, OpenOptions};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FIRST_LINE: &str = "coring sharded_kv log, format 1";
/// About so many bytes of records are in one frame when all keys are written.
const FRAME_BYTES: usize = 1 << 20;
/// So many requests go to the other cores at once while the logs are replayed.
const AT_ONCE: usize = 1024;
/// Elements of a list that are written with one command.
const ELEMENTS: usize = 128;

/// The files of one server, which nobody else uses meanwhile.
#[derive(Debug)]
pub(crate) struct Files {
    manifest: PathBuf,
    /// Held until the end of the process.
    _lock: File,
}

/// What FILE says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Generation {
    number: u64,
    shards: usize,
}

/// An error with the file's name in front.
fn at(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

impl Files {
    /// Claims the files.
    ///
    /// # Errors
    ///
    /// When another process has them.
    pub(crate) fn claim(manifest: PathBuf) -> Result<Self, String> {
        let path = with_ending(&manifest, ".lock");
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).open(&path);
        let lock = lock.map_err(at(&path))?;
        lock.try_lock().map_err(|error| {
            let name = manifest.display();
            format!("{name}: another server uses it ({error})")
        })?;
        Ok(Self {
            manifest,
            _lock: lock,
        })
    }

    fn log(&self, generation: u64, shard: usize) -> PathBuf {
        with_ending(&self.manifest, &format!(".{generation}.{shard}"))
    }

    fn generation(&self) -> Result<Generation, String> {
        let text = match fs::read_to_string(&self.manifest) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.nothing_is_left().map(|()| Generation::default());
            }
            Err(error) => return Err(at(&self.manifest)(error)),
        };
        let parsed = text.strip_prefix(FIRST_LINE).and_then(|rest| {
            let mut words = rest.split_ascii_whitespace();
            let mut value = |name| {
                let named = words.next() == Some(name);
                words.next().filter(|_| named)?.parse().ok()
            };
            let (number, shards) = (value("generation")?, value("shards")?);
            let shards = usize::try_from(shards).ok()?;
            Some(Generation { number, shards })
        });
        parsed.ok_or_else(|| {
            let name = self.manifest.display();
            format!(
                "{name}: this is not a log of this server; give another name to begin with nothing"
            )
        })
    }

    /// Without FILE nobody knows which logs are whole, and to begin with nothing would lose what they hold. A first start that
    /// was interrupted leaves logs, too, but nothing is in them.
    fn nothing_is_left(&self) -> Result<(), String> {
        let (folder, name) = (folder_of(&self.manifest), self.manifest.file_name());
        let beginning = name.unwrap_or_default().to_string_lossy().into_owned() + ".";
        for entry in fs::read_dir(folder).map_err(at(folder))? {
            let path = folder.join(entry.map_err(at(folder))?.file_name());
            let found = path.file_name().unwrap_or_default().to_string_lossy();
            // FILE.GENERATION.SHARD
            let numbers = found.strip_prefix(&beginning).and_then(|rest| {
                let (generation, shard) = rest.split_once('.')?;
                Some((
                    generation.parse::<u64>().ok()?,
                    shard.parse::<usize>().ok()?,
                ))
            });
            let Some((generation, _)) = numbers else {
                continue;
            };
            if fs::metadata(&path).map_err(at(&path))?.len() > 0 {
                let name = self.manifest.display();
                return Err(format!(
                    "{name}: missing, but {found} is there and holds data. Restore {name}, three lines: \"{FIRST_LINE}\", \
                     \"generation {generation}\", \"shards\" and how many logs of that generation there are. Or move the logs \
                     away to begin with nothing"
                ));
            }
        }
        Ok(())
    }

    /// Loads what is there and starts to log. `shards` are empty yet.
    ///
    /// # Errors
    ///
    /// When a file is damaged, or cannot be read or written. Nothing has changed then.
    pub(crate) fn start(&self, shards: &Shards, policy: Policy) -> Result<(), String> {
        let old = self.generation()?;
        let new = Generation {
            number: old.number + 1,
            shards: coring::cores(),
        };
        let logs = (0..old.shards).map(|shard| self.log(old.number, shard));
        replay_all(shards, logs.collect())?;
        let paths: Vec<_> = (0..new.shards)
            .map(|shard| self.log(new.number, shard))
            .collect();
        let (there, own) = (shards.clone(), paths.clone());
        let written = coring::call_all(move |core| {
            let shard = there.local();
            let log =
                write_all(&shard.store.borrow(), &own[core], policy).map_err(at(&own[core]))?;
            shard.store.borrow_mut().journal.on = true;
            shard.loading.set(false);
            shard.log.set(log).expect("a server starts once");
            Ok(())
        });
        let written = written.map_err(|error| error.to_string())?;
        written.into_iter().collect::<Result<(), String>>()?;
        self.replace(new).map_err(at(&self.manifest))?;
        for shard in 0..old.shards {
            // It is not needed any more; that it stays is no reason not to start.
            let _ = fs::remove_file(self.log(old.number, shard));
        }
        Ok(())
    }

    /// From here on the next start begins with this generation.
    fn replace(&self, new: Generation) -> io::Result<()> {
        let Generation { number, shards } = new;
        let path = with_ending(&self.manifest, ".new");
        let mut file = File::create(&path)?;
        write!(file, "{FIRST_LINE}\ngeneration {number}\nshards {shards}\n")?;
        file.sync_all()?;
        // The names of the new logs are durable before FILE tells of them, and FILE before the old ones go.
        self.sync_folder()?;
        fs::rename(&path, &self.manifest)?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(folder_of(&self.manifest))?.sync_all()
    }
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Replays logs, on all cores at once.
fn replay_all(shards: &Shards, logs: Vec<PathBuf>) -> Result<(), String> {
    let shards = shards.clone();
    let replayed = coring::call_all(move |core| {
        let mine = logs.iter().skip(core).step_by(coring::cores());
        mine.into_iter().try_for_each(|log| replay(&shards, log))
    });
    let replayed = replayed.map_err(|error| error.to_string())?;
    replayed.into_iter().collect()
}

/// Replays one log, frame by frame.
fn replay(shards: &Shards, path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(at(path))?;
    let length = file.metadata().map_err(at(path))?.len();
    let mut batch = Batch::new(shards);
    let mut records = Vec::new();
    let mut place = 0;
    while place < length {
        let damaged = |what: &str| {
            let name = path.display();
            format!(
                "{name}: damaged at byte {place} of {length}: {what}; nothing was changed. Restore it from a copy, \
                 or give up what is behind: truncate -s {place} {name}"
            )
        };
        let mut header = [0; HEADER_BYTES];
        let rest = length - place;
        let mut missing = HEADER_BYTES as u64;
        if rest >= missing {
            file.read_exact_at(&mut header, place).map_err(at(path))?;
            let records = length_of(&header).ok_or_else(|| damaged("this is no frame"))?;
            missing = missing.saturating_add(records);
        }
        if rest < missing {
            eprintln!(
                "{}: the last {rest} bytes are a write that was cut off; dropped",
                path.display()
            );
            return Ok(());
        }
        let bytes = missing - HEADER_BYTES as u64;
        records.resize(usize::try_from(bytes).expect("it is inside the file"), 0);
        file.read_exact_at(&mut records, place + HEADER_BYTES as u64)
            .map_err(at(path))?;
        if !is_sealed(&header, &records) {
            return Err(damaged("the check of the records fails"));
        }
        apply(&mut batch, &records).map_err(|error| damaged(&error))?;
        place += missing;
    }
    Ok(())
}

/// Runs the records of a frame, each on the core that owns its key.
fn apply(batch: &mut Batch, mut records: &[u8]) -> Result<(), String> {
    let mut parser = Parser::trusting();
    while !records.is_empty() {
        let length = parser.parse(records).map_err(|error| error.to_string())?;
        let length = length.ok_or("a record is cut off inside its frame")?;
        let request = parser.request(records);
        let command = (request.len() > 0)
            .then(|| commands::find(request.get(0)))
            .flatten();
        match command {
            Some(command) if command.writes && command.takes(request.len()) => {
                batch.add(command, request);
            }
            _ => return Err("a record is no command that writes".to_owned()),
        }
        records = &records[length..];
        parser.next();
        if batch.requests >= AT_ONCE {
            batch.finish().map_err(|error| error.to_string())?;
            batch.out.clear();
        }
    }
    let finished = batch.finish().map_err(|error| error.to_string());
    batch.out.clear();
    finished
}

/// Writes all keys of a core to a new log, durably.
fn write_all(store: &Store, path: &Path, policy: Policy) -> io::Result<Log> {
    let file = File::create(path)?;
    let mut end = 0;
    let mut frame = vec![0; HEADER_BYTES];
    let mut flush = |frame: &mut Vec<u8>| {
        seal(frame);
        file.write_all_at(frame, end)?;
        end += frame.len() as u64;
        frame.truncate(HEADER_BYTES);
        io::Result::Ok(())
    };
    for (key, entry) in store.iter() {
        describe(key, entry, &mut frame);
        if frame.len() >= FRAME_BYTES {
            flush(&mut frame)?;
        }
    }
    if frame.len() > HEADER_BYTES {
        flush(&mut frame)?;
    }
    file.sync_all()?;
    Log::open(path, end, policy)
}

/// The requests that make a key what it is.
fn describe(key: &[u8], entry: &Entry, into: &mut Vec<u8>) {
    match &entry.value {
        Value::Text(text) => encode([b"SET", key, text].into_iter(), into),
        Value::List(list) => {
            let elements: Vec<&[u8]> = list.iter().map(|element| &**element).collect();
            for some in elements.chunks(ELEMENTS) {
                let words: Vec<&[u8]> = [b"RPUSH", key]
                    .into_iter()
                    .chain(some.iter().copied())
                    .collect();
                encode(words.into_iter(), into);
            }
        }
    }
    if entry.expires_ms != NEVER {
        let at = entry.expires_ms.to_string();
        encode([b"PEXPIREAT", key, at.as_bytes()].into_iter(), into);
    }
}

/// A core's shard before anything is loaded.
pub(crate) fn empty_shard(loading: bool) -> Shard {
    let shard = Shard::default();
    shard.loading.set(loading);
    shard
}
