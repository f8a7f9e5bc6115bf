//! A node with a filter, an environment and a disk in memory: what reaches the mailbox, and what does not.
#![allow(clippy::unwrap_used)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};

use super::super::handoff::hand_off;
use super::super::node::Ground;
use super::*;
use crate::config::tests::{Bench, GOOD};
use crate::discovery::Discovery;
use crate::discovery::dns::testing::TableDns;
use crate::handoff::hook::testing::{FakeHook, PASS, Script, changed, in_chunks, rejecting};
use crate::model::{
    BodyType, ContentLeft, Digest, Level, MessageId, Outcome, Reason, Recipient, ReversePath,
};
use crate::spool::testing::PowerDisk;
use crate::spool::{Arrival, MasterKeys, NewMessage, Settings, Spool};
use crate::transport::tls::KeyRing;
use crate::world::{Clock, Link, ManualClock, Network, SeededRandom, World};

/// Content up to this size stands in the database, and a changed one in memory.
const INLINE: usize = 4096;

/// How the environment takes mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Into {
    Data,
    Chunk,
    Maildir,
}

/// What the LMTP server got.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mail {
    from: String,
    content: Vec<u8>,
}

#[derive(Clone)]
struct Wires {
    hook: FakeHook,
    chunking: bool,
    mails: Arc<Mutex<Vec<Mail>>>,
    busy: Arc<Mutex<bool>>,
}

#[async_trait]
impl Network for Wires {
    async fn connect(&self, target: SocketAddr, source: Option<IpAddr>) -> io::Result<Link> {
        if target.port() == 8080 {
            return self.hook.connect(target, source).await;
        }
        let (near, far) = duplex(1 << 16);
        let wires = self.clone();
        tokio::spawn(async move { wires.serve(BufReader::new(far)).await });
        Ok(Box::new(near))
    }
}

impl Wires {
    async fn serve(self, mut stream: BufReader<DuplexStream>) -> io::Result<()> {
        stream.write_all(b"220 environment\r\n").await?;
        let mut from = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let word = line.split([' ', ':', '\r']).next().unwrap().to_owned();
            let chunking = if self.chunking { "250-CHUNKING\r\n" } else { "" };
            let reply = match word.as_str() {
                "LHLO" => format!("250-x\r\n{chunking}250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"),
                "MAIL" => {
                    from = line.trim_end().to_owned();
                    "250 2.1.0 ok\r\n".to_owned()
                }
                "DATA" => {
                    stream.write_all(b"354 go\r\n").await?;
                    let mut content = Vec::new();
                    loop {
                        let mut line = Vec::new();
                        stream.read_until(b'\n', &mut line).await?;
                        if line == b".\r\n" {
                            break;
                        }
                        content.extend(line.strip_prefix(b".").unwrap_or(&line));
                    }
                    self.store(&from, content)
                }
                "BDAT" => {
                    let size = line.split_whitespace().nth(1).unwrap().parse().unwrap();
                    let mut content = vec![0; size];
                    stream.read_exact(&mut content).await?;
                    self.store(&from, content)
                }
                _ => "250 2.0.0 ok\r\n".to_owned(),
            };
            stream.write_all(reply.as_bytes()).await?;
        }
    }

    fn store(&self, from: &str, content: Vec<u8>) -> String {
        if *self.busy.lock().unwrap() {
            return "451 4.2.0 later\r\n".to_owned();
        }
        self.mails.lock().unwrap().push(Mail { from: from.to_owned(), content });
        "250 2.1.5 kept\r\n".to_owned()
    }
}

struct House {
    node: Node,
    wires: Wires,
    clock: Arc<ManualClock>,
    disk: PowerDisk,
    mailbox: PathBuf,
    _bench: Bench,
}

