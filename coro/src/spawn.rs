//! Making coroutines.
//!
//! A spawn takes a warm stack, writes the control block and the closure into its top page, and puts the
//! coroutine at the back of the ready queue: no heap, no system call. The closure and later its result share one
//! place, each aligned in its own way:
//!
//! ```text
//!   first frames ... | closure, outcome | control block
//!                      ^ read by the root at start, written by it at the end, read by join
//! ```
//!
//! What a coroutine can be and most are not (`Marks`) is looked at in one test at each step.
//!
//! Why `spawn` is a safe function: the closure is `'static`, so it borrows nothing that could go; it never changes
//! its thread, so it need not be `Send`; no handle can free or leak the stack under it; and a panic stops at the
//! root. The longer argument is in SOUNDNESS.md.
#![expect(
    unsafe_code,
    reason = "writes control block and closure into raw stack memory"
)]

use crate::cancel::Unwind;
use crate::coroutine::{ControlBlock, Made, Marks, State};
use crate::join::{JoinError, JoinHandle};
use crate::local;
use crate::prefetch;
use crate::scheduler::{Group, Scheduler, Shared, scheduler};
use crate::stack::config::LEAST_QUARTER;
use crate::stack::{Frames, Lease};
use crate::switch::{Switch, Yielder};
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::NonNull;

pub(crate) type Outcome<T> = Result<T, JoinError>;

/// Why a coroutine could not be made. Nothing was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// No scheduler runs on this thread.
    Outside,
    /// The bound on coroutines of this core is reached.
    TooManyCoroutines {
        /// The bound.
        limit: usize,
    },
    /// The kernel gave no memory for another stack.
    NoMemory {
        /// What the kernel said.
        source: io::Error,
        /// How many stacks this core has in use.
        stacks: usize,
        /// Whether each stack costs two mappings (guards by `mprotect`, before Linux 6.13).
        two_mappings_each: bool,
    },
    /// More stack was asked for than any coroutine may have.
    StackTooLarge {
        /// What was asked for.
        bytes: usize,
        /// The most there is.
        limit: usize,
    },
    /// The group given to the builder belongs to another scheduler.
    UnknownGroup,
    /// The scheduler has as many groups as it may have.
    TooManyGroups {
        /// The bound.
        limit: usize,
    },
    /// The closure and its result do not fit into a quarter of the stack.
    ClosureTooLarge {
        /// Bytes of the larger of closure and result.
        bytes: usize,
        /// Bytes of the stack.
        stack_bytes: usize,
    },
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str(
                "no coring runtime runs on this thread: spawn inside `Runtime::run(|| ..)`, or send the closure \
                 to a core with `spawn_on`",
            ),
            Self::TooManyCoroutines { limit } => write!(
                f,
                "this core has {limit} coroutines, its limit: shed load, or raise `max_coroutines` in the builder"
            ),
            Self::NoMemory { source, stacks, two_mappings_each } => {
                write!(f, "no memory for another coroutine stack beside {stacks} in use: {source}")?;
                if *two_mappings_each && source.raw_os_error() == Some(libc::ENOMEM) {
                    f.write_str(
                        "; this kernel (before 6.13) needs two mappings a stack, so raise the sysctl \
                         vm.max_map_count (65530 by default, enough for about 32,000 stacks)",
                    )?;
                }
                Ok(())
            }
            Self::StackTooLarge { bytes, limit } => {
                write!(f, "a stack of {bytes} bytes was asked for; the most is {limit}")
            }
            Self::UnknownGroup => f.write_str(
                "the scheduling group belongs to another core: make one on each core that is to use it",
            ),
            Self::TooManyGroups { limit } => {
                write!(f, "this core has {limit} scheduling groups, which is the most there can be")
            }
            Self::ClosureTooLarge { bytes, stack_bytes } => write!(
                f,
                "the closure or its result has {bytes} bytes, more than a quarter of the stack of {stack_bytes}: \
                 box what it captures or returns, or give it more `stack_bytes`"
            ),
        }
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoMemory { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Spawns a coroutine on this core. It runs when the caller waits or yields, not before.
///
/// The closure need not be `Send`: a coroutine stays on its core for life. Dropping the handle detaches the
/// coroutine, as with `std::thread`.
///
/// # Panics
///
/// Where [`try_spawn`] returns an error: outside a runtime, at the bound of coroutines, without memory.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let handle = coro::spawn(|| 6 * 7);
/// assert_eq!(handle.join().unwrap(), 42);
/// # });
/// ```
#[track_caller]
#[inline]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    match try_spawn(f) {
        Ok(handle) => handle,
        Err(error) => refuse(&error),
    }
}

#[cold]
#[track_caller]
fn refuse(error: &SpawnError) -> ! {
    panic!("cannot spawn a coroutine: {error}")
}

/// As [`spawn`], with an error instead of a panic.
///
/// # Errors
///
/// [`SpawnError`] says what is missing; the closure is dropped.
#[track_caller]
#[inline]
pub fn try_spawn<F, T>(f: F) -> Result<JoinHandle<T>, SpawnError>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let shared = scheduler().ok_or(SpawnError::Outside)?;
    // SAFETY: `F` and `T` are `'static`.
    unsafe { spawn_in(shared, Builder::new(), f, Location::caller()) }
}

