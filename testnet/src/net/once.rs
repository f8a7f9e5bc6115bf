//! Every message of a topology, once, and whether what became of it is what the topology expects.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use super::client::{Call, Carriage, Envelope, Offered, connect};
use super::expect::added_fields;
use super::message::{Letter, write};
use super::verdicts::Verdicts;
use super::{Net, NetError, NodeProcess, Part, Provider};
use crate::pki::Identity;
use crate::sink::Stored;
use crate::topology::{ClientCertificate, Expectation, Level, Message, Signature};

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
    /// The level that the recipient's environment was told; of a message that did not arrive, the one in the sender's record.
    pub assurance: Option<String>,
    /// Whether the other side's node confirmed level `mutual` in its EHLO answer, to the node or to the testnet's client.
    pub peer_confirmed: bool,
    /// Whether it arrived, octet for octet.
    pub delivered: bool,
    /// What the recipient's environment was told of who sent it and what the message proved.
    pub verdicts: Option<Verdicts>,
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
    /// What the node has on record: of its attempt the decision record, of a refusal the line in its log.
    #[serde(skip)]
    pub record: Value,
}

/// Runs every message of the network's topology, one after the other. `progress` is told what is under way.
///
/// What goes wrong on the way, of whatever kind, is a problem of its line: the other lines still count.
pub async fn run(net: &Net, mut progress: impl FnMut(&Message)) -> Vec<Line> {
    let mut lines = Vec::new();
    for (number, message) in net.plan.topology.expected().into_iter().enumerate() {
        progress(&message);
        let letter = write(&message, number, Timestamp::now());
        let line = Line::new(&message);
        let mut case = Case { net, message: &message, letter, line };
        if let Err(error) = case.run().await {
            case.problem(error.to_string());
        }
        case.line.ok = case.line.problems.is_empty();
        lines.push(case.line);
    }
    lines
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
            verdicts: None,
            latency_ms: None,
            code: None,
            reason: None,
            ok: false,
            problems: Vec::new(),
            record: Value::Null,
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
    async fn run(&mut self) -> Result<(), NetError> {
        let sender = self.net.plan.topology.sender_of(self.message);
        let Some(sender) = sender.and_then(|sender| self.net.provider(&sender.id)) else {
            return Err(NetError::Machine {
                what: "the sender".to_owned(),
                why: "nobody sends it".to_owned(),
            });
        };
        match &sender.part {
            Part::Node { node, .. } => self.by_node(sender, node).await,
            Part::Fake(_) | Part::Nobody(_) => self.by_testnet(sender).await,
        }
    }

    /// The platform of a provider submits to its node.
    async fn by_node(&mut self, sender: &Provider, node: &NodeProcess) -> Result<(), NetError> {
        let call = Call {
            address: node.submission(),
            server: &sender.placed.hosts[0].0,
            helo: "platform.invalid",
            identity: None,
        };
        let before = node.printed().len();
        let mut client = connect(&call).await?;
        let offered = client.offer(&self.envelope(), &self.letter.content, Carriage::Data).await?;
        client.quit().await;
        let submitted = Timestamp::now();
        if offered.reply.code != 250 {
            self.refused(&offered);
            self.check_refusal(node.refusal("submission", before).await?);
            self.nothing_arrived();
            return Ok(());
        }
        let text = offered.reply.text();
        let id = text.rsplit(' ').next().unwrap_or_default();
        if let Expectation::Refused { code, .. } = &self.message.expect {
            self.problem(format!("accepted as {id} instead of refused with {code}"));
            return Ok(());
        }
        if self.message.expect == Expectation::StaysHome {
            return self.arrives(submitted).await;
        }
        let record = node.outbound_record(id).await?;
        self.line.reason = record["reason"].as_str().map(str::to_owned);
        match &self.message.expect {
            Expectation::Delivered { assurance } => {
                self.check_delivered(&record, *assurance);
                if record["outcome"] == "delivered" {
                    self.arrives(submitted).await?;
                }
            }
            Expectation::Later { reason } => self.check_record(&record, "later", reason),
            Expectation::Returned { reason } => self.check_record(&record, "returned", reason),
            Expectation::Refused { .. } | Expectation::StaysHome => {}
        }
        self.line.record = record;
        Ok(())
    }

    /// The testnet itself speaks to the recipient's node.
    async fn by_testnet(&mut self, sender: &Provider) -> Result<(), NetError> {
        let identity = match &sender.placed.provider.client_certificate {
            ClientCertificate::Own => Some(&sender.placed.certificate),
            ClientCertificate::None => None,
            ClientCertificate::Of(id) => self.net.provider(id).map(|other| &other.placed.certificate),
        };
        let net = self.net;
        let gate = net.plan.topology.gate_of(self.message).and_then(|gate| net.provider(&gate.id));
        let Some(gate) = gate else {
            return Err(NetError::Machine {
                what: "the gate".to_owned(),
                why: "no provider has it".to_owned(),
            });
        };
        let (server, ip) = &gate.placed.hosts[0];
        let call = Call {
            address: SocketAddr::new(*ip, net.plan.topology.smtp_port),
            server,
            helo: &sender.placed.hosts[0].0,
            identity,
        };
        self.sign(sender)?;
        let before = gate.node().map_or(0, |node| node.printed().len());
        let mut client = connect(&call).await?;
        self.check_confirmation(client.keywords(), call.identity);
        let offered = client.offer(&self.envelope(), &self.letter.content, Carriage::Data).await?;
        client.quit().await;
        if offered.reply.code != 250 {
            self.refused(&offered);
            if let Some(node) = gate.node() {
                self.check_refusal(node.refusal("inbound", before).await?);
            }
            self.nothing_arrived();
            return Ok(());
        }
        if !matches!(self.message.expect, Expectation::Delivered { .. }) {
            self.problem(format!("accepted: {}", offered.reply.text()));
            return Ok(());
        }
        self.arrives(Timestamp::now()).await
    }

    /// Signs the letter as the topology says.
    fn sign(&mut self, sender: &Provider) -> Result<(), NetError> {
        let author = self.message.header_from.as_deref().unwrap_or(&self.message.from);
        let signer = match &self.message.signature {
            Signature::None => return Ok(()),
            Signature::Own => Some(sender),
            Signature::Of(id) => self.net.provider(id),
        };
        let signed = signer.map(|signer| signer.placed.sign(author, &self.letter.content)).transpose();
        if let Some(content) = signed.map_err(NetError::machine("signing"))? {
            self.letter.content = content;
        }
        Ok(())
    }

    fn envelope(&self) -> Envelope {
        Envelope::plain(&self.message.from, &self.message.to, &self.letter.content)
    }

    fn problem(&mut self, what: String) {
        self.line.problems.push(what);
    }

    fn refused(&mut self, offered: &Offered) {
        let Offered { step, reply } = offered;
        let text = reply.text();
        self.line.code = Some(reply.code);
        self.line.reason = Some(text.clone());
        let Expectation::Refused { code, reason } = &self.message.expect else {
            return self.problem(format!("refused at {step}: {} {text}", reply.code));
        };
        if text.contains(&format!(" {reason}: ")) {
            self.line.reason = Some(reason.clone());
        } else {
            self.problem(format!("the reply does not name {reason}"));
        }
        if reply.code != *code {
            self.problem(format!("refused with {} instead of {code}", reply.code));
        }
    }

    /// A node confirms to our client exactly the names of the certificate it showed, or says nothing (IDEN-004).
    fn check_confirmation(&mut self, keywords: &[String], shown: Option<&Identity>) {
        let said: Vec<_> = keywords.iter().filter(|keyword| keyword.starts_with("XPEERLEVEL")).collect();
        let owner = self.net.providers.iter().find(|provider| {
            shown.is_some_and(|shown| shown.certificate() == provider.placed.certificate.certificate())
        });
        self.line.peer_confirmed = match (said.as_slice(), owner) {
            ([], _) => false,
            ([keyword], Some(owner)) => {
                let expected = format!("XPEERLEVEL mutual {}", owner.placed.provider.hosts.join(" "));
                if **keyword != expected {
                    self.problem(format!("it confirms {keyword:?} instead of {expected:?}"));
                }
                true
            }
            _ => {
                self.problem(format!("it confirms {said:?} to a client without a name"));
                true
            }
        };
    }

    /// The node has the refusal on record, for the reason it gave.
    fn check_refusal(&mut self, record: Value) {
        if let Expectation::Refused { reason, .. } = &self.message.expect {
            if record["reason"] != reason.as_str() {
                self.problem(format!("the record gives {} instead of {reason}", record["reason"]));
            }
            self.check_content_left(&record);
        }
        self.line.record = record;
    }

    /// Not an octet of the message is where it must not be.
    fn nothing_arrived(&mut self) {
        let Some(recipient) = recipient(self.net, self.message) else { return };
        let problem = match &recipient.part {
            Part::Node { sink, .. } => {
                find(&sink.messages(), &self.letter.token).map(|_| "it arrived all the same".to_owned())
            }
            Part::Fake(fake) => {
                let heard = fake.heard().join(" / ");
                fake.was_offered_mail().then(|| format!("the other side was offered mail: {heard}"))
            }
            Part::Nobody(wire) => (wire.touched() > 0).then(|| "there was a connection".to_owned()),
        };
        if let Some(problem) = problem {
            self.problem(problem);
        }
    }

    async fn arrives(&mut self, submitted: Timestamp) -> Result<(), NetError> {
        let Some(sink) = recipient(self.net, self.message).and_then(Provider::sink) else { return Ok(()) };
        let token = &self.letter.token;
        let arrival = sink.wait_until(|messages| find(messages, token).is_some());
        let arrived = timeout(PATIENCE, arrival).await.ok();
        let Some(stored) = arrived.and_then(|messages| find(&messages, token).cloned()) else {
            self.problem("it did not arrive within a minute".to_owned());
            return Ok(());
        };
        let latency = stored.arrived.duration_since(submitted).as_millis();
        self.line.latency_ms = Some(i64::try_from(latency).unwrap_or(i64::MAX).max(0));
        let got = stored.content().map_err(NetError::machine("reading what arrived"))?;
        match added_fields(&got, &self.letter.content) {
            Err(difference) => self.problem(difference),
            Ok(fields) => {
                self.line.delivered = true;
                self.check_verdict(&fields);
            }
        }
        for violation in sink.violations() {
            self.problem(format!("towards the environment: {}", violation.what));
        }
        Ok(())
    }

    /// What the recipient's environment was told.
    fn check_verdict(&mut self, fields: &[(String, String)]) {
        self.line.verdicts = Verdicts::read(fields);
        let Expectation::Delivered { assurance } = &self.message.expect else { return };
        match &self.line.verdicts {
            Some(verdicts) if !verdicts.prove(*assurance) => {
                self.problem(format!("the environment was told {verdicts:?}"));
            }
            _ => {}
        }
        let level = word(*assurance);
        let verdicts: Vec<_> = fields
            .iter()
            .filter(|(name, _)| name == "federation-assurance")
            .map(|(_, value)| value)
            .collect();
        let told = |value: &str| value.split(';').next().unwrap_or_default().trim().to_owned();
        match verdicts.as_slice() {
            [value] if told(value) == level => {
                self.line.assurance = Some(level.to_owned());
            }
            other => self.problem(format!("the environment was told {other:?} instead of {level}")),
        }
    }

    fn check_delivered(&mut self, record: &Value, level: Level) {
        self.line.assurance = record["assurance"].as_str().map(str::to_owned);
        let served =
            record["hosts"].as_array().and_then(|hosts| hosts.iter().find(|host| host["reason"].is_null()));
        self.line.peer_confirmed = served.is_some_and(|host| !host["peer_confirmed"].is_null());
        if record["outcome"] != "delivered" {
            self.problem(format!("the record says {}: {}", record["outcome"], record["detail"]));
        }
        // A sender whose certificate was asked for calls that mutual; what became of it only a confirmation tells (IDEN-003).
        let unconfirmed = level == Level::Nta7516 && !self.line.peer_confirmed;
        let said = self.line.assurance.as_deref();
        if said != Some(word(level)) && !(unconfirmed && said == Some("mutual")) {
            self.problem(format!("the record says level {}", record["assurance"]));
        }
        if level == Level::Mutual && !self.line.peer_confirmed {
            self.problem("the other side did not confirm the level".to_owned());
        }
    }

    fn check_record(&mut self, record: &Value, outcome: &str, reason: &str) {
        if record["outcome"] != outcome {
            self.problem(format!("the record says {} instead of {outcome}", record["outcome"]));
        }
        if record["reason"] != reason {
            self.problem(format!("the record gives {} instead of {reason}", record["reason"]));
        }
        self.check_content_left(record);
        self.nothing_arrived();
    }

    fn check_content_left(&mut self, record: &Value) {
        if record["content_left"] != "never" {
            self.problem(format!("content left: {}", record["content_left"]));
        }
    }
}

/// The provider that the message is for.
fn recipient<'a>(net: &'a Net, message: &Message) -> Option<&'a Provider> {
    let (_, domain) = message.to.rsplit_once('@')?;
    net.provider(&net.plan.topology.provider_of(domain)?.id)
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
