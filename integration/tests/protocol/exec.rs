//! Processes that are executed in a container beside its own.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use containerd_shim_protos::api::{ExecProcessRequest, Status};
use integration::bundle::Bundle;
use integration::images::HELLO;
use integration::mock::{Event, Mock, Outlet, Refusal, Shim, inlet};
use integration::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use ttrpc::Code;

use crate::{CAT, EXIT_7, FLOOD, SPIN};

/// A container that runs, with more modules to execute.
fn running(mock: &Mock) -> (Bundle, Shim) {
    started(mock, mock.bundle(&["/app.wasm"]))
}

fn started(mock: &Mock, bundle: Bundle) -> (Bundle, Shim) {
    let bundle = bundle
        .with_wat("app.wasm", SPIN)
        .with_wat("usr/bin/hello.wasm", HELLO)
        .with_wat("exit-7.wasm", EXIT_7)
        .with_wat("cat.wasm", CAT)
        .with_wat("flood.wasm", FLOOD);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    (bundle, shim)
}

fn process(args: &[&str]) -> Value {
    json!({
        "user": { "uid": 0, "gid": 0 }, "args": args, "cwd": "/",
        "env": ["PATH=/usr/local/bin:/usr/bin:/bin"]
    })
}

struct Streams {
    stdin: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
}

fn streams(mock: &Mock, bundle: &Bundle) -> Streams {
    let [stdin, stdout, stderr] =
        ["exec-stdin", "exec-stdout", "exec-stderr"].map(|stream| mock.fifo(bundle, stream));
    Streams { stdin, stdout, stderr }
}

fn request(streams: &Streams) -> ExecProcessRequest {
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    ExecProcessRequest {
        stdin: text(&streams.stdin),
        stdout: text(&streams.stdout),
        stderr: text(&streams.stderr),
        ..Default::default()
    }
}

fn finish(mock: &Mock, bundle: &Bundle, shim: Shim) {
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 137);
    shim.finish(mock, bundle);
}

fn status(shim: &Shim, id: &str, exec: &str) -> Status {
    let state = shim.process(id, exec).state().expect("a state");
    assert_eq!(state.id, exec);
    state.status.enum_value().expect("a known status")
}

#[test]
fn a_process_goes_from_exec_to_delete_beside_its_container() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    let id = bundle.id.as_str();
    let one = shim.process(id, "one");
    one.exec(&process(&["/exit-7.wasm"])).expect("it can be executed");
    assert_eq!(status(&shim, id, "one"), Status::CREATED);
    assert_eq!(one.state().expect("a state").pid, 0);
    let pid = one.start().expect("it can be started");
    assert_eq!(one.wait().expect("it ends"), 7);
    assert_eq!(status(&shim, id, "one"), Status::STOPPED);
    let deleted = one.delete().expect("a stopped process can be deleted");
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 7));
    let events = mock.await_events(id, 5);
    let (id, one) = (bundle.id.clone(), "one".to_owned());
    let expected = [
        Event::ExecAdded(id.clone(), one.clone()),
        Event::ExecStarted(id.clone(), one.clone(), pid),
        Event::ExecExit(id, one, pid, 7),
    ];
    assert_eq!(events[2..], expected);
    finish(&mock, &bundle, shim);
}

#[test]
fn it_has_streams_of_its_own_and_a_name_is_looked_for_in_its_path() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    let streams = streams(&mock, &bundle);
    let (stdout, stderr) = (Outlet::of(&streams.stdout), Outlet::of(&streams.stderr));
    let one = shim.process(&bundle.id, "one");
    one.exec_with(&process(&["hello.wasm"]), request(&streams)).expect("it can be executed");
    one.start().expect("it can be started");
    assert_eq!(one.wait().expect("it ends"), 0);
    assert_eq!((stdout.all().as_str(), stderr.all().as_str()), ("hello from wat\n", ""));
    finish(&mock, &bundle, shim);
}

#[test]
fn an_export_of_a_module_is_executed() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    let streams = streams(&mock, &bundle);
    let stderr = Outlet::of(&streams.stderr);
    let one = shim.process(&bundle.id, "one");
    let greet = process(&["/usr/bin/hello.wasm#greet"]);
    one.exec_with(&greet, request(&streams)).expect("it can be executed");
    one.start().expect("it can be started");
    assert_eq!(one.wait().expect("it ends"), 0);
    assert_eq!(stderr.all(), "hello from wat\n");
    finish(&mock, &bundle, shim);
}

