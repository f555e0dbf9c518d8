//! A containerd runtime-v2 shim that runs OCI Wasm images in Wasmtime.
//!
//! The floors, top to bottom; a module uses only floors below its own (`docs/architecture.md`):
//!
//! | floor | modules |
//! |---|---|
//! | F6 | [`cli`]: one file per role of the binary |
//! | F5 | [`service`]: ttrpc in and out, protobuf to domain types |
//! | F4 | [`task`]: one actor per container, its state machine |
//! | F3 | [`launch`], [`init`]: how the container's process is made; what it does |
//! | F2 | [`cgroup`], [`sandbox`], [`guest`]: limits and stats; namespaces, mounts, privileges; Wasmtime |
//! | F1 | [`spec`], [`image`]: config.json to a plan; where the wasm is |
//! | F0 | [`sys`]: thin system calls |

pub mod cgroup;
pub mod cli;
pub mod guest;
pub mod image;
pub mod init;
pub mod launch;
pub mod sandbox;
pub mod service;
pub mod spec;
pub mod sys;
pub mod task;
