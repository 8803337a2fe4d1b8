//! The style guide and the allowed dependency edges, as a test.
//!
//! It reads the sources and manifests of the workspace as text. What it finds is listed all at once, with file and
//! line. An exception is an entry in one of the lists below, with its reason.

use std::fs;
use std::path::{Path, PathBuf};

const MEMBERS: [&str; 7] = [
    "coro", "uring", "logger", "runtime", "benches", "tests", "examples",
];

/// No file is longer than this.
const MOST_LINES: usize = 600;

/// Which of our packages a member may depend on, tests and examples of it included.
const EDGES: [(&str, &[&str]); 5] = [
    ("coro", &[]),
    ("uring", &[]),
    ("logger", &[]),
    ("runtime", &["coring-coro", "coring-uring", "coring-logger"]),
    ("examples", &["coring"]),
];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("a member is in the workspace")
        .to_owned()
}

/// The path below the root, and the text, of every file with this ending in every member.
fn files(ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = MEMBERS.iter().map(|member| root().join(member)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("a folder of the workspace").path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == ending) {
                let name = path.strip_prefix(root()).expect("below the root");
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                found.push((name.display().to_string(), text));
            }
        }
    }
    assert!(!found.is_empty(), "there are .{ending} files");
    found.sort();
    found
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn every_file_says_what_it_is() {
    // Goal: guide, point 3: each file opens with `//!`.
    // Method: its first line.
    let found: Vec<_> = files("rs")
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(name, _)| name)
        .collect();
    none("files that do not open with //!", &found);
}

#[test]
fn no_file_is_long() {
    // Goal: guide, point 2.
    // Method: lines are counted.
    let found: Vec<_> = files("rs")
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    none("files that are too long", &found);
}

/// A word that would find itself if it were written in one piece.
fn banned() -> [String; 4] {
    [["TO", "DO"], ["FIX", "ME"], ["X", "XX"], ["to", "do!("]].map(|halves| halves.concat())
}

#[test]
fn nothing_is_put_off() {
    // Goal: guide, point 4: no notes to do something later, no stubs.
    // Method: the usual words, in sources and manifests.
    let stub = ["unimpl", "emented!("].concat();
    let mut found = Vec::new();
    for (name, text) in files("rs").into_iter().chain(files("toml")) {
        for (number, line) in text.lines().enumerate() {
            if banned()
                .iter()
                .chain([&stub])
                .any(|word| line.contains(word))
            {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("things put off", &found);
}

/// Code that needs the lint's permission: not a comment, not a type.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["unsafe {", "unsafe fn ", "unsafe impl", "unsafe trait "]
        .iter()
        .any(|word| code.contains(word))
}

/// Whether a file has the attribute, for itself or for an item of it.
fn expects_unsafe(text: &str) -> bool {
    text.contains("unsafe_code") && text.contains("reason =")
}

#[test]
fn unsafe_is_announced() {
    // Goal: guide, point 5: a file with unsafe code says so by the attribute, with a reason. That each block is argued
    // is clippy's to check.
    // Method: the attribute in the file, or in that of a module around it, whose lint levels it inherits.
    let all = files("rs");
    let mut found = Vec::new();
    for (name, text) in &all {
        if name == "tests/tidy.rs" || !text.lines().any(is_unsafe) {
            continue;
        }
        let around = Path::new(name).ancestors().skip(1).flat_map(|folder| {
            [folder.with_extension("rs"), folder.join("mod.rs")]
                .map(|path| path.display().to_string())
        });
        let announced = around.chain([name.clone()]).any(|file| {
            all.iter()
                .any(|(name, text)| *name == file && expects_unsafe(text))
        });
        if !announced {
            found.push(name.clone());
        }
    }
    none("files with unsafe code that do not expect it", &found);
}

/// The names on the left of the `=` in all dependency tables of a manifest, but those for benches' peers.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            inside = table.trim_end_matches(']').ends_with("dependencies");
        } else if inside && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if !name.is_empty() {
                names.push(name.to_owned());
            }
        }
    }
    names
}

