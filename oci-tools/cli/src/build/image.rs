//! The documents of an image around its layer, in each of its forms.

use artifact::media;
use artifact::module::{Extern, Kind, Module, World};
use serde_json::{Map, Value, json};

use super::layer::Layer;
use super::layout::{Blob, Content, Layout};
use super::linux::LinuxImage;
use super::modules::Module as Entry;
use super::recipe::{Config, Epoch, Recipe};
use crate::cli::SbomFormat;

/// What is known of an image once its layer is.
pub struct Image {
    /// The digest of its configuration.
    pub config: String,
    /// The digest of its manifest.
    pub manifest: String,
    /// The digest of the index around it, if it has one.
    pub index: Option<String>,
    /// `os` of the platform by which a daemon is asked for it.
    pub os: &'static str,
    /// Platforms of Linux that are beside it in the index.
    pub beside: Vec<String>,
    /// The layer, but for its content.
    pub layer: LayerFacts,
}

/// What is to say of a layer.
pub struct LayerFacts {
    pub digest: String,
    pub diff_id: String,
    /// In bytes.
    pub size: u64,
    pub files: usize,
    /// Bytes of the files.
    pub unpacked: u64,
}

impl Image {
    /// Puts `layer` into an image of the form that `recipe` says, with `linux` beside it, and `sbom`
    /// too if that is an index. All of it is in the layout.
    pub fn new(
        recipe: &Recipe,
        entry: &Entry,
        layer: Layer,
        linux: Vec<LinuxImage>,
        sbom: Option<&[u8]>,
    ) -> (Self, Layout) {
        let form = recipe.form;
        let module = &entry.facts;
        let Layer { content, size, digest, diff_id, files, unpacked } = layer;
        let facts = LayerFacts { digest: digest.clone(), diff_id, size, files, unpacked };
        let layer = Blob { digest, size, content: Content::File(content) };
        let (config, config_type, os) = if form.is_artifact() {
            let os = match module.kind {
                Kind::CoreModule => media::OS_PREVIEW_1,
                Kind::Component => media::OS_PREVIEW_2,
            };
            let document = artifact_document(module, os, &recipe.epoch, &facts.digest);
            (document, media::WASM_CONFIG, os)
        } else {
            let document = config_document(&recipe.config, &recipe.epoch, &facts.diff_id);
            (document, media::CONFIG, media::OS)
        };
        let config = Blob::document(&config);
        let described = if form.is_artifact() {
            let mut described = layer.descriptor(media::WASM_LAYER);
            let title = entry.dest.display().to_string();
            described["annotations"] = json!({ media::ANNOTATION_TITLE: title });
            described
        } else {
            layer.descriptor(media::LAYER_TAR_GZIP)
        };
        let manifest = Blob::document(&json!({
            "schemaVersion": 2,
            "mediaType": media::MANIFEST,
            "config": config.descriptor(config_type),
            "layers": [described],
        }));
        let of = |os: &str| json!({ "os": os, "architecture": media::ARCHITECTURE });
        let mut top = manifest.descriptor(media::MANIFEST);
        top["platform"] = of(if form.is_indexed() { media::OS } else { os });
        let (config_digest, manifest_digest) = (config.digest.clone(), manifest.digest.clone());
        let mut blobs = vec![config, manifest, layer];
        let mut index = None;
        let beside = linux.iter().map(LinuxImage::platform).collect();
        if form.is_indexed() {
            let about = recipe.sbom.as_ref().zip(sbom);
            let about = about.map(|(sbom, content)| referrer(sbom.format, content, &top));
            let mut manifests = vec![top];
            for image in linux {
                manifests.push(image.descriptor);
                blobs.extend(image.blobs);
            }
            if let Some((descriptor, parts)) = about {
                manifests.push(descriptor);
                blobs.extend(parts);
            }
            let document = Blob::document(&json!({
                "schemaVersion": 2,
                "mediaType": media::INDEX,
                "manifests": manifests,
            }));
            top = document.descriptor(media::INDEX);
            index = Some(document.digest.clone());
            blobs.insert(0, document);
        }
        let os = if form.is_indexed() { media::OS } else { os };
        let (config, manifest) = (config_digest, manifest_digest);
        let image = Self { config, manifest, index, os, beside, layer: facts };
        (image, Layout::new(&top, &recipe.names, blobs, recipe.epoch.seconds))
    }
}

