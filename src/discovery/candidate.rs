//! One host: its addresses and the keys it vouches for (RFC 7672 section 2.2).

use std::net::IpAddr;

use crate::model::{DomainName, Reason};

use super::dns::{Answer, Content, DnsTrouble, OwnerName, Question, RecordType, Records, Secure, Verdict};
use super::federation::Host;
use super::tlsa::TlsaSet;
use super::{Discovery, Trace};

/// A host that can be connected to and authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The host as the record names it.
    pub host: Host,
    /// The TLSA base domain; also the server name that the client sends in TLS (DANE-002, DANE-010).
    pub base: DomainName,
    /// Names one of which a certificate under usage 2 must carry: the base, the host, and the mail domain when the host
    /// came from MX (DANE-007).
    pub reference_names: Vec<DomainName>,
    /// Where to connect; never empty.
    pub addresses: Vec<IpAddr>,
    /// The port.
    pub port: u16,
    /// The keys; at least one record is usable.
    pub tlsa: Secure<TlsaSet>,
}

/// Why a host is passed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct HostProblem {
    /// The check that failed.
    pub reason: Reason,
    /// What exactly was seen.
    pub detail: String,
}

impl HostProblem {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// The named check that failed.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }
}

impl From<DnsTrouble> for HostProblem {
    fn from(trouble: DnsTrouble) -> Self {
        Self { reason: trouble.reason(), detail: trouble.to_string() }
    }
}

/// The keys that a client name vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientTlsa {
    /// It publishes these. Also when none of them is usable: then no certificate matches, which is not the same as
    /// publishing nothing.
    Published(Secure<TlsaSet>),
    /// It is proven to publish none.
    Absent,
    /// Its zone is not signed.
    Insecure,
    /// Nothing that can be believed.
    Temporary {
        /// The check that failed.
        reason: Reason,
        /// What exactly was seen.
        detail: String,
    },
}

/// Addresses of a host, and the name at the end of its aliases if it has any.
struct Addresses {
    list: Vec<IpAddr>,
    expanded: Option<OwnerName>,
}

impl Discovery {
    /// Looks up addresses and keys of `host` for a connection to `port`.
    ///
    /// # Errors
    /// Why this host is passed over; the next one may serve.
    pub async fn candidate(
        &self,
        host: &Host,
        port: u16,
        trace: &mut Trace,
    ) -> Result<Candidate, HostProblem> {
        // Addresses first: with an insecure address, or none, TLSA is not even asked for (DANE-001; some servers choke
        // on the question, RFC 7672 section 2.1.2).
        let found = self.addresses(&host.name, trace).await?;
        let addresses = self.allowed(&host.name, found.list)?;
        let (base, tlsa) = self.keys(host, found.expanded.as_ref(), port, trace).await?;
        let mut reference_names = vec![base.clone()];
        for name in std::iter::once(&host.name).chain(&host.mail_domain) {
            if !reference_names.contains(name) {
                reference_names.push(name.clone());
            }
        }
        Ok(Candidate { host: host.clone(), base, reference_names, addresses, port, tlsa })
    }

    /// The keys at `_smtp-client.<name>`, by which a client proves that it is `name` (IDEN family).
    pub async fn client_tlsa(&self, name: &DomainName, trace: &mut Trace) -> ClientTlsa {
        // A name so long that the label does not fit cannot publish anything there.
        let Ok(owner) = OwnerName::smtp_client(name) else { return ClientTlsa::Absent };
        match self.ask(Question::strict(owner, RecordType::Tlsa), trace).await {
            Err(trouble) => ClientTlsa::Temporary { reason: trouble.reason(), detail: trouble.to_string() },
            Ok(answer) => match tlsa_set(answer) {
                Keys::Published(set) => ClientTlsa::Published(set),
                Keys::Absent => ClientTlsa::Absent,
                Keys::Insecure => ClientTlsa::Insecure,
            },
        }
    }

