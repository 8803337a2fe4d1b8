//! Real programs on coring: see `README.md` in this folder for the list.
