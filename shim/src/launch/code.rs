//! Compiled code for a container: from the node's cache, or from a compile child when it is not
//! there yet. The shim itself never compiles.
//!
//! A big module's first start takes baseline code, which is made quickly; optimized code is made in
//! the background then, and taken by later starts.

use super::Error;
use super::compiler::{Compiling, Work};
use super::layer::{Containerd, Layer};
use super::out_of_order;
use crate::init::{self, Failure, Need, Reason};
use artifact::cache::{self, Cache};
use artifact::digest::Digest;
use artifact::engine::{Compatibility, Tier};
use serde::Deserialize;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use trust::key::PublicKey;

/// Up to this many bytes of wasm, optimized code is made at once: nobody waits long for it.
const SMALL: u64 = 64 * 1024;

/// How often code is made that leaves the cache at once.
const TRIES: u32 = 3;

/// Which code containers run, as the owner of a node chooses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compiler {
    /// Baseline code until there is optimized code.
    #[default]
    Tiered,
    /// Optimized code; the first start of a module waits for it.
    Optimized,
    /// Baseline code, but for modules that its compiler does not know all of.
    Baseline,
}

/// What the owner of a node chooses of code.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Which code containers run.
    pub compiler: Compiler,
    /// How much of it is kept, in bytes.
    pub max_cache: u64,
    /// Code that one of these has signed is taken in place of a compiler's.
    pub keys: Vec<PublicKey>,
    /// The only image that a layer may be of, where that was checked: its digest.
    pub image: Option<String>,
}

/// Where code comes from.
#[derive(Clone)]
pub struct Code {
    root: PathBuf,
    containerd: Option<Containerd>,
}

/// Code that a container can run.
pub struct Found {
    /// The entry of the cache.
    pub file: File,
    /// Which compiler made it.
    pub tier: Tier,
}

/// What a container needs, understood.
struct Wanted<'a> {
    id: &'a str,
    word: &'a str,
    digest: Digest,
    engine: Compatibility,
    wasm: Wasm<'a>,
    choice: &'a Choice,
}

enum Wasm<'a> {
    File(File),
    Layer(&'a Containerd, Layer),
}

impl Code {
    /// From the cache at `root`; of layers that are wasm, `containerd` tells, if there is one.
    pub fn new(root: PathBuf, containerd: Option<Containerd>) -> Self {
        Self { root, containerd }
    }

    /// Who tells of images, if anybody does.
    pub(super) fn containerd(&self) -> Option<&Containerd> {
        self.containerd.as_ref()
    }

    /// The code that `need` asks for, compiled from the file `wasm` or a layer; made now if it has to
    /// be. Concurrent calls on this node compile once.
    pub(super) async fn get(
        &self,
        id: &str,
        need: Need,
        wasm: Option<OwnedFd>,
        choice: &Choice,
    ) -> Result<Found, Error> {
        let Need { engine, word, wasm: source, damaged } = need;
        let (digest, wasm) = match source {
            init::Wasm::File { digest } => {
                let file = wasm.ok_or_else(out_of_order)?.into();
                let bad = || internal(format!("bad digest {digest}"));
                (Digest::parse(&digest).ok_or_else(bad)?, Wasm::File(file))
            }
            init::Wasm::Layer { file, own, missing } => {
                let Some(containerd) = &self.containerd else {
                    return Err(missing.into());
                };
                let layer = containerd
                    .find(id, &file, own.as_deref(), choice.image.as_deref(), missing)
                    .await?;
                (layer.digest, Wasm::Layer(containerd, layer))
            }
        };
        let wanted = Wanted {
            id,
            word: &word,
            digest,
            engine: Compatibility::parse(&engine)
                .ok_or_else(|| internal(format!("bad engine {engine}")))?,
            wasm,
            choice,
        };
        if let Some(tier) = damaged {
            log::warn!("{id}: the {tier} code of {word} is damaged, another is made");
            self.cache(&wanted, tier)?.remove(&wanted.digest).map_err(broken)?;
            for cache in self.signed(&wanted).filter(|_| tier == Tier::Optimized) {
                cache?.remove(&wanted.digest).map_err(broken)?;
            }
        }
        let mut tries = 0;
        let found = loop {
            if let Some(found) = self.find(&wanted)? {
                break found;
            }
            // In a cache that is too small for what is made at the same time, others push it out.
            tries += 1;
            if tries > TRIES {
                return Err(internal(format!(
                    "the code of {word} left the cache as it was made; MaxCodeCache may be too low"
                ))
                .into());
            }
            log::info!("{id}: compiling {word} (sha256:{digest})");
            self.compile(&wanted).await?;
        };
        if (choice.compiler, found.tier) == (Compiler::Tiered, Tier::Baseline) {
            self.optimize(&wanted).await?;
        }
        log::info!("{id}: {word} (sha256:{digest}) runs {} code", found.tier);
        Ok(found)
    }

