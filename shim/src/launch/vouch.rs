//! Whether a container may run at all: where the owner of the node has rules for it, somebody whom
//! they name must have signed its image (the binary's role `trust`).

use super::child::{Child, in_role};
use super::layer::Containerd;
use super::{Error, Launcher};
use crate::init::{Failure, Reason};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Seek};
use std::time::Duration;
use trust::key::PublicKey;
use trust::policy::Rule;

/// The child's exit code when the rules say no.
pub const FORBIDDEN: i32 = 3;

/// How long it may take. The child gives up on a registry earlier.
const PATIENCE: Duration = Duration::from_secs(40);

/// The most that the child's answer has, in bytes.
const MAX_ANSWER: u64 = 4096;

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
    /// Makes sure that the image of the container `id` is signed as `rules` want, if there are any.
    ///
    /// # Errors
    /// When it is not, or nobody can say.
    pub async fn vouched(&self, id: &str, rules: &[Rule]) -> Result<(), Error> {
        if rules.is_empty() {
            return Ok(());
        }
        let Containerd { address, namespace } = self.code.containerd();
        let mut file =
            File::from(memfd_create(c"rules", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
        serde_json::to_writer(&mut file, rules).map_err(io::Error::from)?;
        file.rewind()?;
        let mut command = in_role("trust");
        command.args(["image", address, namespace, id]).stdin(file);
        // By proxies, if containerd is.
        command.envs(std::env::vars_os().filter(|(name, _)| is_proxy(name)));
        let child = Child::start(&mut command, None)?;
        let ended = tokio::time::timeout(PATIENCE, child.ended(MAX_ANSWER)).await;
        let ended = ended.map_err(|_| {
            Failure::new(Reason::Internal, "whether the image is signed was not found out in time")
        })??;
        let reason = match ended.status.code() {
            Some(0) => {
                log::info!("{id}: {}", ended.output);
                return Ok(());
            }
            Some(FORBIDDEN) => Reason::Forbidden,
            _ => Reason::Internal,
        };
        Err(Failure::new(reason, ended.why()).into())
    }
}

/// Whether a variable of the environment says how others are reached.
pub fn is_proxy(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_lowercase();
    ["http_proxy", "https_proxy", "all_proxy", "no_proxy"].contains(&name.as_str())
}
