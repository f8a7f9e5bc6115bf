//! The header fields this node writes (HAND-004, HAND-005, IDEN-021).
//!
//! Every part of them is a typed value or a word of ours; a text of the other side's is read into a type first, and
//! what can't be read is left out. So no field can hold a line end, a comment or a parameter of somebody else's making.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::model::{AttemptId, DomainName, IdentityRule, Level};
use crate::policy::Proofs;

use super::results::{MessageResults, SmimeResult, SpfIdentity};

/// Lines are folded to this length where there is a blank to fold at (RFC 5322 section 2.1.1).
const LINE_OCTETS_WANTED: usize = 78;
/// No line may be longer (RFC 5322 section 2.1.1).
const LINE_OCTETS_MAX: usize = 998;

/// One header field, ready to be put on top of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    name: &'static str,
    value: String,
}

impl Field {
    /// The name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The value: folded, without the blank behind the colon and without the last CRLF.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Name and value, as the spool keeps them.
    #[must_use]
    pub fn into_pair(self) -> (String, String) {
        (self.name.to_owned(), self.value)
    }
}

impl fmt::Display for Field {
    /// The whole field with its last CRLF.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\r\n", self.name, self.value)
    }
}

/// What a client called itself in EHLO, as far as it can be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenName {
    /// A domain name.
    Name(DomainName),
    /// An address literal.
    Literal(IpAddr),
    /// Anything else, written as `unknown`.
    Other,
}

impl GivenName {
    /// Reads the argument of EHLO.
    #[must_use]
    pub fn read(text: &str) -> Self {
        if let Ok(name) = text.parse() {
            return Self::Name(name);
        }
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = inner.and_then(|inner| match inner.split_at_checked(5) {
            Some((tag, rest)) if tag.eq_ignore_ascii_case("IPv6:") => rest.parse().ok().map(IpAddr::V6),
            _ => inner.parse().ok().map(IpAddr::V4),
        });
        address.map_or(Self::Other, Self::Literal)
    }
}

impl fmt::Display for GivenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => fmt::Display::fmt(name, f),
            Self::Literal(address) => f.write_str(&literal(*address)),
            Self::Other => f.write_str("unknown"),
        }
    }
}

/// An address literal (RFC 5321 section 4.1.3).
fn literal(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// How a message came in (RFC 3848, RFC 6531 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithProtocol {
    /// ESMTP over TLS.
    Esmtps,
    /// ESMTP over TLS, with SMTPUTF8 in this transaction.
    Utf8Smtps,
}

impl WithProtocol {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Esmtps => "ESMTPS",
            Self::Utf8Smtps => "UTF8SMTPS",
        }
    }
}

/// What a `Received:` field says.
#[derive(Clone, Debug)]
pub struct ReceivedFacts<'a> {
    /// What the client called itself.
    pub client: &'a GivenName,
    /// Its address; left out for submissions, because it is of no use to anybody outside.
    pub address: Option<IpAddr>,
    /// This node.
    pub by: &'a DomainName,
    /// How it came.
    pub with: WithProtocol,
    /// The decision record of the attempt.
    pub record: AttemptId,
    /// When.
    pub at: Timestamp,
}

/// The `Received:` field (RFC 5321 section 4.4; HAND-004).
#[must_use]
pub fn received(facts: &ReceivedFacts<'_>) -> Field {
    let mut words = Words::new("Received");
    words.word("from").word(&facts.client.to_string());
    if let Some(address) = facts.address {
        words.word(&format!("({})", literal(address)));
    }
    words.word("by").word(facts.by.as_str()).word("with").word(facts.with.as_str());
    words.word("id").word(&format!("{};", facts.record)).word(&date(facts.at));
    words.done()
}

/// Date and time as RFC 5322 section 3.3 writes them, in UTC.
#[must_use]
pub fn date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// What an `Authentication-Results:` field says.
#[derive(Clone, Debug)]
pub struct ResultsFacts<'a> {
    /// The name under which the environment trusts our results: that of this node.
    pub authserv_id: &'a DomainName,
    /// The level that was proven.
    pub level: Level,
    /// The `From:` domain that was judged.
    pub domain: &'a DomainName,
    /// The domain of a `Sender:` that is not the author, bound as `From:` is (IDEN-014, RPLY-006).
    pub delegate: Option<&'a DomainName>,
    /// What the message itself proved; at level `nta7516` the level rests on it.
    pub message: Option<&'a MessageResults>,
    /// What its S/MIME signature proved, if it has one.
    pub smime: Option<&'a SmimeResult>,
}

