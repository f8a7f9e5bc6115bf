//! Rows of the table of failed checks (`spec/05-failures.md`) that a client brings about by what it says: each with its code,
//! its reason in the reply and in the decision record, and nothing of the message with anybody. The rows about DNS and hosts are
//! those of the topology `faults`.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use testnet::dns::RrType;
use testnet::net::client::{Call, Carriage, Envelope, connect};
use testnet::net::{Build, Home, Net, Part, locate};
use testnet::pki::{CertSpec, Identity};
use testnet::sink::Answer;
use testnet::topology::Topology;
use tokio::time::timeout;

const TOPOLOGY: &str = r#"
about = "Two nodes, and a domain that nobody can judge."
[[provider]]
id = "a"
name = "Provider A"
domains = ["a.nl"]
hosts = ["nta.a.nl"]
[[provider]]
id = "b"
name = "Provider B"
domains = ["b.nl"]
hosts = ["nta.b.nl"]
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

/// What each node is told beyond what the testnet writes. Small limits, so that they can be exceeded.
const SETTINGS: &str = "\n[limits]\nmessage_octets = 100_000\nheader_octets = 65_536\n";

/// Who offers something.
#[derive(Clone, Copy)]
enum Who<'a> {
    /// The platform of `a`, to the node of `a`.
    Platform,
    /// A client of the testnet with this certificate, to the node of `b`.
    Peer(&'a Identity),
}

/// One row: how it is brought about, and what it leads to.
struct Row {
    reason: &'static str,
    step: &'static str,
    from: &'static str,
    to: &'static str,
    parameters: &'static [&'static str],
    content: String,
}

impl Row {
    fn new(reason: &'static str, step: &'static str, content: impl Into<String>) -> Self {
        let content = content.into();
        Self { reason, step, from: "alice@a.nl", to: "bob@b.nl", parameters: &[], content }
    }

    fn from(self, from: &'static str) -> Self {
        Self { from, ..self }
    }

    fn to(self, to: &'static str) -> Self {
        Self { to, ..self }
    }

    fn parameters(self, parameters: &'static [&'static str]) -> Self {
        Self { parameters, ..self }
    }
}

const HEAD: &str = "From: <alice@a.nl>\r\n";

fn plain() -> String {
    format!("{HEAD}\r\nx\r\n")
}

/// Rows of content and envelope, the same at both borders.
fn rows() -> Vec<Row> {
    let lines = |line: &str, count| format!("{HEAD}{}\r\nx\r\n", format!("{line}\r\n").repeat(count));
    vec![
        Row::new("message_too_large", "MAIL", plain()).parameters(&["SIZE=100001"]),
        Row::new("message_too_large", "content", format!("{}{}", plain(), "a line\r\n".repeat(13_000))),
        Row::new(
            "header_too_large",
            "content",
            lines("X-Long: a field that is repeated until it is too much", 1_200),
        ),
        Row::new("header_too_large", "content", lines("X: y", 1_001)),
        Row::new("mail_loop", "content", lines("Received: by x; y", 101)),
        Row::new("from_malformed", "content", lines(HEAD.trim_end(), 1)),
        Row::new("from_malformed", "content", "Subject: nobody\r\n\r\nx\r\n"),
        Row::new("null_sender_not_report", "content", plain()).from(""),
    ]
}

/// The row of the page: requirement, and code with status.
fn row_of(reason: &str) -> (String, String) {
    let page = include_str!("../../spec/05-failures.md");
    let start = format!("| `{reason}` |");
    let row = page.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{reason}"));
    let cells: Vec<_> = row.split('|').map(str::trim).collect();
    (cells[2].to_owned(), cells[4].trim_matches('`').to_owned())
}

async fn assert_row(net: &Net, who: Who<'_>, row: &Row) {
    let Row { reason, step, from, to, parameters, content } = row;
    let (node, direction, call) = match who {
        Who::Platform => {
            let node = net.node("a").unwrap();
            let address = node.submission();
            (
                node,
                "submission",
                Call { address, server: "nta.a.nl", helo: "platform.invalid", identity: None },
            )
        }
        Who::Peer(identity) => {
            let ip = net.provider("b").unwrap().placed.hosts[0].1;
            let address = SocketAddr::new(ip, net.plan.topology.smtp_port);
            let call = Call { address, server: "nta.b.nl", helo: "nta.a.nl", identity: Some(identity) };
            (net.node("b").unwrap(), "inbound", call)
        }
    };
    let before = node.printed().len();
    let mut client = connect(&call).await.unwrap();
    let mut envelope = Envelope::plain(from, to, content.as_bytes());
    envelope.parameters.extend(parameters.iter().map(|&parameter| parameter.to_owned()));
    let offered = client.offer(&envelope, content.as_bytes(), Carriage::Data).await.unwrap();
    let said = format!("{} {}", offered.reply.code, offered.reply.text());
    let (requirement, code) = row_of(reason);
    assert_eq!(offered.step, *step, "{direction} {reason}: {said}");
    assert!(
        said.starts_with(&format!("{code} {requirement} ")) && said.contains(reason),
        "{direction} {reason}: {said}"
    );
    // A transaction whose only recipient was refused is over when its client says so.
    client.quit().await;
    let record = node.refusal(direction, before).await.unwrap_or_else(|error| panic!("{reason}: {error}"));
    assert_eq!(
        (&record["reason"], &record["requirement"]),
        (&(*reason).into(), &requirement.into()),
        "{record}"
    );
    assert_eq!(record["content_left"], "never");
}

