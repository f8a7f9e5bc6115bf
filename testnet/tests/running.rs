//! A running node under its operator's hands while mail passes: new keys and settings, an end, a portal behind it.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use testnet::dns::RrType;
use testnet::letters::Letter;
use testnet::net::client::{Call, Carriage, Envelope, Session, connect};
use testnet::net::{Build, Home, Net, NodeProcess, locate};
use testnet::pki::CertSpec;
use testnet::sink::{Listen, Sink, Stored};
use testnet::topology::Topology;
use tokio::time::timeout;

/// No good run ever waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn with_net<F: Future<Output = ()>>(topology: Topology, test: impl FnOnce(Net) -> F) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let program = locate(None, Build::IfNeeded).await.unwrap();
        let net = Net::start(topology, &program, Home::Temporary, |_| ()).await;
        test(net.unwrap_or_else(|error| panic!("{error}"))).await;
    });
}

/// The platform of `a`.
async fn platform(net: &Net) -> Session {
    let call = Call {
        address: net.node("a").unwrap().submission(),
        server: "nta.a.nl",
        helo: "platform.invalid",
        identity: None,
    };
    connect(&call).await.unwrap()
}

/// The testnet as another vendor's node of `b`, at the node of `a`.
async fn peer(net: &Net) -> Session {
    let call = Call {
        address: SocketAddr::new(net.provider("a").unwrap().placed.hosts[0].1, net.plan.topology.smtp_port),
        server: "nta.a.nl",
        helo: "nta.b.nl",
        identity: Some(&net.provider("b").unwrap().placed.certificate),
    };
    connect(&call).await.unwrap()
}

/// A message, and the place in it where a test pauses: beyond every buffer on the way.
struct Halves {
    content: Vec<u8>,
    pause: usize,
}

fn halves(from: &str, subject: &str) -> Halves {
    let line = "a line of a message that takes its time\r\n";
    let head = format!("From: <{from}>\r\nSubject: {subject}\r\n\r\n");
    Halves::of([head, line.repeat(50_000)].concat().into_bytes())
}

/// What `b` sends to others is signed.
fn signed(net: &Net, content: &[u8]) -> Vec<u8> {
    net.provider("b").unwrap().placed.sign("bob@b.nl", content).unwrap()
}

impl Halves {
    const fn of(content: Vec<u8>) -> Self {
        Self { pause: content.len() / 2, content }
    }

    fn signed(&self, net: &Net) -> Self {
        Self::of(signed(net, &self.content))
    }

    fn first(&self) -> &[u8] {
        &self.content[..self.pause]
    }

    fn rest(&self) -> Vec<u8> {
        [&self.content[self.pause..], b".\r\n"].concat()
    }
}

async fn begin(client: &mut Session, from: &str, to: &str) {
    for command in [format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{to}>")] {
        let reply = client.command(&command).await.unwrap();
        assert_eq!(reply.code, 250, "{command}: {}", reply.text());
    }
}

async fn begin_data(client: &mut Session, from: &str, to: &str, first: &[u8]) {
    begin(client, from, to).await;
    assert_eq!(client.command("DATA").await.unwrap().code, 354);
    client.write(first).await.unwrap();
}

/// Offers a small message.
async fn offer(client: &mut Session, from: &str, to: &str) -> (u16, String) {
    offer_content(client, from, to, &small(from)).await
}

fn small(from: &str) -> Vec<u8> {
    format!("From: <{from}>\r\nSubject: small\r\n\r\nx\r\n").into_bytes()
}

async fn offer_content(client: &mut Session, from: &str, to: &str, content: &[u8]) -> (u16, String) {
    let offered = client.offer(&Envelope::plain(from, to, content), content, Carriage::Data).await.unwrap();
    (offered.reply.code, offered.reply.text())
}

/// The id that a node gave to a message it accepted.
fn accepted((code, text): (u16, String)) -> String {
    assert_eq!(code, 250, "{text}");
    text.rsplit(' ').next().unwrap().to_owned()
}

