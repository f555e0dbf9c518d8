//! What was asked of one container and answered, held against the model: every answer must be one
//! that some order of the calls in flight, and of the ends of processes, allows.

use std::collections::{HashMap, HashSet, VecDeque};

use super::model::{Answer, Call, Codes, Model, Phase, Question, State};

/// The last calls that a failure tells.
const REMEMBERED: usize = 40;

/// How far a call is that has not been answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Progress {
    Asked,
    /// Create has taken the id, or Delete has killed.
    Begun,
    /// It has taken effect, and will be answered so.
    Decided(Answer),
}

/// One way that things may stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    state: State,
    calls: Vec<(usize, Progress)>,
}

/// What all calls have shown.
#[derive(Default)]
pub struct Tally {
    pub calls: usize,
    pub refused: usize,
    pub lives: usize,
    pub executed: usize,
    /// The phase of the container and those of what was executed in it.
    pub states: HashSet<(Phase, Phase, Phase)>,
    /// The phase of the process that was asked, the call, and the phase after it.
    pub transitions: HashSet<(Phase, String, Phase)>,
}

pub struct History {
    pub model: Model,
    pub tally: Tally,
    ways: HashSet<Way>,
    /// Those without an answer yet; with whether another was on its way meanwhile.
    open: HashMap<usize, (Question, bool)>,
    next: usize,
    trail: VecDeque<String>,
}

impl History {
    pub fn new(model: Model) -> Self {
        let ways = HashSet::from([Way { state: model.begin(), calls: Vec::new() }]);
        Self {
            model,
            tally: Tally::default(),
            ways,
            open: HashMap::new(),
            next: 0,
            trail: VecDeque::new(),
        }
    }

    /// A call goes out; its ticket.
    pub fn ask(&mut self, question: Question) -> usize {
        let ticket = self.next;
        self.next += 1;
        let crowded = !self.open.is_empty();
        self.open.values_mut().for_each(|(_, crowded)| *crowded = true);
        self.open.insert(ticket, (question, crowded));
        let ways = self.ways.drain().map(|mut way| {
            way.calls.push((ticket, Progress::Asked));
            way
        });
        self.ways = ways.collect();
        self.note(format!("{ticket} asks {question:?}"));
        ticket
    }

    /// Its answer has come.
    ///
    /// # Errors
    /// When no order of what happened explains it.
    pub fn answered(&mut self, ticket: usize, answer: &Answer) -> Result<(), String> {
        self.note(format!("{ticket} is answered {answer:?}"));
        let before = self.phase(ticket);
        let mut seen: HashSet<Way> = HashSet::new();
        let mut left: Vec<Way> = self.ways.iter().cloned().collect();
        let mut explained = HashSet::new();
        while let Some(way) = left.pop() {
            let decided = way.calls.iter().find(|(other, _)| *other == ticket);
            if let Some((_, Progress::Decided(expected))) = decided {
                // Whatever else happened by now may as well happen later.
                if expected == answer {
                    let mut way = way.clone();
                    way.calls.retain(|(other, _)| *other != ticket);
                    explained.insert(way);
                }
                continue;
            }
            for next in self.steps(&way) {
                if seen.insert(next.clone()) {
                    left.push(next);
                }
            }
        }
        if explained.is_empty() {
            return Err(self.unexplained(ticket, answer));
        }
        self.ways = explained;
        self.count(ticket, answer, before);
        Ok(())
    }

    /// Whether Wait of this process would be answered without another call.
    pub fn will_end(&self, exec: Option<usize>) -> bool {
        let ends = |way: &Way| {
            let own = &way.state.own;
            let coming = |codes: Codes| codes.each().next().is_some();
            match exec.map(|n| way.state.execs.get(n)) {
                _ if matches!(own.phase, Phase::None) => true,
                None => {
                    matches!(own.phase, Phase::Stopped(_))
                        || coming(own.ends) && own.phase != Phase::Paused
                }
                Some(None) => true,
                Some(Some(exec)) => {
                    matches!(exec.phase, Phase::None | Phase::Stopped(_))
                        || exec.phase == Phase::Running
                            && own.phase != Phase::Paused
                            && coming(exec.ends)
                }
            }
        };
        self.ways.iter().all(ends)
    }

