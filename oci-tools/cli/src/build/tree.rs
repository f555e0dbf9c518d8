//! The files of the image, gathered as names only: what a file holds is read when the layer is
//! written, so a tree of any size fits in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::recipe::Add;

/// What is at one path of the image.
#[derive(Debug, PartialEq, Eq)]
pub enum Node {
    Dir,
    /// A file of this machine; its bytes are read later.
    File {
        source: PathBuf,
        executable: bool,
    },
    /// The module, which is already in memory.
    Module,
    Link {
        target: PathBuf,
    },
}

/// Every path of the image, relative to its root. The map's order puts a folder before what is in
/// it and does not depend on the machine.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<PathBuf, Node>);

impl Tree {
    /// All paths in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_path(), node))
    }

    /// Whether there is anything at a path of the image, absolute or not.
    pub fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path.strip_prefix("/").unwrap_or(path))
    }

    /// Puts `node` at `path`, with the folders above it. Folders merge; nothing else does.
    pub fn insert(&mut self, path: PathBuf, node: Node) -> Result<()> {
        for folder in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
            let above = self.0.entry(folder.to_owned()).or_insert(Node::Dir);
            if *above != Node::Dir {
                bail!(
                    "/{} cannot be in the image: /{} is not a folder",
                    path.display(),
                    folder.display()
                );
            }
        }
        match self.0.entry(path) {
            Entry::Vacant(place) => {
                place.insert(node);
            }
            Entry::Occupied(place) if *place.get() == Node::Dir && node == Node::Dir => {}
            Entry::Occupied(place) => bail!(
                "two different things would be at /{} in the image: change the DEST of one",
                place.key().display()
            ),
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
        tree.insert("d/a".into(), Node::Module).unwrap();
        tree.insert("d".into(), Node::Dir).unwrap();
        assert!(tree.insert("d/a".into(), Node::Module).is_err());
        assert!(tree.insert("d/a/b".into(), Node::Dir).is_err());
        assert!(tree.insert("d".into(), Node::Module).is_err());
        let paths: Vec<_> = tree.iter().map(|(path, _)| path.to_owned()).collect();
        assert_eq!(paths, [Path::new("d"), Path::new("d/a")]);
    }
}
