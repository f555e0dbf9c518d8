//! `start` and `delete` in the dialects of containerd 1.6 to 2.4, and the options that come with them.

use containerd_shim_protos::api::CreateTaskRequest;
use integration::images::HELLO;
use integration::mock::{Dialect, Event, Mock, Shim};
use integration::{bundle::Bundle, options};
use serde_json::json;

use crate::EXIT_7;

fn whole_life(mock: &Mock, bundle: &Bundle, shim: Shim) {
    let id = &bundle.id;
    let pid = shim.create(bundle).expect("the task can be created");
    shim.start(id).expect("the task can be started");
    assert_eq!(shim.wait(id).expect("the task can be waited for"), 7);
    let deleted = shim.finish(mock, bundle);
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 7));
    let expected = [
        Event::Create(id.clone(), pid),
        Event::Start(id.clone(), pid),
        Event::Exit(id.clone(), pid, 7),
        Event::Delete(id.clone(), pid, 7),
    ];
    assert_eq!(mock.await_events(id, 4), expected);
}

fn in_dialect(dialect: &Dialect) {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    bundle.write();
    let shim = mock.start(&bundle, dialect).expect("the shim starts");
    whole_life(&mock, &bundle, shim);
}

#[test]
fn a_daemon_that_says_nothing_gets_a_plain_address_and_task_v2() {
    in_dialect(&Dialect::Silent);
}

#[test]
fn a_daemon_that_sends_options_gets_a_plain_address_and_task_v2() {
    in_dialect(&Dialect::Options(options::body("SystemdCgroup = false\n")));
}

#[test]
fn a_daemon_that_sends_bootstrap_params_gets_a_bootstrap_result() {
    in_dialect(&Dialect::Bootstrap { socket_dir: None });
}

#[test]
fn the_socket_is_where_the_bootstrap_params_want_it() {
    let mock = Mock::new();
    std::fs::create_dir("/run/elsewhere").expect("/run is the test's own");
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    bundle.write();
    let dialect = Dialect::Bootstrap { socket_dir: Some("/run/elsewhere".to_owned()) };
    let shim = mock.start(&bundle, &dialect).expect("the shim starts");
    assert!(shim.address.starts_with("unix:///run/elsewhere/"), "{}", shim.address);
    whole_life(&mock, &bundle, shim);
}

#[test]
fn the_task_service_answers_under_both_of_its_names() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    bundle.write();
    let mut shim = mock.start(&bundle, &Dialect::Silent).expect("the shim starts");
    shim.version = 3;
    whole_life(&mock, &bundle, shim);
}

#[test]
fn an_unknown_option_is_refused_by_name() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", HELLO);
    let request = CreateTaskRequest {
        options: Some(options::body("SystemdCgroup = false\nSystemdCgruop = true\n")).into(),
        ..Default::default()
    };
    let refusal = mock.create_with(&bundle, request).err().expect("an unknown option is refused");
    refusal.names(&["SystemdCgruop"]);
    mock.nothing_left(&bundle);
}

#[test]
fn options_are_read_from_a_file_too() {
    let mock = Mock::new();
    std::fs::write("/run/wasmtime.toml", "Colour = 'blue'\n").expect("/run is the test's own");
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", HELLO);
    let request = CreateTaskRequest {
        options: Some(options::path("/run/wasmtime.toml")).into(),
        ..Default::default()
    };
    let refusal = mock.create_with(&bundle, request).err().expect("an unknown option is refused");
    refusal.names(&["Colour", "/run/wasmtime.toml"]);
    mock.nothing_left(&bundle);
}

#[test]
fn a_missing_options_file_is_refused_by_name() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", HELLO);
    let request = CreateTaskRequest {
        options: Some(options::path("/run/nowhere.toml")).into(),
        ..Default::default()
    };
    let refusal = mock.create_with(&bundle, request).err().expect("a missing file is refused");
    refusal.names(&["/run/nowhere.toml"]);
    mock.nothing_left(&bundle);
}

#[test]
fn the_systemd_form_of_a_cgroups_path_makes_a_scope_in_its_slice() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", crate::SPIN);
    let bundle = Bundle { spec: bundle.spec.clone(), ..bundle };
    let path = format!("system.slice:docker:{}", bundle.id);
    let bundle = bundle.set("/linux/cgroupsPath", json!(path));
    let shim = mock.create(&bundle).expect("the task can be created");
    let pid = shim.state(&bundle.id).expect("a state").pid;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a live process");
    let scope = format!("system.slice/docker-{}.scope", bundle.id);
    assert!(groups.contains(&scope), "no {scope} in\n{groups}");
    shim.kill(&bundle.id, nix::sys::signal::Signal::SIGKILL).expect("a created task can be killed");
    shim.wait(&bundle.id).expect("a killed task ends");
    shim.finish(&mock, &bundle);
}