#[test]
fn its_input_ends_when_its_writer_and_close_io_say_so() {
    for early in [false, true] {
        let mock = Mock::new();
        let (bundle, shim) = running(&mock);
        let streams = streams(&mock, &bundle);
        let (stdout, _stderr) = (Outlet::of(&streams.stdout), Outlet::of(&streams.stderr));
        let one = shim.process(&bundle.id, "one");
        one.exec_with(&process(&["/cat.wasm"]), request(&streams)).expect("it can be executed");
        if early {
            one.close_stdin().expect("a process that is there");
        }
        one.start().expect("it can be started");
        if !early {
            let mut stdin = inlet(&streams.stdin);
            stdin.write_all(b"a line\n").expect("the guest reads");
            stdout.says("a line\n");
            drop(stdin);
            one.close_stdin().expect("a process that is there");
        }
        assert_eq!(one.wait().expect("it ends"), 0);
        assert_eq!(stdout.all(), if early { "" } else { "a line\n" });
        finish(&mock, &bundle, shim);
    }
}

#[test]
fn a_reader_that_comes_late_gets_everything() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    let streams = streams(&mock, &bundle);
    let one = shim.process(&bundle.id, "one");
    one.exec_with(&process(&["/flood.wasm"]), request(&streams)).expect("it can be executed");
    one.start().expect("it can be started");
    let stdout = Outlet::of(&streams.stdout);
    assert_eq!(one.wait().expect("it ends"), 9);
    assert_eq!(stdout.all().len(), 16 << 20);
    finish(&mock, &bundle, shim);
}

#[test]
fn it_shares_namespaces_cgroup_and_root_with_its_container_and_has_its_own_user() {
    for without in ["nothing", "pid", "network"] {
        let mock = Mock::new();
        let bundle = mock.bundle(&["/app.wasm"]).without_namespace(without);
        let (bundle, shim) = started(&mock, bundle);
        let init = shim.state(&bundle.id).expect("a state").pid;
        let one = shim.process(&bundle.id, "one");
        let mut spec = process(&["/app.wasm"]);
        spec["user"] = json!({ "uid": 1234, "gid": 1235, "additionalGids": [9] });
        one.exec(&spec).expect("it can be executed");
        let pid = one.start().expect("it can be started");
        let link = |pid: u32, file: &str| {
            fs::read_link(format!("/proc/{pid}/{file}")).expect("a live process")
        };
        for kind in ["mnt", "net", "pid", "uts", "ipc", "user", "cgroup"] {
            let file = format!("ns/{kind}");
            assert_eq!(link(pid, &file), link(init, &file), "{kind}");
        }
        let read = |pid: u32, file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a live process")
        };
        assert_eq!(read(pid, "cgroup"), read(init, "cgroup"));
        assert!(fs::exists(format!("/proc/{pid}/root/usr/bin/hello.wasm")).expect("its root"));
        assert!(!fs::exists(format!("/proc/{pid}/root/proc/self")).expect("its root"));
        let status = read(pid, "status");
        for line in [
            "Uid:\t1234\t1234\t1234\t1234",
            "Groups:\t9",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.contains(line), "{status}");
        }
        let mut pids = shim.pids(&bundle.id).expect("a list");
        pids.sort_unstable();
        let mut expected = [init, pid];
        expected.sort_unstable();
        assert_eq!(pids, expected);
        finish(&mock, &bundle, shim);
    }
}

#[test]
fn it_joins_a_user_namespace() {
    let mock = Mock::new();
    let mappings = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    let bundle = mock
        .bundle(&["/app.wasm"])
        .push("/linux/namespaces", json!({ "type": "user" }))
        .set("/linux/uidMappings", mappings.clone())
        .set("/linux/gidMappings", mappings);
    let (bundle, shim) = started(&mock, bundle);
    let one = shim.process(&bundle.id, "one");
    let mut spec = process(&["/app.wasm"]);
    spec["user"] = json!({ "uid": 5, "gid": 5 });
    one.exec(&spec).expect("it can be executed");
    let pid = one.start().expect("it can be started");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a live process");
    assert!(status.contains("Uid:\t100005\t100005\t100005\t100005"), "{status}");
    finish(&mock, &bundle, shim);
}

