//! The shim's log: the fifo `log` of the bundle, which containerd copies into its own, in the form
//! of its own lines. Never waits: while nobody reads, lines are dropped.

use crate::sys;
use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::fcntl::OFlag;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

struct Fifo(OwnedFd);

/// Sends this process's log to the fifo `path`, if there is one.
pub fn init(path: &Path, debug: bool) {
    // For reading too: a reader that comes back later finds it open.
    let Ok(fifo) = sys::fd::open(path, OFlag::O_RDWR | OFlag::O_NONBLOCK) else {
        return;
    };
    if log::set_logger(Box::leak(Box::new(Fifo(fifo)))).is_ok() {
        log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    }
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

impl Log for Fifo {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries tell of every frame and fibre.
        metadata.target().starts_with("shim") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        let line = format!("time={time:?} level={level} msg={:?}\n", record.args().to_string());
        let _ = nix::unistd::write(self.0.as_fd(), line.as_bytes());
    }

    fn flush(&self) {}
}
