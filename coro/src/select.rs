//! `select!`: waits for the first of several things that is ready.
//!
//! A branch is a call that may wait, such as `receiver.recv()`. Select does not make the calls: it waits until one of
//! them would not have to wait, and then makes that one. Nothing else runs on this core between the two, so
//! the call finds what select saw; and no branch has anything to undo, because none has begun.
//!
//! ```text
//!   1  look at every branch, starting with another one each time       ready -> done
//!   2  leave a watch (sync/queue.rs) with every branch                 on our stack
//!   3  park; whatever changes anywhere wakes us and unlinks its watch
//!   4  take back the other watches, and begin again
//! ```
//!
//! **Fairness.** Where several branches are ready, a counter of the core decides, which moves on with every
//! select: each of them gets its turn. Between a select and those who wait by the call itself, the latter go
//! first: they are in line, a select only looks.
#![expect(
    unsafe_code,
    reason = "the joiner of a join handle is a raw pointer to our own block"
)]

use crate::cancel;
use crate::channel::{bounded, broadcast, oneshot, watch};
use crate::instant::Instant;
use crate::join::JoinHandle;
use crate::scheduler::{TimerAction, require_current};
use crate::scope::ScopedJoinHandle;
use crate::suspend::sleep_until;
use crate::sync::queue::{Node, WaitQueue};
use crate::sync::{Event, Notify};
use crate::wait::{self, Token};
use std::time::Duration;

/// Waits for the first of several calls that would not wait, makes it, and evaluates its arm.
///
/// Each branch is `pattern = name.method(arguments) => expression`, where `name` is a local variable (or a
/// reference) of a type that is a [`Branch`](crate::select::Branch) and `method` is its waiting call: `recv` of a
/// channel's receiver, `changed` of a watch, `send` of a bounded sender, `join` of a handle, `wait` of an
/// [`Event`](crate::sync::Event) or a [`Timer`](crate::select::Timer), `notified` of a
/// [`Notify`](crate::sync::Notify). Where several are ready, each gets its turn. A last branch `default => expression` is
/// taken when no other is ready.
///
/// # Parks
///
/// Until a branch is ready; never with a `default`. With one that is ready nobody else runs: a loop that may find one each time calls
/// [`checkpoint`](crate::checkpoint()).
///
/// # Cancellation
///
/// A waiting coroutine is unwound; no branch has been used up.
///
/// # Panics
///
/// Outside a coroutine, and while unwinding, where it would have to wait. When another coroutine waits for a join
/// handle already.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # use std::time::Duration;
/// # coro::testing::run(|| {
/// let (sender, receiver) = coro::channel::bounded(1);
/// let timer = coro::select::after(Duration::from_secs(1));
/// drop(coro::spawn(move || sender.send("hello")));
/// let got = coro::select! {
///     message = receiver.recv() => message.ok(),
///     () = timer.wait() => None,
/// };
/// assert_eq!(got, Some("hello"));
///
/// let (sender, receiver) = coro::channel::bounded(1);
/// sender.send(1).unwrap();
/// let mut got = Vec::new();
/// loop {
///     coro::select! {
///         value = receiver.recv() => got.extend(value),
///         default => break,
///     }
/// }
/// assert_eq!(got, [1]);
/// # });
/// ```
#[macro_export]
macro_rules! select {
    (@arm $ready:ident, $index:expr,) => {
        unreachable!("select found a branch ready that it does not have")
    };
    (@arm $ready:ident, $index:expr,
        $pattern:pat = $branch:ident.$method:ident($($argument:expr),*) => $body:expr
        $(, $($rest:tt)*)?
    ) => {
        if $ready == $index {
            let $pattern = $branch.$method($($argument),*);
            $body
        } else {
            $crate::select!(@arm $ready, $index + 1usize, $($($rest)*)?)
        }
    };
    ($($pattern:pat = $branch:ident.$method:ident($($argument:expr),*) => $body:expr),+ $(,)?) => {{
        let ready = $crate::select::wait_any([$(&$branch as &dyn $crate::select::Branch),+]);
        $crate::select!(
            @arm ready, 0usize, $($pattern = $branch.$method($($argument),*) => $body),+
        )
    }};
    (@before [
        $({ $pattern:pat = $branch:ident.$method:ident($($argument:expr),*) => $body:expr })+
    ] default => $default:expr $(,)?) => {
        match $crate::select::poll_any([$(&$branch as &dyn $crate::select::Branch),+]) {
            Some(ready) => $crate::select!(
                @arm ready, 0usize, $($pattern = $branch.$method($($argument),*) => $body),+
            ),
            None => $default,
        }
    };
    (@before [$($before:tt)*]
        $pattern:pat = $branch:ident.$method:ident($($argument:expr),*) => $body:expr,
        $($rest:tt)+
    ) => {
        $crate::select!(
            @before [$($before)* { $pattern = $branch.$method($($argument),*) => $body }] $($rest)+
        )
    };
    (@$($other:tt)*) => {
        compile_error!(
            "select! takes branches `pattern = name.method(arguments) => expression`, and perhaps \
             `default => expression` as the last"
        )
    };
    ($($branches:tt)*) => {
        $crate::select!(@before [] $($branches)*)
    };
}

