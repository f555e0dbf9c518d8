//! From a bundle's `config.json` to a [`Plan`]: everything that is checked about a container before
//! anything is made. Pure but for reading that file.
//!
//! Source: <https://github.com/opencontainers/runtime-spec/blob/main/config.md>.

mod entry;
mod mounts;
mod plan;

pub use entry::Entry;
pub use mounts::{Mount, MountKind, RootfsPart, options as mount_options};
pub use plan::{Hooks, Isolation, Plan, Process};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with a bundle's specification.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not JSON of the form that the runtime specification gives.
    #[error("{} is not a runtime specification: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why, by line and column.
        source: serde_json::Error,
    },
    /// What is executed in a container that is there already.
    #[error("exec: {0}")]
    Exec(String),
    /// Something that the specification demands is not there.
    #[error("config.json: {0} is missing")]
    Missing(&'static str),
    /// A value that cannot be used.
    #[error("config.json: {field}: {why}")]
    Invalid {
        /// The field, dotted.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something that this runtime does not do; better said than silently left out.
    #[error("config.json: {field}: not supported: {why}")]
    Unsupported {
        /// The field, dotted.
        field: String,
        /// What is not supported.
        why: String,
    },
}

/// Reads and checks the specification of the bundle at `bundle`, for the container `id`.
///
/// # Errors
/// See [`Error`].
pub fn read(bundle: &Path, id: &str) -> Result<Plan, Error> {
    let path = bundle.join("config.json");
    let spec: Spec = parse(&path)?;
    Plan::new(spec, bundle, id)
}

/// Reads and checks a process that shall be executed in a container that is there already: `json` is
/// of the form of the specification's `process`.
///
/// # Errors
/// When it is not of that form, or cannot be kept.
pub fn process(json: &[u8]) -> Result<Process, Error> {
    let process: oci_spec::runtime::Process = serde_json::from_slice(json)
        .map_err(|e| Error::Exec(format!("its process is not of the specification's form: {e}")))?;
    Process::new(&process).map_err(|e| {
        let words = e.to_string();
        Error::Exec(words.strip_prefix("config.json: ").unwrap_or(&words).to_owned())
    })
}

/// What `start` has to know of a container before it is made.
#[derive(Debug, Default, Deserialize)]
pub struct Outline {
    annotations: Option<HashMap<String, String>>,
    linux: Option<OutlineLinux>,
}

#[derive(Debug, Default, Deserialize)]
struct OutlineLinux {
    namespaces: Option<Vec<LinuxNamespace>>,
}

impl Outline {
    /// Reads it from the bundle at `bundle`.
    ///
    /// # Errors
    /// When `config.json` cannot be read or is not JSON.
    pub fn read(bundle: &Path) -> Result<Self, Error> {
        parse(&bundle.join("config.json"))
    }

    /// The value of an annotation that is there and not empty.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        let value = self.annotations.as_ref()?.get(key)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether the container gets a pid namespace of its own.
    pub fn new_pid_namespace(&self) -> bool {
        let namespaces = self.linux.as_ref().and_then(|linux| linux.namespaces.as_ref());
        let pid = namespaces.iter().copied().flatten().find(|n| n.typ() == LinuxNamespaceType::Pid);
        pid.is_some_and(|n| n.path().as_ref().is_none_or(|path| path.as_os_str().is_empty()))
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text =
        fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    serde_json::from_slice(&text)
        .map_err(|source| Error::Malformed { path: path.to_owned(), source })
}

fn invalid(field: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Invalid { field: field.into(), why: why.into() }
}

#[cfg(test)]
mod tests;
