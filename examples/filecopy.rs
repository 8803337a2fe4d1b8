//! Copies a file through the ring and checks the copy: `filecopy FROM TO`.
//!
//! Reading, hashing and writing overlap: one coroutine reads the next block while the other writes the last one.
//! At the end the copy is read back from the start and its SHA-256 compared.
//!
//! `cargo run --release --example filecopy -- Cargo.toml /tmp/copy`

use coring::fs::File;
use coring::{Runtime, coro};
use coring_examples::{Arguments, exit};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::rc::Rc;

const BLOCK_BYTES: usize = 256 * 1024;

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read("filecopy FROM TO", &[])?;
    let [from, to] = arguments.words()?;
    let (bytes, hash) = Runtime::builder()
        .cores(1)
        .build()?
        .run(|| copy(from, to))?;
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{bytes} bytes, sha256 {hex}, verified");
    Ok(())
}

/// Copies, syncs and verifies. Returns the size and the hash.
fn copy(from: &str, to: &str) -> Result<(u64, Vec<u8>), Box<dyn Error>> {
    let mut source = File::open(from).map_err(|error| format!("{from}: {error}"))?;
    let same = std::fs::metadata(to).is_ok_and(|target| is_same(&target, &source));
    if same {
        return Err(format!("{from} and {to} are the same file").into());
    }
    let target = Rc::new(File::create(to).map_err(|error| format!("{to}: {error}"))?);
    let mut sent = Sha256::new();
    let mut total = 0;
    // The writer of the block before: it owns its block, and gives it back for the next one.
    let mut writing: Option<coro::JoinHandle<io::Result<Vec<u8>>>> = None;
    let spare = Cell::new(vec![0; BLOCK_BYTES]);
    loop {
        let mut block = spare.take();
        block.resize(BLOCK_BYTES, 0);
        let read = source
            .read(&mut block)
            .map_err(|error| format!("{from}: {error}"))?;
        block.truncate(read);
        sent.update(&block);
        total += read as u64;
        if let Some(writer) = writing.take() {
            let back = writer.join()?.map_err(|error| format!("{to}: {error}"))?;
            spare.set(back);
        }
        if read == 0 {
            break;
        }
        let target = Rc::clone(&target);
        writing = Some(coro::spawn(move || {
            (&*target).write_all(&block).map(|()| block)
        }));
    }
    target
        .sync_all()
        .map_err(|error| format!("{to}: {error}"))?;
    let sent = sent.finalize().to_vec();
    if sent != hash_of(to)? {
        return Err(format!("{to} is not a copy of {from}: the hashes differ").into());
    }
    Ok((total, sent))
}

/// To open the target would empty the source.
fn is_same(target: &std::fs::Metadata, source: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    source
        .metadata()
        .is_ok_and(|source| (source.dev(), source.ino()) == (target.dev(), target.ino()))
}

fn hash_of(path: &str) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hash.finalize().to_vec()),
            read => hash.update(&block[..read]),
        }
    }
}
