//! Waiting for a condition, with a deadline and never with a fixed sleep.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take before a test gives up. Far more than anything needs on a loaded
/// machine: it is a verdict, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(30);

const STEP: Duration = Duration::from_millis(10);

/// Asks `probe` until it answers with a value.
///
/// # Panics
/// When nothing came within [`PATIENCE`]; `what` says what was waited for.
#[track_caller]
pub fn some<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    some_within(PATIENCE, what, probe)
}

/// [`some`] with a deadline of its own.
#[track_caller]
pub fn some_within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        thread::sleep(STEP);
    }
}

/// Asks `probe` until it says yes.
#[track_caller]
pub fn until(what: &str, mut probe: impl FnMut() -> bool) {
    some(what, || probe().then_some(()));
}
