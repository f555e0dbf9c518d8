//! The part of the promises that is proved with every daemon and every cgroup layout.

pub mod ctr;
pub mod docker;
pub mod images;
