//! Links the binary at a fixed address (`docs/architecture.md`, A fixed address).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
