//! What else the kernel lets one wait for: child processes, pipes, foreign descriptors, signals, the standard streams. For
//! processes about a test for each case that std's own suite has.

mod children;
mod commands;
mod pipes;
mod signals;
mod standard;
