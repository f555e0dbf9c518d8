//! Signed images and signed code, with a registry beside docker.

use std::fs;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use integration::bed::Bed;
use integration::command::{Done, Running};
use integration::docker::Docker;
use integration::names::unique;
use integration::{PLATFORM, paths, wait};
use serde_json::Value;

use crate::host;
use crate::options::configure;

const CODE: &str = "/var/lib/containerd-shim-wasmtime/code";

/// A registry in the bed, and a desk there with keys.
struct Registry {
    docker: Docker,
    running: Option<Running>,
    _turn: MutexGuard<'static, ()>,
}

impl Registry {
    fn start() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        static STOCKED: OnceLock<()> = OnceLock::new();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let host = host();
        STOCKED.get_or_init(|| {
            for (from, to) in [
                ("/usr/bin/docker-registry".into(), "bin/docker-registry"),
                (paths::judge("cosign3/usr/bin/cosign"), "bin/cosign"),
                (paths::guest("probe-p1.wasm"), "probe-p1.wasm"),
                (paths::guest("probe-p2.wasm"), "probe-p2.wasm"),
            ] {
                fs::copy(from, host.share().join(to)).expect("it is installed: scripts/setup");
            }
            let config = "version: 0.1\nlog: { level: warn }\n\
                storage: { filesystem: { rootdirectory: /share/registry } }\n\
                http: { addr: '127.0.0.1:5000', secret: s }\n";
            fs::write(host.share().join("registry.yml"), config).expect("the share is writable");
            host.sh("cd /share && for n in ours theirs; do wasm-image keygen $n; done");
        });
        let mut registry = Self { docker: Docker(host), running: None, _turn: turn };
        registry.up();
        registry
    }

    fn up(&mut self) {
        let words = ["docker-registry", "serve", "/share/registry.yml"];
        self.running = Some(self.bed().spawn(&words));
        wait::until("the registry", || self.bed().test("curl -sf http://127.0.0.1:5000/v2/"));
    }

    fn down(&mut self) {
        self.bed().sh("pkill -x docker-registry");
        wait::until("its end", || !self.bed().test("pgrep -x docker-registry"));
        self.running = None;
    }

    fn bed(&self) -> &'static Bed {
        self.docker.0
    }

    /// `wasm-image WORDS` at the desk.
    fn tool(&self, words: &str) -> String {
        self.bed().sh(&format!("cd /share && WASM_IMAGE_STORE=/share/store wasm-image {words}"))
    }

    /// A guest as an image of a new name in the registry, which docker has pulled. It has bytes of its
    /// own, so its code is in no cache.
    fn image(&self, guest: &str) -> String {
        self.image_of("image", guest)
    }

    /// The same in another form.
    fn image_of(&self, form: &str, guest: &str) -> String {
        let name = unique("trust");
        let image = format!("localhost:5000/team/{name}:1");
        let mut wasm = fs::read(paths::guest(guest)).expect("a guest can be read");
        // A custom section, whose name is that of the image.
        let length = u8::try_from(name.len()).expect("it is short");
        wasm.extend([0, length + 1, length]);
        wasm.extend(name.as_bytes());
        fs::write(self.bed().share().join("app.wasm"), wasm).expect("the share is writable");
        self.tool(&format!("build app.wasm --form {form} -t {image}"));
        self.tool(&format!("push {image}"));
        self.docker.cli(&["pull", "-q", "--platform", PLATFORM, &image]).ok();
        image
    }

    /// `docker run` with the settings called `runtime`.
    fn run(&self, runtime: &str, image: &str) -> Done {
        let words = ["run", "--rm", "--pull", "never", "--platform", PLATFORM, "--runtime"];
        self.docker.cli(&[&words[..], &[runtime, image]].concat())
    }

    /// Settings, by which docker knows the runtime under a name of their own.
    fn settings(&self, toml: &str) -> String {
        let name = unique("trusting");
        let file = format!("/share/{name}.toml");
        fs::write(self.bed().share().join(format!("{name}.toml")), toml).expect("it is writable");
        configure(&name, &file);
        name
    }

    /// Lines of containerd's log, which has the shim's in it, that tell of `word`.
    fn log(&self, word: &str) -> String {
        self.bed().exec(&["grep", "-F", word, "/var/log/containerd.log"]).text()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.bed().exec(&["pkill", "-x", "docker-registry"]);
    }
}

const POLICY: &str = r#"
[[SignedImages]]
Images = "localhost:5000/team/*"
Keys = ["/share/ours.pub"]
"#;

