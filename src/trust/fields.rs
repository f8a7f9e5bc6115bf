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
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::results::{
        DkimResult, DkimWord, DmarcWord, SmimeIdentity, SmimeWord, SpfResult, SpfWord,
    };
    use super::*;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    fn record() -> AttemptId {
        AttemptId::from_parts(1_793_613_600_000, 42)
    }

    fn noon() -> Timestamp {
        "2026-11-02T10:00:00Z".parse().unwrap()
    }

    fn client(text: &str) -> String {
        let client = GivenName::read(text);
        let facts = ReceivedFacts {
            client: &client,
            address: Some("192.0.2.1".parse().unwrap()),
            by: &name("nta.b.nl"),
            with: WithProtocol::Esmtps,
            record: record(),
            at: noon(),
        };
        received(&facts).to_string()
    }

    fn unfolded(field: &Field) -> String {
        field.to_string().strip_suffix("\r\n").unwrap().replace("\r\n ", " ")
    }

    /// Proves: +HAND-004
    #[test]
    fn received_says_who_and_when() {
        assert_eq!(
            client("NTA-A.a.nl"),
            format!(
                "Received: from nta-a.a.nl ([192.0.2.1]) by nta.b.nl with ESMTPS id\r\n {}; Mon, 02 Nov 2026 10:00:00 +0000\r\n",
                record()
            )
        );
        let submitted = received(&ReceivedFacts {
            client: &GivenName::read("[IPv6:2001:db8::1]"),
            address: None,
            by: &name("nta.b.nl"),
            with: WithProtocol::Utf8Smtps,
            record: record(),
            at: noon(),
        });
        assert!(
            unfolded(&submitted)
                .starts_with("Received: from [IPv6:2001:db8::1] by nta.b.nl with UTF8SMTPS id ")
        );
    }

    /// Proves: -HAND-004
    #[test]
    fn t05_what_a_client_calls_itself_breaks_nothing() {
        for text in [
            "a(b",
            "a;b",
            "a\r\nX: y",
            "[1.2.3.4] by evil.nl",
            "[[1.2.3.4]]",
            "\"a\"",
            "",
            "[IPv6:1.2.3.4]",
            "a_b.nl",
        ] {
            assert!(
                client(text).starts_with("Received: from unknown ([192.0.2.1]) by nta.b.nl "),
                "{text:?}"
            );
        }
        assert!(client("[192.0.2.9]").contains("from [192.0.2.9] ("));
    }

    #[test]
    fn results_are_those_of_rfc_8601() {
        let (node, domain) = (name("nta.b.nl"), name("a.nl"));
        let mut facts = ResultsFacts {
            authserv_id: &node,
            level: Level::Mutual,
            domain: &domain,
            delegate: None,
            message: None,
            smime: None,
        };
        assert_eq!(
            unfolded(&authentication_results(&facts)),
            "Authentication-Results: nta.b.nl; x-federation=pass policy.level=mutual policy.domain=a.nl"
        );
        let message = MessageResults {
            spf: SpfResult { word: SpfWord::Pass, identity: SpfIdentity::MailFrom(name("bounce.a.nl")) },
            dkim: vec![
                DkimResult { word: DkimWord::Permerror, domain: None, detail: String::new() },
                DkimResult {
                    word: DkimWord::Pass,
                    domain: Some(name("a.nl")),
                    detail: "a detail; x=y".into(),
                },
            ],
            dmarc: DmarcWord::Pass,
        };
        (facts.level, facts.message) = (Level::Nta7516, Some(&message));
        assert_eq!(
            unfolded(&authentication_results(&facts)),
            "Authentication-Results: nta.b.nl; x-federation=pass policy.level=nta7516 policy.domain=a.nl; spf=pass \
             smtp.mailfrom=bounce.a.nl; dkim=permerror; dkim=pass header.d=a.nl; dmarc=pass header.from=a.nl"
        );
    }

    /// The grammar of IDEN-021, on the unfolded field.
    fn is_assurance(line: &str) -> bool {
        let Some(rest) = line.strip_prefix("Federation-Assurance: ") else { return false };
        let mut parts = rest.split("; ");
        let level = parts.next();
        let (mut order, mut seen) = (0, 0);
        let names = ["domain", "delegate", "rule", "client", "dkim", "dmarc", "spf", "by", "record"];
        let all_known = parts.by_ref().all(|part| {
            let Some((key, value)) = part.split_once('=') else { return false };
            let place = names.iter().position(|known| *known == key).map_or(0, |at| at + 1);
            let in_order = place > order;
            (order, seen) = (place, seen + usize::from(!["client", "delegate"].contains(&key)));
            let value_holds = match key {
                "domain" | "delegate" | "by" => value.parse::<DomainName>().is_ok(),
                "rule" => {
                    (value == "message") == (level == Some("nta7516"))
                        && ["dane", "pinned", "federation_ca", "message"].contains(&value)
                }
                "client" => {
                    level == Some("mutual")
                        && value.split(',').all(|one| one.trim().parse::<DomainName>().is_ok())
                }
                "dkim" | "dmarc" | "spf" => {
                    let words = ["pass", "none", "fail", "temporary"];
                    words.contains(&value) && (value == "pass" || level == Some("mutual"))
                }
                "record" => value.len() == 26 && value.bytes().all(|octet| octet.is_ascii_alphanumeric()),
                _ => false,
            };
            in_order && value_holds
        });
        matches!(level, Some("mutual" | "nta7516")) && all_known && seen == 7
    }

    /// Proves: +IDEN-021 -IDEN-021
    #[test]
    fn assurance_has_the_form_of_the_page() {
        let (domain, by) = (name("a.example"), name("nta.b.example"));
        let names = [name("nta-a.a.example"), name("nta-out.a.example")];
        let proof = Proof::Client { rule: IdentityRule::Dane, names: &names };
        let proofs = Proofs {
            dkim: crate::policy::Proof::None,
            dmarc: crate::policy::Proof::Fail,
            spf: crate::policy::Proof::Temporary,
        };
        let mutual = federation_assurance(&AssuranceFacts {
            proof,
            proofs,
            domain: &domain,
            delegate: None,
            by: &by,
            record: record(),
        });
        assert_eq!(
            unfolded(&mutual),
            format!(
                "Federation-Assurance: mutual; domain=a.example; rule=dane; client=nta-a.a.example,nta-out.a.example; dkim=none; dmarc=fail; spf=temporary; by=nta.b.example; record={}",
                record()
            )
        );
        let by_message = federation_assurance(&AssuranceFacts {
            proof: Proof::Message,
            proofs: Proofs::PASS,
            domain: &domain,
            delegate: None,
            by: &by,
            record: record(),
        });
        let line = unfolded(&by_message);
        assert_eq!(
            line,
            format!(
                "Federation-Assurance: nta7516; domain=a.example; rule=message; dkim=pass; dmarc=pass; spf=pass; by=nta.b.example; record={}",
                record()
            )
        );
        assert!(is_assurance(&line) && is_assurance(&unfolded(&mutual)));
        for broken in [
            line.replace("nta7516", "mutual"),
            line.replace("rule=message", "rule=dane"),
            line.replace("; by=nta.b.example", ""),
            line.replace("; dmarc=pass", ""),
            line.replace("spf=pass", "spf=none"),
            line.replace("nta7516", "opportunistic"),
            line.replace("record=", "by=x.nl; record="),
        ] {
            assert!(!is_assurance(&broken), "{broken}");
        }
    }

    /// Proves: +RPLY-006 -RPLY-006
    #[test]
    fn a_delegate_is_told_by_its_domain() {
        let (domain, other, by) = (&name("a.example"), &name("desk.example"), &name("nta.b.example"));
        let (proof, proofs, level, record) = (Proof::Message, Proofs::PASS, Level::Nta7516, record());
        for (delegate, told) in [(None, false), (Some(other), true)] {
            let facts = AssuranceFacts { proof, proofs, domain, delegate, by, record };
            let assurance = unfolded(&federation_assurance(&facts));
            assert!(is_assurance(&assurance), "{assurance}");
            assert_eq!(assurance.contains("; domain=a.example; delegate=desk.example; rule="), told);
            let facts = ResultsFacts { authserv_id: by, level, domain, delegate, message: None, smime: None };
            let results = unfolded(&authentication_results(&facts));
            assert_eq!(results.ends_with(" policy.domain=a.example policy.delegate=desk.example"), told);
        }
    }

    fn a_name() -> impl Strategy<Value = DomainName> {
        // Two hyphens in places three and four belong to A-labels, and few texts are one.
        "([a-z]([a-z0-9]|[a-z0-9]-[a-z0-9]){0,20}\\.){1,5}[a-z]{2,60}"
            .prop_filter_map("longer than a name can be", |text| text.parse().ok())
    }

    fn holds(field: &Field) {
        let text = field.to_string();
        assert!(text.is_ascii());
        let unfolded = text.strip_suffix("\r\n").unwrap().replace("\r\n ", " ");
        assert!(!unfolded.contains(['\r', '\n', '\t', '\0']), "{unfolded:?}");
        for line in text.split_terminator("\r\n") {
            assert!(line.len() <= LINE_OCTETS_MAX && !line.trim().is_empty());
            assert!(line.len() <= LINE_OCTETS_WANTED || !line[1..].trim_end().contains("; "), "{line}");
        }
    }

    proptest! {
        /// Proves: +HAND-004 -HAND-004 +IDEN-021
        #[test]
        fn t05_every_field_is_one_line_of_ascii_after_unfolding(
            helo in "\\PC{0,60}|[\\x00-\\x7f]{0,30}|[a-z.]{1,200}",
            names in prop::collection::vec(a_name(), 1..5),
            address in any::<std::net::IpAddr>(),
            second in -377_705_023_200_i64..253_402_207_200,
            random in any::<u64>(),
        ) {
            let record = AttemptId::from_parts(random >> 16, u128::from(random));
            let client = GivenName::read(&helo);
            let at = Timestamp::from_second(second).unwrap();
            let (with, by) = (WithProtocol::Esmtps, &names[0]);
            holds(&received(&ReceivedFacts { client: &client, address: Some(address), by, with, record, at }));
            let domain = names.last().unwrap();
            for proof in [Proof::Message, Proof::Client { rule: IdentityRule::FederationCa, names: &names }] {
                let field = federation_assurance(&AssuranceFacts { proof, proofs: Proofs::PASS, domain, delegate: Some(domain), by, record });
                holds(&field);
                prop_assert!(is_assurance(&unfolded(&field)));
            }
            let message = MessageResults {
                spf: SpfResult { word: SpfWord::Softfail, identity: SpfIdentity::Helo(Some(names[0].clone())) },
                dkim: names.iter().map(|name| DkimResult {
                    word: DkimWord::Fail,
                    domain: Some(name.clone()),
                    detail: helo.clone(),
                }).collect(),
                dmarc: DmarcWord::Temperror,
            };
            let level = Level::Nta7516;
            let address = format!("a.b@{}", names[0]).parse().unwrap();
            let identity = Some(SmimeIdentity::new(address, "00ff".into(), &helo));
            let smime = SmimeResult { word: SmimeWord::Pass, reason: Some("said by us"), identity };
            holds(&authentication_results(&ResultsFacts { authserv_id: by, level, domain, delegate: Some(domain), message: Some(&message), smime: Some(&smime) }));
        }
    }
}
