//! The records a node has to publish, and whether they are live.
//!
//! A key may be used only once its TLSA records are visible (RFC 7671 section 8.1, OPS-006): whoever looks first and
//! connects then would otherwise find a key that DNS does not know.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

use crate::config::Config;
use crate::discovery::tlsa::{Matching, Selector, Tlsa, Usage};
use crate::discovery::{Discovery, LookUp, OwnerName, TlsaSet, Trace, Txt};
use crate::model::{Digest, DomainName};
use crate::transport::tls::{Certificate, KeyMaterial};
use crate::trust::dmarc_enforces;

/// One record to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Owner name, without the final dot.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub rtype: Type,
    /// Its data, as a zone file has it.
    pub data: String,
    /// What it is for, in a few words.
    pub purpose: String,
}

/// The types of records a node publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Type {
    /// The NTA record, SPF, DKIM and DMARC.
    Txt,
    /// A key.
    Tlsa,
    /// The ordinary mail hosts of a domain.
    Mx,
}

impl Type {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Txt => "TXT",
            Self::Tlsa => "TLSA",
            Self::Mx => "MX",
        }
    }
}

impl fmt::Display for Record {
    /// A line of a zone file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. IN {} {}", self.name, self.rtype.as_str(), self.data)
    }
}

/// What DNS shows of a record that should be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Live {
    /// It is there, and DNSSEC proves it.
    Published,
    /// DNSSEC proves that nothing is there.
    Missing,
    /// Something else is there.
    Different {
        /// What.
        seen: Vec<String>,
    },
    /// The zone is not signed, so other nodes believe nothing in it.
    NotSigned,
    /// Nobody can tell now.
    Unknown {
        /// Why.
        trouble: String,
    },
    /// It is there in a form that was not taken apart; it may well be in order.
    NotCompared {
        /// What is there.
        seen: Vec<String>,
    },
}

impl Live {
    /// Whether there is a difference to what should be published.
    #[must_use]
    pub const fn differs(&self) -> bool {
        !matches!(self, Self::Published | Self::NotCompared { .. })
    }
}

/// DNS, as far as this room asks.
#[async_trait]
pub trait Dns: Send + Sync {
    /// The TLSA set of a name.
    async fn tlsa_at(&self, name: &OwnerName) -> Seen<TlsaSet>;
    /// The TXT records of a name.
    async fn txt_at(&self, name: &OwnerName) -> Seen<Vec<Txt>>;
}

/// An answer of DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// Proven.
    Secure(T),
    /// Proven not to exist.
    Absent,
    /// From a zone that is not signed.
    NotSigned,
    /// No answer that can be believed.
    Trouble(String),
}

impl<T: Clone> From<LookUp<T>> for Seen<T> {
    fn from(answer: LookUp<T>) -> Self {
        match answer {
            LookUp::Secure(value) => Self::Secure(value.get().clone()),
            LookUp::Absent(_) => Self::Absent,
            LookUp::Insecure(_) => Self::NotSigned,
            LookUp::Trouble(trouble) => Self::Trouble(trouble.to_string()),
        }
    }
}

#[async_trait]
impl Dns for Discovery {
    async fn tlsa_at(&self, name: &OwnerName) -> Seen<TlsaSet> {
        self.tlsa(name, &mut Trace::new()).await.into()
    }

    async fn txt_at(&self, name: &OwnerName) -> Seen<Vec<Txt>> {
        self.txt(name, &mut Trace::new()).await.into()
    }
}

/// Everything that a node with this configuration has to publish (OPS-003), in the order of a zone file.
#[must_use]
pub fn records(config: &Config) -> Vec<Record> {
    let mut all = Vec::new();
    let nta = config.record.to_string();
    for domain in &config.node.domains {
        let purpose = "says that this domain takes part, and through which hosts".to_owned();
        all.push(Record { name: domain.to_string(), rtype: Type::Txt, data: quoted(&nta), purpose });
    }
    all.extend(key_records(&config.keys, &config.node.name, config.peer_port()));
    for domain in &config.node.domains {
        let purpose = "SPF: the nodes may send for this domain; merge it with the record you have".to_owned();
        all.push(Record { name: domain.to_string(), rtype: Type::Txt, data: quoted(&spf(config)), purpose });
    }
    all.extend(signing_records(config));
    for domain in &config.node.domains {
        all.extend(config.record.ntamx.iter().map(|(preference, host)| {
            Record {
                name: domain.to_string(),
                rtype: Type::Mx,
                data: format!("{preference} {host}."),
                purpose:
                    "only if the nodes take the ordinary mail of this domain too: `ntamx` does not need it"
                        .to_owned(),
            }
        }));
    }
    all
}

