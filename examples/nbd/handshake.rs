//! The fixed newstyle handshake: the client names an export and learns its size. Every name is the same file.

use coring::net::TcpStream;
use std::io::{self, Read, Write};

const INIT_MAGIC: &[u8; 8] = b"NBDMAGIC";
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Fixed newstyle, and no padding behind the oldest answer.
const HANDSHAKE_FLAGS: u16 = 1 | 2;
const NO_ZEROES: u32 = 2;
/// Has flags; flush and forced unit access work; several connections see each other's writes.
const EXPORT_FLAGS: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 8;

const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const LIST: u32 = 3;
const INFO: u32 = 6;
const GO: u32 = 7;

const ACKNOWLEDGE: u32 = 1;
const SERVER: u32 = 2;
const INFORMATION: u32 = 3;
const UNSUPPORTED: u32 = 1 << 31 | 1;
/// The longest option that is read.
const LONGEST_OPTION: u32 = 64 * 1024;

/// Agrees with the client. `false` when it only wanted to know.
pub(crate) fn shake(mut stream: &TcpStream, bytes: u64) -> io::Result<bool> {
    let mut greeting = Vec::from(*INIT_MAGIC);
    greeting.extend(OPTION_MAGIC);
    greeting.extend(HANDSHAKE_FLAGS.to_be_bytes());
    stream.write_all(&greeting)?;
    let mut flags = [0; 4];
    stream.read_exact(&mut flags)?;
    let no_zeroes = u32::from_be_bytes(flags) & NO_ZEROES != 0;
    loop {
        let mut magic = [0; 8];
        stream.read_exact(&mut magic)?;
        if magic != *OPTION_MAGIC {
            return Err(io::Error::other("this is no option"));
        }
        let option = read_u32(stream)?;
        let length = read_u32(stream)?;
        if length > LONGEST_OPTION {
            return Err(io::Error::other("an option is too long"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match option {
            EXPORT_NAME => {
                let mut answer = Vec::from(bytes.to_be_bytes());
                answer.extend(EXPORT_FLAGS.to_be_bytes());
                answer.resize(answer.len() + if no_zeroes { 0 } else { 124 }, 0);
                stream.write_all(&answer)?;
                return Ok(true);
            }
            GO | INFO => {
                let mut export = vec![0, 0];
                export.extend(bytes.to_be_bytes());
                export.extend(EXPORT_FLAGS.to_be_bytes());
                reply(stream, option, INFORMATION, &export)?;
                reply(stream, option, ACKNOWLEDGE, &[])?;
                if option == GO {
                    return Ok(true);
                }
            }
            LIST => {
                // One export, whose name is empty.
                reply(stream, option, SERVER, &0_u32.to_be_bytes())?;
                reply(stream, option, ACKNOWLEDGE, &[])?;
            }
            ABORT => {
                reply(stream, option, ACKNOWLEDGE, &[])?;
                return Ok(false);
            }
            _ => reply(stream, option, UNSUPPORTED, &[])?,
        }
    }
}

fn read_u32(mut stream: &TcpStream) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn reply(mut stream: &TcpStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).expect("answers are short");
    let mut answer = Vec::from(REPLY_MAGIC.to_be_bytes());
    for field in [option, kind, length] {
        answer.extend(field.to_be_bytes());
    }
    answer.extend(data);
    stream.write_all(&answer)
}
