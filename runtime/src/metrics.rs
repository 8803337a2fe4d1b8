//! The figures of [`CoreStats`] by name, for those who collect them: as text for Prometheus, and through the `metrics` crate
//! (feature `metrics`).
//!
//! One table says what each figure is called and means ([`figures`]); both ways out read it.
//!
//! ```text
//!   Runtime::stats() --> CoreStats --figures--> prometheus(): text of an endpoint
//!                                           --> record(): the recorder that the program has installed
//! ```

use crate::CoreStats;
use coring_coro::Histogram;
use std::fmt::Write as _;

/// The content type of what [`prometheus`] returns.
pub const PROMETHEUS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One figure of a core.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Figure {
    /// Its name, after the rules of Prometheus.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// How much.
    pub value: Value,
}

/// How much, and of which kind.
#[expect(
    clippy::large_enum_variant,
    reason = "a few dozen are made when somebody asks"
)]
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Value {
    /// Counts up from the start of the core.
    Counter(u64),
    /// Is so much now.
    Gauge(f64),
    /// How often which size. A size in the histogram times `unit` is in the figure's unit.
    Histogram {
        /// The counts.
        histogram: Histogram,
        /// `1e-9` where nanoseconds are to be seconds.
        unit: f64,
    },
}

const NS: f64 = 1e-9;

/// All figures of a core, in an order that does not change.
#[must_use]
pub fn figures(stats: &CoreStats) -> Vec<Figure> {
    use Value::{Counter, Gauge};
    let (scheduler, ring) = (&stats.scheduler, &stats.ring);
    let gauge = |value: usize| Gauge(value as f64);
    let sizes = |histogram| Value::Histogram {
        histogram,
        unit: 1.0,
    };
    let times = |histogram| Value::Histogram {
        histogram,
        unit: NS,
    };
    let buffers = stats.receive_buffers;
    let buffer_count = buffers.map_or(0, |buffers| usize::from(buffers.count));
    let available = buffers.map_or(0, |buffers| usize::from(buffers.available));
    let table = [
        (
            "coring_turns_total",
            "Turns of the core.",
            Counter(scheduler.turns),
        ),
        (
            "coring_switches_total",
            "Switches into coroutines.",
            Counter(scheduler.switches),
        ),
        (
            "coring_coroutines_spawned_total",
            "Coroutines spawned.",
            Counter(scheduler.spawned),
        ),
        (
            "coring_coroutines_panicked_total",
            "Coroutines that ended by a panic.",
            Counter(scheduler.panicked),
        ),
        (
            "coring_coroutines",
            "Coroutines that have not ended.",
            gauge(scheduler.live),
        ),
        (
            "coring_coroutines_ready",
            "Coroutines that are ready to run.",
            gauge(scheduler.ready),
        ),
        ("coring_stacks", "Stacks in use.", gauge(scheduler.stacks)),
        (
            "coring_stack_deepest_bytes",
            "The deepest that a sampled stack went.",
            gauge(scheduler.deepest_stack_bytes),
        ),
        ("coring_timers", "Live timers.", gauge(scheduler.timers)),
        (
            "coring_ready_length",
            "Coroutines that were ready when a turn began.",
            sizes(scheduler.ready_length),
        ),
        (
            "coring_ready_wait_seconds",
            "How long who comes last in line waits until it has run.",
            times(scheduler.ready_wait_ns),
        ),
        (
            "coring_timer_late_seconds",
            "How long after its time a timer fired.",
            times(scheduler.timer_late_ns),
        ),
        (
            "coring_submissions_total",
            "Operations given to the ring.",
            Counter(ring.submitted),
        ),
        (
            "coring_completions_total",
            "Completions reaped from the ring.",
            Counter(ring.reaped),
        ),
        (
            "coring_enters_total",
            "Entries into the kernel to submit or wait.",
            Counter(ring.enters),
        ),
        (
            "coring_submit_batch",
            "Operations submitted by one entry into the kernel.",
            sizes(stats.submit_batch),
        ),
        (
            "coring_complete_batch",
            "Operations completed by one entry into the kernel.",
            sizes(stats.complete_batch),
        ),
        (
            "coring_cancels_total",
            "Operations that were asked to end.",
            Counter(ring.cancels),
        ),
        (
            "coring_ring_busy_total",
            "Times that the kernel had no memory or room.",
            Counter(ring.busy),
        ),
        (
            "coring_submission_queue_full_total",
            "Times that the submission queue was flushed early.",
            Counter(ring.sq_full),
        ),
        (
            "coring_completion_overflows_total",
            "Times that completions spilled into kernel memory.",
            Counter(ring.overflows),
        ),
        (
            "coring_operations",
            "Operations in flight: slots in use.",
            gauge(stats.in_flight),
        ),
        (
            "coring_receive_buffers",
            "Receive buffers of the core's pool.",
            gauge(buffer_count),
        ),
        (
            "coring_receive_buffers_available",
            "Receive buffers that are free.",
            gauge(available),
        ),
        (
            "coring_receive_buffers_exhausted_total",
            "Times that no receive buffer was free.",
            Counter(buffers.map_or(0, |buffers| buffers.exhausted)),
        ),
        (
            "coring_inbox_depth",
            "Closures of other cores that wait to be started.",
            gauge(stats.inbox_depth),
        ),
        (
            "coring_inbox_batch",
            "Closures of other cores found at once.",
            sizes(stats.inbox_batch),
        ),
        (
            "coring_doorbells_heard_total",
            "Times that another core or thread woke this one.",
            Counter(ring.wakes),
        ),
        (
            "coring_sleeps_total",
            "Times that the core went to sleep in the kernel.",
            Counter(stats.sleeps),
        ),
        (
            "coring_looks_total",
            "Times that the idle core found work by looking at memory.",
            Counter(stats.looks),
        ),
        (
            "coring_stalls_total",
            "Times that the core did not turn for too long.",
            Counter(stats.stalls),
        ),
        (
            "coring_stall_longest_seconds",
            "The longest of them.",
            Gauge(stats.longest_stall.as_secs_f64()),
        ),
        (
            "coring_log_dropped_total",
            "Log lines that the core's log ring had no room for.",
            Counter(stats.log_dropped),
        ),
    ];
    let figure = |(name, help, value)| Figure { name, help, value };
    table.into_iter().map(figure).collect()
}

