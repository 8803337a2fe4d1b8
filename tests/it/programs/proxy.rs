//! The proxy in front of servers that none of us wrote.

use super::{curl, run, site};
use coring_tests::command::{self, as_nobody, exists};
use coring_tests::port::Port;
use coring_tests::random::pattern;
use coring_tests::server::Server;
use coring_tests::{check, skip};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A foreign server, killed at the end.
struct Foreign(Child, Port);

impl Foreign {
    /// Starts it on a free port, which `words` puts where it belongs, and waits until somebody listens there.
    fn start(words: impl FnOnce(&str) -> Vec<String>) -> Self {
        let port = Port::take();
        let words = words(&port.number().to_string());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (this, start) = (Self(child, port), Instant::now());
        while !listens(this.1.number()) {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{words:?} does not listen"
            );
            // Between two looks at another process.
            thread::sleep(Duration::from_millis(5));
        }
        this
    }

    /// Our proxy in front of it.
    fn proxied(&self, cores: &str) -> Option<Server> {
        let to = format!("127.0.0.1:{}", self.1.number());
        Server::start(
            "proxy",
            &["--listen", "127.0.0.1:0", "--to", &to, "--cores", cores],
        )
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SIGTERM first: what has children of its own takes them along.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let start = Instant::now();
        while self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            if start.elapsed() > Duration::from_secs(5) {
                let _ = self.0.kill();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether a socket listens on this port: state 0A in /proc/net/tcp. A trial connection could disturb the server.
fn listens(port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let table = fs::read_to_string(table).unwrap_or_default();
        table.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next().is_some_and(|local| local.ends_with(&wanted)) && words.nth(1) == Some("0A")
        })
    })
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn proxy_under_curl() {
    // Goal: a large file through the proxy has not one byte changed, many at once neither.
    // Method: curl from the file server behind it; bodies are compared.
    check(|| {
        need!("curl");
        let (_folder, root) = site();
        let files = file_server!(root);
        let to = format!("127.0.0.1:{}", files.port);
        let proxy = server!(
            "proxy",
            "--listen",
            "127.0.0.1:0",
            "--to",
            &to,
            "--cores",
            "2"
        );
        let before = proxy.usage();
        let (url, big) = (
            format!("http://127.0.0.1:{}/big", proxy.port),
            pattern(2, 20_000_001),
        );
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(curl(&[&url]) == (200, big.clone())));
            }
        });
        proxy.settles((before.0, before.1 + 16 * 1024));
    });
}

#[test]
fn proxy_under_redis() {
    // Goal: a real redis-server works through the proxy: pipelines, many connections, large values.
    // Method: redis-benchmark ends well and reports a rate for each command; a value of 1 MB comes back; the server has
    // counted no protocol error.
    check(|| {
        need!("redis-server", "redis-benchmark", "redis-cli");
        let redis = Foreign::start(|port| {
            words(&format!(
                "redis-server --port {port} --bind 127.0.0.1 --save  --appendonly no"
            ))
        });
        let Some(proxy) = redis.proxied("2") else {
            skip!("the example proxy is not built: run `cargo test` at the root");
        };
        let (before, port) = (proxy.usage(), proxy.port.to_string());
        for line in [
            "-P 16 -c 50 -n 50000 -t set,get,lrange_100",
            "-c 100 -n 3000 -d 100000 -t set,get",
        ] {
            let report = run(["redis-benchmark", "-q", "-p", &port]
                .iter()
                .copied()
                .chain(line.split(' ')));
            assert!(
                report.matches("requests per second").count() >= 2,
                "{report}"
            );
            assert!(!report.contains("rror"), "{report}");
        }
        run([
            "redis-cli",
            "-p",
            &port,
            "SETRANGE",
            "long",
            "1000000",
            "end",
        ]);
        assert_eq!(
            run(["redis-cli", "-p", &port, "STRLEN", "long"]),
            "1000003\n"
        );
        assert!(run(["redis-cli", "-p", &port, "GET", "long"]).ends_with("end\n"));
        assert!(
            run(["redis-cli", "-p", &port, "INFO", "stats"]).contains("unexpected_error_replies:0")
        );
        proxy.settles((before.0, before.1 + 32 * 1024));
    });
}

