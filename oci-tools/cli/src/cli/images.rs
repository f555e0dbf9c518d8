//! Arguments of the verbs about images that exist: in the store, in registries, in engines.

use std::path::PathBuf;
use std::time::Duration;

use registry::Platform;

use super::Format;
use crate::reference::{Place, Reference};

/// Where the images of this machine are.
#[derive(clap::Args)]
pub struct StoreArgs {
    /// Folder of the image store [default: $WASM_IMAGE_STORE, or /var/lib/wasm-image for root, or wasm-image in $XDG_DATA_HOME]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
}

/// How registries are spoken to.
#[derive(clap::Args)]
#[command(next_help_heading = "Registry options")]
pub struct NetworkArgs {
    /// Speak HTTP without TLS, as is done to registries on this machine anyway
    #[arg(long)]
    pub plain_http: bool,

    /// Certificates in PEM to trust besides the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Give up on a registry after so long without a byte
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,

    /// How often to try again what failed in passing
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub retries: u32,

    /// Send no more than this in one request, for registries behind a proxy that takes no more; what
    /// breaks off goes on within it
    #[arg(long, value_name = "SIZE", default_value = "128MiB", value_parser = artifact::amount::bytes)]
    pub chunk_size: u64,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "it must be from 0.1 to 3600".to_owned())
}

/// Which images of an index.
#[derive(clap::Args)]
pub struct PlatformArgs {
    /// Of an image for several platforms, the one for this
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,

    /// Of an image for several platforms, all
    #[arg(long, conflicts_with = "platform")]
    pub all: bool,
}

/// Fetch an image from a registry into the store
///
/// Of an image for several platforms, the one for wasi/wasm is taken. What an interrupted pull has
/// fetched is kept, and the next one goes on from there.
#[derive(clap::Args)]
pub struct PullArgs {
    /// Image to fetch
    #[arg(value_name = "NAME[:TAG|@DIGEST]", value_parser = Reference::parse)]
    pub image: Reference,

    #[command(flatten)]
    pub platform: PlatformArgs,

    #[command(flatten)]
    pub store: StoreArgs,

    #[command(flatten)]
    pub network: NetworkArgs,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Send an image of the store to the registry that its name says
#[derive(clap::Args)]
pub struct PushArgs {
    /// Image to send; `wasm-image tag` gives it a name with a registry in it
    #[arg(value_name = "NAME[:TAG]", value_parser = Reference::parse)]
    pub image: Reference,

    #[command(flatten)]
    pub store: StoreArgs,

    #[command(flatten)]
    pub network: NetworkArgs,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Copy an image between registries, or between a registry and the store
///
/// Images are in registries, or in the store as `store:NAME`. An image for several platforms is
/// copied as it is, with the same digest, unless --platform chooses one. Nothing passes through the
/// store on the way between registries.
#[derive(clap::Args)]
pub struct CopyArgs {
    /// Image to copy
    #[arg(value_name = "SRC", value_parser = Place::parse)]
    pub source: Place,

    /// Name of the copy
    #[arg(value_name = "DST", value_parser = Place::parse)]
    pub destination: Place,

    /// Of an image for several platforms, the one for this [default: all]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,

    #[command(flatten)]
    pub store: StoreArgs,

    #[command(flatten)]
    pub network: NetworkArgs,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Give an image of the store another name
#[derive(clap::Args)]
pub struct TagArgs {
    /// Image in the store
    #[arg(value_name = "NAME", value_parser = Reference::parse)]
    pub image: Reference,

    /// Its other name
    #[arg(value_name = "NEW_NAME", value_parser = Reference::parse)]
    pub name: Reference,

    #[command(flatten)]
    pub store: StoreArgs,
}

/// List the images of the store
#[derive(clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub store: StoreArgs,

    /// Form of the list
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Remove images from the store, and what no other image there has
#[derive(clap::Args)]
pub struct RmArgs {
    /// Images to remove
    #[arg(value_name = "NAME", required = true, value_parser = Reference::parse)]
    pub images: Vec<Reference>,

    #[command(flatten)]
    pub store: StoreArgs,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Load images of the store into docker or containerd
///
/// Runs `docker load` or `ctr image import`, which must be in PATH.
#[derive(clap::Args)]
pub struct LoadArgs {
    /// Images to load
    #[arg(value_name = "NAME", required = true, value_parser = Reference::parse)]
    pub images: Vec<Reference>,

    /// Where to
    #[arg(long, value_enum, default_value_t)]
    pub into: Engine,

    /// Namespace of containerd
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,

    #[command(flatten)]
    pub store: StoreArgs,
}

/// What runs containers.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// By `docker load`
    #[default]
    Docker,
    /// By `ctr image import`
    Containerd,
}

/// Keep credentials for a registry, where docker and podman find them too
///
/// They are tried first. They go to the credential helper that Docker's configuration names, or
/// else into that file itself, `~/.docker/config.json`, or config.json in $DOCKER_CONFIG.
#[derive(clap::Args)]
pub struct LoginArgs {
    /// Registry
    #[arg(value_name = "HOST[:PORT]", default_value = "docker.io")]
    pub host: String,

    /// User, asked for if not given
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,

    /// Read the password from stdin instead of the terminal
    #[arg(long)]
    pub password_stdin: bool,

    #[command(flatten)]
    pub network: NetworkArgs,
}

/// Forget the credentials for a registry
#[derive(clap::Args)]
pub struct LogoutArgs {
    /// Registry
    #[arg(value_name = "HOST[:PORT]", default_value = "docker.io")]
    pub host: String,
}
