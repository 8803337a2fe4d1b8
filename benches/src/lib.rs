//! The benchmark harness of coring: peers and raw limits side by side
