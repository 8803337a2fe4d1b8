//! Suite `file`: reads, opens and writes on a real file system. The subject measures itself.
//!
//! - `read`: 4 KiB at random from a file of 256 MiB in the page cache, 1 / 32 / 128 under way.
//! - `read_direct`: the same with `O_DIRECT` from a file of 512 MiB, so that the device sets the pace.
//! - `open_read`: open, read and close 20,000 files of 4 KiB that the kernel knows, by 1 / 64 tasks.
//! - `write_sync`: 128 KiB blocks, 32 MiB of them, then an fsync; again and again over the same file.
//!
//! The files lie beside the binary and stay there for the next run.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::child::{Child, Failure};
use crate::files;
use crate::subject::Work;
use crate::suite::{Bench, Better, Metric, Sample, Suite, Timing};

/// The suite.
#[derive(Debug)]
pub(crate) struct Files;

const READS: &[Metric] = &[speed("reads", "1/s"), cpu("us/read")];
const FILES: &[Metric] = &[speed("files", "1/s"), cpu("us/file")];
const BLOCKS: &[Metric] = &[speed("written", "MB/s"), cpu("us/block")];

const fn speed(name: &'static str, unit: &'static str) -> Metric {
    Metric {
        name,
        unit,
        better: Better::Higher,
        headline: true,
    }
}

const fn cpu(unit: &'static str) -> Metric {
    Metric {
        name: "cpu",
        unit,
        better: Better::Lower,
        headline: true,
    }
}

impl Suite for Files {
    fn name(&self) -> &'static str {
        "file"
    }

    fn reference(&self) -> (&'static str, &'static str) {
        ("raw-uring", "raw-uring-again")
    }

    fn benches(&self) -> Vec<Bench> {
        let read = |name, depth, direct| {
            let work = Work::Read { depth, direct };
            bench(name, Some(depth), READS, work)
        };
        let cached = [1, 32, 128].map(|depth| read("read", depth, false));
        let direct = [1, 32, 128].map(|depth| read("read_direct", depth, true));
        let opens = [1, 64].map(|depth| {
            let work = Work::OpenRead { depth };
            bench("open_read", Some(depth), FILES, work)
        });
        let writes = [bench("write_sync", None, BLOCKS, Work::WriteSync)];
        let reads = cached.into_iter().chain(direct);
        reads.chain(opens).chain(writes).collect()
    }

    fn timing(&self) -> Timing {
        Timing {
            warm_up: Duration::from_millis(250),
            measure: Duration::from_millis(1000),
        }
    }

    fn overhead(&self) -> Duration {
        Duration::from_millis(150)
    }

    fn prepare(&self) -> io::Result<()> {
        files::prepare()
    }

    fn sample(&self, _: &Bench, child: &mut Child, _: Timing) -> Result<Sample, Failure> {
        let values = child.values()?;
        Ok(Sample {
            values,
            doubt: None,
        })
    }
}

fn bench(
    name: &'static str,
    depth: Option<usize>,
    metrics: &'static [Metric],
    work: Work,
) -> Bench {
    let params = depth.map(|depth| ("depth", depth as u64));
    Bench {
        name,
        params: BTreeMap::from_iter(params),
        metrics,
        work,
    }
}
