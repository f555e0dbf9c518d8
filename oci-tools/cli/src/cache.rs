//! `wasm-image cache`: the code that this machine's shims have compiled, looked at and tidied.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow, bail};
use artifact::cache::{self, Collection, Entry, Health, collect, current, entries};
use artifact::engine::Compatibility;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::build::bytes;
use crate::cli::{
    CacheArgs, CacheAt, CacheCommand, CacheRmArgs, CacheVerifyArgs, Format, PruneArgs,
};
use crate::manners::print;
use crate::run::code_cache;

/// How much of a digest is shown.
const SHORT: usize = 12;

/// `wasm-image cache`.
pub fn run(args: &CacheArgs) -> Result<()> {
    match &args.command {
        CacheCommand::Ls(at) => list(at),
        CacheCommand::Rm(args) => rm(args),
        CacheCommand::Prune(args) => prune(args),
        CacheCommand::Verify(args) => verify(args),
    }
}

fn list(at: &CacheAt) -> Result<()> {
    let root = code_cache(at.root.as_deref())?;
    let entries = entries(&root).map_err(|e| refused(e, &root))?;
    let current = current(&root);
    let of_current = |entry: &Entry| current.as_ref().map(|engine| is_of(entry, engine));
    let report = match at.format {
        Format::Json => {
            let one = |entry: &Entry| {
                json!({
                    "digest": format!("sha256:{}", entry.digest),
                    "tier": entry.tier.to_string(),
                    "key": entry.key,
                    "engine": entry.engine,
                    "current": of_current(entry),
                    "size": entry.size,
                    "used": rfc3339(entry.used),
                    "made": entry.made().map(rfc3339),
                    "path": entry.path,
                })
            };
            pretty(&json!(entries.iter().map(one).collect::<Vec<_>>()))
        }
        Format::Text => {
            let titles = ["DIGEST", "TIER", "ENGINE", "SIZE", "USED", "MADE"].map(str::to_owned);
            let row = |entry: &Entry| {
                [
                    short(entry),
                    tier(entry),
                    match of_current(entry) {
                        Some(true) => "this",
                        Some(false) => "another",
                        None => "-",
                    }
                    .to_owned(),
                    bytes(entry.size),
                    ago(entry.used),
                    entry.made().map_or("-".to_owned(), ago),
                ]
            };
            let rows: Vec<_> = std::iter::once(titles).chain(entries.iter().map(row)).collect();
            let total = entries.iter().map(|entry| entry.size).sum();
            let count = entries.len();
            format!("{}{} in {}\n", table(&rows), bytes(total), counted(count, "file"))
        }
    };
    print(&report)
}

fn rm(args: &CacheRmArgs) -> Result<()> {
    let root = &code_cache(args.at.root.as_deref())?;
    let entries = entries(root).map_err(|e| refused(e, root))?;
    let mut chosen: Vec<&Entry> = Vec::new();
    for word in &args.digests {
        let prefix = word.strip_prefix("sha256:").unwrap_or(word).to_ascii_lowercase();
        let found: Vec<_> = entries
            .iter()
            .filter(|entry| !prefix.is_empty() && entry.digest.to_string().starts_with(&prefix))
            .collect();
        let Some(first) = found.first() else {
            bail!("no code of a module {word} is in {}; `cache ls` lists what is", root.display());
        };
        // Of one module there may be code of both tiers and of several engines.
        if found.iter().any(|entry| entry.digest != first.digest) {
            bail!("{word} is the beginning of several digests; give more of it");
        }
        chosen.extend(found);
    }
    chosen.sort_by(|a, b| a.path.cmp(&b.path));
    chosen.dedup_by(|a, b| a.path == b.path);
    for entry in &chosen {
        entry.remove().map_err(|e| refused(e, root))?;
    }
    print(&match args.at.format {
        Format::Json => {
            pretty(&json!({ "removed": chosen.iter().map(|e| &e.path).collect::<Vec<_>>() }))
        }
        Format::Text => chosen
            .iter()
            .map(|entry| {
                format!("removed {} ({}, {})\n", short(entry), tier(entry), bytes(entry.size))
            })
            .collect(),
    })
}