/// A coroutine to be made: name and stack size.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let handle = coro::Builder::new().name("parser").stack_bytes(1 << 20).spawn(|| 1)?;
/// assert_eq!(handle.name(), Some("parser"));
/// # handle.join().unwrap();
/// # Ok::<_, coro::SpawnError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `spawn`"]
pub struct Builder {
    name: Option<Cow<'static, str>>,
    stack_bytes: Option<usize>,
    group: Option<Group>,
    site: Option<&'static Location<'static>>,
}

impl Builder {
    /// No name, the runtime's default stack size, the default group.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whose line dumps show as that of the spawn, for who spawns on behalf of another. Default: the caller's.
    pub fn spawn_site(mut self, site: &'static Location<'static>) -> Self {
        self.site = Some(site);
        self
    }

    /// The name in dumps, panic messages and overflow reports. A `&'static str` costs nothing.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Usable stack bytes, rounded up to a power of two (16 KiB to 1 GiB). Committed as they are touched.
    pub fn stack_bytes(mut self, bytes: usize) -> Self {
        self.stack_bytes = Some(bytes);
        self
    }

    /// The scheduling group it runs in, for life. Without it: the default group, whatever the spawner's.
    pub fn group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    /// Spawns on this core.
    ///
    /// # Errors
    ///
    /// As [`try_spawn`].
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let shared = scheduler().ok_or(SpawnError::Outside)?;
        // SAFETY: `F` and `T` are `'static`.
        unsafe { spawn_in(shared, self, f, Location::caller()) }
    }
}

impl Scheduler {
    /// Spawns from outside a turn: the first coroutine of a core, or a closure that came by mailbox.
    ///
    /// # Errors
    ///
    /// As [`try_spawn`], never [`SpawnError::Outside`].
    #[track_caller]
    pub fn spawn<F, T>(&self, builder: Builder, f: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        // SAFETY: `F` and `T` are `'static`.
        unsafe { spawn_in(self.shared_ptr(), builder, f, Location::caller()) }
    }

    /// As [`spawn`](Self::spawn), for a closure that borrows.
    ///
    /// # Safety
    ///
    /// What `F` and `T` borrow outlives the coroutine and its handle: the caller does not return, nor unwind,
    /// before the coroutine has ended and the handle is gone.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub unsafe fn spawn_borrowing<F, T>(
        &self,
        builder: Builder,
        f: F,
    ) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T,
    {
        // SAFETY: passed on to the caller.
        unsafe { spawn_in(self.shared_ptr(), builder, f, Location::caller()) }
    }
}

/// # Safety
///
/// What `F` and `T` borrow outlives the coroutine and the handle. `shared` is alive.
#[inline]
pub(crate) unsafe fn spawn_in<F, T>(
    shared: NonNull<Shared>,
    builder: Builder,
    f: F,
    site: &'static Location<'static>,
) -> Result<JoinHandle<T>, SpawnError>
where
    F: FnOnce() -> T,
{
    // SAFETY: the caller says that it is alive.
    let this = unsafe { shared.as_ref() };
    let site = builder.site.unwrap_or(site);
    let group = match builder.group {
        None => 0,
        Some(group) if group.scheduler == this.id => group.index,
        Some(_) => return Err(SpawnError::UnknownGroup),
    };
    let (lease, id) = this.lease(builder.stack_bytes)?;
    let control = lease.control;
    let bytes = size_of::<F>().max(size_of::<Outcome<T>>());
    if bytes > LEAST_QUARTER
        && let Some(error) = refuse_large(this, lease, bytes)
    {
        return Err(error);
    }
    let closure = below::<F>(control);
    // SAFETY: writable, aligned memory inside a stack that is ours alone.
    unsafe { closure.write(f) };
    let base = frames_below::<F, Outcome<T>>(control);
    let frames = Frames::new(base, || this.slab.slot(control, lease.class).limit);
    // SAFETY: the caller vouches for what the closure borrows; `start` captures only a pointer to the block.
    let switch = unsafe { Switch::with_stack_unchecked(frames, start::<F, T>(control)) };
    let queue = &this.groups.get(group).ready;
    let block = ControlBlock::new(Made {
        switch,
        scheduler: shared,
        queue: NonNull::from(queue),
        group,
        class: lease.class,
        sampled: lease.sampled,
        id,
        depth: prefetch::first_depth(control.addr().get() - base),
        name: builder.name,
        site,
    });
    // SAFETY: the slot's place for a control block: writable, aligned, unused while vacant.
    unsafe { control.write(block) };
    this.live.set(this.live.get() + 1);
    if group != 0 {
        queue.reserve(this.live.get());
    }
    queue.push(control);
    Ok(JoinHandle::new(control))
}