#[test]
fn it_ends_by_signals_of_its_own() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGKILL, 137)] {
        let mock = Mock::new();
        let (bundle, shim) = running(&mock);
        let one = shim.process(&bundle.id, "one");
        one.exec(&process(&["/app.wasm"])).expect("it can be executed");
        one.start().expect("it can be started");
        one.kill(signal).expect("a running process can be killed");
        assert_eq!(one.wait().expect("it ends"), code);
        assert_eq!(shim.state(&bundle.id).expect("a state").status, Status::RUNNING.into());
        finish(&mock, &bundle, shim);
    }
}

#[test]
fn all_of_them_end_with_their_container_and_are_told_before_it() {
    for without in ["nothing", "pid"] {
        let mock = Mock::new();
        let bundle = mock.bundle(&["/app.wasm"]).without_namespace(without);
        let (bundle, shim) = started(&mock, bundle);
        let names: Vec<String> = (0..5).map(|n| format!("exec-{n}")).collect();
        for name in &names {
            let one = shim.process(&bundle.id, name);
            one.exec(&process(&["/app.wasm"])).expect("it can be executed");
            one.start().expect("it can be started");
        }
        shim.kill(&bundle.id, Signal::SIGTERM).expect("a running task can be killed");
        assert_eq!(shim.wait(&bundle.id).expect("it ends"), 143);
        for name in &names {
            assert_eq!(shim.process(&bundle.id, name).wait().expect("it ended"), 137);
        }
        let events = mock.await_events(&bundle.id, 2 + 3 * names.len() + 1);
        let (last, before) = events.split_last().expect("there are events");
        assert!(matches!(last, Event::Exit(_, _, 143)), "{events:?}");
        let told = before.iter().filter(|event| matches!(event, Event::ExecExit(_, _, _, 137)));
        assert_eq!(told.count(), names.len(), "{events:?}");
        shim.finish(&mock, &bundle);
    }
}

#[test]
fn many_at_once_are_kept_apart() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    std::thread::scope(|scope| {
        for n in 0..20 {
            let (shim, bundle) = (&shim, &bundle);
            scope.spawn(move || {
                let name = format!("exec-{n}");
                let one = shim.process(&bundle.id, &name);
                one.exec(&process(&["/exit-7.wasm"])).expect("it can be executed");
                one.start().expect("it can be started");
                assert_eq!(one.wait().expect("it ends"), 7);
                one.delete().expect("a stopped process can be deleted");
            });
        }
    });
    assert_eq!(shim.pids(&bundle.id).expect("a list").len(), 1);
    finish(&mock, &bundle, shim);
}

#[test]
fn every_call_at_the_wrong_moment_has_its_own_error() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    let one = shim.process(&bundle.id, "one");
    let code = |answer: Result<(), Refusal>| answer.expect_err("it is refused").code;
    assert_eq!(code(one.start().map(drop)), Some(Code::NOT_FOUND));
    one.exec(&process(&["/app.wasm"])).expect("it can be executed");
    assert_eq!(code(one.exec(&process(&["/app.wasm"]))), Some(Code::ALREADY_EXISTS));
    assert_eq!(code(one.kill(Signal::SIGKILL)), Some(Code::FAILED_PRECONDITION));
    one.start().expect("it can be started");
    assert_eq!(code(one.start().map(drop)), Some(Code::FAILED_PRECONDITION));
    assert_eq!(code(one.delete().map(drop)), Some(Code::FAILED_PRECONDITION));
    one.kill(Signal::SIGKILL).expect("a running process can be killed");
    assert_eq!(one.wait().expect("it ends"), 137);
    assert_eq!(code(one.start().map(drop)), Some(Code::FAILED_PRECONDITION));
    assert_eq!(code(one.kill(Signal::SIGKILL)), Some(Code::NOT_FOUND));
    one.delete().expect("a stopped process can be deleted");
    assert_eq!(code(one.state().map(drop)), Some(Code::NOT_FOUND));
    one.exec(&process(&["/app.wasm"])).expect("its id is free again");
    one.delete().expect("a process that never ran can be deleted");
    finish(&mock, &bundle, shim);
}

