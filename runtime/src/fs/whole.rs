//! Whole files at once.

use super::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// The whole contents of a file. Compare [`std::fs::read`].
///
/// # Parks
///
/// Yes.
///
/// # Errors
///
/// As open(2) and read(2).
///
/// # Examples
///
/// ```
/// use coring::fs;
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let path = std::env::temp_dir().join(format!("coring-whole-{}", std::process::id()));
///     fs::write(&path, "some text")?;
///     assert_eq!(fs::read_to_string(&path)?, "some text");
///     fs::remove_file(&path)
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut contents = Vec::new();
    contents.try_reserve_exact(expected_bytes(&file))?;
    file.read_to_end(&mut contents)?;
    Ok(contents)
}

/// The whole contents of a file that holds UTF-8. Compare [`std::fs::read_to_string`].
///
/// # Parks
///
/// Yes.
///
/// # Errors
///
/// As open(2) and read(2); `InvalidData` when it is something else.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut contents = String::new();
    contents.try_reserve_exact(expected_bytes(&file))?;
    file.read_to_string(&mut contents)?;
    Ok(contents)
}

/// A hint: files may grow and shrink meanwhile, and those of /proc say 0.
fn expected_bytes(file: &File) -> usize {
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    usize::try_from(bytes).unwrap_or(0)
}

/// Makes these the whole contents of a file, which is created or replaced. Compare [`std::fs::write`].
///
/// Not durable and not atomic: [`File::sync_all`], and a [`rename`](super::rename) from another name, make it so.
///
/// # Parks
///
/// Yes.
///
/// # Errors
///
/// As open(2) and write(2).
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    File::create(path)?.write_all(contents.as_ref())
}
