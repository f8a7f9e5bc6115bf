//! Every message of a topology, once, and whether what became of it is what the topology expects.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use super::client::{Offered, connect};
use super::expect::added_fields;
use super::message::{Letter, write};
use super::{Net, NetError, Part, Provider};
use crate::sink::{Sink, Stored};
use crate::topology::{ClientCertificate, Expectation, Level, Message};

/// How long a message may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of one message.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// What it shows.
    pub about: String,
    /// Envelope sender.
    pub from: String,
    /// Recipient.
    pub to: String,
    /// The binding between the providers.
    pub transport: &'static str,
    /// The level in the sender's record, when it arrived.
    pub assurance: Option<String>,
    /// Whether the other side confirmed that level.
    pub peer_confirmed: bool,
    /// Whether it arrived, octet for octet.
    pub delivered: bool,
    /// From the end of the submission to the environment, in milliseconds.
    pub latency_ms: Option<i64>,
    /// Reply code, when it was refused.
    pub code: Option<u16>,
    /// The reason for not arriving, as the node gives it.
    pub reason: Option<String>,
    /// Whether all this is as expected.
    pub ok: bool,
    /// What is not.
    pub problems: Vec<String>,
}

/// Runs every message of the network's topology, one after the other.
///
/// # Errors
/// Something on this machine is in the way; what the node does wrong is in the lines.
pub async fn run(net: &Net, mut progress: impl FnMut(&Line)) -> Result<Vec<Line>, NetError> {
    let mut lines = Vec::new();
    for (number, message) in net.plan.topology.expected().into_iter().enumerate() {
        let line = one(net, &message, number).await?;
        progress(&line);
        lines.push(line);
    }
    Ok(lines)
}

async fn one(net: &Net, message: &Message, number: usize) -> Result<Line, NetError> {
    let letter = write(message, number, Timestamp::now());
    let sender = net.plan.topology.sender_of(message).and_then(|sender| net.provider(&sender.id));
    let Some(sender) = sender else {
        return Err(NetError::Machine { what: message.about.clone(), why: "nobody sends it".to_owned() });
    };
    let mut case = Case { net, message, letter, line: Line::new(message) };
    match &sender.part {
        Part::Node { .. } => case.by_node(sender).await?,
        Part::Fake(_) | Part::Nobody => case.by_testnet(sender).await?,
    }
    case.line.ok = case.line.problems.is_empty();
    Ok(case.line)
}

impl Line {
    fn new(message: &Message) -> Self {
        Self {
            about: message.about.clone(),
            from: message.from.clone(),
            to: message.to.clone(),
            transport: "smtp",
            assurance: None,
            peer_confirmed: false,
            delivered: false,
            latency_ms: None,
            code: None,
            reason: None,
            ok: false,
            problems: Vec::new(),
        }
    }
}

struct Case<'a> {
    net: &'a Net,
    message: &'a Message,
    letter: Letter,
    line: Line,
}

