//! The harness of the integration suite: it starts real daemons on throwaway test hosts ("beds"),
//! makes images for them with the real `wasm-image`, and looks at what they leave behind.
//!
//! Nothing here stands in for a daemon, with one exception: [`mock`] speaks containerd's side of the
//! shim protocol, for the dialects that no packaged daemon speaks yet and for the moments between
//! two requests that a real one does not let a test see.

pub mod bed;
pub mod bundle;
pub mod command;
pub mod core;
pub mod ctr;
pub mod docker;
pub mod forms;
pub mod images;
pub mod leaks;
pub mod mock;
pub mod names;
pub mod options;
pub mod paths;
pub mod wait;

/// The runtime under test, as daemons name it.
pub const RUNTIME: &str = "io.containerd.wasmtime.v1";

/// The platform of every Wasm image.
pub const PLATFORM: &str = "wasi/wasm";
