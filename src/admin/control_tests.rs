//! The socket from both ends, with a real spool behind it.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::control::{Action, SendEnvelope};
use super::*;
use crate::config::{Control, LogAddresses};
use crate::model::{DeliveryId, Digest, Envelope, MessageId, Reason, Recipient};
use crate::spool::{Arrival, Draft, Filter, NewMessage, Origin, Phase, Route, Settings, Spool};
use crate::trust::{Correspondents, HeaderLimits, SectionReader};
use crate::world::World;

/// A node that only has a spool. It refuses recipients at `refused.example`.
struct Bare {
    observer: Observer,
    spool: Spool,
    world: World,
    got: Mutex<Vec<Digest>>,
    health: Mutex<Health>,
    reload: Mutex<Result<Reloaded, ReloadRefusal>>,
}

#[async_trait]
impl Operations for Bare {
    fn status(&self) -> Status {
        Status {
            node: "nta-a.a.example".parse().unwrap(),
            version: "0".into(),
            process: 1,
            started: self.world.now(),
            configured: self.world.now(),
            domains: Vec::new(),
            listeners: Vec::new(),
            spool: self.spool.counts(),
            health: self.health(),
            keys: Vec::new(),
            weakened: Vec::new(),
            resting: Vec::new(),
            location: None,
        }
    }

    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    fn observer(&self) -> &Observer {
        &self.observer
    }

    fn spool(&self) -> &Spool {
        &self.spool
    }

    fn hurry(&self, _delivery: DeliveryId) {}

    async fn submit(
        &self,
        envelope: Envelope,
        mut content: ContentStream,
    ) -> Result<Submitted, SubmitRefusal> {
        let refuse = |recipient: Option<&Recipient>, detail: &str, temporary| SubmitRefusal {
            recipient: recipient.map(|recipient| recipient.address.clone()),
            reason: Reason::RecordAbsent,
            requirement: "DISC-001".into(),
            detail: detail.into(),
            temporary,
        };
        let refused = envelope.recipients.iter().find(|to| to.address.domain().as_str() == "refused.example");
        if let Some(recipient) = refused {
            return Err(refuse(Some(recipient), "takes no part", false));
        }
        let mut hasher = crate::model::Hasher::default();
        let message = self.world.message_id();
        let mut draft = self.spool.draft(message, b"");
        while let Some(block) = content.recv().await {
            let block = block.map_err(|error| refuse(None, &error.to_string(), true))?;
            hasher.update(&block);
            draft.write(&block).await.unwrap();
        }
        self.got.lock().unwrap().push(hasher.finish());
        accept(draft, envelope).await;
        Ok(Submitted { message })
    }

    async fn explain_message(
        &self,
        mut content: ContentStream,
        dns_only: bool,
    ) -> Result<ReplyReport, ReplyRefusal> {
        let mut section = Vec::new();
        while let Some(octets) = content.recv().await {
            section.extend_from_slice(&octets?);
        }
        let mut reader = SectionReader::new(10_000);
        reader.push(&section)?;
        let found = crate::trust::correspondents(&reader.finish(), HeaderLimits::default(), 9)?;
        Ok(report_of(found, dns_only))
    }

    async fn explain_stored(&self, message: MessageId, dns_only: bool) -> Result<ReplyReport, ReplyRefusal> {
        self.spool.message(message).await?;
        Ok(ReplyReport { message: Some(message), ..report_of(Correspondents::default(), dns_only) })
    }

    async fn reload(&self) -> Result<Reloaded, ReloadRefusal> {
        self.reload.lock().unwrap().clone()
    }
}

fn report_of(found: Correspondents, dns_only: bool) -> ReplyReport {
    let mut report = ReplyReport {
        answer: String::new(),
        reply: Answer::Yes,
        reply_all: Answer::Yes,
        message: None,
        delegate: found.delegate,
        addresses: Vec::new(),
        faults: found.faults,
        beyond: found.people.len(),
        dns_only,
    };
    report.conclude();
    report
}

async fn accept(draft: Draft, envelope: Envelope) {
    let all = (0..envelope.recipients.len()).collect();
    let routes = vec![(Route::Federation("b.example".parse().unwrap()), all)];
    let new = NewMessage {
        envelope,
        routes,
        arrival: Arrival::default(),
        origin: Origin::Submission,
        record: None,
    };
    draft.accept(new).await.unwrap();
}

