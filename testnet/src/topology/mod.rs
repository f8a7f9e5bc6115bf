//! The topology file: which providers there are, what is wrong with them, and what is expected to happen.
//!
//! ```
//! let topology = testnet::topology::Topology::three_providers();
//! assert_eq!(topology.expected().len(), 6, "each to each other one");
//! ```
//!
//! # Guarantees
//! A [`Topology`] that could be read is consistent: names are names and belong to one provider, what is referred to
//! exists. Unknown keys are refused.
//!
//! # Errors
//! [`TopologyError`] says where in the file and what to do; whoever wrote the file has to act.
//!
//! The words of [`Level`] and of reasons are those of the protocol (`spec/`), written down a second time on purpose.

mod plan;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::dns::{Denial, Fault};
pub use plan::{Placed, Plan, PlanError};

/// The topologies that come with this program, by name. The first one is the default.
const BUILT_IN: [(&str, &str); 5] = [
    ("three-providers", include_str!("../../topologies/three-providers.toml")),
    ("variations", include_str!("../../topologies/variations.toml")),
    ("nta7516", include_str!("../../topologies/nta7516.toml")),
    ("faults", include_str!("../../topologies/faults.toml")),
    ("root-rolled", include_str!("../../topologies/root-rolled.toml")),
];

/// Most providers in one topology: each has eight of the run's addresses.
const PROVIDERS_MAX: usize = 30;
/// Most hosts of one provider.
const HOSTS_MAX: usize = 4;

/// A topology file that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// Not TOML, an unknown key, or a value of the wrong kind. The text has line and column.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// Well-formed, but it does not fit together.
    #[error("{place}: {why}")]
    Inconsistent {
        /// Provider, message or fault.
        place: String,
        /// What does not fit.
        why: String,
    },
}

/// A whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// What this topology is for, in a sentence.
    pub about: String,
    /// The port all providers use among themselves; TLSA records stand at `_<port>._tcp`.
    #[serde(default = "default_smtp_port")]
    pub smtp_port: u16,
    /// The providers.
    #[serde(rename = "provider")]
    pub providers: Vec<Provider>,
    /// What happens to a message from each provider to each other one, if they are to send some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_pair: Option<Expectation>,
    /// Further messages.
    #[serde(rename = "message", default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// What is wrong in DNS.
    #[serde(rename = "fault", default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

fn default_smtp_port() -> u16 {
    2_525
}

/// A provider: a mail platform with a gate to the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Short name, used in this file and in output: lower-case letters, digits and hyphens.
    pub id: String,
    /// Name for people; stands in the NTA record.
    pub name: String,
    /// Mail domains of its customers. Each becomes a zone.
    pub domains: Vec<String>,
    /// Its hosts in order of preference, each below one of the domains.
    pub hosts: Vec<String>,
    /// Who is behind the hosts.
    #[serde(default)]
    pub played_by: PlayedBy,
    /// The lowest level it admits.
    #[serde(default)]
    pub floor: Level,
    /// How it proves who its peers are.
    #[serde(default)]
    pub identity: IdentityRule,
    /// How its zones deny.
    #[serde(default)]
    pub denial: Denial,
    /// Its NTA record.
    #[serde(default)]
    pub record: NtaRecord,
    /// TLSA records of its servers.
    #[serde(default)]
    pub server_tlsa: Association,
    /// TLSA records of its clients.
    #[serde(default)]
    pub client_tlsa: Association,
    /// How its servers behave. Other than `good` needs `played_by = "testnet"`.
    #[serde(default)]
    pub server: ServerManner,
    /// What its clients present. Other than `own` needs `played_by = "testnet"`.
    #[serde(default)]
    pub client_certificate: ClientCertificate,
    /// Limits of its node by key, as its own configuration has them: so a day can be made short.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, u64>,
}