/// Something [`select!`](crate::select!) can wait for. Only types of this crate are.
pub trait Branch: sealed::Registration {
    /// Whether its waiting call would return at once.
    fn is_ready(&self) -> bool;
}

mod sealed {
    use super::Node;

    /// How to be woken when the branch may have become ready.
    pub trait Registration {
        fn register(&self, node: &Node);
        fn unregister(&self, node: &Node);
    }
}

use sealed::Registration;

/// Waits until a branch is ready and returns its index. What [`select!`](crate::select!) is made of.
///
/// # Panics
///
/// Outside a coroutine, and while unwinding, where it would have to wait. When another coroutine waits for a join
/// handle already.
#[must_use]
pub fn wait_any<const N: usize>(branches: [&dyn Branch; N]) -> usize {
    let block = require_current("coro::select!");
    loop {
        if let Some(index) = poll_any(branches) {
            return index;
        }
        assert!(
            !std::thread::panicking(),
            "select! would have to wait while a panic unwinds, which a coroutine cannot"
        );
        if cancel::is_interrupted(block) {
            // Returns only where there is no unwinding; then the wait goes on.
            cancel::unwind(block);
        }
        let nodes: [Node; N] = std::array::from_fn(|_| Node::watch(Token::of(block)));
        let mut registered = Registered(0, &branches, &nodes);
        for (branch, node) in branches.iter().zip(&nodes) {
            branch.register(node);
            registered.0 += 1;
        }
        wait::park_block(block, "select");
    }
}

/// The first branches have a watch. Dropping it takes them back: at the end of a wait, and when registering panics.
struct Registered<'a>(usize, &'a [&'a dyn Branch], &'a [Node]);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        for (branch, node) in self.1.iter().zip(self.2).take(self.0) {
            branch.unregister(node);
        }
    }
}

/// The index of a branch that is ready now. Where several are, each gets its turn.
///
/// # Panics
///
/// Outside a coroutine.
#[must_use]
pub fn poll_any<const N: usize>(branches: [&dyn Branch; N]) -> Option<usize> {
    let block = require_current("coro::select!");
    let turn = &wait::scheduler_of(block).select_turn;
    let first = turn.get();
    turn.set(first.wrapping_add(1));
    (0..N)
        .map(|offset| first.wrapping_add(offset) % N)
        .find(|&index| branches[index].is_ready())
}

/// A point in time as a branch of [`select!`](crate::select!). Made by [`after`] and [`at`].
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    at: Instant,
}

/// A timer for `duration` from now.
///
/// # Panics
///
/// Outside a turn of a scheduler.
#[must_use]
pub fn after(duration: Duration) -> Timer {
    at(Instant::now() + duration)
}

