//! A thread-per-core io_uring runtime with stackful coroutines: blocking-looking code, no async