/// Who is behind a provider's hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlayedBy {
    /// A process of the node under test, with an environment that stores what it gets.
    #[default]
    Node,
    /// The testnet: a client and server that do exactly what this file says.
    Testnet,
    /// Nobody listens: the message must not get as far as a connection.
    Nobody,
}

/// Assurance levels of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Both ends proven by keys in DNS.
    #[default]
    Mutual,
    /// The server proven by DANE, the sender by its domain's mail authentication.
    Nta7516,
}

/// How a provider proves who its peers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityRule {
    /// TLSA records.
    #[default]
    Dane,
    /// Configured digests of their keys.
    Pinned,
}

/// What the NTA record of a provider's domains says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NtaRecord {
    /// Valid now, with `ntamx` for every host.
    #[default]
    Good,
    /// Valid now, without `ntamx`: the MX hosts count.
    NoHosts,
    /// Ended two years ago.
    Expired,
    /// Begins in two years.
    NotYetValid,
    /// The last month is before the first.
    Reversed,
    /// Two valid records.
    Twice,
    /// The older draft only.
    Legacy,
    /// A month that is none.
    Malformed,
    /// Valid now, with `ntamx` for the hosts of another provider, by `id`.
    HostsOf(String),
    /// None at all.
    None,
}

/// What TLSA records say about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Association {
    /// `3 1 1`, and it matches.
    #[default]
    Good,
    /// `3 1 1` of another key.
    WrongDigest,
    /// No record.
    None,
}

/// How a server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerManner {
    /// As it should.
    #[default]
    Good,
    /// Does not offer STARTTLS.
    NoStarttls,
    /// Speaks TLS 1.1 at most.
    Tls11Only,
    /// Accepts connections and says nothing.
    Silent,
    /// Sends a reply of its own behind the go-ahead to STARTTLS, in the clear.
    InjectsAfterStarttls,
    /// Shows a certificate that has expired, of an authority that its TLSA record names: `2 0 1`, and it matches.
    ExpiredCertificate,
    /// Does not ask for a client certificate.
    NoCertificateRequest,
    /// Offers no 8BITMIME.
    SevenBitOnly,
    /// Announces that it takes a hundred octets.
    SmallMessagesOnly,
    /// Answers MAIL with a line that is no reply.
    TalksNonsense,
    /// Closes the connection when it hears MAIL.
    HangsUp,
    /// `550 5.1.1` to every RCPT.
    RefusesRecipients,
    /// `451 4.2.1` to every RCPT.
    BusyWithRecipients,
    /// Takes content to its end, and then `554 5.6.0`.
    RefusesContent,
    /// Takes content to its end, and then `452 4.3.1`.
    BusyWithContent,
    /// Takes content to its end, and closes the connection without a word.
    LosesReply,
}

/// What a client presents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificate {
    /// The provider's own certificate.
    #[default]
    Own,
    /// None.
    None,
    /// Certificate and key of another provider, by `id`.
    Of(String),
}

/// Whose DKIM signature a message of a client of the testnet carries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// That of the sender, for the domain in `From:` if it is one of its own.
    #[default]
    Own,
    /// None.
    None,
    /// That of another provider, by `id`, for a domain of that one.
    Of(String),
}

/// A message and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// What this shows, in a few words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Envelope sender; empty for the null sender.
    pub from: String,
    /// Recipient.
    pub to: String,
    /// The address in `From:` if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_from: Option<String>,
    /// Who signs it, when a client of the testnet sends it. A node signs what it sends itself.
    #[serde(default)]
    pub signature: Signature,
    /// The provider whose platform or client sends it, if it isn't that of the sender's domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_by: Option<String>,
    /// The provider at whose node a client of the testnet knocks, if it isn't that of the recipient's domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// What becomes of it.
    pub expect: Expectation,
}

