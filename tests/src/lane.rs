//! Lanes: the same behaviour on other ground. Kernel features off, all or one by one; tiny rings; one core or two.

use crate::{builder, heavy, note};
use coring::net::Filling;
use coring::uring::{Feature, Features, TABLE};
use coring::{Builder, Runtime};
use std::time::Duration;

const GROUNDS: &str = "tiny-rings, two-buffers, sq-poll, napi, bundles and incremental";
/// Short, so that the kernel's threads sleep and are woken all the time.
const SQ_IDLE: Duration = Duration::from_millis(1);
const NAPI: Duration = Duration::from_micros(20);

/// One way to set up a runtime.
#[derive(Clone, Debug)]
pub struct Lane {
    name: String,
    builder: Builder,
}

impl Lane {
    /// Cores as the lane has them.
    ///
    /// # Panics
    ///
    /// When the runtime does not start.
    #[must_use]
    pub fn runtime(&self) -> Runtime {
        let built = self.builder.clone().build();
        built.unwrap_or_else(|error| panic!("lane '{}' does not start: {error}", self.name))
    }

    /// What is special here.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What the environment asks of every runtime of a run: `CORING_TEST_GROUND`. Features have a variable of their own.
///
/// # Panics
///
/// For a word that it does not know.
pub(crate) fn chosen(builder: Builder) -> Builder {
    let words = std::env::var("CORING_TEST_GROUND").unwrap_or_default();
    let words = words.split(',').filter(|word| !word.is_empty());
    words.fold(builder, |builder, word| match word {
        "tiny-rings" => builder.sq_entries(8).cq_entries(16),
        "two-buffers" => builder.receive_pool(2, 4096),
        "sq-poll" => builder.sq_poll(SQ_IDLE),
        "napi" => builder.napi_busy_poll(NAPI, false),
        "bundles" => builder.stream_filling(Filling::Bundles),
        "incremental" => builder.stream_filling(Filling::Incremental),
        other => panic!("CORING_TEST_GROUND knows {GROUNDS}, not {other}"),
    })
}

/// Whether `CORING_FEATURES` leaves a feature on, for tests of what only it can do.
///
/// # Panics
///
/// When the variable names no features.
#[must_use]
pub fn is_allowed(feature: Feature) -> bool {
    let features =
        Features::from_env("CORING_FEATURES").expect("the runtime would not start either");
    features.has(feature)
}

/// Runs a behaviour in every lane. Its text is in the message of a failure.
///
/// Each single feature off is tried with one core only, unless the heavy lanes are on.
pub fn in_every_lane(behaviour: fn(&Lane)) {
    for cores in [1, 2] {
        let plain = || builder(cores);
        let tiny = || plain().sq_entries(8).cq_entries(16);
        let all_off = || plain().features(Features::NONE);
        let mut lanes = vec![
            ("everything on".to_owned(), plain()),
            ("all features off".to_owned(), all_off()),
            ("tiny rings".to_owned(), tiny()),
            (
                "tiny rings, all features off".to_owned(),
                all_off().sq_entries(8).cq_entries(16),
            ),
            ("never spins".to_owned(), plain().spin(Duration::ZERO)),
            ("inbox of one".to_owned(), plain().inbox_capacity(1)),
            ("two buffers".to_owned(), plain().receive_pool(2, 64)),
            (
                "a kernel thread submits".to_owned(),
                plain().sq_poll(SQ_IDLE),
            ),
            (
                "guards by mprotect".to_owned(),
                plain().guard_markers(false),
            ),
        ];
        // What a single feature changes between cores is only seen with two of them.
        if cores == 2 || heavy() {
            let used = TABLE.iter().filter(|row| !row.feature.is_opt_in());
            lanes.extend(used.map(|row| {
                let features = Features::ALL.without(row.feature);
                (format!("no {}", row.name), plain().features(features))
            }));
        }
        for (name, builder) in lanes {
            let name = format!("{name}, {cores} cores");
            note(format!("lane '{name}'"));
            println!("lane '{name}'");
            behaviour(&Lane { name, builder });
        }
    }
}
