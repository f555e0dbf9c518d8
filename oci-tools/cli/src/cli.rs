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

use crate::build::Level;

/// The words of a command line, where `-O3` of `build` is written as it is read, `-O=3`.
pub fn words(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<_> = words.collect();
    if words.get(1).is_some_and(|verb| verb == "build") {
        for word in words.iter_mut().skip(2).take_while(|word| *word != "--") {
            let level = word.to_str().and_then(|word| word.strip_prefix("-O"));
            if let Some(level) = level.filter(|level| !level.is_empty() && !level.starts_with('='))
            {
                *word = format!("-O={level}").into();
            }
        }
    }
    words
}

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
    #[command(visible_alias = "warm")]
    Compile(CompileArgs),
    Login(LoginArgs),
    Logout(LogoutArgs),
    Cache(CacheArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Print what makes a shell complete commands and options
///
/// For bash: `wasm-image completions bash > /etc/bash_completion.d/wasm-image`.
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Write the manual pages
#[derive(clap::Args)]
pub struct ManArgs {
    /// Folder for all pages, such as /usr/local/share/man/man1; without it the first goes to stdout
    pub folder: Option<PathBuf>,
}

/// Build an image for the platform wasi/wasm
///
/// Of modules or components; or as wasm-image.toml says; or as a Containerfile (Dockerfile) says. Both
/// are looked for in the current folder if nothing is named, or in the folder that is named, from which
/// the Containerfile then copies. The options are laid over what they say.
///
/// The image is kept in the store, for `push` and `load`, and written as a tar in the OCI layout,
/// which `docker load`, `ctr image import` and `skopeo copy oci-archive:` take. The same inputs give the
/// same bytes; SOURCE_DATE_EPOCH sets every time in it (default 0).
#[derive(clap::Args)]
pub struct BuildArgs {
    /// WebAssembly, core modules or components, .wasm or .wat, of which the first is run; or a folder
    #[arg(value_name = "MODULE|FOLDER")]
    pub inputs: Vec<PathBuf>,

    /// wasm-image.toml or Containerfile to go by, told apart by `.toml`
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Value of an ARG in the Containerfile; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub build_arg: Vec<String>,

    /// Form of the image [default: image]; which daemons take which is in docs/images.md
    #[arg(long, value_enum, value_name = "FORM")]
    pub form: Option<Form>,

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

    /// Optimize the modules with Binaryen's wasm-opt; `s` if no level is given
    #[arg(short = 'O', long, value_enum, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "s", require_equals = true)]
    pub optimize: Option<Level>,

    /// Make components of core modules of WASI preview 1
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub component: Option<bool>,

    /// Component to put into those that import what it exports, so that one file runs by itself; may be
    /// repeated, each goes into what those before it made
    #[arg(long = "plug", value_name = "FILE")]
    pub plugs: Vec<PathBuf>,

    /// Take names, DWARF and other custom sections out of the modules
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub strip: Option<bool>,

    /// Write a list of what the modules are made of, as far as they say it
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub sbom: Option<SbomFormat>,

    /// File for it [default: the module's file name, with .spdx.json or .cyclonedx.json, in this folder]
    #[arg(long, value_name = "FILE")]
    pub sbom_output: Option<PathBuf>,

    #[command(flatten)]
    pub store: StoreArgs,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How a software bill of materials is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SbomFormat {
    /// SPDX 2.3, as JSON
    Spdx,
    /// CycloneDX 1.5, as JSON
    Cyclonedx,
}

impl SbomFormat {
    /// As it is in the names of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spdx => "spdx",
            Self::Cyclonedx => "cyclonedx",
        }
    }
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
    /// For programs: JSON
    Json,
}
