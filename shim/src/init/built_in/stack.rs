//! `@stack`: where a container's guest is.
//!
//! Its threads are held still for a moment and their stacks read, by functions' frames: compiled wasm
//! keeps them. Wasmtime runs each guest on a stack of its own with a page below it that nobody may
//! touch, and host calls on the same one. There are three cases:
//! - A thread is in wasm: its registers say where.
//! - A thread is in a host call: where that left wasm is in the guest's store
//!   (`VMStoreContext::last_wasm_exit_*`), somewhere on the heap.
//! - The host call waits and no thread is on the stack: the stack's first words say where it ends
//!   (`wasmtime-fiber`), and what the store held is in the frame that called the guest, on this stack.
//!
//! Where exactly the store's words are is Wasmtime's matter, so they are looked for: two addresses of
//! frames and one of code, close together, that fit to each other in every respect. All that is read
//! is the guest's, so it is nothing but numbers that are looked up.

use super::{Failure, Order, Reason};
use crate::sys::ptrace::{Held, Place};
use artifact::engine::STACK;
use artifact::names::{self, Function};
use nix::unistd::Pid;
use object::{Object, ObjectSection, ObjectSymbol, ReadCache};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// As many frames of one stack are told, and no stack has as many threads looked at.
const MOST_FRAMES: usize = 1000;
const MOST_THREADS: usize = 1024;

/// The most bytes of memory that are searched for a store's words.
const MOST_MEMORY: u64 = 256 << 20;

/// How many words apart those may be.
const NEAR: usize = 8;

const WORD: u64 = size_of::<u64>() as u64;

/// The stacks of a container's guests.
pub struct Stacks(Vec<Stack>);

struct Stack {
    waits: bool,
    frames: Vec<String>,
}

impl Stacks {
    /// Those of the container's own process, whose wasm is `wasm` if that can still be told. To be
    /// called as root of the host.
    pub fn gather(order: &Order, wasm: Option<File>) -> Result<Self, Failure> {
        let process = Process { pid: order.init };
        let told = process.traces().and_then(|(code, traces)| {
            let Some(code) = code else { return Ok(Self(Vec::new())) };
            tell(&code, &traces, wasm)
        });
        told.map_err(|e| Failure::new(Reason::Internal, format!("@stack: {e}")))
    }

    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if self.0.is_empty() {
            writeln!(
                out,
                "no call of a guest is going on (the tasks of one of WASI 0.3 wait without a stack)"
            )?;
        }
        for stack in &self.0 {
            writeln!(out, "{}", if stack.waits { "in a host call:" } else { "in wasm:" })?;
            for (number, frame) in stack.frames.iter().enumerate() {
                writeln!(out, "{number:>5}: {frame}")?;
            }
        }
        Ok(())
    }
}

/// Where calls of one guest are, innermost first, as addresses of instructions.
struct Trace {
    waits: bool,
    instructions: Vec<u64>,
}

/// Compiled code as it is mapped.
struct Code {
    /// Where instructions are.
    text: Range<u64>,
    /// Where in the file the first of them is.
    offset: u64,
    file: File,
}

struct Process {
    /// On the host.
    pid: i32,
}

impl Process {
    fn traces(&self) -> io::Result<(Option<Code>, Vec<Trace>)> {
        let mut held = Vec::new();
        for thread in self.threads()? {
            match Held::new(thread) {
                Ok(one) => held.push(one),
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                Err(e) => return Err(e),
            }
        }
        let maps = Maps::read(self.pid)?;
        let Some((text, offset)) = maps.code.clone() else { return Ok((None, Vec::new())) };
        let memory = Memory(File::open(format!("/proc/{}/mem", self.pid))?);
        let link = format!("/proc/{}/map_files/{:x}-{:x}", self.pid, text.start, text.end);
        let code = Code { text, offset, file: File::open(link)? };
        let trace = |stack: &Range<u64>| {
            let on_it = held.iter().find(|held| stack.contains(&held.place.stack));
            let look = Look { memory: &memory, stack, text: &code.text };
            match on_it.map(|held| held.place) {
                Some(place) => look.taken(place, &maps.anonymous),
                None => look.left(),
            }
        };
        let traces = maps.stacks.iter().filter_map(trace).collect();
        Ok((Some(code), traces))
    }

    /// Its threads, as this process's pid namespace numbers them, which is the container's.
    fn threads(&self) -> io::Result<Vec<Pid>> {
        let mut threads = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))?.take(MOST_THREADS) {
            // One may have ended.
            let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let id = ids.and_then(|ids| ids.split_whitespace().last()?.parse().ok());
            threads.extend(id.map(Pid::from_raw));
        }
        Ok(threads)
    }
}

/// What is mapped where.
#[derive(Default)]
struct Maps {
    /// The instructions of compiled wasm, and where in its file they are.
    code: Option<(Range<u64>, u64)>,
    /// What may be stacks of guests.
    stacks: Vec<Range<u64>>,
    /// Writable memory without a file.
    anonymous: Vec<Range<u64>>,
}

