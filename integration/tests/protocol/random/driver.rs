//! Asks a shim at random, and checks each answer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use containerd_shim_protos::api::{
    CheckpointTaskRequest, CreateTaskRequest, ExecProcessRequest, KillRequest, Status,
};
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use integration::bundle::Bundle;
use integration::mock::{Answer as Said, Mock, Refusal, Shim};
use integration::wait;
use serde_json::json;

use super::history::History;
use super::model::{Answer, Call, EXECS, Guest, Model, Phase, Question};

/// How many calls of Wait may be open for one container.
const WAITING: usize = 2;

const KILL: Call = Call::Kill { signal: libc::SIGKILL, all: true };

/// Marsaglia's xorshift, 64 bits.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // It never leaves zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A container's id, with all its lives.
pub struct Slot {
    pub bundle: Bundle,
    stdin: PathBuf,
    exec_stdin: PathBuf,
    history: Mutex<History>,
    waiting: AtomicUsize,
    /// Whether it is ever made.
    real: bool,
}

impl Slot {
    pub fn new(mock: &Mock, bundle: Bundle, guest: Guest, real: bool) -> Self {
        let [stdin, exec_stdin] = ["stdin", "exec-stdin"].map(|name| mock.fifo(&bundle, name));
        let history = Mutex::new(History::new(Model { id: bundle.id.clone(), guest }));
        Self { bundle, stdin, exec_stdin, history, waiting: AtomicUsize::new(0), real }
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calls of one run.
pub struct Driver<'a> {
    slots: &'a [Slot],
    failure: Mutex<Option<String>>,
    asked: AtomicUsize,
}

impl<'a> Driver<'a> {
    pub fn new(slots: &'a [Slot]) -> Self {
        Self { slots, failure: Mutex::new(None), asked: AtomicUsize::new(0) }
    }

    /// What went wrong first.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One call after the other, until there were `calls` in all.
    pub fn alone(&self, shim: &Shim, random: &mut Random, calls: usize) {
        while self.more(calls) {
            let (slot, mut question) = self.pick(random);
            if question.call == Call::Wait && !slot.history().will_end(question.exec) {
                question.call = Call::State;
            }
            self.ask(shim, slot, question);
        }
    }

    /// From several threads, one for each of `shims`, until there were `calls` in all.
    pub fn together(&self, shims: &[Shim], seed: u64, calls: usize) {
        thread::scope(|scope| {
            let threads: Vec<_> = (1..)
                .zip(shims)
                .map(|(n, shim)| {
                    let random = Random::new(seed.wrapping_add(n));
                    scope.spawn(move || self.one_of_many(scope, shim, random, calls))
                })
                .collect();
            let mut seen = 0;
            for thread in threads {
                while !thread.is_finished() {
                    thread::sleep(Duration::from_millis(50));
                    let asked = self.asked.load(Ordering::SeqCst);
                    // All may wait for processes that were frozen while they were started.
                    match (self.more(calls), asked == seen) {
                        (false, _) => self.of_all(&shims[0], KILL),
                        (true, true) => self.of_all(&shims[0], Call::Resume),
                        (true, false) => {}
                    }
                    seen = self.asked.load(Ordering::SeqCst);
                }
            }
            // Somebody may still wait for the end of what runs.
            self.of_all(&shims[0], KILL);
            wait::until("the answers of Wait", || {
                self.clear(&shims[0]);
                self.slots.iter().all(|slot| slot.waiting.load(Ordering::SeqCst) == 0)
            });
        });
    }

