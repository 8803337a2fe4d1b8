//! The io_uring layer of coring: setup, probing, operations, completion slots, buffers, a simulated kernel
