//! The client's side of the [OCI distribution
//! protocol](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md): manifests and
//! blobs of one repository, and the credentials that Docker's tools keep for registries.
//!
//! A registry is not trusted. Every answer has a limit of bytes and of time, every document and blob
//! is checked against the digest and size by which it was asked for, and credentials go to the
//! registry that they are for and to the token service that it names, to nobody else.

mod auth;
mod body;
pub mod credentials;
mod digest;
mod document;
mod download;
mod error;
mod host;
mod referrers;
mod repository;
mod retry;
mod transport;
mod upload;

pub use digest::{BadDigest, Digest, Hasher};
pub use document::{Descriptor, Document, MAX_DOCUMENT, Manifest, Platform, media};
pub use download::{BlobReader, small};
pub use error::Error;
pub use host::Host;
pub use repository::{Access, Fetched, Registry, Repository};
pub use transport::{Settings, Transport};
pub use upload::{Outcome, Source};

/// Told how many bytes of a blob have been moved so far.
pub type Meter = std::sync::Arc<dyn Fn(u64) + Send + Sync>;
