//! Golden vectors (wire.md §10), rules of the JSON dialect, and properties of both framings.
