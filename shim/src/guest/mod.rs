//! The wasm of a container in Wasmtime: loaded from its compiled code, linked to WASI, run, and its
//! end told as an exit code. The guest is hostile; what it may touch is what it is handed here.

mod ceiling;
mod exit;
mod load;
mod stdio;
mod wasi;

pub use load::{Error, Linkers, Loaded};
pub use wasi::folders;

use crate::spec::Plan;
use tokio::runtime::{Builder, Runtime};
use wasmtime::Result;
use wasmtime_wasi::WasiCtxBuilder;

/// A guest with all that it is granted, which only waits to be run.
pub struct Guest {
    loaded: Loaded,
    context: WasiCtxBuilder,
    streams: stdio::Streams,
    runtime: Runtime,
}

impl Guest {
    /// Gives `loaded` what `plan` grants. To be called as the container's user within its root.
    ///
    /// # Errors
    /// When a folder or a stream cannot be opened.
    pub fn new(loaded: Loaded, plan: &Plan) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let streams = {
            let _inside = runtime.enter();
            stdio::Streams::open()?
        };
        let context = wasi::context(plan, &streams)?;
        Ok(Self { loaded, context, streams, runtime })
    }

    /// Runs it to its end and gives its exit code (`docs/architecture.md`, Exit codes). Words about
    /// a trap go to the container's standard error.
    pub fn run(self) -> i32 {
        let Self { loaded, context, streams, runtime } = self;
        runtime.block_on(async {
            let (code, words) = exit::tell(loaded.call(context).await);
            if let Some(words) = words {
                streams.error.say(words);
            }
            streams.drain().await;
            code
        })
    }
}
