//! From a bundle's config.json, and from the process of an exec, to what is done.
#![no_main]

use std::path::{Component, Path};

use fuzz::spec::{Plan, process};
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;

fuzz_target!(|input: &[u8]| {
    if let Ok(process) = process(input) {
        assert!(!process.args.is_empty() && process.cwd.is_absolute());
    }
    let Ok(spec) = serde_json::from_slice::<Spec>(input) else { return };
    let Ok(plan) = Plan::new(spec, Path::new("/bundle"), "id") else { return };
    assert!(!plan.process.args.is_empty() && plan.process.cwd.is_absolute());
    assert!(plan.rootfs.is_absolute());
    for mount in &plan.mounts {
        let up = mount.destination.components().any(|part| part == Component::ParentDir);
        assert!(mount.destination.is_absolute() && !up, "{:?}", mount.destination);
    }
});
