//! What may go to another thread, and what stays on its core: said for every public type, checked by the compiler.
//!
//! Goal: a handle that names something of one core - a coroutine, an operation, a buffer of a ring - cannot leave it, and what
//! is made to cross cores can, as far as what it carries can.
//! Method: constants that only compile where a type is, or is not, `Send` and `Sync`.

use coring::coro::{self, channel, select, sync, wait};
use coring::fs::{AlignedBuf, File, FixedBuf, Mmap, ReadDir};
use coring::io::{PipeReader, PipeWriter, RecvBuffer, Stderr, Stdin, Stdout};
use coring::net::{
    AcceptStream, DatagramBatch, LentBuffer, ReceivedWithFds, TcpListener, TcpSocket, TcpStream,
    UdpSocket, UnixDatagram, UnixListener, UnixSocketAddr, UnixStream,
};
use coring::process::{Child, Command};
use coring::sync::{
    OneshotReceiver, OneshotSender, SharedBarrier, SharedEvent, SharedMutex, SharedMutexGuard,
    SharedPermit, SharedSemaphore, SharedWatch, WatchReceiver,
};
use coring::{RemoteError, RemoteHandle, Runtime, Sharded, ShutdownHandle};
use coring::{logger, mailbox, uring};
use std::cell::Cell;
use std::rc::Rc;

/// Sent between threads, and not shared.
type Single = Cell<u8>;
/// Neither.
type Local = Rc<u8>;

macro_rules! are {
    ($($limit:path),+: $($type:ty),+ $(,)?) => {
        const _: () = {
            const fn is<T: ?Sized $(+ $limit)+>() {}
            $(is::<$type>();)+
        };
    };
}

/// Ambiguous for a type that has the trait.
macro_rules! are_not {
    ($limit:path: $($type:ty),+ $(,)?) => {
        const _: () = {
            trait Unless<A> {
                const IS_NOT: () = ();
            }
            struct Is;
            impl<T: ?Sized> Unless<()> for T {}
            impl<T: ?Sized + $limit> Unless<Is> for T {}
            $(let () = <$type as Unless<_>>::IS_NOT;)+
        };
    };
}

macro_rules! stay_on_their_core {
    ($($type:ty),+ $(,)?) => {
        are_not!(Send: $($type),+);
        are_not!(Sync: $($type),+);
    };
}

are!(
    Send, Sync: TcpListener, TcpSocket, TcpStream, UdpSocket, UnixDatagram, UnixListener,
    UnixSocketAddr, UnixStream, DatagramBatch, ReceivedWithFds, File, Mmap, AlignedBuf, PipeReader,
    PipeWriter, Stdin, Stdout, Stderr, Command, Child, ShutdownHandle, Sharded<Local>,
    mailbox::Sender<Single>, mailbox::Receiver<Single>, mailbox::Mesh<Single>, mailbox::Node<Single>,
    mailbox::Topic<Single>, mailbox::Subscription<Single>, RemoteHandle<Single>,
    OneshotSender<Single>, OneshotReceiver<Single>, SharedBarrier, SharedEvent, SharedMutex<Single>,
    SharedSemaphore, SharedWatch<Single>, WatchReceiver<Single>, coro::LocalKey<Local>,
    uring::Doorbell,
);
are!(Send: ReadDir, RemoteError, coro::JoinError, SharedPermit<'static>);

stay_on_their_core!(
    Runtime,
    // Coroutines.
    coro::Scheduler,
    coro::JoinHandle<()>,
    coro::ScopedJoinHandle<'static, ()>,
    coro::Scope<'static, 'static>,
    coro::Coroutine,
    coro::Group,
    coro::Builder,
    coro::Schedule,
    wait::Token,
    wait::Alarm<'static>,
    dyn select::Branch,
    // What coroutines of one core share.
    sync::Mutex<u8>,
    sync::MutexGuard<'static, u8>,
    sync::RwLock<u8>,
    sync::RwLockReadGuard<'static, u8>,
    sync::RwLockWriteGuard<'static, u8>,
    sync::Semaphore,
    sync::SemaphorePermit<'static>,
    sync::Condvar,
    sync::Event,
    sync::Notify,
    sync::Barrier,
    sync::WaitGroup,
    sync::Gate,
    sync::GateGuard<'static>,
    sync::Once,
    sync::OnceCell<u8>,
    channel::bounded::Sender<u8>,
    channel::bounded::Receiver<u8>,
    channel::oneshot::Sender<u8>,
    channel::oneshot::Receiver<u8>,
    channel::watch::Sender<u8>,
    channel::watch::Receiver<u8>,
    channel::broadcast::Sender<u8>,
    channel::broadcast::Receiver<u8>,
    // Operations and memory of one ring.
    AcceptStream<'static, TcpStream>,
    LentBuffer<Vec<u8>>,
    RecvBuffer,
    FixedBuf,
    uring::Ring,
    uring::KernelRing,
    uring::BufferRing,
    uring::PooledBuffer,
    uring::RegisteredBuffers,
    uring::FixedBuffer,
    uring::Carries,
    uring::Event,
    logger::CoreRing,
    logger::Entered<'static>,
    // A lock that is held is given back by who took it, and does not lend what only one thread may see.
    SharedMutexGuard<'static, u8>,
);

// What crosses is no freer than what it carries.
are_not!(
    Send: mailbox::Sender<Local>, mailbox::Receiver<Local>, mailbox::Mesh<Local>, mailbox::Topic<Local>,
    RemoteHandle<Local>, OneshotSender<Local>, OneshotReceiver<Local>, SharedMutex<Local>,
    SharedWatch<Local>, WatchReceiver<Local>
);
are_not!(
    Sync: mailbox::Sender<Local>, mailbox::Receiver<Local>, mailbox::Mesh<Local>, mailbox::Topic<Local>,
    RemoteHandle<Local>, SharedMutex<Local>, SharedWatch<Local>
);
