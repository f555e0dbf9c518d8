//! `wasm-image keygen`, `sign` and `verify`: who vouches for an image.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use registry::{Access, Descriptor, Repository};
use serde_json::json;
use trust::bundle;
use trust::image::{self, Signature};
use trust::key::{PrivateKey, PublicKey};

use crate::cli::{Format, KeygenArgs, SignArgs, VerifyArgs};
use crate::reference::Reference;
use crate::transfer::{Network, say, send_bytes, wait};

/// How often a signature is put again that somebody else has written over meanwhile.
const TRIES: usize = 5;

/// Makes a pair of keys.
pub fn keygen(args: &KeygenArgs) -> Result<()> {
    let at = |end: &str| {
        let mut path = args.name.clone().into_os_string();
        path.push(end);
        PathBuf::from(path)
    };
    let (private, public) = (at(".key"), at(".pub"));
    let text = PrivateKey::generate()?;
    let key = PrivateKey::parse("the new key", text.as_bytes())?;
    write(&private, &text, 0o600)?;
    if let Err(error) = write(&public, &key.public("").pem(), 0o644) {
        // A pair or nothing: a key of another pair may lie there.
        let _ = fs::remove_file(&private);
        return Err(error);
    }
    let (private, public) = (private.display(), public.display());
    say(&format!(
        "{private} signs: keep it to yourself\n{public} checks: give it to those who shall trust you\n"
    ))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut options = OpenOptions::new();
    // A key that is lost cannot be made again.
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = file.with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Signs an image.
pub fn sign(args: &SignArgs) -> Result<()> {
    let key = PrivateKey::read(&args.key)?;
    let public = key.public(&args.key.display().to_string());
    let network = Network::new(&args.network);
    wait(async {
        let repository = network.repository(&args.image, Access::Push)?;
        let root = root(&repository, &args.image).await?;
        let name = format!("{}/{}", args.image.domain(), args.image.path());
        let keys = [public];
        let signature = Signature::new(&key, &name, &root.digest)?;
        let mut there = true;
        // Nobody keeps two from signing at the same time, so it is looked at again.
        let mut signatures = image::fetch(&repository, &root.digest).await?;
        for _ in 0..TRIES {
            if image::signer(&signatures, &root.digest, &keys).is_ok() {
                break;
            }
            if signatures.len() >= image::MAX_SIGNATURES {
                bail!("{name}@{} has {} signatures already", root.digest, signatures.len());
            }
            there = false;
            let before = image::there(&repository, &root.digest).await?;
            let before = before.as_ref().map(|fetched| fetched.bytes.as_ref());
            let artifact = image::artifact(before, &signature);
            for (blob, content) in &artifact.blobs {
                send_bytes(&repository, blob, content).await?;
            }
            let (tag, manifest) = (image::tag(&root.digest), artifact.manifest.into());
            repository.put_document(&tag, &artifact.descriptor, manifest).await?;
            signatures = image::fetch(&repository, &root.digest).await?;
        }
        image::signer(&signatures, &root.digest, &keys).map_err(|why| {
            anyhow::anyhow!("{name}@{}: others sign it all the time: {why}", root.digest)
        })?;
        let word = if there { "was signed before" } else { "signed" };
        say(&match args.format {
            Format::Text => format!("{name}@{} {word} with {}\n", root.digest, args.key.display()),
            Format::Json => format!(
                "{:#}\n",
                json!({ "name": name, "digest": root.digest, "signatures": signatures.len(), "new": !there })
            ),
        })
    })
}

/// Looks for a signature of one of the keys.
pub fn verify(args: &VerifyArgs) -> Result<()> {
    let keys = args.keys.iter().map(|path| PublicKey::read(path));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let network = Network::new(&args.network);
    wait(async {
        let repository = network.repository(&args.image, Access::Pull)?;
        let root = root(&repository, &args.image).await?;
        let name = format!("{}/{}@{}", args.image.domain(), args.image.path(), root.digest);
        let mut signatures = image::fetch(&repository, &root.digest).await?;
        let mut trouble = None;
        if image::signer(&signatures, &root.digest, &keys).is_err() {
            match bundle::fetch(&repository, &root.digest).await {
                Ok(found) => {
                    signatures.extend(found.signatures);
                    trouble = found.trouble;
                }
                Err(e) => trouble = Some(e.to_string()),
            }
        }
        let key = match image::signer(&signatures, &root.digest, &keys) {
            Ok((key, _)) => key.name(),
            Err(why) => match trouble {
                Some(trouble) => bail!("{name}: {why}, as far as can be seen: {trouble}"),
                None => bail!("{name}: {why}"),
            },
        };
        say(&match args.format {
            Format::Text => format!("{name} is signed by the owner of {key}\n"),
            Format::Json => format!("{:#}\n", json!({ "image": name, "key": key })),
        })
    })
}

/// What the name of an image stands for in its registry.
pub async fn root(repository: &Repository, image: &Reference) -> Result<Descriptor> {
    Ok(repository.document(image.tag_or_digest()).await?.descriptor)
}
