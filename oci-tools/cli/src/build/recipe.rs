//! What to build: the request once every part of it has been understood. No module is read here, so a
//! mistake in typing costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::optimize::Level;
use super::request::{Place, Request, Said, Step};
use crate::cli::{BuildArgs, Form, Format, SbomFormat};
use crate::name::Name;

/// A command line that cannot be carried out as typed; the program ends with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}\n\nFor more information, try 'wasm-image build --help'.")]
pub struct Usage(pub String);

/// A validated build.
#[derive(Debug)]
pub struct Recipe {
    /// Modules to put into the image. Those that a Containerfile copies are found among the files.
    pub modules: Vec<Program>,
    pub form: Form,
    /// Layouts whose Linux images go beside this one.
    pub linux: Vec<PathBuf>,
    pub names: Vec<Name>,
    pub output: Target,
    /// Whether the image goes to the store, and if one was named, to which.
    pub store: Option<Option<PathBuf>>,
    pub steps: Vec<Said<Step>>,
    pub config: Config,
    pub changes: Changes,
    pub sbom: Option<Sbom>,
    pub epoch: Epoch,
    pub json: bool,
}

/// A module that was named.
#[derive(Debug)]
pub struct Program {
    pub source: Said<PathBuf>,
    /// Where it goes in the image, relative to its root: `<stem>.wasm`.
    pub dest: PathBuf,
}

/// What is done to the modules on their way into the image, in this order.
#[derive(Debug)]
pub struct Changes {
    pub optimize: Option<Level>,
    pub component: bool,
    /// Components that are put into those that import what they export.
    pub plugs: Vec<Said<PathBuf>>,
    pub strip: bool,
}

/// The list of what is in the modules.
#[derive(Debug)]
pub struct Sbom {
    pub format: SbomFormat,
    pub output: PathBuf,
}

/// Where the image goes.
#[derive(Debug)]
pub enum Target {
    Stdout,
    File(PathBuf),
}

/// One `--add`.
#[derive(Clone, Debug)]
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
    /// <https://github.com/moby/docker-image-spec/blob/v1.3.1/specs-go/v1/image.go>
    pub healthcheck: Option<Value>,
}

impl Config {
    /// The word that names what runs.
    pub fn program(&self) -> Option<&str> {
        self.entrypoint.first().or(self.cmd.first()).map(String::as_str)
    }

    /// The paths of the image, relative to its root, where `program` may be: as the runtime looks
    /// for it.
    pub fn places(&self, program: &str) -> Vec<PathBuf> {
        // `#` separates the file from a function in it.
        let file = program.split('#').next().unwrap_or_default();
        let mut folders = vec![self.workdir.as_deref().unwrap_or("/")];
        let path = self.env.iter().find_map(|variable| variable.strip_prefix("PATH="));
        if !file.contains('/') {
            folders.extend(path.into_iter().flat_map(|path| path.split(':')));
        }
        let places = folders.iter().map(|folder| Path::new("/").join(folder).join(file));
        places.filter_map(|place| inside_root(&place)).collect()
    }
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
    ///
    /// # Errors
    /// [`Usage`] for what the command line says, and words with file and line for what a file says.
    pub fn new(
        request: Request,
        args: &BuildArgs,
        source_date_epoch: Option<&OsStr>,
    ) -> Result<Self> {
        check_form(&request)?;
        let modules = request.modules.into_iter().map(program).collect::<Result<Vec<_>>>()?;
        let named = |said: &Said<Vec<String>>| match said.value.is_empty() {
            true => Err(said.at.wrong("is empty: it must name what to run")),
            false => Ok(said.value.clone()),
        };
        let mut config = Config {
            entrypoint: request.entrypoint.as_ref().map(named).transpose()?.unwrap_or_default(),
            cmd: request.cmd.map(|said| said.value).unwrap_or_default(),
            env: env(&request.env)?,
            workdir: request.workdir.map(|said| said.check(|text| workdir(text))).transpose()?,
            user: request.user.map(|said| said.check(|text| user(text))).transpose()?,
            labels: labels(&request.labels)?,
            expose: request
                .expose
                .iter()
                .map(|said| said.check(|text| port(text)))
                .collect::<Result<_>>()?,
            stop_signal: request
                .stop_signal
                .map(|said| said.check(|text| signal(text)))
                .transpose()?,
            healthcheck: request.healthcheck.map(|said| said.value),
        };
        if let Some(first) = modules.first().filter(|_| request.entrypoint.is_none()) {
            config.entrypoint = vec![format!("/{}", first.dest.display())];
        }
        let program = config.program().and_then(|word| word.split('#').next()).map(Path::new);
        let first = modules.first().map(|module| module.dest.as_path()).or(program);
        let Some(stem) = first.and_then(|path| stem_of(path).ok()) else {
            bail!("nothing says what to run: name a module, or an ENTRYPOINT in the Containerfile");
        };
        if request.output.is_some() && args.store.store.is_some() {
            return Err(Usage(
                "--output and --store exclude each other: what is written to a file is not stored"
                    .into(),
            )
            .into());
        }
        let output = request.output.map(|said| said.value);
        Ok(Self {
            store: output.is_none().then(|| args.store.store.clone()),
            form: request.form.map(|said| said.value).unwrap_or_default(),
            linux: request.linux.into_iter().map(|said| said.value).collect(),
            names: names(&request.tags, &stem)?,
            output: target(output, &stem),
            steps: request.steps,
            changes: Changes {
                optimize: request.optimize.map(|said| said.value),
                component: request.component.is_some_and(|said| said.value),
                plugs: request.plugs,
                strip: request.strip.is_some_and(|said| said.value),
            },
            sbom: sbom(request.sbom, request.sbom_output, &stem)?,
            epoch: epoch(source_date_epoch)?,
            json: args.format == Format::Json,
            modules,
            config,
        })
    }
}