/// A list of what is in the image `subject` as an artifact about it, of no platform as docker has
/// those. <https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidelines-for-artifact-usage>
fn referrer(format: SbomFormat, content: &[u8], subject: &Value) -> (Value, Vec<Blob>) {
    let media_type = match format {
        SbomFormat::Spdx => "application/spdx+json",
        SbomFormat::Cyclonedx => "application/vnd.cyclonedx+json",
    };
    let (empty, list) = (Blob::bytes(b"{}".to_vec()), Blob::bytes(content.to_vec()));
    let mut about = subject.clone();
    if let Some(fields) = about.as_object_mut() {
        fields.remove("platform");
    }
    let manifest = Blob::document(&json!({
        "schemaVersion": 2,
        "mediaType": media::MANIFEST,
        "artifactType": media_type,
        "config": empty.descriptor("application/vnd.oci.empty.v1+json"),
        "layers": [list.descriptor(media_type)],
        "subject": about,
    }));
    let mut descriptor = manifest.descriptor(media::MANIFEST);
    descriptor["artifactType"] = media_type.into();
    descriptor["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    (descriptor, vec![manifest, empty, list])
}

/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md>
fn config_document(config: &Config, epoch: &Epoch, diff_id: &str) -> Value {
    let mut process = Map::new();
    let mut set = |key: &str, value: Value, given: bool| {
        if given {
            process.insert(key.into(), value);
        }
    };
    let ports: Map<_, _> = config.expose.iter().map(|port| (port.clone(), json!({}))).collect();
    set("Entrypoint", json!(config.entrypoint), !config.entrypoint.is_empty());
    set("Cmd", json!(config.cmd), !config.cmd.is_empty());
    set("Env", json!(config.env), !config.env.is_empty());
    set("WorkingDir", json!(config.workdir), config.workdir.is_some());
    set("User", json!(config.user), config.user.is_some());
    set("Labels", json!(config.labels), !config.labels.is_empty());
    set("ExposedPorts", ports.into(), !config.expose.is_empty());
    set("StopSignal", json!(config.stop_signal), config.stop_signal.is_some());
    set("Healthcheck", json!(config.healthcheck), config.healthcheck.is_some());
    json!({
        "architecture": media::ARCHITECTURE,
        "os": media::OS,
        "created": epoch.text,
        "config": process,
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": epoch.text, "created_by": "wasm-image build" }],
    })
}

/// <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/#configmediatype-applicationvndwasmconfigv0json>
fn artifact_document(module: &Module, os: &str, epoch: &Epoch, layer: &str) -> Value {
    let mut document = json!({
        "architecture": media::ARCHITECTURE,
        "os": os,
        "created": epoch.text,
        "layerDigests": [layer],
    });
    if module.kind == Kind::Component {
        let names = |externs: &[Extern]| externs.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
        document["component"] =
            json!({ "exports": names(&module.exports), "imports": names(&module.imports) });
        if let Some(target) = target(module) {
            document["component"]["target"] = target.into();
        }
    }
    document
}

/// The world of WASI that a component is of, by the interface that makes it that.
fn target(module: &Module) -> Option<String> {
    let (interface, world) = match module.world {
        World::Command => ("wasi:cli/run@", "wasi:cli/command"),
        World::HttpProxy => ("wasi:http/incoming-handler@0.2.", "wasi:http/proxy"),
        World::Reactor => return None,
    };
    let export = module.exports.iter().find(|export| export.name.starts_with(interface))?;
    let (_, version) = export.name.split_once('@')?;
    Some(format!("{world}@{version}"))
}
