//! The machine the numbers come from: which CPUs to use, what it is, and who else was using it.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crate::sys;

/// The CPUs of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpus {
    /// Where subjects run.
    pub(crate) subject: usize,
    /// Where the harness runs, with the load generator.
    pub(crate) harness: usize,
}

impl Cpus {
    /// The first two CPUs this process may use.
    pub(crate) fn choose() -> io::Result<Cpus> {
        match sys::allowed_cpus()?[..] {
            [subject, harness, ..] => Ok(Cpus { subject, harness }),
            _ => Err(io::Error::other(
                "a subject and its load need a CPU each, and this process may use only one: \
                 run it with two (see `taskset -pc`)",
            )),
        }
    }
}

/// The release of the running kernel.
pub(crate) fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("linux {}", release.trim())
}

/// The processor as it names itself.
pub(crate) fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    let name = model.and_then(|line| line.split_once(": "));
    name.map_or("unknown processor", |(_, name)| name)
        .to_owned()
}

/// The version of a package of this build, from the lock file it was built with.
pub(crate) fn locked_version(package: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let heading = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != heading);
    let version = lines
        .nth(1)
        .and_then(|line| line.strip_prefix("version = "));
    version.unwrap_or("unknown").trim_matches('"').to_owned()
}

/// Watches how much of the machine others use.
#[derive(Debug)]
pub(crate) struct Watch {
    begin: Instant,
    busy: Duration,
    own: Duration,
}

/// Above this many CPUs in use by others, results are marked: the load of one busy process is 1.
pub(crate) const NOISY_CPUS: f64 = 0.12;

impl Watch {
    /// Begins to watch.
    pub(crate) fn start() -> io::Result<Watch> {
        Ok(Watch {
            begin: Instant::now(),
            busy: busy_time()?,
            own: sys::own_cpu_time()?,
        })
    }

    /// How many CPUs others have used on average since the start; time stolen by the host included.
    pub(crate) fn others(&self) -> io::Result<f64> {
        let busy = busy_time()?.saturating_sub(self.busy);
        let own = sys::own_cpu_time()?.saturating_sub(self.own);
        let others = busy.saturating_sub(own).as_secs_f64();
        Ok(others / self.begin.elapsed().as_secs_f64())
    }

    /// Whether others have used more than [`NOISY_CPUS`], beyond what the kernel's ticks can resolve.
    pub(crate) fn disturbed(&self) -> io::Result<bool> {
        let tick = 1.0 / sys::ticks_per_second() as f64;
        let resolution = 2.0 * tick / self.begin.elapsed().as_secs_f64();
        Ok(self.others()? > NOISY_CPUS + resolution)
    }
}

/// CPU time of all CPUs in which they were not idle, from the first line of `/proc/stat`:
/// user, nice, system, idle, iowait, irq, softirq, steal.
fn busy_time() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(8).enumerate();
    let busy: u64 = ticks
        .filter(|(field, _)| ![3, 4].contains(field))
        .filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_secs(busy) / u32::try_from(sys::ticks_per_second()).unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use super::locked_version;

    #[test]
    fn versions_come_from_the_lock_file() {
        assert_eq!(locked_version("coring-bench"), env!("CARGO_PKG_VERSION"));
        assert_eq!(locked_version("no such package"), "unknown");
    }
}
