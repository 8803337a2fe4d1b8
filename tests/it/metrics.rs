//! The figures of the cores: complete, true, and in a format that Prometheus reads.

use coring::metrics::{Value, figures, prometheus};
use coring::uring::Feature;
use coring::{Runtime, coro};
use coring_tests::command::example;
use coring_tests::lane::is_allowed;
use coring_tests::{builder, check, runtime, skip};
use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn what_happens_is_counted() {
    // Goal: each counter moves with what it counts, and by no less.
    // Method: a known number of switches, timers, operations, closures; the figures before and after.
    check(|| {
        runtime(2).run(|| {
            coring::call(1, || ()).unwrap();
            let before = Runtime::stats().unwrap();
            let closures: Vec<_> = (0..50)
                .map(|_| coring::spawn_on(1, coro::yield_now))
                .collect();
            closures
                .into_iter()
                .for_each(|closure| closure.join().unwrap());
            for _ in 0..100 {
                coro::sleep(Duration::from_micros(10));
                drop(coring::fs::File::open("/dev/null").unwrap());
            }
            let after = Runtime::stats().unwrap();
            let more = |of: fn(&coring::CoreStats) -> u64, core: usize| {
                of(&after[core]) - of(&before[core])
            };
            assert!(more(|core| core.scheduler.turns, 0) >= 100);
            assert!(more(|core| core.scheduler.switches, 1) >= 100);
            assert!(more(|core| core.scheduler.spawned, 1) >= 50);
            assert!(more(|core| core.scheduler.timer_late_ns.count(), 0) == 100);
            assert!(more(|core| core.scheduler.ready_length.count(), 0) >= 100);
            assert!(more(|core| core.scheduler.ready_wait_ns.count(), 0) > 0);
            assert!(more(|core| core.scheduler.ready_wait_ns.sum(), 0) > 0);
            assert!(more(|core| core.ring.submitted, 0) >= 100);
            assert!(more(|core| core.submit_batch.sum(), 0) >= 100);
            assert!(more(|core| core.complete_batch.sum(), 0) >= 100);
            assert!(more(|core| core.inbox_batch.sum(), 1) >= 50);
            assert!(more(|core| core.sleeps + core.looks, 0) > 0);
            assert_eq!(after[0].stalls, 0, "nothing stood still");
        });
    });
}

