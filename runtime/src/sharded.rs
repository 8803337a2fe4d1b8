//! [`Sharded`]: one value for each core, made there, used there, dropped there.
//!
//! ```text
//!   Sharded<T> (a number, Send)      core 0: T    core 1: T    core 2: T     each T stays on its core
//!      .on(2, |t| ..) ------------------------------------------> runs there
//!      .local() ---> the T of this core
//! ```
//!
//! The values need be neither `Send` nor `Sync`: they are in a table of their core's engine, and only the number by which
//! they are found travels. A value lives until [`Sharded::stop`], or until its core has no coroutine left at the end of
//! the runtime; coroutines that use it hold a count.

use crate::mailbox::{Cluster, RemoteError, call, call_all};
use crate::per_core::{self, Engine};
use coring_coro::shield;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One `T` on each core of a runtime. A copyable number, in effect: send it where you like.
///
/// # Examples
///
/// ```
/// use coring::Sharded;
/// use std::cell::Cell;
///
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let counters = Sharded::new(|_core| Cell::new(0)).unwrap();
///     for core in [0, 1, 1] {
///         counters.on(core, |count| count.set(count.get() + 1)).unwrap();
///     }
///     assert_eq!(counters.map_reduce(|count| count.get(), 0, |sum, n| sum + n).unwrap(), 3);
///     assert_eq!(counters.local().get(), 1);
///     counters.stop().unwrap();
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
pub struct Sharded<T> {
    cluster: Arc<Cluster>,
    number: u64,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Sharded<T> {
    fn clone(&self) -> Self {
        let cluster = Arc::clone(&self.cluster);
        Self { cluster, ..*self }
    }
}

impl<T> fmt::Debug for Sharded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharded")
            .field("number", &self.number)
            .finish()
    }
}

impl<T: 'static> Sharded<T> {
    /// Makes a value on every core, with the core's number.
    ///
    /// # Parks
    ///
    /// Until all are made.
    ///
    /// # Errors
    ///
    /// [`RemoteError`]; those that were made are dropped again, where their core can still be asked to.
    ///
    /// # Panics
    ///
    /// With the panic of `make`; outside a runtime.
    #[track_caller]
    pub fn new<F>(make: F) -> Result<Self, RemoteError>
    where
        F: Fn(usize) -> T + Send + Sync + 'static,
    {
        let cluster = Arc::clone(per_core::require_current("Sharded::new").cluster());
        let this = Self {
            number: cluster.next_shard(),
            cluster,
            of: PhantomData,
        };
        let number = this.number;
        let given_up = Arc::new(AtomicBool::new(false));
        let is_given_up = Arc::clone(&given_up);
        let make_all = || {
            call_all(move |core| {
                let value: Rc<T> = Rc::new(make(core));
                // Who comes after the call of `stop` on this core has seen what was stored before it.
                if !is_given_up.load(Ordering::Relaxed) {
                    per_core::require_current("Sharded::new").put_shard(number, value);
                }
            })
        };
        let made = catch_unwind(AssertUnwindSafe(make_all));
        if let Ok(Ok(_)) = made {
            return Ok(this);
        }
        given_up.store(true, Ordering::Relaxed);
        let _ = this.stop();
        match made {
            Ok(outcome) => outcome.map(|_| this),
            Err(payload) => resume_unwind(payload),
        }
    }

    /// The value of this core.
    ///
    /// # Panics
    ///
    /// When the caller is on no core of the runtime, or the values were stopped.
    #[must_use]
    #[track_caller]
    pub fn local(&self) -> Rc<T> {
        let engine = per_core::require_current("Sharded::local");
        self.require(engine);
        let value = engine.shard(self.number);
        let value = value
            .expect("the shards were stopped, or their core is not through with making its own");
        value.downcast().expect("a number belongs to one type")
    }

    /// A number means something in its own runtime only.
    #[track_caller]
    fn require(&self, engine: &Engine) {
        assert!(
            Arc::ptr_eq(engine.cluster(), &self.cluster),
            "these shards belong to another runtime"
        );
    }

    /// Runs a closure on a core with that core's value, and returns what it returns. On this core it is called at once.
    ///
    /// # Parks
    ///
    /// Unless it is this core.
    ///
    /// # Cancellation
    ///
    /// As [`call`](crate::call).
    ///
    /// # Errors
    ///
    /// [`RemoteError`].
    ///
    /// # Panics
    ///
    /// With the panic of the closure; as [`local`](Self::local), there.
    #[track_caller]
    pub fn on<F, R>(&self, core: usize, f: F) -> Result<R, RemoteError>
    where
        F: FnOnce(&T) -> R + Send + 'static,
        R: Send + 'static,
    {
        if per_core::current().is_some_and(|engine| engine.index() == core) {
            return Ok(f(&self.local()));
        }
        let this = self.clone();
        call(core, move || f(&this.local()))
    }

    /// Runs `map` with every core's value at once and folds what they return, in the order of the cores.
    ///
    /// # Errors
    ///
    /// As [`on`](Self::on).
    ///
    /// # Panics
    ///
    /// As [`on`](Self::on).
    #[track_caller]
    pub fn map_reduce<M, R, A>(
        &self,
        map: M,
        first: A,
        reduce: impl FnMut(A, R) -> A,
    ) -> Result<A, RemoteError>
    where
        M: Fn(&T) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        let this = self.clone();
        let values = call_all(move |_| map(&this.local()))?;
        Ok(values.into_iter().fold(first, reduce))
    }

    /// Takes every core's value out of its table; each is dropped there when nobody there uses it any more.
    ///
    /// # Parks
    ///
    /// Until all are taken out.
    ///
    /// # Cancellation
    ///
    /// Not interrupted, also when the caller is cancelled already.
    ///
    /// # Errors
    ///
    /// As [`call_all`](crate::call_all).
    ///
    /// # Panics
    ///
    /// With the panic of a value's drop; outside the runtime that it belongs to.
    #[track_caller]
    pub fn stop(&self) -> Result<(), RemoteError> {
        self.require(per_core::require_current("Sharded::stop"));
        let number = self.number;
        let stop = || {
            call_all(move |_| {
                let value = per_core::require_current("Sharded::stop").take_shard(number);
                drop(value);
            })
        };
        let inside = coring_coro::try_current().is_some();
        let stopped = if inside { shield(stop) } else { stop() };
        stopped.map(drop)
    }
}