fn with_net(test: impl AsyncFnOnce(&Net)) {
    with(TOPOLOGY, test);
}

fn with(topology: &str, test: impl AsyncFnOnce(&Net)) {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap()).block_on(async {
        let program = locate(None, Build::IfNeeded).await.unwrap();
        let topology: Topology = topology.parse().unwrap();
        let net = Net::start(topology, &program, Home::Temporary, |_| ()).await;
        let net = net.unwrap_or_else(|error| panic!("{error}"));
        for id in ["a", "b"] {
            configure(&net, id, |text| text + SETTINGS).await;
        }
        test(&net).await;
        nothing_arrived(&net).await;
        net.stop().await;
    });
}

/// An entry for a peer with a key that nobody has.
fn pinned(name: &str, host: &str) -> String {
    let key = "00".repeat(32);
    format!(
        "\n[[federation.peer]]\nname = \"{name}\"\nhosts = [\"{host}\"]\nidentity = \"pinned\"\npins = [\"sha256:{key}\"]\n"
    )
}

async fn configure(net: &Net, id: &str, change: impl FnOnce(String) -> String) {
    let node = net.node(id).unwrap();
    let text = std::fs::read_to_string(node.config()).unwrap();
    std::fs::write(node.config(), change(text)).unwrap();
    let reloaded = node.command(&["reload"]).await.unwrap();
    assert!(reloaded.status.success(), "{reloaded:?}");
}

/// Something good, to another recipient, is the first and only thing that the environment of `b` gets.
async fn nothing_arrived(net: &Net) {
    let b = net.provider("b").unwrap();
    let sink = b.sink().unwrap();
    sink.answer_everybody(Answer::Accept);
    let node = net.node("b").unwrap();
    let mut client = connect(&Call {
        address: node.submission(),
        server: "nta.b.nl",
        helo: "platform.invalid",
        identity: None,
    })
    .await
    .unwrap();
    let content = b"From: <carol@b.nl>\r\n\r\nx\r\n";
    let envelope = Envelope::plain("carol@b.nl", "last@b.nl", content);
    let offered = client.offer(&envelope, content, Carriage::Data).await.unwrap();
    assert_eq!(offered.reply.code, 250, "{}", offered.reply.text());
    client.quit().await;
    let messages = timeout(Duration::from_secs(60), sink.wait_for(1)).await.unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].recipients, ["last@b.nl"], "something of what was refused arrived");
}

/// Proves: -SMTP-014 -SMTP-019 -LIM-006 -IDEN-014 -IDEN-015 +REC-001 -REC-001 +REC-002 -REC-002
#[test]
fn our_own_platform_is_refused_by_the_row() {
    with_net(async |net| {
        for row in rows() {
            assert_row(net, Who::Platform, &row).await;
        }
        // A client that is none of ours.
        configure(net, "a", |text| text.replace("\"127.0.0.0/8\"", "\"192.0.2.0/24\"")).await;
        assert_row(net, Who::Platform, &Row::new("client_denied", "MAIL", plain())).await;
    });
}

/// Proves: -SMTP-014 -SMTP-018 -SMTP-019 -LIM-006 -IDEN-010 -IDEN-014 -IDEN-015 +REC-001 -REC-001 +REC-002 -REC-002
#[test]
fn a_proven_peer_is_refused_by_the_row() {
    with_net(async |net| {
        let own = &net.provider("a").unwrap().placed.certificate;
        for row in rows() {
            assert_row(net, Who::Peer(own), &row).await;
        }
        let doubtful = Row::new("sender_dns_temporary", "MAIL", plain()).from("carol@c.nl");
        assert_row(net, Who::Peer(own), &doubtful).await;
        let sink = net.provider("b").unwrap().sink().unwrap();
        sink.answer("nobody@b.nl", Answer::Unknown);
        sink.answer("busy@b.nl", Answer::TemporaryAtRcpt);
        for (reason, to) in [("recipient_unknown", "nobody@b.nl"), ("environment_temporary", "busy@b.nl")] {
            assert_row(net, Who::Peer(own), &Row::new(reason, "RCPT", plain()).to(to)).await;
        }
    });
}