fn manifest(folder: &str) -> String {
    let path = root().join(folder).join("Cargo.toml");
    fs::read_to_string(path).expect("a member has a manifest")
}

#[test]
fn edges_go_one_way() {
    // Goal: coro, uring and logger are leaves that know nothing of each other or of runtime; runtime knows no one above.
    // Method: the dependency tables, dev-dependencies included.
    for (member, allowed) in EDGES {
        let ours = dependencies(&manifest(member));
        let wrong: Vec<_> = ours
            .into_iter()
            .filter(|name| name.starts_with("coring") && !allowed.contains(&name.as_str()))
            .collect();
        none(&format!("edges that {member} may not have"), &wrong);
    }
    // The parser does find them.
    assert!(dependencies(&manifest("runtime")).contains(&"coring-uring".to_owned()));
}

#[test]
fn peers_are_compiled_by_who_asks() {
    // Goal: `cargo build` and `cargo test` at the root do not compile what only the benchmarks compare us with.
    // Method: default-members leaves benches out, and no other member depends on a peer.
    let workspace = manifest("");
    let defaults = workspace
        .lines()
        .find(|line| line.starts_with("default-members"));
    let defaults = defaults.expect("the workspace has default members");
    assert!(!defaults.contains("benches"), "{defaults}");
    for member in MEMBERS.iter().filter(|member| **member != "benches") {
        let peers: Vec<_> = dependencies(&manifest(member))
            .into_iter()
            .filter(|name| {
                ["tokio", "monoio", "glommio", "may", "smol", "compio"].contains(&name.as_str())
            })
            .collect();
        none(&format!("peers that {member} would compile"), &peers);
    }
}

#[test]
fn examples_are_built_as_programs() {
    // Goal: `cargo test` at the root builds every example, so that no test which runs one is skipped there.
    // Method: an example with `test = true` would be built as its tests alone.
    let manifest = manifest("examples");
    let examples = manifest
        .split("[[")
        .filter(|table| table.starts_with("example]]"));
    let found: Vec<_> = examples
        .filter(|table| table.lines().any(|line| line.starts_with("test = ")))
        .map(str::to_owned)
        .collect();
    none("examples that are built as tests", &found);
}

#[test]
fn every_member_takes_the_lints() {
    // Goal: guide, point 11: one lint table, inherited by all.
    // Method: the manifests.
    for member in MEMBERS {
        let manifest = manifest(member);
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member}");
    }
}

#[test]
fn tests_say_their_goal() {
    // Goal: guide, point 10: the first comment of a behaviour test is its goal, then its method.
    // Method: the line after the function's name, in tests/.
    let mut found = Vec::new();
    for (name, text) in files("rs") {
        if !name.starts_with("tests/") {
            continue;
        }
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (number, _) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| **line == "#[test]")
        {
            let first = lines.get(number + 2).copied().unwrap_or_default();
            let body = lines[number..].iter().take(12);
            if !first.starts_with("// Goal:")
                || !body
                    .into_iter()
                    .any(|line| line.starts_with("//") && line.contains("Method:"))
            {
                found.push(format!("{name}:{}", number + 2));
            }
        }
    }
    none("tests without goal and method", &found);
}

#[test]
fn nobody_sleeps_to_wait_in_tests() {
    // Goal: guide, point 10: a test waits for what it waits for, not for a time.
    // Method: `thread::sleep` in tests/, with the exceptions listed.
    // Blocking is what blocking.rs and two of the scenarios are about; the others poll another process.
    let allowed = [
        "tests/it/blocking.rs",
        "tests/it/clients.rs",
        "tests/it/programs/proxy.rs",
        "tests/src/bin/scenario/ending.rs",
        "tests/src/bin/scenario/watched.rs",
        "tests/src/server.rs",
        "tests/tidy.rs",
    ];
    let found: Vec<_> = files("rs")
        .into_iter()
        .filter(|(name, text)| {
            name.starts_with("tests/")
                && !allowed.contains(&name.as_str())
                && text.contains("thread::sleep")
        })
        .map(|(name, _)| name)
        .collect();
    none("tests that sleep", &found);
}