/// The `Authentication-Results:` field (RFC 8601; `spec/07-handoff.md`).
#[must_use]
pub fn authentication_results(facts: &ResultsFacts<'_>) -> Field {
    let mut clauses = vec![vec![
        "x-federation=pass".to_owned(),
        format!("policy.level={}", facts.level),
        format!("policy.domain={}", facts.domain),
    ]];
    clauses[0].extend(facts.delegate.map(|domain| format!("policy.delegate={domain}")));
    if let Some(message) = facts.message {
        let mut spf = vec![format!("spf={}", message.spf.word)];
        match &message.spf.identity {
            SpfIdentity::MailFrom(domain) => spf.push(format!("smtp.mailfrom={domain}")),
            SpfIdentity::Helo(Some(domain)) => spf.push(format!("smtp.helo={domain}")),
            SpfIdentity::Helo(None) => {}
        }
        clauses.push(spf);
        for signature in &message.dkim {
            let mut dkim = vec![format!("dkim={}", signature.word)];
            dkim.extend(signature.domain.as_ref().map(|domain| format!("header.d={domain}")));
            clauses.push(dkim);
        }
        if message.dkim.is_empty() {
            clauses.push(vec!["dkim=none".to_owned()]);
        }
        clauses.push(vec![format!("dmarc={}", message.dmarc), format!("header.from={}", facts.domain)]);
    }
    clauses.extend(facts.smime.map(SmimeResult::clause));
    let mut words = Words::new("Authentication-Results");
    words.word(&format!("{};", facts.authserv_id));
    let last = clauses.len() - 1;
    for (index, clause) in clauses.iter().enumerate() {
        let end = clause.len() - 1;
        for (place, word) in clause.iter().enumerate() {
            let mark = if place == end && index != last { ";" } else { "" };
            words.word(&format!("{word}{mark}"));
        }
    }
    words.done()
}

/// On what the level rests.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// Level `mutual`: the client's key, and the names it proved.
    Client {
        /// The rule that proved them.
        rule: IdentityRule,
        /// The names; at least one.
        names: &'a [DomainName],
    },
    /// Level `nta7516`: the message itself (IDEN-016).
    Message,
}

impl Proof<'_> {
    /// The level this proves.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::Client { .. } => Level::Mutual,
            Self::Message => Level::Nta7516,
        }
    }
}

/// What a `Federation-Assurance:` field says.
#[derive(Clone, Debug)]
pub struct AssuranceFacts<'a> {
    /// On what the level rests.
    pub proof: Proof<'a>,
    /// What the message proved by itself, at either level.
    pub proofs: Proofs,
    /// The `From:` domain that was judged.
    pub domain: &'a DomainName,
    /// The domain of a `Sender:` that is not the author, bound as `From:` is (IDEN-014, RPLY-006).
    pub delegate: Option<&'a DomainName>,
    /// The node that judged.
    pub by: &'a DomainName,
    /// The decision record.
    pub record: AttemptId,
}

/// The `Federation-Assurance:` field (IDEN-021).
#[must_use]
pub fn federation_assurance(facts: &AssuranceFacts<'_>) -> Field {
    let mut words = Words::new("Federation-Assurance");
    words.word(&format!("{};", facts.proof.level())).word(&format!("domain={};", facts.domain));
    if let Some(delegate) = facts.delegate {
        words.word(&format!("delegate={delegate};"));
    }
    match facts.proof {
        Proof::Message => {
            words.word("rule=message;");
        }
        Proof::Client { rule, names } => {
            words.word(&format!("rule={rule};"));
            let names: Vec<&str> = names.iter().map(DomainName::as_str).collect();
            words.word_with_list(&format!("client={};", names.join(",")));
        }
    }
    let Proofs { dkim, dmarc, spf } = facts.proofs;
    words.word(&format!("dkim={};", dkim.as_str())).word(&format!("dmarc={};", dmarc.as_str()));
    words.word(&format!("spf={};", spf.as_str()));
    words.word(&format!("by={};", facts.by)).word(&format!("record={}", facts.record));
    words.done()
}

/// Words of a field, folded as they come.
struct Words {
    name: &'static str,
    value: String,
    /// Octets on the current line.
    column: usize,
}

impl Words {
    const fn new(name: &'static str) -> Self {
        Self { name, value: String::new(), column: name.len() + 1 }
    }

    /// A word with a blank before it, on the next line if this one is full. The first has its blank from the colon.
    fn word(&mut self, word: &str) -> &mut Self {
        let first = self.value.is_empty();
        if !first && self.column + 1 + word.len() > LINE_OCTETS_WANTED {
            self.value.push_str("\r\n ");
            self.column = 1;
        } else {
            if !first {
                self.value.push(' ');
            }
            self.column += 1;
        }
        self.push(word)
    }

    /// A word that may also be folded behind its commas, which it is only where no line could hold it.
    fn word_with_list(&mut self, word: &str) -> &mut Self {
        if word.len() < LINE_OCTETS_MAX {
            return self.word(word);
        }
        for part in word.split_inclusive(',') {
            self.word(part);
        }
        self
    }

    fn push(&mut self, word: &str) -> &mut Self {
        self.value.push_str(word);
        self.column += word.len();
        self
    }

    fn done(&mut self) -> Field {
        Field { name: self.name, value: std::mem::take(&mut self.value) }
    }
}

#[cfg(test)]
mod tests;
