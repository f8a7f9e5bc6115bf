//! Sessions against a gate that remembers what it was asked.
