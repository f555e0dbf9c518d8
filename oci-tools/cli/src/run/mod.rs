//! `wasm-image run`: a container without a daemon, by the very code of the runtime
//! ([`shim::cli::run`]). What is here finds out what to run, and makes its bundle.
//!
//! Everything that is made for a container lies in memory, in a mount namespace that only it and this
//! process are in: it is gone with them, however they end. Until the container's process is forked
//! this process has one thread.

mod options;
mod publish;
mod rootfs;
mod source;
mod spec;
mod tty;
mod unpack;
mod user;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail, ensure};
use artifact::known::{DEFAULT_DIR, Known};
use artifact::media::is_wasm_layer;
use nix::unistd::geteuid;
use shim::cli::run::{Container, Ended, Failure, Runner, is_role};
use shim::image::manifest::{self, Found, Wanted};
use shim::sandbox::alone;
use shim::spec::{Entry, RootfsPart};

use crate::cli::RunArgs;
use crate::inspect::image::{Image, layers};
use crate::inspect::layout::Descriptor;
use crate::store::damaged;
use options::{Limits, Options};
use publish::Listening;
use source::{ImageSource, Source};
use spec::Program;
use tty::Raw;
use user::User;

/// The exit code when nothing was run, as docker has it.
const NOT_RUN: u8 = 125;

/// The same when what is to be run is not there.
const NOT_FOUND: u8 = 127;

/// The name of a module that has none.
const NAMELESS: &str = "/module.wasm";

/// What is to be run is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotFound(String);

/// What this process is to do for the runtime, if it was executed for that: never a user's command,
/// for it has a name of its own then.
pub fn role() -> Option<ExitCode> {
    let argv: Vec<OsString> = env::args_os().collect();
    is_role(&argv).then(|| shim::cli::run(argv))
}

/// Says what is wrong with a command line, or the help that it asks for. That of `run` has an exit
/// code that a guest is not likely to have.
pub fn refuse(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.use_stderr() && env::args_os().nth(1).is_some_and(|verb| verb == "run") {
        true => ExitCode::from(NOT_RUN),
        false => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(NOT_RUN)),
    }
}

/// Where the code is that `run` and, for root, the shim look for, or another folder that is `given`.
///
/// # Errors
/// When there is no place for it.
pub fn code_cache(given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(root) => Ok(root.to_owned()),
        None => Ok(Places::of(geteuid().is_root())?.code),
    }
}

/// Runs, and ends as the guest does.
pub fn run(args: &RunArgs) -> ExitCode {
    let code = match execute(args) {
        Ok(ended) => {
            if ended.out_of_memory {
                let limit = args.memory.as_deref().unwrap_or_default();
                eprintln!("note: the kernel ended it for want of memory; the limit is {limit}");
            }
            ended.code
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            match (error.downcast_ref::<Failure>(), error.is::<NotFound>()) {
                (Some(failure), _) => failure.code,
                (None, true) => NOT_FOUND,
                (None, false) => NOT_RUN,
            }
        }
    };
    ExitCode::from(code)
}

fn execute(args: &RunArgs) -> Result<Ended> {
    let options = Options::of(args)?;
    let is_root = geteuid().is_root();
    if !is_root {
        check_limits(&options.limits)?;
    }
    if args.tty && args.interactive && !io::stdin().is_terminal() {
        bail!("the input device is not a TTY; leave out --tty");
    }
    let (word, words) = args.command.split_first().context("it is not said what to run")?;
    let words = words.iter().map(|word| word.to_str().map(str::to_owned));
    let words = words.collect::<Option<Vec<_>>>().context("arguments are UTF-8")?;
    let source = Source::find(word, args)?;
    let places = Places::of(is_root)?;
    alone::enter()?;
    alone::empty_folder(&places.here).map_err(|error| match is_root {
        true => anyhow!("{error}"),
        false => anyhow!("{error}; give another folder as XDG_CACHE_HOME in the environment"),
    })?;
    let cgroup = is_root && !options.limits.is_none();
    let guard = cgroup.then_some(places.here.as_path());
    let runner = Runner::new(places.code, guard).map_err(|error| anyhow!("cannot run: {error}"))?;
    let here = places.here;
    fs::create_dir(here.join("rootfs")).context("cannot make the rootfs")?;
    let (mut program, rootfs) = match &source {
        Source::File(path) => (of_file(path, words, args)?, None),
        Source::Image(image) => {
            let of_image = || of_image(image, words, args, &here, is_root);
            of_image().with_context(|| format!("cannot run {}", image.name))?
        }
    };
    if !is_root {
        // The only user and group that there are.
        program.user = User::default();
    }
    let id = id()?;
    spec::write(&here, &id, args, &options, &program, cgroup)?;
    for forward in &options.forwards {
        let listening = Listening::at(forward)?;
        runner.beside(listening.forward());
    }
    let raw = if args.tty && args.interactive { Raw::stdin()? } else { None };
    let ended = runner.run(Container {
        id,
        bundle: here,
        rootfs: rootfs.into_iter().collect(),
        stdin: args.interactive,
        terminal: args.tty,
        cgroup,
        max_guest_memory: options.limits.memory.filter(|_| !is_root).map(|n| n.unsigned_abs()),
    });
    drop(raw);
    Ok(ended?)
}

