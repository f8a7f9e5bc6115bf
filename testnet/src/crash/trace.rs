//! What a trace of `strace` says: which system calls a message causes, on what, and in which stage of its life.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

/// Where a message is, as far as a stranger can tell from system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The program starts on what is on disk.
    Start,
    /// The client speaks; nothing of the message is on disk.
    Session,
    /// It is being written; the client waits for the reply.
    Accept,
    /// The client has its reply.
    Acknowledged,
    /// The next hop is being spoken to.
    Deliver,
    /// Its end is being written.
    Settle,
}

impl Stage {
    /// As reports write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Session => "session",
            Self::Accept => "accept",
            Self::Acknowledged => "acknowledged",
            Self::Deliver => "deliver",
            Self::Settle => "settle",
        }
    }
}

/// What a system call is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// A file or directory of the state, by the name the subject has for it.
    Disk(String),
    /// The log.
    Log,
    /// The client's connection, or the socket it came to.
    Client,
    /// The connection to the next hop.
    NextHop,
    /// The resolver.
    Resolver,
}

impl Object {
    fn name(&self) -> &str {
        match self {
            Self::Disk(name) => name,
            Self::Log => "log",
            Self::Client => "client",
            Self::NextHop => "next hop",
            Self::Resolver => "resolver",
        }
    }
}

/// A point at which a program can be ended: a system call, on what, in which stage, after how many flushes in that stage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Point {
    /// The stage.
    pub stage: Stage,
    /// Flushes that were completed in that stage.
    pub flushes: usize,
    /// The system call.
    pub call: String,
    /// What it is about.
    pub object: Object,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { stage, flushes, call, object } = self;
        write!(f, "{}/{flushes} {call} {}", stage.as_str(), object.name())
    }
}

/// One call of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which point it is.
    pub point: Point,
    /// The thread that made it.
    pub thread: u32,
    /// Its number among the calls of this name in its thread, from 1.
    pub nth: usize,
    /// Its number among the calls of this name on this object in its thread, from 1.
    pub nth_on_object: usize,
    /// The same in all threads.
    pub number_on_object: usize,
    /// Whether it was completed.
    pub ended: bool,
    /// Whether `strace` did something to it.
    pub injected: bool,
}

/// What is to be known to read a trace.
pub struct Reader<'a> {
    /// The stage at the beginning.
    pub start: Stage,
    /// Where clients connect to.
    pub doors: &'a [SocketAddr],
    /// The subject's name for a file of its state; `None` for files that are none.
    pub file: &'a dyn Fn(&str) -> Option<String>,
    /// The log file.
    pub log: &'a str,
    /// The socket of the operator, whose connections are no business of a message.
    pub control: &'a str,
}

impl Reader<'_> {
    /// The calls of a trace that are about disk or network, in the order in which they began.
    #[must_use]
    pub fn read(&self, trace: &str) -> Vec<Call> {
        let mut state = State {
            reader: self,
            stage: self.start,
            flushes: 0,
            replied: false,
            counts: BTreeMap::new(),
            on_objects: BTreeMap::new(),
            open: BTreeMap::new(),
            calls: Vec::new(),
        };
        trace.lines().for_each(|line| state.line(line));
        state.calls
    }

    fn object(&self, call: &str, text: &str) -> Option<Object> {
        if let Some(about) = annotation(text) {
            if about.starts_with("UDP") {
                return Some(Object::Resolver);
            }
            if about.starts_with("UNIX") {
                return (!text.contains(self.control)).then_some(Object::NextHop);
            }
            if let Some(ends) = about.strip_prefix("TCP:[").or_else(|| about.strip_prefix("TCPv6:[")) {
                let ours = ends.split("->").next().unwrap_or_default().trim_end_matches(']');
                let door = self.doors.iter().any(|door| door.to_string() == ours);
                return Some(if door { Object::Client } else { Object::NextHop });
            }
            if about.starts_with('/') && !text.starts_with("AT_FDCWD") {
                let about = about.strip_suffix(" (deleted)").unwrap_or(about);
                if about == self.log {
                    return Some(Object::Log);
                }
                return (self.file)(about).map(Object::Disk);
            }
        }
        if call == "socket" {
            return match text {
                text if text.starts_with("AF_UNIX") => Some(Object::NextHop),
                text if text.contains("SOCK_DGRAM") => Some(Object::Resolver),
                _ => Some(Object::NextHop),
            };
        }
        let (_, rest) = text.split_once('"')?;
        let (path, _) = rest.split_once('"')?;
        (self.file)(path).map(Object::Disk)
    }
}

