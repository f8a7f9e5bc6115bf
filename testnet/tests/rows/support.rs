//! A network of nodes, what is asked of it, and what its answer and its record must say.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use testnet::net::client::{Call, Carriage, Envelope, connect};
use testnet::net::{Build, Fake, Home, Net, NodeProcess, Part, Tripwire, locate};
use testnet::pki::Identity;
use testnet::sink::{Answer, Stored};
use testnet::topology::Topology;
use tokio::time::timeout;

/// No good run ever waits for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Small limits, so that they can be exceeded.
pub const TOPOLOGY: &str = r#"
about = "Two nodes, and a domain that nobody can judge."
[[provider]]
id = "a"
name = "Provider A"
domains = ["a.nl"]
hosts = ["nta.a.nl"]
limits = { message_octets = 100_000, header_octets = 65_536, chunks = 1_000 }
[[provider]]
id = "b"
name = "Provider B"
domains = ["b.nl"]
hosts = ["nta.b.nl"]
limits = { message_octets = 100_000, header_octets = 65_536, chunks = 1_000 }
[[provider]]
id = "c"
name = "Provider C"
domains = ["c.nl"]
hosts = ["nta.c.nl"]
played_by = "nobody"
[[fault]]
zone = "c.nl"
trouble = "wrong_signature"
[[provider]]
id = "d"
name = "Provider D, whose server offers 8BITMIME and nothing else"
domains = ["d.nl"]
hosts = ["nta.d.nl"]
played_by = "testnet"
"#;

/// A topology of node `a` with these limits, node `b`, and `more`.
pub fn nodes(limits: &str, more: &str) -> String {
    format!(
        r#"
about = "Two nodes and what is wrong around them."
[[provider]]
id = "a"
name = "Provider A"
domains = ["a.nl"]
hosts = ["nta.a.nl"]
limits = {{ {limits} }}
[[provider]]
id = "b"
name = "Provider B"
domains = ["b.nl"]
hosts = ["nta.b.nl"]
{more}"#
    )
}

/// A provider of a topology whose one host is `nta.` and its first domain.
pub fn provider(id: &str, domains: &[&str], more: &str) -> String {
    let host = domains[0];
    format!(
        "[[provider]]\nid = \"{id}\"\nname = \"Provider {id}\"\ndomains = {domains:?}\nhosts = [\"nta.{host}\"]\n{more}\n"
    )
}

/// Who offers something.
#[derive(Clone, Copy)]
pub enum Who<'a> {
    /// The platform of `a`, to the node of `a`.
    Platform,
    /// A client of the testnet with this certificate, to the node of `b`.
    Peer(&'a Identity),
    /// A client of the testnet without one, to the node of `b`.
    Unproven,
}

impl<'n> Who<'n> {
    /// The node that is spoken to, the direction in its records, and the way to it.
    pub fn door(self, net: &'n Net) -> (&'n NodeProcess, &'static str, Call<'n>) {
        let (id, helo) = match self {
            Self::Platform => ("a", "platform.invalid"),
            Self::Peer(_) => ("b", "nta.a.nl"),
            Self::Unproven => ("b", "nta.c.nl"),
        };
        let provider = net.provider(id).unwrap();
        let node = provider.node().unwrap();
        let (server, ip) = &provider.placed.hosts[0];
        let peers = SocketAddr::new(*ip, net.plan.topology.smtp_port);
        let call = |address, identity| Call { address, server, helo, identity };
        match self {
            Self::Platform => (node, "submission", call(node.submission(), None)),
            Self::Peer(identity) => (node, "inbound", call(peers, Some(identity))),
            Self::Unproven => (node, "inbound", call(peers, None)),
        }
    }
}

/// One row: how it is brought about, and what it leads to.
pub struct Row {
    reason: &'static str,
    step: &'static str,
    from: &'static str,
    to: &'static str,
    parameters: &'static [&'static str],
    carriage: Carriage,
    content: String,
}

