//! Whom this node trusts: for images, and for compiled code.
//!
//! `trust image ADDRESS NAMESPACE CONTAINER`, with rules on standard input, says on standard output who
//! has signed the container's image, or fails. `fetch` asks registries, for this role and for
//! `compile`; it is confined and believed nothing. Keys are compared here, by root's own processes.

mod fetch;

pub use fetch::run as fetch;

use super::layer::{Connection, container};
use crate::launch::{FORBIDDEN, in_role, is_proxy};
use artifact::cache::DEFAULT_ROOT;
use registry::Digest;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use trust::image::{Signature, signer};
use trust::kept::Kept;
use trust::policy::{self, Rule};

/// The most that a document of `fetch` has, in bytes.
const MAX_ANSWER: u64 = 8 << 20;

/// The image of a container.
pub struct Image {
    /// Its name.
    pub name: String,
    /// What the name stands for.
    pub digest: Digest,
}

/// Why an image does not run.
enum Refusal {
    /// The rules.
    Forbidden(String),
    /// Something that is no matter of the image's.
    Internal(String),
}

pub fn run(order: &[&str]) -> ExitCode {
    let done = match *order {
        ["image", address, namespace, container] => image(address, namespace, container),
        _ => Err(internal("usage: trust image ADDRESS NAMESPACE CONTAINER <RULES")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refusal::Forbidden(why)) => {
            eprintln!("{why}");
            ExitCode::from(FORBIDDEN as u8)
        }
        Err(Refusal::Internal(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn internal(error: impl Display) -> Refusal {
    Refusal::Internal(error.to_string())
}

fn image(address: &str, namespace: &str, container: &str) -> Result<(), Refusal> {
    let rules: Vec<Rule> = serde_json::from_reader(io::stdin().lock()).map_err(internal)?;
    let image = image_of(address, namespace, container)
        .map_err(|why| Refusal::Forbidden(format!("only signed images run here, and {why}")))?;
    let Image { name, digest } = &image;
    let forbidden = |why: &dyn Display| {
        let words = format!("image {name} ({digest}) must not run here: {why}");
        Err(Refusal::Forbidden(words))
    };
    let Some(rule) = policy::rule(&rules, policy::repository(name)) else {
        return forbidden(&"SignedImages has no entry for it");
    };
    let kept = Kept::at(&Path::new(DEFAULT_ROOT).with_file_name("signatures"));
    let mut signatures = kept.get(digest);
    let mut why = signer(&signatures, digest, &rule.keys);
    let mut unreachable = None;
    if why.is_err() {
        match fetched(&image) {
            Ok(fresh) => {
                signatures = fresh;
                why = signer(&signatures, digest, &rule.keys);
                if why.is_ok()
                    && let Err(e) = kept.put(digest, &signatures)
                {
                    eprintln!("the signatures of {name} cannot be kept: {e}");
                }
            }
            Err(e) => unreachable = Some(e),
        }
    }
    match (why, unreachable) {
        (Ok(key), _) => {
            let said = format!("{name} ({digest}) is signed by the owner of {}", key.name());
            io::stdout().write_all(said.as_bytes()).map_err(internal)
        }
        (Err(_), Some(e)) => forbidden(&format!("its signature cannot be fetched: {e}")),
        (Err(why), None) => forbidden(&format!(
            "{why} (SignedImages for {}: {}); `wasm-image sign` signs it",
            rule.images,
            rule.keys.iter().map(trust::key::PublicKey::name).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// The image of a container, by containerd's word.
///
/// # Errors
/// When it does not say.
pub fn image_of(address: &str, namespace: &str, id: &str) -> Result<Image, String> {
    let mut containerd = Connection::open(address)?.speak(namespace).map_err(|e| e.to_string())?;
    let (name, target) = container::image(&mut containerd, id)?;
    let digest = target.digest.parse().map_err(|e: registry::BadDigest| e.to_string())?;
    Ok(Image { name, digest })
}

fn fetched(image: &Image) -> Result<Vec<Signature>, String> {
    let json = asked(&["signatures", &image.name, image.digest.as_str()])?;
    serde_json::from_slice(&json).map_err(|e| e.to_string())
}

/// What the role `fetch` answers.
///
/// # Errors
/// When it does not, in its words.
pub fn asked(order: &[&str]) -> Result<Vec<u8>, String> {
    let mut child = command(order).spawn().map_err(|e| e.to_string())?;
    let (mut answer, mut said) = (Vec::new(), String::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = stdout.map_or(Ok(0), |out| out.take(MAX_ANSWER).read_to_end(&mut answer));
    let heard = stderr.map_or(Ok(0), |err| err.take(4096).read_to_string(&mut said));
    let status = child.wait().map_err(|e| e.to_string())?;
    match (status.success(), read.and(heard)) {
        (true, Ok(_)) => Ok(answer),
        (true, Err(e)) => Err(e.to_string()),
        (false, _) if said.is_empty() => Err(format!("what asks the registry ended with {status}")),
        (false, _) => Err(said.trim().to_owned()),
    }
}

/// The role `fetch`, with pipes for its output.
pub fn command(order: &[&str]) -> Command {
    let mut command = in_role("fetch");
    command.args(order).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(std::env::vars_os().filter(|(name, _)| is_proxy(name)));
    command
}
