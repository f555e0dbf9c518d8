//! One mount at a time. Every destination is opened beneath the rootfs and mounted on by descriptor.

use super::paths::{make_dir, make_file};
use super::{Error, devices};
use crate::spec::{Mount, MountKind, Plan};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::{MsFlags, mount};
use std::borrow::Cow;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What mount(2) takes of options: a page, the NUL at its end included.
const MAX_DATA: usize = 4095;

/// Mounts one part of the rootfs at its place on the host.
///
/// # Errors
/// When it cannot be mounted.
pub fn mount_root(part: &Mount, rootfs: &Path) -> Result<(), Error> {
    let (source, fstype) = match &part.kind {
        MountKind::Bind { source, .. } => (source, "bind"),
        MountKind::Filesystem { fstype, source } => (source, fstype.as_str()),
        MountKind::Withheld => return Ok(()),
    };
    let what = || format!("mount the rootfs from {} ({fstype})", source.display());
    if let MountKind::Bind { source, recursive } = part.kind.clone() {
        let target = sys::fd::open(rootfs, OFlag::O_PATH).map_err(Error::step(what()))?;
        return bind(&source, recursive, part, target.as_fd()).map_err(Error::step(what()));
    }
    let (dir, data) = match part.data.len() > MAX_DATA && fstype == "overlay" {
        true => relative_layers(&part.data),
        false => (PathBuf::from("/"), Cow::Borrowed(part.data.as_str())),
    };
    nix::unistd::chdir(&dir).map_err(Error::step(what()))?;
    let done = match data.len() > MAX_DATA {
        // The kernel would cut it and mount something else, or say that a cut path is not there.
        true => Err(Errno::E2BIG),
        false => mount(Some(source), rootfs, Some(fstype), part.flags, Some(&*data)),
    };
    nix::unistd::chdir("/").map_err(Error::step(what()))?;
    done.map_err(Error::step(what()))
}

/// The longest folder that all lower layers lie in, and the options with their paths from there.
fn relative_layers(data: &str) -> (PathBuf, Cow<'_, str>) {
    let lower = data.split(',').find_map(|option| option.strip_prefix("lowerdir="));
    let Some(lower) = lower.filter(|lower| !lower.contains('\\')) else {
        return (PathBuf::from("/"), Cow::Borrowed(data));
    };
    let layers: Vec<&Path> = lower.split(':').map(Path::new).collect();
    let mut common = layers[0].parent().unwrap_or(Path::new("/"));
    while !layers.iter().all(|layer| layer.starts_with(common)) {
        common = common.parent().unwrap_or(Path::new("/"));
    }
    let relative: Vec<_> = layers
        .iter()
        .map(|layer| layer.strip_prefix(common).unwrap_or(layer).to_string_lossy())
        .collect();
    (common.to_owned(), Cow::Owned(data.replace(lower, &relative.join(":"))))
}

/// Mounts what the plan asks for at one place of the rootfs.
///
/// # Errors
/// The first step that fails, naming the mount.
pub fn mount_one(root: BorrowedFd<'_>, one: &Mount, plan: &Plan) -> Result<(), Error> {
    let at = one.destination.display();
    let no_point = || Error::step(format!("make the mount point {at}"));
    match &one.kind {
        MountKind::Withheld => Ok(()),
        MountKind::Bind { source, recursive } => {
            let what = || format!("mount {} on {at}", source.display());
            let meta = fs::metadata(source).map_err(|e| {
                Error::step(what())(e).hint("; the source of a bind mount must exist on the host")
            })?;
            let target = match meta.is_dir() {
                true => make_dir(root, &one.destination),
                false => make_file(root, &one.destination),
            };
            let target = target.map_err(no_point())?;
            bind(source, *recursive, one, target.as_fd()).map_err(Error::step(what()))
        }
        MountKind::Filesystem { fstype, source } => {
            let target = make_dir(root, &one.destination).map_err(no_point())?;
            let dev = fstype == "tmpfs" && one.destination == Path::new("/dev");
            // /dev is read-only only once it is filled, and its nodes are there to be opened.
            let flags = match dev {
                true => one.flags.difference(MsFlags::MS_RDONLY | MsFlags::MS_NODEV),
                false => one.flags | MsFlags::MS_NODEV,
            };
            mount(
                Some(source),
                &by_fd(&target),
                Some(fstype.as_str()),
                flags,
                Some(one.data.as_str()),
            )
            .map_err(Error::step(format!("mount {fstype} on {at}")))?;
            if dev || one.propagation.is_some() {
                finish(root, one, plan, dev)?;
            }
            Ok(())
        }
    }
}

