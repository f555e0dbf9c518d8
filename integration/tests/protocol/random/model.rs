//! The state machine of a container and its processes, written down a second time: what each call is
//! answered in each state, to the word, and where it leads.

use ttrpc::Code;

/// The ids under which processes are executed; under the last none ever is.
pub const EXECS: [&str; 3] = ["one", "two", "nobody"];

/// A program, by when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guest {
    /// At once, with 7.
    Exits,
    /// At the end of its input, with 0.
    Reads,
    /// Never, and uses the processor.
    Spins,
    /// Never, and waits.
    Sleeps,
    /// It is not there.
    Missing,
}

impl Guest {
    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Exits => "/exits.wasm",
            Self::Reads => "/reads.wasm",
            Self::Spins => "/spins.wasm",
            Self::Sleeps => "/sleeps.wasm",
            Self::Missing => "/missing.wasm",
        }
    }
}

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// There is none.
    None,
    /// Its id is taken.
    Making,
    Created,
    Running,
    Paused,
    /// It was sent SIGKILL.
    Killed,
    /// With its exit code.
    Stopped(u32),
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::None | Self::Making => "missing",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Killed => "killed",
            Self::Stopped(_) => "stopped",
        }
    }

    fn is_live(self) -> bool {
        matches!(self, Self::Created | Self::Running | Self::Paused | Self::Killed)
    }
}

/// A set of exit codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Codes(u8);

impl Codes {
    const ALL: [u32; 6] = [0, 7, 130, 131, 137, 143];

    fn add(&mut self, code: u32) {
        let place = Self::ALL.iter().position(|&known| known == code).expect("a code of the model");
        self.0 |= 1 << place;
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn each(self) -> impl Iterator<Item = u32> {
        (0..Self::ALL.len()).filter(move |place| self.0 & 1 << place != 0).map(|n| Self::ALL[n])
    }
}

/// A process: the container's own, or one that is executed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pub phase: Phase,
    guest: Guest,
    /// Nobody will write to its input any more.
    input_ended: bool,
    /// It may have ended by now, with one of these, though nobody has seen it yet.
    pub ends: Codes,
    /// What will end it once it goes on.
    pending: Codes,
}

impl Process {
    fn new(guest: Guest) -> Self {
        let none = Codes::default();
        Self { phase: Phase::None, guest, input_ended: false, ends: none, pending: none }
    }

    fn run(&mut self) {
        self.phase = Phase::Running;
        match self.guest {
            Guest::Exits => self.ends.add(7),
            Guest::Reads if self.input_ended => self.ends.add(0),
            _ => {}
        }
    }

    fn end_input(&mut self) {
        self.input_ended = true;
        match (self.guest, self.phase) {
            (Guest::Reads, Phase::Running | Phase::Killed) => self.ends.add(0),
            (Guest::Reads, Phase::Paused) => self.pending.add(0),
            _ => {}
        }
    }

    fn signal(&mut self, signal: i32) {
        match (signal, self.phase) {
            (libc::SIGKILL, _) => self.ends.add(137),
            (libc::SIGTERM | libc::SIGINT | libc::SIGQUIT, Phase::Paused) => {
                self.pending.add(128 + signal.cast_unsigned());
            }
            (libc::SIGTERM | libc::SIGINT | libc::SIGQUIT, _) => {
                self.ends.add(128 + signal.cast_unsigned());
            }
            _ => {}
        }
    }

    fn stop(&mut self, code: u32) {
        self.phase = Phase::Stopped(code);
        (self.ends, self.pending) = Default::default();
    }

    fn state(&self) -> Answer {
        Answer::Is(match self.phase {
            Phase::Killed => Phase::Running,
            phase => phase,
        })
    }
}

/// What a process can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Create,
    Start,
    State,
    Wait,
    Kill { signal: i32, all: bool },
    Delete,
    Pause,
    Resume,
    Update,
    Stats,
    Pids,
    CloseIo,
    Resize,
    Connect,
    Checkpoint,
    Exec(Guest),
}

/// A call, of the container, or of the process that is executed under one of [`EXECS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub call: Call,
    pub exec: Option<usize>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    Done,
    /// The exit code.
    Exit(u32),
    /// The state as others see it.
    Is(Phase),
    Refused(Code, String),
    /// None: the connection broke, or it took too long.
    Lost(String),
}

/// A container and what was executed in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub own: Process,
    pub execs: [Process; 2],
}

impl State {
    /// The same with the container in another phase.
    pub fn with(&self, phase: Phase) -> Self {
        let mut next = self.clone();
        next.own.phase = phase;
        next
    }

    /// The same when the container's process was sent SIGKILL.
    pub fn killed(&self) -> Self {
        let mut next = self.with(Phase::Killed);
        next.own.signal(libc::SIGKILL);
        next
    }
}

pub type Outcome = (Answer, State);

/// The words about one container.
pub struct Model {
    pub id: String,
    pub guest: Guest,
}

