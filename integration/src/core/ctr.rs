//! What `ctr run` promises with any containerd.

#![allow(missing_docs, reason = "the name of each function is the promise that it proves")]

use std::time::Duration;

use crate::command::DEADLINE;
use crate::ctr::Ctr;
use crate::images::{PROBE, PROBE_P2};
use crate::{leaks, wait};

/// Makes a test of each of these functions; `$given` returns a [`Ctr`] and a guard.
#[macro_export]
macro_rules! ctr_core {
    ($given:path) => {
        $crate::ctr_core! { $given;
            a_module_and_a_component_run,
            the_exit_code_is_the_guests,
            a_trap_is_134_with_a_backtrace,
            arguments_environment_and_folder_arrive,
            piped_input_arrives_and_ends,
            mounts_are_honoured,
            a_guest_in_a_tight_loop_is_killed_by_sigterm,
            what_cannot_run_is_refused_by_name,
            metrics_can_be_read,
            the_host_network_is_the_hosts,
        }
    };
    ($given:path; $($case:ident),+ $(,)?) => {
        $(#[test]
        fn $case() {
            let (ctr, _turn) = $given();
            $crate::core::ctr::$case(ctr);
        })+
    };
}

pub fn a_module_and_a_component_run(ctr: Ctr) {
    for image in [&PROBE, &PROBE_P2] {
        assert_eq!(ctr.run(&[], image, &[]).ok().text(), "hello from wasm");
    }
}

pub fn the_exit_code_is_the_guests(ctr: Ctr) {
    ctr.run(&[], &PROBE, &["exit", "7"]).exits(7);
    ctr.run(&[], &PROBE_P2, &["exit", "7"]).exits(1);
}

pub fn a_trap_is_134_with_a_backtrace(ctr: Ctr) {
    let done = ctr.run(&[], &PROBE, &["trap"]).exits(134);
    done.complains_of(&["unreachable", "trap_a", "trap_b", "trap_c"]);
}

pub fn arguments_environment_and_folder_arrive(ctr: Ctr) {
    let done = ctr.run(&[], &PROBE, &["args", "two words"]).ok();
    assert_eq!(done.lines(), [PROBE.entry, "args", "two words"]);
    let done = ctr.run(&["--env", "COLOUR=blue"], &PROBE, &["env"]).ok();
    for expected in ["COLOUR=blue", "FROM_IMAGE=yes"] {
        assert!(done.lines().iter().any(|line| line == expected), "no {expected}\n{done}");
    }
    let done = ctr.run_command(&["--cwd", "/srv"], &PROBE, &["local.wasm"]).ok();
    assert_eq!(done.text(), "hello from wat");
}

pub fn piped_input_arrives_and_ends(ctr: Ctr) {
    for image in [&PROBE, &PROBE_P2] {
        let mut running = ctr.spawn(&[], image, &["echo-stdin"]);
        running.command.write(b"one\n");
        running.command.says("one\n");
        running.command.write(b"two\n");
        // ctr forgets to close the task's input when its own ends before the task was created.
        running.command.says("two\n");
        running.command.finish(DEADLINE).ok();
        leaks::none_of(ctr.0, &running.id);
    }
}

pub fn mounts_are_honoured(ctr: Ctr) {
    let folder = ctr.0.folder("mount");
    ctr.0.sh(&format!("echo from the host >{folder}/in"));
    let mount = |mode| format!("type=bind,src={folder},dst=/data,options=rbind:{mode}");
    let (rw, ro) = (mount("rw"), mount("ro"));
    for image in [&PROBE, &PROBE_P2] {
        assert_eq!(
            ctr.run(&["--mount", &ro], image, &["cat", "/data/in"]).ok().text(),
            "from the host"
        );
        ctr.run(&["--mount", &ro], image, &["write", "/data/out", "text"]).exits(1);
        ctr.run(&["--mount", &rw], image, &["write", "/data/out", "from the guest"]).ok();
        assert_eq!(ctr.0.sh(&format!("cat {folder}/out; rm {folder}/out")), "from the guest");
    }
}

pub fn a_guest_in_a_tight_loop_is_killed_by_sigterm(ctr: Ctr) {
    for (image, guest) in [(&PROBE, "spin"), (&PROBE_P2, "spin")] {
        let running = ctr.spawn(&[], image, &[guest]);
        running.command.says("spinning");
        assert!(ctr.pid(&running.id).is_some());
        ctr.cli(&["task", "kill", "-s", "SIGTERM", &running.id]).ok();
        running.command.finish(Duration::from_secs(20)).exits(143);
        leaks::none_of(ctr.0, &running.id);
    }
}

pub fn what_cannot_run_is_refused_by_name(ctr: Ctr) {
    for (entrypoint, words) in [
        ("/nowhere.wasm", &["/nowhere.wasm"][..]),
        ("/bad/text.wasm", &["/bad/text.wasm"]),
        ("/bad/import.wasm", &["/bad/import.wasm", "moon", "shine"]),
        ("/bad/world.wasm", &["/bad/world.wasm", "paint-the-fence"]),
    ] {
        ctr.run_command(&[], &PROBE, &[entrypoint]).fails().complains_of(words);
    }
    let mount = "type=bind,src=/no/such/source,dst=/data,options=rbind:ro";
    ctr.run(&["--mount", mount], &PROBE, &[]).fails().complains_of(&["/no/such/source"]);
}

pub fn metrics_can_be_read(ctr: Ctr) {
    let running = ctr.spawn(&[], &PROBE, &["hold", "8"]);
    running.command.says("allocated 8");
    let metrics = ctr.cli(&["task", "metrics", &running.id]).ok();
    assert!(metrics.text().contains(&running.id), "{metrics}");
    ctr.cli(&["task", "kill", "-s", "SIGKILL", &running.id]).ok();
    running.command.finish(DEADLINE).exits(137);
    leaks::none_of(ctr.0, &running.id);
}

pub fn the_host_network_is_the_hosts(ctr: Ctr) {
    let running = ctr.spawn(&["--net-host"], &PROBE_P2, &["serve-http", "7100"]);
    running.command.says("listening on 7100");
    let answer = wait::some("an answer from the guest", || {
        let done = ctr.0.exec(&["curl", "-sS", "--max-time", "5", "http://127.0.0.1:7100/"]);
        (done.code == 0).then(|| done.text())
    });
    assert_eq!(answer, "hello from wasm");
    ctr.cli(&["task", "kill", "-s", "SIGTERM", &running.id]).ok();
    running.command.finish(DEADLINE).exits(143);
    leaks::none_of(ctr.0, &running.id);
}
