//! The docker command of a bed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use crate::bed::Bed;
use crate::command::{Done, Running};
use crate::images::Image;
use crate::names::unique;
use crate::{PLATFORM, RUNTIME, leaks, wait};

/// The docker of a bed.
#[derive(Clone, Copy)]
pub struct Docker(pub &'static Bed);

/// A container of a test. When it is dropped it is removed, and must then have left nothing behind.
pub struct Container {
    docker: Docker,
    /// The name it was given.
    pub name: String,
    /// The id that docker gave it.
    pub id: String,
}

impl Docker {
    /// Runs the docker command.
    #[track_caller]
    pub fn cli(&self, words: &[&str]) -> Done {
        self.0.exec(&[&["docker"], words].concat())
    }

    /// `docker run --rm` of a Wasm image, to its end.
    #[track_caller]
    pub fn run(&self, flags: &[&str], image: &Image, arguments: &[&str]) -> Done {
        self.run_with(flags, image, arguments, b"")
    }

    /// [`Docker::run`] with input.
    #[track_caller]
    pub fn run_with(
        &self,
        flags: &[&str],
        image: &Image,
        arguments: &[&str],
        stdin: &[u8],
    ) -> Done {
        let name = unique("run");
        let words = self.words(&["run", "--rm", "--name", &name], flags, image, arguments);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.0.exec_with(&words, stdin)
    }

    /// `docker run --rm` of a Wasm image, left running in the foreground.
    #[track_caller]
    pub fn spawn(&self, flags: &[&str], image: &Image, arguments: &[&str]) -> Running {
        let words = self.words(&["run", "--rm"], flags, image, arguments);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.0.spawn(&words)
    }

    /// `docker run -d` of a Wasm image.
    #[track_caller]
    pub fn start(&self, flags: &[&str], image: &Image, arguments: &[&str]) -> Container {
        self.make(&["run", "-d"], flags, image, arguments)
    }

    /// `docker create` of a Wasm image.
    #[track_caller]
    pub fn create(&self, flags: &[&str], image: &Image, arguments: &[&str]) -> Container {
        self.make(&["create"], flags, image, arguments)
    }

    /// `docker run -d` of a Linux image, with docker's own runtime.
    #[track_caller]
    pub fn start_linux(&self, flags: &[&str], arguments: &[&str]) -> Container {
        let name = unique("linux");
        let words =
            [&["run", "-d", "--init", "--name", &name], flags, &["busybox"], arguments].concat();
        let id = self.cli(&words).ok().text();
        Container { docker: *self, name, id }
    }

    /// A container that was made otherwise.
    pub fn adopt(&self, name: String, id: String) -> Container {
        Container { docker: *self, name, id }
    }

    /// Loads an image once, and returns its name.
    #[track_caller]
    pub fn load(&self, image: &Image) -> String {
        type Loads = HashMap<(usize, &'static str), Arc<OnceLock<()>>>;
        static LOADS: Mutex<Option<Loads>> = Mutex::new(None);
        let key = (std::ptr::from_ref(self.0).addr(), image.name);
        let once = LOADS
            .lock()
            .expect("nothing panics while it holds this lock")
            .get_or_insert_default()
            .entry(key)
            .or_default()
            .clone();
        once.get_or_init(|| {
            self.cli(&["load", "-q", "-i", &image.archive(self.0)]).ok();
        });
        image.reference()
    }

    /// Removes a user-defined network, which must be unused.
    #[track_caller]
    pub fn remove_network(&self, name: &str) {
        self.cli(&["network", "rm", name]).ok();
    }

    #[track_caller]
    fn make(&self, verb: &[&str], flags: &[&str], image: &Image, arguments: &[&str]) -> Container {
        let name = unique(image.name);
        let words = self.words(&[verb, &["--name", &name]].concat(), flags, image, arguments);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = self.0.exec(&words);
        if done.code != 0 {
            self.cli(&["rm", "-f", &name]);
        }
        let id = done.ok().text();
        Container { docker: *self, name, id }
    }

    #[track_caller]
    fn words(
        &self,
        verb: &[&str],
        flags: &[&str],
        image: &Image,
        arguments: &[&str],
    ) -> Vec<String> {
        let image = self.load(image);
        let fixed = ["--pull", "never", "--runtime", RUNTIME, "--platform", PLATFORM];
        [&["docker"], verb, &fixed, flags, &[image.as_str()], arguments]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }
}

impl Container {
    /// `docker VERB... NAME`.
    #[track_caller]
    pub fn cli(&self, words: &[&str]) -> Done {
        self.docker.cli(&[words, &[self.name.as_str()]].concat())
    }

    /// One field of `docker inspect`, as a Go template.
    #[track_caller]
    pub fn inspect(&self, template: &str) -> String {
        self.cli(&["inspect", "--format", template]).ok().text()
    }

    /// The process that is the container.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.inspect("{{.State.Pid}}").parse().expect("docker prints a number")
    }

    /// Its address on the default bridge, or on the one network it has.
    #[track_caller]
    pub fn address(&self) -> String {
        self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    }

    /// A line of shell in the bed with `$pid` standing for the container's process.
    #[track_caller]
    pub fn look(&self, script: &str) -> String {
        self.docker.0.sh(&format!("pid={}; {script}", self.pid()))
    }

    /// What is in its log, standard output and standard error told apart.
    #[track_caller]
    pub fn logs(&self) -> Done {
        self.cli(&["logs"]).ok()
    }

    /// Waits until its log holds `text`, on either stream.
    #[track_caller]
    pub fn says(&self, text: &str) {
        wait::until(&format!("{text:?} in the log of {}", self.name), || {
            let logs = self.logs();
            logs.text().contains(text) || logs.stderr.contains(text)
        });
    }

    /// `docker wait`: its exit code.
    #[track_caller]
    pub fn wait(&self) -> i32 {
        self.cli(&["wait"]).ok().text().parse().expect("docker prints a number")
    }

    /// Whether docker says that it runs.
    #[track_caller]
    pub fn runs(&self) -> bool {
        self.inspect("{{.State.Status}}") == "running"
    }

    /// Removes it by force, whatever state it is in, and looks for what it left.
    #[track_caller]
    pub fn remove(self) {
        drop(self);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let removed = self.cli(&["rm", "-f", "-v"]);
        if !std::thread::panicking() {
            removed.ok();
            leaks::none_of(self.docker.0, &self.id);
        }
    }
}