#[test]
fn nothing_is_executed_in_a_container_that_has_ended() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    let early = shim.process(&bundle.id, "early");
    early.exec(&process(&["/app.wasm"])).expect("it can be executed");
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(&bundle.id).expect("it ends");
    let late = shim.process(&bundle.id, "late").exec(&process(&["/app.wasm"]));
    for refusal in [late.expect_err("it is refused"), early.start().expect_err("it is refused")] {
        assert_eq!(refusal.code, Some(Code::FAILED_PRECONDITION));
        refusal.names(&["cannot exec in a stopped state"]);
    }
    shim.finish(&mock, &bundle);
}

#[test]
fn what_cannot_be_executed_is_told_with_what_can() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    let words = ["/app.wasm", "/usr/bin/hello.wasm", "#EXPORT", "@help", "no shell"];
    let shell = "/bin/sh";
    for (args, said) in [
        (&["sh"][..], "exec: \"sh\": executable file not found in $PATH"),
        (&["/bin/ls", "/"], "exec: \"/bin/ls\": no such file or directory"),
        (&[shell, "-c", "nothing here"], "exec: \"nothing\": executable file not found in $PATH"),
        (&[shell, "-c", "/exit-7.wasm || exit 1"], "leave out all shell syntax"),
    ] {
        let one = shim.process(&bundle.id, "one");
        one.exec(&process(args)).expect("it is not looked for yet");
        let refusal = one.start().expect_err("there is no such file");
        assert_eq!(refusal.code, Some(Code::NOT_FOUND), "{refusal:?}");
        refusal.names(&[said]);
        if !args.contains(&shell) || said.contains("leave") {
            refusal.names(&words[..2]);
        }
        assert_eq!(status(&shim, &bundle.id, "one"), Status::CREATED);
        one.delete().expect("a process that never ran can be deleted");
    }
    assert_eq!(shim.pids(&bundle.id).expect("a list").len(), 1);
    finish(&mock, &bundle, shim);
}

#[test]
fn plain_words_for_a_shell_are_executed_without_one() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    let one = shim.process(&bundle.id, "one");
    one.exec(&process(&["/bin/sh", "-c", "/exit-7.wasm"])).expect("it can be executed");
    one.start().expect("it can be started");
    assert_eq!(one.wait().expect("it ends"), 7);
    finish(&mock, &bundle, shim);
}

#[test]
fn a_bad_process_is_refused_by_name() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    let one = shim.process(&bundle.id, "one");
    for (spec, words) in [
        (json!("text"), "specification's form"),
        (process(&[]), "process.args is missing"),
        (process(&["#x"]), "names no file"),
    ] {
        let refusal = one.exec(&spec).expect_err("it is refused");
        assert_eq!(refusal.code, Some(Code::INVALID_ARGUMENT), "{refusal:?}");
        refusal.names(&["exec: ", words]);
    }
    let mut nowhere = process(&["/app.wasm"]);
    nowhere["cwd"] = json!("/nowhere");
    one.exec(&nowhere).expect("it is not looked for yet");
    one.start().expect_err("there is no such folder").names(&["/nowhere"]);
    finish(&mock, &bundle, shim);
}

#[test]
fn they_end_with_a_lost_shim() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    let one = shim.process(&bundle.id, "one");
    one.exec(&process(&["/app.wasm"])).expect("it can be executed");
    one.start().expect("it can be started");
    let shim_pid = shim.connect(&bundle.id).expect("the task is there").shim_pid;
    kill(Pid::from_raw(shim_pid.cast_signed()), Signal::SIGKILL).expect("the shim runs");
    wait::until("the end of the shim", || {
        !integration::mock::processes(&mock.namespace).iter().any(|(pid, _)| *pid == shim_pid)
    });
    assert_eq!(mock.delete(&bundle).exit_status, 137);
    mock.nothing_left(&bundle);
}

#[test]
fn nothing_is_executed_in_a_paused_container() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock);
    shim.pause(&bundle.id).expect("a running task can be paused");
    let one = shim.process(&bundle.id, "one");
    let refusal = one.exec(&process(&["/app.wasm"])).expect_err("it is refused");
    assert_eq!(refusal.code, Some(Code::FAILED_PRECONDITION));
    refusal.names(&["cannot exec in a paused state"]);
    shim.resume(&bundle.id).expect("a paused task can be resumed");
    one.exec(&process(&["/exit-7.wasm"])).expect("it can be executed");
    one.start().expect("it can be started");
    assert_eq!(one.wait().expect("it ends"), 7);
    finish(&mock, &bundle, shim);
}