/// A timer for a point in time.
#[must_use]
pub fn at(at: Instant) -> Timer {
    Timer { at }
}

impl Timer {
    /// Waits until the time has come; does nothing when it has.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine is unwound.
    ///
    /// # Panics
    ///
    /// Outside a coroutine.
    pub fn wait(&self) {
        if !self.is_ready() {
            sleep_until(self.at);
        }
    }
}

impl Branch for Timer {
    fn is_ready(&self) -> bool {
        self.at <= Instant::now()
    }
}

impl Registration for Timer {
    fn register(&self, node: &Node) {
        let block = require_current("coro::select!");
        let wake = TimerAction::Wake(node.token().control());
        let key = wait::scheduler_of(block).add_timer(self.at.as_ns(), wake);
        node.timer.set(Some(key));
    }

    fn unregister(&self, node: &Node) {
        let block = require_current("coro::select!");
        if let Some(key) = node.timer.take() {
            wait::scheduler_of(block).timers.borrow_mut().discard(key);
        }
    }
}

impl<T> Branch for JoinHandle<T> {
    fn is_ready(&self) -> bool {
        self.is_finished()
    }
}

impl<T> Registration for JoinHandle<T> {
    fn register(&self, node: &Node) {
        // SAFETY: the handle exists, so the block has not been released.
        let block = unsafe { self.control().as_ref() };
        let me = node.token().control();
        assert!(
            block.joiner().is_none_or(|joiner| joiner == me),
            "two coroutines wait for the same join handle"
        );
        block.set_joiner(Some(me));
    }

    fn unregister(&self, _node: &Node) {
        // SAFETY: the handle exists, so the block has not been released.
        unsafe { self.control().as_ref() }.set_joiner(None);
    }
}

impl<T> Branch for ScopedJoinHandle<'_, T> {
    fn is_ready(&self) -> bool {
        self.is_finished()
    }
}

impl<T> Registration for ScopedJoinHandle<'_, T> {
    fn register(&self, node: &Node) {
        self.inner().register(node);
    }

    fn unregister(&self, node: &Node) {
        self.inner().unregister(node);
    }
}

/// References of one kind or the other stand for what they point to.
macro_rules! pointing {
    ($($pointer:ty),*) => {$(
        impl<B: Branch + ?Sized> Branch for $pointer {
            fn is_ready(&self) -> bool {
                (**self).is_ready()
            }
        }

        impl<B: Branch + ?Sized> Registration for $pointer {
            fn register(&self, node: &Node) {
                (**self).register(node);
            }

            fn unregister(&self, node: &Node) {
                (**self).unregister(node);
            }
        }
    )*};
}

pointing!(&B, std::rc::Rc<B>);

/// Types with a queue of those who wait for them.
macro_rules! queued {
    ($([$($generic:ident)?] $branch:ty, $ready:ident, $queue:expr;)*) => {$(
        impl$(<$generic>)? Branch for $branch {
            fn is_ready(&self) -> bool {
                <$branch>::$ready(self)
            }
        }

        impl$(<$generic>)? Registration for $branch {
            fn register(&self, node: &Node) {
                let queue: fn(&$branch) -> &WaitQueue = $queue;
                queue(self).link(node);
            }

            fn unregister(&self, node: &Node) {
                let queue: fn(&$branch) -> &WaitQueue = $queue;
                queue(self).unlink(node);
            }
        }
    )*};
}

queued! {
    [T] bounded::Sender<T>, is_ready, |sender| sender.queue();
    [T] bounded::Receiver<T>, is_ready, |receiver| receiver.queue();
    [T] oneshot::Receiver<T>, is_ready, |receiver| receiver.queue();
    [T] broadcast::Receiver<T>, is_ready, |receiver| receiver.queue();
    [T] watch::Receiver<T>, is_ready, |receiver| receiver.queue();
    [] Event, is_set, |event| &event.queue;
    [] Notify, is_notified, |notify| &notify.queue;
}