#[test]
fn what_is_there_is_shown() {
    // Goal: the figures that say how much of something there is, or went wrong, move with it: coroutines, stacks and the
    // deepest, those that are ready, timers, operations in flight, buffers, closures in the inbox, cancels, doorbells, panics, a
    // full submission queue, log lines without room.
    // Method: so much of each is made; then the figures are looked at.
    check(|| {
        let logger = coring::logger::Logger::builder()
            .memory()
            .0
            .start()
            .unwrap();
        let runtime = builder(2)
            .sq_entries(8)
            .receive_pool(8, 4096)
            .build()
            .unwrap();
        runtime.run(|| {
            let own = || coring::stats().unwrap();
            let before = own();
            assert!(before.receive_buffers.is_none());
            let sleepers: Vec<_> = (0..10)
                .map(|_| coro::spawn(|| coro::sleep(Duration::MAX)))
                .collect();
            coro::yield_now();
            // A sample of the stacks is measured.
            coring_tests::until("a deep one was measured", || {
                let deep = || assert_eq!(std::hint::black_box([1u8; 100_000])[7], 1);
                coro::spawn(deep).join().unwrap();
                own().scheduler.deepest_stack_bytes >= 100_000
            });
            let readers: Vec<_> = (0..40)
                .map(|_| {
                    let (mut ours, theirs) = coring_tests::tcp::pair();
                    (
                        coro::spawn(move || ours.read(&mut [0; 8]).map(drop)),
                        theirs,
                    )
                })
                .collect();
            coring_tests::until_in_flight(40);
            let (ours, mut theirs) = coring_tests::tcp::pair();
            theirs.write_all(b"kept").unwrap();
            let kept = ours.recv_buffer().unwrap();
            let panics = coro::spawn(|| std::panic::resume_unwind(Box::new(())));
            assert!(panics.join().is_err());
            let ready: Vec<_> = (0..5).map(|_| coro::spawn(|| ())).collect();
            let now = own();
            let more = |of: fn(&coring::CoreStats) -> usize| of(&now) - of(&before);
            assert_eq!(more(|core| core.scheduler.live), 10 + 40 + 5);
            assert!(more(|core| core.scheduler.stacks) >= 55);
            assert_eq!((now.scheduler.ready, now.in_flight), (5, 40));
            assert_eq!(more(|core| core.scheduler.timers), 10);
            assert_eq!(now.scheduler.panicked, before.scheduler.panicked + 1);
            assert!(
                now.ring.sq_full > before.ring.sq_full,
                "forty reads through eight entries"
            );
            let buffers = || own().receive_buffers.map(|of| (of.count, of.available));
            let is_shared = is_allowed(Feature::BufferRing);
            assert_eq!(buffers(), is_shared.then_some((8, 7)));
            drop(kept);
            assert_eq!(buffers(), is_shared.then_some((8, 8)));
            drop(ready);
            for (reader, _theirs) in readers {
                reader.cancel();
                assert!(reader.join().unwrap().is_err());
            }
            assert!(own().ring.cancels >= before.ring.cancels + 40);
            sleepers.iter().for_each(|sleeper| sleeper.cancel());

            // Core 1 sleeps, is rung, and then does not look into its inbox while this core fills it.
            let before = coring::call(1, || coring::stats().unwrap()).unwrap();
            let (hold, held) = (mpsc::channel::<()>(), mpsc::channel::<()>());
            let busy = coring::spawn_on(1, move || {
                held.0.send(()).unwrap();
                hold.1.recv().unwrap();
                coring::stats().unwrap().inbox_depth
            });
            coring_tests::until("core 1 is held", || held.1.try_recv().is_ok());
            let waiting: Vec<_> = (0..7).map(|_| coring::spawn_on(1, || ())).collect();
            hold.0.send(()).unwrap();
            assert_eq!(busy.join().unwrap(), 7);
            waiting.into_iter().for_each(|one| one.join().unwrap());
            let after = coring::call(1, || coring::stats().unwrap()).unwrap();
            assert!(after.inbox_lanes >= 1 && after.ring.wakes > before.ring.wakes);
            assert!(
                after.ring.enters > before.ring.enters && after.ring.reaped > before.ring.reaped
            );

            while own().log_dropped == 0 {
                coring::logger::info!("a line without end: {}", "x".repeat(1000));
            }
        });
        logger.shutdown();
    });
}

#[test]
fn the_text_is_what_prometheus_reads() {
    // Goal: the exposition format, version 0.0.4, by its own rules.
    // Method: a parser that refuses everything it does not know; histograms add up; every figure is there for every core.
    check(|| {
        let (text, names) = runtime(3).run(|| {
            coro::sleep(Duration::from_millis(1));
            let stats = Runtime::stats().unwrap();
            let names: Vec<_> = figures(&stats[0])
                .iter()
                .map(|figure| figure.name)
                .collect();
            let histograms = figures(&stats[0])
                .iter()
                .filter(|figure| matches!(figure.value, Value::Histogram { .. }))
                .count();
            assert!(histograms >= 5);
            (prometheus(&stats), names)
        });
        let parsed = parse(&text);
        assert_eq!(
            parsed.keys().copied().collect::<HashSet<_>>(),
            names.iter().copied().collect()
        );
        for (name, family) in parsed {
            match family.kind {
                "counter" => assert!(name.ends_with("_total"), "{name}"),
                _ => assert!(!name.ends_with("_total"), "{name}"),
            }
            for core in ["0", "1", "2"] {
                family.check(name, core);
            }
        }
    });
}

