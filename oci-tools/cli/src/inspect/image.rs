//! What an image says about itself, and the module in it.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use artifact::media;
use artifact::module::MAX_WASM;
use serde_json::Value;

use super::layer::{self, normal};
use super::layout::{Descriptor, Layout};

/// As many entries of an index as are looked at, indexes in it included.
const MANIFESTS: usize = 256;

/// How many links are followed to the module.
const LINKS: usize = 8;

/// Where programs are looked for when the image names no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image of which the part for Wasm was chosen.
#[derive(Default)]
pub struct Image {
    /// Its names, as the index gives them.
    pub names: Vec<String>,
    /// `os/architecture` of the chosen part.
    pub platform: String,
    /// The same of all parts.
    pub platforms: Vec<String>,
    /// Digest of the chosen manifest.
    pub manifest: String,
    /// What runs, and its first arguments.
    pub entrypoint: Vec<String>,
    /// Its other arguments.
    pub cmd: Vec<String>,
    /// Its environment, `KEY=VALUE`.
    pub env: Vec<String>,
    /// The folder it starts in.
    pub workdir: String,
    /// The user it runs as; empty for root.
    pub user: String,
    /// The ports that it says it listens on.
    pub ports: Vec<String>,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// Where the module is: a path in the image, or the layer that it is.
    pub module: String,
}

/// A layer of an image.
pub struct Layer {
    /// Its digest, kind and size.
    pub descriptor: Descriptor,
    /// Files in it and their bytes; nothing where it is the module itself.
    pub files: Option<(usize, u64)>,
}

/// A manifest of an index.
struct Part {
    descriptor: Descriptor,
    platform: Option<String>,
    names: Vec<String>,
}

impl Image {
    /// Reads the image in a layout, and its module's bytes.
    pub fn read(layout: &Layout) -> Result<(Self, Vec<u8>)> {
        if !layout.has("index.json") {
            bail!(
                "it is no OCI layout, for it holds no index.json; `docker save` of Docker 25 or later writes one"
            );
        }
        Self::read_of(layout, &layout.document("index.json")?)
    }

    /// The same of an `index` whose blobs are in the layout.
    pub fn read_of(layout: &Layout, index: &Value) -> Result<(Self, Vec<u8>)> {
        let (mut image, _, manifest) = Self::choose(layout, index)?;
        let bytes = image.find(layout, &manifest)?;
        Ok((image, bytes))
    }

    /// What the part for Wasm of `index` says about itself, and its manifest.
    pub fn choose(layout: &Layout, index: &Value) -> Result<(Self, Descriptor, Value)> {
        let mut parts = Vec::new();
        gather(layout, index, &[], &mut parts, &mut 0)?;
        let mut candidates = Vec::new();
        for part in parts {
            let manifest = layout.described(&part.descriptor)?;
            let config = Descriptor::read(&manifest["config"], "the configuration")?;
            let document = layout.described(&config)?;
            let own = format!("{}/{}", word(&document["os"]), word(&document["architecture"]));
            candidates.push((part.platform.clone().unwrap_or(own), part, manifest, document));
        }
        let platforms: Vec<String> = candidates.iter().map(|one| one.0.clone()).collect();
        let is_ours = |platform: &str| {
            matches!(platform, "wasi/wasm" | "wasip1/wasm" | "wasip2/wasm" | "wasi/wasm32")
        };
        let chosen = candidates
            .iter()
            .position(|one| is_ours(&one.0))
            .or_else(|| candidates.iter().position(|one| is_compat(&one.2)));
        let Some(chosen) = chosen else {
            bail!("no part of it is for wasi/wasm; it has {}", platforms.join(", "));
        };
        let (platform, part, manifest, config) = candidates.swap_remove(chosen);
        let mut image = Self {
            names: part.names,
            platform,
            platforms,
            manifest: part.descriptor.digest.clone(),
            ..Self::default()
        };
        image.configure(&config["config"]);
        Ok((image, part.descriptor, manifest))
    }

    fn configure(&mut self, config: &Value) {
        self.entrypoint = words(&config["Entrypoint"]);
        self.cmd = words(&config["Cmd"]);
        self.env = words(&config["Env"]);
        self.workdir = word(&config["WorkingDir"]);
        self.user = word(&config["User"]);
        self.ports = config["ExposedPorts"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(port, _)| port.clone())
            .collect();
    }

    /// Reads the layers for the module.
    fn find(&mut self, layout: &Layout, manifest: &Value) -> Result<Vec<u8>> {
        let layers = layers(manifest)?;
        ensure!(!layers.is_empty(), "it has no layers");
        if let Some(index) = layers.iter().position(|layer| media::is_wasm_layer(&layer.media_type))
        {
            let layer = &layers[index];
            ensure!(layer.size <= MAX_WASM, "its module is larger than {MAX_WASM} bytes");
            let (mut bytes, mut blob) = (Vec::new(), layout.blob(layer)?);
            blob.by_ref().take(MAX_WASM).read_to_end(&mut bytes)?;
            blob.verify()?;
            self.module = format!("layer {} is the module", index + 1);
            self.layers =
                layers.into_iter().map(|descriptor| Layer { descriptor, files: None }).collect();
            return Ok(bytes);
        }
        let candidates = self.candidates()?;
        let mut refused = Vec::new();
        for candidate in &candidates {
            let (mut at, mut links) = (candidate.clone(), 0);
            loop {
                self.layers.clear();
                match self.look(layout, &layers, &at)? {
                    Found::Wasm(bytes) => {
                        self.module = format!("/{}", at.display());
                        return Ok(bytes);
                    }
                    Found::Link(target) if links < LINKS => (at, links) = (target, links + 1),
                    Found::Link(_) => {
                        bail!("/{} is a link that leads to itself", candidate.display())
                    }
                    Found::Other => {
                        refused.push(format!("/{} is not WebAssembly", at.display()));
                        break;
                    }
                    Found::Nothing => break,
                }
            }
        }
        let program = self.program()?;
        if refused.is_empty() {
            bail!("its entrypoint {program:?} is no file in it");
        }
        bail!("its entrypoint {program:?} cannot be used: {}", refused.join(", "));
    }

