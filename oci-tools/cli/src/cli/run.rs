//! The arguments of `run`, by the names that `docker run` has for them.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{NetworkArgs, StoreArgs};

/// Run an image or a .wasm file, without a daemon
///
/// It is an image of the store, or of a registry; an OCI layout, as a tar or a folder (named with a
/// slash, as ./layout); or a .wasm or .wat file, which runs in an empty rootfs. What runs is locked
/// in as a container of the runtime is, and ends with the same exit codes: its own, 134 for a trap,
/// 137 for want of memory, 128 + n for signal n; 125, 126 or 127 if it could not be run.
///
/// Root need not be who runs it. Others have a user namespace made, in which they alone exist, so
/// that --user says no more than whether the guest is root there; and without control groups of
/// their own --memory is kept for the guest's memory alone, --cpus and --pids-limit are refused.
///
/// Nothing is kept: what is written to the rootfs lies in memory until the end. Volumes are the
/// host's, and stay.
#[derive(clap::Args)]
pub struct RunArgs {
    /// What to run, and its arguments
    #[arg(
        value_name = "IMAGE|FILE [ARG]...",
        required = true,
        num_args = 1..,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,

    /// Set an environment variable, or pass the one on that is set here; may be repeated
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,

    /// Read environment variables from a file, one on a line; may be repeated
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,

    /// Show a file or folder of the host in the container, ./RELATIVE or absolute; may be repeated
    #[arg(short, long, value_name = "HOST:CONTAINER[:ro]")]
    pub volume: Vec<String>,

    /// Give the container an empty folder in memory, with options of mount; may be repeated
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    pub tmpfs: Vec<String>,

    /// Folder to start in
    #[arg(short, long, value_name = "PATH")]
    pub workdir: Option<String>,

    /// User to run as, by number or by name in the image
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// Run this file of the image instead, or FILE#EXPORT of it; of an image with several modules as
    /// layers, the one of this title
    #[arg(long, value_name = "FILE")]
    pub entrypoint: Option<String>,

    /// Most memory, as 64m or 1g
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,

    /// Most CPUs, as 0.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<f64>,

    /// Most threads
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,

    /// Let the guest write to volumes and tmpfs only
    #[arg(long)]
    pub read_only: bool,

    /// Name of the host that the container is
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,

    /// Network that the container is in
    #[arg(long, value_enum, default_value_t)]
    pub network: Network,

    /// Forward a TCP port of the host to one that the guest listens on
    ///
    /// The guest is in the host's network, so what it listens on is reached by that port anyway
    /// (components that answer HTTP listen on 8080, or where WASMTIME_HTTP_PROXY_SOCKET_ADDR=IP:PORT
    /// in the environment says). Equal ports need nothing done; may be repeated.
    #[arg(short, long, value_name = "[IP:]HOST:CONTAINER")]
    pub publish: Vec<String>,

    /// Give the guest this command's standard input; without it there is none
    #[arg(short, long)]
    pub interactive: bool,

    /// Give the guest a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// When to fetch the image from its registry
    #[arg(long, value_enum, default_value_t)]
    pub pull: Pull,

    /// Nothing is kept anyway
    #[arg(long, hide = true)]
    pub rm: bool,

    #[command(flatten)]
    pub store: StoreArgs,

    #[command(flatten)]
    pub registry: NetworkArgs,
}

/// What networks there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Network {
    /// The host's
    #[default]
    Host,
    /// One of its own, with nothing but the loopback device
    None,
}

/// When an image is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Pull {
    /// If the store has none of this name
    #[default]
    Missing,
    /// Each time
    Always,
    /// Never
    Never,
}