/// Without control groups there is only the ceiling of the guest's memory.
fn check_limits(limits: &Limits) -> Result<()> {
    for (flag, is_set) in
        [("--cpus", limits.cpus.is_some()), ("--pids-limit", limits.pids.is_some())]
    {
        ensure!(
            !is_set,
            "{flag} needs a control group, which only root can make: run it as root, or within `systemd-run --user --scope` with the limit as its property"
        );
    }
    Ok(())
}

/// Where things are kept.
struct Places {
    /// The folder that is an empty one for each container; absolute.
    here: PathBuf,
    /// The cache of compiled code.
    code: PathBuf,
}

impl Places {
    fn of(is_root: bool) -> Result<Self> {
        if is_root {
            let code = artifact::cache::DEFAULT_ROOT.into();
            return Ok(Self { here: "/run/wasm-image".into(), code });
        }
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || env::home_dir().map(|home| home.join(".cache"));
        let cache = cache.filter(|path| path.is_absolute()).or_else(home);
        let cache = cache.filter(|path| path.is_absolute()).context(
            "there is no home folder for compiled code: give one as XDG_CACHE_HOME in the environment",
        )?;
        let own = cache.join("wasm-image");
        Ok(Self { here: own.join("run"), code: own.join("code") })
    }
}

fn id() -> Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("cannot make an id")?;
    Ok(uuid.trim().replace('-', ""))
}

/// A file in an empty rootfs.
fn of_file(path: &Path, words: Vec<String>, args: &RunArgs) -> Result<Program> {
    let name = path.file_name().and_then(|name| name.to_str());
    // What is behind a # would be an export.
    let inside = name.filter(|name| !name.contains('#')).map(|name| format!("/{name}"));
    let inside = inside.unwrap_or_else(|| NAMELESS.into());
    let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    let entry = args.entrypoint.clone().unwrap_or_else(|| inside.clone());
    let user = args.user.as_deref().unwrap_or_default();
    let user = User::find(user, None)?;
    Ok(Program {
        args: [entry].into_iter().chain(words).collect(),
        env: Vec::new(),
        cwd: cwd(args, "")?,
        privileged: user.uid == 0,
        user,
        files: vec![(path.to_owned(), inside)],
    })
}

/// What an image says, with what the flags say instead; and the rootfs, if it has files.
fn of_image(
    source: &ImageSource,
    words: Vec<String>,
    args: &RunArgs,
    here: &Path,
    owners: bool,
) -> Result<(Program, Option<RootfsPart>)> {
    let (image, manifest, document) = Image::choose(&source.layout, &source.index)?;
    let layers = layers(&document)?;
    let (wasm, files): (Vec<_>, Vec<_>) =
        layers.iter().partition(|layer| is_wasm_layer(&layer.media_type));
    let lower = match files.is_empty() {
        true => None,
        false => Some(rootfs::unpack(source, &manifest, &files, owners)?),
    };
    let root = lower.as_deref().map(File::open).transpose().context("cannot open the rootfs")?;
    let user = args.user.as_deref().unwrap_or(&image.user);
    let user = User::find(user, root.as_ref().map(AsFd::as_fd))?;
    let mut program = Program {
        args: command(&image, words, args, !wasm.is_empty()),
        env: image.env,
        cwd: cwd(args, &image.workdir)?,
        privileged: user.uid == 0,
        user,
        files: Vec::new(),
    };
    if !wasm.is_empty() && !has_program(&program, root.as_ref()) {
        take_layer(source, &manifest, &layers, &mut program, here)?;
    }
    ensure!(
        !program.args.is_empty(),
        "it names no program: it has neither entrypoint nor command; give --entrypoint"
    );
    let part = lower.map(|lower| rootfs::above(&lower, here, owners)).transpose()?;
    Ok((program, part))
}

/// The file at `path`, if it is what `digest` names. One that was looked at before is remembered.
fn whole(path: PathBuf, digest: &str) -> Result<PathBuf> {
    let unreadable = || format!("cannot read {}", path.display());
    let file = File::open(&path).with_context(unreadable)?;
    let actual = Known::at(Path::new(DEFAULT_DIR)).digest_of(&file).with_context(unreadable)?;
    match digest.strip_prefix("sha256:") == Some(&actual.to_string()) {
        true => Ok(path),
        false => Err(damaged(&path, "")),
    }
}