/// A closure or outcome of so many bytes, if it is too large for the stack: which is given back then.
#[cold]
fn refuse_large(shared: &Shared, lease: Lease, bytes: usize) -> Option<SpawnError> {
    let slot = shared.slab.slot(lease.control, lease.class);
    let stack_bytes = slot.top - slot.limit;
    (bytes > stack_bytes / 4).then(|| {
        shared.slab.release(lease.control, lease.class);
        SpawnError::ClosureTooLarge { bytes, stack_bytes }
    })
}

/// Where a coroutine's closure lies, or its outcome: right below the control block.
#[inline(always)]
pub(crate) fn below<P>(control: NonNull<ControlBlock>) -> NonNull<P> {
    let address = address_below(control, size_of::<P>(), align_of::<P>());
    let place = control.as_ptr().with_addr(address).cast();
    // SAFETY: a stack begins far above address zero, and the place is inside.
    unsafe { NonNull::new_unchecked(place) }
}

/// Where frames begin: below both.
#[inline(always)]
fn frames_below<F, O>(control: NonNull<ControlBlock>) -> usize {
    let align = align_of::<F>().max(align_of::<O>());
    let align = align.max(corosensei::stack::STACK_ALIGNMENT);
    address_below(control, size_of::<F>().max(size_of::<O>()), align)
}

/// A difference known to the compiler, unless what lies there is more aligned than a block is.
#[inline(always)]
fn address_below(control: NonNull<ControlBlock>, size: usize, align: usize) -> usize {
    if align <= align_of::<ControlBlock>() {
        control.addr().get() - size.next_multiple_of(align)
    } else {
        (control.addr().get() - size) & !(align - 1)
    }
}

/// The root of a coroutine: everything that runs on its stack runs inside this closure.
#[inline(always)]
fn start<F, T>(control: NonNull<ControlBlock>) -> impl FnOnce(&Yielder, ())
where
    F: FnOnce() -> T,
{
    move |yielder, ()| {
        // SAFETY: a running coroutine's block is initialised and mapped.
        let block = unsafe { control.as_ref() };
        block.state.set(State::Running);
        block.set_yielder(yielder);
        // SAFETY: it holds the closure until the coroutine starts, which is now; read by nobody else.
        let f = unsafe { below::<F>(control).read() };
        // A request that came before the first turn: the closure is dropped, not run.
        let run = AssertUnwindSafe(|| {
            if block.is(Marks::CANCELLED) {
                None
            } else {
                Some(f())
            }
        });
        // A panic and a cancellation end here.
        match catch_unwind(run) {
            Ok(Some(value)) if !block.is(Marks::AT_THE_END) => conclude(control, Ok(value)),
            Ok(Some(value)) => conclude_slowly(control, Ok(value)),
            Ok(None) => conclude_slowly::<T>(control, Err(JoinError::Cancelled)),
            Err(payload) => conclude_slowly::<T>(control, Err(failure(block, payload))),
        }
        // Before the last switch, as `switch_out` has it.
        block.state.set(State::Finished);
    }
}

/// Puts the outcome into its place, for the handle.
#[inline(always)]
fn conclude<T>(control: NonNull<ControlBlock>, outcome: Outcome<T>) {
    // SAFETY: the closure has been moved out: the place is free for the outcome. The handle reads it.
    unsafe { below::<Outcome<T>>(control).write(outcome) };
}

/// Puts the outcome where it belongs, for the handle or nowhere, after dropping the coroutine-locals. A destructor that panics
/// makes that the outcome.
#[cold]
#[inline(never)]
fn conclude_slowly<T>(control: NonNull<ControlBlock>, mut outcome: Outcome<T>) {
    // SAFETY: a running coroutine's block is initialised and mapped.
    let block = unsafe { control.as_ref() };
    while !block.locals.is_empty() {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| local::clear(block))) {
            let late = Err(failure(block, payload));
            discard(block, std::mem::replace(&mut outcome, late));
        }
    }
    if block.is(Marks::DETACHED) {
        discard(block, outcome);
    } else {
        conclude(control, outcome);
    }
}

/// What a payload that reached the root means.
#[cold]
fn failure(block: &ControlBlock, payload: Box<dyn Any + Send>) -> JoinError {
    if payload.is::<Unwind>() {
        return JoinError::Cancelled;
    }
    // SAFETY: a scheduler outlives its coroutines.
    let shared = unsafe { block.scheduler.as_ref() };
    shared.panicked.set(shared.panicked.get() + 1);
    if let Some(family) = block.scope() {
        // SAFETY: a scope does not end before its last child, which we are not beyond.
        unsafe { family.as_ref() }.failed();
    }
    JoinError::Panicked(payload.into())
}

/// Drops what nobody will join, and the coroutine-locals that its destructor made. A destructor that panics has been
/// reported by the panic hook; its payload may panic again when dropped, so it is not dropped.
#[inline(never)]
fn discard<T>(block: &ControlBlock, outcome: Outcome<T>) {
    if let Some(family) = block.scope() {
        // SAFETY: a scope does not end before its last child, which we are not beyond.
        unsafe { family.as_ref() }.discard(outcome);
    } else if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(outcome))) {
        let _ = ManuallyDrop::new(payload);
    }
    while !block.locals.is_empty() {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| local::clear(block))) {
            let _ = ManuallyDrop::new(payload);
        }
    }
}
