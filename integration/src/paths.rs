//! Where things are in the repository and its target folder.

use std::path::{Path, PathBuf};

/// The file name of the shim.
pub const SHIM: &str = "containerd-shim-wasmtime-v1";

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("integration/ has a parent")
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// A release binary of the workspace; it must have been built.
pub fn binary(name: &str) -> PathBuf {
    existing(target().join("release").join(name), "build it with `cargo build --release`")
}

/// A guest built from `integration/guests`, by file name.
pub fn guest(file: &str) -> PathBuf {
    existing(target().join("guests").join(file), "build it with `scripts/guests`")
}

/// A file of a tool of others that judges ours.
pub fn judge(file: &str) -> PathBuf {
    existing(target().join("judges").join(file), "fetch it with `scripts/judges`")
}

/// A script of the project.
pub fn script(name: &str) -> PathBuf {
    existing(repository().join("scripts").join(name), "it belongs to the repository")
}

fn existing(path: PathBuf, remedy: &str) -> PathBuf {
    assert!(path.exists(), "{} is not there: {remedy}", path.display());
    path
}
