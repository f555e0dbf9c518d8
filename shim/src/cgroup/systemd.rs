//! Scopes of systemd, for a `cgroupsPath` of its form on a machine that it runs.
//!
//! systemd owns the groups of such a machine: a folder made behind its back loses its controllers at
//! the next reload. So the folder is made by `StartTransientUnit`, with the limits that systemd
//! would otherwise set back
//! (<https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html>).
//!
//! A few method calls and one signal do not need a D-Bus library, least of all one with threads; the
//! messages are those of <https://dbus.freedesktop.org/doc/dbus-specification.html>, little-endian.

use super::Error;
use super::resources::Setting;
use nix::unistd::Pid;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Where systemd takes calls of root without a bus.
const SOCKET: &str = "/run/systemd/private";

/// How long a job may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A scope and the slice that it lies in, by their units' names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub slice: String,
    pub unit: String,
}

/// Whether systemd is this machine's (sd_booted(3)).
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir() && Path::new(SOCKET).exists()
}

/// Has systemd make the scope with `pid` in it, and waits until it is there.
pub fn start(scope: &Scope, pid: Pid, settings: &[Setting]) -> Result<(), Error> {
    let failed =
        Error::at(format!("have systemd make the scope {} by", scope.unit), Path::new(SOCKET));
    Bus::connect().and_then(|mut bus| bus.start_unit(scope, pid, settings)).map_err(failed)
}

/// Has systemd keep other limits for the scope, as long as it runs.
pub fn set(unit: &str, settings: &[Setting]) -> Result<(), Error> {
    let mut body = Writer::default();
    body.string(unit);
    body.u32(1);
    body.array(|list| limits(list, settings));
    let failed = Error::at(format!("have systemd limit the scope {unit} by"), Path::new(SOCKET));
    let set = Bus::connect().and_then(|mut bus| bus.call("SetUnitProperties", "sba(sv)", &body.0));
    set.map(drop).map_err(failed)
}

/// Has systemd forget the scope. One that has gone by itself is fine.
pub fn stop(unit: &str) -> Result<(), Error> {
    let mut body = Writer::default();
    body.string(unit);
    body.string("replace");
    let failed = Error::at(format!("have systemd forget the scope {unit} by"), Path::new(SOCKET));
    match Bus::connect().and_then(|mut bus| bus.call("StopUnit", "ss", &body.0)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map(drop).map_err(failed),
    }
}

struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Jobs that ended while something else was waited for, with their result.
    ended: Vec<(String, String)>,
}

impl Bus {
    fn connect() -> io::Result<Self> {
        let mut stream = UnixStream::connect(SOCKET)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // The peer reads our user from the socket; "30" is "0" in hex.
        stream.write_all(b"\0AUTH EXTERNAL 30\r\n")?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        if !line.starts_with(b"OK ") {
            return Err(io::Error::other("it refused to talk to this user"));
        }
        stream.write_all(b"BEGIN\r\n")?;
        Ok(Self { stream, serial: 0, ended: Vec::new() })
    }

