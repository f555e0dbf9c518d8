//! The flags of `run`, checked and understood.

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::cli::{Network, RunArgs};

/// How a container is to be run, whatever it is.
pub struct Options {
    /// `KEY=VALUE`, the later of two counts.
    pub env: Vec<String>,
    pub volumes: Vec<Volume>,
    pub tmpfs: Vec<Tmpfs>,
    pub forwards: Vec<Forward>,
    pub limits: Limits,
}

/// A file or folder of the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Volume {
    /// Absolute.
    pub host: PathBuf,
    pub container: String,
    /// Of mount.
    pub options: Vec<String>,
}

/// A folder in memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Tmpfs {
    pub container: String,
    /// Of mount.
    pub options: Vec<String>,
}

/// A port that is not the guest's own.
#[derive(Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where to listen.
    pub from: SocketAddr,
    /// The port that the guest listens on.
    pub to: u16,
}

/// What it may use at most; nothing for no limit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In bytes.
    pub memory: Option<i64>,
    /// In millionths of one CPU.
    pub cpus: Option<i64>,
    /// Threads.
    pub pids: Option<i64>,
}

impl Limits {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Options {
    /// Checks the flags.
    pub fn of(args: &RunArgs) -> Result<Self> {
        let here = env::current_dir().context("cannot find out in which folder this is")?;
        let mut variables = Vec::new();
        for file in &args.env_file {
            variables.extend(env_file(file)?);
        }
        for word in &args.env {
            ensure!(
                !word.is_empty() && !word.starts_with('='),
                "invalid environment variable: {word:?}; --env takes KEY=VALUE, or KEY for its value here"
            );
            variables.push(word.clone());
        }
        let env = variables.iter().filter_map(|word| variable(word)).collect();
        let volumes = args.volume.iter().map(|text| volume(text, &here));
        let forwards = args.publish.iter().map(|text| forward(text));
        let forwards = forwards.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        ensure!(
            args.publish.is_empty() || args.network == Network::Host,
            "--publish needs the host's network: nothing outside reaches a container of --network none"
        );
        Ok(Self {
            env,
            volumes: volumes.collect::<Result<_>>()?,
            tmpfs: args.tmpfs.iter().map(|text| tmpfs(text)).collect::<Result<_>>()?,
            forwards,
            limits: Limits {
                memory: args.memory.as_deref().map(bytes).transpose()?,
                cpus: args.cpus.map(cpus).transpose()?,
                pids: args.pids_limit.filter(|most| *most > 0),
            },
        })
    }
}

/// A variable without a value is passed on, as far as it is set here.
fn variable(word: &str) -> Option<String> {
    match word.contains('=') {
        true => Some(word.to_owned()),
        false => env::var(word).ok().map(|value| format!("{word}={value}")),
    }
}

/// Lines of `KEY=VALUE` or `KEY`; empty ones and those that begin with `#` say nothing.
fn env_file(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty());
    let mut variables = Vec::new();
    for line in lines.filter(|line| !line.starts_with('#')) {
        let key = line.split('=').next().unwrap_or_default();
        ensure!(
            !key.is_empty() && !key.contains(char::is_whitespace),
            "{}: {line:?} is not of the form KEY=VALUE",
            path.display()
        );
        variables.push(line.to_owned());
    }
    Ok(variables)
}

fn volume(text: &str, here: &Path) -> Result<Volume> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, words) = match parts[..] {
        [host, container] => (host, container, ""),
        [host, container, words] => (host, container, words),
        _ => bail!("--volume {text:?} is not of the form HOST:CONTAINER[:ro]"),
    };
    ensure!(
        host.contains('/') || [".", ".."].contains(&host),
        "--volume {text:?}: no volumes are kept by name here; say ./{host} for the one of this folder"
    );
    ensure!(
        container.starts_with('/'),
        "--volume {text:?}: {container:?} is not an absolute path of the container"
    );
    let mut options: Vec<String> = vec!["rbind".into(), "rprivate".into()];
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match word {
            // With all that is mounted below, as docker has it.
            "ro" | "readonly" => options.extend(["ro".into(), "rro".into()]),
            "rw" => {}
            // Of SELinux, which this has no part in.
            "z" | "Z" => {}
            "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" | "noexec"
            | "nosuid" | "nodev" => options.push(word.into()),
            _ => bail!("--volume {text:?}: the option {word:?} is not known; ro and rw are"),
        }
    }
    Ok(Volume { host: here.join(host), container: container.to_owned(), options })
}

