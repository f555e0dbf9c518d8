//! Runtime options: what `[plugins…runtimes.NAME.options]` of containerd's CRI, `options` of
//! Docker's daemon.json, or a file named there says.
//!
//! Both send `runtimeoptions.v1.Options{type_url = 1, config_path = 2, config_body = 3}`
//! (<https://github.com/containerd/containerd/blob/main/api/types/runtimeoptions/v1/api.proto>).

use crate::launch::Compiler;
use artifact::cache::DEFAULT_MAX_SIZE;
use containerd_shim_protos::protobuf::{self, CodedInputStream, well_known_types::any::Any};
use serde::Deserialize;
use serde::de::Error as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use trust::key::PublicKey;
use trust::policy::{Pattern, Rule};

/// The types that carry our options; the second is what containerd 1.x sends.
const TYPES: [&str; 2] = ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"];

/// Where the options of a node are that no client gives others.
const DEFAULT_PATH: &str = "/etc/containerd-shim-wasmtime/config.toml";

/// What the owner of a node can choose.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `cgroupsPath` must be of the form `slice:prefix:name`.
    #[serde(rename = "SystemdCgroup")]
    pub systemd_cgroup: bool,
    /// The most linear memory that a guest may have, in bytes.
    #[serde(rename = "MaxGuestMemory", deserialize_with = "some_amount")]
    pub max_guest_memory: Option<u64>,
    /// Which code containers run: `tiered`, `optimized` or `baseline`.
    #[serde(rename = "Compiler")]
    pub compiler: Compiler,
    /// How much compiled code a node keeps, in bytes.
    #[serde(rename = "MaxCodeCache", deserialize_with = "amount")]
    pub max_code_cache: u64,
    /// Compiled code that one of these has signed is taken in place of a compiler's: files of public
    /// keys.
    #[serde(rename = "CodeKeys", deserialize_with = "keys")]
    pub code_keys: Vec<PublicKey>,
    /// Where there are any, only images run that are signed as the rule for their name says; of each set
    /// one, for the node and the client may each have theirs.
    #[serde(rename = "SignedImages", deserialize_with = "rules")]
    pub signed_images: Vec<Vec<Rule>>,
    /// Commands like `@stat` can be executed in containers.
    #[serde(rename = "ExecBuiltins")]
    pub exec_built_ins: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            systemd_cgroup: false,
            max_guest_memory: None,
            compiler: Compiler::default(),
            max_code_cache: DEFAULT_MAX_SIZE,
            code_keys: Vec::new(),
            signed_images: Vec::new(),
            exec_built_ins: true,
        }
    }
}

/// What is wrong with options.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Options for another runtime.
    #[error(
        "unknown type {0:?}; this runtime takes runtimeoptions.v1.Options with the keys: SystemdCgroup, MaxGuestMemory, MaxCodeCache, Compiler, CodeKeys, SignedImages, ExecBuiltins"
    )]
    Type(String),
    /// Bytes that are not what their type says.
    #[error("malformed: {0}")]
    Malformed(#[from] protobuf::Error),
    /// The file that they name cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// `ConfigPath`.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Text that is not TOML, or has a key that there is not.
    #[error("in {place}: {source}")]
    Toml {
        /// `ConfigBody` or the path of the file.
        place: String,
        /// Line, column and key.
        source: toml::de::Error,
    },
}

/// Reads the options that came with a request, if any did.
///
/// # Errors
/// See [`Error`].
pub fn read(any: Option<&Any>) -> Result<Options, Error> {
    read_on(any, Path::new(DEFAULT_PATH))
}

/// The same on a node whose own options are in the file `node`.
fn read_on(any: Option<&Any>, node: &Path) -> Result<Options, Error> {
    let node = of_node(node)?;
    Ok(match given(any)? {
        None => node,
        Some(mut given) => {
            // No client takes the node's rules away.
            given.signed_images.extend(node.signed_images);
            given
        }
    })
}

