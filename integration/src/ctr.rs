//! The ctr command of a bed: containerd without docker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use crate::bed::Bed;
use crate::command::{Done, Running};
use crate::images::Image;
use crate::names::unique;
use crate::{PLATFORM, RUNTIME, leaks};

/// The ctr of a bed.
#[derive(Clone, Copy)]
pub struct Ctr(pub &'static Bed);

/// A container in the foreground of a `ctr run`.
pub struct Foreground {
    /// Its id.
    pub id: String,
    /// The command.
    pub command: Running,
}

impl Ctr {
    /// Runs the ctr command.
    #[track_caller]
    pub fn cli(&self, words: &[&str]) -> Done {
        self.0.exec(&[&["ctr"], words].concat())
    }

    /// `ctr run --rm` of a Wasm image, to its end; it must leave nothing behind, failed or not.
    #[track_caller]
    pub fn run(&self, flags: &[&str], image: &Image, arguments: &[&str]) -> Done {
        let command: Vec<&str> = match arguments {
            [] => Vec::new(),
            _ => [&[image.entry], arguments].concat(),
        };
        self.run_command(flags, image, &command)
    }

    /// `ctr run --rm` with a command line of its own in place of the image's.
    #[track_caller]
    pub fn run_command(&self, flags: &[&str], image: &Image, command: &[&str]) -> Done {
        let id = unique("ctr");
        let words = self.words(flags, image, &id, command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = self.0.exec(&words);
        self.forget(&id);
        leaks::none_of(self.0, &id);
        done
    }

    /// `ctr run --rm` of a Wasm image, left in the foreground.
    #[track_caller]
    pub fn spawn(&self, flags: &[&str], image: &Image, arguments: &[&str]) -> Foreground {
        let id = unique("ctr");
        let command = [&[image.entry], arguments].concat();
        let words = self.words(flags, image, &id, &command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Foreground { command: self.0.spawn(&words), id }
    }

    /// Removes the records of a container, if there are any left.
    #[track_caller]
    pub fn forget(&self, id: &str) {
        // Neither has to be there: `run --rm` removes both, unless what ran failed.
        self.cli(&["task", "rm", "--force", id]);
        self.cli(&["container", "rm", id]);
    }

    /// The process that is the container.
    #[track_caller]
    pub fn pid(&self, id: &str) -> Option<u32> {
        let tasks = self.cli(&["task", "ls"]).ok();
        let line =
            tasks.lines().into_iter().find(|line| line.split_whitespace().next() == Some(id))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Imports an image once, and returns its name.
    #[track_caller]
    pub fn import(&self, image: &Image) -> String {
        type Imports = HashMap<(usize, &'static str), Arc<OnceLock<()>>>;
        static IMPORTS: Mutex<Option<Imports>> = Mutex::new(None);
        let key = (std::ptr::from_ref(self.0).addr(), image.name);
        let once = IMPORTS
            .lock()
            .expect("nothing panics while it holds this lock")
            .get_or_insert_default()
            .entry(key)
            .or_default()
            .clone();
        once.get_or_init(|| {
            self.cli(&["image", "import", "--platform", PLATFORM, &image.archive(self.0)]).ok();
        });
        image.reference()
    }

    #[track_caller]
    fn words(&self, flags: &[&str], image: &Image, id: &str, command: &[&str]) -> Vec<String> {
        let reference = self.import(image);
        let fixed = ["ctr", "run", "--rm", "--runtime", RUNTIME, "--platform", PLATFORM];
        [&fixed, flags, &[reference.as_str(), id], command]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }
}
