//! What a task costs that waits: time and memory to have it, time to wake and to join it.
//!
//! The process is new, so the memory comes from the kernel. All tasks wait at the same time, all have said so;
//! all are woken, and each counts when it goes on.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::subject::Skip;
use crate::work::report;

/// Time and memory from the first task to the last join.
#[derive(Debug)]
pub(crate) struct Census {
    tasks: usize,
    before: Memory,
    begin: Instant,
    parked: Option<(f64, Memory)>,
}

impl Census {
    /// Starts the clock: the next thing to happen is the first spawn.
    pub(crate) fn start(tasks: usize) -> io::Result<Census> {
        Ok(Census {
            tasks,
            before: Memory::read()?,
            begin: Instant::now(),
            parked: None,
        })
    }

    /// All `waiting` wait; next they are woken.
    pub(crate) fn parked(&mut self, waiting: usize) -> io::Result<()> {
        let create = self.each();
        assert_eq!(waiting, self.tasks, "every task waits");
        self.parked = Some((create, Memory::read()?));
        self.begin = Instant::now();
        Ok(())
    }

    /// All have been joined; `resumed` of them went on after their wait.
    pub(crate) fn finish(self, resumed: usize) {
        let wake = self.each();
        assert_eq!(resumed, self.tasks, "every task went on");
        let (create, after) = self.parked.expect("tasks wait before they go on");
        let each = |after: f64, before: f64| (after - before) / self.tasks as f64;
        let resident = each(after.resident, self.before.resident);
        let tables = each(after.tables, self.before.tables);
        report(&[create, resident, tables, wake]);
    }

    fn each(&self) -> f64 {
        self.begin.elapsed().as_secs_f64() * 1e9 / self.tasks as f64
    }
}

/// Bytes of this process.
#[derive(Debug, Clone, Copy)]
struct Memory {
    resident: f64,
    tables: f64,
}

impl Memory {
    fn read() -> io::Result<Memory> {
        // The kernel counts pages for each CPU apart; only this file adds them up exactly.
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
        let status = std::fs::read_to_string("/proc/self/status")?;
        Ok(Memory {
            resident: kilobytes(&rollup, "Rss:")? * 1024.0,
            tables: kilobytes(&status, "VmPTE:")? * 1024.0,
        })
    }
}

fn kilobytes(text: &str, field: &str) -> io::Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("/proc/self lacks {field}")))
}

/// Where tasks that are futures wait.
#[derive(Debug)]
struct Lot {
    wakers: Mutex<Vec<Waker>>,
    resumed: AtomicUsize,
}

/// One task: waits once, counts, ends.
#[derive(Debug)]
pub(crate) struct Parked {
    lot: Arc<Lot>,
    waits: bool,
}

impl Future for Parked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.waits {
            self.lot.resumed.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(());
        }
        self.waits = true;
        let mut wakers = self
            .lot
            .wakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        wakers.push(context.waker().clone());
        Poll::Pending
    }
}

/// Measures tasks that are futures; `spawn` starts one, `turn` lets others run.
pub(crate) async fn park_async<H: Future>(
    tasks: usize,
    spawn: impl Fn(Parked) -> H,
    turn: impl AsyncFn(),
) -> Result<(), Skip> {
    // The list of who waits is the bench's, not the tasks': its memory is there before they are.
    let mut wakers = vec![Waker::noop().clone(); tasks];
    wakers.clear();
    let lot = Arc::new(Lot {
        wakers: Mutex::new(wakers),
        resumed: AtomicUsize::new(0),
    });
    let waiting = || {
        lot.wakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    };
    let mut census = Census::start(tasks)?;
    let mut handles = Vec::with_capacity(tasks);
    handles.extend((0..tasks).map(|_| {
        spawn(Parked {
            lot: Arc::clone(&lot),
            waits: false,
        })
    }));
    while waiting() < tasks {
        turn().await;
    }
    census.parked(waiting())?;
    let wakers = std::mem::take(&mut *lot.wakers.lock().unwrap_or_else(PoisonError::into_inner));
    wakers.into_iter().for_each(Waker::wake);
    for handle in handles {
        handle.await;
    }
    census.finish(lot.resumed.load(Ordering::Relaxed));
    Ok(())
}
