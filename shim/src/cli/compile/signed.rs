//! Code that somebody else has compiled, from beside the container's image in its registry. It counts
//! if a key that this node's owner trusts has signed it, for this very wasm and for an engine as this
//! one is; else it is as if it were not there.

use super::{Error, Job, internal};
use crate::cli::trust::{Image, asked, command, image_of};
use crate::launch::{NOTE, Trusted};
use artifact::cache::{Cache, Lock};
use artifact::digest::{Digest, Hasher};
use artifact::engine::{self, Compatibility, Target};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use trust::code::{Offer, Statement};
use trust::key::PublicKey;

/// How much is read at once, in bytes.
const PIECE: usize = 64 << 10;

/// How long it is remembered that there is none: until then starts do not wait for the registry.
const NONE: Duration = Duration::from_secs(600);

/// How long it may all take before the rest is given up; what is on its way then goes on to its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts code of that kind into the cache, if there is some; what came of it is noted on standard error.
///
/// # Errors
/// When the cache fails.
pub fn take(job: &Job<'_>, trusted: &Trusted<'_>) -> Result<bool, Error> {
    let caches = caches(job, &trusted.keys)?;
    // All of one order, so that nobody waits for somebody who waits for him.
    let locks = caches.values().map(|cache| cache.lock(&job.digest));
    let locks: Vec<_> = locks.collect::<Result<_, _>>()?;
    for cache in caches.values() {
        if cache.get(&job.digest)?.is_some() {
            return Ok(true);
        }
    }
    if caches.values().all(|cache| cache.note(&job.digest).is_some()) {
        return Ok(false);
    }
    let why = match find(job, trusted, &caches, &locks)? {
        Ok(from) => {
            eprintln!("{NOTE}takes code {from}");
            return Ok(true);
        }
        Err(why) => why,
    };
    eprintln!("{NOTE}{why}");
    for cache in caches.values() {
        cache.set_note(&job.digest, &why, NONE)?;
    }
    Ok(false)
}

/// The caches of code that the owners of `keys` have signed, by the keys' names.
fn caches(job: &Job<'_>, keys: &[PublicKey]) -> Result<BTreeMap<String, Cache>, Error> {
    let ids = keys.iter().map(PublicKey::id);
    let of = |id: String| Ok((id.clone(), Cache::signed(job.root, &job.compatibility, &id)?));
    ids.map(of).collect()
}

/// Says of what kind the code is that is in the cache then, or why there is none.
fn find(
    job: &Job<'_>,
    trusted: &Trusted<'_>,
    caches: &BTreeMap<String, Cache>,
    locks: &[Lock],
) -> Result<Result<String, String>, Error> {
    let begun = Instant::now();
    let found = image_of(&trusted.address, &trusted.namespace, &trusted.container)
        .and_then(|image| Ok((offers(job, &image)?, image)));
    let (offers, image) = match found {
        Ok(found) => found,
        Err(why) => return Ok(Err(format!("no signed code: {why}"))),
    };
    let mut ignored = Vec::new();
    for Candidate { offer, statement, key } in usable(job, trusted, &offers, &mut ignored) {
        if begun.elapsed() > PATIENCE {
            ignored.push("it takes too long".to_owned());
            break;
        }
        let id = key.id();
        let place = caches.get(&id).zip(caches.keys().position(|other| *other == id));
        let Some((cache, lock)) = place.and_then(|(cache, at)| Some((cache, locks.get(at)?)))
        else {
            continue;
        };
        let made = cache.put(&job.digest, lock, |file| {
            fetch(&image, offer, &statement, file)?;
            engine::check_code(file.as_raw_fd()).map_err(|e| Error::Unusable(format!("{e:#}")))
        });
        match made {
            Ok(_) => {
                cache.evict(job.max_cache)?;
                let (target, name, key) = (&statement.target, &image.name, key.name());
                return Ok(Ok(format!("for {target} from {name}, signed by the owner of {key}")));
            }
            Err(e) => ignored.push(e.to_string()),
        }
    }
    ignored.dedup();
    let why = if ignored.is_empty() { "there is none".to_owned() } else { ignored.join("; ") };
    Ok(Err(format!("no signed code of {} is of use here: {why}", image.name)))
}

fn offers(job: &Job<'_>, image: &Image) -> Result<Vec<Offer>, String> {
    let wasm = format!("sha256:{}", job.digest);
    let json = asked(&["code", &image.name, image.digest.as_str(), &wasm])?;
    serde_json::from_slice(&json).map_err(|e| e.to_string())
}

struct Candidate<'a> {
    offer: &'a Offer,
    statement: Statement,
    key: &'a PublicKey,
}

