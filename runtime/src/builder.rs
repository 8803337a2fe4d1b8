//! Every limit of a runtime, by name. Validated once, by [`Builder::build`].

use crate::blocking::PoolConfig;
use crate::per_core::affinity::allowed_cpus;
use crate::per_core::{CoreConfig, Filling, Spin};
use crate::runtime::{Plan, Runtime, StartError};
use coring_coro::{SchedulerConfig, StackConfig};
use coring_uring::{Features, NapiPoll, SetupOptions, SqPoll};
use std::time::Duration;

/// The environment variable that switches kernel features off, whatever the builder says.
const FEATURES_VARIABLE: &str = "CORING_FEATURES";
/// More cores than any machine we know; a typing error, not a wish.
const MOST_CORES: usize = 4096;
/// Messages or operations of one core: what is reserved for them at the start still fits into memory.
const MOST_ENTRIES: usize = 1 << 24;
/// Coroutines of one core: with stacks of 256 KiB that is the address space.
const MOST_COROUTINES: usize = 1 << 28;
/// How long a kernel thread that takes submissions looks for one, unless somebody says otherwise.
const DEFAULT_SQ_IDLE: Duration = Duration::from_millis(10);
const MOST_STACK_BYTES: usize = 1 << 30;
/// A lock that nobody will release can wait: long enough that a busy machine is not taken for it.
const STALL_IN_DEBUG: Duration = Duration::from_secs(5);