    /// What may happen next.
    fn steps(&self, way: &Way) -> Vec<Way> {
        let with = |state: State| Way { state, calls: way.calls.clone() };
        let mut next: Vec<Way> = self.model.ends(&way.state).into_iter().map(with).collect();
        for (n, (ticket, progress)) in way.calls.iter().enumerate() {
            let (question, crowded) = self.open[ticket];
            let mut step = |state: State, progress: Progress| {
                let mut way = Way { state, calls: way.calls.clone() };
                way.calls[n].1 = progress;
                next.push(way);
            };
            let phase = way.state.own.phase;
            match (progress, question.call, phase) {
                (Progress::Decided(_), ..) => {}
                (Progress::Begun, Call::Create, _) => {
                    step(way.state.with(Phase::Created), Progress::Decided(Answer::Done));
                }
                (Progress::Begun, _, Phase::Stopped(code)) => {
                    step(self.model.begin(), Progress::Decided(Answer::Exit(code)));
                }
                (Progress::Begun, ..) => {}
                (Progress::Asked, Call::Delete, Phase::Created | Phase::Killed)
                    if question.exec.is_none() =>
                {
                    step(way.state.killed(), Progress::Begun);
                }
                (Progress::Asked, Call::Create, Phase::None) => {
                    step(way.state.with(Phase::Making), Progress::Begun);
                }
                (Progress::Asked, ..) => {
                    for (answer, state) in self.model.answers(&way.state, question, crowded) {
                        step(state, Progress::Decided(answer));
                    }
                }
            }
        }
        next
    }

    /// The phase of the process that a call is about, if there is no doubt.
    fn phase(&self, ticket: usize) -> Option<Phase> {
        let exec = self.open[&ticket].0.exec;
        let phase = |way: &Way| match exec {
            None => way.state.own.phase,
            Some(n) => way.state.execs.get(n).map_or(Phase::None, |exec| exec.phase),
        };
        let mut phases = self.ways.iter().map(phase);
        let first = phases.next()?;
        phases.all(|other| other == first).then_some(first)
    }

    fn count(&mut self, ticket: usize, answer: &Answer, before: Option<Phase>) {
        let after = self.phase(ticket);
        let (question, _) = self.open.remove(&ticket).expect("it was asked");
        let tally = &mut self.tally;
        tally.calls += 1;
        match (answer, question.call, question.exec) {
            (Answer::Refused(..), ..) => tally.refused += 1,
            (_, Call::Create, _) => tally.lives += 1,
            (_, Call::Start, Some(_)) => tally.executed += 1,
            _ => {}
        }
        let mut states = self
            .ways
            .iter()
            .map(|Way { state: s, .. }| (s.own.phase, s.execs[0].phase, s.execs[1].phase));
        if let Some(first) = states.next()
            && states.all(|other| other == first)
        {
            tally.states.insert(first);
        }
        if let (Some(before), Some(after)) = (before, after) {
            let whose = if question.exec.is_some() { "process" } else { "container" };
            let call = format!("{whose} {:?}", question.call);
            tally.transitions.insert((before, call, after));
        }
    }

    fn unexplained(&self, ticket: usize, answer: &Answer) -> String {
        let lines: Vec<&str> = self.trail.iter().map(String::as_str).collect();
        let ways: Vec<String> = self.ways.iter().take(10).map(|way| format!("{way:?}")).collect();
        format!(
            "{}, a container that {:?}: nothing explains the answer of call {ticket}, {:?}: {answer:?}\n\
             it might have been one of {}:\n{}\nthe last calls:\n{}",
            self.model.id,
            self.model.guest,
            self.open[&ticket].0,
            self.ways.len(),
            ways.join("\n"),
            lines.join("\n")
        )
    }

    fn note(&mut self, line: String) {
        self.trail.push_back(line);
        if self.trail.len() > REMEMBERED {
            self.trail.pop_front();
        }
    }
}
