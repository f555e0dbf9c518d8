//! Compiled code, seen from the host that keeps it.

use std::thread;

use integration::bed::Bed;
use integration::docker::Docker;
use integration::images::{HELLO_C, PROBE};

use crate::{docker, host};

const CACHE: &str = "/var/lib/containerd-shim-wasmtime/code";

/// Prints each inode that a compiled file has had.
const WATCH: &str = r#"
seen=
while :; do
  for inode in $(find /var/lib/containerd-shim-wasmtime/code -name '*.cwasm' -printf '%i ' 2>/dev/null); do
    case "$seen " in
    *" $inode "*) ;;
    *) seen="$seen $inode"; echo "$inode" ;;
    esac
  done
done"#;

/// Every compiled file with its inode.
fn compiled(bed: &Bed) -> Vec<String> {
    bed.sh(&format!("find {CACHE} -name '*.cwasm' -printf '%p %i\\n' | sort"))
        .lines()
        .map(str::to_owned)
        .collect()
}

fn of_entry(
    bed: &Bed,
    docker: &Docker,
    image: &'static integration::images::Image,
) -> Option<String> {
    let sum = docker.run(&[], image, &[]);
    sum.ok();
    let digest = bed.sh(&format!(
        "sha256sum /share/guests/{} | cut -d' ' -f1",
        image.entry.trim_start_matches('/')
    ));
    compiled(bed).into_iter().find(|line| line.contains(&digest))
}

#[test]
fn the_second_start_of_an_image_compiles_nothing() {
    let (docker, _turn) = docker();
    stock_guests(docker.0);
    let first =
        of_entry(docker.0, &docker, &PROBE).expect("compiled code named by the module's digest");
    let second =
        of_entry(docker.0, &docker, &PROBE).expect("compiled code named by the module's digest");
    assert_eq!(first, second);
}

#[test]
fn the_first_start_runs_baseline_code_and_the_second_the_optimized_code_made_meanwhile() {
    let host = host();
    let _alone = host.alone();
    let docker = Docker(host);
    docker.load(&PROBE);
    host.sh(&format!("rm -rf {CACHE}"));
    let mapped = "grep -o 'code/.*cwasm' /proc/$pid/maps | head -n 1";
    let first = docker.start(&[], &PROBE, &["sleep", "1000"]);
    first.says("sleeping");
    let baseline = first.look(mapped);
    assert!(baseline.contains("-baseline/"), "{baseline}");
    integration::wait::until("the optimized code", || compiled(host).len() == 2);
    let second = docker.start(&[], &PROBE, &["sleep", "1000"]);
    second.says("sleeping");
    assert_eq!(second.look(mapped), baseline.replace("-baseline/", "/"));
}

#[test]
fn many_first_starts_at_once_compile_once_of_each_tier() {
    let host = host();
    let _alone = host.alone();
    let docker = Docker(host);
    docker.load(&HELLO_C);
    host.sh(&format!("rm -rf {CACHE}"));
    // A file of the cache is written under another name and renamed: each compilation makes an inode.
    let watch = host.spawn(&["sh", "-c", WATCH]);
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| docker.run(&[], &HELLO_C, &[]).ok());
        }
    });
    integration::wait::until("the code of both tiers", || compiled(host).len() == 2);
    let inodes = integration::wait::some("the compiled files", || {
        Some(watch.so_far()).filter(|seen| seen.lines().count() >= 2)
    });
    assert_eq!(inodes.lines().count(), 2, "one of each tier");
}

fn stock_guests(bed: &Bed) {
    let folder = bed.share().join("guests");
    std::fs::create_dir_all(&folder).expect("the share is writable");
    let file = PROBE.entry.trim_start_matches('/');
    std::fs::copy(integration::paths::guest(file), folder.join(file))
        .expect("a guest can be copied");
}
