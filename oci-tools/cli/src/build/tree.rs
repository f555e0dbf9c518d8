//! The files of the image, gathered as names only: what a file holds is read when the layer is
//! written, so a tree of any size fits in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::containerfile::Copy;
use super::context::Source;
use super::recipe::Add;

/// What is at one path of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Dir,
    /// A file of this machine; its bytes are read later.
    File {
        source: PathBuf,
        executable: bool,
    },
    /// The module of this number, which is in memory by the time that it is needed.
    Module(usize),
    Link {
        target: PathBuf,
    },
}

/// A node, and what a Containerfile says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub node: Node,
    /// User and group by number.
    pub owner: (u64, u64),
    /// Permissions, where they are not those of its kind.
    pub mode: Option<u32>,
}

impl From<Node> for Entry {
    fn from(node: Node) -> Self {
        Self { node, owner: (0, 0), mode: None }
    }
}

/// Every path of the image, relative to its root. The map's order puts a folder before what is in
/// it and does not depend on the machine.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

/// Why a path cannot be had.
enum Clash {
    /// There is no folder at this path above it.
    Above(PathBuf),
    /// There is something else.
    Here,
}

impl Tree {
    /// All paths in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// What is at a path of the image, relative to its root.
    pub fn get(&self, path: &Path) -> Option<&Entry> {
        self.0.get(path)
    }

    /// Makes the file at `path` the module `number`.
    pub fn make_module(&mut self, path: &Path, number: usize) {
        if let Some(entry) = self.0.get_mut(path) {
            entry.node = Node::Module(number);
        }
    }

    /// Puts `node` at `path`, with the folders above it. Folders merge; nothing else does.
    pub fn insert(&mut self, path: PathBuf, node: Node) -> Result<()> {
        match self.place(path.clone(), node.into(), false) {
            Ok(()) => Ok(()),
            Err(Clash::Above(folder)) => bail!(
                "/{} cannot be in the image: /{} is not a folder",
                path.display(),
                folder.display()
            ),
            Err(Clash::Here) => bail!(
                "two different things would be at /{} in the image: change the DEST of one",
                path.display()
            ),
        }
    }

    /// The same, but that a file takes the place of another.
    fn replace(&mut self, path: PathBuf, entry: Entry) -> Result<()> {
        match self.place(path.clone(), entry, true) {
            Ok(()) => Ok(()),
            Err(Clash::Above(folder)) => {
                bail!("cannot copy to /{}: /{} is not a folder", path.display(), folder.display())
            }
            Err(Clash::Here) => bail!(
                "cannot copy to /{}: a folder and something else would be there",
                path.display()
            ),
        }
    }

