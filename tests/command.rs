//! The `sluis` command from outside: exit codes, both forms of output, and a node that starts, reloads and stops.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A directory with a configuration and its keys.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        bench.key("ours");
        bench.key("next");
        bench.write("root.ds", &format!(". IN DS 4242 13 2 {}\n", "AB".repeat(32)));
        bench.write("sluis.toml", CONFIG);
        bench
    }

    fn key(&self, name: &str) {
        let made = rcgen::generate_simple_self_signed(vec!["nta-a.a.example".to_owned()]).unwrap();
        self.write(&format!("{name}.pem"), &made.cert.pem());
        self.write(&format!("{name}.key"), &made.signing_key.serialize_pem());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluis"));
        command.env_remove("SLUIS_CONFIG").env_remove("NOTIFY_SOCKET");
        command.arg("--config").arg(self.path("sluis.toml")).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

/// Nothing answers at this resolver: none of these tests needs DNS to say yes.
const CONFIG: &str = r#"
[node]
name = "nta-a.a.example"
provider = "A"
domains = ["a.example"]
postmaster = "postmaster@a.example"
startdate = "2026-01"
enddate = "2028-12"
state_dir = "state"

[dns]
resolver = "127.0.0.1:9"
trust_anchor_file = "root.ds"

[[tls.certificate]]
chain = "ours.pem"
key = "ours.key"

[federation]
listen = ["127.0.0.1:0"]

[environment]
kind = "maildir"
path = "mail"

[limits]
dns_try_seconds = 1
dns_question_seconds = 2
stop_seconds = 1

[submission]
# None of what others would look for is published here.
own_domain = "warn"
listen = ["127.0.0.1:0"]
temporary = "queue"
[[submission.client]]
name = "platform"
addresses = ["127.0.0.0/8"]
domains = ["a.example"]
"#;

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

/// Proves: +OPS-001 -OPS-001
#[test]
fn check_says_what_it_understood_or_what_is_wrong() {
    let bench = Bench::new();
    let good = bench.run(&["check"]);
    assert_eq!(code(&good), 0, "{good:?}");
    assert!(stdout(&good).contains("root key tags 4242"));
    assert_eq!(json(&bench.run(&["check", "--json"]))["ok"], true);

    bench.write(
        "sluis.toml",
        &CONFIG.replace("[federation]", "[federation]\nfloor = \"opportunistic\"\nlisen = 5"),
    );
    let bad = bench.run(&["check", "--json"]);
    assert_eq!(code(&bad), 2);
    assert_eq!(json(&bad)["ok"], false);
    let said = String::from_utf8(bad.stderr).unwrap();
    assert!(
        said.contains("sluis.toml:20:9: federation.floor: `opportunistic` is no assurance level"),
        "{said}"
    );
    assert!(
        said.contains("sluis.toml:21:1: federation.lisen") && said.contains("did you mean `listen`?"),
        "{said}"
    );
    assert_eq!(code(&bench.run(&["run"])), 2, "a node does not start with it");
}

#[test]
fn exit_codes_tell_who_is_wrong() {
    let bench = Bench::new();
    assert_eq!(code(&bench.run(&["nonsense"])), 2);
    assert_eq!(code(&bench.run(&["explain", "no-address"])), 2);
    assert_eq!(code(&bench.run(&["status"])), 3, "no node is running");
    assert_eq!(code(&bench.run(&["dns"])), 0);
    let unknown = bench.run(&["dns", "--verify", "--json"]);
    assert_eq!((code(&unknown), json(&unknown)["ok"].as_bool()), (4, Some(false)), "nobody can tell");
    let other = Command::new(env!("CARGO_BIN_EXE_sluis"))
        .env("SLUIS_CONFIG", bench.path("sluis.toml"))
        .arg("check")
        .output()
        .unwrap();
    assert_eq!(code(&other), 0, "the variable names the file too");
}

/// Proves: +REC-003 -REC-003
#[test]
fn explain_answers_without_a_node_and_stores_nothing() {
    let bench = Bench::new();
    let later = bench.run(&["explain", "jan@b.example", "--dns-only"]);
    assert_eq!(code(&later), 1);
    assert!(stdout(&later).starts_with("Not now."), "{}", stdout(&later));
    let record = json(&bench.run(&["explain", "jan@b.example", "--json"]));
    assert_eq!((record["outcome"].as_str(), record["direction"].as_str()), (Some("later"), Some("outbound")));
    assert_eq!(record["content_left"], "never");
    assert!(!bench.path("state").exists(), "nothing is stored");
}

/// A running node; killed when a test fails before it stopped it.
struct Running {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(bench: &Bench) -> Self {
        let mut child = bench.command(&["run"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self { child, log };
        running.line("ready");
        running
    }

    /// Reads the log up to the line with this message.
    fn line(&mut self, message: &str) -> serde_json::Value {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "no {message:?} in the log:\n{seen}");
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if parsed["message"] == message {
                return parsed;
            }
            seen.push_str(&line);
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket_is_there(bench: &Bench) -> bool {
    Path::exists(&bench.path("state/control.sock"))
}

/// Proves: +OPS-004 +OPS-005 -OPS-005 -OPS-006 +OPS-009
#[test]
fn a_node_starts_answers_reloads_and_stops() {
    use rustix::process::Signal;
    let bench = Bench::new();
    let mut running = Running::start(&bench);
    let status = bench.run(&["status", "--json"]);
    assert_eq!(code(&status), 0, "{status:?}");
    assert_eq!(json(&status)["node"], "nta-a.a.example");
    assert_eq!(stdout(&bench.run(&["spool", "list"])), "nothing waits\n");
    let second = bench.run(&["run"]);
    assert_eq!(code(&second), 3);
    assert!(String::from_utf8(second.stderr).unwrap().contains("a node is running already"));

    bench.write("message", "From: jan@a.example\n\nhello\n");
    let file = bench.path("message");
    let sent = bench.run(&[
        "send",
        "--json",
        "--from",
        "jan@a.example",
        "--to",
        "piet@b.example",
        file.to_str().unwrap(),
    ]);
    assert_eq!(code(&sent), 0, "DNS cannot be asked, so the message waits: {sent:?}");
    let message = json(&sent)["message"].as_str().unwrap().to_owned();
    let shown = json(&bench.run(&["spool", "show", &message, "--json"]));
    assert_eq!(shown["message"]["deliveries"][0]["recipients"][0]["address"], "piet@b.example");
    let refused = |from: &str, content: &[u8]| {
        std::fs::write(&file, content).unwrap();
        let arguments = ["send", "--from", from, "--to", "piet@b.example", file.to_str().unwrap()];
        let output = bench.run(&arguments);
        assert_eq!(code(&output), 1, "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused("jan@c.example", b"From: jan@c.example\n\nhello\n").contains("SUBM-002"));
    assert!(refused("jan@a.example", b"From: jan@c.example\n\nhello\n").contains("SUBM-002"));
    assert!(refused("jan@a.example", b"From: jan@a.example\n\nbare\rCR\n").contains("SMTP-007"));
    let long = format!("From: jan@a.example\n\n{}\n", "x".repeat(999));
    assert!(refused("jan@a.example", long.as_bytes()).contains("SMTP-008"));

    // A key that DNS does not show is refused, and the old configuration stays in force.
    bench.write(
        "sluis.toml",
        &CONFIG.replace("ours.", "next.").replace("stop_seconds = 1", "stop_seconds = 2"),
    );
    let refused = bench.run(&["reload"]);
    assert_eq!(code(&refused), 1);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("_25._tcp.nta-a.a.example. IN TLSA 3 1 1"), "{said}");
    let keys = |bench: &Bench| json(&bench.run(&["status", "--json"]))["keys"].clone();
    assert_eq!(keys(&bench), json(&status)["keys"]);

    bench.write("sluis.toml", &CONFIG.replace("stop_seconds = 1", "stop_seconds = 2"));
    let taken = bench.run(&["reload"]);
    assert_eq!(code(&taken), 0, "{taken:?}");
    bench.write("sluis.toml", "[node]\n");
    running.signal(Signal::HUP);
    running.line("reload refused");
    bench.write("sluis.toml", CONFIG);
    running.signal(Signal::HUP);
    running.line("reloaded");

    assert!(socket_is_there(&bench));
    running.signal(Signal::TERM);
    running.line("stopped");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    assert!(!socket_is_there(&bench));
}