impl Row {
    pub fn new(reason: &'static str, step: &'static str, content: impl Into<String>) -> Self {
        let (from, to, carriage) = ("alice@a.nl", "bob@b.nl", Carriage::Data);
        Self { reason, step, from, to, parameters: &[], carriage, content: content.into() }
    }

    pub fn from(self, from: &'static str) -> Self {
        Self { from, ..self }
    }

    pub fn to(self, to: &'static str) -> Self {
        Self { to, ..self }
    }

    pub fn parameters(self, parameters: &'static [&'static str]) -> Self {
        Self { parameters, ..self }
    }

    pub fn carriage(self, carriage: Carriage) -> Self {
        Self { carriage, ..self }
    }
}

pub const HEAD: &str = "From: <alice@a.nl>\r\n";

pub fn plain() -> String {
    format!("{HEAD}\r\nx\r\n")
}

/// As this provider sends it to others.
pub fn signed_by(net: &Net, id: &str, from: &str, content: &str) -> String {
    let signed = net.provider(id).unwrap().placed.sign(from, content.as_bytes()).unwrap();
    String::from_utf8(signed).unwrap()
}

pub const PAGE: &str = include_str!("../../../spec/05-failures.md");

/// The row of the page: requirement, code with status, and status in a report.
pub fn row_of(reason: &str) -> [&'static str; 3] {
    let start = format!("| `{reason}` |");
    let row = PAGE.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{reason}"));
    let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
    [cells[2], cells[4], cells[5]]
}

/// The row happens, as its place in the page says.
pub async fn assert_row(net: &Net, who: Who<'_>, row: &Row) {
    let (node, direction, call) = who.door(net);
    let before = node.printed().len();
    let mut client = connect(&call).await.unwrap();
    let mut envelope = Envelope::plain(row.from, row.to, row.content.as_bytes());
    envelope.parameters.extend(row.parameters.iter().map(|&parameter| parameter.to_owned()));
    let offered = client.offer(&envelope, row.content.as_bytes(), row.carriage).await.unwrap();
    assert_eq!(
        offered.step,
        row.step,
        "{direction} {}: {} {}",
        row.reason,
        offered.reply.code,
        offered.reply.text()
    );
    assert_reply(row.reason, &format!("{} {}", offered.reply.code, offered.reply.text()));
    // A transaction whose only recipient was refused is over when its client says so.
    client.quit().await;
    assert_refusal(node, direction, row.reason, before).await;
}

/// The reply has code, status, requirement and reason of the row.
#[track_caller]
pub fn assert_reply(reason: &str, said: &str) {
    let [requirement, code, _] = row_of(reason);
    let names_both = said.starts_with(&format!("{code} {requirement} ")) && said.contains(reason);
    assert!(names_both, "{reason}: {said}");
}

/// So has the record of the refusal, which says that no content has left.
pub async fn assert_refusal(node: &NodeProcess, direction: &str, reason: &str, before: usize) {
    let record = node.refusal(direction, before).await.unwrap_or_else(|error| panic!("{reason}: {error}"));
    assert_record(&record, "refused", reason, "never");
}

#[track_caller]
pub fn assert_record(record: &Value, outcome: &str, reason: &str, content_left: &str) {
    let [requirement, ..] = row_of(reason);
    for (key, value) in [
        ("outcome", outcome),
        ("reason", reason),
        ("requirement", requirement),
        ("content_left", content_left),
    ] {
        assert_eq!(record[key], value, "{key}: {record}");
    }
}

pub fn with_net(test: impl AsyncFnOnce(&mut Net)) {
    with(TOPOLOGY, test);
}

/// Runs `test` in this topology; then nothing of what it refused is with the environment of `b`.
pub fn with(topology: &str, test: impl AsyncFnOnce(&mut Net)) {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap()).block_on(async {
        let program = locate(None, Build::IfNeeded).await.unwrap();
        let topology: Topology = topology.parse().unwrap_or_else(|error| panic!("{error}\n{topology}"));
        let net = Net::start(topology, &program, Home::Temporary, |_| ()).await;
        let mut net = net.unwrap_or_else(|error| panic!("{error}"));
        test(&mut net).await;
        nothing_arrived(&net).await;
        net.stop().await;
    });
}