    fn place(&mut self, path: PathBuf, entry: Entry, replaces: bool) -> Result<(), Clash> {
        for folder in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
            // What a COPY owns, it owns with the folders that it makes.
            let made = || Entry { node: Node::Dir, owner: entry.owner, mode: None };
            if self.0.entry(folder.to_owned()).or_insert_with(made).node != Node::Dir {
                return Err(Clash::Above(folder.to_owned()));
            }
        }
        match self.0.entry(path) {
            MapEntry::Vacant(place) => {
                place.insert(entry);
            }
            MapEntry::Occupied(mut place) => match (&place.get().node, &entry.node) {
                (Node::Dir, Node::Dir) => {}
                (Node::Dir, _) | (_, Node::Dir) => return Err(Clash::Here),
                _ if replaces => drop(place.insert(entry)),
                _ => return Err(Clash::Here),
            },
        }
        Ok(())
    }

    /// Takes in one `COPY`. Links below a source are not followed.
    pub fn copy(&mut self, copy: &Copy) -> Result<()> {
        let into = copy.into
            || copy.dest.as_os_str().is_empty()
            || self.0.get(&copy.dest).is_some_and(|entry| entry.node == Node::Dir);
        for source in &copy.sources {
            let shown = copy.context.root().join(&source.relative);
            let metadata = fs::metadata(&source.real)
                .with_context(|| format!("cannot copy {}", shown.display()))?;
            if metadata.is_dir() {
                self.copy_folder(copy, source, &source.real, &copy.dest)?;
                continue;
            }
            let mut dest = copy.dest.clone();
            if let Some(name) = source.relative.file_name().filter(|_| into) {
                dest.push(name);
            }
            let node = plain_file(&source.real, &metadata)?;
            self.replace(
                dest,
                Entry { node, owner: copy.owner.unwrap_or_default(), mode: copy.mode },
            )?;
        }
        Ok(())
    }

    /// `folder` is the one below `source` that is being read.
    fn copy_folder(
        &mut self,
        copy: &Copy,
        source: &Source,
        folder: &Path,
        dest: &Path,
    ) -> Result<()> {
        let owner = copy.owner.unwrap_or_default();
        if !dest.as_os_str().is_empty() {
            self.replace(dest.to_owned(), Entry { node: Node::Dir, owner, mode: None })?;
        }
        let unreadable = || format!("cannot read the folder {}", folder.display());
        for found in fs::read_dir(folder).with_context(unreadable)? {
            let found = found.with_context(unreadable)?;
            let (from, to) = (found.path(), dest.join(found.file_name()));
            let below = from.strip_prefix(&source.real).unwrap_or(&from);
            let left_out = copy.context.leaves_out(&source.relative.join(below));
            let metadata =
                found.metadata().with_context(|| format!("cannot copy {}", from.display()))?;
            if metadata.is_dir() {
                if !left_out {
                    self.copy_folder(copy, source, &from, &to)?;
                } else if !copy.context.leaves_out_whole_folders() {
                    self.copy_rest(copy, source, &from, &to)?;
                }
            } else if !left_out {
                let node = match metadata.is_symlink() {
                    true => link(&source.real, &from)?,
                    false => plain_file(&from, &metadata)?,
                };
                let mode = copy.mode.filter(|_| !metadata.is_symlink());
                self.replace(to, Entry { node, owner, mode })?;
            }
        }
        Ok(())
    }

    /// What is taken back of a folder that is left out: the folder itself is there only if there is
    /// something in it.
    fn copy_rest(
        &mut self,
        copy: &Copy,
        source: &Source,
        folder: &Path,
        dest: &Path,
    ) -> Result<()> {
        let mut rest = Self::default();
        rest.copy_folder(copy, source, folder, dest)?;
        for (path, entry) in rest.0 {
            if entry.node != Node::Dir {
                self.replace(path, entry)?;
            }
        }
        Ok(())
    }

    /// Takes in one `--add`. SRC itself is followed if it is a symbolic link, links below it not.
    pub fn add(&mut self, add: &Add) -> Result<()> {
        let source = &add.source;
        let metadata =
            fs::metadata(source).with_context(|| format!("cannot add {}", source.display()))?;
        if metadata.is_dir() {
            return self.add_folder(source, source, &add.dest);
        }
        let mut dest = add.dest.clone();
        if add.into || dest.as_os_str().is_empty() {
            match source.file_name() {
                Some(name) => dest.push(name),
                None => {
                    bail!("cannot add {}: it has no file name; write it in DEST", source.display())
                }
            }
        }
        self.insert(dest, plain_file(source, &metadata)?)
    }

    /// `top` is the folder named by `--add`, `source` the one below it that is being read.
    fn add_folder(&mut self, top: &Path, source: &Path, dest: &Path) -> Result<()> {
        let unreadable = || format!("cannot read the folder {}", source.display());
        if !dest.as_os_str().is_empty() {
            self.insert(dest.to_owned(), Node::Dir)?;
        }
        for entry in fs::read_dir(source).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            let (from, to) = (entry.path(), dest.join(entry.file_name()));
            let metadata =
                entry.metadata().with_context(|| format!("cannot add {}", from.display()))?;
            if metadata.is_dir() {
                self.add_folder(top, &from, &to)?;
            } else if metadata.is_symlink() {
                self.insert(to, link(top, &from)?)?;
            } else {
                self.insert(to, plain_file(&from, &metadata)?)?;
            }
        }
        Ok(())
    }
}

fn plain_file(source: &Path, metadata: &Metadata) -> Result<Node> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(Node::File {
            source: source.to_owned(),
            executable: metadata.permissions().mode() & 0o111 != 0,
        });
    }
    let kind = match kind {
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    bail!("cannot add {}: it is {kind}; an image holds files, folders and links", source.display())
}

/// A link is kept if it points to something inside the folder that is added: then it means the
/// same in the image as here.
fn link(top: &Path, source: &Path) -> Result<Node> {
    let target = fs::read_link(source)
        .with_context(|| format!("cannot read the link {}", source.display()))?;
    let place = source.strip_prefix(top).unwrap_or(source);
    if !stays_inside(place, &target) {
        bail!(
            "cannot add {}: it is a link to {}, outside {}; copy what it points to, or leave it out",
            source.display(),
            target.display(),
            top.display()
        );
    }
    Ok(Node::Link { target })
}

/// `place` is where the link is, relative to the top folder.
fn stays_inside(place: &Path, target: &Path) -> bool {
    let above = place.components().count() - 1;
    let depth = target.components().try_fold(above, |depth, component| match component {
        Component::Normal(_) => Some(depth + 1),
        Component::CurDir => Some(depth),
        Component::ParentDir => depth.checked_sub(1),
        Component::RootDir | Component::Prefix(_) => None,
    });
    depth.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_inside_only_if_no_step_of_it_leaves() {
        let inside = |place: &str, target: &str| stays_inside(place.as_ref(), target.as_ref());
        assert!(inside("a", "b"));
        assert!(inside("d/a", "../b"));
        assert!(inside("d/e/a", "./../../b"));
        assert!(!inside("a", "../b"));
        assert!(!inside("d/a", "../../top/b"));
        assert!(!inside("a", "/etc/passwd"));
    }

    #[test]
    fn folders_merge_and_everything_else_collides() {
        let mut tree = Tree::default();
        tree.insert("d/a".into(), Node::Module(0)).unwrap();
        tree.insert("d".into(), Node::Dir).unwrap();
        assert!(tree.insert("d/a".into(), Node::Module(0)).is_err());
        assert!(tree.insert("d/a/b".into(), Node::Dir).is_err());
        assert!(tree.insert("d".into(), Node::Module(0)).is_err());
        let paths: Vec<_> = tree.iter().map(|(path, _)| path.to_owned()).collect();
        assert_eq!(paths, [Path::new("d"), Path::new("d/a")]);
    }
}