    fn look(&mut self, layout: &Layout, layers: &[Descriptor], at: &Path) -> Result<Found> {
        let mut found = Found::Nothing;
        for (index, descriptor) in layers.iter().enumerate() {
            let failed = || format!("layer {} ({})", index + 1, descriptor.digest);
            let one = layer_of(layout, descriptor, at).with_context(failed)?;
            if one.removed {
                found = Found::Nothing;
            }
            if let Some(bytes) = one.wasm {
                found = Found::Wasm(bytes);
            } else if let Some(target) = one.link {
                found = Found::Link(target);
            } else if one.other {
                found = Found::Other;
            }
            let files = Some((one.files, one.unpacked));
            self.layers.push(Layer { descriptor: descriptor.clone(), files });
        }
        Ok(found)
    }

    fn program(&self) -> Result<&String> {
        let program = self.entrypoint.iter().chain(&self.cmd).next();
        program.context("it names no program: it has neither entrypoint nor command")
    }

    /// The paths that the program's word may mean, best first.
    fn candidates(&self) -> Result<Vec<PathBuf>> {
        let word = self.program()?;
        let file = word.rsplit_once('#').map_or(word.as_str(), |(file, _)| file);
        let cwd = Path::new("/").join(&self.workdir);
        if file.contains('/') {
            return Ok(vec![normal(&cwd.join(file))]);
        }
        let path = self.env.iter().rev().find_map(|pair| pair.strip_prefix("PATH="));
        let folders = path.unwrap_or(DEFAULT_PATH).split(':').filter(|folder| !folder.is_empty());
        let all = folders.take(LINKS * 4).map(|folder| cwd.join(folder).join(file));
        Ok(all.chain([cwd.join(file)]).map(|path| normal(&path)).collect())
    }
}

/// The layers of a manifest, the lowest first.
pub fn layers(manifest: &Value) -> Result<Vec<Descriptor>> {
    let layers = manifest["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(layers.len() <= MANIFESTS, "it has more than {MANIFESTS} layers");
    layers.iter().map(|layer| Descriptor::read(layer, "a layer")).collect()
}

enum Found {
    Nothing,
    Wasm(Vec<u8>),
    Link(PathBuf),
    Other,
}

fn layer_of(layout: &Layout, descriptor: &Descriptor, at: &Path) -> Result<layer::Layer> {
    let mut blob = layout.blob(descriptor)?;
    let layer = layer::read(layer::unpacked(&mut blob, &descriptor.media_type)?, at)?;
    blob.verify()?;
    Ok(layer)
}

/// The manifests of an index and of the indexes in it.
fn gather(
    layout: &Layout,
    index: &Value,
    names: &[String],
    parts: &mut Vec<Part>,
    seen: &mut usize,
) -> Result<()> {
    let entries = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(!entries.is_empty(), "its index is empty");
    for entry in entries {
        *seen += 1;
        ensure!(*seen <= MANIFESTS, "its index has more than {MANIFESTS} parts");
        let descriptor = Descriptor::read(entry, "a part of its index")?;
        let mut names = names.to_vec();
        let annotation = |key: &str| entry["annotations"][key].as_str().map(str::to_owned);
        names.extend(annotation(media::ANNOTATION_IMAGE_NAME));
        // As docker and containerd write beside an image's own: what they know of how it was built.
        if annotation("vnd.docker.reference.type").is_some() {
            continue;
        }
        if let Some(known) =
            parts.iter_mut().find(|part| part.descriptor.digest == descriptor.digest)
        {
            names.retain(|name| !known.names.contains(name));
            known.names.extend(names);
            continue;
        }
        if descriptor.media_type == media::INDEX
            || descriptor.media_type.ends_with("manifest.list.v2+json")
        {
            // A document cannot hold its own digest, so this ends.
            gather(layout, &layout.described(&descriptor)?, &names, parts, seen)?;
            continue;
        }
        let platform = &entry["platform"];
        let platform = platform
            .is_object()
            .then(|| format!("{}/{}", word(&platform["os"]), word(&platform["architecture"])));
        parts.push(Part { descriptor, platform, names });
    }
    Ok(())
}

/// Whether a manifest for Linux says that it holds WebAssembly all the same.
fn is_compat(manifest: &Value) -> bool {
    let annotations = &manifest["annotations"];
    annotations[media::ANNOTATION_COMPAT].as_str().is_some_and(|value| value.starts_with("compat"))
        || annotations[media::ANNOTATION_CRUN_HANDLER].as_str() == Some("wasm")
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn words(value: &Value) -> Vec<String> {
    let words = value.as_array().into_iter().flatten();
    words.filter_map(Value::as_str).map(str::to_owned).collect()
}
