//! Media types, platform and annotations by which an image says that it holds WebAssembly.
//!
//! Constants only: what a name means for a container is decided by its readers.

/// An OCI image manifest.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md>
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An OCI image index.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md>
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An OCI image configuration.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md>
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A layer of files, as a gzip-compressed tar.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md>
pub const LAYER_TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The configuration of a CNCF Wasm OCI artifact.
/// <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// The single layer of a CNCF Wasm OCI artifact: the module or component itself.
pub const WASM_LAYER: &str = "application/wasm";

/// Every media type of a layer whose bytes are the WebAssembly itself, not a tar of files.
/// All but the first come from earlier tools and are still in registries.
pub const WASM_LAYERS: [&str; 4] = [
    WASM_LAYER,
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.w3c.wasm.component.layer.v0+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];

/// `os` of the platform `wasi/wasm`. The OCI specification takes it from Go's `GOOS`, which says
/// `wasip1`; the field settled on `wasi`.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md>
pub const OS: &str = "wasi";

/// `os` of modules of preview 1, and of plain ones, by the Wasm OCI artifact's specification.
pub const OS_PREVIEW_1: &str = "wasip1";

/// `os` of components, by the Wasm OCI artifact's specification.
pub const OS_PREVIEW_2: &str = "wasip2";

/// `architecture` of the platform `wasi/wasm`, from Go's `GOARCH`.
pub const ARCHITECTURE: &str = "wasm";

/// Annotation of an index entry: the tag, for readers that follow the OCI layout.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md>
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Annotation of an index entry: the whole image name, which `docker load` and `ctr image import`
/// prefer to [`ANNOTATION_REF_NAME`].
/// <https://github.com/containerd/containerd/blob/v2.1.4/core/images/annotations.go>
pub const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";

/// Annotation of a layer that is a file: the file's name.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md>
pub const ANNOTATION_TITLE: &str = "org.opencontainers.image.title";

/// Legacy annotation, with the value `compat` or `compat-smart`, on images of a Linux platform
/// that hold a module. <https://github.com/solo-io/wasm/blob/master/spec/spec-compat.md>
pub const ANNOTATION_COMPAT: &str = "module.wasm.image/variant";

/// Legacy annotation, with the value `wasm`, by which crun picks its WebAssembly handler.
/// <https://github.com/containers/crun/blob/main/crun.1.md>
pub const ANNOTATION_CRUN_HANDLER: &str = "run.oci.handler";

/// Whether a layer of this media type is WebAssembly itself; parameters after `;` are ignored.
#[must_use]
pub fn is_wasm_layer(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    WASM_LAYERS.contains(&essence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_wasm_layer_is_recognised_and_a_tar_is_not() {
        assert!(WASM_LAYERS.iter().all(|layer| is_wasm_layer(layer)));
        assert!(is_wasm_layer("application/wasm; charset=binary"));
        assert!(!is_wasm_layer(LAYER_TAR_GZIP));
    }
}
