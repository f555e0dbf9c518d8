//! Whose word counts for which images.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::key::PublicKey;

/// The images that one rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(String);

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which images.
    pub images: Pattern,
    /// Any of these must have signed them.
    pub keys: Vec<PublicKey>,
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (stem, starred) = match text.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (text.as_str(), false),
        };
        let named = stem.strip_suffix('/').filter(|_| starred).unwrap_or(stem);
        let in_full = match starred {
            false => repository(stem) == stem && place(stem).is_some(),
            true if stem.is_empty() => true,
            // A registry alone, or a registry and the beginning of a repository.
            true => stem.ends_with('/') && (is_registry(named) || place(named).is_some()),
        };
        if !in_full || named.contains(['*', '@', ' ']) {
            return Err(format!(
                "{text:?} is no pattern of images: it is *, a registry and repository in full, such \
                 as registry.example.com/team/web, or the beginning of some, such as \
                 registry.example.com/team/*"
            ));
        }
        Ok(Self(text))
    }
}

impl Pattern {
    /// Whether it means the repository `name`, in full (`docker.io/library/hello`).
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(stem) => name.starts_with(stem),
            None => name == self.0,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rule for the repository `name`: of those that mean it, the one that says most.
#[must_use]
pub fn rule<'a>(rules: &'a [Rule], name: &str) -> Option<&'a Rule> {
    let matching = rules.iter().filter(|rule| rule.images.matches(name));
    matching.max_by_key(|rule| (!rule.images.0.ends_with('*'), rule.images.0.len()))
}

/// An image's name without tag and digest: the repository, in full.
#[must_use]
pub fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    match name.rsplit_once(':') {
        // A port has a path after it.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// The registry of an image, and the repository in it; nothing for a name that is not in full.
#[must_use]
pub fn place(image: &str) -> Option<(&str, &str)> {
    let (registry, path) = repository(image).split_once('/')?;
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let component = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric());
    let plain = path.split('/').all(|part| component(part) && part.chars().all(word));
    (plain && is_registry(registry)).then_some((registry, path))
}

/// Whether the first part of a name is a registry, and not of a repository on Docker Hub.
fn is_registry(name: &str) -> bool {
    (name == "localhost" || name.contains(['.', ':'])) && !name.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn the_rule_that_says_most_counts() {
        let rules = ["a.io/team/x", "*", "a.io/*", "a.io/team/*", "a.io/team/web"];
        let rules = rules.map(|text| Rule { images: pattern(text), keys: Vec::new() });
        for (name, meant) in [
            ("b.io/x", "*"),
            ("a.io/x", "a.io/*"),
            ("a.io/team/x/y", "a.io/team/*"),
            ("a.io/team/web", "a.io/team/web"),
            ("a.io/team/web2", "a.io/team/*"),
            ("a.iox/team", "*"),
            ("a.io/team/x", "a.io/team/x"),
        ] {
            assert_eq!(rule(&rules, name).unwrap().images.to_string(), meant, "{name}");
        }
        assert_eq!(rule(&rules[2..], "b.io/x"), None);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "a*",
            "a.io/te*m",
            "*/a",
            "a.io/x@sha256:00",
            "a b",
            "a.io/team*",
            "team",
            "team/*",
            "a.io/x:1",
            "a.io",
            "a.io/X",
        ] {
            let error = Pattern::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains("in full"), "{error}");
        }
    }

    #[test]
    fn names_are_taken_apart() {
        for (image, expected) in [
            ("docker.io/library/hello:latest", Some(("docker.io", "library/hello"))),
            ("localhost:5000/a/b:1@sha256:00", Some(("localhost:5000", "a/b"))),
            ("localhost:5000/a", Some(("localhost:5000", "a"))),
            ("hello", None),
            ("library/hello", None),
            ("a.io/../../etc", None),
            ("a.io/A", None),
            ("sha256:00", None),
            ("a.io/", None),
        ] {
            assert_eq!(place(image), expected, "{image}");
        }
    }
}