impl Model {
    /// Before anything.
    pub fn begin(&self) -> State {
        State { own: Process::new(self.guest), execs: [Process::new(Guest::Missing); 2] }
    }

    /// What can happen without a call: a process ends.
    pub fn ends(&self, state: &State) -> Vec<State> {
        let mut after = Vec::new();
        for (n, exec) in state.execs.iter().enumerate().filter(|(_, e)| e.phase == Phase::Running) {
            let mut codes = exec.ends;
            // What the container's process leaves behind is killed.
            if !state.own.ends.is_empty() {
                codes.add(137);
            }
            for code in codes.each() {
                let mut next = state.clone();
                next.execs[n].stop(code);
                after.push(next);
            }
        }
        let alone = state.execs.iter().all(|exec| exec.phase != Phase::Running);
        if state.own.phase.is_live() && alone {
            for code in state.own.ends.each() {
                let mut next = state.clone();
                next.own.stop(code);
                after.push(next);
            }
        }
        after
    }

    /// The answers that `question` may have in `state`, each with the state after it; none while it
    /// has to wait. `crowded` says that other calls are on their way.
    pub fn answers(&self, state: &State, question: Question, crowded: bool) -> Vec<Outcome> {
        if matches!(state.own.phase, Phase::None | Phase::Making) {
            let mut answers = match question.call {
                // Create in two steps is `History`'s.
                Call::Create if state.own.phase == Phase::Making => vec![self.exists()],
                Call::Create => Vec::new(),
                // Also asked before there is a container.
                Call::Connect => vec![Answer::Done],
                _ => vec![self.missing()],
            };
            if crowded && let Some(exec) = question.exec {
                // Its container was there when it was asked.
                answers.push(self.no_process(exec));
            }
            return answers.into_iter().map(|answer| (answer, state.clone())).collect();
        }
        match question.exec {
            None => self.of_container(state, question.call),
            Some(exec) => self.of_process(state, exec, question.call, crowded),
        }
    }

    fn of_container(&self, state: &State, call: Call) -> Vec<Outcome> {
        use Phase::{Created, Killed, Paused, Running, Stopped};
        let mut next = state.clone();
        let own = &mut next.own;
        let id = &self.id;
        let wrong = |call| {
            let words = format!("cannot {call} a {} container: {id:?}", state.own.phase.word());
            Answer::Refused(Code::FAILED_PRECONDITION, words)
        };
        let answer = match (call, own.phase) {
            (Call::Create, _) => self.exists(),
            (Call::Start, Created) => {
                own.run();
                Answer::Done
            }
            (Call::Start, _) => wrong("start"),
            (Call::State, _) => own.state(),
            (Call::Wait, Stopped(code)) => Answer::Exit(code),
            (Call::Wait, _) => return Vec::new(),
            (Call::Kill { .. }, Stopped(_)) => self.finished(id),
            (Call::Kill { signal, .. }, _) if !is_signal(signal) => not_a_signal(id, signal),
            (Call::Kill { signal, all }, _) => {
                own.signal(signal);
                if signal == libc::SIGKILL {
                    own.phase = Killed;
                }
                for exec in next.execs.iter_mut().filter(|exec| all && exec.phase == Running) {
                    exec.signal(signal);
                }
                Answer::Done
            }
            (Call::Delete, Running | Paused) => wrong("delete"),
            // In two steps, which are `History`'s.
            (Call::Delete, Created | Killed) => return Vec::new(),
            (Call::Delete, Stopped(code)) => return vec![(Answer::Exit(code), self.begin())],
            (Call::Pause, Running) => {
                own.phase = Paused;
                Answer::Done
            }
            (Call::Pause, _) => wrong("pause"),
            (Call::Resume, Paused) => {
                own.phase = Running;
                own.ends.0 |= own.pending.0;
                own.pending = Codes::default();
                Answer::Done
            }
            (Call::Resume, _) => wrong("resume"),
            (Call::Update, Created | Running | Paused) => Answer::Done,
            (Call::Update, _) => wrong("update"),
            (Call::Pids, Stopped(_)) => self.finished(id),
            (Call::CloseIo, _) => {
                own.end_input();
                Answer::Done
            }
            (Call::Resize, Stopped(_)) => wrong("resize"),
            (Call::Pids | Call::Stats | Call::Resize | Call::Connect, _) => Answer::Done,
            (Call::Checkpoint, _) => Answer::Refused(Code::UNIMPLEMENTED, CHECKPOINT.to_owned()),
            (Call::Exec(_), _) | (_, Phase::None | Phase::Making) => {
                unreachable!("{call:?} of a container that is {:?}", state.own.phase)
            }
        };
        vec![(answer, next)]
    }

