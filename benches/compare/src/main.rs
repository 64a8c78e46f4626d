//! Whole-pair comparison.
fn main() {}