/// The options that came with a request.
fn given(any: Option<&Any>) -> Result<Option<Options>, Error> {
    let Some(any) = any else {
        return Ok(None);
    };
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    if name.is_empty() && any.value.is_empty() {
        return Ok(None);
    }
    if !TYPES.contains(&name) {
        return Err(Error::Type(any.type_url.clone()));
    }
    let (path, body) = fields(&any.value)?;
    if !body.is_empty() {
        return parse("ConfigBody", &body).map(Some);
    }
    if path.is_empty() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path)
        .map_err(|source| Error::Unreadable { path: path.clone(), source })?;
    parse(&path, &text).map(Some)
}

/// The options in the file at `path`, if there is one.
fn of_node(path: &Path) -> Result<Options, Error> {
    let place = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => parse(&place, &text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Options::default()),
        Err(source) => Err(Error::Unreadable { path: place, source }),
    }
}

fn parse(place: &str, text: &str) -> Result<Options, Error> {
    toml::from_str(text).map_err(|source| Error::Toml { place: place.to_owned(), source })
}

/// Files of public keys.
fn keys<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Vec<PublicKey>, D::Error> {
    let paths = Vec::<PathBuf>::deserialize(value)?;
    paths
        .iter()
        .map(|path| PublicKey::read(path))
        .collect::<Result<_, _>>()
        .map_err(D::Error::custom)
}

fn rules<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Vec<Vec<Rule>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        #[serde(rename = "Images")]
        images: Pattern,
        #[serde(rename = "Keys", deserialize_with = "keys")]
        keys: Vec<PublicKey>,
    }
    let mut rules: Vec<Rule> = Vec::new();
    for Entry { images, keys } in Vec::<Entry>::deserialize(value)? {
        if rules.iter().any(|rule| rule.images == images) {
            return Err(D::Error::custom(format!("SignedImages has two entries for {images}")));
        }
        rules.push(Rule { images, keys });
    }
    Ok(if rules.is_empty() { Vec::new() } else { vec![rules] })
}

/// A number of bytes, or text with a unit.
fn amount<'de, D: serde::Deserializer<'de>>(value: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Amount {
        Number(u64),
        Text(String),
    }
    let text = match Amount::deserialize(value)? {
        Amount::Number(bytes) => bytes.to_string(),
        Amount::Text(text) => text,
    };
    artifact::amount::bytes(&text).map_err(D::Error::custom)
}

fn some_amount<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    amount(value).map(Some)
}

