//! Letters through a running network: each arrives as it was sent, or is refused as it should be.
//!
//! What is judged here is what any implementation can be held to: the reply, and what its environment got. Of a node that we
//! run, the record is judged too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::client::{Call, Carriage, Envelope, Offered, connect};
use super::{Net, NetError, Provider};
use crate::letters::{Case, Flaw, Letter, Parties};
use crate::sink::{Sink, Stored};

/// How long a letter may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// At which border of a node a letter is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Border {
    /// By the sender's platform, to the sender's node.
    Submission,
    /// By the testnet's client, with the sender's certificate, to the recipient's node.
    Peer,
}

/// What became of one letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The letter.
    pub name: &'static str,
    /// What is not as it should be.
    pub problems: Vec<String>,
}

/// Letters from one provider of a network to another one, both of them nodes.
pub struct Post<'a> {
    net: &'a Net,
    from: &'a Provider,
    to: &'a Provider,
    sink: &'a Sink,
    parties: Parties,
}

impl<'a> Post<'a> {
    /// Between the providers with these ids.
    ///
    /// # Errors
    /// One of them is not there, or is no node.
    pub fn new(net: &'a Net, from: &str, to: &str) -> Result<Self, NetError> {
        let find = |id: &str| {
            net.provider(id).filter(|provider| provider.node().is_some()).ok_or_else(|| NetError::Machine {
                what: format!("provider {id}"),
                why: "no node plays it in this topology".to_owned(),
            })
        };
        let (from, to) = (find(from)?, find(to)?);
        let sink = to.sink().ok_or_else(|| NetError::Machine {
            what: "the recipient".to_owned(),
            why: "it has no environment".to_owned(),
        })?;
        let domain = |provider: &Provider| provider.placed.provider.domains[0].clone();
        let parties = Parties { sender: domain(from), recipient: domain(to) };
        Ok(Self { net, from, to, sink, parties })
    }

    /// Sends all of them at a border, over one session, and judges what arrives.
    ///
    /// # Errors
    /// The session breaks: the machine or the node, not a letter.
    pub async fn deliver(
        &self,
        border: Border,
        cases: impl IntoIterator<Item = &'static Case>,
    ) -> Result<Vec<Outcome>, NetError> {
        let already = self.sink.messages().len();
        let mut client = connect(&self.call(border)?).await?;
        let mut sent = Vec::new();
        for case in cases {
            let letter = self.signed(border, case.write(&self.parties))?;
            let offered = client.offer(&letter.envelope, &letter.content, letter.carriage).await?;
            sent.push((case, offered));
        }
        client.quit().await;
        let mut outcomes = Vec::new();
        for (case, offered) in sent {
            let problems = match offered.reply.code {
                250 => {
                    let letter = self.signed(border, case.write(&self.parties))?;
                    self.arrival(&letter, already).await?
                }
                _ => vec![format!("refused: {}", words(&offered))],
            };
            outcomes.push(Outcome { name: case.name, problems });
        }
        Ok(outcomes)
    }

    /// A letter as it is offered at a border: other providers sign what they send.
    fn signed(&self, border: Border, mut letter: Letter) -> Result<Letter, NetError> {
        if border == Border::Peer {
            let signed = self.from.placed.sign(&letter.envelope.sender, &letter.content);
            letter.content = signed.map_err(NetError::machine("signing"))?;
        }
        Ok(letter)
    }

    /// Waits for a letter among the messages after the first `already`, and judges it.
    async fn arrival(&self, letter: &Letter, already: usize) -> Result<Vec<String>, NetError> {
        let copies = |messages: &[Stored]| -> Vec<Stored> {
            let mut news = messages.iter().skip(already).cloned().collect::<Vec<_>>();
            news.retain(|stored| letter.recipients().any(|to| stored.recipients.iter().any(|got| got == to)));
            news
        };
        let wanted = letter.envelope.recipients.len();
        let complete = |messages: &[Stored]| {
            copies(messages).iter().map(|copy| copy.recipients.len()).sum::<usize>() >= wanted
        };
        let waiting = timeout(PATIENCE, self.sink.wait_until(complete)).await;
        let messages = waiting.unwrap_or_else(|_| self.sink.messages());
        let mut problems = Vec::new();
        let copies = copies(&messages);
        let mut got: Vec<_> =
            copies.iter().flat_map(|copy| copy.recipients.iter().map(String::as_str)).collect();
        let mut expected: Vec<_> = letter.recipients().collect();
        got.sort_unstable();
        expected.sort_unstable();
        if got != expected {
            problems.push(format!("it arrived for {got:?} instead of {expected:?}"));
        }
        for copy in &copies {
            problems.extend(envelope_difference(&letter.envelope, copy));
            let content = copy.content().map_err(NetError::machine("reading what arrived"))?;
            problems.extend(letter.difference(&content));
        }
        Ok(problems)
    }

