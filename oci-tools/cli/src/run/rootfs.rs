//! The files of an image: unpacked in the store, once, and never changed there. A container's own
//! changes lie above them, in memory.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use shim::spec::RootfsPart;
use tempfile::TempDir;

use super::source::ImageSource;
use super::unpack::Tree;
use crate::inspect::layer::unpacked;
use crate::inspect::layout::Descriptor;

/// The folder that the layers `layers`, which are files, of the image with this manifest are unpacked
/// in; it is made now if it has to be. With `owners` files get the owners that the layers say.
pub fn unpack(
    source: &ImageSource,
    manifest: &Descriptor,
    layers: &[&Descriptor],
    owners: bool,
) -> Result<PathBuf> {
    let all = source.store.unpacked_folder();
    let folder = all.join(manifest.digest.trim_start_matches("sha256:"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let unwritable = || format!("cannot unpack the image in {}", all.display());
    DirBuilder::new().recursive(true).mode(0o700).create(&all).with_context(unwritable)?;
    let new = TempDir::with_prefix_in("new-", &all).with_context(unwritable)?;
    fs::set_permissions(new.path(), fs::Permissions::from_mode(0o755)).with_context(unwritable)?;
    let mut tree = Tree::new(new.path(), owners)?;
    for (index, layer) in layers.iter().enumerate() {
        let open = || unpacked(source.layout.blob(layer)?, &layer.media_type);
        let added =
            source.layout.blob(layer).and_then(|blob| blob.verify()).and_then(|()| tree.add(open));
        added.with_context(|| format!("layer {} ({})", index + 1, layer.digest))?;
    }
    // What is there under the manifest's name is there whole, whatever happens to the machine.
    nix::unistd::syncfs(File::open(new.path())?).with_context(unwritable)?;
    match fs::rename(new.path(), &folder) {
        Ok(()) => drop(new.keep()),
        // Another container's was first.
        Err(_) if folder.is_dir() => {}
        Err(error) => return Err(error).with_context(unwritable),
    }
    Ok(folder)
}

/// A rootfs that begins as the folder `lower`, for a container whose changes go below `here`.
pub fn above(lower: &Path, here: &Path, owners: bool) -> Result<RootfsPart> {
    let (upper, work) = (here.join("upper"), here.join("work"));
    for folder in [&upper, &work] {
        fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let like = fs::metadata(lower).context("cannot look at the rootfs")?;
    fs::set_permissions(&upper, like.permissions())?;
    let mut options = vec![
        format!("lowerdir={}", escaped(lower)?),
        format!("upperdir={}", escaped(&upper)?),
        format!("workdir={}", escaped(&work)?),
    ];
    if owners {
        std::os::unix::fs::chown(&upper, Some(like.uid()), Some(like.gid()))?;
    } else {
        // A user may not set the attributes by which it usually keeps its books.
        options.push("userxattr".into());
    }
    Ok(RootfsPart { fstype: "overlay".into(), source: "overlay".into(), options })
}

/// A path as an option of overlayfs has it.
fn escaped(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    let mut escaped = String::new();
    for character in text.chars() {
        if [':', ',', '\\'].contains(&character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    Ok(escaped)
}