    fn cache(&self, wanted: &Wanted<'_>, tier: Tier) -> Result<Cache, Failure> {
        Cache::open(&self.root, &wanted.engine, tier).map_err(broken)
    }

    /// The caches of code that the keys of the node's owner have signed.
    fn signed<'a>(
        &'a self,
        wanted: &'a Wanted<'_>,
    ) -> impl Iterator<Item = Result<Cache, Failure>> + 'a {
        let keys = match wanted.choice.compiler {
            Compiler::Baseline => &[],
            _ => wanted.choice.keys.as_slice(),
        };
        keys.iter().map(|key| Cache::signed(&self.root, &wanted.engine, &key.id()).map_err(broken))
    }

    /// The best that the cache has of what is wanted.
    fn find(&self, wanted: &Wanted<'_>) -> Result<Option<Found>, Failure> {
        let of = |tier| {
            let found = self.cache(wanted, tier)?.get(&wanted.digest).map_err(broken)?;
            Ok(found.map(|file| Found { file, tier }))
        };
        for cache in self.signed(wanted) {
            if let Some(file) = cache?.get(&wanted.digest).map_err(broken)? {
                return Ok(Some(Found { file, tier: Tier::Optimized }));
            }
        }
        match wanted.choice.compiler {
            Compiler::Optimized => of(Tier::Optimized),
            Compiler::Tiered => match of(Tier::Optimized)? {
                Some(found) => Ok(Some(found)),
                None => of(Tier::Baseline),
            },
            Compiler::Baseline => match of(Tier::Baseline)? {
                Some(found) => Ok(Some(found)),
                None if self.cache(wanted, Tier::Baseline)?.note(&wanted.digest).is_some() => {
                    of(Tier::Optimized)
                }
                None => Ok(None),
            },
        }
    }

    /// Makes what is wanted, and waits for it.
    async fn compile(&self, wanted: &Wanted<'_>) -> Result<(), Error> {
        let tier = match wanted.choice.compiler {
            Compiler::Optimized => Tier::Optimized,
            Compiler::Baseline => Tier::Baseline,
            Compiler::Tiered if wanted.wasm.size()? <= SMALL => Tier::Optimized,
            Compiler::Tiered => Tier::Baseline,
        };
        self.start(Work::Now(tier), wanted)?.ended(wanted.word).await
    }

    /// Has optimized code made in the background, unless that is known to be in vain. What goes wrong
    /// with it is no matter to the container.
    async fn optimize(&self, wanted: &Wanted<'_>) -> Result<(), Error> {
        let Wanted { id, word, digest, .. } = wanted;
        if let Some(why) = self.cache(wanted, Tier::Optimized)?.note(digest) {
            log::info!("{id}: no optimized code of {word}, nor is it tried again yet: {why}");
            return Ok(());
        }
        let begun = match self.start(Work::InBackground, wanted) {
            Ok(background) => background.alone().await,
            Err(e) => Err(e),
        };
        if let Err(e) = begun {
            log::warn!("{id}: cannot optimize {word} in the background: {e}");
        }
        Ok(())
    }

    fn start(&self, work: Work, wanted: &Wanted<'_>) -> Result<Compiling, Error> {
        let (wasm, reading) = match &wanted.wasm {
            Wasm::File(file) => (file.try_clone()?.into(), None),
            Wasm::Layer(containerd, layer) => {
                let (wasm, reading) = containerd.read(layer)?;
                (wasm, Some(reading))
            }
        };
        let Choice { compiler, max_cache, keys, .. } = wanted.choice;
        let trusted = match (&work, &self.containerd) {
            (Work::Now(_), Some(containerd))
                if !keys.is_empty() && *compiler != Compiler::Baseline =>
            {
                Some(containerd.trusted(wanted.id, keys)?)
            }
            _ => None,
        };
        Compiling::start(work, &self.root, *max_cache, &wanted.digest, trusted, wasm, reading)
    }
}

impl Wasm<'_> {
    /// In bytes.
    fn size(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Layer(_, layer) => Ok(layer.size),
        }
    }
}

fn internal(words: String) -> Failure {
    Failure::new(Reason::Internal, words)
}

fn broken(error: cache::Error) -> Failure {
    internal(error.to_string())
}