/// What `<…>` says about the first file descriptor, which is the first argument.
fn annotation(text: &str) -> Option<&str> {
    let (number, rest) = text.split_once('<')?;
    if !number.chars().all(|c| c.is_ascii_digit()) && number != "AT_FDCWD" {
        return None;
    }
    // `->` of a connection is no end.
    let end = rest.match_indices('>').map(|(at, _)| at).find(|at| !rest[..*at].ends_with('-'))?;
    Some(&rest[..end])
}

/// Calls that change what is on disk.
fn changes(call: &str) -> bool {
    const CHANGING: [&str; 14] = [
        "write",
        "pwrite64",
        "writev",
        "fsync",
        "fdatasync",
        "ftruncate",
        "fallocate",
        "unlink",
        "unlinkat",
        "rename",
        "renameat",
        "renameat2",
        "link",
        "linkat",
    ];
    CHANGING.contains(&call)
}

struct State<'a> {
    reader: &'a Reader<'a>,
    stage: Stage,
    flushes: usize,
    /// The client has its reply.
    replied: bool,
    /// Calls so far, by thread and name.
    counts: BTreeMap<(String, String), usize>,
    /// The same, by object; without a thread for all of them.
    on_objects: BTreeMap<(Option<String>, String, Object), usize>,
    /// Calls that were not completed yet: by thread, the name, and the position in `calls` if it is of interest.
    open: BTreeMap<String, (String, Option<usize>)>,
    calls: Vec<Call>,
}