impl Case<'_> {
    /// The platform of a provider submits to its node.
    async fn by_node(&mut self, sender: &Provider) -> Result<(), NetError> {
        let Part::Node { node, .. } = &sender.part else { return Ok(()) };
        let mut client = connect(node.submission(), "platform.invalid", None).await?;
        let offered = client.offer(&self.message.from, &self.message.to, &self.letter.content).await?;
        let submitted = Timestamp::now();
        if offered.reply.code != 250 {
            self.refused(&offered);
            return self.nothing_arrived();
        }
        let Some(id) = offered.reply.text.rsplit(' ').next().map(str::to_owned) else { return Ok(()) };
        match &self.message.expect {
            Expectation::Delivered { assurance } => {
                self.arrives(submitted).await?;
                let record = node.outbound_record(&id).await?;
                self.check_delivered(&record, *assurance);
            }
            Expectation::Later { reason } => {
                let record = node.outbound_record(&id).await?;
                self.check_record(&record, "later", reason);
                self.nothing_arrived()?;
            }
            Expectation::Returned { reason } => {
                let record = node.outbound_record(&id).await?;
                self.check_record(&record, "returned", reason);
                self.nothing_arrived()?;
            }
            Expectation::Refused { code, .. } => {
                self.problem(format!("accepted as {id} instead of refused with {code}"));
            }
        }
        Ok(())
    }

    /// The testnet itself speaks to the recipient's node.
    async fn by_testnet(&mut self, sender: &Provider) -> Result<(), NetError> {
        let identity = match &sender.placed.provider.client_certificate {
            ClientCertificate::Own => Some(&sender.placed.certificate),
            ClientCertificate::None => None,
            ClientCertificate::Of(id) => self.net.provider(id).map(|other| &other.placed.certificate),
        };
        let Some(recipient) = self.recipient() else { return Ok(()) };
        let address = SocketAddr::new(recipient.placed.hosts[0].1, self.net.plan.topology.smtp_port);
        let name = &sender.placed.provider.hosts[0];
        let mut client = connect(address, name, identity).await?;
        let offered = client.offer(&self.message.from, &self.message.to, &self.letter.content).await?;
        if offered.reply.code == 250 {
            if matches!(self.message.expect, Expectation::Delivered { .. }) {
                return self.arrives(Timestamp::now()).await;
            }
            self.problem("accepted".to_owned());
            return Ok(());
        }
        self.refused(&offered);
        self.nothing_arrived()
    }

    fn recipient(&self) -> Option<&Provider> {
        let domain = self.message.to.rsplit_once('@')?.1;
        self.net.provider(&self.net.plan.topology.provider_of(domain)?.id)
    }

    fn sink(&self) -> Option<&Sink> {
        match &self.recipient()?.part {
            Part::Node { sink, .. } => Some(sink),
            Part::Fake(_) | Part::Nobody => None,
        }
    }

    fn problem(&mut self, what: String) {
        self.line.problems.push(what);
    }

    fn refused(&mut self, offered: &Offered) {
        let reply = &offered.reply;
        self.line.code = Some(reply.code);
        let Expectation::Refused { code, reason } = &self.message.expect else {
            self.line.reason = Some(reply.text.clone());
            return self.problem(format!("refused at {}: {} {}", offered.step, reply.code, reply.text));
        };
        if reply.text.contains(&format!(" {reason}: ")) {
            self.line.reason = Some(reason.clone());
        } else {
            self.line.reason = Some(reply.text.clone());
            self.problem(format!("the reply does not name {reason}"));
        }
        if reply.code != *code {
            self.problem(format!("refused with {} instead of {code}", reply.code));
        }
    }

    /// Not an octet of the message is where it must not be.
    fn nothing_arrived(&mut self) -> Result<(), NetError> {
        let token = self.letter.token.clone();
        let found = self.sink().is_some_and(|sink| find(&sink.messages(), &token).is_some());
        let offered = match self.recipient().map(|recipient| &recipient.part) {
            Some(Part::Fake(fake)) => fake.was_offered_mail(),
            _ => false,
        };
        if found || offered {
            self.problem("something of the message reached the other side".to_owned());
        }
        Ok(())
    }

    async fn arrives(&mut self, submitted: Timestamp) -> Result<(), NetError> {
        let token = self.letter.token.clone();
        let Some(sink) = self.sink() else { return Ok(()) };
        let arrival = sink.wait_until(|messages| find(messages, &token).is_some());
        let stored =
            timeout(PATIENCE, arrival).await.ok().and_then(|messages| find(&messages, &token).cloned());
        let Some(stored) = stored else {
            self.problem("it did not arrive within a minute".to_owned());
            return Ok(());
        };
        self.line.latency_ms = Some(
            i64::try_from(stored.arrived.duration_since(submitted).as_millis()).unwrap_or(i64::MAX).max(0),
        );
        let got = stored.content().map_err(NetError::machine("reading what arrived"))?;
        match added_fields(&got, &self.letter.content) {
            Err(difference) => self.problem(difference),
            Ok(fields) => {
                self.line.delivered = true;
                self.check_verdict(&fields);
            }
        }
        Ok(())
    }

    /// What the recipient's environment was told.
    fn check_verdict(&mut self, fields: &[(String, String)]) {
        let Expectation::Delivered { assurance } = &self.message.expect else { return };
        let level = word(*assurance);
        let verdicts: Vec<_> = fields.iter().filter(|(name, _)| name == "federation-assurance").collect();
        match verdicts.as_slice() {
            [(_, value)] if value.split(';').next().map(str::trim) == Some(level) => {}
            other => self.problem(format!("the environment was told {other:?} instead of {level}")),
        }
    }

    fn check_delivered(&mut self, record: &Value, level: Level) {
        self.line.assurance = record["assurance"].as_str().map(str::to_owned);
        let hosts = record["hosts"].as_array().cloned().unwrap_or_default();
        let served = hosts.iter().find(|host| host["reason"].is_null());
        self.line.peer_confirmed = served.is_some_and(|host| !host["peer_confirmed"].is_null());
        if record["outcome"] != "delivered" {
            self.problem(format!("the record says {}", record["outcome"]));
        }
        if self.line.assurance.as_deref() != Some(word(level)) {
            self.problem(format!("the record says level {}", record["assurance"]));
        }
        if level == Level::Mutual && !self.line.peer_confirmed {
            self.problem("the other side did not confirm the level".to_owned());
        }
    }

    fn check_record(&mut self, record: &Value, outcome: &str, reason: &str) {
        self.line.reason = record["reason"].as_str().map(str::to_owned);
        if record["outcome"] != outcome {
            self.problem(format!("the record says {} instead of {outcome}", record["outcome"]));
        }
        if record["reason"] != reason {
            self.problem(format!("the record gives {} instead of {reason}", record["reason"]));
        }
        if record["content_left"] != "never" {
            self.problem(format!("content left: {}", record["content_left"]));
        }
    }
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::Mutual => "mutual",
        Level::Nta7516 => "nta7516",
    }
}

fn find<'a>(messages: &'a [Stored], token: &str) -> Option<&'a Stored> {
    let needle = format!("<{token}>");
    messages.iter().find(|stored| {
        stored
            .content()
            .is_ok_and(|content| content.windows(needle.len()).any(|part| part == needle.as_bytes()))
    })
}
