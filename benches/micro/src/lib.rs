//! Micro-benchmarks of the hot path's functions live in `benches/`: `cargo bench -p micro [--bench NAME] [FILTER]`.
//!
//! They tell which function became faster or slower; whether that matters to users is what `benches/compare` tells.
