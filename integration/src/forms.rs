//! Images in every form that is met: those of `wasm-image build --form`, and ones put together by
//! hand, as other tools make them or as nobody should.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Mutex;

use artifact::digest::Digest;
use artifact::media;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::images::build;
use crate::names::unique;
use crate::paths;

/// An image in an archive.
pub struct Archive {
    /// Its name with registry and tag.
    pub reference: String,
    /// Where the bed sees it.
    pub path: String,
}

/// Builds a guest into an image of its own name, with `flags` for `wasm-image build`.
#[track_caller]
pub fn built(bed: &Bed, flags: &[&str], guest: &str) -> Archive {
    let (archive, file) = place(bed, "built");
    build(&archive.reference, &file, flags, &paths::guest(guest));
    archive
}

/// An OCI layout of busybox for Linux, saved by the bed's containerd.
#[track_caller]
pub fn linux(bed: &Bed) -> String {
    static SAVING: Mutex<()> = Mutex::new(());
    let _turn = SAVING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let file = bed.share().join("busybox-layout.tar");
    if !file.exists() {
        bed.sh("ctr image export /share/busybox-layout.tmp docker.io/library/busybox:latest");
        fs::rename(bed.share().join("busybox-layout.tmp"), &file).expect("it was saved");
    }
    file.display().to_string()
}

/// An image whose configuration counts its layer, which is wasm, among those of files.
#[track_caller]
pub fn layer_said_to_be_files(bed: &Bed) -> Archive {
    let mut image = Handmade::default();
    let layer = image.guest(media::WASM_LAYER, "probe-p2.wasm");
    let config = image.config_of("wasi", &[&layer["digest"]]);
    let manifest = image.manifest(&config, &[layer]);
    image.archive(bed, &on(manifest, "wasi"))
}

fn place(bed: &Bed, stem: &str) -> (Archive, PathBuf) {
    let name = unique(stem);
    let folder = bed.share().join("forms");
    fs::create_dir_all(&folder).expect("the share is writable");
    let file = folder.join(format!("{name}.tar"));
    let path = format!("/share/forms/{name}.tar");
    (Archive { reference: format!("docker.io/library/{name}:test"), path }, file)
}

/// An image that is put together blob by blob.
#[derive(Default)]
pub struct Handmade(BTreeMap<String, Vec<u8>>);

impl Handmade {
    /// A blob, by its descriptor.
    pub fn blob(&mut self, media_type: &str, content: &[u8]) -> Value {
        let digest = format!("sha256:{}", Digest::of(content));
        self.0.insert(digest.clone(), content.to_vec());
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }

    /// A guest as a layer that was a file of its name.
    #[track_caller]
    pub fn guest(&mut self, media_type: &str, guest: &str) -> Value {
        let content = fs::read(paths::guest(guest)).expect("a guest can be read");
        let mut layer = self.blob(media_type, &content);
        layer["annotations"] = json!({ media::ANNOTATION_TITLE: guest });
        layer
    }

    /// A configuration for `os`, which every containerd takes for an image's without layers of files.
    pub fn config(&mut self, os: &str) -> Value {
        self.config_of(os, &[])
    }

    /// The same with what its layers are said to hold.
    pub fn config_of(&mut self, os: &str, diff_ids: &[&Value]) -> Value {
        let config = json!({
            "architecture": "wasm",
            "os": os,
            "config": { "Entrypoint": ["/from-config.wasm"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        self.blob(media::CONFIG, config.to_string().as_bytes())
    }

    /// A manifest.
    pub fn manifest(&mut self, config: &Value, layers: &[Value]) -> Value {
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media::MANIFEST,
            "config": config,
            "layers": layers,
        });
        self.blob(media::MANIFEST, document.to_string().as_bytes())
    }

    /// An index.
    pub fn index(&mut self, manifests: &[Value]) -> Value {
        let document =
            json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests });
        self.blob(media::INDEX, document.to_string().as_bytes())
    }

    /// All of it as an archive in which a name of its own stands for `top`.
    #[track_caller]
    pub fn archive(self, bed: &Bed, top: &Value) -> Archive {
        let (archive, file) = place(bed, "handmade");
        let mut named = top.clone();
        named["annotations"] = json!({ media::ANNOTATION_IMAGE_NAME: archive.reference });
        let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [named] });
        let mut files = BTreeMap::from([
            ("index.json".to_owned(), index.to_string().into_bytes()),
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ]);
        let blobs = self.0.into_iter();
        files.extend(
            blobs.map(|(digest, bytes)| (format!("blobs/{}", digest.replace(':', "/")), bytes)),
        );
        let mut tar = tar::Builder::new(File::create(&file).expect("the share is writable"));
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, bytes.as_slice()).expect("the share is writable");
        }
        tar.into_inner().expect("the share is writable");
        archive
    }
}

/// A descriptor with the platform that an index says of it.
pub fn on(mut descriptor: Value, os: &str) -> Value {
    descriptor["platform"] = json!({ "os": os, "architecture": media::ARCHITECTURE });
    descriptor
}
