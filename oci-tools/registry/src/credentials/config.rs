//! `config.json`. Everything in it that is not about credentials is kept as it is.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Credential;
use crate::error::Error;

/// The longest configuration, in bytes.
const MAX: u64 = 1 << 20;

pub(super) struct Config {
    document: Map<String, Value>,
}

impl Config {
    /// A file that is not there is an empty one.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let bad = |reason: &str| Error::Credentials(format!("{}: {reason}", path.display()));
        let file = |source| Error::File { what: format!("cannot read {}", path.display()), source };
        let mut text = Vec::new();
        match File::open(path) {
            Ok(open) => open.take(MAX + 1).read_to_end(&mut text).map_err(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(file(error)),
        };
        if text.len() as u64 > MAX {
            return Err(bad("it is longer than a configuration of Docker's can be"));
        }
        if text.trim_ascii().is_empty() {
            return Ok(Self { document: Map::new() });
        }
        // The parser's own words could hold a part of the file.
        match serde_json::from_slice(&text) {
            Ok(Value::Object(document)) => Ok(Self { document }),
            Ok(_) | Err(_) => Err(bad("it is not a JSON object; mend it, or move it away")),
        }
    }

    /// The name of the helper that keeps the credentials for `key`.
    pub(super) fn helper(&self, key: &str) -> Option<&str> {
        let own = self.document.get("credHelpers").and_then(|helpers| helpers.get(hostname(key)));
        let own = own.or_else(|| self.document.get("credHelpers")?.get(key));
        own.or_else(|| self.document.get("credsStore"))
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
    }

    /// What the file itself holds for `key`.
    pub(super) fn get(&self, key: &str) -> Result<Option<Credential>, Error> {
        let Some(entry) = self.entry(key).and_then(|name| self.document["auths"].get(name)) else {
            return Ok(None);
        };
        let text = |field: &str| entry[field].as_str().filter(|text| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credential::Token(token.to_owned())));
        }
        let Some(auth) = text("auth") else {
            let (Some(user), Some(password)) = (text("username"), text("password")) else {
                return Ok(None);
            };
            let (user, password) = (user.to_owned(), password.to_owned());
            return Ok(Some(Credential::Password { user, password }));
        };
        let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (user, password) = pair.ok_or_else(|| {
            Error::Credentials(format!(
                "what Docker's configuration keeps for {key} cannot be read: log in again"
            ))
        })?;
        // Old versions pad with zeros.
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Credential::Password { user: user.to_owned(), password }))
    }

    pub(super) fn put(&mut self, key: &str, user: &str, password: &str) {
        self.erase(key);
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let auths = self.document.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        auths[key] = json!({ "auth": auth });
    }

    /// Gives whether there was anything.
    pub(super) fn erase(&mut self, key: &str) -> bool {
        let mut there = false;
        while let Some(name) = self.entry(key) {
            if let Some(auths) = self.document.get_mut("auths").and_then(Value::as_object_mut) {
                auths.remove(&name);
            }
            there = true;
        }
        there
    }

    /// The name under which `auths` has `key`: that itself, or a URL with the same host.
    fn entry(&self, key: &str) -> Option<String> {
        let auths = self.document.get("auths")?.as_object()?;
        let exact = auths.keys().find(|name| *name == key);
        exact.or_else(|| auths.keys().find(|name| hostname(name) == hostname(key))).cloned()
    }

    /// In place of the file at `path`, or of the one that a link there points to, whole or not at
    /// all, and for its owner only.
    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().unwrap_or(Path::new("/"));
        let write = || {
            fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            let text = format!("{:#}\n", Value::Object(self.document.clone()));
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| Error::File {
            what: format!("cannot write {}", path.display()),
            source,
        })
    }
}

/// `https://host/v1/` is `host`.
fn hostname(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    bare.split('/').next().unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn credentials_are_found_under_a_name_or_a_url_of_the_host() {
        let (_folder, path) = config(
            r#"{ "auths": {
                "https://one.example/v1/": { "auth": "dTpwOnc=" },
                "two.example": { "identitytoken": "t", "auth": "" },
                "three.example": {},
                "four.example": { "auth": "!" } },
              "credHelpers": { "five.example": "pass" } }"#,
        );
        let config = Config::read(&path).unwrap();
        let password = Credential::Password { user: "u".into(), password: "p:w".into() };
        assert_eq!(config.get("one.example").unwrap(), Some(password));
        assert_eq!(config.get("two.example").unwrap(), Some(Credential::Token("t".into())));
        assert_eq!(config.get("three.example").unwrap(), None);
        assert_eq!(config.get("example").unwrap(), None);
        assert!(config.get("four.example").is_err());
        assert_eq!(
            (config.helper("five.example"), config.helper("one.example")),
            (Some("pass"), None)
        );
    }

    #[test]
    fn the_rest_of_the_file_outlives_a_login_and_a_logout() {
        let (_folder, path) = config(r#"{ "HttpHeaders": { "a": "b" }, "auths": null }"#);
        let mut config = Config::read(&path).unwrap();
        config.put("h:1", "u", "p");
        config.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut config = Config::read(&path).unwrap();
        assert!(config.get("h:1").unwrap().is_some() && config.erase("h:1"));
        assert!(!config.erase("h:1"));
        assert_eq!(config.document["HttpHeaders"]["a"], "b");
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        let (_folder, path) = config("{ \"auths\": { \"secret");
        let error = Config::read(&path).err().unwrap().to_string();
        assert!(
            error.contains("config.json: it is not a JSON object") && !error.contains("secret")
        );
    }

    #[test]
    fn any_file_is_refused_or_keeps_what_is_put_into_it() {
        let document = json!({
            "auths": {
                "https://one.example/v1/": { "auth": "dTpwOnc=" },
                "two.example": { "identitytoken": "t", "auth": "" },
            },
            "credHelpers": { "five.example": "pass" }, "credsStore": "desktop",
        });
        let ours = Credential::Password { user: "u".into(), password: "p:w".into() };
        hostile::check("configurations", 500, hostile::changed(document), |document| {
            let (_folder, path) = config(&document.to_string());
            let Ok(mut config) = Config::read(&path) else { return };
            for key in ["one.example", "two.example", "five.example", ""] {
                let _ = (config.get(key), config.helper(key));
            }
            config.put("one.example", "u", "p:w");
            config.write(&path).unwrap();
            let mut config = Config::read(&path).unwrap();
            assert_eq!(config.get("one.example").unwrap(), Some(ours.clone()));
            assert!(config.erase("one.example"));
            assert_eq!(config.get("one.example").unwrap(), None);
        });
    }
}