/// An entry for a peer with a key that nobody has.
pub fn pinned(name: &str, host: &str) -> String {
    let key = "00".repeat(32);
    format!(
        "\n[[federation.peer]]\nname = \"{name}\"\nhosts = [\"{host}\"]\nidentity = \"pinned\"\npins = [\"sha256:{key}\"]\n"
    )
}

/// Changes the configuration of a node. The reload makes it forget what DNS said, too.
pub async fn configure(net: &Net, id: &str, change: impl FnOnce(String) -> String) {
    let node = net.node(id).unwrap();
    let text = std::fs::read_to_string(node.config()).unwrap();
    std::fs::write(node.config(), change(text)).unwrap();
    let reloaded = node.command(&["reload"]).await.unwrap();
    assert!(reloaded.status.success(), "{reloaded:?}");
}

/// The only recipient for whom tests send something good to the environment of `b`.
pub const GOOD: &str = "last@b.nl";

/// Something good, for [`GOOD`], comes after all that was refused; whatever the environment of `b` has is for it.
async fn nothing_arrived(net: &Net) {
    let sink = net.provider("b").unwrap().sink().unwrap();
    sink.answer_everybody(Answer::Accept);
    submit(net, "b", "carol@b.nl", GOOD, b"From: <carol@b.nl>\r\n\r\nx\r\n").await;
    let sent = |messages: &[Stored]| messages.iter().any(|stored| stored.sender == "carol@b.nl");
    let messages = timeout(PATIENCE, sink.wait_until(sent)).await.unwrap();
    let refused: Vec<_> = messages.iter().filter(|stored| stored.recipients != [GOOD]).collect();
    assert!(refused.is_empty(), "something of what was refused arrived: {refused:?}");
}

/// The platform of a provider submits a message, and its node takes it: under this id.
pub async fn submit(net: &Net, id: &str, from: &str, to: &str, content: &[u8]) -> String {
    let mut envelope = Envelope::plain(from, to, content);
    if !to.is_ascii() {
        envelope.parameters.push("SMTPUTF8".into());
    }
    let offered = net.submit(id, &envelope, content).await.unwrap();
    assert_eq!(offered.reply.code, 250, "{to}: {}", offered.reply.text());
    offered.reply.text().rsplit(' ').next().unwrap().to_owned()
}

/// The platform of `a` submits a message for this recipient, and its node makes a first attempt: id and record.
pub async fn first_attempt(net: &Net, to: &str) -> (String, Value) {
    let id = submit(net, "a", "alice@a.nl", to, plain().as_bytes()).await;
    let record = net.node("a").unwrap().outbound_record(&id).await.unwrap();
    (id, record)
}

/// The report that `alice@a.nl` got about her message for `to` has this status. Returns it.
pub async fn assert_reported(net: &Net, to: &str, status: &str) -> String {
    let sink = net.provider("a").unwrap().sink().unwrap();
    let about = |stored: &Stored| {
        let text = String::from_utf8(stored.content().unwrap()).unwrap();
        text.contains(to).then_some(text)
    };
    let waiting = sink.wait_until(|messages| messages.iter().any(|stored| about(stored).is_some()));
    let reports = timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("no report about {to}"));
    let (report, text) = reports.iter().find_map(|stored| Some((stored, about(stored)?))).unwrap();
    assert_eq!((report.sender.as_str(), &*report.recipients), ("", &["alice@a.nl".to_owned()][..]));
    assert!(text.contains(&format!("Status: {status}")), "{status}: {text}");
    text
}

/// What the testnet plays for a provider.
pub fn fake<'n>(net: &'n Net, id: &str) -> &'n Fake {
    let Part::Fake(server) = &net.provider(id).unwrap().part else {
        panic!("the testnet does not play {id}")
    };
    server
}

/// The hosts of a provider that nobody plays.
pub fn tripwire<'n>(net: &'n Net, id: &str) -> &'n Tripwire {
    let Part::Nobody(wire) = &net.provider(id).unwrap().part else { panic!("somebody plays {id}") };
    wire
}
