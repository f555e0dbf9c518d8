//! The wasm of a container in Wasmtime: loaded from its compiled code, linked to WASI, run, and its
//! end told as an exit code. The guest is hostile; what it may touch is what it is handed here.

mod ceiling;
mod exit;
mod host;
mod load;
mod serve;
mod stdio;
mod wasi;

pub use load::{Error, Linkers, Loaded};
pub use wasi::folders;

use crate::spec::Plan;
use load::{Call, Work};
use serve::Server;
use stdio::Streams;
use tokio::runtime::{Builder, Runtime};
use wasi::Grants;
use wasmtime::Result;
use wasmtime_wasi::WasiCtxBuilder;

/// A guest with all that it is granted, which only waits to be run.
pub struct Guest {
    ready: Ready,
    runtime: Runtime,
}

enum Ready {
    Call { call: Call, ceiling: Option<u64>, context: Box<WasiCtxBuilder>, streams: Streams },
    Serve(Server),
}

impl Guest {
    /// Gives `loaded` what `plan` grants. To be called as the container's user within its root.
    ///
    /// # Errors
    /// When a folder or a stream cannot be opened, or one that serves cannot listen.
    pub fn new(loaded: Loaded, plan: &Plan) -> Result<Self> {
        let Loaded { work, ceiling } = loaded;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(serve::THREADS)
            .build()?;
        let streams = {
            let _inside = runtime.enter();
            Streams::open()?
        };
        let grants = Grants::of(plan);
        let context = Box::new(grants.context(&streams)?);
        let ready = match work {
            Work::Call(call) => Ready::Call { call, ceiling, context, streams },
            Work::Serve(pre) => Ready::Serve(Server::listen(pre, grants, streams, ceiling)?),
        };
        Ok(Self { ready, runtime })
    }

    /// Runs it to its end and gives its exit code (`docs/architecture.md`, Exit codes). Words about
    /// a trap go to the container's standard error.
    pub fn run(self) -> i32 {
        let Self { ready, runtime } = self;
        runtime.block_on(async {
            let (streams, (code, words)) = match ready {
                Ready::Call { call, ceiling, context, streams } => {
                    (streams, exit::of_call(call.call(*context, ceiling).await))
                }
                Ready::Serve(server) => server.run().await,
            };
            if let Some(words) = words {
                streams.error.say(words);
            }
            streams.drain().await;
            code
        })
    }
}