/// What of `offers` a trusted key has signed for this wasm and this machine, the best first.
fn usable<'a>(
    job: &Job<'_>,
    trusted: &'a Trusted<'_>,
    offers: &'a [Offer],
    ignored: &mut Vec<String>,
) -> Vec<Candidate<'a>> {
    let mut signed = Vec::new();
    for offer in offers {
        match offer.signed.open(&trusted.keys) {
            Ok((statement, _)) if statement.wasm.hex() != job.digest.to_string() => {
                ignored.push("it is of other wasm".to_owned());
            }
            Ok((statement, key)) => signed.push(Candidate { offer, statement, key }),
            Err(why) => ignored.push(why.to_string()),
        }
    }
    let mut usable = Vec::new();
    for target in Target::ALL.into_iter().filter(|target| target.is_here()) {
        if !signed.iter().any(|one| one.statement.target == target.to_string()) {
            continue;
        }
        let Ok(engine) = target.engine() else { continue };
        let engine = Compatibility::of(&engine).to_string();
        let (here, others): (Vec<_>, Vec<_>) = signed.into_iter().partition(|one| {
            one.statement.target == target.to_string() && one.statement.engine == engine
        });
        usable.extend(here);
        signed = others;
    }
    ignored.extend(signed.iter().map(|one| {
        let Statement { target, engine, .. } = &one.statement;
        format!(
            "code for {target} and engine {engine}, which this one is not, signed by {}",
            one.key.name()
        )
    }));
    usable
}

/// Writes the code to `file`. Nobody else has a descriptor of it, so what was checked stays.
fn fetch(image: &Image, offer: &Offer, statement: &Statement, file: &File) -> Result<(), Error> {
    let blob = &offer.blob;
    let (digest, size) = (blob.digest.as_str(), blob.size.to_string());
    let unpacked = statement.size.to_string();
    let lost = |e: io::Error| Error::Unusable(format!("the code cannot be fetched: {e}"));
    let mut child =
        command(&["blob", &image.name, digest, &size, &unpacked]).spawn().map_err(lost)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let copied = stdout.map_or_else(
        || Err(io::ErrorKind::BrokenPipe.into()),
        |out| copy(out.take(statement.size + 1), file),
    );
    let mut said = String::new();
    let _ = stderr.map(|err| err.take(4096).read_to_string(&mut said));
    let status = child.wait().map_err(lost)?;
    let (size, digest) = copied.map_err(internal)?;
    if !status.success() {
        let why = if said.is_empty() { status.to_string() } else { said.trim().to_owned() };
        return Err(Error::Unusable(format!("the code cannot be fetched: {why}")));
    }
    if (size, digest.to_string().as_str()) != (statement.size, statement.code.hex()) {
        return Err(Error::Unusable("the registry does not send the code that was signed".into()));
    }
    Ok(())
}

fn copy(mut from: impl Read, mut to: &File) -> io::Result<(u64, Digest)> {
    let (mut hash, mut piece, mut size) = (Hasher::default(), vec![0; PIECE], 0);
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return Ok((size, hash.finish()));
        }
        hash.update(&piece[..length]);
        to.write_all(&piece[..length])?;
        size += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trust::code::{ARTIFACT, layer};
    use trust::key::PrivateKey;

    #[test]
    fn code_counts_for_this_wasm_and_an_engine_as_this_one_is_the_best_first() {
        let key = PrivateKey::generate().unwrap();
        let key = PrivateKey::parse("key", key.as_bytes()).unwrap();
        let wasm = artifact::digest::Digest::of(b"wasm").to_string();
        let job = Job::new("/", "0", &wasm).unwrap();
        let digest = |hex: &str| format!("sha256:{hex}").parse::<registry::Digest>().unwrap();
        let engine = |target: Target| Compatibility::of(&target.engine().unwrap()).to_string();
        let offer = |wasm: &str, target: &str, engine: &str| {
            let statement = Statement {
                kind: ARTIFACT.to_owned(),
                wasm: digest(wasm),
                engine: engine.to_owned(),
                target: target.to_owned(),
                code: digest(wasm),
                size: 1,
            };
            let signed = statement.sign(&key).unwrap();
            Offer { signed, blob: layer(digest(wasm), 1) }
        };
        let (v1, v2) = (engine(Target::V1), engine(Target::V2));
        let offers = [
            offer(&wasm, "x86_64-v1", &v1),
            offer(&wasm, "x86_64-v2", &v2),
            offer(&wasm, "x86_64-v9", &v2),
            offer(&wasm, "x86_64-v2", "0123456789abcdef-1"),
            offer(&wasm, "x86_64-v1", &v2),
            offer(&artifact::digest::Digest::of(b"other").to_string(), "x86_64-v1", &v1),
        ];
        let usable = |keys: Vec<trust::key::PublicKey>| {
            let (address, namespace, container) = Default::default();
            let trusted = Trusted { address, namespace, container, keys: keys.into() };
            let mut ignored = Vec::new();
            let usable = usable(&job, &trusted, &offers, &mut ignored);
            let targets = usable.iter().map(|one| one.statement.target.clone());
            (targets.collect::<Vec<_>>(), ignored)
        };
        let (targets, ignored) = usable(vec![key.public("ours")]);
        assert_eq!(targets, ["x86_64-v2", "x86_64-v1"]);
        let why = ignored.join("\n");
        assert!(why.contains("x86_64-v9") && why.contains("0123456789abcdef-1"), "{why}");
        assert!(why.contains("other wasm") && ignored.len() == 4, "{why}");

        let stranger = PrivateKey::generate().unwrap();
        let stranger = PrivateKey::parse("key", stranger.as_bytes()).unwrap().public("theirs");
        let (targets, ignored) = usable(vec![stranger]);
        assert!(targets.is_empty() && ignored.len() == 6, "{ignored:?}");
    }
}
