//! From the end of a guest to an exit code and words on the container's standard error.

use wasmtime::{Error, Result};
use wasmtime_wasi::I32Exit;

/// As a Linux program ends by abort(3): 128 + SIGABRT.
const TRAPPED: i32 = 134;

/// The exit code of a guest that returned, exited, or trapped, and the words for a trap.
pub fn of_call(ended: Result<()>) -> (i32, Option<String>) {
    let Err(error) = ended else { return (0, None) };
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return (exit.0 & 0xff, None);
    }
    if error.is::<RunFailed>() {
        return (1, None);
    }
    (TRAPPED, Some(words(&error)))
}

/// The same of a guest that served until it was told to end, or could not.
pub fn of_serving(ended: std::io::Result<()>) -> (i32, Option<String>) {
    match ended {
        Ok(()) => (0, None),
        Err(e) => (1, Some(format!("cannot serve: {e}"))),
    }
}

/// `wasi:cli/run` returned its error, which carries no number.
#[derive(Debug, thiserror::Error)]
#[error("wasi:cli/run returned an error")]
pub struct RunFailed;

/// The trap first, then where it happened.
pub fn words(error: &Error) -> String {
    let trap = error.root_cause().to_string();
    match error.downcast_ref::<wasmtime::WasmBacktrace>() {
        Some(backtrace) if !backtrace.frames().is_empty() => format!("{trap}\n{backtrace}"),
        _ => format!("{error:?}"),
    }
}