#[test]
fn the_example_is_an_endpoint() {
    // Goal: the example answers a scrape with that text, and everything else with 404; a request without an end is not read to it.
    // Method: plain HTTP to it.
    check(|| {
        let Some(example) = example("metrics") else {
            skip!("the metrics example is not built: run `cargo test` at the root");
        };
        let mut child = Command::new(example)
            .arg("0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap();
        let get = |path: &str| {
            let mut stream = TcpStream::connect(address.strip_suffix("/metrics").unwrap()).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.to_owned(), body.to_owned())
        };
        // Who asks for nothing, and does not end.
        let mut endless = TcpStream::connect(address.strip_suffix("/metrics").unwrap()).unwrap();
        let taken = (0..256).take_while(|_| endless.write_all(&[b'x'; 1 << 18]).is_ok());
        assert!(taken.count() < 256, "64 MiB of a line were taken");
        let (head, body) = get("/metrics");
        let (other, _) = get("/");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        parse(&body)["coring_turns_total"].check("coring_turns_total", "0");
        assert!(other.starts_with("HTTP/1.1 404"), "{other}");
    });
}

/// The lines of one figure.
struct Family<'a> {
    kind: &'a str,
    /// Suffix of the name, labels, value.
    samples: Vec<(&'a str, BTreeMap<&'a str, &'a str>, f64)>,
}

impl Family<'_> {
    fn of(&self, suffix: &str, core: &str) -> Vec<(Option<&str>, f64)> {
        let own = self
            .samples
            .iter()
            .filter(|(found, labels, _)| *found == suffix && labels["core"] == core);
        own.map(|(_, labels, value)| (labels.get("le").copied(), *value))
            .collect()
    }

    fn check(&self, name: &str, core: &str) {
        if self.kind != "histogram" {
            assert_eq!(self.of("", core).len(), 1, "{name} of core {core}");
            return;
        }
        let buckets = self.of("_bucket", core);
        let bounds = buckets
            .iter()
            .map(|(bound, _)| bound.unwrap().parse::<f64>().unwrap());
        let bounds: Vec<_> = bounds.collect();
        assert!(bounds.is_sorted_by(|a, b| a < b), "{name}: {bounds:?}");
        assert!(
            buckets.is_sorted_by(|a, b| a.1 <= b.1),
            "{name}: they add up"
        );
        let (last, count) = (buckets.last().unwrap(), self.of("_count", core));
        assert_eq!(last.0, Some("+Inf"), "{name}");
        assert_eq!(
            count.iter().map(|count| count.1).collect::<Vec<_>>(),
            [last.1],
            "{name}"
        );
        assert_eq!(self.of("_sum", core).len(), 1, "{name}");
    }
}

fn parse(text: &str) -> BTreeMap<&str, Family<'_>> {
    assert!(text.ends_with('\n'));
    let is_name = |name: &str| {
        !name.starts_with(|letter: char| letter.is_ascii_digit())
            && name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':')
    };
    let (mut families, mut helped, mut current) = (BTreeMap::new(), None, None);
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = Some(help.split_once(' ').expect("a name and its help").0);
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and its kind");
            assert!(is_name(name) && helped == Some(name), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let samples = Vec::new();
            assert!(
                families.insert(name, Family { kind, samples }).is_none(),
                "{line}: once"
            );
            current = Some(name);
            continue;
        }
        let (name, rest) = line.split_once('{').expect("labels");
        let (labels, value) = rest.split_once("} ").expect("a value");
        let family = current.expect("a kind before it");
        let suffix = name
            .strip_prefix(family)
            .expect("lines of a figure stand together");
        assert!(is_name(name), "{line}");
        let labels = labels.split(',').map(|label| {
            let (label, value) = label.split_once("=\"").expect("a label and its value");
            (label, value.strip_suffix('"').expect("in quotes"))
        });
        let value = value.parse().expect("a number");
        let family = families.get_mut(family).expect("inserted above");
        family.samples.push((suffix, labels.collect(), value));
    }
    families
}
