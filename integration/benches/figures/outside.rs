//! The machine's side: the test host, and what becomes of the figures.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use integration::bed::{Cgroup, Suite, bed};
use integration::paths;
use serde_json::{Value, json};

use crate::Args;
use crate::sample::Figure;

pub fn run(args: &Args) {
    let folder = paths::target().join("bench");
    fs::create_dir_all(&folder).expect("the target folder is writable");
    let file = folder.join("figures.json");
    let mut figures = read(&file);
    for figure in measured(args) {
        figures.retain(|other| other.name != figure.name);
        figures.push(figure);
    }
    let all: Vec<Value> = figures.iter().map(Figure::json).collect();
    let text = serde_json::to_string_pretty(&json!({ "figures": all })).expect("JSON");
    fs::write(&file, text).expect("the target folder is writable");
    eprintln!("{}", file.display());
}

/// What earlier runs have measured.
fn read(file: &Path) -> Vec<Figure> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    json["figures"].as_array().into_iter().flatten().filter_map(Figure::read).collect()
}

/// Runs this program again, in a test host that has everything.
fn measured(args: &Args) -> Vec<Figure> {
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
    for guest in ["probe-p1.wasm", "probe-p2.wasm"] {
        copy(&paths::guest(guest), &format!("guests/{guest}"));
    }
    let others: Vec<String> = args
        .shims
        .iter()
        .map(|shim| {
            let name = shim.file_name().unwrap_or_default().to_string_lossy();
            copy(shim, &format!("others/{name}"));
            format!("/share/others/{name}")
        })
        .collect();
    let (runs, only) = (args.runs.to_string(), args.only.join(","));
    let mut words = vec!["env", "CARGO_TARGET_DIR=/share", "/share/bin/figures", "--inside"];
    words.extend(["--runs", &runs, "--only", &only]);
    words.extend(others.iter().map(String::as_str));
    let mut child = bed
        .command(&words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("scripts/bed can be run");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let commit = commit();
    let figures = lines
        .map(|line| {
            let json = serde_json::from_str(&line.expect("text")).expect("a line of JSON");
            let figure = Figure::read(&json).expect("a figure");
            Figure { commit: commit.clone(), ..figure }
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
