//! What to build: the command line once every part of it has been understood. No file is read
//! here, so a mistake in typing costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::sys::signal::Signal;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::{BuildArgs, Form, Format};
use crate::name::Name;

/// A command line that cannot be carried out as typed; the program ends with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}\n\nFor more information, try 'wasm-image build --help'.")]
pub struct Usage(pub String);

/// A validated build.
#[derive(Debug)]
pub struct Recipe {
    pub module: PathBuf,
    /// Where the module goes in the image, relative to its root: `<stem>.wasm`.
    pub module_dest: PathBuf,
    pub form: Form,
    /// Layouts whose Linux images go beside this one.
    pub linux: Vec<PathBuf>,
    pub names: Vec<Name>,
    pub output: Target,
    /// Whether the image goes to the store, and if one was named, to which.
    pub store: Option<Option<PathBuf>>,
    pub adds: Vec<Add>,
    pub config: Config,
    pub epoch: Epoch,
    pub json: bool,
}

/// Where the image goes.
#[derive(Debug)]
pub enum Target {
    Stdout,
    File(PathBuf),
}

/// One `--add`.
#[derive(Debug)]
pub struct Add {
    pub source: PathBuf,
    /// Relative to the root of the image, without `.` and `..`.
    pub dest: PathBuf,
    /// DEST ended with `/`: a file goes into it under its own name.
    pub into: bool,
}

/// What the image's configuration says of the process.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#properties>
#[derive(Debug)]
pub struct Config {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `KEY=VALUE`, in the order given, each key once.
    pub env: Vec<String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// `PORT/PROTO`.
    pub expose: BTreeSet<String>,
    pub stop_signal: Option<String>,
}

/// The one moment that everything in the image carries.
#[derive(Debug)]
pub struct Epoch {
    pub seconds: u64,
    /// The same moment as RFC 3339.
    pub text: String,
}

impl Recipe {
    /// `source_date_epoch` is the environment variable of that name, if set.
    /// <https://reproducible-builds.org/specs/source-date-epoch/>
    pub fn new(args: BuildArgs, source_date_epoch: Option<&OsStr>) -> Result<Self, Usage> {
        check_form(&args)?;
        let stem = stem(&args.module)?;
        let module_dest = PathBuf::from(format!("{stem}.wasm"));
        let config = Config {
            entrypoint: match &args.entrypoint {
                Some(text) => argv("--entrypoint", text)?,
                None => vec![format!("/{stem}.wasm")],
            },
            cmd: match &args.cmd {
                Some(text) => argv("--cmd", text)?,
                None => Vec::new(),
            },
            env: env(&args.env)?,
            workdir: args.workdir.as_deref().map(workdir).transpose()?,
            user: args.user.as_deref().map(user).transpose()?,
            labels: labels(&args.labels)?,
            expose: args.expose.iter().map(|text| port(text)).collect::<Result<_, _>>()?,
            stop_signal: args.stop_signal.as_deref().map(signal).transpose()?,
        };
        if config.entrypoint.is_empty() {
            return Err(Usage("--entrypoint is empty: it must name what to run".into()));
        }
        if args.output.is_some() && args.store.store.is_some() {
            return Err(Usage(
                "--output and --store exclude each other: what is written to a file is not stored"
                    .into(),
            ));
        }
        Ok(Self {
            store: args.output.is_none().then_some(args.store.store),
            form: args.form,
            linux: args.linux,
            names: names(&args.tags, &stem)?,
            output: output(args.output, &stem),
            adds: args.adds.iter().map(add).collect::<Result<_, _>>()?,
            epoch: epoch(source_date_epoch)?,
            json: args.format == Format::Json,
            module: args.module,
            module_dest,
            config,
        })
    }
}

/// Options that the form has no place for are refused, not dropped.
fn check_form(args: &BuildArgs) -> Result<(), Usage> {
    if !args.form.is_indexed() && !args.linux.is_empty() {
        return Err(Usage(
            "--linux needs an index to put its images into: add --form index or artifact-index"
                .into(),
        ));
    }
    let files = [
        ("--add", !args.adds.is_empty()),
        ("--entrypoint", args.entrypoint.is_some()),
        ("--cmd", args.cmd.is_some()),
        ("--env", !args.env.is_empty()),
        ("--workdir", args.workdir.is_some()),
        ("--user", args.user.is_some()),
        ("--label", !args.labels.is_empty()),
        ("--expose", !args.expose.is_empty()),
        ("--stop-signal", args.stop_signal.is_some()),
    ];
    match files.iter().find(|(_, given)| *given && args.form.is_artifact()) {
        Some((option, _)) => Err(Usage(format!(
            "{option} has no place in an artifact, which is the module and what it imports and exports: use --form image or index"
        ))),
        None => Ok(()),
    }
}

