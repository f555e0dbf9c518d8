//! `wasm-image build` by a file that says what to build, and what it does to modules on their way into
//! the image.

mod changes;
mod containerfile;
mod desk;
mod plugs;
mod project;
mod sbom;