impl State<'_> {
    fn line(&mut self, line: &str) {
        // A trace of one thread does not say which.
        let named = line.split_once(' ').filter(|(thread, _)| thread.parse::<u32>().is_ok());
        let (thread, rest) = named.unwrap_or(("0", line));
        let rest = rest.trim_start();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some((name, position)) = self.open.remove(thread) else { return };
            self.completed(&name, position, resumed);
            return;
        }
        let Some((name, text)) = rest.split_once('(') else { return };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return;
        }
        let count = self.counts.entry((thread.to_owned(), name.to_owned())).or_default();
        *count += 1;
        let nth = *count;
        let object = self.reader.object(name, text);
        let position = object.map(|object| {
            self.begin(name, &object);
            let nth_on_object = self.count(Some(thread), name, &object);
            let number_on_object = self.count(None, name, &object);
            let point = Point { stage: self.stage, flushes: self.flushes, call: name.to_owned(), object };
            let (ended, injected) = (false, false);
            let thread = thread.parse().unwrap_or_default();
            self.calls.push(Call { point, thread, nth, nth_on_object, number_on_object, ended, injected });
            self.calls.len() - 1
        });
        if text.contains("<unfinished ...>") {
            self.open.insert(thread.to_owned(), (name.to_owned(), position));
        } else {
            self.completed(name, position, text);
        }
    }

    /// Counts a call on an object, in a thread or in all.
    fn count(&mut self, thread: Option<&str>, name: &str, object: &Object) -> usize {
        let key = (thread.map(str::to_owned), name.to_owned(), object.clone());
        let count = self.on_objects.entry(key).or_default();
        *count += 1;
        *count
    }

    /// A call may begin a stage.
    fn begin(&mut self, name: &str, object: &Object) {
        let disk = matches!(object, Object::Disk(_));
        let says = matches!(name, "write" | "writev" | "sendto" | "sendmsg");
        let next = match (self.stage, object) {
            (Stage::Session, _) if disk && (changes(name) || name == "openat" || name == "statfs") => {
                Stage::Accept
            }
            (Stage::Accept, _) if self.replied => Stage::Acknowledged,
            (Stage::Acknowledged, Object::NextHop | Object::Resolver) => Stage::Deliver,
            (Stage::Deliver, _) if disk && changes(name) => Stage::Settle,
            // The reply itself is part of accepting: a kill before it leaves the client without one.
            (Stage::Accept, Object::Client) if says && self.flushes > 0 => {
                self.replied = true;
                return;
            }
            _ => return,
        };
        self.stage = next;
        self.flushes = 0;
    }

    fn completed(&mut self, name: &str, position: Option<usize>, text: &str) {
        let Some(position) = position else { return };
        // `= ?` is a call that the end of the program interrupted.
        let result = text.rsplit_once("= ").map(|(_, result)| result.trim());
        let call = &mut self.calls[position];
        call.injected = text.contains("(INJECTED)");
        call.ended = result.is_some_and(|result| result != "?");
        let flushed = matches!(name, "fsync" | "fdatasync") && result == Some("0");
        self.flushes += usize::from(flushed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"
10 accept4(15<TCP:[127.1.2.15:5870]>, {sa_family=AF_INET, sin_port=htons(4), sin_addr=inet_addr("127.0.0.1")}, [128 => 16], SOCK_CLOEXEC|SOCK_NONBLOCK) = 16<TCP:[127.1.2.15:5870->127.0.0.1:4]>
10 recvfrom(16<TCP:[127.1.2.15:5870->127.0.0.1:4]>, ""..., 4096, 0, NULL, NULL) = 51
10 socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_IP) = 17<UDP:[37288]>
11 write(4<anon_inode:[eventfd]>, ""..., 8 <unfinished ...>
12 openat(AT_FDCWD</tmp>, "/s/bodies/01M", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 18</s/bodies/01M>
11 <... write resumed>) = 8
12 write(18</s/bodies/01M>, ""..., 262260) = 262260
12 fsync(18</s/bodies/01M> <unfinished ...>
11 write(2</log>, ""..., 452) = 452
12 <... fsync resumed>) = 0
13 pwrite64(13</s/spool.redb>, ""..., 320, 0) = 320
13 fdatasync(13</s/spool.redb>) = 0
10 writev(16<TCP:[127.1.2.15:5870->127.0.0.1:4]>, [...], 1) = 72
13 fdatasync(13</s/spool.redb>) = -1 EIO (Input/output error) (INJECTED)
10 connect(18<UNIX-STREAM:[37319]>, {sa_family=AF_UNIX, sun_path="/lmtp.sock"}, 28) = 0
12 read(17</s/bodies/01M>, ""..., 65536) = 65536
13 pwrite64(13</s/spool.redb>, ""..., 320, 0 <unfinished ...>) = ?
13 +++ killed by SIGKILL +++
"#;

    fn read() -> Vec<Call> {
        let file = |path: &str| match path {
            "/s/spool.redb" => Some("database".to_owned()),
            path if path.starts_with("/s/bodies/") => Some("content file".to_owned()),
            _ => None,
        };
        let reader = Reader {
            start: Stage::Session,
            doors: &[([127, 1, 2, 15], 5870).into()],
            file: &file,
            log: "/log",
            control: "/control.sock",
        };
        reader.read(TRACE)
    }

    #[test]
    fn the_life_of_a_message_is_seen_in_its_system_calls() {
        let points: Vec<_> = read().iter().map(|call| call.point.to_string()).collect();
        let expected = [
            "session/0 accept4 client",
            "session/0 recvfrom client",
            "session/0 socket resolver",
            "accept/0 openat content file",
            "accept/0 write content file",
            "accept/0 fsync content file",
            "accept/0 write log",
            "accept/1 pwrite64 database",
            "accept/1 fdatasync database",
            "accept/2 writev client",
            "acknowledged/0 fdatasync database",
            "deliver/0 connect next hop",
            "deliver/0 read content file",
            "settle/0 pwrite64 database",
        ];
        assert_eq!(points, expected);
    }

    #[test]
    fn a_trace_of_one_thread_has_no_numbers_in_front() {
        let reader = Reader {
            start: Stage::Start,
            doors: &[],
            file: &|path| (path == "/s/bodies/01M").then(|| "content file".to_owned()),
            log: "/log",
            control: "/control.sock",
        };
        let calls =
            reader.read("write(18</s/bodies/01M>, \"\"..., 9)  = -1 EIO (Input/output error) (INJECTED)\n");
        assert_eq!(calls.len(), 1);
        assert!(calls[0].injected);
        assert_eq!(calls[0].point.to_string(), "start/0 write content file");
    }

    #[test]
    fn calls_are_counted_in_their_thread_and_known_when_something_was_done_to_them() {
        let calls = read();
        // The second of its thread: the first was to an event counter, which is of no interest.
        assert_eq!((calls[6].nth, calls[6].ended), (2, true));
        assert!(calls[10].injected && calls[10].ended);
        assert_eq!((calls[13].nth, calls[13].ended), (2, false));
        assert!(calls[5].ended, "it was resumed");
    }
}
