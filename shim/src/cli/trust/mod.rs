//! Whom this node trusts: for images, and for compiled code.
//!
//! `trust image ADDRESS NAMESPACE CONTAINER`, with rules on standard input, says on standard output who
//! has signed the container's image, or fails. `fetch` asks registries, for this role and for
//! `compile`; it is confined and believed nothing. Keys are compared here, by root's own processes.

mod fetch;

pub use fetch::run as fetch;

use super::layer::{Connection, container};
use crate::launch::{FORBIDDEN, Signed, in_role, way_to_registries};
use artifact::cache::DEFAULT_ROOT;
use registry::Digest;
use std::fmt::Display;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use trust::image::{Found, Signature, Unsigned, signer};
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
    let sets: Vec<Vec<Rule>> = serde_json::from_reader(io::stdin().lock()).map_err(internal)?;
    let image = image_of(address, namespace, container)
        .map_err(|why| Refusal::Forbidden(format!("only signed images run here, and {why}")))?;
    let mut signatures = Signatures::of(&image);
    let signers = sets.iter().map(|rules| signatures.checked(rules));
    let signers = signers.collect::<Result<Vec<_>, _>>().map_err(|why| {
        let Image { name, digest } = &image;
        Refusal::Forbidden(format!("image {name} ({digest}) must not run here: {why}"))
    })?;
    let words = format!("{} is signed by the owner of {}", image.name, signers.join(" and "));
    let answer = Signed { image: image.digest.to_string(), words };
    serde_json::to_writer(io::stdout().lock(), &answer).map_err(internal)
}

/// The signatures of an image: those that this node keeps, and those of the registry if they are needed.
struct Signatures<'a> {
    image: &'a Image,
    kept: Kept,
    known: Vec<Signature>,
    /// What the registry has, as far as it was asked.
    fetched: Vec<Signature>,
    /// What of it was not asked for yet, in the words of `fetch`.
    left: &'static [&'static str],
    /// Why there may be more.
    trouble: Option<String>,
}

impl<'a> Signatures<'a> {
    fn of(image: &'a Image) -> Self {
        let kept = Kept::at(&Path::new(DEFAULT_ROOT).with_file_name("signatures"));
        let known = kept.get(&image.digest);
        let left = &["signatures", "bundles"];
        Self { image, kept, known, fetched: Vec::new(), left, trouble: None }
    }

    /// The key of the rule for the image, whose owner has signed it; else why it must not run.
    fn checked(&mut self, rules: &[Rule]) -> Result<String, String> {
        let Image { name, digest } = self.image;
        let rule = policy::rule(rules, policy::repository(name))
            .ok_or("SignedImages has no entry for it")?;
        if let Ok((key, _)) = signer(&self.known, digest, &rule.keys) {
            return Ok(key.name().to_owned());
        }
        let (key, signature) = loop {
            match (signer(&self.fetched, digest, &rule.keys), self.left.split_first()) {
                (Ok((key, signature)), _) => break (key.name().to_owned(), signature.clone()),
                (Err(_), Some((what, left))) => {
                    self.left = left;
                    self.ask(what);
                }
                (Err(why), None) => return Err(self.refusal(&why, rule)),
            }
        };
        // What nobody here trusts is not kept.
        self.known.push(signature);
        if let Err(e) = self.kept.put(digest, &self.known) {
            eprintln!("the signature of {name} cannot be kept: {e}");
        }
        Ok(key)
    }

    /// Asks the registry. If it cannot be asked, nothing else is asked either.
    fn ask(&mut self, what: &str) {
        let answer = asked(&[what, &self.image.name, self.image.digest.as_str()])
            .and_then(|json| serde_json::from_slice::<Found>(&json).map_err(|e| e.to_string()));
        match answer {
            Ok(found) => {
                self.fetched.extend(found.signatures);
                self.trouble = found.trouble;
            }
            Err(e) => {
                self.left = &[];
                self.trouble = Some(e);
            }
        }
    }

    fn refusal(&self, why: &Unsigned, rule: &Rule) -> String {
        let trouble = match (&self.trouble, why) {
            (Some(trouble), Unsigned::None) => {
                return format!("its signature cannot be fetched: {trouble}");
            }
            (Some(trouble), _) => format!(", as far as can be seen: {trouble}"),
            (None, _) => String::new(),
        };
        let keys: Vec<_> = rule.keys.iter().map(trust::key::PublicKey::name).collect();
        let (images, keys) = (&rule.images, keys.join(", "));
        format!("{why}{trouble} (SignedImages for {images}: {keys}); `wasm-image sign` signs it")
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
        (false, _) if status.signal() == Some(libc::SIGALRM) => {
            Err("the registry does not answer in time".to_owned())
        }
        (false, _) if said.is_empty() => Err(format!("what asks the registry ended with {status}")),
        (false, _) => Err(said.trim().to_owned()),
    }
}

/// The role `fetch`, with pipes for its output.
pub fn command(order: &[&str]) -> Command {
    let mut command = in_role("fetch");
    command.args(order).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(way_to_registries());
    command
}
