//! What is known of a module or an image, in words for a person or as JSON for a program.

use std::fmt::Write;

use artifact::module::{Extern, Kind, Wasi, World};
use serde_json::{Value, json};

use super::Facts;
use super::anatomy::{self, Memory};
use super::image::Image;
use super::needs::Grant;

/// How many members of an interface, and exports, are listed by name before the rest is counted.
const LISTED: usize = 8;

/// Makes the words about facts.
pub struct Report<'a>(pub &'a Facts);

impl Report<'_> {
    /// The whole of it, for a person.
    pub fn inspection(&self) -> String {
        let facts = self.0;
        let mut text = String::new();
        if let Some(image) = &facts.image {
            describe_image(&mut text, &facts.subject, image);
        } else {
            line(&mut text, "file", &facts.subject);
        }
        let module = &facts.module;
        let nested = match (facts.anatomy.modules, facts.anatomy.components) {
            (0, 0) => String::new(),
            (modules, 0) => format!(", of {}", count(modules, "core module")),
            (modules, components) => format!(
                ", of {} and {}",
                count(modules, "core module"),
                count(components, "component")
            ),
        };
        line(&mut text, "module", &format!("{module}{nested}, {}", bytes(facts.size as u128)));
        line(&mut text, "digest", &format!("sha256:{}", facts.digest));
        let named = |item: &Extern| match module.kind {
            Kind::CoreModule => members(item),
            Kind::Component => counted(item),
        };
        lines(&mut text, "imports", module.imports.iter().map(named));
        let exports = &module.exports;
        let listed = exports.iter().take(LISTED).map(named);
        let more = (exports.len() > LISTED).then(|| format!("and {} more", exports.len() - LISTED));
        lines(&mut text, "exports", listed.chain(more));
        lines(&mut text, "memory", facts.anatomy.memories.iter().map(memory));
        line(&mut text, "features", &listed_or_none(&anatomy::names(facts.features)));
        let made = facts.anatomy.producers.iter().map(|[field, name, version]| {
            let named = format!("{name} {version}");
            format!("{} ({field})", named.trim_end())
        });
        lines(&mut text, "made by", made);
        let sizes = |list: &mut dyn Iterator<Item = (&str, u64)>| {
            let words = list.map(|(name, size)| format!("{name} {}", bytes(u128::from(size))));
            words.collect::<Vec<_>>().join(", ")
        };
        let sections = facts.anatomy.sections.iter();
        line(&mut text, "sections", &sizes(&mut sections.map(|(name, size)| (*name, *size))));
        let customs = facts.anatomy.customs.iter();
        line(&mut text, "custom", &sizes(&mut customs.map(|(name, size)| (name.as_str(), *size))));
        self.verdict(&mut text, true);
        if let Some(wit) = &facts.wit {
            text.push('\n');
            wit.lines().for_each(|line| text.extend([&shown(line), "\n"]));
        }
        text
    }

    /// What it needs against what it is granted, for a person.
    pub fn explanation(&self) -> String {
        let facts = self.0;
        let mut text = format!("{}: {}\n", shown(&facts.subject), shown(&facts.module.to_string()));
        self.verdict(&mut text, false);
        if facts.needs.verdict.is_err() {
            return text;
        }
        text.push_str("\nIt asks for, and `docker run` without flags grants:\n");
        if facts.needs.needs.is_empty() {
            text.push_str("  nothing\n");
        }
        for need in &facts.needs.needs {
            line(&mut text, need.name(), need.granted());
            for (flag, effect) in need.flags() {
                let _ = writeln!(text, "  {:<14}{flag:<24} {effect}", "");
            }
        }
        line(&mut text, "memory", "as much as the host has, for guest and runtime together");
        let _ = writeln!(text, "  {:<14}{:<24} sets a limit", "", "--memory 64m");
        if let Some(image) = &facts.image {
            text.push_str("\nThe image says:\n");
            let user =
                if image.user.is_empty() { "root (0), in the container" } else { &image.user };
            line(&mut text, "user", &format!("{user}; -u changes it"));
            if !image.ports.is_empty() {
                line(&mut text, "ports", &format!("{}; -P publishes them", image.ports.join(", ")));
            }
        }
        text
    }

    /// Everything, for programs. Sizes are in bytes.
    pub fn json(&self) -> Value {
        let facts = self.0;
        let module = &facts.module;
        let extern_json = |item: &Extern| json!({ "name": item.name, "members": item.members });
        let sizes = |list: &mut dyn Iterator<Item = (&str, u64)>| -> Value {
            list.map(|(name, size)| json!({ "name": name, "size": size })).collect()
        };
        let anatomy = &facts.anatomy;
        json!({
            "subject": facts.subject,
            "image": facts.image.as_ref().map(image_json),
            "module": {
                "description": module.to_string(),
                "kind": match module.kind {
                    Kind::CoreModule => "core-module",
                    Kind::Component => "component",
                },
                "world": match module.world {
                    World::Command => "command",
                    World::HttpProxy => "http-proxy",
                    World::Reactor => "reactor",
                },
                "wasi": match &module.wasi {
                    Wasi::None => Value::Null,
                    Wasi::Preview1 => "preview1".into(),
                    newer => newer.to_string().into(),
                },
                "size": facts.size,
                "digest": format!("sha256:{}", facts.digest),
                "imports": module.imports.iter().map(extern_json).collect::<Vec<_>>(),
                "exports": module.exports.iter().map(extern_json).collect::<Vec<_>>(),
                "nested": { "modules": anatomy.modules, "components": anatomy.components },
                "memories": anatomy.memories.iter().map(memory_json).collect::<Vec<_>>(),
                "features": anatomy::names(facts.features),
                "producers": anatomy.producers.iter().map(|[field, name, version]| {
                    json!({ "field": field, "name": name, "version": version })
                }).collect::<Vec<_>>(),
                "sections": sizes(&mut anatomy.sections.iter().map(|(name, size)| (*name, *size))),
                "customSections": sizes(&mut anatomy.customs.iter().map(|(name, size)| (name.as_str(), *size))),
                "wit": facts.wit,
            },
            "run": self.needs_json(),
        })
    }

    /// What [`Report::explanation`] says, for programs.
    pub fn explanation_json(&self) -> Value {
        let Facts { subject, module, image, .. } = self.0;
        let mut json = self.needs_json();
        json["subject"] = json!(subject);
        json["description"] = json!(module.to_string());
        json["image"] =
            json!(image.as_ref().map(|image| json!({ "user": image.user, "ports": image.ports })));
        json
    }

    /// What it needs, and is granted.
    fn needs_json(&self) -> Value {
        let needs = &self.0.needs;
        let (how, why_not) = match &needs.verdict {
            Ok(how) => (Some(*how), Vec::new()),
            Err(reasons) => (None, reasons.clone()),
        };
        json!({
            "runnable": how.is_some(),
            "how": how,
            "whyNot": why_not,
            "needs": needs.needs.iter().map(|need| json!({
                "name": need.name(),
                "granted": match need.grant() {
                    Grant::Granted => "yes",
                    Grant::InPart => "in part",
                    Grant::Withheld => "no",
                },
                "default": need.granted(),
                "flags": need.flags().iter().map(|(flag, effect)| {
                    json!({ "flag": flag, "effect": effect })
                }).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })
    }

    fn verdict(&self, text: &mut String, with_needs: bool) {
        let needs = &self.0.needs;
        match &needs.verdict {
            Ok(how) => line(text, "runs here", &format!("yes: {how}")),
            Err(reasons) => line(text, "runs here", &format!("no: {}", reasons.join("; "))),
        }
        if with_needs && needs.verdict.is_ok() {
            let names: Vec<_> = needs.needs.iter().map(|need| need.name()).collect();
            line(
                text,
                "asks for",
                &if names.is_empty() { "nothing".to_owned() } else { names.join(", ") },
            );
        }
    }
}

fn describe_image(text: &mut String, subject: &str, image: &Image) {
    line(text, "archive", subject);
    lines(text, "image", image.names.iter().cloned());
    let others = image.platforms.len() - 1;
    let others = if others == 0 {
        String::new()
    } else {
        format!(", of {}: {}", count(others + 1, "platform"), image.platforms.join(", "))
    };
    line(text, "platform", &format!("{}{others}", image.platform));
    line(text, "manifest", &image.manifest);
    let layers = image.layers.iter().map(|layer| {
        let size = bytes(u128::from(layer.descriptor.size));
        let files = layer.files.map_or(String::new(), |(files, unpacked)| {
            format!(", {}, {} unpacked", count(files, "file"), bytes(u128::from(unpacked)))
        });
        format!("{}, {size}{files}", layer.descriptor.digest)
    });
    lines(text, "layers", layers);
    if !image.entrypoint.is_empty() {
        line(text, "entrypoint", &json!(image.entrypoint).to_string());
    }
    if !image.cmd.is_empty() {
        line(text, "cmd", &json!(image.cmd).to_string());
    }
    lines(text, "env", image.env.iter().cloned());
    for (title, value) in [("workdir", &image.workdir), ("user", &image.user)] {
        if !value.is_empty() {
            line(text, title, value);
        }
    }
    if !image.ports.is_empty() {
        line(text, "ports", &image.ports.join(", "));
    }
    line(text, "found", &image.module);
}

fn image_json(image: &Image) -> Value {
    let layers = image.layers.iter().map(|layer| {
        json!({
            "digest": layer.descriptor.digest,
            "mediaType": layer.descriptor.media_type,
            "size": layer.descriptor.size,
            "files": layer.files.map(|(files, _)| files),
            "unpackedSize": layer.files.map(|(_, unpacked)| unpacked),
        })
    });
    json!({
        "names": image.names,
        "platform": image.platform,
        "platforms": image.platforms,
        "manifest": image.manifest,
        "entrypoint": image.entrypoint,
        "cmd": image.cmd,
        "env": image.env,
        "workdir": image.workdir,
        "user": image.user,
        "ports": image.ports,
        "layers": layers.collect::<Vec<_>>(),
        "module": image.module,
    })
}

fn memory(memory: &Memory) -> String {
    let maximum = match memory.maximum {
        Some(maximum) => format!("at most {}", bytes(maximum)),
        None => "no maximum of its own".to_owned(),
    };
    let traits =
        [(memory.shared, ", shared"), (memory.wide, ", 64-bit"), (memory.imported, ", imported")];
    let traits: String = traits.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    format!("{} at first, {maximum}{traits}", bytes(memory.initial))
}

fn memory_json(memory: &Memory) -> Value {
    let number = |size: u128| u64::try_from(size).unwrap_or(u64::MAX);
    json!({
        "initial": number(memory.initial),
        "maximum": memory.maximum.map(number),
        "shared": memory.shared,
        "wide": memory.wide,
        "imported": memory.imported,
    })
}

/// `wasi:cli/environment@0.2.6 (2 functions)`.
fn counted(item: &Extern) -> String {
    match item.members.len() {
        0 => item.name.clone(),
        functions => format!("{} ({})", item.name, count(functions, "function")),
    }
}

/// `wasi_snapshot_preview1: fd_write, proc_exit`.
fn members(item: &Extern) -> String {
    let listed: Vec<_> = item.members.iter().take(LISTED).map(String::as_str).collect();
    let more = item.members.len() - listed.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let colon = if listed.is_empty() { "" } else { ": " };
    format!("{}{colon}{}{more}", item.name, listed.join(", "))
}

fn listed_or_none(names: &[String]) -> String {
    if names.is_empty() { "those of WebAssembly 1.0".to_owned() } else { names.join(", ") }
}

fn line(text: &mut String, title: &str, value: &str) {
    if !value.is_empty() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {title:<14}{}", shown(value));
    }
}

fn lines(text: &mut String, title: &str, values: impl Iterator<Item = String>) {
    for (index, value) in values.enumerate() {
        line(text, if index == 0 { title } else { "" }, &value);
    }
}

/// Text of a stranger's as a terminal may have it: control characters are written as `\u{…}`, and
/// those that turn the direction of what follows.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A size with one digit after the point from 1 KiB on.
fn bytes(count: u128) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut size, mut unit) = (count as f64 / 1024.0, "KiB");
    for next in ["MiB", "GiB", "TiB", "PiB", "EiB"] {
        if size >= 1024.0 {
            (size, unit) = (size / 1024.0, next);
        }
    }
    format!("{size:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_moves_no_terminal() {
        assert_eq!(shown("a\x1b[2J\nb\u{202e}"), r"a\u{1b}[2J\u{a}b\u{202e}");
        assert_eq!(shown("größe"), "größe");
    }
}