fn prune(args: &PruneArgs) -> Result<()> {
    let root = &code_cache(args.at.root.as_deref())?;
    let what = Collection {
        others: current(root).map(|engine| (engine, Duration::ZERO)),
        unused_for: if args.all { Some(Duration::ZERO) } else { args.unused_for },
        max_size: args.max_size,
    };
    let removed = collect(root, &what).map_err(|e| refused(e, root))?;
    print(&match args.at.format {
        Format::Json => pretty(&json!({
            "entries": removed.entries,
            "leftovers": removed.leftovers,
            "bytes": removed.bytes,
        })),
        Format::Text => format!(
            "removed {} and {}, freed {}\n",
            counted(removed.entries, "compiled module"),
            counted(removed.leftovers, "leftover"),
            bytes(removed.bytes)
        ),
    })
}

fn verify(args: &CacheVerifyArgs) -> Result<()> {
    let root = &code_cache(args.at.root.as_deref())?;
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    let (mut damaged, mut removed) = (0, 0);
    for entry in entries(root).map_err(|e| refused(e, root))? {
        let Some(health) = entry.check().map_err(|e| refused(e, root))? else {
            continue; // removed meanwhile
        };
        let (word, why) = match health {
            Health::Whole => ("ok", ""),
            Health::Damaged(why) => ("damaged", why),
            Health::Unsealed => ("unsealed", "it is of a version that sealed nothing"),
        };
        let gone = args.fix && word == "damaged";
        if gone {
            entry.remove().map_err(|e| refused(e, root))?;
        }
        damaged += usize::from(word == "damaged");
        removed += usize::from(gone);
        objects.push(json!({
            "digest": format!("sha256:{}", entry.digest),
            "tier": entry.tier.to_string(),
            "path": entry.path,
            "health": word,
            "why": Some(why).filter(|why| !why.is_empty()),
            "removed": gone,
        }));
        let note = if gone { format!("{why}; removed") } else { why.to_owned() };
        rows.push([short(&entry), tier(&entry), word.to_owned(), note]);
    }
    print(&match args.at.format {
        Format::Json => pretty(&json!(objects)),
        Format::Text => {
            let all = counted(rows.len(), "file");
            format!("{}{all}, {damaged} damaged, {removed} removed\n", table(&rows))
        }
    })?;
    if damaged > removed {
        bail!("{damaged} damaged; --fix removes what is, and it is made again when it is needed");
    }
    Ok(())
}

fn is_of(entry: &Entry, engine: &Compatibility) -> bool {
    engine.names(&entry.engine)
}

/// What stopped it, and for those who are not root what to do.
fn refused(error: cache::Error, root: &Path) -> anyhow::Error {
    let denied = match &error {
        cache::Error::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
        cache::Error::Untrusted { .. } => true,
    };
    if denied && !nix::unistd::geteuid().is_root() {
        let hint =
            format!("{} is another user's, most likely root's: run this as root", root.display());
        return anyhow!("{hint}: {error}");
    }
    anyhow!("{error}")
}

/// Which compiler's it is, or else whose.
fn tier(entry: &Entry) -> String {
    match &entry.key {
        Some(key) => format!("signed by {key}"),
        None => entry.tier.to_string(),
    }
}

fn short(entry: &Entry) -> String {
    entry.digest.to_string()[..SHORT].to_owned()
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn rfc3339(time: SystemTime) -> Option<String> {
    OffsetDateTime::from(time).replace_nanosecond(0).ok()?.format(&Rfc3339).ok()
}

/// How long ago, in the largest unit of which it is more than one.
fn ago(time: SystemTime) -> String {
    let seconds = time.elapsed().map_or(0, |ago| ago.as_secs());
    let units = [("d", 24 * 3600), ("h", 3600), ("m", 60)];
    let unit = units.iter().find(|(_, length)| seconds >= 2 * length);
    unit.map_or(format!("{seconds}s ago"), |(name, length)| {
        format!("{}{name} ago", seconds / length)
    })
}

/// Columns under one another; the last is as wide as it is.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
