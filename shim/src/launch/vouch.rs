//! Whether a container may run at all: where the owner of the node has rules for it, somebody whom
//! they name must have signed its image (the binary's role `trust`).

use super::child::{Child, in_role};
use super::layer::Containerd;
use super::{Error, Launcher};
use crate::init::{Failure, Reason};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek};
use std::time::Duration;
use trust::key::PublicKey;
use trust::policy::Rule;

/// The child's exit code when the rules say no.
pub const FORBIDDEN: i32 = 3;

/// How long it may take. The child gives up on a registry earlier.
const PATIENCE: Duration = Duration::from_secs(90);

/// The most that the child's answer has, in bytes.
const MAX_ANSWER: u64 = 4096;

/// What the child answers of an image that may run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Signed {
    /// Its digest.
    pub image: String,
    /// Who has signed it, for the log.
    pub words: String,
}

/// Where compiled code may come from in place of a compiler: the registry of a container's image, if it
/// is signed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trusted<'a> {
    /// The path of containerd's gRPC socket.
    pub address: String,
    /// The namespace of the container.
    pub namespace: String,
    /// The container.
    pub container: String,
    /// Any of these must have signed the code.
    #[serde(borrow)]
    pub keys: std::borrow::Cow<'a, [PublicKey]>,
}

impl Containerd {
    /// What a compile child has to know to look for code of the container `id` that one of `keys` has
    /// signed, in JSON.
    pub(super) fn trusted(&self, id: &str, keys: &[PublicKey]) -> io::Result<String> {
        Ok(serde_json::to_string(&Trusted {
            address: self.address.clone(),
            namespace: self.namespace.clone(),
            container: id.to_owned(),
            keys: keys.into(),
        })?)
    }
}

impl Launcher {
    /// Makes sure that the image of the container `id` is signed as each set of `rules` wants, if there
    /// are any; gives the digest of what was looked at.
    ///
    /// # Errors
    /// When it is not, or nobody can say.
    pub async fn vouched(&self, id: &str, rules: &[Vec<Rule>]) -> Result<Option<String>, Error> {
        if rules.is_empty() {
            return Ok(None);
        }
        let Some(Containerd { address, namespace }) = self.code.containerd() else {
            let words = "nobody can say which image it is, and so not who has signed it";
            return Err(Failure::new(Reason::Internal, words).into());
        };
        let mut file =
            File::from(memfd_create(c"rules", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
        serde_json::to_writer(&mut file, rules).map_err(io::Error::from)?;
        file.rewind()?;
        let mut command = in_role("trust");
        command.args(["image", address, namespace, id]).stdin(file);
        command.envs(way_to_registries());
        let child = Child::start(&mut command, None)?;
        let ended = tokio::time::timeout(PATIENCE, child.ended(MAX_ANSWER)).await;
        let ended = ended.map_err(|_| {
            Failure::new(Reason::Internal, "whether the image is signed was not found out in time")
        })??;
        let reason = match ended.status.code() {
            Some(0) => {
                let answer: Signed =
                    serde_json::from_str(&ended.output).map_err(io::Error::from)?;
                log::info!("{id}: {}", answer.words);
                return Ok(Some(answer.image));
            }
            Some(FORBIDDEN) => Reason::Forbidden,
            _ => Reason::Internal,
        };
        Err(Failure::new(reason, ended.why()).into())
    }
}

/// What of the environment says how registries are reached, and where root's credentials for them are.
pub fn way_to_registries() -> impl Iterator<Item = (OsString, OsString)> {
    const NAMES: [&str; 7] =
        ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "path", "home", "docker_config"];
    std::env::vars_os()
        .filter(|(name, _)| NAMES.contains(&&*name.to_string_lossy().to_ascii_lowercase()))
}
