//! SPF (RFC 7208).
//!
//! Records are read by `mail-auth`, once [`grammar`] has found nothing wrong in them. The evaluation is ours, because only so
//! does each look-up carry its verdict, and trouble in any of them stays trouble.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::spf::{Macro, Mechanism, Qualifier, Spf, Variables};

use crate::discovery::OwnerName;
use crate::model::{DomainName, ReversePath};

use super::super::fields::GivenName;
use super::super::results::{SpfIdentity, SpfResult, SpfWord};
use super::names::{Found, Mark, Names};
use super::spf_grammar as grammar;

/// Terms that cost a look-up, over all records of one evaluation (RFC 7208 section 4.6.4).
const LOOK_UPS_MAX: u32 = 10;
/// Look-ups that may find nothing (section 4.6.4).
const VOIDS_MAX: u32 = 2;
/// Hosts of one `mx` term (section 4.6.4).
const MX_HOSTS_MAX: usize = 10;

/// About whom the question is.
pub(super) struct Client<'a> {
    pub ip: IpAddr,
    pub helo: &'a GivenName,
    pub mail_from: &'a ReversePath,
    /// The name of this node.
    pub host: &'a DomainName,
}

/// What came out, with what an operator wants to know of it.
pub(super) struct Outcome {
    pub result: SpfResult,
    pub detail: String,
    /// Names whose answers DNSSEC does not vouch for.
    pub unproven: Vec<String>,
}

/// Evaluates SPF for MAIL FROM, or for the EHLO name with the null sender (RFC 7208 section 2.4).
pub(super) async fn check(names: &mut dyn Names, client: &Client<'_>) -> Outcome {
    let (identity, sender) = match (client.mail_from, client.helo) {
        (ReversePath::Address(address), _) => {
            (SpfIdentity::MailFrom(address.domain().clone()), address.to_string())
        }
        (ReversePath::Null, GivenName::Name(name)) => {
            (SpfIdentity::Helo(Some(name.clone())), format!("postmaster@{name}"))
        }
        (ReversePath::Null, GivenName::Literal(_) | GivenName::Other) => {
            let result = SpfResult { word: SpfWord::None, identity: SpfIdentity::Helo(None) };
            let detail = "the null sender came with an EHLO name that is no domain name".to_owned();
            return Outcome { result, detail, unproven: Vec::new() };
        }
    };
    let (SpfIdentity::MailFrom(domain) | SpfIdentity::Helo(Some(domain))) = &identity else {
        return Outcome {
            result: SpfResult { word: SpfWord::None, identity },
            detail: String::new(),
            unproven: Vec::new(),
        };
    };
    let domain = domain.to_string();
    let mut evaluation = Evaluation {
        names,
        ip: client.ip.to_canonical(),
        sender,
        helo: client.helo.to_string(),
        host: client.host.to_string(),
        look_ups: 0,
        voids: 0,
        unproven: Vec::new(),
    };
    let (word, detail) = match evaluation.record_of(domain.clone()).await {
        Ok(word) => (word, format!("SPF of {domain}: {word}")),
        Err(Stop::Temporary(detail)) => (SpfWord::Temperror, format!("SPF of {domain}: {detail}")),
        Err(Stop::Permanent(detail)) => (SpfWord::Permerror, format!("SPF of {domain}: {detail}")),
    };
    Outcome { result: SpfResult { word, identity }, detail, unproven: evaluation.unproven }
}

/// Why the evaluation ends without a result.
enum Stop {
    Temporary(String),
    Permanent(String),
}

struct Evaluation<'n> {
    names: &'n mut dyn Names,
    ip: IpAddr,
    sender: String,
    helo: String,
    host: String,
    look_ups: u32,
    voids: u32,
    unproven: Vec<String>,
}

type Evaluated<'a> = Pin<Box<dyn Future<Output = Result<SpfWord, Stop>> + Send + 'a>>;

