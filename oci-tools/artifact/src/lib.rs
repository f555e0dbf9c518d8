//! What a Wasm image is made of, for the shim and the tools alike: its media types, what a module
//! is, the one engine configuration everybody compiles and runs with, compilation itself, and the
//! node's cache of compiled code.
//!
//! Without the feature `code`, on by default, it is what reads images and modules alone, and light.
//!
//! It never talks to a network and never runs guest code.

pub mod amount;
#[cfg(feature = "code")]
pub mod cache;
#[cfg(feature = "code")]
pub mod compile;
pub mod digest;
#[cfg(feature = "code")]
pub mod engine;
#[cfg(feature = "code")]
pub mod known;
pub mod media;
pub mod module;
pub mod names;