impl House {
    fn new(into: Into, script: Script) -> Self {
        let bench = Bench::new();
        let mailbox = bench.path().with_file_name("mail/a.example/piet");
        for part in ["tmp", "new"] {
            std::fs::create_dir_all(mailbox.join(part)).unwrap();
        }
        let environment = match into {
            Into::Maildir => "kind = \"maildir\"\npath = \"mail\"",
            Into::Data | Into::Chunk => "kind = \"lmtp\"\naddress = \"127.0.0.1:24\"",
        };
        let text = GOOD.replace("kind = \"lmtp\"\naddress = \"127.0.0.1:24\"", environment);
        let config = bench.parse(&format!("{text}\n[content_hook]\naddress = \"127.0.0.1:8080\"\n")).unwrap();
        let clock = ManualClock::at("2026-11-22T12:00:00Z".parse().unwrap());
        let wires = Wires {
            hook: FakeHook::new(script),
            chunking: into == Into::Chunk,
            mails: Arc::default(),
            busy: Arc::default(),
        };
        let world = World::with(Arc::clone(&clock) as Arc<dyn Clock>, SeededRandom::new(1));
        let world = World { network: Arc::new(wires.clone()), ..world };
        let disk = PowerDisk::default();
        let settings = Settings {
            cache_bytes: 1 << 20,
            inline_body_max: INLINE,
            reserve_octets: 0,
            ..config.spool.clone()
        };
        let keys = MasterKeys::parse("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
        let spool = Spool::open_on(disk.disk(), &keys, settings, world.clone()).unwrap();
        let dns = Box::new(TableDns::default());
        let discovery =
            Discovery::simulated(dns, config.discovery.cache, config.discovery.addresses, world.clone());
        let ring = KeyRing::new(config.keys.clone());
        let node = Node::on(Ground { spool, discovery, keys: ring }, config, world).unwrap();
        Self { node, wires, clock, disk, mailbox, _bench: bench }
    }

    /// The spool takes a message for piet@a.example that came this way.
    async fn accept(&self, origin: Origin, route: Route, content: &str) -> MessageId {
        let inner = &self.node.inner;
        let mut draft =
            inner.spool.draft(inner.world.message_id(), b"Received: by nta-a.a.example; today\r\n");
        draft.write(content.as_bytes()).await.unwrap();
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let arrival = Arrival {
            level: Some(Level::Mutual),
            domain: Some("b.example".parse().unwrap()),
            handoff_fields: vec![
                field("Authentication-Results", "nta-a.a.example; x-federation=pass"),
                field("Federation-Assurance", "mutual; domain=b.example"),
            ],
            ..Arrival::default()
        };
        let envelope = Envelope {
            sender: ReversePath::Address("jan@b.example".parse().unwrap()),
            recipients: vec![Recipient::plain("piet@a.example".parse().unwrap())],
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
        };
        let routes = vec![(route, vec![0])];
        let message = NewMessage { envelope, routes, arrival, origin, record: None };
        draft.accept(message).await.unwrap().message()
    }

    async fn peer_sent(&self, content: &str) -> MessageId {
        self.accept(Origin::Peer, Route::Environment, content).await
    }

    fn advance(&self, seconds: i64) {
        self.clock.advance(seconds * 1000);
    }

    /// Tries everything that is due into the environment; the records of that.
    async fn attempt(&self) -> Vec<DecisionRecord> {
        let inner = &self.node.inner;
        let mut records = Vec::new();
        for claim in inner.spool.take_due(inner.world.now(), 10_000) {
            if matches!(claim.route(), Route::Federation(_)) {
                continue;
            }
            let attempt = inner.spool.begin_attempt(claim).await.unwrap();
            let id = attempt.id();
            hand_off(&self.node, attempt, &self.node.live().environment).await.unwrap();
            records.push(inner.spool.record(id).await.unwrap().unwrap());
        }
        records
    }

    /// What is in the mailbox, without what a Maildir puts on top.
    fn mailbox(&self) -> Vec<Vec<u8>> {
        let mut all: Vec<_> =
            self.wires.mails.lock().unwrap().iter().map(|mail| mail.content.clone()).collect();
        for entry in std::fs::read_dir(self.mailbox.join("new")).unwrap() {
            let content = std::fs::read(entry.unwrap().path()).unwrap();
            let top = b"Return-Path: <jan@b.example>\r\nDelivered-To: piet@a.example\r\n";
            all.push(content.strip_prefix(top).unwrap().to_vec());
        }
        assert_eq!(std::fs::read_dir(self.mailbox.join("tmp")).unwrap().count(), 0);
        all
    }
}

const MESSAGE: &str =
    "From: Jan <jan@b.example>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nSubject: x\r\n\r\nInhoud\r\n";
const TOP: &str = "Authentication-Results: nta-a.a.example; x-federation=pass\r\nFederation-Assurance: mutual; domain=b.example\r\n";

/// [`MESSAGE`] as a hook is given it.
fn offered() -> String {
    format!("{TOP}Received: by nta-a.a.example; today\r\n{MESSAGE}")
}

/// A changed one of at least so many octets.
fn other(octets: usize) -> String {
    let body = "Een andere inhoud.\r\n".repeat(octets / 20);
    offered().replace("Inhoud\r\n", &format!("Anders\r\n.\r\n..\r\n{body}"))
}

/// What is to be in the mailbox then.
fn delivered(record: &DecisionRecord, message: &str) -> String {
    let (before, after) = (Digest::of(offered().as_bytes()), Digest::of(message.as_bytes()));
    let told = format!(
        "Federation-Content-Changed: by=nta-a.a.example;\r\n before={before};\r\n after={after};\r\n record={}\r\n",
        record.attempt
    );
    format!("{TOP}{told}{}", message.strip_prefix(TOP).unwrap_or(message))
}

#[track_caller]
fn assert_waits(record: &DecisionRecord) {
    assert_eq!(
        (record.outcome, record.reason),
        (Outcome::Later, Some(Reason::HookUnavailable)),
        "{record:?}"
    );
    assert_eq!((record.requirement.as_deref(), record.acts.as_deref()), (Some("HOOK-003"), Some("operator")));
    assert_eq!(record.content_left, ContentLeft::Never);
    let facts = record.content_hook.as_ref().unwrap();
    assert_eq!((facts.verdict, facts.after, facts.after_size), (HookVerdict::Unavailable, None, None));
    assert_eq!(record.hosts.len(), 1);
    assert_eq!(record.hosts[0].host, "hook 127.0.0.1:8080");
}

/// Proves: +HOOK-001 +HOOK-007 +HOOK-008 +HOOK-004
#[tokio::test]
async fn what_the_hook_made_of_it_arrives_however_it_is_handed_off() {
    for into in [Into::Data, Into::Chunk, Into::Maildir] {
        for octets in [0, 3 * INLINE] {
            let message = other(octets);
            let house = House::new(into, Script::saying(in_chunks(message.as_bytes(), 1000)));
            house.peer_sent(MESSAGE).await;
            let records = house.attempt().await;
            let [record] = records.as_slice() else { panic!("{records:?}") };
            assert_eq!(
                (record.outcome, record.content_left),
                (Outcome::Delivered, ContentLeft::Yes),
                "{record:?}"
            );
            let facts = record.content_hook.as_ref().unwrap();
            assert_eq!((facts.verdict, facts.hook.as_str()), (HookVerdict::Changed, "hook 127.0.0.1:8080"));
            assert_eq!(facts.before, Some(Digest::of(offered().as_bytes())));
            assert_eq!(facts.after, Some(Digest::of(message.as_bytes())));
            assert_eq!(facts.after_size, Some(message.len() as u64));
            assert_eq!(house.wires.hook.last_body(), offered().as_bytes());
            let expected = delivered(record, &message);
            assert_eq!(record.size, Some(expected.len() as u64));
            let arrived = house.mailbox();
            assert_eq!(arrived.len(), 1, "{into:?}");
            assert_eq!(String::from_utf8_lossy(&arrived[0]), expected, "{into:?}");
        }
    }
}

/// Proves: +HOOK-001 -HOOK-008
#[tokio::test]
async fn what_the_hook_lets_pass_arrives_as_it_came_and_says_nothing_of_a_change() {
    for answer in [PASS.as_bytes().to_vec(), changed(offered().as_bytes())] {
        let house = House::new(Into::Data, Script::saying(answer));
        // Somebody outside pretends that our filter changed it.
        let forged = MESSAGE
            .replace("Subject: x\r\n", "Federation-Content-Changed: by=nta-a.a.example\r\nSubject: x\r\n");
        house.peer_sent(&forged).await;
        let records = house.attempt().await;
        let facts = records[0].content_hook.as_ref().unwrap();
        assert_eq!((facts.verdict, facts.after), (HookVerdict::Passed, None));
        assert_eq!(house.wires.hook.last_body(), offered().as_bytes(), "without the forged field");
        assert_eq!(house.mailbox(), [offered().into_bytes()]);
    }
}

/// The filter dies while it answers, at every octet: nothing is handed off, in whatever state its answer is. When it is back,
/// each message arrives once, as it was changed.
///
/// Proves: +HOOK-003 -HOOK-003 -HOOK-004 -HOOK-001
#[tokio::test]
async fn t32_the_hook_dies_at_every_octet_of_its_answer() {
    for (into, octets, step) in [(Into::Data, 0, 1), (Into::Maildir, 2 * INLINE, 37)] {
        let message = other(octets);
        let whole = in_chunks(message.as_bytes(), 1 << 20);
        let house = House::new(into, Script::saying(""));
        let mut messages = 0;
        for end in (0..whole.len()).step_by(step) {
            house.wires.hook.script(Some(Script::saying(&whole[..end])));
            house.peer_sent(MESSAGE).await;
            let records = house.attempt().await;
            let [record] = records.as_slice() else { panic!("{records:?}") };
            assert_waits(record);
            assert!(house.mailbox().is_empty(), "after {end} octets");
            messages += 1;
        }
        assert_eq!(house.node.inner.spool.counts().waiting, messages);
        house.wires.hook.script(Some(Script::saying(whole)));
        house.advance(120);
        let records = house.attempt().await;
        let mut expected: Vec<_> =
            records.iter().map(|record| delivered(record, &message).into_bytes()).collect();
        let mut arrived = house.mailbox();
        expected.sort();
        arrived.sort();
        assert_eq!((arrived.len(), arrived == expected), (messages, true));
        // Nothing of any answer stays on the disk.
        house.node.inner.spool.prune_records().await.unwrap();
        house.node.inner.spool.close().await;
        assert_eq!(house.disk.file_names(), Vec::<String>::new());
    }
}

/// Proves: -HOOK-005
#[tokio::test]
async fn t02_nothing_is_smuggled_through_the_filter_into_any_hand_off() {
    let smuggled = "MAIL FROM:<mallory@c.example>\r\nRCPT TO:<piet@a.example>\r\nDATA\r\nFrom: <mallory@c.example>\r\n\r\nx";
    for into in [Into::Data, Into::Chunk, Into::Maildir] {
        let house = House::new(into, Script::saying(""));
        for end in [
            "\n.\n",
            "\n.\r\n",
            "\r.\r",
            "\r.\r\n",
            "\r\n.\r",
            "\r\n.\n",
            "\r\n\0.\r\n",
            "\r\0\n.\r\n",
            "\r\r\n.\r\n",
            "\n\n",
            "\0",
        ] {
            let message = offered().replace("Inhoud", &format!("Inhoud{end}{smuggled}"));
            house.wires.hook.script(Some(Script::saying(changed(message.as_bytes()))));
            house.peer_sent(MESSAGE).await;
            assert_waits(&house.attempt().await[0]);
            assert!(house.mailbox().is_empty(), "{end:?}");
        }
        // What is lawful in a line is one message, whatever it looks like.
        let lawful = offered().replace("Inhoud", &format!("Inhoud\r\n.\r\n{smuggled}"));
        house.wires.hook.script(Some(Script::saying(changed(lawful.as_bytes()))));
        house.peer_sent(MESSAGE).await;
        let records = house.attempt().await;
        assert_eq!(house.mailbox(), [delivered(&records[0], &lawful).into_bytes()], "{into:?}");
    }
}

/// Proves: +HOOK-007 -HOOK-007
#[tokio::test]
async fn t02_a_hook_neither_forges_nor_removes_what_we_say() {
    let message = offered().strip_prefix(TOP).unwrap().to_owned();
    for forged in [
        "",
        "Federation-Assurance: mutual; domain=c.example\r\n",
        "Authentication-Results: nta-a.a.example; x-federation=pass policy.domain=c.example\r\n",
        "AUTHENTICATION-results :\r\n nta-a.a.example; x-federation=pass\r\n",
        "Federation-Content-Changed: by=somebody.example\r\n",
        "federation-content-changed\t: no\r\nFederation-Assurance:x\r\n",
    ] {
        let house = House::new(Into::Data, Script::saying(changed(format!("{forged}{message}").as_bytes())));
        house.peer_sent(MESSAGE).await;
        let records = house.attempt().await;
        let arrived = String::from_utf8(house.mailbox().pop().unwrap()).unwrap();
        let after = Digest::of(format!("{forged}{message}").as_bytes());
        let expected = delivered(&records[0], &message)
            .replace(&Digest::of(message.as_bytes()).to_string(), &after.to_string());
        assert_eq!(arrived, expected, "{forged}");
    }
    // Another author is no change of this message.
    let house = House::new(Into::Data, Script::saying(changed(message.replace("jan@b", "jan@c").as_bytes())));
    house.peer_sent(MESSAGE).await;
    assert_waits(&house.attempt().await[0]);
    assert!(house.mailbox().is_empty());
}

/// Proves: +HOOK-005
#[tokio::test]
async fn octets_that_the_hook_brought_in_are_announced() {
    let message = offered().replace("Inhoud", "Één");
    let house = House::new(Into::Data, Script::saying(changed(message.as_bytes())));
    house.peer_sent(MESSAGE).await;
    house.attempt().await;
    let mails = house.wires.mails.lock().unwrap().clone();
    assert_eq!(mails[0].from, "MAIL FROM:<jan@b.example> BODY=8BITMIME");
}

/// Proves: +HOOK-009 -HOOK-009
#[tokio::test]
async fn what_the_hook_rejects_goes_back_with_its_words() {
    let house =
        House::new(Into::Data, Script::saying(rejecting(422, "Wij nemen geen bijlagen aan.\r\nregel 7")));
    let message = house.peer_sent(MESSAGE).await;
    let records = house.attempt().await;
    let record = &records[0];
    assert_eq!((record.outcome, record.reason), (Outcome::Returned, Some(Reason::HookRejected)));
    assert_eq!((record.requirement.as_deref(), record.content_left), (Some("HOOK-009"), ContentLeft::Never));
    assert_eq!(record.content_hook.as_ref().unwrap().verdict, HookVerdict::Rejected);
    assert_eq!(record.recipients[0].code.as_deref(), Some("550 5.7.1"));
    assert_eq!(record.recipients[0].text.as_deref(), Some("Wij nemen geen bijlagen aan."));
    assert!(house.mailbox().is_empty());
    let report = record.report.as_ref().unwrap().message;
    let mut text = String::new();
    house.node.inner.spool.content(report).await.unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("550 5.7.1 Wij nemen geen bijlagen aan."), "{text}");
    assert!(!text.contains("8080") && !text.contains("regel 7"), "{text}");
    assert!(house.node.inner.spool.content(message).await.is_err(), "it is settled");
}

