//! Arguments of the verbs about compiled code.

use std::path::PathBuf;
use std::time::Duration;

use artifact::amount;

use super::Format;

/// Show and tidy the compiled code that this machine keeps for its containers
///
/// Whatever is removed is made again when a container needs it; containers that run are not touched.
#[derive(clap::Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// The verbs of it.
#[derive(clap::Subcommand)]
pub enum CacheCommand {
    /// List compiled modules, those used last first
    #[command(visible_alias = "list")]
    Ls(CacheAt),
    /// Remove the code of modules
    Rm(CacheRmArgs),
    /// Remove what is of no use: code for other versions, what killed compilers left
    Prune(PruneArgs),
    /// Read all code and say what is not as it was made
    Verify(CacheVerifyArgs),
}

/// Which cache, and how it is shown.
#[derive(clap::Args)]
pub struct CacheAt {
    /// Folder of the cache [default: that of the shim for root, else that of `run`]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(clap::Args)]
pub struct CacheRmArgs {
    /// sha256 of the modules, or its beginning as `cache ls` shows it
    #[arg(value_name = "DIGEST", required = true)]
    pub digests: Vec<String>,

    #[command(flatten)]
    pub at: CacheAt,
}

#[derive(clap::Args)]
pub struct PruneArgs {
    /// Remove all
    #[arg(long, conflicts_with_all = ["max_size", "unused_for"])]
    pub all: bool,

    /// Remove what was used longest ago too, until the rest is no larger, as 512MiB
    #[arg(long, value_name = "SIZE", value_parser = amount::bytes)]
    pub max_size: Option<u64>,

    /// Remove what was not used for so long too, as 7d
    #[arg(long, value_name = "TIME", value_parser = amount::duration)]
    pub unused_for: Option<Duration>,

    #[command(flatten)]
    pub at: CacheAt,
}

#[derive(clap::Args)]
pub struct CacheVerifyArgs {
    /// Remove what is damaged; it is made again when it is needed
    #[arg(long)]
    pub fix: bool,

    #[command(flatten)]
    pub at: CacheAt,
}
