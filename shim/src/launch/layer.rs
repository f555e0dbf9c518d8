//! Wasm that is a layer of a container's image. Only containerd knows the image, and what it says is
//! read by children of this process (the binary's role `layer`), for whoever made the image wrote it.

use super::Error;
use super::child::{Child, in_role};
use crate::init::{Failure, Reason};
use artifact::digest::Digest;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long finding a layer may take. Its child gives up earlier when containerd does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most that a child's answer has, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Says that a layer may be of any image.
pub const ANY: &str = "any";

/// The containerd that serves the shim, and its namespace of the containers.
#[derive(Debug, Clone)]
pub struct Containerd {
    /// The path of its gRPC socket.
    pub address: String,
    /// The namespace.
    pub namespace: String,
}

/// What the child says of the image of a container.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// A layer is the wasm that is meant.
    Layer {
        /// The image's name.
        image: String,
        /// The layer's sha256, in hex.
        digest: String,
        /// Its size in bytes.
        size: u64,
    },
    /// None is; for what reason, if that is worth telling.
    Nothing(Option<String>),
    /// Some may be, but the image is not as it should be.
    Unusable(String),
}

/// A layer that is wasm.
pub struct Layer {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    image: String,
}

/// A layer on its way from containerd into a pipe.
pub struct Reading {
    child: Child,
    what: String,
}

impl Containerd {
    /// The layer of the image of container `id` that `file` means; see
    /// [`Wanted`](crate::image::manifest::Wanted) for `own`. Where `image`, a digest, is given, the image
    /// must be that one.
    ///
    /// # Errors
    /// `missing` when there is none, and what is wrong with the image.
    pub(super) async fn find(
        &self,
        id: &str,
        file: &str,
        own: Option<&str>,
        image: Option<&str>,
        mut missing: Failure,
    ) -> Result<Layer, Error> {
        let image = image.unwrap_or(ANY);
        let arguments = ["find", &self.address, &self.namespace, id, image, file];
        let child = Child::start(in_role("layer").args(arguments).args(own), None)?;
        let ended = tokio::time::timeout(PATIENCE, child.ended(MAX_ANSWER)).await;
        let answer = match ended {
            Ok(ended) => {
                let ended = ended?;
                serde_json::from_str(&ended.output).map_err(|_| ended.why())
            }
            Err(_) => Err("nobody answered in time".into()),
        };
        let why = match answer {
            Ok(Answer::Layer { image, digest, size }) => match Digest::parse(&digest) {
                Some(digest) => return Ok(Layer { digest, size, image }),
                None => Some(format!("bad digest {digest}")),
            },
            Ok(Answer::Unusable(words)) => {
                return Err(Failure::new(Reason::Unusable, words).into());
            }
            Ok(Answer::Nothing(why)) => why,
            Err(why) => Some(why),
        };
        if let Some(why) = why {
            let words = format!("{}; nor is it a layer of the image: {why}", missing.words);
            missing = Failure::new(missing.reason, words);
        }
        Err(missing.into())
    }

    /// Has the content of `layer` written to a pipe, whose other end this gives. Who reads it must
    /// check that it is whole.
    ///
    /// # Errors
    /// When there can be no child.
    pub(super) fn read(&self, layer: &Layer) -> Result<(OwnedFd, Reading), Error> {
        let (wasm, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        let (digest, size) = (layer.digest.to_string(), layer.size.to_string());
        let arguments = ["read", &self.address, &self.namespace, &digest, &size];
        let child = Child::start(in_role("layer").args(arguments), Some(theirs))?;
        let what = format!("image {}: its layer sha256:{digest}", layer.image);
        Ok((wasm, Reading { child, what }))
    }
}

impl Reading {
    /// Why the layer could not be read. Waits for the end of that.
    ///
    /// # Errors
    /// When its child cannot be watched.
    pub async fn failed(self) -> io::Result<Option<String>> {
        let ended = self.child.ended(0).await?;
        Ok(match ended.status.success() {
            true => None,
            false => Some(format!("{}: {}", self.what, ended.why())),
        })
    }
}