    /// The secure addresses of a host, of both families. One family is enough, unless the other shows that the name is
    /// not secure after all.
    async fn addresses(&self, name: &DomainName, trace: &mut Trace) -> Result<Addresses, HostProblem> {
        let (mut trace4, mut trace6) = (Trace::new(), Trace::new());
        let question = |rtype| Question::strict(name.into(), rtype);
        let (v4, v6) = tokio::join!(
            self.ask(question(RecordType::A), &mut trace4),
            self.ask(question(RecordType::Aaaa), &mut trace6),
        );
        trace.append(trace4);
        trace.append(trace6);
        for answer in [&v4, &v6].into_iter().flatten() {
            if answer.verdict == Verdict::Insecure {
                let link =
                    answer.aliases.last().map(|last| format!(" (alias to {last})")).unwrap_or_default();
                return Err(HostProblem::new(
                    Reason::HostInsecure,
                    format!("the address of {name} is not signed{link}"),
                ));
            }
        }
        let mut found = Addresses { list: Vec::new(), expanded: None };
        let mut trouble = None;
        for answer in [v6, v4] {
            match answer {
                Err(one) => trouble = Some(one),
                Ok(answer) => {
                    let expanded = answer.aliases.last().cloned();
                    match answer.content {
                        Content::Records(Records::A(list)) => {
                            found.list.extend(list.into_iter().map(IpAddr::V4))
                        }
                        Content::Records(Records::Aaaa(list)) => {
                            found.list.extend(list.into_iter().map(IpAddr::V6))
                        }
                        _ => {}
                    }
                    found.expanded = expanded.or(found.expanded);
                }
            }
        }
        match (found.list.is_empty(), trouble) {
            (false, _) => Ok(found),
            (true, Some(trouble)) => Err(trouble.into()),
            (true, None) => Err(HostProblem::new(Reason::HostNoAddress, format!("{name} has no address"))),
        }
    }

    fn allowed(&self, name: &DomainName, list: Vec<IpAddr>) -> Result<Vec<IpAddr>, HostProblem> {
        let (mut allowed, mut refused) = (Vec::new(), Vec::new());
        for address in list {
            match self.addresses.forbids(address) {
                None => allowed.push(address),
                Some(why) => refused.push(format!("{address} ({why})")),
            }
        }
        if allowed.is_empty() {
            let detail =
                format!("{name} has only addresses that are not connected to: {}", refused.join(", "));
            return Err(HostProblem::new(Reason::HostAddressForbidden, detail));
        }
        Ok(allowed)
    }

    /// The TLSA set and the base domain it stands under: the end of the chain of aliases if a set exists there, else the
    /// name the record gave (DANE-002, RFC 7672 section 2.2.2).
    async fn keys(
        &self,
        host: &Host,
        expanded: Option<&OwnerName>,
        port: u16,
        trace: &mut Trace,
    ) -> Result<(DomainName, Secure<TlsaSet>), HostProblem> {
        let expanded = expanded.and_then(OwnerName::to_domain_name).filter(|name| *name != host.name);
        let mut insecure = false;
        for base in expanded.into_iter().chain([host.name.clone()]) {
            let Ok(owner) = OwnerName::tlsa(port, &base) else { continue };
            let answer = self.ask(Question::strict(owner.clone(), RecordType::Tlsa), trace).await?;
            match tlsa_set(answer) {
                Keys::Published(set) if set.get().usable.is_empty() => {
                    let why: Vec<_> = set.get().unusable.iter().take(4).map(ToString::to_string).collect();
                    let detail = format!("no record of {owner} can be used: {}", why.join("; "));
                    return Err(HostProblem::new(Reason::TlsaUnusable, detail));
                }
                Keys::Published(set) => return Ok((base, set)),
                Keys::Absent => {}
                Keys::Insecure => insecure = true,
            }
        }
        let name = &host.name;
        Err(if insecure {
            HostProblem::new(Reason::TlsaInsecure, format!("the TLSA answer of {name} is not signed"))
        } else {
            HostProblem::new(Reason::TlsaAbsent, format!("{name} has no TLSA record for port {port}"))
        })
    }
}

/// What a TLSA answer comes to.
enum Keys {
    Published(Secure<TlsaSet>),
    Absent,
    Insecure,
}

fn tlsa_set(answer: Answer) -> Keys {
    let Some(content) = answer.into_secure() else { return Keys::Insecure };
    match content.try_derive(|content| match content {
        Content::Records(Records::Tlsa(records)) => Ok(TlsaSet::from_rdata(&records)),
        _ => Err(()),
    }) {
        Ok(set) => Keys::Published(set),
        Err(()) => Keys::Absent,
    }
}