struct Running {
    node: Arc<Bare>,
    client: ControlClient,
    socket: PathBuf,
    task: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

async fn running() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let world = World::system();
    let spool = Spool::open(Settings::at(dir.path().join("spool")), world.clone()).unwrap();
    let node = Arc::new(Bare {
        observer: Observer::new(LogAddresses::Pseudonymous).unwrap(),
        spool,
        world,
        got: Mutex::default(),
        health: Mutex::default(),
        reload: Mutex::new(Ok(Reloaded::default())),
    });
    let socket = dir.path().join("run/control.sock");
    let listener = control::bind(&Control { socket: socket.clone(), mode: 0o600 }).unwrap();
    let router = control::router(node.clone());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Running { node, client: ControlClient::new(socket.clone()), socket, task, _dir: dir }
}

fn envelope(to: &str) -> SendEnvelope {
    SendEnvelope { from: "jan@a.example".into(), to: vec![to.into()], smtputf8: false }
}

fn blocks(all: Vec<std::io::Result<Bytes>>) -> ContentStream {
    let (sender, receiver) = mpsc::channel(all.len().max(1));
    for block in all {
        sender.try_send(block).unwrap();
    }
    receiver
}

/// Proves: +OPS-004 -OPS-004
#[tokio::test]
async fn the_socket_is_for_its_owner_and_there_is_one_node() {
    let running = running().await;
    let mode = std::fs::metadata(&running.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = control::bind(&Control { socket: running.socket.clone(), mode: 0o600 });
    assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(running.client.status().await.unwrap().node.as_str(), "nta-a.a.example");
    running.task.abort();
    let _ = running.task.await;
    // What a crash leaves behind does not stand in the way; a group is admitted when the operator says so.
    let fresh = control::bind(&Control { socket: running.socket.clone(), mode: 0o660 }).unwrap();
    assert_eq!(std::fs::metadata(&running.socket).unwrap().permissions().mode() & 0o777, 0o660);
    drop(fresh);
    let gone = running.client.status().await.unwrap_err();
    assert!(matches!(gone, ControlError::NotRunning { .. }), "{gone}");
}

#[tokio::test]
async fn a_message_goes_in_and_is_held_released_retried_and_returned() {
    let running = running().await;
    let client = &running.client;
    let content: Vec<u8> = (0..300_000_u32).map(|n| b'a' + u8::try_from(n % 23).unwrap()).collect();
    let parts = content.chunks(70_000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    let sent = client.send(&envelope("piët@b.example"), blocks(parts)).await.unwrap();
    assert_eq!(*running.node.got.lock().unwrap(), [Digest::of(&content)]);

    let listed = client.list(&Filter::default()).await.unwrap().deliveries;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].recipients[0].address.as_ref().unwrap().to_string(), "piët@b.example");
    let id = DeliveryId { message: sent.message, route: 0 }.to_string();
    client.act(&id, Action::Hold).await.unwrap();
    let held =
        Filter { phase: Some(Phase::Held), domain: Some("b.example".parse().unwrap()), ..Filter::default() };
    assert_eq!(client.list(&held).await.unwrap().deliveries.len(), 1);
    let other = Filter { domain: Some("c.example".parse().unwrap()), ..Filter::default() };
    assert!(client.list(&other).await.unwrap().deliveries.is_empty());

    let twice = client.act(&id, Action::Hold).await.unwrap_err();
    assert!(matches!(&twice, ControlError::Refused(_)), "{twice}");
    client.act(&id, Action::Release).await.unwrap();
    client.act(&id, Action::Retry).await.unwrap();
    let shown = client.show(&id).await.unwrap();
    assert_eq!(shown.message.unwrap().deliveries[0].phase, Phase::Waiting);
    client.act(&id, Action::Return).await.unwrap();
}

