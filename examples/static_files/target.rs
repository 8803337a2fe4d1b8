//! From a request's target to a path below the root.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// The path that `target` names, itself or as a whole URL, or `None` if it names none below `root`: wrong escapes, NUL bytes, `..`.
pub(crate) fn below(root: &Path, target: &str) -> Option<PathBuf> {
    let target = match target.strip_prefix("http://") {
        // Whatever name the client has for us.
        Some(url) => url.find('/').map_or("/", |path| &url[path..]),
        None => target,
    };
    let target = target.split(['?', '#']).next()?;
    let relative = decode(target.strip_prefix('/')?)?;
    let mut path = root.to_owned();
    for component in Path::new(&relative).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    if relative.is_empty() || target.ends_with('/') {
        path.push("index.html");
    }
    Some(path)
}

/// Undoes `%41`.
fn decode(text: &str) -> Option<OsString> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    (!decoded.contains(&0)).then(|| OsString::from_vec(decoded))
}

#[cfg(test)]
mod tests {
    use super::below;
    use std::path::{Path, PathBuf};

    #[test]
    fn nothing_leads_out_of_the_root() {
        let root = Path::new("/srv");
        for bad in [
            "",
            "no-slash",
            "/../etc/passwd",
            "/a/../../etc",
            "/%2e%2e/etc",
            "/..%2fetc",
            "//etc/passwd",
            "/%2fetc/passwd",
            "/nul%00",
            "/%",
            "/%4",
            "/%zz",
            "http://host/../etc",
            "https://host/a",
        ] {
            assert_eq!(below(root, bad), None, "{bad}");
        }
        for (good, path) in [
            ("/a/b", "/srv/a/b"),
            ("/", "/srv/index.html"),
            ("/a/?q=1", "/srv/a/index.html"),
            ("/sp%20ace", "/srv/sp ace"),
            ("/..a", "/srv/..a"),
            ("/./a", "/srv/a"),
            ("http://host:80/a/b?c", "/srv/a/b"),
            ("http://host", "/srv/index.html"),
        ] {
            assert_eq!(below(root, good), Some(PathBuf::from(path)), "{good}");
        }
    }
}
