//! A server among the examples, running: the binary that `cargo test` at the root has built beside the tests. It is
//! started on a free port, says when it listens, and is killed at the end.

use crate::command::example;
use crate::proc;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// An example that serves.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens, on the loopback address.
    pub port: u16,
}

impl Server {
    /// Starts an example with these words. `None` where it was not built.
    ///
    /// # Panics
    ///
    /// When it does not say that it listens.
    #[must_use]
    pub fn start(name: &str, words: &[&str]) -> Option<Self> {
        let mut child = Command::new(example(name)?)
            .args(words)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it says that it listens");
        let address = line.strip_prefix("listening on ");
        let port = address.and_then(|rest| rest.split(' ').next()?.rsplit(':').next());
        let port = port.and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {line:?}"));
        Some(Self { child, port })
    }

    /// Lets it have no new descriptor, or as many as it had before.
    ///
    /// # Panics
    ///
    /// When prlimit(1) fails.
    pub fn starve(&self, does: bool) {
        let limit = if does {
            "--nofile=3:"
        } else {
            "--nofile=1024:"
        };
        let pid = self.child.id().to_string();
        let ended = Command::new("prlimit")
            .args(["--pid", &pid, limit])
            .status();
        assert!(ended.expect("prlimit starts").success(), "{limit}");
    }

    /// Its descriptors, and its memory in KiB.
    #[must_use]
    pub fn usage(&self) -> (usize, u64) {
        (
            proc::fds_of(self.child.id()),
            proc::rss_kib_of(self.child.id()),
        )
    }

    /// Waits until it has no more descriptors than before, and little more memory.
    ///
    /// # Panics
    ///
    /// When that takes longer than 20 s.
    pub fn settles(&self, before: (usize, u64)) {
        // What two cores keep for the next burst: 4 MiB of receive buffers and a log ring each, warm stacks.
        let (start, memory) = (Instant::now(), 12 * 1024);
        loop {
            let now = self.usage();
            if now.0 == before.0 && now.1 <= before.1 + memory {
                println!("descriptors and KiB: {before:?} before, {now:?} after");
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "descriptors and KiB: {before:?} before, {now:?} long after"
            );
            // Between two looks at another process; nothing tells us when it is through.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