impl Maps {
    fn read(pid: i32) -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string(format!("/proc/{pid}/maps"))?))
    }

    /// Of proc_pid_maps(5).
    fn parse(text: &str) -> Self {
        let mut maps = Self::default();
        // Where the last page ended that nobody may touch.
        let mut guard = None;
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let mut field = || fields.next().unwrap_or_default();
            let (range, how, offset) = (field(), field(), field());
            let path = line.splitn(6, ' ').nth(5).unwrap_or_default().trim();
            let hex = |text| u64::from_str_radix(text, 16).ok();
            let range = range.split_once('-').and_then(|(a, b)| Some(hex(a)?..hex(b)?));
            let (Some(range), Some(offset)) = (range, hex(offset)) else { continue };
            let is_code = path.trim_end_matches(" (deleted)").ends_with(".cwasm");
            match how {
                "r-xp" if is_code => maps.code = Some((range.clone(), offset)),
                "rw-p" if path.is_empty() || path == "[heap]" => {
                    if guard == Some(range.start) && range.end - range.start >= STACK as u64 {
                        maps.stacks.push(range.start..range.start + STACK as u64);
                    }
                    maps.anonymous.push(range.clone());
                }
                _ => {}
            }
            guard = (how == "---p").then_some(range.end);
        }
        maps
    }
}

/// Another process's memory.
struct Memory(File);

impl Memory {
    fn words(&self, range: Range<u64>) -> Vec<u64> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or_default();
        let mut bytes = vec![0; length];
        let read = self.0.read_at(&mut bytes, range.start).unwrap_or(0);
        let (words, _) = bytes[..read].as_chunks();
        words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
    }

    /// The frame of the caller and the address that is returned to, which a frame begins with.
    fn frame(&self, at: u64) -> Option<(u64, u64)> {
        match self.words(at..at.checked_add(2 * WORD)?)[..] {
            [caller, instruction] => Some((caller, instruction)),
            _ => None,
        }
    }
}

/// One stack to be looked at.
struct Look<'a> {
    memory: &'a Memory,
    stack: &'a Range<u64>,
    text: &'a Range<u64>,
}

impl Look<'_> {
    /// A thread that is at `place` is on it.
    fn taken(&self, place: Place, anonymous: &[Range<u64>]) -> Option<Trace> {
        if self.text.contains(&place.instruction) {
            let (callers, _) = self.walk(place.frame);
            let back = self.without_frame(place);
            let instructions = [place.instruction].into_iter().chain(back).chain(callers);
            return Some(Trace { waits: false, instructions: instructions.collect() });
        }
        const CHUNK: u64 = 1 << 20;
        let mut left = MOST_MEMORY;
        // The heap is where it usually is, and it is small.
        let mut places: Vec<_> = anonymous.iter().filter(|range| *range != self.stack).collect();
        places.sort_by_key(|range| range.end - range.start);
        for range in places {
            for begin in (range.start..range.end).step_by(CHUNK as usize) {
                let end = range.end.min(begin + CHUNK);
                left = left.checked_sub(end - begin)?;
                let words = self.memory.words(begin..end);
                let fits = |_, _, frame: u64| frame > place.stack;
                if let Some(instructions) = self.search(begin, &words, fits) {
                    return Some(Trace { waits: true, instructions });
                }
            }
        }
        None
    }

    /// What the function at `place` returns to, if it has no frame yet or any more.
    #[cfg(target_arch = "x86_64")]
    fn without_frame(&self, place: Place) -> Option<u64> {
        // push %rbp; mov %rsp,%rbp
        const BEGIN: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
        const RET: u8 = 0xc3;
        let mut code = [0; 5];
        self.memory.0.read_exact_at(&mut code, place.instruction - 1).ok()?;
        let at = match code {
            [_, RET, ..] => place.stack,
            [_, begin @ ..] if begin == BEGIN => place.stack,
            [begin @ .., _] if begin == BEGIN => place.stack + WORD,
            _ => return None,
        };
        let back = self.memory.words(at..at + WORD).first().copied()?;
        self.text.contains(&back).then_some(back)
    }

    /// Elsewhere the caller is in a register then, and is left out.
    #[cfg(not(target_arch = "x86_64"))]
    fn without_frame(&self, _: Place) -> Option<u64> {
        None
    }

    /// No thread is on it.
    fn left(&self) -> Option<Trace> {
        let [end] = self.memory.words(self.stack.end - 2 * WORD..self.stack.end - WORD)[..] else {
            return None;
        };
        if !self.stack.contains(&end) {
            return None;
        }
        let words = self.memory.words(end..self.stack.end);
        // The caller's frame is above the guest's.
        let fits = |at, entry, frame: u64| at > entry && frame > end;
        let instructions = self.search(end, &words, fits)?;
        Some(Trace { waits: true, instructions })
    }

    /// Looks in `words`, which are at `begin`, for the frame with which wasm was left, the instruction
    /// to which that returns, and the frame with which wasm was entered.
    fn search(
        &self,
        begin: u64,
        words: &[u64],
        fits: impl Fn(u64, u64, u64) -> bool,
    ) -> Option<Vec<u64>> {
        words.iter().enumerate().find_map(|(index, &exit)| {
            if !self.stack.contains(&exit) || exit % WORD != 0 {
                return None;
            }
            let near = &words[index.saturating_sub(NEAR)..words.len().min(index + NEAR)];
            if !near.iter().any(|word| self.text.contains(word)) {
                return None;
            }
            let (_, back) = self.memory.frame(exit)?;
            if !self.text.contains(&back) || !near.contains(&back) {
                return None;
            }
            let (instructions, frames) = self.walk(exit);
            let at = begin + index as u64 * WORD;
            let entered = |entry: &&u64| frames.contains(entry) && fits(at, **entry, exit);
            near.iter().find(entered).map(|_| instructions)
        })
    }

    /// From frame to frame while they return to wasm: the instructions, and the frames after the first.
    fn walk(&self, mut frame: u64) -> (Vec<u64>, Vec<u64>) {
        let (mut instructions, mut frames) = (Vec::new(), Vec::new());
        while instructions.len() < MOST_FRAMES && self.stack.contains(&frame) {
            let Some((caller, back)) = self.memory.frame(frame) else { break };
            if !self.text.contains(&back) {
                break;
            }
            instructions.push(back);
            if caller <= frame {
                break;
            }
            frames.push(caller);
            frame = caller;
        }
        (instructions, frames)
    }
}

