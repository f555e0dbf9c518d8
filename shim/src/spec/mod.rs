//! From a bundle's `config.json` to a [`Plan`]: everything that is checked about a container before
//! anything is made. Pure but for reading that file.
//!
//! Source: <https://github.com/opencontainers/runtime-spec/blob/main/config.md>.

mod entry;
mod mounts;
mod plan;

pub use entry::Entry;
pub use mounts::{Mount, MountKind, options as mount_options};
pub use plan::{Hooks, Isolation, Plan, Process};

use oci_spec::runtime::Spec;
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

/// The annotations of the bundle at `bundle`, and nothing else of it.
///
/// # Errors
/// When `config.json` cannot be read or is not JSON.
pub fn annotations(bundle: &Path) -> Result<HashMap<String, String>, Error> {
    #[derive(Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: Option<HashMap<String, String>>,
    }
    let annotated: Annotated = parse(&bundle.join("config.json"))?;
    Ok(annotated.annotations.unwrap_or_default())
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
