//! A software bill of materials: what the modules say of themselves, and which packages they were
//! made of where `cargo auditable` has left that in them.
//!
//! SPDX 2.3: <https://spdx.github.io/spdx-spec/v2.3/>; CycloneDX 1.5:
//! <https://cyclonedx.org/docs/1.5/json/>; the sections read:
//! <https://github.com/WebAssembly/tool-conventions/blob/main/ProducersSection.md>. The same modules
//! give the same bytes.

use std::path::Path;

use anyhow::{Context, Result};
use artifact::digest::Digest;
use serde_json::{Value, json};
use wasm_metadata::{Metadata, Payload};

use super::modules::Module;
use super::recipe::Epoch;
use crate::cli::SbomFormat;

/// A module, a component, or a package that one was made of.
struct Item {
    /// Unique in the document.
    id: String,
    name: String,
    version: Option<String>,
    licence: Option<String>,
    authors: Option<String>,
    description: Option<String>,
    homepage: Option<String>,
    source: Option<String>,
    purl: Option<String>,
    /// SHA-256 in hexadecimal digits.
    sha256: Option<String>,
    /// `language: Rust`, `processed-by: rustc 1.95.0`.
    producers: Vec<(String, String)>,
    is_program: bool,
    /// What is in it.
    contains: Vec<Item>,
    /// Packages that it was made of.
    packages: Vec<Item>,
    /// Ids of what it needs.
    needs: Vec<String>,
}

/// The document about `modules`, which are those of the image `name`.
///
/// # Errors
/// When what a module says of itself cannot be read.
pub fn document(
    format: SbomFormat,
    name: &str,
    modules: &[Module],
    epoch: &Epoch,
) -> Result<Vec<u8>> {
    let mut items = Vec::new();
    for (number, module) in modules.iter().enumerate() {
        let payload = Payload::from_binary(&module.original).with_context(|| {
            format!("cannot read what {} says of itself: leave out --sbom", module.file.display())
        })?;
        let mut item = item(&payload, format!("module-{number}"), &module.dest);
        item.sha256 = Some(Digest::of(&module.binary).to_string());
        items.push(item);
    }
    let all: String = items.iter().filter_map(|item| item.sha256.as_deref()).collect();
    let seed = Digest::of(format!("{name} {all}").as_bytes()).to_string();
    let document = match format {
        SbomFormat::Spdx => spdx(name, &items, &seed, epoch),
        SbomFormat::Cyclonedx => cyclonedx(name, &items, &seed, epoch),
    };
    Ok(format!("{document:#}\n").into_bytes())
}

fn item(payload: &Payload, id: String, dest: &Path) -> Item {
    let Metadata {
        name,
        producers,
        authors,
        description,
        licenses,
        source,
        homepage,
        version,
        dependencies,
        ..
    } = payload.metadata();
    let mut contains = Vec::new();
    if let Payload::Component { children, .. } = payload {
        for (number, child) in children.iter().enumerate() {
            let nested = format!("{}-{number}", dest.display());
            contains.push(item(child, format!("{id}.{number}"), Path::new(&nested)));
        }
    }
    let (mut packages, mut needs) = (Vec::new(), Vec::new());
    let mut root = None;
    for (number, package) in
        dependencies.iter().flat_map(|d| d.version_info().packages.iter().enumerate())
    {
        let place = |number: &usize| format!("{id}-cargo-{number}");
        if package.root {
            needs.push(place(&number));
            root = Some(package);
        }
        // Those of this machine are in no registry. The type that says it is another crate's.
        let source = serde_json::to_value(&package.source).unwrap_or_default();
        let public = source == "crates.io" || source == "registry";
        packages.push(Item {
            id: place(&number),
            name: package.name.clone(),
            version: Some(package.version.to_string()),
            purl: public.then(|| format!("pkg:cargo/{}@{}", package.name, package.version)),
            needs: package.dependencies.iter().map(place).collect(),
            ..Item::of(String::new(), String::new())
        });
    }
    let text = |value: Option<String>| value.filter(|text| !text.is_empty());
    let producers = producers.iter().flat_map(|all| {
        all.iter().flat_map(|(field, values)| {
            let pair = |(name, version): (&String, &String)| {
                (field.clone(), format!("{name} {version}").trim_end().to_owned())
            };
            values.iter().map(pair).collect::<Vec<_>>()
        })
    });
    Item {
        version: text(version.as_ref().map(ToString::to_string))
            .or_else(|| root.map(|package| package.version.to_string())),
        licence: text(licenses.as_ref().map(ToString::to_string)),
        authors: text(authors.as_ref().map(ToString::to_string)),
        description: text(description.as_ref().map(ToString::to_string)),
        homepage: text(homepage.as_ref().map(ToString::to_string)),
        source: text(source.as_ref().map(ToString::to_string)),
        producers: producers.collect(),
        is_program: true,
        contains,
        packages,
        needs,
        ..Item::of(id, text(name.clone()).unwrap_or_else(|| dest.display().to_string()))
    }
}