/// Proves: -HOOK-001 -HOOK-011
#[tokio::test]
async fn only_mail_of_other_providers_is_filtered_and_each_attempt_asks_anew() {
    let house = House::new(Into::Data, Script::saying(""));
    house.wires.hook.script(None);
    // Our own reports, and mail of our own platform to its fallback, are none of its business.
    house.accept(Origin::Own, Route::Environment, MESSAGE).await;
    house.accept(Origin::Submission, Route::Fallback, MESSAGE).await;
    for record in house.attempt().await {
        assert_eq!((record.outcome, &record.content_hook), (Outcome::Delivered, &None));
    }
    assert_eq!((house.mailbox().len(), house.wires.hook.heard().len()), (2, 0));
    // A hook that changed its mind, because the environment took its time.
    house.peer_sent(MESSAGE).await;
    let (first, second) = (other(0), other(50));
    *house.wires.busy.lock().unwrap() = true;
    house.wires.hook.script(Some(Script::saying(changed(first.as_bytes()))));
    let records = house.attempt().await;
    assert_eq!((records[0].outcome, records[0].reason), (Outcome::Later, Some(Reason::EnvironmentTemporary)));
    assert_eq!(records[0].content_hook.as_ref().unwrap().after, Some(Digest::of(first.as_bytes())));
    *house.wires.busy.lock().unwrap() = false;
    house.wires.hook.script(Some(Script::saying(changed(second.as_bytes()))));
    house.advance(120);
    let records = house.attempt().await;
    assert_eq!(records[0].content_hook.as_ref().unwrap().after, Some(Digest::of(second.as_bytes())));
    assert_eq!(house.mailbox().pop().unwrap(), delivered(&records[0], &second).into_bytes());
    assert_eq!(house.wires.hook.heard().len(), 2);
}