/// Finds names for all that was traced.
fn tell(code: &Code, traces: &[Trace], wasm: Option<File>) -> io::Result<Stacks> {
    let functions = functions(code)?;
    let placed: Vec<_> = traces
        .iter()
        .map(|trace| {
            let calls =
                trace.instructions.iter().enumerate().filter_map(|(depth, &instruction)| {
                    // What is returned to comes after the call, which may be a function's last.
                    let back = u64::from(depth > 0 || trace.waits);
                    let offset = instruction - back - code.text.start + code.offset;
                    let after = functions.partition_point(|function| function.begin <= offset);
                    let function = functions[..after].last()?;
                    (offset < function.end).then_some(function)
                });
            (trace.waits, calls.collect::<Vec<_>>())
        })
        .collect();
    let wanted: Vec<Function> =
        placed.iter().flat_map(|(_, calls)| calls.iter().map(|function| function.id)).collect();
    let named = match wasm {
        Some(mut wasm) => names::names(&mut wasm, &wanted).unwrap_or_default(),
        None => HashMap::new(),
    };
    let name = |function: &&Symbol| {
        let name = named.get(&function.id).unwrap_or(&function.name);
        format!("{:#}", rustc_demangle::demangle(name))
    };
    let stacks = placed
        .iter()
        .filter(|(_, calls)| !calls.is_empty())
        .map(|(waits, calls)| Stack { waits: *waits, frames: calls.iter().map(name).collect() });
    Ok(Stacks(stacks.collect()))
}

/// A function of the wasm, in compiled code.
struct Symbol {
    /// Where in the file it is.
    begin: u64,
    end: u64,
    id: Function,
    name: String,
}

/// All of them, in their order. Wasmtime's symbols for them are `wasm[MODULE]::function[INDEX]::NAME`.
fn functions(code: &Code) -> io::Result<Vec<Symbol>> {
    let cache = ReadCache::new(&code.file);
    let damaged = |e: object::Error| io::Error::other(format!("the compiled code: {e}"));
    let elf = object::File::parse(&cache).map_err(damaged)?;
    let text = elf.section_by_name(".text").and_then(|text| text.file_range());
    let (offset, _) = text.ok_or_else(|| io::Error::other("the compiled code has no .text"))?;
    let mut all: Vec<Symbol> = elf
        .symbols()
        .filter_map(|symbol| {
            let begin = offset + symbol.address();
            let rest = symbol.name().ok()?.strip_prefix("wasm[")?;
            let (module, rest) = rest.split_once("]::function[")?;
            let (index, name) = rest.split_once(']')?;
            let id = (module.parse().ok()?, index.parse().ok()?);
            let name = match name.strip_prefix("::") {
                Some(name) if !name.is_empty() => name.to_owned(),
                _ => format!("<function {index}>"),
            };
            Some(Symbol { begin, end: begin + symbol.size(), id, name })
        })
        .collect();
    all.sort_by_key(|symbol| symbol.begin);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_told_by_their_guards() {
        let maps = Maps::parse(
            "200000-300000 r-xp 00001000 fe:00 12 /var/lib/some where/0f.cwasm (deleted)\n\
             700000-701000 ---p 00000000 00:00 0\n\
             701000-a00000 rw-p 00000000 00:00 0\n\
             b00000-b01000 ---p 00000000 00:00 0\n\
             b01000-b02000 rw-p 00000000 00:00 0 [heap]\n\
             nonsense\n",
        );
        assert_eq!(maps.code, Some((0x20_0000..0x30_0000, 0x1000)));
        assert_eq!(maps.stacks, std::slice::from_ref(&(0x70_1000..0x90_1000)));
        assert_eq!(maps.anonymous, [0x70_1000..0xa0_0000, 0xb0_1000..0xb0_2000]);
    }
}
