//! The machine's side: the test host, and what becomes of the figures.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use integration::bed::{Cgroup, Suite, bed};
use integration::images::build;
use integration::paths;
use serde_json::{Value, json};

use crate::compute::GUESTS;
use crate::ctr::IMAGES;
use crate::sample::Figure;
use crate::{Args, REGISTRY, goals, plot, registry, table};

pub fn run(args: &Args) {
    let folder = paths::target().join("bench");
    fs::create_dir_all(&folder).expect("the target folder is writable");
    let file = folder.join("figures.json");
    let mut figures = read(&file);
    // `--only ''`: nothing is measured, and what was is published.
    let (here, inside): (Vec<_>, Vec<_>) =
        args.only.iter().cloned().partition(|name| name == REGISTRY);
    let mut new = if inside.is_empty() { Vec::new() } else { measured(args, &inside.join(",")) };
    if !here.is_empty() {
        new.extend(registry::measure(args.runs.div_ceil(4)));
    }
    let commit = commit();
    for figure in new {
        let figure = Figure { commit: commit.clone(), ..figure };
        figures.retain(|other| other.name != figure.name);
        figures.push(figure);
    }
    let all: Vec<Value> = figures.iter().map(Figure::json).collect();
    let text = serde_json::to_string_pretty(&json!({ "figures": all })).expect("JSON");
    fs::write(&file, text).expect("the target folder is writable");
    for figure in &figures {
        let picture = folder.join(format!("{}.svg", figure.name));
        fs::write(picture, plot::svg(figure, title(&figure.name))).expect("as above");
    }
    println!("\n{}", goals::markdown(&figures));
    println!("{}, and a picture beside it for each figure", file.display());
    if args.publish {
        publish(&figures, &folder);
    }
}

fn title(name: &str) -> &str {
    match name {
        "launch" => "The shim's own share of a start",
        "throughput" => "Containers a second: create, start, exit, delete",
        "memory" => "PSS of a sleeping container",
        "processes" => "Processes of a container",
        "kilobytes" => "Where a sleeping container's kilobytes are",
        "stages" => "Where a container's milliseconds go",
        "parts" => "What parts of a specification add to a start in a group",
        "ctr" => "Whole commands",
        "module" => "A module of 26 MB",
        "compute" => "Computing",
        "registry" => "100 MB to a registry and back",
        "registry-memory" => "Memory that it takes to move 100 MB",
        other => other,
    }
}

/// Puts pictures and tables into the documentation.
fn publish(figures: &[Figure], folder: &Path) {
    let docs = paths::repository().join("docs");
    let page = docs.join("benchmarks.md");
    let text = fs::read_to_string(&page).expect("it is part of the repository");
    fs::write(&page, table::fill(&text, figures)).expect("the repository is writable");
    let pictures = docs.join("benchmarks");
    fs::create_dir_all(&pictures).expect("the repository is writable");
    for Figure { name, .. } in figures {
        let file = format!("{name}.svg");
        fs::copy(folder.join(&file), pictures.join(&file)).expect("the repository is writable");
    }
}

/// What earlier runs have measured.
fn read(file: &Path) -> Vec<Figure> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    json["figures"].as_array().into_iter().flatten().filter_map(Figure::read).collect()
}

/// Runs this program again, in a test host that has everything.
fn measured(args: &Args, only: &str) -> Vec<Figure> {
    let bed = bed(Suite::Forky, Cgroup::V1);
    let share = bed.share();
    let copy = |from: &Path, to: &str| {
        let to = share.join(to);
        fs::create_dir_all(to.parent().expect("a file is in a folder")).expect("the share is ours");
        fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    };
    copy(&std::env::current_exe().expect("this program is a file"), "bin/figures");
    // Where `paths` looks for what is built.
    std::os::unix::fs::symlink("bin", share.join("release")).expect("the share is ours");
    let floor = "containerd-shim-floor-v1";
    copy(&paths::binary(floor), &format!("bin/{floor}"));
    fs::create_dir_all(share.join("images")).expect("the share is ours");
    for (image, guest) in IMAGES {
        let archive = share.join(format!("images/{image}.tar"));
        build(image, &archive, &[], &paths::guest(guest));
    }
    let guests = IMAGES.iter().map(|(_, guest)| (*guest).to_owned());
    for guest in guests.chain(GUESTS.iter().map(|(name, _)| format!("{name}.wasm"))) {
        copy(&paths::guest(&guest), &format!("guests/{guest}"));
    }
    // What need not be there: `scripts/bench` says how it comes.
    let bench = paths::target().join("bench");
    let cli = std::env::var_os("WASMTIME").map(PathBuf::from);
    let cli = cli.unwrap_or_else(|| bench.join("wasmtime/bin/wasmtime"));
    for (from, to) in [(cli, "bin/wasmtime"), (bench.join("yosys.wasm"), "guests/yosys.wasm")] {
        if from.exists() {
            copy(&from, to);
        }
    }
    let others: Vec<String> = args
        .shims
        .iter()
        .map(|shim| {
            let name = shim.file_name().unwrap_or_default().to_string_lossy();
            copy(shim, &format!("bin/{name}"));
            format!("/share/bin/{name}")
        })
        .collect();
    let runs = args.runs.to_string();
    let mut words = vec!["env", "CARGO_TARGET_DIR=/share", "/share/bin/figures", "--inside"];
    words.extend(["--runs", &runs, "--only", only]);
    words.extend(others.iter().map(String::as_str));
    let mut child = bed
        .command(&words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("scripts/bed can be run");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let figures = lines
        .map(|line| {
            let json = serde_json::from_str(&line.expect("text")).expect("a line of JSON");
            Figure::read(&json).expect("a figure")
        })
        .collect();
    let status = child.wait().expect("a child of ours");
    assert!(status.success(), "the measurements failed: {status}");
    figures
}

/// What is measured, as far as git knows.
fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(paths::repository())
        .output();
    git.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned()).unwrap_or_default()
}
