//! What separates a container from the host: namespaces, its view of the file system, its
//! privileges, and the hooks that others hang onto its making.
//!
//! All of it runs in the container's own process, on its way down, but for hooks of the host's side.

pub mod alone;
mod devices;
pub mod hooks;
mod mounts;
pub mod namespaces;
pub mod paths;
pub mod privileges;
pub mod rootfs;

use std::io;

/// A step that failed, on what, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}{hint}")]
pub struct Error {
    step: String,
    source: io::Error,
    hint: &'static str,
}

impl Error {
    /// For `map_err`: what was tried.
    pub fn step<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        let step = step.into();
        move |source| Self { step, source: source.into(), hint: "" }
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }
}
