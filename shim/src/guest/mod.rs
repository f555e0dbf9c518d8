//! The wasm of a container in Wasmtime: loaded from its compiled code, linked to WASI, run, and its
//! end told as an exit code. The guest is hostile; what it may touch is what it is handed here.

mod exit;
mod load;
mod stdio;
mod wasi;

pub use load::{Error, Loaded};
pub use wasi::Grants;

use wasmtime::Result;

/// Runs a loaded guest to its end and gives its exit code (`docs/architecture.md`, Exit codes).
/// Words about a trap go to standard error, which is the container's.
pub fn run(loaded: Loaded, grants: Grants) -> i32 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return exit::failed(&format!("cannot start: {e}")),
    };
    runtime.block_on(async {
        let streams = match stdio::Streams::open() {
            Ok(streams) => streams,
            Err(e) => return exit::failed(&format!("cannot use the container's streams: {e}")),
        };
        let ended: Result<()> = loaded.call(grants.context(&streams)).await;
        streams.drain().await;
        exit::code(ended)
    })
}