    fn start_unit(&mut self, scope: &Scope, pid: Pid, settings: &[Setting]) -> io::Result<()> {
        let mut body = Writer::default();
        body.string(&scope.unit);
        body.string("fail");
        body.array(|list| properties(list, scope, pid, settings));
        body.array(|_| {});
        let reply = self.call("StartTransientUnit", "ssa(sv)a(sa(sv))", &body.0)?;
        let job = Reader::new(&reply).string()?;
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(ended, _)| *ended == job) {
                return match result.as_str() {
                    "done" => Ok(()),
                    other => Err(io::Error::other(format!("the job ended as {other:?}"))),
                };
            }
            self.receive()?;
        }
    }

    /// Calls a method of the manager and gives the body of its answer.
    fn call(&mut self, member: &str, signature: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        self.serial += 1;
        self.stream.write_all(&method_call(self.serial, member, signature, body))?;
        loop {
            if let Some(reply) = self.receive()? {
                return reply;
            }
        }
    }

    /// Takes one message: the answer to the last call, or nothing that is waited for by itself.
    fn receive(&mut self) -> io::Result<Option<io::Result<Vec<u8>>>> {
        const RETURN: u8 = 2;
        const ERROR: u8 = 3;
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (body_length, fields_length) = (word(4) as usize, word(12) as usize);
        if head[0] != b'l' || body_length.max(fields_length) > 1 << 20 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut fields = vec![0; fields_length.next_multiple_of(8)];
        self.stream.read_exact(&mut fields)?;
        let mut body = vec![0; body_length];
        self.stream.read_exact(&mut body)?;
        fields.truncate(fields_length);
        let fields = Fields::read(&fields)?;
        match head[1] {
            RETURN if fields.reply_serial == self.serial => return Ok(Some(Ok(body))),
            ERROR if fields.reply_serial == self.serial => {
                let words = Reader::new(&body).string().unwrap_or_default();
                let kind = match fields.error_name.ends_with(".NoSuchUnit") {
                    true => io::ErrorKind::NotFound,
                    false => io::ErrorKind::Other,
                };
                return Ok(Some(Err(io::Error::new(kind, words))));
            }
            _ => {}
        }
        if fields.member == "JobRemoved" {
            let mut reader = Reader::new(&body);
            reader.u32()?;
            let (job, _unit, result) = (reader.string()?, reader.string()?, reader.string()?);
            self.ended.push((job, result));
        }
        Ok(None)
    }
}

fn properties(list: &mut Writer, scope: &Scope, pid: Pid, settings: &[Setting]) {
    let description = format!("Wasm container {}", scope.unit);
    list.property("Description", "s", |v| v.string(&description));
    // One that failed would keep its name.
    list.property("CollectMode", "s", |v| v.string("inactive-or-failed"));
    list.property("Slice", "s", |v| v.string(&scope.slice));
    list.property("PIDs", "au", |v| v.array_of(4, |pids| pids.u32(pid.as_raw() as u32)));
    for flag in ["Delegate", "MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"]
    {
        list.property(flag, "b", |v| v.u32(1));
    }
    list.property("DefaultDependencies", "b", |v| v.u32(0));
    limits(list, settings);
}

/// The files of v2 that systemd writes, by its names for them; it would set back what it was not
/// told. Those of `unified` that are not among them it leaves alone.
fn limits(list: &mut Writer, settings: &[Setting]) {
    for Setting { file, value, .. } in settings {
        let name = match file.as_str() {
            "memory.max" => "MemoryMax",
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.swap.max" => "MemorySwapMax",
            "cpu.weight" => "CPUWeight",
            "pids.max" => "TasksMax",
            "io.weight" => "IOWeight",
            "cpuset.cpus" => "AllowedCPUs",
            "cpuset.mems" => "AllowedMemoryNodes",
            "cpu.max" => {
                let (quota, period) = value.trim().split_once(' ').unwrap_or((value, "100000"));
                let period = number(period).max(1);
                let quota = match number(quota) {
                    u64::MAX => u64::MAX,
                    // In a second; systemd keeps whole percents.
                    quota => (quota.saturating_mul(1_000_000) / period).next_multiple_of(10_000),
                };
                list.property("CPUQuotaPeriodUSec", "t", |v| v.u64(period));
                list.property("CPUQuotaPerSecUSec", "t", |v| v.u64(quota));
                continue;
            }
            _ => continue,
        };
        if name.starts_with("Allowed") {
            let mask = mask(value);
            list.property(name, "ay", |v| v.array_of(1, |bytes| bytes.0.extend(mask)));
        } else {
            list.property(name, "t", |v| v.u64(number(value)));
        }
    }
}

/// systemd's greatest number is its word for no limit.
fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(u64::MAX)
}