/// Proves: -IDEN-007 -IDEN-012 -LIM-003
#[test]
fn a_client_without_the_right_key_or_with_too_many_messages_is_refused_by_the_row() {
    with_net(async |net| {
        let own = &net.provider("a").unwrap().placed.certificate;
        let names = (1..=5).map(|number| format!("nta-{number}.a.nl"));
        let crowded = CertSpec::new("nta.a.nl").names(names).self_signed(Timestamp::now()).unwrap();
        assert_row(net, Who::Peer(&crowded), &Row::new("client_certificate_invalid", "MAIL", plain())).await;

        let other_key = pinned("a", "nta.a.nl");
        configure(net, "b", |text| text + &other_key).await;
        assert_row(net, Who::Peer(own), &Row::new("client_pin_mismatch", "MAIL", plain())).await;

        // One message in a minute; the second one is one too many, and a reload has brought the limit into force.
        configure(net, "b", |text| text.replace(&other_key, "messages_per_peer_per_minute = 1\n")).await;
        assert_row(net, Who::Peer(own), &Row::new("from_malformed", "content", "Subject: x\r\n\r\nx\r\n"))
            .await;
        assert_row(net, Who::Peer(own), &Row::new("over_budget", "MAIL", plain())).await;
    });
}

/// Proves: -SMTP-015
#[test]
fn what_the_other_sides_server_cannot_take_comes_back() {
    with_net(async |net| {
        let (a, d) = (net.provider("a").unwrap(), net.provider("d").unwrap());
        let node = a.node().unwrap();
        let address = node.submission();
        let call = Call { address, server: "nta.a.nl", helo: "platform.invalid", identity: None };
        let content = "From: <alice@a.nl>\r\nSubject: gr\u{fc}n\r\n\r\nx\r\n".as_bytes();
        let mut envelope = Envelope::plain("alice@a.nl", "b\u{f6}b@d.nl", content);
        envelope.parameters.push("SMTPUTF8".into());
        let mut client = connect(&call).await.unwrap();
        let offered = client.offer(&envelope, content, Carriage::Data).await.unwrap();
        client.quit().await;
        assert_eq!(offered.reply.code, 250, "{}", offered.reply.text());
        let record = node.outbound_record(offered.reply.text().rsplit(' ').next().unwrap()).await.unwrap();
        let (requirement, _) = row_of("no_smtputf8");
        let expected = [("outcome", "returned"), ("reason", "no_smtputf8"), ("content_left", "never")];
        for (key, value) in [&expected[..], &[("requirement", &*requirement)]].concat() {
            assert_eq!(record[key], value, "{record}");
        }
        let Part::Fake(server) = &d.part else { panic!("the testnet plays it") };
        assert!(!server.was_offered_mail(), "{:?}", server.heard());
        let reports = timeout(Duration::from_secs(60), a.sink().unwrap().wait_for(1)).await.unwrap();
        assert_eq!(
            (reports[0].sender.as_str(), &*reports[0].recipients),
            ("", &["alice@a.nl".to_owned()][..])
        );
        let report = String::from_utf8(reports[0].content().unwrap()).unwrap();
        assert!(report.contains("5.6.7"), "{report}");
    });
}

/// The platform of `a` submits a message for this recipient, and its node makes a first attempt: id and record.
async fn first_attempt(net: &Net, to: &str) -> (String, Value) {
    let node = net.node("a").unwrap();
    let address = node.submission();
    let call = Call { address, server: "nta.a.nl", helo: "platform.invalid", identity: None };
    let envelope = Envelope::plain("alice@a.nl", to, plain().as_bytes());
    let mut client = connect(&call).await.unwrap();
    let offered = client.offer(&envelope, plain().as_bytes(), Carriage::Data).await.unwrap();
    client.quit().await;
    assert_eq!(offered.reply.code, 250, "{to}: {}", offered.reply.text());
    let id = offered.reply.text().rsplit(' ').next().unwrap().to_owned();
    let record = node.outbound_record(&id).await.unwrap();
    (id, record)
}

#[track_caller]
fn assert_record(record: &Value, outcome: &str, reason: &str, content_left: &str) {
    let (requirement, _) = row_of(reason);
    for (key, value) in [
        ("outcome", outcome),
        ("reason", reason),
        ("requirement", &*requirement),
        ("content_left", content_left),
    ] {
        assert_eq!(record[key], value, "{key}: {record}");
    }
}