fn tmpfs(text: &str) -> Result<Tmpfs> {
    let (container, words) = text.split_once(':').unwrap_or((text, ""));
    ensure!(
        container.starts_with('/'),
        "--tmpfs {text:?}: {container:?} is not an absolute path of the container"
    );
    let mut options: Vec<String> = ["nosuid", "nodev", "noexec"].map(str::to_owned).to_vec();
    options.extend(words.split(',').filter(|word| !word.is_empty()).map(str::to_owned));
    Ok(Tmpfs { container: container.to_owned(), options })
}

/// Nothing for a port that is the guest's own.
fn forward(text: &str) -> Result<Option<Forward>> {
    let wrong = || format!("--publish {text:?} is not of the form [IP:]HOST:CONTAINER");
    let plain = match text.rsplit_once('/') {
        Some((plain, "tcp")) => plain,
        Some((_, other)) => bail!("--publish {text:?}: tcp is forwarded here, not {other}"),
        None => text,
    };
    let (rest, container) = plain.rsplit_once(':').unwrap_or(("", plain));
    let (ip, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let to: u16 = container.parse().with_context(wrong)?;
    let port: u16 = if host.is_empty() { to } else { host.parse().with_context(wrong)? };
    ensure!(to > 0 && port > 0, wrong());
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    let from: Option<IpAddr> =
        (!ip.is_empty()).then(|| ip.parse().with_context(wrong)).transpose()?;
    match from {
        Some(ip) if port == to => bail!(
            "--publish {text:?}: in the host's network the guest itself chooses on which of its \
             addresses it listens; a component that answers HTTP listens where --env \
             WASMTIME_HTTP_PROXY_SOCKET_ADDR={} says",
            SocketAddr::new(ip, port)
        ),
        None if port == to => Ok(None),
        ip => {
            let ip = ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            Ok(Some(Forward { from: SocketAddr::new(ip, port), to }))
        }
    }
}

/// An amount as docker reads it: a number, with b, k, m or g for its unit.
fn bytes(text: &str) -> Result<i64> {
    let lower = text.to_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let shift = match unit {
        "" | "b" => Some(0),
        "k" | "kb" | "kib" => Some(10),
        "m" | "mb" | "mib" => Some(20),
        "g" | "gb" | "gib" => Some(30),
        _ => None,
    };
    let bytes = shift.and_then(|shift| Some(number.parse::<f64>().ok()? * f64::from(1 << shift)));
    let bytes = bytes.filter(|bytes| (1.0..1e18).contains(bytes));
    let bytes = bytes.with_context(|| format!("--memory {text:?} is no amount; say it as 64m"))?;
    Ok(bytes as i64)
}

fn cpus(number: f64) -> Result<i64> {
    ensure!(
        (0.01..=1e6).contains(&number),
        "--cpus {number} cannot be had: it is from 0.01 on, and 1 is one CPU"
    );
    Ok((number * 1e6) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_docker_reads_them() {
        for (text, amount) in [("64m", 64 << 20), ("1g", 1 << 30), ("1.5k", 1536), ("10B", 10)] {
            assert_eq!(bytes(text).unwrap(), amount, "{text}");
        }
        for wrong in ["", "m", "64q", "-1", "1m1", "1e9g"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn volumes_are_folders_of_the_host() {
        let read = |text| volume(text, Path::new("/here"));
        let one = read("./a:/b:ro").unwrap();
        assert_eq!((one.host.as_path(), one.container.as_str()), (Path::new("/here/./a"), "/b"));
        assert_eq!(one.options, ["rbind", "rprivate", "ro", "rro"]);
        assert_eq!(read("/a:/b").unwrap().host, Path::new("/a"));
        for (wrong, words) in
            [("a:/b", "./a"), ("/a", "form"), ("/a:b", "absolute"), ("/a:/b:x", "\"x\"")]
        {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn equal_ports_need_nothing_and_others_are_forwarded() {
        assert_eq!(forward("8080:8080").unwrap(), None);
        assert_eq!(forward("8080").unwrap(), None);
        let one = forward("127.0.0.1:80:8080/tcp").unwrap().unwrap();
        assert_eq!((one.from.to_string().as_str(), one.to), ("127.0.0.1:80", 8080));
        let six = forward("[::1]:80:8080").unwrap().unwrap();
        assert_eq!(six.from.to_string(), "[::1]:80");
        for wrong in ["", "a:80", "80:8080/udp", "0:80", "127.0.0.1:80:80", "x:1:2", "70000:1"] {
            assert!(forward(wrong).is_err(), "{wrong}");
        }
    }
}
