//! `@ls` and `@cat`: files as the guest sees them. A path is looked up as WASI looks one up: beneath
//! the folder granted that is the longest beginning of it, which no link leads out of.

use crate::guest;
use crate::spec::Plan;
use crate::sys;
use nix::fcntl::OFlag;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// Lists each path; the exit code is 1 when one of them could not be.
pub fn list(plan: &Plan, paths: &[String], out: &mut impl Write) -> io::Result<i32> {
    let here = [".".to_owned()];
    let paths = if paths.is_empty() { &here[..] } else { paths };
    let mut code = 0;
    for path in paths {
        if paths.len() > 1 {
            writeln!(out, "{path}:")?;
        }
        match list_one(plan, path) {
            Ok(lines) => lines.iter().try_for_each(|line| writeln!(out, "{line}"))?,
            Err(e) => code = complain("@ls", path, &e, out)?,
        }
    }
    Ok(code)
}

/// Prints each file; the exit code is 1 when one of them could not be read.
pub fn print(plan: &Plan, paths: &[String], out: &mut impl Write) -> io::Result<i32> {
    let mut code = 0;
    let mut chunk = vec![0; 64 * 1024];
    for path in paths {
        let read = |file: &mut File, chunk: &mut [u8]| io::Read::read(file, chunk);
        // Not to wait for the other end of a fifo.
        let mut file = match open(plan, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(fd) => File::from(fd),
            Err(e) => {
                code = complain("@cat", path, &e, out)?;
                continue;
            }
        };
        loop {
            match read(&mut file, &mut chunk) {
                Ok(0) => break,
                Ok(length) => out.write_all(&chunk[..length])?,
                Err(e) => {
                    code = complain("@cat", path, &e, out)?;
                    break;
                }
            }
        }
    }
    Ok(code)
}

fn complain(command: &str, path: &str, error: &io::Error, out: &mut impl Write) -> io::Result<i32> {
    out.flush()?;
    let _ = writeln!(io::stderr(), "{command}: {path}: {error}");
    Ok(1)
}

fn open(plan: &Plan, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
    let path = absolute(&plan.process.cwd, path);
    let (granted, rest) = guest::folders(plan)
        .filter_map(|(folder, _)| Some((folder, path.strip_prefix(folder).ok()?)))
        .max_by_key(|(folder, _)| folder.components().count())
        .ok_or(io::ErrorKind::NotFound)?;
    let folder = sys::fd::open(granted, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    sys::fd::open_beneath(folder.as_fd(), &Path::new(".").join(rest), flags)
}

/// `path` from `cwd`, without `.` and `..`.
fn absolute(cwd: &Path, path: &str) -> PathBuf {
    let mut absolute = PathBuf::from("/");
    for part in cwd.join(path).components() {
        match part {
            Component::Normal(name) => absolute.push(name),
            Component::ParentDir => drop(absolute.pop()),
            _ => {}
        }
    }
    absolute
}

fn list_one(plan: &Plan, path: &str) -> io::Result<Vec<String>> {
    let fd = open(plan, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    let file = File::from(fd.try_clone()?);
    if !file.metadata()?.is_dir() {
        return Ok(vec![line(&file.metadata()?, path, None)]);
    }
    let mut lines = Vec::new();
    let mut dir = nix::dir::Dir::from_fd(fd)?;
    for entry in dir.iter() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            lines.push((name.clone(), entry_line(&file, &name)));
        }
    }
    lines.sort();
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

fn entry_line(dir: &File, name: &str) -> String {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let entry = sys::fd::open_beneath(dir.as_fd(), Path::new(name), flags).map(File::from);
    match entry.and_then(|entry| Ok((entry.metadata()?, entry))) {
        Ok((meta, entry)) => {
            let target = meta.is_symlink().then(|| nix::fcntl::readlinkat(&entry, "").ok());
            let target = target.flatten().map(|target| target.to_string_lossy().into_owned());
            line(&meta, name, target.as_deref())
        }
        Err(e) => format!("?  {name}: {e}"),
    }
}

/// As `ls -ln` writes it, without the time.
fn line(meta: &Metadata, name: &str, target: Option<&str>) -> String {
    let target = target.map(|target| format!(" -> {target}")).unwrap_or_default();
    format!(
        "{}{} {:>5} {:>5} {:>10} {name}{target}",
        kind(meta.file_type()),
        permissions(meta.mode()),
        meta.uid(),
        meta.gid(),
        meta.len()
    )
}

fn kind(kind: fs::FileType) -> char {
    match kind {
        kind if kind.is_dir() => 'd',
        kind if kind.is_symlink() => 'l',
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        kind if kind.is_fifo() => 'p',
        kind if kind.is_socket() => 's',
        _ => '-',
    }
}

fn permissions(mode: u32) -> String {
    let bit = |shift: u32, letter| if mode >> shift & 1 == 1 { letter } else { '-' };
    (0..9).rev().map(|shift| bit(shift, ['x', 'w', 'r'][shift as usize % 3])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_from_the_working_folder_and_never_leads_above_the_root() {
        for (path, expected) in
            [("a", "/srv/a"), ("/a/./b", "/a/b"), ("../../../etc", "/etc"), (".", "/srv")]
        {
            assert_eq!(absolute(Path::new("/srv"), path), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn permissions_are_written_as_ls_writes_them() {
        assert_eq!(permissions(0o100_754), "rwxr-xr--");
    }
}