/// `config_path` and `config_body`.
fn fields(bytes: &[u8]) -> protobuf::Result<(String, String)> {
    let (mut path, mut body) = (String::new(), String::new());
    let mut input = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        // The field's number and the wire type "length-delimited".
        match (tag >> 3, tag & 7) {
            (2, 2) => path = input.read_string()?,
            (3, 2) => body = input.read_string()?,
            _ => protobuf::rt::skip_field_for_tag(tag, &mut input)?,
        }
    }
    Ok((path, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(path: &str, body: &str) -> Any {
        let mut value = Vec::new();
        for (field, text) in [(1, "x"), (2, path), (3, body)] {
            if !text.is_empty() {
                value.extend([field << 3 | 2, text.len() as u8]);
                value.extend(text.as_bytes());
            }
        }
        Any { type_url: "runtimeoptions.v1.Options".into(), value, ..Default::default() }
    }

    #[test]
    fn a_client_takes_none_of_the_nodes_rules_away() {
        let dir = tempfile::tempdir().unwrap();
        let (node, key) = (dir.path().join("config.toml"), dir.path().join("key.pub"));
        let private = trust::key::PrivateKey::generate().unwrap();
        let private = trust::key::PrivateKey::parse("key", private.as_bytes()).unwrap();
        fs::write(&key, private.public("").pem()).unwrap();
        let rule = |images: &str| {
            format!("[[SignedImages]]\nImages = {images:?}\nKeys = [{:?}]\n", key.to_str().unwrap())
        };
        fs::write(&node, rule("*") + &rule("a.io/team/*")).unwrap();
        let patterns = |any: Option<&Any>| {
            let sets = read_on(any, &node).unwrap().signed_images.into_iter();
            let of = |set: Vec<Rule>| set.iter().map(|rule| rule.images.to_string()).collect();
            sets.map(of).collect::<Vec<Vec<_>>>()
        };
        let nodes = [["*".to_owned(), "a.io/team/*".to_owned()]];
        assert_eq!(patterns(None), nodes);
        assert_eq!(patterns(Some(&any("", "SystemdCgroup = true"))), nodes);
        assert_eq!(patterns(Some(&any("", "SignedImages = []"))), nodes);
        fs::write(&node, rule("*") + &rule("*")).unwrap();
        let error = read_on(None, &node).unwrap_err().to_string();
        assert!(error.contains("two entries for *"), "{error}");
    }

    #[test]
    fn no_options_are_the_defaults() {
        assert_eq!(read(None).unwrap(), Options::default());
        assert_eq!(read(Some(&any("", ""))).unwrap(), Options::default());
    }

    #[test]
    fn the_body_is_read() {
        assert!(read(Some(&any("", "SystemdCgroup = true"))).unwrap().systemd_cgroup);
    }

    #[test]
    fn an_amount_of_memory_is_a_number_or_has_a_unit() {
        let read = |text| read(Some(&any("", text))).map(|options| options.max_guest_memory);
        assert_eq!(read("MaxGuestMemory = \"64MiB\"").unwrap(), Some(64 << 20));
        assert_eq!(read("MaxGuestMemory = 65536").unwrap(), Some(65536));
        assert!(read("MaxGuestMemory = \"lots\"").unwrap_err().to_string().contains("lots"));
    }

    #[test]
    fn the_code_that_is_kept_has_a_limit_of_its_own() {
        let read = |text| read(Some(&any("", text))).map(|options| options.max_code_cache);
        assert_eq!(read("SystemdCgroup = true").unwrap(), DEFAULT_MAX_SIZE);
        assert_eq!(read("MaxCodeCache = \"2GiB\"").unwrap(), 2 << 30);
        assert_eq!(read("MaxCodeCache = 65536").unwrap(), 65536);
        assert!(read("MaxCodeCache = 0").is_err());
    }

    #[test]
    fn built_in_commands_are_there_until_they_are_switched_off() {
        assert!(read(Some(&any("", "SystemdCgroup = true"))).unwrap().exec_built_ins);
        assert!(!read(Some(&any("", "ExecBuiltins = false"))).unwrap().exec_built_ins);
    }

    #[test]
    fn a_compiler_is_chosen_by_name_and_is_tiered_unless_one_is() {
        let chosen = |body: &str| read(Some(&any("", body))).map(|options| options.compiler);
        assert_eq!(chosen("SystemdCgroup = true").unwrap(), Compiler::Tiered);
        assert_eq!(chosen("Compiler = \"tiered\"").unwrap(), Compiler::Tiered);
        assert_eq!(chosen("Compiler = \"optimized\"").unwrap(), Compiler::Optimized);
        assert_eq!(chosen("Compiler = \"baseline\"").unwrap(), Compiler::Baseline);
        let error = chosen("Compiler = \"fast\"").unwrap_err().to_string();
        assert!(error.contains("fast") && error.contains("optimized"), "{error}");
    }

    #[test]
    fn the_file_is_read_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.toml");
        fs::write(&path, "SystemdCgroup = true").unwrap();
        assert!(read(Some(&any(path.to_str().unwrap(), ""))).unwrap().systemd_cgroup);
        let error = read(Some(&any("/nowhere.toml", ""))).unwrap_err().to_string();
        assert!(error.contains("/nowhere.toml"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = read(Some(&any("", "SystemdCgruop = true"))).unwrap_err().to_string();
        assert!(error.contains("SystemdCgruop"), "{error}");
    }

    #[test]
    fn options_of_another_runtime_are_refused() {
        let mut options = any("", "");
        options.type_url = "containerd.runc.v1.Options".into();
        assert!(read(Some(&options)).unwrap_err().to_string().contains("runc"));
    }
}