    fn of_process(&self, state: &State, n: usize, call: Call, crowded: bool) -> Vec<Outcome> {
        use Phase::{Created, Killed, None, Paused, Running, Stopped};
        let name = EXECS[n];
        let (id, full) = (&self.id, format!("{}/{name}", self.id));
        let container = state.own.phase;
        let exec_in = |is: Phase| {
            let words = format!("container {id:?}: cannot exec in a {} state", is.word());
            Answer::Refused(Code::FAILED_PRECONDITION, words)
        };
        let mut next = state.clone();
        let phase = state.execs.get(n).map_or(None, |exec| exec.phase);
        if let (Call::Exec(guest), Some(exec)) = (call, next.execs.get_mut(n)) {
            let answer = match (container, phase) {
                (Created | Running, None) => {
                    *exec = Process { phase: Created, ..Process::new(guest) };
                    Answer::Done
                }
                (Created | Running, _) => {
                    let words = format!("container {id:?}: process {name:?} already exists");
                    Answer::Refused(Code::ALREADY_EXISTS, words)
                }
                _ => exec_in(container),
            };
            return vec![(answer, next)];
        }
        let Some(exec) = next.execs.get_mut(n).filter(|_| phase != None) else {
            return vec![(self.no_process(n), state.clone())];
        };
        let wrong = |call| {
            let words =
                format!("cannot {call} a {} process: {name:?} of container {id:?}", phase.word());
            Answer::Refused(Code::FAILED_PRECONDITION, words)
        };
        let answer = match (call, phase) {
            (Call::Start, Created) => {
                let first = match (container, exec.guest) {
                    (Paused | Killed | Stopped(_), _) => (exec_in(container), state.clone()),
                    (_, Guest::Missing) => (missing_file(), state.clone()),
                    _ => {
                        exec.run();
                        (Answer::Done, next)
                    }
                };
                let mut answers = vec![first];
                let dying = !state.own.ends.is_empty();
                if dying {
                    answers.push((exec_in(Stopped(0)), state.clone()));
                }
                if dying || crowded {
                    // Something kills its process, which is not born yet.
                    answers.push((died(), state.clone()));
                }
                return answers;
            }
            (Call::Start, _) => wrong("start"),
            (Call::State, _) => exec.state(),
            (Call::Wait, Stopped(code)) => Answer::Exit(code),
            (Call::Wait, _) => return Vec::new(),
            (Call::Kill { .. }, Created) => wrong("kill"),
            (Call::Kill { .. }, Stopped(_)) => self.finished(&full),
            (Call::Kill { signal, .. }, _) if !is_signal(signal) => not_a_signal(&full, signal),
            (Call::Kill { signal, .. }, _) => {
                exec.signal(signal);
                Answer::Done
            }
            (Call::Delete, Running) => wrong("delete"),
            (Call::Delete, phase) => {
                *exec = Process::new(Guest::Missing);
                match phase {
                    Stopped(code) => Answer::Exit(code),
                    _ => Answer::Exit(0),
                }
            }
            (Call::CloseIo, _) => {
                exec.end_input();
                Answer::Done
            }
            (Call::Resize, Stopped(_)) => wrong("resize"),
            (Call::Resize, _) => Answer::Done,
            (call, _) => unreachable!("{call:?} is about a container"),
        };
        vec![(answer, next)]
    }

    fn exists(&self) -> Answer {
        Answer::Refused(Code::ALREADY_EXISTS, format!("container {:?} already exists", self.id))
    }

    fn missing(&self) -> Answer {
        Answer::Refused(Code::NOT_FOUND, format!("container {:?} does not exist", self.id))
    }

    fn no_process(&self, exec: usize) -> Answer {
        let words = format!("container {:?}: process {:?} does not exist", self.id, EXECS[exec]);
        Answer::Refused(Code::NOT_FOUND, words)
    }

    fn finished(&self, name: &str) -> Answer {
        Answer::Refused(Code::NOT_FOUND, format!("container {name:?}: process already finished"))
    }
}

fn is_signal(signal: i32) -> bool {
    (0..=64).contains(&signal)
}

fn not_a_signal(name: &str, signal: i32) -> Answer {
    let words = format!("container {name:?}: {signal} is not a signal");
    Answer::Refused(Code::INVALID_ARGUMENT, words)
}

fn missing_file() -> Answer {
    let [file, exits, reads, sleeps, spins] =
        [Guest::Missing, Guest::Exits, Guest::Reads, Guest::Sleeps, Guest::Spins].map(Guest::path);
    let words = format!(
        "exec: {file:?}: no such file or directory in the image; this is a Wasm container, without \
         shell or Linux programs: it has {exits}, {reads}, {sleeps}, {spins}, of which FILE#EXPORT \
         calls a function; built in are @help, @stack, @stat, @ls, @cat"
    );
    Answer::Refused(Code::NOT_FOUND, words)
}

fn died() -> Answer {
    let words = "the process was killed before its program could run: its container ended, or has \
                 too little memory for another process";
    Answer::Refused(Code::UNKNOWN, words.to_owned())
}

const CHECKPOINT: &str = "checkpoint is not supported: a guest's state lies in its runtime's memory, \
                          with code mapped from the cache, open sockets and waiting calls of WASI, \
                          which nothing can write down and take up again; stop the container and \
                          start it anew";
