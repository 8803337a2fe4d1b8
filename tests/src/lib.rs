//! Behaviour tests of coring through its public API
