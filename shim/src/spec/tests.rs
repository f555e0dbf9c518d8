use super::*;
use serde_json::json;
use std::path::Component;

fn specification() -> serde_json::Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": true, "consoleSize": { "height": 24, "width": 80 },
            "user": { "uid": 1000, "gid": 100, "umask": 18, "additionalGids": [1, 2] },
            "args": ["/app.wasm#go", "a"], "env": ["PATH=/bin", "A=b"], "cwd": "/srv",
            "capabilities": { "bounding": ["CAP_FOWNER"], "permitted": ["CAP_FOWNER"] },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true, "oomScoreAdj": 100
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "h", "domainname": "d",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] },
            { "destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ro"] }
        ],
        "hooks": { "poststop": [{ "path": "/bin/true", "args": ["true"], "timeout": 5 }] },
        "annotations": { "io.containerd.wasmtime.max-guest-memory": "64MiB" },
        "linux": {
            "uidMappings": [{ "containerID": 0, "hostID": 1000, "size": 1 }],
            "gidMappings": [{ "containerID": 0, "hostID": 1000, "size": 1 }],
            "sysctl": { "net.ipv4.ping_group_range": "0 0" },
            "resources": { "memory": { "limit": 67108864 }, "pids": { "limit": 100 } },
            "cgroupsPath": "system.slice:x:y",
            "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": "user" },
                { "type": "network", "path": "/var/run/netns/x" }
            ],
            "devices": [{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3 }],
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]
        }
    })
}

#[test]
fn any_specification_is_refused_or_a_plan_that_stays_in_the_container() {
    let plans = std::cell::Cell::new(0);
    hostile::check("specifications", 4000, hostile::changed(specification()), |document| {
        let Ok(spec) = serde_json::from_value::<Spec>(document) else { return };
        let Ok(plan) = Plan::new(spec, Path::new("/bundle"), "id") else { return };
        plans.set(plans.get() + 1);
        assert!(!plan.process.args.is_empty() && plan.process.cwd.is_absolute());
        assert!(plan.rootfs.is_absolute());
        for mount in &plan.mounts {
            let up = mount.destination.components().any(|part| part == Component::ParentDir);
            assert!(mount.destination.is_absolute() && !up, "{:?}", mount.destination);
        }
    });
    assert!(plans.get() > 500, "{} were plans", plans.get());
}

#[test]
fn any_process_to_execute_is_refused_or_has_something_to_run() {
    let document = specification()["process"].take();
    let taken = std::cell::Cell::new(0);
    hostile::check("processes", 2000, hostile::changed(document), |document| {
        if let Ok(process) = process(document.to_string().as_bytes()) {
            assert!(!process.args.is_empty() && process.cwd.is_absolute());
            taken.set(taken.get() + 1);
        }
    });
    assert!(taken.get() > 200, "{} were taken", taken.get());
}
