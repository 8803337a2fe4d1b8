//! Behaviour of coring through its public API: one binary, a module per subject.
//!
//! ```text
//!   echo, tcp, file, time    what the calls do         cancel, races, panics    what they do when they are disturbed
//!   remote, lifecycle        cores together            scale, limits            how much of it
//!   every_call               each call, ended early
//!   lanes                    all of it on other ground process, clients, programs, watch  seen from outside
//! ```

mod abort;
mod accept_stream;
mod attacked;
mod batches;
mod blocking;
mod cached;
mod call;
mod cancel;
mod clients;
mod closes;
mod cold;
mod connect;
mod crowd;
mod datagrams;
mod destructors;
mod doorbell;
mod echo;
mod ends;
mod every_call;
mod file;
mod file_trouble;
mod fixed;
mod forked;
mod groups;
mod handover;
mod lanes;
mod lifecycle;
mod limits;
mod locks;
mod logging;
mod mailbox;
mod metrics;
mod mixes;
mod orphans;
mod overlay;
mod panics;
mod parts;
mod pipes;
mod position;
mod process;
mod programs;
mod races;
mod recv_stream;
mod remote;
mod resets;
mod scale;
mod sharded;
mod sharded_kv;
mod shared;
mod shutdown;
mod stop;
mod tcp;
mod threads;
mod time;
mod udp_batch;
mod watch;

mod net_races;
mod std_fs;
mod std_process;
mod std_tcp;
mod std_udp;
mod std_unix;
mod zero_copy;
