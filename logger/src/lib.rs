//! A per-core ring-buffer logger: nothing on the hot path
