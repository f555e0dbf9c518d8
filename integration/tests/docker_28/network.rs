//! docker's networks, with guests at either end.

use integration::docker::{Container, Docker};
use integration::images::{PROBE, PROBE_P2};
use integration::wait;

use crate::docker;

fn http(docker: &Docker, address: &str) -> String {
    wait::some(&format!("an answer from {address}"), || {
        let done =
            docker.0.exec(&["curl", "-sS", "--max-time", "5", &format!("http://{address}/")]);
        (done.code == 0).then(|| done.text())
    })
}

fn server(docker: &Docker, flags: &[&str], port: &str) -> Container {
    let container = docker.start(flags, &PROBE_P2, &["listen", port]);
    container.says(&format!("listening on {port}"));
    container
}

#[test]
fn a_published_port_reaches_the_guest() {
    let (docker, _turn) = docker();
    let container = docker.start(&["-p", "18080:8080"], &PROBE_P2, &["serve-http", "8080"]);
    container.says("listening on 8080");
    assert_eq!(http(&docker, "127.0.0.1:18080"), "hello from wasm");
    assert_eq!(http(&docker, &format!("{}:8080", container.address())), "hello from wasm");
}

#[test]
fn guests_on_the_bridge_reach_each_other() {
    let (docker, _turn) = docker();
    let listener = server(&docker, &[], "7001");
    let done =
        docker.run(&[], &PROBE_P2, &["connect", &listener.address(), "7001", "neighbour"]).ok();
    assert_eq!(done.text(), "hello neighbour");
}

#[test]
fn the_host_network_is_the_hosts() {
    let (docker, _turn) = docker();
    let container = docker.start(&["--network", "host"], &PROBE_P2, &["serve-http", "7002"]);
    container.says("listening on 7002");
    assert_eq!(http(&docker, "127.0.0.1:7002"), "hello from wasm");
}

#[test]
fn without_a_network_there_is_only_the_loopback() {
    let (docker, _turn) = docker();
    let outside = server(&docker, &[], "7003");
    docker
        .run(&["--network", "none"], &PROBE_P2, &["connect", &outside.address(), "7003", "anybody"])
        .exits(1);
    let container = docker.start(&["--network", "none"], &PROBE_P2, &["listen", "7004"]);
    container.says("listening on 7004");
    assert_eq!(container.look("nsenter -t $pid -n ip -o link | wc -l"), "1");
    assert_eq!(container.look("nsenter -t $pid -n ip -o link show up | grep -c LOOPBACK"), "1");
}

#[test]
fn the_network_of_another_container_can_be_joined() {
    let (docker, _turn) = docker();
    let listener = server(&docker, &[], "7005");
    let network = format!("container:{}", listener.name);
    let done = docker
        .run(&["--network", &network], &PROBE_P2, &["connect", "127.0.0.1", "7005", "housemate"])
        .ok();
    assert_eq!(done.text(), "hello housemate");
}

#[test]
fn a_wasm_and_a_linux_container_on_one_network_talk_by_name_both_ways() {
    let (docker, _turn) = docker();
    let network = integration::names::unique("together");
    docker.cli(&["network", "create", &network]).ok();
    {
        let wasm = server(&docker, &["--network", &network], "7006");
        let ask = format!("echo linux | nc -w 5 {} 7006", wasm.name);
        let asking = docker.start_linux(&["--network", &network], &["sh", "-c", &ask]);
        assert_eq!(asking.wait(), 0, "{}", asking.logs());
        assert_eq!(asking.logs().text(), "hello linux");

        let linux = docker.start_linux(
            &["--network", &network],
            &[
                "sh",
                "-c",
                "echo ready; exec nc -ll -p 7007 -e sh -c 'read line; echo good day $line'",
            ],
        );
        linux.says("ready");
        let answer = wait::some("an answer from the Linux container", || {
            let done = docker.run(
                &["--network", &network],
                &PROBE_P2,
                &["connect", &linux.name, "7007", "wasm"],
            );
            (done.code == 0).then(|| done.text())
        });
        assert_eq!(answer, "good day wasm");
        let resolved =
            docker.run(&["--network", &network], &PROBE_P2, &["resolve", &linux.name]).ok();
        assert_eq!(resolved.lines().first(), Some(&linux.address()), "{resolved}");
    }
    docker.remove_network(&network);
}

#[test]
fn the_hosts_file_and_the_resolver_are_dockers() {
    let (docker, _turn) = docker();
    let done = docker
        .run(&["--add-host", "named.example:10.1.2.3"], &PROBE_P2, &["resolve", "named.example"])
        .ok();
    assert_eq!(done.lines(), ["10.1.2.3"]);
    let done = docker.run(&["--dns", "10.9.8.7"], &PROBE, &["cat", "/etc/resolv.conf"]).ok();
    assert!(done.text().contains("10.9.8.7"), "{done}");
}

#[test]
fn a_restarted_container_has_its_network_again() {
    let (docker, _turn) = docker();
    let container = docker.start(&["-p", "18081:8080"], &PROBE_P2, &["serve-http", "8080"]);
    container.says("listening on 8080");
    container.cli(&["restart"]).ok();
    assert_eq!(http(&docker, "127.0.0.1:18081"), "hello from wasm");
}
