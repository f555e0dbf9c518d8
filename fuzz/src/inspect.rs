//! Of `wasm-image`'s `inspect`, what reads files and not modules.

#[path = "../../oci-tools/cli/src/inspect/anatomy.rs"]
pub mod anatomy;
#[path = "../../oci-tools/cli/src/inspect/image.rs"]
pub mod image;
#[path = "../../oci-tools/cli/src/inspect/layer.rs"]
pub mod layer;
#[path = "../../oci-tools/cli/src/inspect/layout.rs"]
pub mod layout;
#[path = "../../oci-tools/cli/src/inspect/zstd.rs"]
mod zstd;
