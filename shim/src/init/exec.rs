//! Another process of a container that is there already. It does what the container's own did, but
//! joins where that one made, and may also be one of the built-in commands.

use super::built_in::{self, BuiltIn, View};
use super::load::{Source, load};
use super::messages::{Failure, Order, Reason, ToInit, receive};
use super::{
    Program, Warm, begin, guest, out_of_order, set_limits, shell, take_streams, wait_for_start,
};
use crate::image;
use crate::sandbox::{namespaces, privileges};
use crate::spec::{self, Entry, Plan, Process};
use crate::sys;
use crate::sys::channel::Channel;
use crate::sys::pidfd::PidFd;
use nix::fcntl::OFlag;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How many of the image's modules an error names.
const NAMED: usize = 10;

/// What was found to be executed.
enum Found {
    Wasm(Source),
    BuiltIn(BuiltIn),
}

pub fn prepare(
    order: &Order,
    mut fds: Vec<OwnedFd>,
    channel: &Channel,
    warm: &Warm,
) -> Result<Program, Failure> {
    let process = read(fds.pop().ok_or_else(out_of_order)?)?;
    take_streams(&fds)?;
    drop(fds);
    let (ToInit::Go { cgroup, .. }, mut fds) = receive(channel)? else {
        return Err(out_of_order());
    };
    let init = fds.pop().ok_or_else(out_of_order)?;
    cgroup.join()?;
    let mut plan = spec::read(&order.bundle, &order.id)?;
    plan.max_guest_memory = order.max_guest_memory;
    let process = spec::process(&process).map_err(unusable)?;
    let container = std::mem::replace(&mut plan.process, process);
    let root = root_of(order.init, &PidFd::from(init.try_clone()?))?;
    let found = find(order, &mut plan.process, &container.entry, root.as_fd())?;
    sys::process::set_title(&plan.process.args)?;
    set_limits(&plan.process, channel)?;
    match found {
        Found::Wasm(wasm) => {
            let loaded = load(&plan, wasm, channel, warm)?;
            enter(&plan, init, root)?;
            let guest = guest(loaded, &plan)?;
            wait_for_start(channel)?;
            begin(channel)?;
            Ok(Box::new(|| guest.run()))
        }
        Found::BuiltIn(command) => {
            let view = View::gather(&command, order, &cgroup, || {
                image::open(root.as_fd(), &container.entry).ok()
            })?;
            enter(&plan, init, root)?;
            wait_for_start(channel)?;
            begin(channel)?;
            Ok(Box::new(move || built_in::run(command, &plan, &view)))
        }
    }
}

fn read(process: OwnedFd) -> io::Result<Vec<u8>> {
    let (mut file, mut json) = (File::from(process), Vec::new());
    file.rewind()?;
    file.read_to_end(&mut json)?;
    Ok(json)
}

/// From the host into the container, as its user.
fn enter(plan: &Plan, init: OwnedFd, root: OwnedFd) -> Result<(), Failure> {
    let groups_are_fixed = sys::process::groups_are_fixed()?;
    namespaces::join(&plan.isolation, init.as_fd(), root.as_fd())?;
    drop((init, root));
    privileges::drop_to(&plan.process, groups_are_fixed)?;
    let cwd = &plan.process.cwd;
    let words = match fs::metadata(cwd) {
        Ok(meta) if !meta.is_dir() => "not a directory",
        Err(e) if e.kind() == io::ErrorKind::NotFound => "no such file or directory",
        _ => return Ok(()),
    };
    let words = format!("exec: cannot chdir to cwd ({:?}): {words}", cwd.display().to_string());
    Err(Failure::new(Reason::NotFound, words))
}

/// The root folder of the process `pid`, which `held` is too: only as long as that lives, the pid
/// means it.
fn root_of(pid: i32, held: &PidFd) -> Result<OwnedFd, Failure> {
    let path = PathBuf::from(format!("/proc/{pid}/root"));
    let root = sys::fd::open(&path, OFlag::O_PATH | OFlag::O_DIRECTORY);
    held.kill(0).map_err(|_| Failure::new(Reason::Internal, "the container has ended"))?;
    Ok(root?)
}

/// What the process's first argument means. Where it is a shell that the image has not, and the
/// words for that shell need none, they are what is executed. Where the container's own entrypoint
/// `own` is no file of the rootfs, this one may be a layer as that is.
fn find(
    order: &Order,
    process: &mut Process,
    own: &Entry,
    root: BorrowedFd<'_>,
) -> Result<Found, Failure> {
    let mut missing = match find_word(order, process, root)? {
        Ok(found) => return Ok(found),
        Err(missing) => missing,
    };
    let because = match shell::command(&process.args) {
        Some(Ok(words)) => {
            *process = process.clone().with_args(words).map_err(unusable)?;
            missing = match find_word(order, process, root)? {
                Ok(found) => return Ok(found),
                Err(missing) => missing,
            };
            ""
        }
        Some(Err(because)) => because,
        None => "",
    };
    let missing = not_found(order, &missing, because, root);
    match image::open(root, own) {
        Err(e) if e.is_absence() => {
            Ok(Found::Wasm(Source::layer(&process.entry, Some(own), missing)))
        }
        _ => Err(missing),
    }
}

/// `Err` within `Ok` when there is no such file.
fn find_word(
    order: &Order,
    process: &Process,
    root: BorrowedFd<'_>,
) -> Result<Result<Found, image::Error>, Failure> {
    if order.built_ins
        && let Some(command) = BuiltIn::parse(&process.args)
    {
        return command.map(|command| Ok(Found::BuiltIn(command)));
    }
    match image::open(root, &process.entry) {
        Ok(wasm) => Ok(Ok(Found::Wasm(Source::File(wasm)))),
        Err(e) if e.is_absence() => Ok(Err(e)),
        Err(e) => Err(e.into()),
    }
}

/// Says what could be executed instead.
fn not_found(order: &Order, error: &image::Error, because: &str, root: BorrowedFd<'_>) -> Failure {
    let modules = image::modules(root, NAMED);
    let mut can = match modules.is_empty() {
        true => "it has no .wasm file".to_owned(),
        false => format!("it has {}", listed(&modules)),
    };
    can.push_str(", of which FILE#EXPORT calls a function");
    if order.built_ins {
        can.push_str("; built in are ");
        can.push_str(&built_in::NAMES.join(", "));
    }
    let words = format!(
        "{error}{because}; this is a Wasm container, without shell or Linux programs: {can}"
    );
    Failure::new(Reason::NotFound, words)
}

fn listed(modules: &[PathBuf]) -> String {
    let mut names: Vec<String> = modules
        .iter()
        .take(NAMED)
        .map(|path| Path::new("/").join(path).display().to_string())
        .collect();
    if modules.len() > NAMED {
        names.push("more".into());
    }
    names.join(", ")
}

fn unusable(error: spec::Error) -> Failure {
    Failure::new(Reason::Unusable, error.to_string())
}