/// Proves: +HOOK-003
#[tokio::test]
async fn when_the_hook_is_back_what_waits_for_it_is_tried_at_once() {
    let house = House::new(Into::Data, Script::saying(PASS));
    house.wires.hook.script(None);
    for _ in 0..3 {
        house.peer_sent(MESSAGE).await;
    }
    // Tries again after about one minute, then two, four, eight.
    for seconds in [0, 120, 240, 480] {
        house.advance(seconds);
        let records = house.attempt().await;
        assert_eq!(records.len(), 3);
        records.iter().for_each(assert_waits);
    }
    house.wires.hook.script(Some(Script::saying(PASS)));
    house.advance(10);
    house.peer_sent(MESSAGE).await;
    assert_eq!(house.attempt().await.len(), 1, "the others are not due");
    assert_eq!(house.attempt().await.len(), 3, "now they are");
    assert_eq!(house.mailbox().len(), 4);
}

/// A full disk is a fault of our own, and the message waits.
///
/// Proves: -HOOK-004
#[tokio::test]
async fn a_changed_message_for_which_there_is_no_room_is_not_handed_off() {
    let message = other(3 * INLINE);
    let house = House::new(Into::Data, Script::saying(changed(message.as_bytes())));
    house.peer_sent(MESSAGE).await;
    house.disk.set_free(1000);
    let records = house.attempt().await;
    assert_eq!(records[0].outcome, Outcome::Later, "{records:?}");
    assert_eq!(records[0].reason, Some(Reason::SpoolFull));
    assert!(house.mailbox().is_empty());
    house.disk.set_free(1 << 40);
    house.advance(120);
    let records = house.attempt().await;
    assert_eq!(house.mailbox(), [delivered(&records[0], &message).into_bytes()]);
}
