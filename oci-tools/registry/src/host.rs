//! Where a registry is.

use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// Docker Hub by the name that images have, and by the ones that machines and credentials have.
const HUB: (&str, &str, &str) =
    ("docker.io", "registry-1.docker.io", "https://index.docker.io/v1/");

/// A registry by the name that it has in the names of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    name: String,
    base: Url,
}

impl Host {
    /// The registry `name`, `HOST[:PORT]`. It is spoken to by HTTPS, unless `plain_http`, or it is
    /// on this machine and `own_ca` does not say that it has a certificate.
    pub fn new(name: &str, plain_http: bool, own_ca: bool) -> Result<Self, String> {
        let address = if name == HUB.0 { HUB.1 } else { name };
        let bad = |_| format!("`{name}` is not the address of a registry: it is HOST[:PORT]");
        let mut base = Url::parse(&format!("https://{address}/")).map_err(bad)?;
        if base.path() != "/" || base.query().is_some() || !base.username().is_empty() {
            return Err(format!("`{name}` is not the address of a registry: it is HOST[:PORT]"));
        }
        if plain_http || (is_loopback(&base) && !own_ca) {
            // Parsed again, for the default port is another.
            base = Url::parse(&format!("http://{address}/")).map_err(bad)?;
        }
        Ok(Self { name: name.to_owned(), base })
    }

    /// As in the names of images.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// By which Docker's tools keep its credentials.
    #[must_use]
    pub fn credentials_key(&self) -> &str {
        if self.name == HUB.0 { HUB.2 } else { &self.name }
    }

    /// The URL of `path`, which is relative and needs no escapes.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    /// Whether `url` is of this registry, so that it may see its credentials.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        same_origin(&self.base, url)
    }
}

/// Scheme, host and port are the same.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Whether what is sent to `url` stays on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || bare.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_tls_unless_asked() {
        let url = |name: &str, plain, ca| {
            Host::new(name, plain, ca).unwrap().url("/v2/").as_str().to_owned()
        };
        assert_eq!(url("docker.io", false, false), "https://registry-1.docker.io/v2/");
        assert_eq!(url("127.0.0.9:5000", false, false), "http://127.0.0.9:5000/v2/");
        assert_eq!(url("[::1]:5000", false, false), "http://[::1]:5000/v2/");
        assert_eq!(url("localhost", false, true), "https://localhost/v2/");
        assert_eq!(url("localhost.example.com", false, false), "https://localhost.example.com/v2/");
        assert_eq!(url("example.com:80", true, false), "http://example.com/v2/");
        for bad in ["", "a/b", "u@host", "host:port"] {
            assert!(Host::new(bad, false, false).is_err(), "{bad}");
        }
    }
}
