//! Behaviour of coring through its public API: one binary, a module per subject.
