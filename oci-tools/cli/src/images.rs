//! The store as a person sees it: `list`, `tag`, `rm`.

use anyhow::{Result, bail};
use serde_json::json;

use crate::build::bytes;
use crate::cli::{Format, ListArgs, RmArgs, TagArgs};
use crate::manners::print;
use crate::store::{Entry, Store};

/// `wasm-image list`.
pub fn list(args: &ListArgs) -> Result<()> {
    let store = Store::there(args.store.store.as_deref())?;
    let _in_use = store.as_ref().map(Store::in_use).transpose()?;
    let entries = store.as_ref().map(Store::entries).transpose()?.unwrap_or_default();
    let text = match args.format {
        Format::Text => table(store.as_ref(), &entries),
        Format::Json => {
            let one = |entry: &Entry| {
                json!({
                    "name": entry.name,
                    "digest": entry.descriptor.digest,
                    "mediaType": entry.descriptor.media_type,
                    "platform": entry.descriptor.platform.as_ref().map(ToString::to_string),
                    "size": size(store.as_ref(), entry),
                })
            };
            format!("{:#}\n", json!(entries.iter().map(one).collect::<Vec<_>>()))
        }
    };
    print(&text)
}

/// All blobs and documents together, in bytes; `None` of a damaged image.
fn size(store: Option<&Store>, entry: &Entry) -> Option<u64> {
    let store = store?;
    let parts = store.parts(&entry.descriptor).ok()?;
    let whole = parts.iter().all(|part| store.has(&part.descriptor));
    whole.then(|| parts.iter().map(|part| part.descriptor.size).sum())
}

fn table(store: Option<&Store>, entries: &[Entry]) -> String {
    let titles = ["NAME", "DIGEST", "PLATFORM", "SIZE"].map(str::to_owned);
    let row = |entry: &Entry| {
        let platform = entry.descriptor.platform.as_ref();
        [
            entry.name.clone(),
            entry.descriptor.digest.hex()[..12].to_owned(),
            platform.map_or("-".to_owned(), ToString::to_string),
            size(store, entry).map_or("damaged".to_owned(), bytes),
        ]
    };
    let rows: Vec<_> = std::iter::once(titles).chain(entries.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name, digest, platform) = (width(0), width(1), width(2));
    let line = |r: &[String; 4]| {
        format!("{:name$}  {:digest$}  {:platform$}  {}\n", r[0], r[1], r[2], r[3])
    };
    rows.iter().map(line).collect()
}

/// `wasm-image tag`.
pub fn tag(args: &TagArgs) -> Result<()> {
    let store = Store::open(args.store.store.as_deref())?;
    let in_use = store.in_use()?;
    let entry = store.find(&args.image.to_string())?;
    let digest = entry.descriptor.digest.as_str();
    if args.name.has_digest() && args.name.tag_or_digest() != digest {
        bail!("{} cannot be the name of {digest}: give a tag", args.name);
    }
    store.name(&[args.name.to_string()], &entry.descriptor, in_use)
}

/// `wasm-image rm`.
pub fn rm(args: &RmArgs) -> Result<()> {
    let store = Store::open(args.store.store.as_deref())?;
    let mut names: Vec<_> = args.images.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    let swept = store.remove(&names)?;
    if args.format == Format::Json {
        let report = json!({
            "removed": names,
            "freed": { "size": swept.bytes, "files": swept.blobs },
            "postponed": swept.postponed,
        });
        return print(format!("{report:#}\n"));
    }
    let mut text: String = names.iter().map(|name| format!("removed {name}\n")).collect();
    if swept.postponed {
        eprintln!("note: another command uses the store; the next `rm` frees the space");
    } else {
        text += &format!("freed {} in {} files\n", bytes(swept.bytes), swept.blobs);
    }
    print(&text)
}