/// The module's name in the image; it ends up in JSON, so it must be text.
fn stem(module: &Path) -> Result<String, Usage> {
    match module.file_stem().map(OsStr::to_str) {
        Some(Some(stem)) => Ok(stem.to_owned()),
        Some(None) => Err(Usage(format!(
            "the file name of {} is not UTF-8: rename the file",
            module.display()
        ))),
        None => Err(Usage(format!("{} does not name a file", module.display()))),
    }
}

fn names(tags: &[String], stem: &str) -> Result<Vec<Name>, Usage> {
    if tags.is_empty() {
        let name = Name::parse(&stem.to_lowercase()).map_err(|_| {
            Usage(format!("`{stem}` cannot be the name of an image: give one with --tag NAME"))
        })?;
        return Ok(vec![name]);
    }
    let mut names = Vec::new();
    for tag in tags {
        let name =
            Name::parse(tag).map_err(|error| Usage(format!("bad --tag `{tag}`: {error}")))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn output(output: Option<PathBuf>, stem: &str) -> Target {
    match output {
        Some(path) if path.as_os_str() == "-" => Target::Stdout,
        Some(path) => Target::File(path),
        None => Target::File(format!("{stem}.tar").into()),
    }
}

fn add(text: &OsString) -> Result<Add, Usage> {
    let bad = |why: &str| Usage(format!("bad --add `{}`: {why}", text.display()));
    let bytes = text.as_bytes();
    // The last colon, so that SRC may hold one.
    let colon = bytes.iter().rposition(|&b| b == b':');
    let colon = colon.ok_or_else(|| bad("it must be SRC:DEST"))?;
    let (source, dest) = (&bytes[..colon], &bytes[colon + 1..]);
    if source.is_empty() || dest.is_empty() {
        return Err(bad("both SRC and DEST must be given"));
    }
    let inside = inside_root(Path::new(OsStr::from_bytes(dest))).ok_or_else(|| {
        bad("DEST must not contain `..`: it is a path from the root of the image")
    })?;
    Ok(Add {
        source: PathBuf::from(OsStr::from_bytes(source)),
        dest: inside,
        into: dest.ends_with(b"/"),
    })
}

/// `/a/./b` and `a/b` both become `a/b`; `None` when there is a `..`.
fn inside_root(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => return None,
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(inside)
}

/// A JSON array of strings, or the whole text as one word, as `docker run --entrypoint` takes it.
fn argv(option: &str, text: &str) -> Result<Vec<String>, Usage> {
    if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|error| {
            Usage(format!("bad {option} `{text}`: not a JSON array of strings: {error}"))
        })
    } else if text.is_empty() {
        Ok(Vec::new())
    } else {
        Ok(vec![text.to_owned()])
    }
}

fn env(variables: &[String]) -> Result<Vec<String>, Usage> {
    let mut env: Vec<String> = Vec::new();
    for text in variables {
        let (key, _) = key_value(text).ok_or_else(|| {
            Usage(format!(
                "bad --env `{text}`: it must be KEY=VALUE (values are never taken from this shell, so that builds can be repeated)"
            ))
        })?;
        // A later value replaces an earlier one, in its place.
        let same = |known: &&mut String| known.split('=').next() == Some(key);
        match env.iter_mut().find(same) {
            Some(known) => known.clone_from(text),
            None => env.push(text.clone()),
        }
    }
    Ok(env)
}

fn labels(labels: &[String]) -> Result<BTreeMap<String, String>, Usage> {
    let pair = |text: &String| {
        let (key, value) = key_value(text)
            .ok_or_else(|| Usage(format!("bad --label `{text}`: it must be KEY=VALUE")))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    labels.iter().map(pair).collect()
}

fn key_value(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').filter(|(key, _)| !key.trim().is_empty())
}

fn workdir(text: &str) -> Result<String, Usage> {
    let bad = |why| Usage(format!("bad --workdir `{text}`: {why}"));
    if !text.starts_with('/') {
        return Err(bad("it must be an absolute path in the image"));
    }
    let inside = inside_root(Path::new(text)).ok_or_else(|| bad("it must not contain `..`"))?;
    Ok(format!("/{}", inside.display()))
}

fn user(text: &str) -> Result<String, Usage> {
    let (name, group) = text.split_once(':').unwrap_or((text, "0"));
    let ok = |part: &str| !part.is_empty() && !part.contains([':', ' ', '\t', '\n', '/']);
    if ok(name) && ok(group) {
        Ok(text.to_owned())
    } else {
        Err(Usage(format!("bad --user `{text}`: it must be USER or USER:GROUP, best as numbers")))
    }
}

fn port(text: &str) -> Result<String, Usage> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    match port.parse::<u16>() {
        Ok(port) if port > 0 && ["tcp", "udp", "sctp"].contains(&protocol.as_str()) => {
            Ok(format!("{port}/{protocol}"))
        }
        _ => Err(Usage(format!(
            "bad --expose `{text}`: it must be a port from 1 to 65535, with /tcp, /udp or /sctp if need be"
        ))),
    }
}