#[test]
fn only_images_that_the_named_key_has_signed_run() {
    let _alone = host().alone();
    let mut registry = Registry::start();
    let runtime = registry.settings(POLICY);
    let image = registry.image("probe-p1.wasm");
    let refused = registry.run(&runtime, &image);
    assert!((125..=127).contains(&refused.code), "{refused}");
    refused.complains_of(&[&image, "must not run here: it is not signed", "/share/ours.pub"]);

    registry.tool(&format!("sign {image} --key theirs.key"));
    registry.run(&runtime, &image).fails().complains_of(&["none of the trusted keys"]);
    registry.tool(&format!("sign {image} --key ours.key"));
    assert_eq!(registry.run(&runtime, &image).ok().text(), "hello from wasm");
    let log = registry.log("is signed by the owner of /share/ours.pub");
    assert!(log.contains(&image), "{log}");

    // What was found once is kept; what was not, is not.
    let other = registry.image("probe-p1.wasm");
    registry.down();
    assert_eq!(registry.run(&runtime, &image).ok().text(), "hello from wasm");
    registry.run(&runtime, &other).fails().complains_of(&["its signature cannot be fetched"]);
    registry.up();
    registry.run(&runtime, &other).fails().complains_of(&["it is not signed"]);

    // The rule that is there is about other images only.
    registry.docker.cli(&["tag", &image, "hello:1"]).ok();
    registry.run(&runtime, "hello:1").fails().complains_of(&["SignedImages has no entry for it"]);
    // Without rules nobody asks.
    registry.run(integration::RUNTIME, &other).ok();
}

#[test]
fn an_image_that_cosign_has_signed_runs() {
    let _alone = host().alone();
    let registry = Registry::start();
    let runtime = registry.settings(&POLICY.replace("ours", "cosign"));
    let image = registry.image("probe-p1.wasm");
    registry.bed().sh(&format!(
        "cd /share && export COSIGN_PASSWORD= && cosign generate-key-pair && cosign sign --yes \
         --use-signing-config=false --tlog-upload=false --key cosign.key {image}"
    ));
    assert_eq!(registry.run(&runtime, &image).ok().text(), "hello from wasm");
    let other = registry.image("probe-p1.wasm");
    registry.run(&runtime, &other).fails().complains_of(&["it is not signed"]);
}

#[test]
fn a_container_of_a_layer_runs_nothing_of_an_image_that_took_the_name_later() {
    let _alone = host().alone();
    let registry = Registry::start();
    let runtime = registry.settings(POLICY);
    let image = registry.image_of("artifact", "probe-p2.wasm");
    registry.tool(&format!("sign {image} --key ours.key"));
    let fixed = ["run", "-d", "--platform", "wasip2/wasm", "--runtime", &runtime, "--name"];
    let name = unique("pinned");
    let words = [&fixed[..], &[&name, &image, "/", "sleep", "1000"]].concat();
    let id = registry.docker.cli(&words).ok().text();
    let container = registry.docker.adopt(name, id);
    container.says("sleeping");
    let exec = || registry.docker.cli(&["exec", &container.name, "/", "args", "x"]);
    assert_eq!(exec().ok().lines(), ["/", "args", "x"]);
    let other = registry.image_of("artifact", "probe-p2.wasm");
    registry.docker.cli(&["tag", &other, &image]).ok();
    // docker says on standard output what the runtime says of an exec.
    let refused = exec().fails().text();
    assert!(refused.contains("is another one now"), "{refused}");
}

#[test]
fn the_settings_of_the_node_count_where_a_client_gives_none() {
    let _alone = host().alone();
    let registry = Registry::start();
    let image = registry.image("probe-p1.wasm");
    let file = "/etc/containerd-shim-wasmtime/config.toml";
    fs::write(registry.bed().share().join("policy.toml"), POLICY).expect("the share is writable");
    registry.bed().sh(&format!("mkdir -p $(dirname {file}); cp /share/policy.toml {file}"));
    let refused = registry.run(integration::RUNTIME, &image);
    registry.bed().sh(&format!("rm {file}"));
    refused.fails().complains_of(&["it is not signed"]);
    registry.run(integration::RUNTIME, &image).ok();
}

#[test]
fn keys_that_are_not_there_are_an_error_of_the_settings() {
    let _alone = host().alone();
    let registry = Registry::start();
    let image = registry.image("probe-p1.wasm");
    let runtime = registry.settings("CodeKeys = [\"/share/nowhere.pub\"]\n");
    registry.run(&runtime, &image).fails().complains_of(&["/share/nowhere.pub", "No such file"]);
    let runtime = registry.settings("[[SignedImages]]\nImages = \"team\"\nKeys = []\n");
    registry.run(&runtime, &image).fails().complains_of(&["is no pattern of images"]);
}

