//! Arguments of the verbs about who vouches for images and code.

use std::path::PathBuf;

use super::{Format, NetworkArgs, StoreArgs};
use crate::reference::Reference;

/// Make a pair of keys: NAME.key, which signs, and NAME.pub, which nodes are given
///
/// Both are PEM (ECDSA over P-256). Keys of openssl, Ed25519 ones too, and the public keys of cosign
/// do as well.
#[derive(clap::Args)]
pub struct KeygenArgs {
    /// What the two files are called, but for their ends
    #[arg(value_name = "NAME", default_value = "wasm-image")]
    pub name: PathBuf,
}

/// Sign an image in its registry
///
/// The signature is kept beside the image in the form of cosign's, which `cosign verify --key` and the
/// policies of podman and skopeo take. It is for the digest that the name stands for now.
#[derive(clap::Args)]
pub struct SignArgs {
    /// Image in a registry
    #[arg(value_name = "NAME[:TAG|@DIGEST]", value_parser = Reference::parse)]
    pub image: Reference,

    /// Private key in PEM
    #[arg(short, long, value_name = "FILE")]
    pub key: PathBuf,

    #[command(flatten)]
    pub network: NetworkArgs,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Say whether a key's owner has signed an image in its registry
///
/// Ends with 1 when none of the keys has. Signatures of `cosign sign --key` count too.
#[derive(clap::Args)]
pub struct VerifyArgs {
    /// Image in a registry
    #[arg(value_name = "NAME[:TAG|@DIGEST]", value_parser = Reference::parse)]
    pub image: Reference,

    /// Public key in PEM; may be repeated
    #[arg(short, long = "key", value_name = "FILE", required = true)]
    pub keys: Vec<PathBuf>,

    #[command(flatten)]
    pub network: NetworkArgs,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Compile the modules of an image before its first start
///
/// The code goes into the cache of this machine's containers, where the first start finds it. With
/// --push it is signed and put beside the image in its registry instead, for nodes whose settings hold
/// the key (CodeKeys) and which then compile nothing; it is for the version of Wasmtime that this
/// program has, which is that of the shim of the same version. An image that is not in the store is
/// fetched there.
#[derive(clap::Args)]
pub struct CompileArgs {
    /// Image in the store or in a registry
    #[arg(value_name = "NAME[:TAG|@DIGEST]", value_parser = Reference::parse)]
    pub image: Reference,

    /// Folder of the cache [default: that of the shim for root, else that of `run`]
    #[arg(long, value_name = "DIR", conflicts_with = "push")]
    pub root: Option<PathBuf>,

    /// Put the code beside the image in its registry
    #[arg(long, requires = "key")]
    pub push: bool,

    /// Private key in PEM
    #[arg(short, long, value_name = "FILE", requires = "push")]
    pub key: Option<PathBuf>,

    /// CPUs to compile for; may be repeated [default: x86_64-v2 and x86_64-v3]
    #[arg(short, long = "target", value_name = "TARGET", value_parser = target, requires = "push")]
    pub targets: Vec<artifact::engine::Target>,

    #[command(flatten)]
    pub store: StoreArgs,

    #[command(flatten)]
    pub network: NetworkArgs,

    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

fn target(text: &str) -> Result<artifact::engine::Target, String> {
    artifact::engine::Target::parse(text)
        .ok_or_else(|| "it is one of x86_64-v1, x86_64-v2, x86_64-v3".to_owned())
}