/// As docker puts it together; but of an artifact, which is a module `in_layer` and says no command,
/// the module is what is meant.
fn command(image: &Image, words: Vec<String>, args: &RunArgs, in_layer: bool) -> Vec<String> {
    let mut command = match &args.entrypoint {
        Some(entrypoint) => vec![entrypoint.clone()],
        None if in_layer && image.entrypoint.is_empty() && image.cmd.is_empty() => vec!["/".into()],
        None => image.entrypoint.clone(),
    };
    command.retain(|word| !word.is_empty());
    match args.entrypoint.is_none() && words.is_empty() {
        true => command.extend(image.cmd.iter().cloned()),
        false => command.extend(words),
    }
    command
}

fn cwd(args: &RunArgs, own: &str) -> Result<String> {
    if let Some(workdir) = &args.workdir {
        ensure!(
            workdir.starts_with('/'),
            "the working directory {workdir:?} is invalid, it needs to be an absolute path"
        );
        return Ok(workdir.clone());
    }
    Ok(Path::new("/").join(own).display().to_string())
}

/// Whether the first argument names a file of the rootfs.
fn has_program(program: &Program, root: Option<&File>) -> bool {
    entry(program).is_some_and(|entry| {
        root.is_some_and(|root| shim::image::open(root.as_fd(), &entry).is_ok())
    })
}

fn entry(program: &Program) -> Option<Entry> {
    Entry::parse(program.args.first()?, &program.env, Path::new(&program.cwd)).ok()
}

/// Has the container run a layer that is the module itself: the one that is called as the first
/// argument of an image that says one, or else the only one.
fn take_layer(
    source: &ImageSource,
    document: &Descriptor,
    layers: &[Descriptor],
    program: &mut Program,
    here: &Path,
) -> Result<()> {
    let word = entry(program).map_or("/".to_owned(), |entry| entry.file().to_owned());
    let mut read = |blob: &manifest::Descriptor| {
        let digest = blob.digest.clone();
        let blob = Descriptor { media_type: blob.media_type.clone(), digest, size: blob.size };
        let mut bytes = Vec::new();
        let read = source.layout.blob(&blob).and_then(|mut reader| {
            io::Read::read_to_end(&mut reader, &mut bytes).map_err(Into::into)
        });
        read.map(|_| bytes).map_err(|error| error.to_string())
    };
    let Descriptor { media_type, digest, size } = document.clone();
    let media_type = match media_type.is_empty() {
        true => artifact::media::MANIFEST.to_owned(),
        false => media_type,
    };
    let target = manifest::Descriptor::new(media_type, digest, size);
    let found = manifest::find(&target, Wanted { word: &word, own: None }, &mut read);
    let layer = match found {
        Ok(Found::Layer(layer)) => layer,
        Err(manifest::Error::WhichOne { count, titles, .. }) => bail!(
            "it has {count} modules as layers, and none is called {word:?}; let --entrypoint name one: {titles}"
        ),
        Err(error) => return Err(error.into()),
        Ok(_) => bail!("none of its layers is a module"),
    };
    let title = layer.title.as_deref().map(|title| title.trim_start_matches("./"));
    let title = title.map(|title| format!("/{}", title.trim_start_matches('/')));
    let inside = match entry(program) {
        Some(entry) if entry.file() != "/" => {
            entry.candidates.last().map(|path| path.display().to_string())
        }
        _ => title.filter(|title| title.len() > 1 && !title.contains('#')),
    };
    let inside = inside.unwrap_or_else(|| NAMELESS.into());
    if entry(program).is_none_or(|entry| entry.file() == "/") {
        program.args = [inside.clone()].into_iter().chain(program.args.drain(..).skip(1)).collect();
    }
    let digest = format!("sha256:{}", layer.digest);
    let layer = layers.iter().find(|one| one.digest == digest);
    let layer = layer.context("none of its layers is a module")?;
    let host = match source.stored {
        true => whole(source.store.root().join("blobs").join(digest.replace(':', "/")), &digest)?,
        false => {
            let path = here.join("module");
            let mut blob = source.layout.blob(layer)?;
            io::copy(&mut blob, &mut File::create(&path)?).context("cannot copy the module")?;
            blob.verify()?;
            path
        }
    };
    let host = host.canonicalize().with_context(|| format!("cannot use {}", host.display()))?;
    let host = host.to_str().context("the path of the store is not UTF-8")?.to_owned();
    program.files.push((host, inside));
    Ok(())
}