/// The figures of all these cores, each with a label `core`, in the text format that Prometheus scrapes.
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let text = coring::metrics::prometheus(&coring::Runtime::stats().unwrap());
///     assert!(text.contains("\n# TYPE coring_turns_total counter\ncoring_turns_total{core=\"0\"} "));
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
///
/// # Source
///
/// The exposition formats of Prometheus, version 0.0.4.
#[must_use]
pub fn prometheus(stats: &[CoreStats]) -> String {
    let cores: Vec<_> = stats
        .iter()
        .map(|core| (core.core, figures(core)))
        .collect();
    let count = cores.first().map_or(0, |(_, figures)| figures.len());
    let mut text = String::new();
    // All lines of a figure stand together.
    for index in 0..count {
        let first = cores[0].1[index];
        let kind = match first.value {
            Value::Counter(_) => "counter",
            Value::Gauge(_) => "gauge",
            Value::Histogram { .. } => "histogram",
        };
        let (name, help) = (first.name, first.help);
        line(&mut text, format_args!("# HELP {name} {help}"));
        line(&mut text, format_args!("# TYPE {name} {kind}"));
        for (core, figures) in &cores {
            sample(&mut text, *core, &figures[index]);
        }
    }
    text
}

fn sample(text: &mut String, core: usize, figure: &Figure) {
    let name = figure.name;
    match figure.value {
        Value::Counter(value) => line(text, format_args!("{name}{{core=\"{core}\"}} {value}")),
        Value::Gauge(value) => line(text, format_args!("{name}{{core=\"{core}\"}} {value}")),
        Value::Histogram { histogram, unit } => {
            let mut below = 0;
            for (largest, count) in histogram.buckets() {
                below += count;
                if largest == u64::MAX {
                    line(
                        text,
                        format_args!("{name}_bucket{{core=\"{core}\",le=\"+Inf\"}} {below}"),
                    );
                } else {
                    let bound = largest as f64 * unit;
                    line(
                        text,
                        format_args!("{name}_bucket{{core=\"{core}\",le=\"{bound}\"}} {below}"),
                    );
                }
            }
            let sum = histogram.sum() as f64 * unit;
            line(text, format_args!("{name}_sum{{core=\"{core}\"}} {sum}"));
            line(
                text,
                format_args!("{name}_count{{core=\"{core}\"}} {below}"),
            );
        }
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = writeln!(text, "{line}");
}

/// Gives the figures of all these cores to the recorder that the program has installed with the `metrics` crate, each with a
/// label `core`. Call it now and then.
///
/// The facade takes single values and no finished histograms: of those it gets the median and the 99th percentile, as gauges with a
/// label `quantile`.
#[cfg(feature = "metrics")]
pub fn record(stats: &[CoreStats]) {
    for core in stats {
        let label = core.core.to_string();
        for Figure { name, value, .. } in figures(core) {
            match value {
                Value::Counter(value) => {
                    metrics::counter!(name, "core" => label.clone()).absolute(value);
                }
                Value::Gauge(value) => metrics::gauge!(name, "core" => label.clone()).set(value),
                Value::Histogram { histogram, unit } => {
                    for (quantile, share) in [("0.5", 0.5), ("0.99", 0.99)] {
                        let bound = histogram.at_most(share).unwrap_or(0) as f64 * unit;
                        metrics::gauge!(name, "core" => label.clone(), "quantile" => quantile)
                            .set(bound);
                    }
                }
            }
        }
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::{Value, figures, record};
    use metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };
    use std::collections::HashSet;
    use std::sync::{Arc, Mutex};

    /// Keeps the names it was asked for.
    #[derive(Default)]
    struct Names(Mutex<HashSet<String>>);

    impl Names {
        fn note(&self, key: &Key) {
            let labels = key
                .labels()
                .map(|label| format!(" {}={}", label.key(), label.value()));
            let name = key.name().to_owned() + &labels.collect::<String>();
            self.0.lock().unwrap().insert(name);
        }
    }

    impl Recorder for Names {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            self.note(key);
            Counter::noop()
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            self.note(key);
            Gauge::noop()
        }
        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            self.note(key);
            Histogram::noop()
        }
    }

    /// Every figure of every core gets to the recorder under its name and labels.
    #[test]
    fn the_recorder_is_given_all() {
        let names = Arc::new(Names::default());
        let runtime = crate::Runtime::builder()
            .cores(2)
            .pin(false)
            .build()
            .unwrap();
        let stats = runtime.run(|| crate::Runtime::stats().unwrap());
        metrics::with_local_recorder(&*names, || record(&stats));
        let names = names.0.lock().unwrap();
        for figure in figures(&stats[1]) {
            let tail = match figure.value {
                Value::Histogram { .. } => " core=1 quantile=0.99",
                _ => " core=1",
            };
            let name = figure.name.to_owned() + tail;
            assert!(names.contains(&name), "{name}");
        }
    }
}