    /// Offers a letter that must be refused, and judges reply, record, and what becomes of the session. That nothing of it
    /// arrives is only certain later: see [`Self::arrived`].
    ///
    /// # Errors
    /// The session breaks: the machine or the node, not a letter.
    pub async fn refuse(&self, border: Border, flaw: &Flaw, carriage: Carriage) -> Result<Outcome, NetError> {
        let call = self.call(border)?;
        let (provider, direction) = match border {
            Border::Submission => (self.from, "submission"),
            Border::Peer => (self.to, "inbound"),
        };
        let node = provider.node().ok_or_else(|| NetError::Machine {
            what: "the node".to_owned(),
            why: "nobody plays it".to_owned(),
        })?;
        let before = node.printed().len();
        let letter = self.signed(border, flaw.write(&self.parties))?;
        let mut client = connect(&call).await?;
        let offered = client.offer(&letter.envelope, &letter.content, carriage).await?;
        let text = offered.reply.text();
        let mut problems = Vec::new();
        let said =
            text.starts_with("5.6.0 ") && text.contains(flaw.requirement) && text.contains(flaw.reason);
        if offered.step != "content" || offered.reply.code != 550 || !said {
            let Flaw { requirement, reason, .. } = flaw;
            problems.push(format!("{} instead of 550 5.6.0 {requirement} {reason}", words(&offered)));
        }
        // Whatever followed a false end of content must not have been taken for commands.
        let noop = client.command("NOOP").await?;
        if noop.code != 250 {
            problems.push(format!("out of step: NOOP was answered {} {}", noop.code, noop.text()));
        }
        client.quit().await;
        if offered.reply.code != 250 {
            let record = node.refusal(direction, before).await?;
            let row = [("reason", flaw.reason), ("requirement", flaw.requirement), ("content_left", "never")];
            for (key, value) in row {
                if record[key] != value {
                    problems.push(format!("the record says {key} {} instead of {value}", record[key]));
                }
            }
        }
        Ok(Outcome { name: flaw.name, problems })
    }

    /// Which of these addresses' local parts the environment has messages for, in the recipient's domain.
    #[must_use]
    pub fn arrived(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for stored in self.sink.messages() {
            for recipient in stored.recipients {
                *counts.entry(recipient).or_default() += 1;
            }
        }
        counts
    }

    /// What the node did towards the environment that no client may do.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.sink.violations().into_iter().map(|violation| violation.what).collect()
    }

    fn call(&self, border: Border) -> Result<Call<'a>, NetError> {
        let host = |provider: &'a Provider| &provider.placed.hosts[0];
        match border {
            Border::Submission => {
                let node = self.from.node().ok_or_else(|| NetError::Machine {
                    what: "the sender's node".to_owned(),
                    why: "nobody plays it".to_owned(),
                })?;
                let (address, server) = (node.submission(), host(self.from).0.as_str());
                Ok(Call { address, server, helo: "platform.invalid", identity: None })
            }
            Border::Peer => {
                let (server, ip) = host(self.to);
                let address = SocketAddr::new(*ip, self.net.plan.topology.smtp_port);
                let identity = Some(&self.from.placed.certificate);
                Ok(Call { address, server, helo: &host(self.from).0, identity })
            }
        }
    }
}

/// What is other than expected in the envelope of one copy.
fn envelope_difference(sent: &Envelope, got: &Stored) -> Vec<String> {
    let mut problems = Vec::new();
    if got.sender != sent.sender {
        problems.push(format!("the sender is <{}> instead of <{}>", got.sender, sent.sender));
    }
    let says =
        |parameters: &[String], word: &str| parameters.iter().any(|said| said.eq_ignore_ascii_case(word));
    // What was said of the content is said on: whoever comes next must be able to rely on it (RFC 6152, RFC 6531).
    for word in ["SMTPUTF8", "BODY=8BITMIME"] {
        if says(&sent.parameters, word) && !says(&got.parameters, word) {
            problems.push(format!("{word} was lost: {:?}", got.parameters));
        }
    }
    if says(&got.parameters, "SMTPUTF8") && !says(&sent.parameters, "SMTPUTF8") {
        problems.push("SMTPUTF8 was added".to_owned());
    }
    problems
}

fn words(offered: &Offered) -> String {
    format!("{} {} {}", offered.step, offered.reply.code, offered.reply.text())
}