/// The record of each DKIM key at each of its domains, and a DMARC record for each domain that has one (SIGN-006).
fn signing_records(config: &Config) -> Vec<Record> {
    let mut all = Vec::new();
    for key in &config.dkim {
        let does = if key.sign { "signs" } else { "does not sign (`sign = false`)" };
        let purpose = format!("DKIM: the {} key of selector {}, which {does}", key.key, key.selector);
        all.extend(key.domains.iter().map(|domain| Record {
            name: key_name(&key.selector, domain),
            rtype: Type::Txt,
            data: strings(&key.key.record()),
            purpose: purpose.clone(),
        }));
    }
    let signed = |domain: &&DomainName| config.dkim.iter().any(|key| key.domains.contains(domain));
    all.extend(config.node.domains.iter().filter(signed).map(|domain| Record {
        name: format!("_dmarc.{domain}"),
        rtype: Type::Txt,
        data: quoted("v=DMARC1; p=reject"),
        purpose: "DMARC: what others do with mail that is forged in the name of the domain; p=quarantine will do".to_owned(),
    }));
    all
}

fn key_name(selector: &str, domain: &DomainName) -> String {
    format!("{selector}._domainkey.{domain}")
}

/// The records of DKIM keys that begin to sign and are not visible yet: nobody could verify what they sign (SIGN-007).
pub async fn unpublished_signers(config: &Config, old: &Config, dns: &dyn Dns) -> Vec<(Record, Live)> {
    let signs = |config: &Config, record: &Record| {
        let mut signing = config.dkim.iter().filter(|key| key.sign);
        signing.any(|key| {
            let mut names = key.domains.iter().map(|domain| key_name(&key.selector, domain));
            names.any(|name| name == record.name) && strings(&key.key.record()) == record.data
        })
    };
    let mut missing = Vec::new();
    for record in signing_records(config) {
        if signs(config, &record) && !signs(old, &record) {
            let live = signer_live(config, &record, dns).await;
            if live.differs() {
                missing.push((record, live));
            }
        }
    }
    missing
}