impl Evaluation<'_> {
    /// `check_host()` of RFC 7208 section 4, for one domain.
    fn record_of(&mut self, domain: String) -> Evaluated<'_> {
        Box::pin(async move {
            let Some(record) = self.fetch(&domain).await? else { return Ok(SpfWord::None) };
            for directive in &record.directives {
                if self.matches(&directive.mechanism, &domain).await? {
                    return Ok(match directive.qualifier {
                        Qualifier::Pass => SpfWord::Pass,
                        Qualifier::Fail => SpfWord::Fail,
                        Qualifier::SoftFail => SpfWord::Softfail,
                        Qualifier::Neutral => SpfWord::Neutral,
                    });
                }
            }
            let Some(redirect) = &record.redirect else { return Ok(SpfWord::Neutral) };
            self.count()?;
            let target = self.expand(redirect, &domain)?.to_string();
            match self.record_of(target.clone()).await? {
                SpfWord::None => Err(Stop::Permanent(format!("redirects to {target}, which has no record"))),
                word => Ok(word),
            }
        })
    }

    /// The one SPF record of a domain (section 4.5).
    async fn fetch(&mut self, domain: &str) -> Result<Option<Spf>, Stop> {
        let Ok(name) = domain.parse::<OwnerName>() else { return Ok(None) };
        let found = self.names.txt(&name).await;
        let Some(records) = self.note(&name, found)? else { return Ok(None) };
        let mut ours = records.iter().filter(|record| is_spf(record));
        let Some(record) = ours.next() else { return Ok(None) };
        if ours.next().is_some() {
            return Err(Stop::Permanent(format!("{domain} has more than one record")));
        }
        let malformed = || Stop::Permanent(format!("the record of {domain} is malformed"));
        let evaluated = grammar::evaluated(record).ok_or_else(malformed)?;
        Spf::parse(&evaluated).map(Some).map_err(|_| malformed())
    }

    async fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Result<bool, Stop> {
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4 { addr, mask } => Ok(self.is_in(IpAddr::V4(*addr), *mask, 0)),
            Mechanism::Ip6 { addr, mask } => Ok(self.is_in(IpAddr::V6(*addr), 0, *mask)),
            Mechanism::A { macro_string, ip4_mask, ip6_mask } => {
                self.count()?;
                let target = self.expand(macro_string, domain)?;
                let found = self.addresses(&target).await?;
                self.void_if(found.is_empty())?;
                Ok(found.into_iter().any(|address| self.is_in(address, *ip4_mask, *ip6_mask)))
            }
            Mechanism::Mx { macro_string, ip4_mask, ip6_mask } => {
                self.count()?;
                let target = self.expand(macro_string, domain)?;
                let found = self.names.mx(&target).await;
                let hosts = self.note(&target, found)?.unwrap_or_default();
                self.void_if(hosts.is_empty())?;
                if hosts.len() > MX_HOSTS_MAX {
                    return Err(Stop::Permanent(format!("{target} has more than {MX_HOSTS_MAX} MX hosts")));
                }
                for host in hosts {
                    let found = self.addresses(&host).await?;
                    if found.into_iter().any(|address| self.is_in(address, *ip4_mask, *ip6_mask)) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Mechanism::Include { macro_string } => {
                self.count()?;
                let target = self.expand(macro_string, domain)?.to_string();
                match self.record_of(target.clone()).await? {
                    SpfWord::Pass => Ok(true),
                    SpfWord::None => Err(Stop::Permanent(format!("includes {target}, which has no record"))),
                    _ => Ok(false),
                }
            }
            Mechanism::Exists { macro_string } => {
                self.count()?;
                let target = self.expand(macro_string, domain)?;
                // Always the A record, whatever the client's address family (section 5.7).
                let found = self.names.addresses(&target, IpAddr::from([0, 0, 0, 0])).await;
                let exists = self.note(&target, found)?.is_some();
                self.void_if(!exists)?;
                Ok(exists)
            }
            // Reverse names are under the control of whoever has the address; section 5.5 asks not to publish this.
            Mechanism::Ptr { .. } => {
                Err(Stop::Permanent("the record uses ptr, which is not evaluated here".into()))
            }
        }
    }

    async fn addresses(&mut self, name: &OwnerName) -> Result<Vec<IpAddr>, Stop> {
        let found = self.names.addresses(name, self.ip).await;
        Ok(self.note(name, found)?.unwrap_or_default())
    }

    /// Keeps the verdict of an answer.
    fn note<T>(&mut self, name: &OwnerName, found: Found<T>) -> Result<Option<T>, Stop> {
        let (records, mark) = match found {
            Found::Trouble(detail) => return Err(Stop::Temporary(detail)),
            Found::Some(records, mark) => (Some(records), mark),
            Found::None(mark) => (None, mark),
        };
        let name = name.to_string();
        if mark == Mark::Unproven && !self.unproven.contains(&name) {
            self.unproven.push(name);
        }
        Ok(records)
    }

    fn count(&mut self) -> Result<(), Stop> {
        self.look_ups += 1;
        if self.look_ups > LOOK_UPS_MAX {
            return Err(Stop::Permanent(format!("takes more than {LOOK_UPS_MAX} look-ups")));
        }
        Ok(())
    }

    fn void_if(&mut self, nothing: bool) -> Result<(), Stop> {
        self.voids += u32::from(nothing);
        if self.voids > VOIDS_MAX {
            return Err(Stop::Permanent(format!("more than {VOIDS_MAX} look-ups find nothing")));
        }
        Ok(())
    }

    /// The name a term speaks of (sections 4.8 and 7).
    fn expand(&self, text: &Macro, domain: &str) -> Result<OwnerName, Stop> {
        if text.needs_ptr() {
            return Err(Stop::Permanent("the record uses %{p}, which is not evaluated here".into()));
        }
        let mut variables = Variables::new();
        variables.set_ip(&self.ip);
        variables.set_sender(self.sender.as_bytes());
        variables.set_helo_domain(self.helo.as_bytes());
        variables.set_host_domain(self.host.as_bytes());
        variables.set_domain(domain.as_bytes());
        let name = text.eval(&variables, domain, false);
        name.parse().map_err(|_| Stop::Permanent("a term of the record makes no DNS name".into()))
    }

    fn is_in(&self, network: IpAddr, mask4: u32, mask6: u128) -> bool {
        match (self.ip, network) {
            (IpAddr::V4(ip), IpAddr::V4(network)) => ip.to_bits() & mask4 == network.to_bits() & mask4,
            (IpAddr::V6(ip), IpAddr::V6(network)) => ip.to_bits() & mask6 == network.to_bits() & mask6,
            _ => false,
        }
    }
}

/// Whether a TXT record is an SPF record: the version, then a blank or the end (section 4.5).
fn is_spf(record: &[u8]) -> bool {
    record.get(..6).is_some_and(|version| version.eq_ignore_ascii_case(b"v=spf1"))
        && record.get(6).is_none_or(|next| *next == b' ')
}
