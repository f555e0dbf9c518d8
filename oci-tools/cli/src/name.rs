//! Names of images, spelled out the way docker does it.
//!
//! Grammar: <https://github.com/distribution/reference/blob/main/reference.go>; defaults of domain,
//! `library/` and tag: `normalize.go` beside it.

use std::fmt;

const DOCKER_HUB: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// A full name with a tag, such as `docker.io/library/hello:latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    domain: String,
    path: String,
    tag: String,
}

/// Why a text names no image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("it is empty")]
    Empty,
    #[error("it has a digest (after @), which is known only once the image is built; give a tag")]
    Digest,
    #[error("the registry `{0}` is not a host name with an optional port")]
    Domain(String),
    #[error("the repository must be in lower case; try `{0}`")]
    Upper(String),
    #[error(
        "`{0}` is not a repository name: lower-case letters and digits, with `.`, `_`, `__` or `-` only between them"
    )]
    Component(String),
    #[error("64 hexadecimal digits are taken for an image id")]
    Id,
    #[error("the repository is longer than {MAX_REPOSITORY} characters")]
    Long,
    #[error(
        "`{0}` is not a tag: up to {MAX_TAG} letters, digits, `_`, `.` and `-`, with no `.` or `-` at the start"
    )]
    Tag(String),
}

impl Name {
    /// Reads a name as a person types it; a missing domain is Docker Hub, a missing tag `latest`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        if text.contains('@') {
            return Err(Error::Digest);
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::Id);
        }
        let (domain, rest) = split_domain(text);
        let (path, tag) = rest.split_once(':').unwrap_or((rest, DEFAULT_TAG));
        check_domain(domain)?;
        check_path(path)?;
        check_tag(tag)?;
        let path = if domain == DOCKER_HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if domain.len() + 1 + path.len() > MAX_REPOSITORY {
            return Err(Error::Long);
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.to_owned() })
    }

    /// The registry, `HOST[:PORT]`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag alone.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The shortest text that docker reads as this name.
    pub fn familiar(&self) -> String {
        let short = self.short();
        // Without its registry, a repository `a.b/c` or of 64 digits would be something else.
        if Self::parse(&short).as_ref() == Ok(self) { short } else { self.to_string() }
    }

    fn short(&self) -> String {
        let mut short = match (self.domain.as_str(), self.path.strip_prefix("library/")) {
            (DOCKER_HUB, Some(official)) if !official.contains('/') => official.to_owned(),
            (DOCKER_HUB, _) => self.path.clone(),
            (domain, _) => format!("{domain}/{}", self.path),
        };
        if self.tag != DEFAULT_TAG {
            short = format!("{short}:{}", self.tag);
        }
        short
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.domain, self.path, self.tag)
    }
}

/// The first component is a registry only if it cannot be part of a repository on Docker Hub.
fn split_domain(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some(("index.docker.io", rest)) => (DOCKER_HUB, rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DOCKER_HUB, text),
    }
}

fn check_domain(domain: &str) -> Result<(), Error> {
    let (host, port) = match domain.rfind(':') {
        Some(at) if !domain.ends_with(']') => (&domain[..at], Some(&domain[at + 1..])),
        _ => (domain, None),
    };
    let ipv6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_ok = match ipv6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            let inside = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            inside && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        }),
    };
    let port_ok = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    if host_ok && port_ok { Ok(()) } else { Err(Error::Domain(domain.to_owned())) }
}

fn check_path(path: &str) -> Result<(), Error> {
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(Error::Upper(path.to_ascii_lowercase()));
    }
    match path.split('/').find(|component| !is_component(component)) {
        Some(component) => Err(Error::Component(component.to_owned())),
        None => Ok(()),
    }
}

/// `[a-z0-9]+` joined by one of `.`, `_`, `__`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separators = component.split(is_word).filter(|s| !s.is_empty());
    component.starts_with(is_word)
        && component.ends_with(is_word)
        && separators.all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn check_tag(tag: &str) -> Result<(), Error> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
    if ok { Ok(()) } else { Err(Error::Tag(tag.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_out_and_shortened_as_docker_does() {
        for (typed, full, familiar) in [
            ("hello", "docker.io/library/hello:latest", "hello"),
            ("hello:1.0", "docker.io/library/hello:1.0", "hello:1.0"),
            ("me/hello", "docker.io/me/hello:latest", "me/hello"),
            ("index.docker.io/hello", "docker.io/library/hello:latest", "hello"),
            ("localhost/a", "localhost/a:latest", "localhost/a"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("ghcr.io/a/b__c-d", "ghcr.io/a/b__c-d:latest", "ghcr.io/a/b__c-d"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
            ("docker.io/localhost/c:1", "docker.io/localhost/c:1", "docker.io/localhost/c:1"),
        ] {
            let name = Name::parse(typed).expect(typed);
            assert_eq!((name.to_string().as_str(), name.familiar().as_str()), (full, familiar));
            assert_eq!(Name::parse(&name.familiar()), Ok(name), "{typed} survives a round trip");
        }
    }

    #[test]
    fn a_name_outside_the_grammar_is_refused() {
        for typed in [
            "",
            "a:",
            "a:-b",
            "a/",
            "/a",
            "a//b",
            "a..b",
            "a___b",
            "-a",
            "a b",
            "a@sha256:00",
            "host:port/a",
            "ho_st.io/a",
            "a:b:c",
            "é",
            ":5000/a",
            "[::1/a",
        ] {
            assert!(Name::parse(typed).is_err(), "{typed:?}");
        }
        assert!(Name::parse(&"a".repeat(300)).is_err());
        assert_eq!(Name::parse(&"a".repeat(64)), Err(Error::Id));
    }

    #[test]
    fn upper_case_is_answered_with_the_name_in_lower_case() {
        assert_eq!(Name::parse("Hello"), Err(Error::Upper("hello".to_owned())));
    }

    #[test]
    fn any_name_reads_back_as_it_is_shown() {
        let part = "(docker\\.io|localhost|[a-zA-Z0-9.:_-]{1,6}|[0-9a-f]{64}|library|\\[::1\\])";
        let pattern = format!("{part}(/{part}){{0,2}}(:[a-zA-Z0-9._-]{{1,5}})?");
        let texts = proptest::string::string_regex(&pattern).unwrap();
        let taken = std::cell::Cell::new(0);
        hostile::check("names", 5000, texts, |text| {
            let Ok(name) = Name::parse(&text) else { return };
            taken.set(taken.get() + 1);
            assert_eq!(Name::parse(&name.to_string()).as_ref(), Ok(&name));
            assert_eq!(Name::parse(&name.familiar()).as_ref(), Ok(&name));
        });
        assert!(taken.get() > 1000, "{} were names", taken.get());
    }
}
