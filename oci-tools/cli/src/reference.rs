//! What a person asks a registry or the store for: a name with a tag, or with a digest.

use std::fmt;

use registry::Digest;

use crate::name::Name;

/// A name in full. With a digest the tag says nothing any more, as for docker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    name: Name,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads `NAME[:TAG][@DIGEST]` as a person types it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let digest = digest.map(str::parse).transpose();
        let digest = digest.map_err(|error: registry::BadDigest| error.to_string())?;
        let name = Name::parse(name).map_err(|error| error.to_string())?;
        Ok(Self { name, digest })
    }

    /// The registry, `HOST[:PORT]`.
    pub fn domain(&self) -> &str {
        self.name.domain()
    }

    /// The repository in it.
    pub fn path(&self) -> &str {
        self.name.path()
    }

    /// By which the registry knows the image: its digest or tag.
    pub fn tag_or_digest(&self) -> &str {
        self.digest.as_ref().map_or(self.name.tag(), Digest::as_str)
    }

    /// The same repository's image `digest`.
    pub fn at(&self, digest: &Digest) -> Self {
        Self { name: self.name.clone(), digest: Some(digest.clone()) }
    }

    /// Whether it says which bytes.
    pub fn has_digest(&self) -> bool {
        self.digest.is_some()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => write!(f, "{}/{}@{digest}", self.domain(), self.path()),
            None => write!(f, "{}", self.name),
        }
    }
}

/// An image in a registry, or in the store: `store:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Registry(Reference),
    Store(Reference),
}

impl Place {
    /// Reads `NAME` or `store:NAME`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("store:") {
            Some(name) => Reference::parse(name).map(Self::Store),
            None => Reference::parse(text).map(Self::Registry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_takes_the_place_of_a_tag() {
        let digest = Digest::of(b"");
        let name = format!("localhost:5000/a:1@{digest}");
        let reference = Reference::parse(&name).unwrap();
        assert_eq!(reference.to_string(), format!("localhost:5000/a@{digest}"));
        assert_eq!(reference.tag_or_digest(), digest.as_str());
        let short = Reference::parse("a").unwrap();
        assert_eq!(
            (short.domain(), short.path(), short.tag_or_digest()),
            ("docker.io", "library/a", "latest")
        );
        for bad in ["", "@", "a@", "a@sha256:00", "@sha256:00", &format!("a@{digest}@{digest}")] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Place::parse("store:a"), Ok(Place::Store(short.clone())));
        // A repository called `store` is said in full: docker.io/library/store.
        assert_eq!(Place::parse("a"), Ok(Place::Registry(short)));
    }
}