impl Item {
    fn of(id: String, name: String) -> Self {
        Self {
            id,
            name,
            version: None,
            licence: None,
            authors: None,
            description: None,
            homepage: None,
            source: None,
            purl: None,
            sha256: None,
            producers: Vec::new(),
            is_program: false,
            contains: Vec::new(),
            packages: Vec::new(),
            needs: Vec::new(),
        }
    }
}

/// An object without the fields that are null.
fn object(fields: Value) -> Value {
    match fields {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

fn spdx(name: &str, items: &[Item], seed: &str, epoch: &Epoch) -> Value {
    let (mut packages, mut relations) = (Vec::new(), Vec::new());
    for item in items {
        relations.push(relation("SPDXRef-DOCUMENT", "DESCRIBES", &reference(item)));
        spdx_packages(item, &mut packages, &mut relations);
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/wasm-image-{}", uuid(seed)),
        "creationInfo": { "created": epoch.text, "creators": [format!("Tool: {}", tool())] },
        "packages": packages,
        "relationships": relations,
    })
}

fn reference(item: &Item) -> String {
    format!("SPDXRef-{}", item.id)
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

fn spdx_packages(item: &Item, packages: &mut Vec<Value>, relations: &mut Vec<Value>) {
    let unknown = "NOASSERTION";
    let made: Vec<_> =
        item.producers.iter().map(|(field, value)| format!("{field}: {value}")).collect();
    packages.push(object(json!({
        "SPDXID": reference(item),
        "name": item.name,
        "versionInfo": item.version,
        "downloadLocation": unknown,
        "filesAnalyzed": false,
        "licenseConcluded": unknown,
        "licenseDeclared": item.licence.as_deref().unwrap_or(unknown),
        "copyrightText": unknown,
        "originator": item.authors.as_ref().map(|authors| format!("Person: {authors}")),
        "description": item.description,
        "homepage": item.homepage,
        "sourceInfo": item.source,
        "comment": (!made.is_empty()).then(|| made.join("; ")),
        "primaryPackagePurpose": if item.is_program { "APPLICATION" } else { "LIBRARY" },
        "checksums": item.sha256.as_ref().map(|hex| json!([{ "algorithm": "SHA256", "checksumValue": hex }])),
        "externalRefs": item.purl.as_ref().map(|purl| json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl,
        }])),
    })));
    for child in &item.contains {
        relations.push(relation(&reference(item), "CONTAINS", &reference(child)));
        spdx_packages(child, packages, relations);
    }
    for id in &item.needs {
        relations.push(relation(&reference(item), "DEPENDS_ON", &format!("SPDXRef-{id}")));
    }
    for package in &item.packages {
        spdx_packages(package, packages, relations);
    }
}

fn cyclonedx(name: &str, items: &[Item], seed: &str, epoch: &Epoch) -> Value {
    let mut components = Vec::new();
    let ids: Vec<_> = items.iter().map(|item| &item.id).collect();
    let mut dependencies = vec![json!({ "ref": "image", "dependsOn": ids })];
    for item in items {
        components.push(component(item, &mut dependencies));
        packages_of(item, &mut components, &mut dependencies);
    }
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{}", uuid(seed)),
        "version": 1,
        "metadata": {
            "timestamp": epoch.text,
            "tools": { "components": [{
                "type": "application",
                "name": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
            }] },
            "component": { "type": "container", "bom-ref": "image", "name": name },
        },
        "components": components,
        "dependencies": dependencies,
    })
}

/// The packages of `item` and of all that is in it, beside each other.
fn packages_of(item: &Item, components: &mut Vec<Value>, dependencies: &mut Vec<Value>) {
    for package in &item.packages {
        components.push(component(package, dependencies));
    }
    for child in &item.contains {
        packages_of(child, components, dependencies);
    }
}

fn component(item: &Item, dependencies: &mut Vec<Value>) -> Value {
    if !item.needs.is_empty() {
        dependencies.push(json!({ "ref": item.id, "dependsOn": item.needs }));
    }
    let contains: Vec<_> =
        item.contains.iter().map(|child| component(child, dependencies)).collect();
    let made = item.producers.iter();
    let made: Vec<_> = made
        .map(|(field, value)| json!({ "name": format!("wasm:producers:{field}"), "value": value }))
        .collect();
    let links = [("website", &item.homepage), ("vcs", &item.source)].into_iter();
    let links: Vec<_> = links
        .filter_map(|(kind, url)| Some(json!({ "type": kind, "url": url.as_ref()? })))
        .collect();
    let some = |list: Vec<Value>| (!list.is_empty()).then_some(list);
    object(json!({
        "type": if item.is_program { "application" } else { "library" },
        "bom-ref": item.id,
        "name": item.name,
        "version": item.version,
        "author": item.authors,
        "description": item.description,
        "licenses": item.licence.as_ref().map(|licence| json!([{ "expression": licence }])),
        "purl": item.purl,
        "hashes": item.sha256.as_ref().map(|hex| json!([{ "alg": "SHA-256", "content": hex }])),
        "externalReferences": some(links),
        "properties": some(made),
        "components": some(contains),
    }))
}

fn tool() -> String {
    format!("{}-{}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
}

/// A UUID of version 8 made of a digest. <https://www.rfc-editor.org/rfc/rfc9562#section-5.8>
fn uuid(hex: &str) -> String {
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}
