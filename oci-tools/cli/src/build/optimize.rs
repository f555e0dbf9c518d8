//! Makes modules smaller and faster with Binaryen's wasm-opt, in place where they are in a component.
//!
//! Binaryen is C++ and the module may be anybody's: it runs in a child of its own, with little memory
//! and time, without network or rights, so that what goes wrong there is an error here.

use std::fs::{File, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
#[cfg(feature = "optimize")]
use wasm_opt::Feature;

use super::sections::{Change, rewrite};

/// What to strive for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Written anew, not optimized
    #[value(name = "0")]
    None,
    /// Speed, with the passes that take little time
    #[value(name = "1")]
    Quick,
    /// Speed, with most passes
    #[value(name = "2")]
    Most,
    /// Speed, with passes that take longer
    #[value(name = "3")]
    Slow,
    /// Speed, with passes that take very long
    #[value(name = "4")]
    Slowest,
    /// Size, and speed
    #[value(name = "s")]
    Size,
    /// Size alone
    #[value(name = "z")]
    Smallest,
}

/// The argument that makes this program the child; the next is the level.
const COMMAND: &str = "optimize-module";

/// The most memory of the child, in bytes.
const MAX_MEMORY: u64 = 4 << 30;

/// The most CPU time of it, in seconds.
const MAX_TIME: u64 = 600;

/// The most that it may write, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// `nobody` of every distribution.
const NOBODY: u32 = 65534;

#[cfg(feature = "optimize")]
/// What Binaryen 116 knows of what our engine runs. Garbage collection and exceptions had other
/// encodings then.
const FEATURES: [Feature; 13] = [
    Feature::Atomics,
    Feature::BulkMemory,
    Feature::ExtendedConst,
    Feature::Memory64,
    Feature::MultiMemory,
    Feature::Multivalue,
    Feature::MutableGlobals,
    Feature::ReferenceTypes,
    Feature::RelaxedSimd,
    Feature::SignExt,
    Feature::Simd,
    Feature::TailCall,
    Feature::TruncSat,
];

struct Optimize(Level);

impl Change for Optimize {
    /// What would be wrong afterwards goes: DWARF, and what linkers want to know of places in the code.
    fn keeps(&self, name: &str) -> bool {
        !name.starts_with(".debug_")
            && !name.starts_with("reloc.")
            && !["linking", "sourceMappingURL", "external_debug_info", "target_features"]
                .contains(&name)
    }

    fn core_module(&mut self, module: Vec<u8>) -> Result<Vec<u8>> {
        by_child(&module, self.0)
    }
}

/// The module or component, with all core modules in it optimized. It is to be validated.
///
/// # Errors
/// When Binaryen does not know what a module uses, or breaks down over it.
pub fn optimize(binary: &[u8], level: Level) -> Result<Vec<u8>> {
    rewrite(binary, &mut Optimize(level))
}

fn by_child(module: &[u8], level: Level) -> Result<Vec<u8>> {
    let file = || -> std::io::Result<File> {
        let file = tempfile::tempfile()?;
        // The child opens it anew as another user; it has no name by which anybody else could.
        file.set_permissions(Permissions::from_mode(0o666))?;
        Ok(file)
    };
    let scratch = "cannot make a temporary file";
    let (mut input, mut output) = (file().context(scratch)?, file().context(scratch)?);
    input.write_all(module).and_then(|()| input.rewind()).context(scratch)?;
    let program = std::env::current_exe().context("this program is gone")?;
    let level = level.to_possible_value().context("a level without a name")?;
    let mut child = Command::new(program)
        .args([COMMAND, level.get_name()])
        .env_clear()
        .stdin(input)
        .stdout(output.try_clone().context(scratch)?)
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the optimizer")?;
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(64 << 10).read_to_end(&mut said).context("cannot read from the optimizer")?;
    }
    let status = child.wait().context("cannot wait for the optimizer")?;
    if !status.success() {
        return Err(failure(status, &String::from_utf8_lossy(&said)));
    }
    let mut optimized = Vec::new();
    output.rewind().and_then(|()| output.read_to_end(&mut optimized)).context(scratch)?;
    Ok(optimized)
}