/// What becomes of a message. Reasons are words of the table in `spec/05-failures.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum Expectation {
    /// It arrives, byte for byte, at this level, and the sender's record says so.
    Delivered {
        /// The level.
        assurance: Level,
    },
    /// It is for the sender's own provider: it arrives there, byte for byte, and crosses no border to another one.
    StaysHome,
    /// The node has accepted it and waits for its next attempt.
    Later {
        /// Why.
        reason: String,
    },
    /// The node had accepted it and reports that it can't be delivered.
    Returned {
        /// Why.
        reason: String,
    },
    /// Whoever sends it is told no: the platform at submission, or another provider's client at the gate.
    Refused {
        /// Reply code.
        code: u16,
        /// Why.
        reason: String,
    },
}

impl Expectation {
    /// The reason, unless it arrives.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Delivered { .. } | Self::StaysHome => None,
            Self::Later { reason } | Self::Returned { reason } | Self::Refused { reason, .. } => Some(reason),
        }
    }
}

impl std::str::FromStr for Topology {
    type Err = TopologyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let topology: Self = toml::from_str(text)?;
        topology.check()?;
        Ok(topology)
    }
}

impl Topology {
    /// Names of the topologies that come with this program, the default one first.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The topology of that name that comes with this program.
    ///
    /// # Panics
    /// Never: a test reads all of them.
    pub fn built_in(name: &str) -> Option<Self> {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Some(text.parse().expect("the built-in topologies are read by a test"))
    }

    /// Three providers with everything in order: the default.
    pub fn three_providers() -> Self {
        named("three-providers")
    }

    /// Sound providers that differ from each other in what is allowed.
    pub fn variations() -> Self {
        named("variations")
    }

    /// Sound providers, and one that is not, at the lower level.
    pub fn nta7516() -> Self {
        named("nta7516")
    }

    /// One provider for every fault.
    pub fn faults() -> Self {
        named("faults")
    }

    /// A tree whose root is signed with another key than the published anchor.
    pub fn root_rolled() -> Self {
        named("root-rolled")
    }

    /// All messages with what is expected of them: those of every pair, then the ones listed.
    pub fn expected(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        if let Some(expect) = &self.every_pair {
            let address = |provider: &Provider, who: &str| format!("{who}@{}", provider.domains[0]);
            for from in &self.providers {
                for to in self.providers.iter().filter(|to| to.id != from.id) {
                    messages.push(Message {
                        about: format!("{} to {}", from.id, to.id),
                        from: address(from, "alice"),
                        to: address(to, "bob"),
                        header_from: None,
                        signature: Signature::Own,
                        sent_by: None,
                        through: None,
                        expect: expect.clone(),
                    });
                }
            }
        }
        messages.extend(self.messages.iter().cloned());
        messages
    }