async fn arrived(sink: &Sink, recipient: &str) -> Stored {
    let is = |stored: &&Stored| stored.recipients == [recipient];
    let waiting = sink.wait_until(|messages| messages.iter().any(|stored| is(&stored)));
    let messages = timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("nothing for {recipient}"));
    messages.iter().find(is).unwrap().clone()
}

fn assert_arrived(stored: &Stored, sent: &[u8]) {
    let recipients = stored.recipients.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let letter = Letter {
        envelope: Envelope::plain(&stored.sender, &recipients, sent),
        carriage: Carriage::Data,
        content: sent.to_vec(),
    };
    assert_eq!(letter.difference(&stored.content().unwrap()), None, "{recipients}");
}

fn configure(node: &NodeProcess, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(node.config()).unwrap();
    std::fs::write(node.config(), change(text)).unwrap();
}

/// `sluis reload`: its exit code and everything it says.
async fn reload(node: &NodeProcess) -> (Option<i32>, String) {
    let output = node.command(&["reload"]).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn size(client: &Session) -> &str {
    client.keywords().iter().find_map(|keyword| keyword.strip_prefix("SIZE ")).unwrap()
}

/// Proves: +OPS-005 -OPS-005 +OPS-006 -OPS-006
#[test]
fn t24_reload_takes_new_keys_and_settings_while_mail_passes() {
    with_net(Topology::three_providers(), async |net| {
        let node = net.node("a").unwrap();
        let old = net.provider("a").unwrap().placed.certificate.clone();
        let (submitted, from_peer) =
            (halves("alice@a.nl", "ours"), halves("bob@b.nl", "theirs").signed(&net));

        // Under way: content half sent, by the platform and by a peer; a transaction before its content; a session.
        let mut sending = platform(&net).await;
        begin_data(&mut sending, "alice@a.nl", "under-way@b.nl", submitted.first()).await;
        let mut receiving = peer(&net).await;
        begin_data(&mut receiving, "bob@b.nl", "under-way@a.nl", from_peer.first()).await;
        let mut before_content = peer(&net).await;
        begin(&mut before_content, "bob@b.nl", "before-content@a.nl").await;
        let mut idle = platform(&net).await;

        // The operator changes the key and a limit, and has not published the key.
        let new =
            CertSpec::new("nta.a.nl").names(["nta.a.nl".to_owned()]).self_signed(Timestamp::now()).unwrap();
        new.write(node.config().parent().unwrap(), "node").unwrap();
        configure(node, |text| text + "\n[limits]\nmessage_octets = 1_000_000\n");
        let (code, said) = reload(node).await;
        assert_eq!(code, Some(1), "{said}");
        for record in ["_2525._tcp.nta.a.nl. IN TLSA 3 1 1 ", "_smtp-client.nta.a.nl. IN TLSA 3 1 1 "] {
            assert!(said.contains(record), "{said}");
        }
        // Refused as a whole: neither the key nor the limit is in force.
        let session = platform(&net).await;
        assert_eq!((session.certificate(), size(&session)), (old.chain().first(), "67108864"));
        session.quit().await;

        // Published beside the old one, it is taken.
        let both = [old.tlsa_311().unwrap(), new.tlsa_311().unwrap()];
        net.dns
            .update(|tree| {
                tree.replace_tlsa("_2525._tcp.nta.a.nl", &both).replace_tlsa("_smtp-client.nta.a.nl", &both);
            })
            .unwrap();
        let (code, said) = reload(node).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("keys: the new value is in force") && said.contains("limits: "), "{said}");

        // New sessions use both, in both roles: the peer checks the client key that `a` shows it.
        let mut fresh = platform(&net).await;
        assert_eq!((fresh.certificate(), size(&fresh)), (new.chain().first(), "1000000"));
        let id = accepted(offer(&mut fresh, "alice@a.nl", "fresh@b.nl").await);
        let record = node.outbound_record(&id).await.unwrap();
        assert_eq!(
            (&record["outcome"], &record["assurance"]),
            (&Value::from("delivered"), &Value::from("mutual"))
        );
        assert_eq!(peer(&net).await.certificate(), new.chain().first());

        // What was under way ends as it began, beyond the new limit.
        sending.write(&submitted.rest()).await.unwrap();
        assert_eq!(sending.reply().await.unwrap().code, 250);
        receiving.write(&from_peer.rest()).await.unwrap();
        assert_eq!(receiving.reply().await.unwrap().code, 250);
        assert_eq!(before_content.command("DATA").await.unwrap().code, 354);
        let content = signed(&net, b"From: <bob@b.nl>\r\n\r\nx\r\n");
        before_content.write(&[&content[..], b".\r\n"].concat()).await.unwrap();
        assert_eq!(before_content.reply().await.unwrap().code, 250);
        accepted(offer(&mut idle, "alice@a.nl", "idle@b.nl").await);

        let (a, b) = (net.provider("a").unwrap().sink().unwrap(), net.provider("b").unwrap().sink().unwrap());
        assert_arrived(&arrived(b, "under-way@b.nl").await, &submitted.content);
        assert_arrived(&arrived(a, "under-way@a.nl").await, &from_peer.content);
        assert_arrived(&arrived(a, "before-content@a.nl").await, &content);
        arrived(b, "idle@b.nl").await;
        net.stop().await;
    });
}