#[test]
fn proxy_under_iperf3() {
    // Goal: streams that are saturated in one direction, in the other, in both, by one connection and by eight: none
    // stalls, every one moves bytes.
    // Method: iperf3's own report. One core, so that connections reach the server in the order in which the client made
    // them: iperf3 tells senders from receivers by that order. A server for each client: it tells a client that all is
    // over before it is ready for the next one.
    check(|| {
        need!("iperf3");
        for (line, streams) in [
            ("-t 1", 1),
            ("-t 1 -R", 1),
            ("-t 1 -P 8", 8),
            ("-t 1 -P 4 --bidir", 8),
            ("-n 200M", 1),
        ] {
            let iperf = Foreign::start(|port| words(&format!("iperf3 -s -p {port}")));
            let Some(proxy) = iperf.proxied("1") else {
                skip!("the example proxy is not built: run `cargo test` at the root");
            };
            let before = proxy.usage();
            let port = proxy.port.to_string();
            let report = run(["iperf3", "-c", "127.0.0.1", "-p", &port]
                .iter()
                .copied()
                .chain(line.split(' ')));
            let received = report
                .lines()
                .filter(|line| line.contains("receiver") && !line.contains("SUM"));
            let received: Vec<_> = received.collect();
            assert_eq!(received.len(), streams, "{report}");
            assert!(
                !received.iter().any(|line| line.contains(" 0.00 Bytes")),
                "{report}"
            );
            proxy.settles((before.0, before.1 + 16 * 1024));
        }
    });
}

/// Where PostgreSQL's programs are: Debian keeps them off the path.
fn postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let mut folders = folders
        .filter(|folder| folder.join("pgbench").is_file() && folder.join("initdb").is_file());
    folders.next()
}

#[test]
fn proxy_under_pgbench() {
    // Goal: PostgreSQL works through the proxy: transactions, a connection for each transaction, an answer of 50 MB.
    // Method: a cluster of its own in a scratch folder, as the user nobody; pgbench counts failures.
    check(|| {
        let (Some(bin), Some(nobody)) = (postgres(), as_nobody()) else {
            skip!("no PostgreSQL, or not the right to become nobody, whom it insists on");
        };
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
        let program = |name: &str| bin.join(name).to_str().unwrap().to_owned();
        let data = folder.path().join("data").to_str().unwrap().to_owned();
        let nobody = || nobody.iter().map(|&word| word.to_owned());
        let initdb = [
            program("initdb"),
            "-D".into(),
            data.clone(),
            "-A".into(),
            "trust".into(),
            "-U".into(),
            "tester".into(),
            "-N".into(),
        ];
        run(nobody().chain(initdb));
        let server = Foreign::start(|port| {
            let options = ["-D", &data, "-p", port, "-k", "", "-F"].map(str::to_owned);
            nobody()
                .chain([program("postgres")])
                .chain(options)
                .collect()
        });
        let Some(proxy) = server.proxied("2") else {
            skip!("the example proxy is not built: run `cargo test` at the root");
        };
        let port = proxy.port.to_string();
        // The socket is there a little before the server answers.
        let start = Instant::now();
        let ready = [
            &*program("pg_isready"),
            "-h",
            "127.0.0.1",
            "-p",
            &server.1.number().to_string(),
        ]
        .map(str::to_owned);
        while command::run(ready.iter()).code != Some(0)
            && start.elapsed() < Duration::from_secs(20)
        {}
        let through = |name: &str, words: &[&str]| {
            let login = ["-h", "127.0.0.1", "-p", &port, "-U", "tester"];
            let words = login.iter().chain(words).chain(&["postgres"]);
            run([program(name)]
                .into_iter()
                .chain(words.map(|&word| word.to_owned())))
        };
        through("pgbench", &["-i", "-q", "-s", "1"]);
        for words in [
            &["-c", "16", "-T", "1"][..],
            &["-c", "8", "-C", "-S", "-T", "1"],
        ] {
            let report = through("pgbench", words);
            assert!(
                report.contains("number of failed transactions: 0 "),
                "{report}"
            );
        }
        let bytes = 50_000_000;
        let long = through("psql", &["-Atc", &format!("select repeat('x', {bytes})")]);
        assert_eq!(long.trim_end().len(), bytes);
    });
}
