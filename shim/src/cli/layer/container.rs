//! Which image a container is of.

use super::containerd::Containerd;
use crate::image::manifest::Descriptor;

/// The name of the image of the container `id`, and what it stands for.
///
/// # Errors
/// In words, when containerd does not know.
pub fn image(containerd: &mut Containerd, id: &str) -> Result<(String, Descriptor), String> {
    let image = containerd.image_of(id).map_err(|e| e.to_string())?;
    let image = image.ok_or(
        "containerd does not know which image the container is of: Docker 26 does not tell it, and \
         Docker 28 no more once the image has lost its name",
    )?;
    let target = containerd.target(&image).map_err(|e| e.to_string())?;
    Ok((image, target))
}