/// Providers whose hosts nobody plays, so that what is accepted for them waits.
fn with_absent() -> Topology {
    r#"
about = "One node, and providers that are not there."
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
played_by = "nobody"
[[provider]]
id = "c"
name = "Provider C"
domains = ["c.nl"]
hosts = ["nta.c.nl"]
played_by = "nobody"
[[fault]]
zone = "c.nl"
trouble = "wrong_signature"
"#
    .parse()
    .unwrap()
}

/// What waits in a node's spool.
async fn waiting(node: &NodeProcess) -> Vec<Value> {
    node.ask(&["spool", "list"]).await.unwrap()["deliveries"].as_array().unwrap().clone()
}

/// Proves: +OPS-009 -OPS-009 +SPOOL-001
#[test]
fn a_node_that_is_told_to_stop_finishes_what_it_can_and_keeps_what_it_answered_for() {
    with_net(with_absent(), async |mut net| {
        let node = net.node("a").unwrap();
        configure(node, |text| text + "\n[limits]\nstop_seconds = 6\n");
        let (code, said) = reload(node).await;
        assert_eq!(code, Some(0), "{said}");

        let content = halves("alice@a.nl", "in time");
        let mut in_time = platform(&net).await;
        begin_data(&mut in_time, "alice@a.nl", "in-time@b.nl", content.first()).await;
        let mut never = platform(&net).await;
        begin_data(&mut never, "alice@a.nl", "never@b.nl", content.first()).await;
        let theirs = halves("bob@b.nl", "never").signed(&net);
        let mut never_theirs = peer(&net).await;
        begin_data(&mut never_theirs, "bob@b.nl", "never@a.nl", theirs.first()).await;
        let (mut idle, mut idle_peer) = (platform(&net).await, peer(&net).await);

        node.ask_to_stop();
        // Sessions without a transaction hear of it unasked, and no new one begins.
        for session in [&mut idle, &mut idle_peer] {
            let reply = session.reply().await.unwrap();
            assert_eq!((reply.code, reply.text().get(..5)), (421, Some("4.3.2")), "{}", reply.text());
        }
        let call = Call { address: node.submission(), server: "nta.a.nl", helo: "x.invalid", identity: None };
        assert!(connect(&call).await.is_err(), "a new session");

        // A transaction has its time …
        in_time.write(&content.rest()).await.unwrap();
        let reply = in_time.reply().await.unwrap();
        let id = accepted((reply.code, reply.text()));
        // … and no more than that.
        for session in [&mut never, &mut never_theirs] {
            let reply = session.reply().await.unwrap();
            assert_eq!((reply.code, reply.text().get(..5)), (421, Some("4.3.2")), "{}", reply.text());
        }
        let node = net.node_mut("a").unwrap();
        let status = node.stop().await;
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", node.printed());

        // What was answered for is there; what was not is not.
        node.restart().await.unwrap();
        let deliveries = waiting(node).await;
        assert_eq!(deliveries.len(), 1, "{deliveries:?}");
        assert_eq!(deliveries[0]["recipients"][0]["address"], "in-time@b.nl");
        assert_eq!(node.ask(&["spool", "show", &id]).await.unwrap()["message"]["message"], id.as_str());
        let mut fresh = peer(&net).await;
        let content = signed(&net, &small("bob@b.nl"));
        accepted(offer_content(&mut fresh, "bob@b.nl", "fresh@a.nl", &content).await);
        let sink = net.provider("a").unwrap().sink().unwrap();
        arrived(sink, "fresh@a.nl").await;
        assert_eq!(sink.messages().len(), 1, "{:?}", sink.messages());
        net.stop().await;
    });
}

