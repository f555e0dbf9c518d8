//! What the shim and a container's process say to each other before the guest runs. None of it
//! comes from a guest.

use crate::cgroup::Cgroup;
use crate::spec::RootfsPart;
use crate::sys::channel::Channel;
use artifact::engine::Tier;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The most characters that a failure says: it must fit into one message.
const MAX_WORDS: usize = 4096;

/// What a newborn process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seed {
    /// The container's id.
    pub id: String,
    /// Its bundle, whose specification the process reads itself.
    pub bundle: PathBuf,
    /// What its rootfs is mounted from; empty when the plan's folder is it.
    pub rootfs: Vec<RootfsPart>,
    /// The ceiling of its guest's memory, in bytes.
    pub max_guest_memory: Option<u64>,
}

/// What a newborn process executes in a container that is there already.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The container's id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// The pid of its own process on the host.
    pub init: i32,
    /// The ceiling of a guest's memory, in bytes.
    pub max_guest_memory: Option<u64>,
    /// Whether it may be a built-in command.
    pub built_ins: bool,
    /// For one of those, the pids on the host of the processes that there are: in a pid namespace of
    /// its own, the process sees other numbers.
    pub processes: Vec<i32>,
}

/// From the shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToInit {
    /// With three descriptors, the standard streams: become this.
    Become(Seed),
    /// With four descriptors, the standard streams and a file that holds the specification's
    /// `process`: execute that.
    Exec(Order),
    /// Your control group is there; your pid on the host is this. To one that is executed in a
    /// container with a descriptor, the pidfd of the container's own process.
    Go {
        /// The pid.
        pid: i32,
        /// The group to move into.
        cgroup: Cgroup,
    },
    /// The hooks of the host's side have run.
    HooksDone,
    /// With a descriptor: compiled code, of this tier.
    Code(Tier),
    /// Your user namespace has its ids.
    IdsMapped,
    /// Run the guest.
    Start {
        /// The pid, once more.
        pid: i32,
    },
}

/// From the container's process.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// Something could not be kept to the letter; for the log.
    Warning(String),
    /// Namespaces and mounts are there: run the hooks of the host's side.
    Created,
    /// Give me the code compiled from my wasm; with a descriptor where that is a file.
    NeedCode(Need),
    /// Map the ids of my user namespace.
    MapIds,
    /// All is prepared; I wait for Start.
    Ready,
    /// The guest runs from here on; these were my last words.
    Running,
    /// I give up.
    Failed(Failure),
}

/// Which code a container's process needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Need {
    /// What its engine can run, as `artifact::engine::Compatibility` writes it.
    pub engine: String,
    /// The entrypoint, for messages.
    pub word: String,
    /// What it is compiled from.
    pub wasm: Wasm,
    /// The code of this tier that the cache has is damaged.
    pub damaged: Option<Tier>,
}

/// Where wasm is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Wasm {
    /// The descriptor that comes along.
    File {
        /// Its sha256, in hex.
        digest: String,
    },
    /// Perhaps a layer of the image: the rootfs has no such file.
    Layer {
        /// What the layer may be called.
        file: String,
        /// What the container's own is called, to one that is executed in it.
        own: Option<String>,
        /// What it is if there is no such layer either.
        missing: Failure,
    },
}

/// Why a container could not be made.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{words}")]
pub struct Failure {
    /// Whose fault it is.
    pub reason: Reason,
    /// What failed, on what, and what to do.
    pub words: String,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The image lacks what its entrypoint names.
    NotFound,
    /// What the entrypoint names is nothing that this runtime can run.
    Unusable,
    /// The node's owner does not let it run.
    Forbidden,
    /// The host's.
    Internal,
}

impl Failure {
    /// For one reason, in these words.
    pub fn new(reason: Reason, words: impl Into<String>) -> Self {
        let mut words = words.into();
        if let Some((cut, _)) = words.char_indices().nth(MAX_WORDS) {
            words.truncate(cut);
            words.push_str(" ...");
        }
        Self { reason, words }
    }
}

/// Sends one message with its descriptors.
///
/// # Errors
/// When the other side is gone.
pub fn send<T: Serialize>(
    channel: &Channel,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, fds)
}

/// Takes one message with its descriptors.
///
/// # Errors
/// `UnexpectedEof` when the other side is gone.
pub fn receive<T: DeserializeOwned>(channel: &Channel) -> io::Result<(T, Vec<OwnedFd>)> {
    let (bytes, fds) = channel.receive()?;
    Ok((serde_json::from_slice(&bytes)?, fds))
}
