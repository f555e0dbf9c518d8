//! containerd 2.1 of the same host, without docker.

use integration::ctr::Ctr;
use integration::images::PROBE;
use integration::names::unique;
use integration::{PLATFORM, RUNTIME, leaks, wait};

integration::ctr_core!(crate::ctr);

#[test]
fn a_container_outlives_containerd() {
    let host = crate::host();
    let _alone = host.alone();
    let ctr = Ctr(host);
    let id = unique("outliving");
    let image = ctr.import(&PROBE);
    let fixed = ["run", "-d", "--runtime", RUNTIME, "--platform", PLATFORM];
    ctr.cli(&[&fixed[..], &[&image, &id, PROBE.entry, "sleep", "1000"]].concat()).ok();
    let before = ctr.pid(&id).expect("the task runs");
    host.sh("pkill -KILL -x containerd");
    wait::until("the end of containerd", || !host.test("pgrep -x containerd"));
    host.up();
    assert_eq!(ctr.pid(&id), Some(before));
    ctr.cli(&["task", "kill", "-s", "SIGTERM", &id]).ok();
    wait::until("the end of the task", || {
        let tasks = ctr.cli(&["task", "ls"]).ok().lines();
        tasks.iter().any(|line| line.starts_with(&id) && line.contains("STOPPED"))
    });
    ctr.cli(&["task", "rm", &id]).ok().complains_of(&["143"]);
    ctr.cli(&["container", "rm", &id]).ok();
    leaks::none_of(host, &id);
}

#[test]
fn processes_are_executed_and_have_terminals() {
    let (ctr, _turn) = crate::ctr();
    let running = ctr.spawn(&[], &PROBE, &["sleep", "1000"]);
    running.command.says("sleeping");
    let exec = |flags: &[&str], args: &[&str]| {
        let words = [&["task", "exec", "--exec-id", "one"], flags, &[running.id.as_str()], args];
        ctr.cli(&words.concat())
    };
    assert_eq!(exec(&[], &[PROBE.entry, "args"]).ok().lines(), [PROBE.entry, "args"]);
    exec(&[], &[PROBE.entry, "exit", "7"]).exits(7);
    exec(&[], &["ls"]).fails().complains_of(&["\"ls\"", PROBE.entry, "@help"]);
    let line = format!("ctr task exec -t --exec-id two {} {} terminals", running.id, PROBE.entry);
    let done = ctr.0.exec(&["script", "-qec", &line, "/dev/null"]).ok();
    assert!(done.text().contains("[true, true, true]"), "{done}");
    ctr.cli(&["task", "kill", "-s", "SIGKILL", &running.id]).ok();
    running.command.finish(integration::command::DEADLINE).exits(137);
    leaks::none_of(ctr.0, &running.id);
}

#[test]
fn a_task_has_a_terminal() {
    let (ctr, _turn) = crate::ctr();
    let (id, image) = (unique("terminal"), ctr.import(&PROBE));
    let line = format!(
        "ctr run --rm -t --runtime {RUNTIME} --platform {PLATFORM} {image} {id} {} spin",
        PROBE.entry
    );
    let mut session = ctr.0.spawn(&["script", "-qec", &line, "/dev/null"]);
    // By then ctr has its own terminal under control, and keys go to the task's.
    session.says("spinning");
    session.write(b"\x03");
    session.finish(integration::command::DEADLINE).exits(130);
    leaks::none_of(ctr.0, &id);
}