/// The manners of a server, and what they lead to: manner, outcome of the attempt, reason, whether content may have left.
const MANNERS: [(&str, &str, &str, &str); 7] = [
    ("talks_nonsense", "later", "peer_protocol", "never"),
    ("hangs_up", "later", "connection_lost", "never"),
    ("refuses_recipients", "returned", "peer_permanent", "never"),
    ("busy_with_recipients", "later", "peer_temporary", "never"),
    ("refuses_content", "returned", "peer_permanent", "yes"),
    ("busy_with_content", "later", "peer_temporary", "yes"),
    ("loses_reply", "later", "reply_lost", "possibly"),
];

/// Proves: -SMTP-016 -SMTP-022 +REC-002 -REC-002
#[test]
fn what_the_other_sides_server_says_or_fails_to_say_leads_to_its_row() {
    let mut topology = TOPOLOGY.to_owned();
    for (number, (manner, ..)) in MANNERS.iter().enumerate() {
        let name = format!("m{number}");
        topology += &format!(
            "[[provider]]\nid = \"{name}\"\nname = \"{manner}\"\ndomains = [\"{name}.nl\"]\nhosts = [\"nta.{name}.nl\"]\n\
             played_by = \"testnet\"\nserver = \"{manner}\"\n"
        );
    }
    with(&topology, async |net| {
        for (number, (manner, outcome, reason, content_left)) in MANNERS.into_iter().enumerate() {
            let (_, record) = first_attempt(net, &format!("bob@m{number}.nl")).await;
            assert_record(&record, outcome, reason, content_left);
            // What the record says of the content is what the other side saw of it.
            let Part::Fake(server) = &net.provider(&format!("m{number}")).unwrap().part else {
                panic!("the testnet plays it")
            };
            let saw = server.heard().iter().any(|line| line.starts_with("content "));
            assert_eq!(saw, content_left != "never", "{manner}: {:?}", server.heard());
        }
    });
}

/// Proves: -IDEN-012
#[test]
fn a_host_that_cannot_be_had_or_is_another_one_is_left() {
    with_net(async |net| {
        const HOST: &str = "nta.d.nl";
        let d = net.provider("d").unwrap();
        let silent = net.provider("c").unwrap().placed.private;
        let Part::Fake(server) = &d.part else { panic!("the testnet plays it") };
        let at = |address: Option<IpAddr>| {
            net.dns
                .update(|tree| {
                    tree.remove(HOST, RrType::A);
                    if let Some(address) = address {
                        tree.address(HOST, address);
                    }
                })
                .unwrap();
        };
        // Each change is followed by a reload, which forgets what DNS said.
        let same = |text: String| text;
        at(None);
        configure(net, "a", same).await;
        assert_record(&first_attempt(net, "bob@d.nl").await.1, "later", "host_no_address", "never");
        at(Some(silent));
        configure(net, "a", same).await;
        assert_record(&first_attempt(net, "bob@d.nl").await.1, "later", "connect_failed", "never");
        at(Some(d.placed.hosts[0].1));
        let other_key = pinned("d", HOST);
        configure(net, "a", |text| text + &other_key).await;
        let (id, record) = first_attempt(net, "bob@d.nl").await;
        assert_record(&record, "later", "pin_mismatch", "never");
        assert!(!server.was_offered_mail(), "{:?}", server.heard());

        // The operator gives it up.
        let node = net.node("a").unwrap();
        let before = node.printed().len();
        let returned = node.command(&["spool", "return", &format!("{id}.0")]).await.unwrap();
        assert!(returned.status.success(), "{returned:?}");
        let record = node.ended_attempt("outbound", "returned", before).await.unwrap();
        assert_record(&record, "returned", "operator_returned", "never");
    });
}

/// Proves: -HAND-001
#[test]
fn what_our_own_environment_will_not_take_comes_back() {
    with_net(async |net| {
        let b = net.provider("b").unwrap();
        b.sink().unwrap().answer("unwanted@b.nl", Answer::Reject);
        let node = b.node().unwrap();
        let before = node.printed().len();
        let (_, record) = first_attempt(net, "unwanted@b.nl").await;
        assert_eq!(record["outcome"], "delivered", "to the other provider: {record}");
        let record = node.ended_attempt("handoff", "returned", before).await.unwrap();
        assert_record(&record, "returned", "environment_permanent", "yes");
        let own = net.provider("a").unwrap().sink().unwrap();
        let reports = timeout(Duration::from_secs(60), own.wait_for(1)).await.unwrap();
        assert_eq!(
            (reports[0].sender.as_str(), &*reports[0].recipients),
            ("", &["alice@a.nl".to_owned()][..])
        );
    });
}
