//! A file that appears under its name whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use tempfile::NamedTempFile;

/// What the umask takes from, as for any file that a command writes.
const MODE: u32 = 0o666;

/// Checks that `path` may be written, before any work is done, and gives its real path: where
/// `path` is a link to a file, that file.
///
/// `inputs` are the files and folders that the build reads: the output is none of the files and in
/// none of the folders, where the next build would take it in.
pub fn check(path: &Path, inputs: &[&Path]) -> Result<PathBuf> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let real_folder = fs::canonicalize(folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    let existing = fs::metadata(path).ok();
    let real = match (fs::canonicalize(path), path.file_name()) {
        (Ok(real), _) => real,
        (Err(_), Some(name)) => real_folder.join(name),
        (Err(_), None) => bail!("cannot write {}: it does not name a file", path.display()),
    };
    if let Some(existing) = &existing {
        if existing.is_dir() {
            bail!("cannot write {}: it is a folder; name a file with --output", path.display());
        }
        if !existing.is_file() {
            bail!(
                "cannot write {}: it is not a plain file; use --output - for a pipe",
                path.display()
            );
        }
    }
    for input in inputs {
        // A missing input is reported where it is read.
        let Ok(metadata) = fs::metadata(input) else {
            continue;
        };
        let same =
            |other: &fs::Metadata| (other.dev(), other.ino()) == (metadata.dev(), metadata.ino());
        if existing.as_ref().is_some_and(same) {
            bail!(
                "cannot write {}: it is also an input; name another file with --output",
                path.display()
            );
        }
        let real_input = fs::canonicalize(input).unwrap_or_default();
        if metadata.is_dir() && real.starts_with(real_input) {
            bail!(
                "cannot write {}: it is in {}, which is added to the image; name a file elsewhere with --output",
                path.display(),
                input.display()
            );
        }
    }
    Ok(real)
}

/// A file without a name yet. Dropped or killed, it leaves nothing behind.
pub enum Draft {
    /// The kernel removes it with the last descriptor.
    Nameless(File),
    /// For file systems without `O_TMPFILE`, such as NFS: a signal at the wrong time leaves it.
    Named(NamedTempFile),
}

impl Draft {
    /// Begins a file that will be in `folder`.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let nameless = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(MODE)
            .custom_flags(OFlag::O_TMPFILE.bits())
            .open(folder);
        match nameless {
            Ok(file) => Ok(Self::Nameless(file)),
            Err(error) if lacks_tmpfile(&error) => {
                let permissions = Permissions::from_mode(MODE);
                let file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
                Ok(Self::Named(file))
            }
            Err(error) => Err(error),
        }
    }

    /// The file to write to.
    pub fn file(&mut self) -> &mut File {
        match self {
            Self::Nameless(file) => file,
            Self::Named(file) => file.as_file_mut(),
        }
    }

    /// Gives the file its name in the folder of the draft, in place of whatever file had it.
    pub fn publish(mut self, path: &Path) -> io::Result<()> {
        // Some file systems say only now that the disk is full.
        self.file().sync_all()?;
        match self {
            Self::Named(file) => drop(file.persist(path)?),
            Self::Nameless(file) => match link(&file, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => replace(&file, path)?,
                result => result?,
            },
        }
        Ok(())
    }
}

/// EISDIR comes from kernels and file systems that take `O_TMPFILE` for `O_DIRECTORY` alone.
fn lacks_tmpfile(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(nix::libc::EOPNOTSUPP) || code == Some(nix::libc::EISDIR)
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    let nameless = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    nix::unistd::linkat(AT_FDCWD, &nameless, AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?;
    Ok(())
}

/// A link cannot take a name that is in use, a rename can: so it goes by way of another name.
fn replace(file: &File, path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let named = tempfile::Builder::new().make_in(folder, |temporary| link(file, temporary))?;
    named.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_draft_has_no_name_until_it_is_published_and_then_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        for content in ["one", "two"] {
            let mut draft = Draft::new(folder.path()).unwrap();
            draft.file().write_all(content.as_bytes()).unwrap();
            assert!(names(folder.path()).len() < 2);
            draft.publish(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        drop(Draft::new(folder.path()).unwrap());
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn a_link_at_the_output_is_followed_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (real, alias) = (folder.path().join("real"), folder.path().join("alias"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink("real", &alias).unwrap();
        assert_eq!(check(&alias, &[]).unwrap(), fs::canonicalize(&real).unwrap());
        assert!(check(&alias, &[&real]).is_err());
    }

    #[test]
    fn an_output_that_is_an_input_or_inside_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.wasm");
        fs::write(&file, "").unwrap();
        assert!(check(&file, &[&file]).is_err());
        assert!(check(&folder.path().join("new"), &[folder.path()]).is_err());
        assert!(check(folder.path(), &[]).is_err());
        assert!(check(Path::new("/dev/null"), &[]).is_err());
        assert!(check(&folder.path().join("new"), &[&file]).is_ok());
    }
}
