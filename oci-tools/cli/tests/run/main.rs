//! `wasm-image run` as a person meets it: the binary is run with real guests, as root and as nobody.

mod ends;
mod harness;
mod hostile;
mod images;
mod limits;
#[allow(dead_code, reason = "of what the tests of registries need, these need a little")]
#[path = "../registry/harness.rs"]
mod registry;
mod rootless;
mod sees;
mod serving;
mod signals;
mod terminal;
mod warm;