#[tokio::test]
async fn refusals_come_with_their_reason() {
    let running = running().await;
    let client = &running.client;
    let refused = client.send(&envelope("x@refused.example"), blocks(vec![])).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "x@refused.example: not accepted: takes no part (DISC-001, record_absent)"
    );
    let broken = vec![Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("cut"))];
    assert!(client.send(&envelope("y@b.example"), blocks(broken)).await.is_err());
    assert!(running.node.got.lock().unwrap().is_empty(), "a message that broke off is not accepted");

    for (from, to) in [("no address", "y@b.example"), ("a@a.example", "b.example\r\nX: y")] {
        let envelope = SendEnvelope { from: from.into(), to: vec![to.into()], smtputf8: false };
        assert!(matches!(client.send(&envelope, blocks(vec![])).await, Err(ControlError::Refused(_))));
    }
    let nobody = SendEnvelope { from: String::new(), to: Vec::new(), smtputf8: false };
    assert!(matches!(client.send(&nobody, blocks(vec![])).await, Err(ControlError::Refused(_))));
    let unknown = MessageId::from_parts(1, 1).to_string();
    for id in ["../reload", "x y", "", "zzz", unknown.as_str()] {
        assert!(matches!(client.show(id).await, Err(ControlError::Refused(_))), "{id}");
        assert!(matches!(client.act(id, Action::Hold).await, Err(ControlError::Refused(_))), "{id}");
    }
}

/// Proves: +OPS-005 -OPS-005
#[tokio::test]
async fn a_reload_is_taken_or_refused_as_a_whole_and_counted() {
    let running = running().await;
    running.client.reload().await.unwrap();
    let problems = vec!["a key is not visible".to_owned()];
    *running.node.reload.lock().unwrap() = Err(ReloadRefusal { problems: problems.clone() });
    match running.client.reload().await.unwrap_err() {
        ControlError::NotReloaded(refusal) => assert_eq!(refusal.problems, problems),
        other => panic!("{other}"),
    }
    let text = running.node.observer.metrics().text(SpoolGauges::default());
    assert!(text.contains("sluis_reloads_total{result=\"taken\"} 1"), "{text}");
    assert!(text.contains("sluis_reloads_total{result=\"refused\"} 1"), "{text}");
}

async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn health_tells_a_restart_from_a_rest() {
    let running = running().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = http::router(running.node.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let ask = async |path: &str, health: Health| {
        *running.node.health.lock().unwrap() = health;
        get(address, path).await
    };
    let stopping = Health { not_ready: vec!["stopping".into()], ..Health::default() };
    let broken = Health { broken: vec!["the spool is broken".into()], ..Health::default() };
    assert_eq!(ask("/health", Health::default()).await.0, 200);
    assert_eq!(ask("/health/live", stopping.clone()).await.0, 200);
    let (status, text) = ask("/health/ready", stopping).await;
    assert_eq!((status, text.contains("stopping")), (503, true));
    assert_eq!(ask("/health/live", broken).await.0, 503);
    let (status, text) = ask("/metrics", Health::default()).await;
    assert!(status == 200 && text.ends_with("# EOF\n"), "{text}");
}

/// Proves: +RPLY-008 -RPLY-008
#[tokio::test]
async fn a_message_is_explained_whether_it_is_given_or_stored() {
    let running = running().await;
    let client = &running.client;
    let given = b"From: jan@a.example\r\nTo: piet@b.example\r\nCc: (odd\r\n\r\nbody".to_vec();
    let report = client.explain_message(blocks(vec![Ok(given.into())]), true).await.unwrap();
    assert_eq!((report.beyond, report.dns_only, report.message), (2, true, None));
    assert_eq!(report.faults[0].what, "has a comment that does not end");
    let wrong = client.explain_message(blocks(vec![Ok(Bytes::from_static(b"nothing"))]), false).await;
    assert!(wrong.unwrap_err().to_string().contains("the message can't be read"));

    let sent = client.send(&envelope("piet@b.example"), blocks(vec![Ok(Bytes::from_static(b"x"))])).await;
    let id = sent.unwrap().message;
    for text in [id.to_string(), format!("{id}.0")] {
        assert_eq!(client.explain(&text, false).await.unwrap().message, Some(id));
    }
    let unknown = MessageId::from_parts(1, 1).to_string();
    assert!(matches!(client.explain(&unknown, false).await, Err(ControlError::Refused(_))));
    assert!(client.explain("nonsense", false).await.unwrap_err().to_string().contains("not an identifier"));
}