/// Proves: +SUBM-003 +SUBM-004 -SUBM-004
#[test]
fn only_what_is_surely_not_federated_goes_to_the_portal() {
    with_net(with_absent(), async |net| {
        let node = net.node("a").unwrap();
        let listen = Listen::Unix(net.directory().join("portal.sock"));
        let mail = net.directory().join("portal");
        let portal = Sink::start(listen, &mail, testnet::clock::system()).await.unwrap();
        let fallback = format!("\n[fallback]\nkind = \"lmtp\"\naddress = \"{}\"\n", portal.address());
        configure(node, |text| text + &fallback);
        assert_eq!(reload(node).await.0, Some(0));

        // A clear no has its way: the portal.
        let mut client = platform(&net).await;
        accepted(offer(&mut client, "alice@a.nl", "first@nowhere.nl").await);
        arrived(&portal, "first@nowhere.nl").await;

        // Doubt has not: the platform keeps it …
        let (code, text) = offer(&mut client, "alice@a.nl", "doubt@c.nl").await;
        assert_eq!(code, 451, "{text}");
        assert!(text.starts_with("4.4.3 ") && text.contains("dns_bogus"), "{text}");
        client.quit().await;
        // … or the node, if the operator says so.
        configure(node, |text| text.replace("temporary = \"refuse\"", "temporary = \"queue\""));
        assert_eq!(reload(node).await.0, Some(0));
        let mut client = platform(&net).await;
        let doubtful = accepted(offer(&mut client, "alice@a.nl", "doubt@c.nl").await);
        let federated = accepted(offer(&mut client, "alice@a.nl", "gone@b.nl").await);
        for (message, reason) in [(&doubtful, Some("dns_bogus")), (&federated, None)] {
            let record = node.outbound_record(message).await.unwrap();
            assert_eq!(record["outcome"], "later", "{record}");
            assert!(reason.is_none_or(|reason| record["reason"] == reason), "{record}");
        }

        // Now both domains surely take no part. Their messages were accepted for the federation: they come back.
        net.dns
            .update(|tree| {
                tree.heal().remove("b.nl", RrType::Txt).remove("c.nl", RrType::Txt);
            })
            .unwrap();
        assert_eq!(reload(node).await.0, Some(0), "a reload forgets what DNS said");
        for delivery in waiting(node).await {
            let id = &delivery["delivery"];
            let id = format!("{}.{}", id["message"].as_str().unwrap(), id["route"]);
            let output = node.command(&["spool", "retry", &id]).await.unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        let own = net.provider("a").unwrap().sink().unwrap();
        let reports = timeout(PATIENCE, own.wait_for(2)).await.expect("two reports");
        for report in &reports {
            assert_eq!((report.sender.as_str(), &*report.recipients), ("", &["alice@a.nl".to_owned()][..]));
        }
        node.settled().await.unwrap();

        // On the same way after all of them: the portal got this one and the first, and nothing between.
        accepted(offer(&mut client, "alice@a.nl", "last@nowhere.nl").await);
        arrived(&portal, "last@nowhere.nl").await;
        let got: Vec<_> = portal.messages().into_iter().flat_map(|stored| stored.recipients).collect();
        assert_eq!(got, ["first@nowhere.nl", "last@nowhere.nl"]);
        net.stop().await;
    });
}
