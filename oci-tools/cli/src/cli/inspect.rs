//! The arguments of the verbs that look at what is there.

use std::path::PathBuf;

use super::{Format, StoreArgs};

/// Show what a module, a component or an image is, needs and offers
///
/// SUBJECT is a .wasm or .wat file, a tar in the OCI layout such as `build` and `docker save` write,
/// a folder in that layout, or an image in the store. It is only read: nothing in it is run, and hostile ones are refused
/// in little memory.
#[derive(clap::Args)]
pub struct InspectArgs {
    /// What to look at
    pub subject: PathBuf,

    /// Print the module as WebAssembly text instead
    #[arg(long, conflicts_with = "format")]
    pub wat: bool,

    #[command(flatten)]
    pub store: StoreArgs,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Explain what a module, a component or an image is granted, and which flags grant the rest
///
/// What it needs is put against what `docker run` grants without flags.
#[derive(clap::Args)]
pub struct ExplainArgs {
    /// A .wasm or .wat file, an OCI layout as a tar or a folder, or an image in the store
    pub subject: PathBuf,

    #[command(flatten)]
    pub store: StoreArgs,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}