    fn one_of_many<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        shim: &'scope Shim,
        mut random: Random,
        calls: usize,
    ) {
        while self.more(calls) {
            let (slot, question) = self.pick(&mut random);
            if question.call != Call::Wait {
                self.ask(shim, slot, question);
            } else if slot.waiting.fetch_add(1, Ordering::SeqCst) < WAITING {
                self.asked.fetch_add(1, Ordering::SeqCst);
                scope.spawn(move || {
                    self.ask(shim, slot, question);
                    slot.waiting.fetch_sub(1, Ordering::SeqCst);
                });
            } else {
                slot.waiting.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Removes whatever is there.
    pub fn clear(&self, shim: &Shim) {
        self.of_all(shim, KILL);
        for slot in self.slots {
            let own = |call| Question { call, exec: None };
            if !matches!(self.ask(shim, slot, own(Call::State)), Answer::Refused(..)) {
                self.ask(shim, slot, own(Call::Wait));
                self.ask(shim, slot, own(Call::Delete));
            }
        }
    }

    fn of_all(&self, shim: &Shim, call: Call) {
        for slot in self.slots {
            self.ask(shim, slot, Question { call, exec: None });
        }
    }

    fn more(&self, calls: usize) -> bool {
        self.failure().is_none() && self.asked.load(Ordering::SeqCst) < calls
    }

    fn pick(&self, random: &mut Random) -> (&'a Slot, Question) {
        let slot = &self.slots[random.below(self.slots.len())];
        let guests = [Guest::Exits, Guest::Reads, Guest::Sleeps, Guest::Sleeps, Guest::Missing];
        let exec = random.one(&[0, 0, 0, 1, 1, 1, 2]);
        let (call, exec) = match random.below(100) {
            0..10 if slot.real => (Call::Create, None),
            0..10 => (Call::Start, None),
            10..20 => (Call::Start, None),
            20..25 => (Call::State, None),
            25..28 => (Call::Wait, None),
            28..35 => (kill(random), None),
            35..43 => (Call::Delete, None),
            43..47 => (Call::Pause, None),
            47..54 => (Call::Resume, None),
            54..56 => (Call::Update, None),
            56..58 => (Call::Stats, None),
            58..60 => (Call::Pids, None),
            60..62 => (Call::CloseIo, None),
            62 => (Call::Resize, None),
            63 => (Call::Connect, None),
            64 => (Call::Checkpoint, None),
            65..76 => (Call::Exec(random.one(&guests)), Some(exec.min(1))),
            76..87 => (Call::Start, Some(exec)),
            87..90 => (Call::State, Some(exec)),
            90..92 => (Call::Wait, Some(exec)),
            92..94 => (kill(random), Some(exec)),
            94..97 => (Call::Delete, Some(exec)),
            97..99 => (Call::CloseIo, Some(exec)),
            _ => (Call::Resize, Some(exec)),
        };
        (slot, Question { call, exec })
    }

    /// Asks, and holds the answer against the model.
    fn ask(&self, shim: &Shim, slot: &Slot, question: Question) -> Answer {
        if question.call != Call::Wait {
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
        let ticket = slot.history().ask(question);
        let answer = perform(shim, slot, question);
        if let Err(words) = slot.history().answered(ticket, &answer) {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(words);
        }
        answer
    }
}

fn kill(random: &mut Random) -> Call {
    let signals = [
        libc::SIGKILL,
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGWINCH,
        0,
        40,
        99,
    ];
    Call::Kill { signal: random.one(&signals), all: random.below(3) == 0 }
}

fn perform(shim: &Shim, slot: &Slot, question: Question) -> Answer {
    let id = slot.bundle.id.as_str();
    let name = question.exec.map_or("", |exec| EXECS[exec]);
    let process = shim.process(id, name);
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    match question.call {
        Call::Create => {
            let request = CreateTaskRequest { stdin: text(&slot.stdin), ..Default::default() };
            done(shim.create_with(&slot.bundle, request))
        }
        Call::Start => done(process.start()),
        Call::State => match process.state() {
            Ok(state) => Answer::Is(match state.status.enum_value() {
                Ok(Status::CREATED) => Phase::Created,
                Ok(Status::RUNNING) => Phase::Running,
                Ok(Status::PAUSED) => Phase::Paused,
                Ok(Status::STOPPED) => Phase::Stopped(state.exit_status),
                other => return Answer::Lost(format!("an unknown state: {other:?}")),
            }),
            Err(refusal) => refused(refusal),
        },
        Call::Wait => process.wait().map_or_else(refused, Answer::Exit),
        Call::Kill { signal, all } => {
            let (id, exec_id) = (id.to_owned(), name.to_owned());
            let signal = signal.cast_unsigned();
            let request = KillRequest { id, exec_id, signal, all, ..Default::default() };
            done(shim.call::<Empty>("Kill", &request))
        }
        Call::Delete => {
            process.delete().map_or_else(refused, |gone| Answer::Exit(gone.exit_status))
        }
        Call::Pause => done(shim.pause(id)),
        Call::Resume => done(shim.resume(id)),
        Call::Update => done(shim.update(id, &json!({ "pids": { "limit": 64 } }))),
        Call::Stats => done(shim.stats(id)),
        Call::Pids => done(shim.pids(id)),
        Call::CloseIo => done(process.close_stdin()),
        Call::Resize => done(process.resize(80, 24)),
        Call::Connect => done(shim.connect(id)),
        Call::Checkpoint => {
            let request = CheckpointTaskRequest { id: id.to_owned(), ..Default::default() };
            done(shim.call::<Empty>("Checkpoint", &request))
        }
        Call::Exec(guest) => {
            let request =
                ExecProcessRequest { stdin: text(&slot.exec_stdin), ..Default::default() };
            let user = json!({ "uid": 0, "gid": 0 });
            let spec = json!({ "user": user, "args": [guest.path()], "cwd": "/" });
            done(process.exec_with(&spec, request))
        }
    }
}

fn done<T>(said: Said<T>) -> Answer {
    said.map_or_else(refused, |_| Answer::Done)
}

fn refused(refusal: Refusal) -> Answer {
    match refusal.code {
        Some(code) => Answer::Refused(code, refusal.message),
        None => Answer::Lost(refusal.message),
    }
}