/// What a mounted file system still lacks.
fn finish(root: BorrowedFd<'_>, one: &Mount, plan: &Plan, dev: bool) -> Result<(), Error> {
    let what = || format!("set the options of the mount {}", one.destination.display());
    let mounted = sys::fd::open_in_root(root, &one.destination, OFlag::O_PATH)
        .map_err(Error::step(what()))?;
    if dev {
        devices::fill(mounted.as_fd(), root, plan)?;
        sys::mount::add_attributes(mounted.as_fd(), one.flags & MsFlags::MS_RDONLY, false)
            .map_err(Error::step(what()))?;
    }
    if let Some(propagation) = one.propagation {
        sys::mount::set_propagation(mounted.as_fd(), propagation).map_err(Error::step(what()))?;
    }
    Ok(())
}

/// Mounts `source` on `target`, with all that `options` says before anybody can reach it.
fn bind(
    source: &Path,
    recursive: bool,
    options: &Mount,
    target: BorrowedFd<'_>,
) -> std::io::Result<()> {
    let tree = sys::mount::clone_tree(AT_FDCWD, source, recursive)?;
    sys::mount::add_attributes(tree.as_fd(), MsFlags::MS_NODEV, recursive)?;
    sys::mount::add_attributes(tree.as_fd(), options.flags, false)?;
    if options.recursively_read_only {
        sys::mount::add_attributes(tree.as_fd(), MsFlags::MS_RDONLY, true)?;
    }
    if let Some(propagation) = options.propagation {
        sys::mount::set_propagation(tree.as_fd(), propagation)?;
    }
    sys::mount::attach(tree.as_fd(), target)
}

/// Hides `paths` of the rootfs, as far as they are there: folders look empty, files cannot be opened.
///
/// # Errors
/// When one that is there cannot be hidden.
pub fn mask(root: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<(), Error> {
    for path in paths {
        let what = || format!("mask {}", path.display());
        let Some(target) = existing(root, path).map_err(Error::step(what()))? else {
            continue;
        };
        let meta = fs::metadata(by_fd(&target)).map_err(Error::step(what()))?;
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
        if meta.is_dir() {
            mount(Some("tmpfs"), &by_fd(&target), Some("tmpfs"), flags, Some("size=0"))
                .map_err(Error::step(what()))?;
        } else {
            sys::mount::clone_tree(AT_FDCWD, Path::new("/dev/null"), false)
                .and_then(|tree| {
                    sys::mount::add_attributes(tree.as_fd(), flags, false)?;
                    sys::mount::attach(tree.as_fd(), target.as_fd())
                })
                .map_err(Error::step(what()))?;
        }
    }
    Ok(())
}

/// Makes `paths` of the rootfs read-only with all below them, as far as they are there.
///
/// # Errors
/// When one that is there cannot be made so.
pub fn make_read_only(root: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<(), Error> {
    for path in paths {
        let what = || format!("make {} read-only", path.display());
        let Some(target) = existing(root, path).map_err(Error::step(what()))? else {
            continue;
        };
        sys::mount::clone_tree(target.as_fd(), Path::new(""), true)
            .and_then(|tree| {
                sys::mount::add_attributes(tree.as_fd(), MsFlags::MS_RDONLY, true)?;
                sys::mount::attach(tree.as_fd(), target.as_fd())
            })
            .map_err(Error::step(what()))?;
    }
    Ok(())
}

fn existing(root: BorrowedFd<'_>, path: &Path) -> std::io::Result<Option<OwnedFd>> {
    match sys::fd::open_in_root(root, path, OFlag::O_PATH) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// A path that means the open file whatever is mounted or renamed meanwhile.
fn by_fd(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::relative_layers;
    use std::path::Path;

    #[test]
    fn layers_are_named_from_the_folder_that_they_share() {
        let (dir, data) =
            relative_layers("workdir=/s/9/work,upperdir=/s/9/fs,lowerdir=/s/2/fs:/s/11/fs");
        assert_eq!(dir, Path::new("/s"));
        assert_eq!(data, "workdir=/s/9/work,upperdir=/s/9/fs,lowerdir=2/fs:11/fs");
    }
}