/// Where the code of the image's module is in the cache, by tier.
fn entries(registry: &Registry) -> Vec<String> {
    let digest = registry.bed().sh("sha256sum /share/app.wasm | cut -d' ' -f1");
    let found = registry.bed().sh(&format!("find {CODE} -name {digest}.cwasm"));
    found.lines().map(str::to_owned).collect()
}

const KEYS: &str = "CodeKeys = [\"/share/ours.pub\"]\n";

#[test]
fn code_that_a_trusted_key_has_signed_is_taken_and_nothing_is_compiled() {
    let _alone = host().alone();
    let registry = Registry::start();
    let runtime = registry.settings(KEYS);
    for guest in ["probe-p1.wasm", "probe-p2.wasm"] {
        let image = registry.image(guest);
        let report = registry.tool(&format!("compile --push {image} --key ours.key --format json"));
        assert_eq!(registry.run(&runtime, &image).ok().text(), "hello from wasm");
        let log = registry.log(&format!("from {image}, signed by the owner of /share/ours.pub"));
        assert!(log.contains("takes code for x86_64-v"), "{log}");
        // One entry, of the tier that takes long to compile, and byte for byte what was signed.
        let [entry] = entries(&registry).try_into().expect("one entry");
        assert!(entry.contains("-key-"), "{entry}");
        let report: Value = serde_json::from_str(&report).expect("it is JSON");
        let signed = report["code"].as_array().expect("it tells of code").iter();
        let is_there = |code: &Value| {
            // A seal comes after it.
            let head = format!("head -c {} {entry} | sha256sum | cut -d' ' -f1", code["size"]);
            code["code"] == format!("sha256:{}", registry.bed().sh(&head))
        };
        assert!(signed.into_iter().any(is_there), "{report}");

        // Where the key is not trusted, or no more, its code is not there.
        assert_eq!(registry.run(integration::RUNTIME, &image).ok().text(), "hello from wasm");
        let all = entries(&registry);
        assert!(all.len() > 1 && all.contains(&entry), "{all:?}");
        let listed = registry.bed().sh("wasm-image cache ls");
        assert!(listed.contains("signed by "), "{listed}");
    }
}

#[test]
fn code_that_is_unsigned_or_a_strangers_or_not_what_was_signed_is_compiled_as_ever() {
    let _alone = host().alone();
    let registry = Registry::start();
    let runtime = registry.settings(KEYS);
    let compiled = |image: &str, why: &str| {
        assert_eq!(registry.run(&runtime, image).ok().text(), "hello from wasm");
        let log = registry.log(&format!("no signed code of {image} is of use here"));
        assert!(log.contains(why), "{why}: {log} {}", registry.log(image));
    };
    let none = registry.image("probe-p1.wasm");
    compiled(&none, "there is none");

    let strangers = registry.image("probe-p1.wasm");
    registry.tool(&format!("compile --push {strangers} --key theirs.key"));
    compiled(&strangers, "signed by none of the trusted keys");

    // Somebody with access to the registry's disk puts other bytes, as long, in the place of the code.
    let changed = registry.image("probe-p1.wasm");
    registry.tool(&format!("compile --push {changed} --key ours.key"));
    // Equal code of other images is the same blob, so it is put right again.
    let blobs = "/share/registry/docker/registry/v2/blobs";
    registry.bed().sh(&format!(
        "cp -a {blobs} /share/blobs; for blob in $(find {blobs} -name data -size +64k); do \
         printf x | dd of=$blob bs=1 seek=2000 conv=notrunc status=none; done"
    ));
    compiled(&changed, "the registry sends other bytes");
    registry.bed().sh(&format!("rm -r {blobs} && mv /share/blobs {blobs}"));
}

#[test]
fn a_registry_that_is_away_costs_the_code_and_not_the_start() {
    let _alone = host().alone();
    let mut registry = Registry::start();
    let runtime = registry.settings(KEYS);
    let image = registry.image("probe-p1.wasm");
    registry.tool(&format!("compile --push {image} --key ours.key"));
    registry.down();
    assert_eq!(registry.run(&runtime, &image).ok().text(), "hello from wasm");
    let log = registry.log("no signed code: cannot reach localhost:5000");
    assert!(!log.is_empty());
}
