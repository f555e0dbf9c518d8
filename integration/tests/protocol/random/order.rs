//! A container's events, in their order.

use std::collections::HashMap;

use integration::mock::{Event, Mock};
use integration::wait;

use super::history::Tally;

/// What was told of a process that is executed.
enum Told {
    Added,
    Started(u32),
}

/// Insists that the events of `id` are those of so many lives, each told from its beginning to its
/// end.
pub fn check(mock: &Mock, id: &str, tally: &Tally) {
    let deleted = |event: &&Event| matches!(event, Event::Delete(..));
    wait::until("the events of all lives", || {
        mock.events(id).iter().filter(deleted).count() == tally.lives
    });
    let events = mock.events(id);
    let (mut lives, mut executed) = (0, 0);
    let mut left = events.iter().peekable();
    while left.peek().is_some() {
        let mut life = Vec::new();
        for event in left.by_ref() {
            life.push(event);
            if deleted(&event) {
                break;
            }
        }
        executed += one_life(&life).unwrap_or_else(|wrong| panic!("{wrong}:\n{life:#?}"));
        lives += 1;
    }
    assert_eq!((lives, executed), (tally.lives, tally.executed), "{id}: {events:#?}");
}

/// How many processes were executed in it.
fn one_life(events: &[&Event]) -> Result<usize, &'static str> {
    let [
        Event::Create(_, pid),
        between @ ..,
        Event::Exit(_, ended, code),
        Event::Delete(_, gone, same),
    ] = events
    else {
        return Err("a life begins with its creation, and ends with its exit and its removal");
    };
    if [ended, gone] != [pid, pid] || code != same {
        return Err("another process, or another end");
    }
    let (mut started, mut paused, mut executed) = (false, false, 0);
    let mut execs: HashMap<&str, Told> = HashMap::new();
    for event in between {
        match event {
            Event::Start(_, same) if !started && same == pid => started = true,
            Event::Paused(_) if started && !paused => paused = true,
            Event::Resumed(_) if paused => paused = false,
            Event::ExecAdded(_, exec) => {
                if let Some(Told::Started(_)) = execs.insert(exec, Told::Added) {
                    return Err("another process under the id of one that runs");
                }
            }
            Event::ExecStarted(_, exec, pid) => {
                if !matches!(execs.insert(exec, Told::Started(*pid)), Some(Told::Added)) {
                    return Err("a process was started that was not there, or was before");
                }
                executed += 1;
            }
            Event::ExecExit(_, exec, pid, _) => {
                let Some(Told::Started(same)) = execs.remove(exec.as_str()) else {
                    return Err("a process ended that did not run");
                };
                if same != *pid {
                    return Err("another process ended");
                }
            }
            _ => return Err("an event out of order"),
        }
    }
    if execs.values().any(|told| matches!(told, Told::Started(_))) {
        return Err("a process did not end before its container");
    }
    Ok(executed)
}