/// How a runtime is made. Every number has a unit and a default; nothing grows without a bound named here.
///
/// | limit | default | at the limit |
/// |---|---|---|
/// | [`cores`](Self::cores) | the CPUs this process may use | |
/// | [`max_coroutines`](Self::max_coroutines) a core | 1,048,576 | `try_spawn` returns an error, `spawn` panics |
/// | [`stack_bytes`](Self::stack_bytes) a coroutine | 256 KiB | the overflow report, then abort |
/// | [`max_operations`](Self::max_operations) a core | 1,048,576 | the call returns an error of kind `QuotaExceeded` |
/// | [`inbox_capacity`](Self::inbox_capacity) a pair of cores | 256 | `spawn_on` waits, `try_spawn_on` gives the closure back |
/// | [`sq_entries`](Self::sq_entries) a core | 1,024 | the batch is submitted early |
/// | [`cq_entries`](Self::cq_entries) a core | 4,096 | completions wait in the kernel |
/// | [`multishot_window`](Self::multishot_window) a listener | 1,024 | connections wait in the kernel |
/// | [`receive_pool`](Self::receive_pool) a core | 1,024 of 4 KiB, memory as needed | a receive takes memory from the heap |
/// | [`fixed_buffers`](Self::fixed_buffers) a core | 32 of 64 KiB | `FixedBuf::take` returns an error of kind `QuotaExceeded` |
/// | [`io_workers`](Self::io_workers) a core | 4 and 16 | operations queue in the kernel |
/// | [`blocking_threads`](Self::blocking_threads) | 64 | calls queue |
/// | [`blocking_queue`](Self::blocking_queue) | 1,024 | `blocking` waits, `try_spawn_blocking` gives the closure back |
/// | [`blocking_keep_alive`](Self::blocking_keep_alive) | 10 s | an idle thread ends |
/// | [`shutdown_grace`](Self::shutdown_grace) | 10 s | who is left is named and abandoned |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let runtime = coring::Runtime::builder()
///     .cores(2)
///     .stack_bytes(128 * 1024)
///     .spin(Duration::ZERO)
///     .build()?;
/// assert_eq!(runtime.run(|| 42), 42);
/// # Ok::<(), coring::StartError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    cores: Option<usize>,
    pin: bool,
    spin: Option<Duration>,
    inbox_capacity: usize,
    io_workers: (u32, u32),
    receive_pool: (u16, usize),
    stream_filling: Filling,
    fixed_buffers: (u16, usize),
    shutdown_grace: Duration,
    stall_limit: Option<Duration>,
    blocking: (usize, usize, Duration),
    time_slice: Duration,
    stack: StackConfig,
    ring: SetupOptions,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            cores: None,
            pin: true,
            spin: None,
            inbox_capacity: 256,
            io_workers: (4, 16),
            receive_pool: (1024, 4096),
            stream_filling: Filling::Whole,
            fixed_buffers: (32, 64 * 1024),
            shutdown_grace: Duration::from_secs(10),
            stall_limit: cfg!(debug_assertions).then_some(STALL_IN_DEBUG),
            blocking: (64, 1024, Duration::from_secs(10)),
            time_slice: Duration::from_micros(200),
            stack: StackConfig::default(),
            ring: SetupOptions::default(),
        }
    }

    /// How many cores: threads with a scheduler and a ring each. Core 0 is the thread that calls `run`.
    ///
    /// Default: one for each CPU this process may use. More than that works, without pinning and spinning.
    pub fn cores(mut self, cores: usize) -> Self {
        self.cores = Some(cores);
        self
    }

    /// Whether each core's thread is kept on a CPU of its own (default), where there are enough of them.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// For how long an idle core looks at memory before it sleeps. Zero where there are more cores than CPUs.
    ///
    /// The default is 6 us, about what a sleep costs, and only where more gets done that way: where the other side waits
    /// for an answer before it goes on. A length given here is looked for wherever four looks in five find work: 50 us
    /// answers at 80,000 requests/s in 7 us instead of 20, for nearly twice the CPU. Zero never looks.
    pub fn spin(mut self, longest: Duration) -> Self {
        self.spin = Some(longest);
        self
    }

    /// Closures on their way from one core to one other. Default 256. The memory, 16 bytes each, is taken with the
    /// first one.
    pub fn inbox_capacity(mut self, messages: usize) -> Self {
        self.inbox_capacity = messages;
        self
    }

    /// Buffers that pooled receives (`TcpStream::recv_buffer`, `recv_stream`) share on one core, and the bytes of each. Default
    /// 1,024 of 4 KiB. Made when the first such receive asks for them; their memory is taken as so many are in use at once,
    /// and given back when so many have not been for some seconds.
    pub fn receive_pool(mut self, buffers: u16, bytes: usize) -> Self {
        self.receive_pool = (buffers, bytes);
        self
    }

    /// How the buffers of [`RecvStream`](crate::net::RecvStream)s are filled. Default: each by one completion. [`Filling`] says
    /// what the other ways cost.
    pub fn stream_filling(mut self, filling: Filling) -> Self {
        self.stream_filling = filling;
        self
    }

    /// Has a kernel thread for each core take submissions (`SQPOLL`), so that a core that does not sleep makes no system call
    /// for them. The thread sleeps after `idle` without one, in whole milliseconds. Default: there is none.
    ///
    /// It costs a CPU a core while it is awake, and completions are no longer run in batches by the core itself
    /// (`DEFER_TASKRUN` is excluded): a lone NOP takes three times as long and 3 to 16 times the CPU. It may pay where cores are few, CPUs are many and submissions
    /// never stop. Where the kernel refuses, or the feature `sqpoll` is switched off, cores submit as without it.
    pub fn sq_poll(mut self, idle: Duration) -> Self {
        let cpu = self.ring.sq_poll.and_then(|poll| poll.cpu);
        self.ring.sq_poll = Some(SqPoll { idle, cpu });
        self
    }

    /// Keeps the threads of [`sq_poll`](Self::sq_poll) on one CPU; the cores should be on others. Default: anywhere. Without
    /// `sq_poll` it asks for that, too, with an idle time of 10 ms.
    pub fn sq_poll_cpu(mut self, cpu: u32) -> Self {
        let idle = self.ring.sq_poll.map_or(DEFAULT_SQ_IDLE, |poll| poll.idle);
        let cpu = Some(cpu);
        self.ring.sq_poll = Some(SqPoll { idle, cpu });
        self
    }

    /// Has a core that goes to sleep poll the network cards that its sockets receive from first (NAPI busy polling), for
    /// `longest` at most, in whole microseconds; with `prefer` the cards leave their interrupts off meanwhile. Default: it sleeps at once.
    ///
    /// It saves the interrupt and the wake-up where packets come at short intervals, and burns the core's CPU for `longest` at
    /// each sleep. Nothing happens for loopback and Unix sockets. Over a
    /// virtual Ethernet pair a UDP round trip took 21 us instead of 66, with 50 us.
    /// Without it in the kernel (Linux 6.9), or with the feature `napi-busy-poll` switched off, a core sleeps at once.
    pub fn napi_busy_poll(mut self, longest: Duration, prefer: bool) -> Self {
        self.ring.napi = Some(NapiPoll { longest, prefer });
        self
    }

    /// Registered buffers ([`FixedBuf`](crate::fs::FixedBuf)) of one core, and the bytes of each, rounded up to whole
    /// pages. Default 32 of 64 KiB. Made and pinned when the first one is asked for.
    pub fn fixed_buffers(mut self, buffers: u16, bytes: usize) -> Self {
        self.fixed_buffers = (buffers, bytes);
        self
    }

    /// Worker threads that the kernel may use for one core: for operations on files, and for those that may wait
    /// for ever. Default 4 and 16. Those of a pinned core run on all other CPUs of the process, so that they do not take the
    /// core's time; if there is no other, on its own.
    pub fn io_workers(mut self, files: u32, others: u32) -> Self {
        self.io_workers = (files, others);
        self
    }

    /// Threads of the offload pool, which all cores share. Default 64. None is started before it is needed.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.blocking.0 = threads;
        self
    }

    /// Blocking calls that wait for a thread of the offload pool. Default 1,024.
    pub fn blocking_queue(mut self, calls: usize) -> Self {
        self.blocking.1 = calls;
        self
    }

    /// How long a thread of the offload pool waits for something to do before it ends. Default 10 s.
    pub fn blocking_keep_alive(mut self, keep_alive: Duration) -> Self {
        self.blocking.2 = keep_alive;
        self
    }

    /// How long coroutines may take to end when the runtime stops. Default 10 s.
    ///
    /// They are cancelled at once; what still lives after this time is named on stderr and abandoned: its stack,
    /// its ring and its thread stay until the process ends. Less than a tenth of a second counts as that: time to unwind.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.shutdown_grace = grace;
        self
    }

    /// Watches for cores that do not turn for so long, because a coroutine computes or makes a call that blocks. Default: 5 s
    /// in debug builds, where it is to find a `std` lock that a coroutine holds while it waits (which stops the core for
    /// ever, in the next one that wants the lock); otherwise nobody does.
    ///
    /// Each such stall is counted in [`CoreStats::stalls`](crate::CoreStats::stalls). The first of a core, and then one in ten
    /// seconds at most, is reported on stderr: the name of the coroutine, where it was spawned, what it waits for where
    /// that is a call that blocks threads, and its backtrace, taken by a SIGURG to the core's thread. A thread looks at all cores four times in `limit`; a core pays a store a turn. A
    /// limit below 4 ms is watched a little late. `Duration::MAX` switches it off.
    pub fn stall_detector(mut self, limit: Duration) -> Self {
        self.stall_limit = (limit < Duration::MAX).then_some(limit);
        self
    }

    /// How long coroutines may run before the core looks at its ring and inbox. Default 200 us. A coroutine that
    /// does not wait is not interrupted.
    pub fn time_slice(mut self, slice: Duration) -> Self {
        self.time_slice = slice;
        self
    }

    /// Usable bytes of a coroutine's stack, unless its own builder says otherwise. Default 256 KiB; rounded up to an even
    /// number of pages. Only what is touched is committed; page tables are eight bytes for each page of a stack and its guard, 650
    /// bytes as it comes.
    pub fn stack_bytes(mut self, bytes: usize) -> Self {
        self.stack.stack_bytes = bytes;
        self
    }

    /// Bytes of the guard below each stack. Default, and least, 64 KiB: C code with a big frame must not jump it. Rounded up
    /// to an odd number of pages, so that the tops of stacks use all sets of the TLB.
    pub fn guard_bytes(mut self, bytes: usize) -> Self {
        self.stack.guard_bytes = bytes;
        self
    }

    /// Coroutines that may exist at once on one core. Default 1,048,576.
    pub fn max_coroutines(mut self, coroutines: usize) -> Self {
        self.stack.max_coroutines = coroutines;
        self
    }

    /// Free stacks of a core that keep their pages while it is idle. Default 128.
    pub fn warm_stacks(mut self, stacks: usize) -> Self {
        self.stack.warm_stacks = stacks;
        self
    }

    /// Whether guards may be page-table markers (`MADV_GUARD_INSTALL`, Linux 6.13). Default true; where they are not
    /// to be had, guards are made by mprotect(2), and vm.max_map_count bounds the stacks.
    pub fn guard_markers(mut self, markers: bool) -> Self {
        self.stack.guard_markers = markers;
        self
    }

    /// Entries of a core's submission queue, 64 bytes each. Default 1,024. What one turn asks for beyond them takes more system calls;
    /// an echo over thousands of connections is as fast with 256. Where the limit on locked memory (`ulimit -l`) does not allow
    /// the rings of all cores, both queues of all cores are smaller, down to a page each.
    pub fn sq_entries(mut self, entries: u32) -> Self {
        self.ring.sq_entries = entries;
        self
    }

    /// Entries of a core's completion queue, 16 bytes each. Default 4,096.
    pub fn cq_entries(mut self, entries: u32) -> Self {
        self.ring.cq_entries = entries;
        self
    }

    /// Operations of one core that may be in flight at once. Default 1,048,576.
    pub fn max_operations(mut self, operations: u32) -> Self {
        self.ring.max_operations = operations;
        self
    }

    /// Completions of one operation with many of them that wait to be taken: connections of a
    /// [`net::AcceptStream`](crate::net::AcceptStream). Default 1,024. At the limit the kernel is asked to stop; it goes on
    /// when all were taken, and what comes meanwhile waits in the socket.
    pub fn multishot_window(mut self, completions: u32) -> Self {
        self.ring.multishot_window = completions;
        self
    }

    /// Which kernel features may be used, where the kernel has them. Default all.
    ///
    /// The environment variable `CORING_FEATURES` takes more away: `CORING_FEATURES=no-msg-ring,no-defer-taskrun`.
    pub fn features(mut self, features: Features) -> Self {
        self.ring.features = features;
        self
    }

    /// Opens the rings and starts the other cores' threads.
    ///
    /// # Errors
    ///
    /// [`StartError`] names what is wrong and how to mend it: a limit that cannot be, io_uring refused by the
    /// system, a thread that could not be started. Nothing is left running.
    pub fn build(self) -> Result<Runtime, StartError> {
        Runtime::start(self.plan()?)
    }

    /// Checks every limit, and settles what depends on the machine.
    fn plan(self) -> Result<Plan, StartError> {
        let cpus = allowed_cpus();
        let cores = self.cores.unwrap_or(cpus.len().max(1));
        let invalid = |what, why| Err(StartError::Invalid { what, why });
        if !(1..=MOST_CORES).contains(&cores) {
            return invalid("cores", "at least 1 and at most 4096");
        }
        if !(1..=MOST_ENTRIES).contains(&self.inbox_capacity) {
            return invalid("inbox_capacity", "at least 1 and at most 16,777,216");
        }
        if self.blocking.0 == 0 || self.blocking.1 == 0 {
            return invalid("blocking_threads and blocking_queue", "at least 1 each");
        }
        if !(1..=MOST_COROUTINES).contains(&self.stack.max_coroutines) {
            return invalid(
                "max_coroutines",
                "at least 1 (the main closure is one) and at most 268,435,456",
            );
        }
        let (buffers, bytes) = self.receive_pool;
        if !buffers.is_power_of_two() || buffers > 1 << 15 || !(1..=1 << 24).contains(&bytes) {
            return invalid(
                "receive_pool",
                "a power of two up to 32,768, of 1 byte to 16 MiB each",
            );
        }
        let (buffers, bytes) = self.fixed_buffers;
        if !(1..=1 << 14).contains(&buffers) || !(1..=1 << 30).contains(&bytes) {
            return invalid("fixed_buffers", "1 to 16,384, of 1 byte to 1 GiB each");
        }
        if let Some(poll) = self.ring.sq_poll {
            if poll.idle.is_zero() {
                return invalid("sq_poll", "longer than nothing");
            }
            let is_ours = |cpu| cpus.contains(&(cpu as usize));
            if poll.cpu.is_some_and(|cpu| !is_ours(cpu)) {
                return invalid("sq_poll_cpu", "one of the CPUs that this process may use");
            }
        }
        if self.ring.napi.is_some_and(|napi| napi.longest.is_zero()) {
            return invalid("napi_busy_poll", "longer than nothing");
        }
        if self.stack.guard_bytes > MOST_STACK_BYTES {
            return invalid("guard_bytes", "at most 1 GiB");
        }
        if self.stall_limit.is_some_and(|limit| limit.is_zero()) {
            return invalid("stall_detector", "longer than nothing");
        }
        if self.time_slice.is_zero() {
            return invalid("time_slice", "longer than nothing");
        }
        if self.stack.stack_bytes < 16 * 1024 || self.stack.stack_bytes > MOST_STACK_BYTES {
            return invalid("stack_bytes", "between 16 KiB and 1 GiB");
        }
        let entries = [
            self.ring.sq_entries,
            self.ring.cq_entries,
            self.ring.max_operations,
        ];
        if entries
            .iter()
            .any(|&entries| !(1..=MOST_ENTRIES).contains(&(entries as usize)))
        {
            let limits = "at least 1 and at most 16,777,216 each";
            return invalid("sq_entries, cq_entries or max_operations", limits);
        }
        if !(2..=MOST_ENTRIES).contains(&(self.ring.multishot_window as usize)) {
            return invalid("multishot_window", "at least 2 and at most 16,777,216");
        }
        let from_environment =
            Features::from_env(FEATURES_VARIABLE).map_err(StartError::Features)?;
        let mut ring = self.ring;
        let taken_away = Features::ALL
            .iter()
            .filter(|feature| !from_environment.has(*feature));
        ring.features = taken_away.fold(ring.features, Features::without);
        // All as large as asked for, or all smaller.
        ring.may_shrink = false;
        ring.rings = u32::try_from(cores).unwrap_or(u32::MAX);
        let enough_cpus = cores <= cpus.len();
        let spin = match self.spin {
            _ if !enough_cpus => Spin::Bought(Duration::ZERO),
            Some(longest) => Spin::Bought(longest),
            None => Spin::Paying(Duration::from_micros(6)),
        };
        let pins = if self.pin && enough_cpus {
            cpus[..cores].to_vec()
        } else {
            Vec::new()
        };
        let (threads, queue, keep_alive) = self.blocking;
        let pool = PoolConfig {
            threads,
            queue,
            keep_alive,
            cpus: cpus.clone(),
        };
        let time_slice_ns = u64::try_from(self.time_slice.as_nanos()).unwrap_or(u64::MAX);
        let core = CoreConfig {
            scheduler: SchedulerConfig {
                stack: self.stack,
                time_slice_ns,
            },
            ring,
            spin,
            io_workers: self.io_workers,
            receive_pool: self.receive_pool,
            stream_filling: self.stream_filling,
            fixed_buffers: self.fixed_buffers,
            cpus,
        };
        let (inbox_capacity, grace) = (self.inbox_capacity, self.shutdown_grace);
        Ok(Plan {
            cores,
            pins,
            inbox_capacity,
            grace,
            stall_limit: self.stall_limit,
            pool,
            core,
        })
    }
}