/// What the form has no place for is refused, not dropped.
fn check_form(request: &Request) -> Result<()> {
    let form = request.form.as_ref().map(|said| said.value).unwrap_or_default();
    if let Some(linux) = request.linux.first().filter(|_| !form.is_indexed()) {
        return Err(linux
            .at
            .wrong("needs an index to put its images into: add --form index or artifact-index"));
    }
    if !form.is_artifact() {
        return Ok(());
    }
    fn at<T>(said: Option<&Said<T>>) -> Option<&Place> {
        said.map(|said| &said.at)
    }
    let files = [
        at(request.steps.first()),
        at(request.entrypoint.as_ref()),
        at(request.cmd.as_ref()),
        at(request.env.first()),
        at(request.workdir.as_ref()),
        at(request.user.as_ref()),
        at(request.labels.first()),
        at(request.expose.first()),
        at(request.stop_signal.as_ref()),
        at(request.healthcheck.as_ref()),
    ];
    if let Some(place) = files.into_iter().flatten().next() {
        return Err(place.wrong(
            "has no place in an artifact, which is the module and what it imports and exports: use --form image or index",
        ));
    }
    match request.modules.get(1) {
        Some(second) => Err(second.at.bad(
            second.value.display(),
            "an artifact is one module: use --form image or index for several",
        )),
        None => Ok(()),
    }
}

fn program(source: Said<PathBuf>) -> Result<Program> {
    let stem = stem_of(&source.value).map_err(|why| source.at.bad(source.value.display(), why))?;
    Ok(Program { source, dest: format!("{stem}.wasm").into() })
}

/// The module's name in the image; it ends up in JSON, so it must be text.
fn stem_of(module: &Path) -> Result<String, String> {
    let stem = module.file_stem().ok_or("it does not name a file")?;
    Ok(stem.to_str().ok_or("the file's name is not UTF-8: rename it")?.to_owned())
}