/// The TLSA records of each key, as server and as client of `name`.
fn key_records(keys: &KeyMaterial, name: &DomainName, port: u16) -> Vec<Record> {
    let both = |certificate: &Certificate| {
        let data = certificate.tlsa_rdata();
        let kind = certificate.key();
        [
            Record {
                name: format!("_{port}._tcp.{name}"),
                rtype: Type::Tlsa,
                data: data.clone(),
                purpose: format!("this node as server, {kind} key"),
            },
            Record {
                name: format!("_smtp-client.{name}"),
                rtype: Type::Tlsa,
                data,
                purpose: format!("this node as client, {kind} key"),
            },
        ]
    };
    let mut all: Vec<Record> = keys.keys().iter().flat_map(|key| both(key.certificate())).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// Each record with what DNS shows of it. MX is a hint and not compared.
pub async fn compare(config: &Config, dns: &dyn Dns) -> Vec<(Record, Live)> {
    let mut all = Vec::new();
    for record in records(config) {
        let live = match record.rtype {
            Type::Mx => continue,
            Type::Tlsa => key_live(config, &record, dns).await,
            Type::Txt if record.data.starts_with("\"v=DKIM1") => signer_live(config, &record, dns).await,
            Type::Txt if record.data.starts_with("\"v=DMARC1") => dmarc_live(&record, dns).await,
            Type::Txt if record.data.contains("v=spf1") => spf_live(config, &record, dns).await,
            Type::Txt => nta_live(&record, dns).await,
        };
        all.push((record, live));
    }
    all
}

/// The records of new keys that are not visible yet: a key is taken into use only when there are none (OPS-006). Keys
/// that `old` has too are in use already and not asked about.
pub async fn unpublished(config: &Config, old: &KeyMaterial, dns: &dyn Dns) -> Vec<(Record, Live)> {
    let in_use: Vec<Digest> = old.keys().iter().map(|key| key.certificate().key_digest()).collect();
    let mut missing = Vec::new();
    for key in config.keys.keys() {
        let certificate = key.certificate();
        if in_use.contains(&certificate.key_digest()) {
            continue;
        }
        for record in key_records(&config.keys, &config.node.name, config.peer_port()) {
            if record.data != certificate.tlsa_rdata() {
                continue;
            }
            let live = key_live(config, &record, dns).await;
            if live.differs() {
                missing.push((record, live));
            }
        }
    }
    missing
}

async fn key_live(config: &Config, record: &Record, dns: &dyn Dns) -> Live {
    let Ok(name) = record.name.parse::<OwnerName>() else {
        return Live::Unknown { trouble: "the name is too long".to_owned() };
    };
    let certificate = config
        .keys
        .keys()
        .iter()
        .map(|key| key.certificate())
        .find(|certificate| certificate.tlsa_rdata() == record.data);
    let set = match seen(dns.tlsa_at(&name).await) {
        Ok(set) => set,
        Err(live) => return live,
    };
    if certificate.is_some_and(|certificate| set.usable.iter().any(|tlsa| names_key(tlsa, certificate))) {
        return Live::Published;
    }
    let shown = |tlsa: &Tlsa| {
        let hex: String = tlsa.data.iter().take(32).map(|octet| format!("{octet:02x}")).collect();
        format!("{tlsa} {hex}")
    };
    let mut seen: Vec<String> = set.usable.iter().map(shown).collect();
    seen.extend(set.unusable.iter().map(|why| format!("an unusable record: {why}")));
    Live::Different { seen }
}

/// Whether a usage 3 record stands for this certificate's key. Usage 2 does not count here: it vouches for an authority,
/// and what the authority may issue tomorrow is not this key.
fn names_key(tlsa: &Tlsa, certificate: &Certificate) -> bool {
    let octets: &[u8] = match tlsa.selector {
        Selector::Certificate => certificate.der(),
        Selector::PublicKey => certificate.spki(),
    };
    let digest = |algorithm| aws_lc_rs::digest::digest(algorithm, octets).as_ref() == tlsa.data.as_slice();
    tlsa.usage == Usage::EndEntity
        && match tlsa.matching {
            Matching::Full => octets == tlsa.data.as_slice(),
            Matching::Sha256 => digest(&aws_lc_rs::digest::SHA256),
            Matching::Sha512 => digest(&aws_lc_rs::digest::SHA512),
        }
}

async fn nta_live(record: &Record, dns: &dyn Dns) -> Live {
    let texts = match texts(record, dns).await {
        Ok(texts) => texts,
        Err(live) => return live,
    };
    let records: Vec<String> =
        texts.into_iter().filter(|text| text.to_ascii_lowercase().contains("nta7516")).collect();
    match records.as_slice() {
        [] => Live::Missing,
        [one] if quoted(one) == record.data => Live::Published,
        _ => Live::Different { seen: records },
    }
}

async fn spf_live(config: &Config, record: &Record, dns: &dyn Dns) -> Live {
    let texts = match texts(record, dns).await {
        Ok(texts) => texts,
        Err(live) => return live,
    };
    let records: Vec<String> = texts.into_iter().filter(|text| text.starts_with("v=spf1")).collect();
    let [one] = records.as_slice() else {
        return if records.is_empty() { Live::Missing } else { Live::Different { seen: records } };
    };
    let terms: Vec<String> =
        one.split_ascii_whitespace().map(|term| term.trim_start_matches('+').to_owned()).collect();
    if config.record.ntamx.iter().all(|(_, host)| terms.contains(&format!("a:{host}"))) {
        return Live::Published;
    }
    let indirect = ["include:", "redirect=", "ip4:", "ip6:", "mx", "a:", "exists:"];
    if terms.iter().any(|term| indirect.iter().any(|start| term.starts_with(start))) {
        return Live::NotCompared { seen: records };
    }
    Live::Different { seen: records }
}

async fn signer_live(config: &Config, record: &Record, dns: &dyn Dns) -> Live {
    let key = config.dkim.iter().find(|key| {
        strings(&key.key.record()) == record.data
            && key.domains.iter().any(|domain| key_name(&key.selector, domain) == record.name)
    });
    match texts(record, dns).await {
        Err(live) => live,
        Ok(texts) => match texts.as_slice() {
            [one] if key.is_some_and(|key| key.key.is_published_by(one.as_bytes())) => Live::Published,
            _ => Live::Different { seen: texts },
        },
    }
}

async fn dmarc_live(record: &Record, dns: &dyn Dns) -> Live {
    let texts = match texts(record, dns).await {
        Ok(texts) => texts,
        Err(live) => return live,
    };
    let policies: Vec<bool> = texts.iter().filter_map(|text| dmarc_enforces(text.as_bytes())).collect();
    match policies.as_slice() {
        [] => Live::Missing,
        [true] => Live::Published,
        _ => Live::Different { seen: texts },
    }
}

async fn texts(record: &Record, dns: &dyn Dns) -> Result<Vec<String>, Live> {
    let name =
        record.name.parse().map_err(|_| Live::Unknown { trouble: "the name is too long".to_owned() })?;
    let all = seen(dns.txt_at(&name).await)?;
    Ok(all.iter().map(|text| String::from_utf8_lossy(&text.joined()).into_owned()).collect())
}

fn seen<T>(answer: Seen<T>) -> Result<T, Live> {
    match answer {
        Seen::Secure(value) => Ok(value),
        Seen::Absent => Err(Live::Missing),
        Seen::NotSigned => Err(Live::NotSigned),
        Seen::Trouble(trouble) => Err(Live::Unknown { trouble }),
    }
}

fn spf(config: &Config) -> String {
    let hosts: Vec<String> = config.record.ntamx.iter().map(|(_, host)| format!("a:{host}")).collect();
    format!("v=spf1 {} -all", hosts.join(" "))
}

/// The character-strings of a text that may be longer than one: 255 octets each (RFC 1035 section 3.3.14).
fn strings(text: &str) -> String {
    let pieces: Vec<String> =
        text.as_bytes().chunks(255).map(|piece| quoted(&String::from_utf8_lossy(piece))).collect();
    pieces.join(" ")
}

/// A character-string of a zone file. The texts here are printable ASCII.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