fn failure(status: ExitStatus, said: &str) -> anyhow::Error {
    if cfg!(not(feature = "optimize")) {
        return anyhow!("{}", said.trim().trim_start_matches("error: ").to_owned());
    }
    let advice = "leave out --optimize for this module";
    match status.signal().and_then(|number| Signal::try_from(number).ok()) {
        Some(Signal::SIGXCPU) => anyhow!(
            "it takes more than {MAX_TIME} seconds of CPU time: choose a lower level, or {advice}"
        ),
        Some(signal) => anyhow!("Binaryen breaks down over it ({signal}): {advice}"),
        None => {
            let clean = |c: char| if c.is_control() { ' ' } else { c };
            let words: String = said.trim().chars().map(clean).take(400).collect();
            anyhow!(
                "{}: it may use what Binaryen 116 does not know, such as garbage collection or exceptions; {advice}",
                words.strip_prefix("error: ").unwrap_or(&words)
            )
        }
    }
}

/// The child, if this process is one: optimizes the module on stdin to stdout, which are files. No
/// command of the command line's, so that nobody is shown it.
pub fn in_child() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != COMMAND {
        return None;
    }
    let level = arguments.next()?;
    let level = Level::from_str(level.to_str()?, false).ok()?;
    Some(match confine().and_then(|()| binaryen(level)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    })
}

#[cfg(not(feature = "optimize"))]
fn binaryen(_: Level) -> Result<()> {
    Err(anyhow!("this wasm-image was built without Binaryen, the feature `optimize`"))
}

#[cfg(feature = "optimize")]
fn binaryen(level: Level) -> Result<()> {
    use wasm_opt::OptimizationOptions;

    let mut options = match level {
        Level::None => OptimizationOptions::new_opt_level_0(),
        Level::Quick => OptimizationOptions::new_opt_level_1(),
        Level::Most => OptimizationOptions::new_opt_level_2(),
        Level::Slow => OptimizationOptions::new_opt_level_3(),
        Level::Slowest => OptimizationOptions::new_opt_level_4(),
        Level::Size => OptimizationOptions::new_optimize_for_size(),
        Level::Smallest => OptimizationOptions::new_optimize_for_size_aggressively(),
    };
    // Names stay: without them a backtrace says little.
    options.mvp_features_only().debug_info(true);
    for feature in FEATURES {
        options.enable_feature(feature);
    }
    options.run("/proc/self/fd/0", "/proc/self/fd/1").map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        match source {
            Some(source) => anyhow!("{error}: {source}"),
            None => error.into(),
        }
    })
}

fn confine() -> Result<()> {
    let limits = [
        (Resource::RLIMIT_AS, MAX_MEMORY),
        (Resource::RLIMIT_FSIZE, MAX_FILE),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_CPU, MAX_TIME),
    ];
    for (resource, most) in limits {
        // A stricter limit of the caller's stays.
        let (_, hard) = nix::sys::resource::getrlimit(resource)?;
        let spare = u64::from(resource == Resource::RLIMIT_CPU);
        setrlimit(resource, most.min(hard), (most + spare).min(hard))?;
    }
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        // Where users may have no namespaces, it has a network that it does not use.
        let _ = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET);
    }
    if Uid::effective().is_root() && Uid::current().is_root() && may_change_user() {
        setgroups(&[])?;
        setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY))?;
        setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY))?;
    }
    // The kernel forgets it when the user changes.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    nix::sys::prctl::set_no_new_privs().context("cannot give up rights")
}

/// In a user namespace of its own, a process may be root and have no other user to change to.
fn may_change_user() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let covers = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.nth(1)) {
            (Some(Ok(first)), Some(Ok(count))) => {
                (first..first.saturating_add(count)).contains(&u64::from(NOBODY))
            }
            _ => false,
        }
    };
    map.lines().any(covers)
}
