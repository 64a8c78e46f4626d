//! Picks an endpoint of a group.
