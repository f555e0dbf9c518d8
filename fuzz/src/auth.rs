//! Of `registry::auth`, the header by which a registry asks for credentials.

#[path = "../../oci-tools/registry/src/auth/challenge.rs"]
mod challenge;

/// Schemes and realms of a header.
pub fn challenges(header: &str) -> Vec<(String, Option<String>)> {
    let all = challenge::parse(header);
    all.iter().map(|one| (one.scheme.clone(), one.get("realm").map(str::to_owned))).collect()
}