fn names(tags: &[Said<String>], stem: &str) -> Result<Vec<Name>> {
    if tags.is_empty() {
        let name = Name::parse(&stem.to_lowercase()).map_err(|_| {
            Usage(format!("`{stem}` cannot be the name of an image: give one with --tag NAME"))
        })?;
        return Ok(vec![name]);
    }
    let mut names = Vec::new();
    for tag in tags {
        let name = tag.check(|tag| Name::parse(tag).map_err(|error| error.to_string()))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn target(output: Option<PathBuf>, stem: &str) -> Target {
    match output {
        Some(path) if path.as_os_str() == "-" => Target::Stdout,
        Some(path) => Target::File(path),
        None => Target::File(format!("{stem}.tar").into()),
    }
}

fn sbom(
    format: Option<Said<SbomFormat>>,
    output: Option<Said<PathBuf>>,
    stem: &str,
) -> Result<Option<Sbom>> {
    match (format, output) {
        (Some(format), output) => {
            let default = || format!("{stem}.{}.json", format.value.name()).into();
            let output = output.map_or_else(default, |said| said.value);
            Ok(Some(Sbom { format: format.value, output }))
        }
        (None, Some(output)) => Err(output.at.wrong("needs --sbom spdx or --sbom cyclonedx")),
        (None, None) => Ok(None),
    }
}

/// `SRC:DEST`.
///
/// # Errors
/// Why it is none.
pub fn add(text: &OsStr) -> Result<Add, String> {
    let bytes = text.as_bytes();
    // The last colon, so that SRC may hold one.
    let colon = bytes.iter().rposition(|&b| b == b':').ok_or("it must be SRC:DEST")?;
    let (source, dest) = (&bytes[..colon], &bytes[colon + 1..]);
    if source.is_empty() || dest.is_empty() {
        return Err("both SRC and DEST must be given".into());
    }
    let (dest, into) = dest_of(OsStr::from_bytes(dest))?;
    Ok(Add { source: PathBuf::from(OsStr::from_bytes(source)), dest, into })
}

/// Where a DEST is, relative to the root of the image, and whether it is a folder to put things into.
///
/// # Errors
/// Why it is no path in the image.
pub fn dest_of(dest: &OsStr) -> Result<(PathBuf, bool), String> {
    let inside = inside_root(Path::new(dest))
        .ok_or("DEST must not contain `..`: it is a path from the root of the image")?;
    Ok((inside, dest.as_bytes().ends_with(b"/")))
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
///
/// # Errors
/// Why it is neither.
pub fn argv(text: &str) -> Result<Vec<String>, String> {
    if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|error| format!("not a JSON array of strings: {error}"))
    } else if text.is_empty() {
        Ok(Vec::new())
    } else {
        Ok(vec![text.to_owned()])
    }
}

fn env(variables: &[Said<String>]) -> Result<Vec<String>> {
    let mut env: Vec<String> = Vec::new();
    for said in variables {
        let text = &said.value;
        let key = said.check(|text| match key_value(text) {
            Some((key, _)) => Ok(key.to_owned()),
            None => Err("it must be KEY=VALUE (values are never taken from this shell, so that builds can be repeated)".into()),
        })?;
        // A later value replaces an earlier one, in its place.
        let same = |known: &&mut String| known.split('=').next() == Some(&key);
        match env.iter_mut().find(same) {
            Some(known) => known.clone_from(text),
            None => env.push(text.clone()),
        }
    }
    Ok(env)
}

fn labels(labels: &[Said<String>]) -> Result<BTreeMap<String, String>> {
    let pair = |said: &Said<String>| {
        said.check(|text| match key_value(text) {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err("it must be KEY=VALUE".into()),
        })
    };
    labels.iter().map(pair).collect()
}

fn key_value(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').filter(|(key, _)| !key.trim().is_empty())
}

fn workdir(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("it must be an absolute path in the image".into());
    }
    let inside = inside_root(Path::new(text)).ok_or("it must not contain `..`")?;
    Ok(format!("/{}", inside.display()))
}

fn user(text: &str) -> Result<String, String> {
    let (name, group) = text.split_once(':').unwrap_or((text, "0"));
    let ok = |part: &str| !part.is_empty() && !part.contains([':', ' ', '\t', '\n', '/']);
    if ok(name) && ok(group) {
        Ok(text.to_owned())
    } else {
        Err("it must be USER or USER:GROUP, best as numbers".into())
    }
}

fn port(text: &str) -> Result<String, String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    match port.parse::<u16>() {
        Ok(port) if port > 0 && ["tcp", "udp", "sctp"].contains(&protocol.as_str()) => {
            Ok(format!("{port}/{protocol}"))
        }
        _ => Err("it must be a port from 1 to 65535, with /tcp, /udp or /sctp if need be".into()),
    }
}

fn signal(text: &str) -> Result<String, String> {
    if text.parse().is_ok_and(|number: u8| (1..=64).contains(&number)) {
        return Ok(text.to_owned());
    }
    let upper = text.to_uppercase();
    let name = format!("SIG{}", upper.strip_prefix("SIG").unwrap_or(&upper));
    if name.parse::<Signal>().is_ok() {
        return Ok(name);
    }
    Err("it must be a name such as SIGTERM or a number from 1 to 64".into())
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
        assert_eq!(argv(r#"["/a.wasm", "-v"]"#).unwrap(), ["/a.wasm", "-v"]);
        assert_eq!(argv("/a b.wasm").unwrap(), ["/a b.wasm"]);
        assert!(argv("[1]").is_err());
        assert!(argv("[").is_err());
    }

    #[test]
    fn a_destination_is_a_path_from_the_root_of_the_image() {
        let dest = |text: &str| add(text.as_ref()).map(|add| add.dest);
        assert_eq!(dest("src:/a/./b/").unwrap(), Path::new("a/b"));
        assert_eq!(dest("s:rc:a").unwrap(), Path::new("a"));
        assert_eq!(dest("src:/").unwrap(), Path::new(""));
        for bad in ["src", "src:", ":dest", "src:../x", "src:/a/../../x"] {
            assert!(dest(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_later_variable_replaces_an_earlier_one_in_its_place() {
        let said = |text: &str| Said::new(text.to_owned(), Place::Option("--env"));
        let given = ["A=1", "AB=2", "A=3=4"].map(said);
        assert_eq!(env(&given).unwrap(), ["A=3=4", "AB=2"]);
        assert!(env(&[said("=x")]).is_err());
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