    /// The provider with this `id`.
    pub fn provider(&self, id: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.id == id)
    }

    /// The provider of a mail domain.
    pub fn provider_of(&self, domain: &str) -> Option<&Provider> {
        self.providers
            .iter()
            .find(|provider| provider.domains.iter().any(|own| own.eq_ignore_ascii_case(domain)))
    }

    /// The provider that sends a message.
    pub fn sender_of(&self, message: &Message) -> Option<&Provider> {
        match &message.sent_by {
            Some(id) => self.provider(id),
            None => self.provider_of(domain_of(&message.from)?),
        }
    }

    /// The provider at whose gate a message is offered.
    pub fn gate_of(&self, message: &Message) -> Option<&Provider> {
        match &message.through {
            Some(id) => self.provider(id),
            None => self.provider_of(domain_of(&message.to)?),
        }
    }

    fn check(&self) -> Result<(), TopologyError> {
        if self.providers.is_empty() || self.providers.len() > PROVIDERS_MAX {
            return wrong("provider", format!("there must be 1 to {PROVIDERS_MAX}"));
        }
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for provider in &self.providers {
            if !ids.insert(&provider.id) {
                return wrong(&provider.id, "two providers have this id".into());
            }
            self.check_provider(provider)?;
            for name in provider.domains.iter().chain(&provider.hosts) {
                if let Some(other) = owners.insert(name, &provider.id) {
                    return wrong(&provider.id, format!("`{name}` is there already, at provider `{other}`"));
                }
            }
        }
        self.messages.iter().try_for_each(|message| self.check_message(message))
    }

    fn check_provider(&self, provider: &Provider) -> Result<(), TopologyError> {
        let id = &provider.id;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if id.is_empty() || !id.chars().all(plain) {
            return wrong(id, "an id is made of lower-case letters, digits and hyphens".into());
        }
        if provider.domains.is_empty() || provider.hosts.is_empty() || provider.hosts.len() > HOSTS_MAX {
            return wrong(id, format!("it needs a domain and 1 to {HOSTS_MAX} hosts"));
        }
        if provider.name.is_empty() || provider.name.contains([';', '"', '\\']) || !provider.name.is_ascii() {
            return wrong(id, "the name stands in the NTA record: ASCII without `;`, `\"` and `\\`".into());
        }
        for name in provider.domains.iter().chain(&provider.hosts) {
            if !is_domain_name(name) {
                return wrong(id, format!("`{name}` is not a domain name in lower case without a last dot"));
            }
        }
        for host in &provider.hosts {
            if !provider.domains.iter().any(|domain| host.ends_with(&format!(".{domain}"))) {
                return wrong(
                    id,
                    format!("host `{host}` is below none of the domains, so nobody would sign it"),
                );
            }
        }
        if let ClientCertificate::Of(other) = &provider.client_certificate
            && (other == id || self.provider(other).is_none())
        {
            return wrong(id, format!("there is no other provider `{other}` to take a certificate of"));
        }
        if let NtaRecord::HostsOf(other) = &provider.record
            && (other == id || self.provider(other).is_none())
        {
            return wrong(id, format!("there is no other provider `{other}` to name hosts of"));
        }
        let well_behaved =
            provider.server == ServerManner::Good && provider.client_certificate == ClientCertificate::Own;
        if !well_behaved && provider.played_by != PlayedBy::Testnet {
            return wrong(id, "a node can't be told to misbehave: set played_by = \"testnet\"".into());
        }
        Ok(())
    }

    fn check_message(&self, message: &Message) -> Result<(), TopologyError> {
        let place = format!("message from <{}> to <{}>", message.from, message.to);
        if domain_of(&message.to).is_none() {
            return wrong(&place, "`to` is not an address".into());
        }
        if !message.from.is_empty() && domain_of(&message.from).is_none() {
            return wrong(&place, "`from` is neither an address nor empty".into());
        }
        match self.sender_of(message) {
            None => wrong(&place, "no provider sends it: set `sent_by` to the id of one".into()),
            Some(sender) if sender.played_by == PlayedBy::Nobody => {
                wrong(&place, format!("provider `{}` is played by nobody and can't send", sender.id))
            }
            Some(sender) if sender.played_by == PlayedBy::Testnet => match self.gate_of(message) {
                Some(gate) if gate.played_by == PlayedBy::Node => Ok(()),
                _ => wrong(&place, "the testnet can offer it to a node only: no node is there".into()),
            },
            Some(_) if message.through.is_some() => wrong(
                &place,
                "a node finds its own way: only the testnet's clients go `through` another one".into(),
            ),
            Some(_) => Ok(()),
        }
    }
}

fn named(name: &str) -> Topology {
    Topology::built_in(name).expect("the name stands in the table")
}

fn wrong<T>(place: &str, why: String) -> Result<T, TopologyError> {
    Err(TopologyError::Inconsistent { place: place.to_owned(), why })
}

/// The part after the last `@`, if there is something on both sides.
fn domain_of(address: &str) -> Option<&str> {
    address.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty()).map(|(_, d)| d)
}

fn is_domain_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(label)
}

#[cfg(test)]
mod tests;
