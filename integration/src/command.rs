//! Commands with a deadline. A command that outlives it is killed with its whole process group, and
//! the test fails with what the command had said so far.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wait;

/// The deadline of a command that nothing special is known about.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a command left when it had ended.
#[derive(Debug)]
pub struct Done {
    /// The command line.
    pub what: String,
    /// The exit code, or 128 + the signal that ended it.
    pub code: i32,
    /// Everything it wrote to standard output.
    pub stdout: Vec<u8>,
    /// Everything it wrote to standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Done {
    /// Insists on exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Insists on an exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(self.code == code, "exit code {} instead of {code}\n{self}", self.code);
        self
    }

    /// Insists on an exit code other than 0.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert!(self.code != 0, "it should have failed\n{self}");
        self
    }

    /// Insists that standard error holds every one of `words`.
    #[track_caller]
    pub fn complains_of(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "nothing on stderr about {word:?}\n{self}");
        }
        self
    }

    /// Standard output as text, without the white space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// The lines of standard output.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(4000)]);
        write!(
            f,
            "$ {}\nexit code {} after {:?}\n--- stdout\n{stdout}\n--- stderr\n{}",
            self.what, self.code, self.took, self.stderr
        )
    }
}

/// A command that runs. Dropping it kills it.
pub struct Running {
    what: String,
    child: Child,
    stdin: Option<std::process::ChildStdin>,
    stdout: Collector,
    stderr: Collector,
    since: Instant,
    ended: bool,
}

/// Runs `command` to its end with `stdin` as its whole input.
///
/// # Panics
/// When it does not end within `deadline`, or ends while something still holds its output open.
#[track_caller]
pub fn run(command: Command, stdin: &[u8], deadline: Duration) -> Done {
    let mut running = Running::spawn(command);
    running.feed(stdin);
    running.finish(deadline)
}

impl Running {
    /// Starts `command` in a process group of its own, with all three streams piped.
    #[track_caller]
    pub fn spawn(mut command: Command) -> Self {
        let what = describe(&command);
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {what}: {error}"));
        Self {
            stdin: child.stdin.take(),
            stdout: Collector::of(child.stdout.take().expect("stdout is piped")),
            stderr: Collector::of(child.stderr.take().expect("stderr is piped")),
            what,
            child,
            since: Instant::now(),
            ended: false,
        }
    }

    /// Writes `input` in the background and then closes standard input.
    pub fn feed(&mut self, input: &[u8]) {
        let mut stdin = self.stdin.take().expect("standard input is still open");
        let input = input.to_vec();
        // The reader may leave early: that is its right, and no failure of the writer.
        thread::spawn(move || drop(stdin.write_all(&input)));
    }

    /// Writes `input` and leaves standard input open.
    #[track_caller]
    pub fn write(&mut self, input: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is still open");
        stdin.write_all(input).and_then(|()| stdin.flush()).expect("the command reads its input");
    }

    /// Waits until standard output holds `text`.
    #[track_caller]
    pub fn says(&self, text: &str) {
        wait::until(&format!("{text:?} from {}", self.what), || self.stdout.text().contains(text));
    }

    /// What standard output holds so far.
    pub fn so_far(&self) -> String {
        self.stdout.text()
    }

    /// What standard error holds so far.
    pub fn complaints(&self) -> String {
        self.stderr.text()
    }

    /// Waits for the end of the command and of both its streams.
    #[track_caller]
    pub fn finish(mut self, deadline: Duration) -> Done {
        drop(self.stdin.take());
        let end = Instant::now() + deadline;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                break status;
            }
            if Instant::now() > end {
                self.kill();
                panic!("{self} did not end within {deadline:?}");
            }
            thread::sleep(Duration::from_millis(2));
        };
        let took = self.since.elapsed();
        while !(self.stdout.at_end() && self.stderr.at_end()) {
            if Instant::now() > end {
                self.kill();
                panic!("{self} ended, but something still holds its output open");
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.ended = true;
        Done {
            what: self.what.clone(),
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: self.stdout.bytes(),
            stderr: self.stderr.text(),
            took,
        }
    }

    fn kill(&mut self) {
        let group = Pid::from_raw(self.child.id().cast_signed());
        // It may be gone already; there is nothing to do about any other failure either.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
        }
    }
}

impl std::fmt::Display for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "$ {}\n--- stdout so far\n{}\n--- stderr so far\n{}\n---\nit",
            self.what,
            self.stdout.text(),
            self.stderr.text()
        )
    }
}

/// Reads a stream to its end in a thread and keeps what came.
struct Collector {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Collector {
    fn of(mut stream: impl Read + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        let reader = thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                keep.lock().expect("no reader panics").extend_from_slice(&chunk[..length]);
            }
        });
        Self { kept, reader }
    }

    fn at_end(&self) -> bool {
        self.reader.is_finished()
    }

    fn bytes(&self) -> Vec<u8> {
        self.kept.lock().expect("no reader panics").clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept.lock().expect("no reader panics")).into_owned()
    }
}

fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
