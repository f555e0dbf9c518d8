//! Of `registry::credentials`, Docker's file.

#[path = "../../oci-tools/registry/src/credentials/config.rs"]
mod config;

use std::path::Path;

/// As in `registry::credentials`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    Password { user: String, password: String },
    Token(String),
}

/// All that is done with a configuration; it is at `path`, and is `key`'s afterwards.
pub fn use_all(path: &Path, key: &str) {
    let Ok(mut config) = config::Config::read(path) else { return };
    let _ = (config.helper(key), config.get(key));
    config.put(key, "user", "pass:word");
    let ours = Credential::Password { user: "user".into(), password: "pass:word".into() };
    assert_eq!(config.get(key).expect("what was put"), Some(ours.clone()));
    config.write(path).expect("room for it");
    let mut config = config::Config::read(path).expect("what was written");
    assert_eq!(config.get(key).expect("what was written"), Some(ours));
    assert!(config.erase(key));
    assert_eq!(config.get(key).expect("nothing"), None);
}
