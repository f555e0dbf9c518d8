//! What a Wasm image is made of, for the shim and the tools alike: its media types, what a module
//! is, the one engine configuration everybody compiles and runs with, compilation itself, and the
//! node's cache of compiled code.
//!
//! It never talks to a network and never runs guest code.

pub mod cache;
pub mod compile;
pub mod digest;
pub mod engine;
pub mod known;
pub mod media;
pub mod module;
pub mod names;
