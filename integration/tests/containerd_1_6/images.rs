//! Images in the forms that are met, with containerd 1.6.

use artifact::media;
use integration::PLATFORM;
use integration::forms::{Handmade, built, layer_said_to_be_files, on};

integration::images_core!(crate::ctr);

#[test]
fn layers_that_are_wasm_are_refused_by_containerd() {
    let (ctr, _turn) = crate::ctr();
    let mut layer = Handmade::default();
    let wasm = layer.guest(media::WASM_LAYER, "probe-p2.wasm");
    let config = layer.config("wasi");
    let manifest = layer.manifest(&config, &[wasm]);
    for (image, platform) in [
        (layer.archive(ctr.0, &on(manifest, "wasi")), PLATFORM),
        (built(ctr.0, &["--form", "artifact"], "probe-p2.wasm"), "wasip2/wasm"),
        (built(ctr.0, &["--form", "artifact-index"], "probe-p2.wasm"), PLATFORM),
    ] {
        ctr.cli(&["image", "import", "--platform", platform, &image.path])
            .fails()
            .complains_of(&["mismatched image rootfs and manifest layers"]);
    }
}

#[test]
fn a_layer_that_is_said_to_be_files_is_refused_by_containerd() {
    let (ctr, _turn) = crate::ctr();
    let image = layer_said_to_be_files(ctr.0);
    ctr.cli(&["image", "import", "--platform", PLATFORM, &image.path])
        .fails()
        .complains_of(&["no processor for media-type"]);
}
