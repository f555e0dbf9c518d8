//! The command line as it was typed. Nothing is checked here beyond its shape: each command turns
//! these arguments into a validated plan of its own.

mod cache;
mod images;
mod inspect;
mod run;
mod sign;

use std::ffi::OsString;
use std::path::PathBuf;

pub use cache::*;
pub use images::*;
pub use inspect::*;
pub use run::*;
pub use sign::*;

/// Makes OCI images that hold WebAssembly, shows what they are, runs them, keeps them, and moves them.
#[derive(clap::Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(clap::Subcommand)]
pub enum Command {
    Build(Box<BuildArgs>),
    Inspect(InspectArgs),
    Explain(ExplainArgs),
    Run(Box<RunArgs>),
    Pull(PullArgs),
    Push(PushArgs),
    Copy(CopyArgs),
    Tag(TagArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Rm(RmArgs),
    Load(LoadArgs),
    Keygen(KeygenArgs),
    Sign(SignArgs),
    Verify(VerifyArgs),
    Compile(CompileArgs),
    Login(LoginArgs),
    Logout(LogoutArgs),
    Cache(CacheArgs),
}

/// Build an image for the platform wasi/wasm from a module or component
///
/// The image is kept in the store, for `push` and `load`, and written as a tar in the OCI layout,
/// which `docker load`, `ctr image import` and `skopeo copy oci-archive:` take. The same inputs give the same bytes; SOURCE_DATE_EPOCH sets
/// every time in it (default 0).
#[derive(clap::Args)]
pub struct BuildArgs {
    /// WebAssembly to run: a core module or component, .wasm or .wat
    pub module: PathBuf,

    /// Form of the image; which daemons take which is in docs/images.md
    #[arg(long, value_enum, default_value_t)]
    pub form: Form,

    /// OCI layout, a folder or a tar, whose Linux images go beside this one into the index; may be
    /// repeated
    #[arg(long, value_name = "LAYOUT")]
    pub linux: Vec<PathBuf>,

    /// Name of the image; may be repeated [default: the module's file name]
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub tags: Vec<String>,

    /// File to write, `-` for stdout, and nothing to the store [default: the store, and the module's file name, with .tar, in this folder]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Put a file, or what is in a folder, into the image; may be repeated
    #[arg(long = "add", value_name = "SRC:DEST")]
    pub adds: Vec<OsString>,

    /// What the container runs, as a JSON array or one word [default: ["/<module>.wasm"]]
    #[arg(long, value_name = "ARGV")]
    pub entrypoint: Option<String>,

    /// Arguments that `docker run IMAGE ARG...` replaces, as a JSON array or one word
    #[arg(long, value_name = "ARGV", allow_hyphen_values = true)]
    pub cmd: Option<String>,

    /// Environment variable of the container; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,

    /// Folder that the container starts in
    #[arg(short, long, value_name = "PATH")]
    pub workdir: Option<String>,

    /// User that the container runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// Label of the image; may be repeated
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,

    /// Port that the program listens on; may be repeated
    #[arg(long, value_name = "PORT[/PROTO]")]
    pub expose: Vec<String>,

    /// Signal that asks the program to end, by name or number
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,

    #[command(flatten)]
    pub store: StoreArgs,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What a module is wrapped in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Files in a layer, the module among them, for the platform wasi/wasm: runs everywhere
    #[default]
    Image,
    /// The module itself as the layer, by the CNCF's Wasm OCI artifact specification
    Artifact,
    /// An index with the image in it, and Linux images beside it
    Index,
    /// An index with the artifact in it as wasi/wasm, and Linux images beside it
    ArtifactIndex,
}

impl Form {
    /// Whether the layer is the module itself.
    pub fn is_artifact(self) -> bool {
        matches!(self, Self::Artifact | Self::ArtifactIndex)
    }

    /// Whether an index is around it.
    pub fn is_indexed(self) -> bool {
        matches!(self, Self::Index | Self::ArtifactIndex)
    }
}

/// Who reads the report.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For programs: one JSON object
    Json,
}
