//! Text to values, without I/O: one file a format.