fn signal(text: &str) -> Result<String, Usage> {
    if text.parse().is_ok_and(|number: u8| (1..=64).contains(&number)) {
        return Ok(text.to_owned());
    }
    let upper = text.to_uppercase();
    let name = format!("SIG{}", upper.strip_prefix("SIG").unwrap_or(&upper));
    if name.parse::<Signal>().is_ok() {
        return Ok(name);
    }
    Err(Usage(format!(
        "bad --stop-signal `{text}`: it must be a name such as SIGTERM or a number from 1 to 64"
    )))
}

fn epoch(variable: Option<&OsStr>) -> Result<Epoch, Usage> {
    let text = variable.map_or("0".into(), OsStr::to_string_lossy);
    let moment = text.parse::<u64>().ok().and_then(|seconds| {
        let moment = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
        Some(Epoch { seconds, text: moment.format(&Rfc3339).ok()? })
    });
    moment.ok_or_else(|| {
        Usage(format!(
            "bad SOURCE_DATE_EPOCH `{text}` in the environment: it must be seconds since 1970"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entrypoint_takes_a_json_array_or_one_word() {
        assert_eq!(argv("--x", r#"["/a.wasm", "-v"]"#).unwrap(), ["/a.wasm", "-v"]);
        assert_eq!(argv("--x", "/a b.wasm").unwrap(), ["/a b.wasm"]);
        assert!(argv("--x", "[1]").is_err());
        assert!(argv("--x", "[").is_err());
    }

    #[test]
    fn a_destination_is_a_path_from_the_root_of_the_image() {
        let dest = |text: &str| add(&text.into()).map(|add| add.dest);
        assert_eq!(dest("src:/a/./b/").unwrap(), Path::new("a/b"));
        assert_eq!(dest("s:rc:a").unwrap(), Path::new("a"));
        assert_eq!(dest("src:/").unwrap(), Path::new(""));
        for bad in ["src", "src:", ":dest", "src:../x", "src:/a/../../x"] {
            assert!(dest(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_later_variable_replaces_an_earlier_one_in_its_place() {
        let given = ["A=1", "AB=2", "A=3=4"].map(str::to_owned);
        assert_eq!(env(&given).unwrap(), ["A=3=4", "AB=2"]);
        assert!(env(&["=x".to_owned()]).is_err());
    }

    #[test]
    fn ports_and_signals_are_written_in_full() {
        assert_eq!(port("80").unwrap(), "80/tcp");
        assert_eq!(port("53/UDP").unwrap(), "53/udp");
        assert!(["0", "65536", "x", "80/ip", "80/"].iter().all(|text| port(text).is_err()));
        assert_eq!(signal("term").unwrap(), "SIGTERM");
        assert_eq!(signal("SIGINT").unwrap(), "SIGINT");
        assert_eq!(signal("9").unwrap(), "9");
        assert!(["0", "65", "SIGNOPE", ""].iter().all(|text| signal(text).is_err()));
    }

    #[test]
    fn the_epoch_is_1970_unless_set() {
        assert_eq!(epoch(None).unwrap().text, "1970-01-01T00:00:00Z");
        let set = epoch(Some("1700000000".as_ref())).unwrap();
        assert_eq!((set.seconds, set.text.as_str()), (1_700_000_000, "2023-11-14T22:13:20Z"));
        for bad in ["", "-1", "now", "99999999999999"] {
            assert!(epoch(Some(bad.as_ref())).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_working_folder_is_absolute_and_stays_in_the_image() {
        assert_eq!(workdir("/a//b/").unwrap(), "/a/b");
        assert_eq!(workdir("/").unwrap(), "/");
        assert!(workdir("a").is_err() && workdir("/a/../..").is_err());
    }
}