/// `0-2,7` as bits, the first byte for the first eight.
fn mask(list: &str) -> Vec<u8> {
    let mut mask = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse::<u16>()) else {
            continue;
        };
        for n in first..=last {
            let byte = usize::from(n) / 8;
            mask.resize(mask.len().max(byte + 1), 0);
            mask[byte] |= 1 << (n % 8);
        }
    }
    mask
}

fn method_call(serial: u32, member: &str, signature: &str, body: &[u8]) -> Vec<u8> {
    const CALL: u8 = 1;
    let mut message = Writer(vec![b'l', CALL, 0, 1]);
    message.u32(body.len() as u32);
    message.u32(serial);
    message.array(|fields| {
        fields.field(1, "o", |v| v.string("/org/freedesktop/systemd1"));
        fields.field(2, "s", |v| v.string("org.freedesktop.systemd1.Manager"));
        fields.field(3, "s", |v| v.string(member));
        fields.field(6, "s", |v| v.string("org.freedesktop.systemd1"));
        fields.field(8, "g", |v| v.signature(signature));
    });
    message.align(8);
    message.0.extend_from_slice(body);
    message.0
}

/// What of a message's header matters here.
#[derive(Default)]
struct Fields {
    member: String,
    error_name: String,
    reply_serial: u32,
}

impl Fields {
    /// Reads an array of (code, variant).
    fn read(bytes: &[u8]) -> io::Result<Self> {
        let mut reader = Reader::new(bytes);
        let mut fields = Self::default();
        while reader.at < bytes.len() {
            reader.align(8);
            let code = reader.byte()?;
            match (code, reader.signature()?.as_str()) {
                (3, "s") => fields.member = reader.string()?,
                (4, "s") => fields.error_name = reader.string()?,
                (5, "u") => fields.reply_serial = reader.u32()?,
                (_, "s" | "o") => drop(reader.string()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.u32()?),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Ok(fields)
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    fn string(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    /// An array of structs; its length does not count what aligns its first element.
    fn array(&mut self, fill: impl FnOnce(&mut Self)) {
        self.array_of(8, fill);
    }

    fn array_of(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        fill(self);
        let bytes = (self.0.len() - start) as u32;
        self.0[length..length + 4].copy_from_slice(&bytes.to_le_bytes());
    }

    /// One `(sv)`.
    fn property(&mut self, name: &str, signature: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.string(name);
        self.signature(signature);
        value(self);
    }

    /// One `(yv)`.
    fn field(&mut self, code: u8, signature: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.0.push(code);
        self.signature(signature);
        value(self);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.saturating_add(length));
        self.at = self.at.saturating_add(length);
        taken.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn string(&mut self) -> io::Result<String> {
        let length = self.u32()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn signature(&mut self) -> io::Result<String> {
        let length = self.byte()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_as_it_was_written() {
        let mut body = Writer::default();
        body.string("docker-a.scope");
        let message = method_call(7, "StopUnit", "s", &body.0);
        assert_eq!(&message[..4], b"l\x01\0\x01");
        assert_eq!(message.len() % 4, 3, "{}", message.len());
        let length = u32::from_le_bytes(message[12..16].try_into().unwrap()) as usize;
        let fields = Fields::read(&message[16..16 + length]).unwrap();
        assert_eq!(fields.member, "StopUnit");
        let body = &message[(16 + length).next_multiple_of(8)..];
        assert_eq!(Reader::new(body).string().unwrap(), "docker-a.scope");
    }

    #[test]
    fn a_list_of_processors_becomes_bits() {
        assert_eq!(mask("0-2,7"), [0b1000_0111]);
        assert_eq!(mask("8\n"), [0, 1]);
        assert!(mask("").is_empty());
    }

    #[test]
    fn cut_and_nonsensical_messages_are_errors_not_panics() {
        for bytes in [&b"\x01"[..], b"\x01\x01s\0\xff\xff\xff\xff", b"\x01\x09zz", &[0xff; 40]] {
            assert!(Fields::read(bytes).is_err());
        }
    }
}
