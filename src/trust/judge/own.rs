//! A domain of our own, judged as other providers will judge it, before anything is sent in its name (SIGN-010).

use std::net::IpAddr;
use std::time::Duration;

use mail_auth::dmarc::Policy;

use crate::discovery::{Finding, OwnerName, Trace};
use crate::model::{Address, DnsFact, DomainName, ReversePath};

use super::super::fields::GivenName;
use super::super::results::SpfWord;
use super::super::signing::SigningKey;
use super::names::{Asked, Found, Mark, Names};
use super::{Judge, dmarc, spf};

/// All look-ups about one domain. A client of the submission listener waits for them.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Addresses of the node that are judged.
const ADDRESSES_MAX: usize = 8;

/// Whether a DMARC record of a domain itself makes others refuse what is forged in its name: quarantine or reject
/// (SIGN-010). `None`: it is no DMARC record.
#[must_use]
pub fn dmarc_enforces(record: &[u8]) -> Option<bool> {
    use mail_auth::common::parse::TxtRecordParser as _;
    if !dmarc::is_dmarc(record) {
        return None;
    }
    let read = mail_auth::dmarc::Dmarc::parse(record).ok();
    Some(read.is_some_and(|read| enforces(read.p)))
}

const fn enforces(policy: Policy) -> bool {
    matches!(policy, Policy::Quarantine | Policy::Reject)
}

/// A domain of ours, and what it is meant to show.
#[derive(Clone, Debug)]
pub struct OwnDomain<'a> {
    /// The domain.
    pub domain: &'a DomainName,
    /// The node that sends for it; its addresses are those of this name.
    pub node: &'a DomainName,
    /// Selector and key of each signature it makes.
    pub keys: Vec<(&'a str, &'a SigningKey)>,
}

/// What DNS shows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnState {
    /// What others would refuse, each as a sentence for operators. None: they have no reason to.
    pub defects: Vec<String>,
    /// What could not be seen now. Never a defect.
    pub trouble: Vec<String>,
    /// Every DNS question asked, for the decision record.
    pub dns: Vec<DnsFact>,
}

impl Judge {
    /// Judges a domain of ours. Takes bounded time; what did not come by then is trouble.
    pub async fn own_domain(&self, own: &OwnDomain<'_>) -> OwnState {
        let mut asked = Asked { discovery: &self.discovery, trace: Trace::new() };
        let judged = tokio::time::timeout(TIME_MAX, async {
            let mut state = inspect(&mut asked, own).await;
            match self.discovery.federation(own.domain, &mut asked.trace).await {
                Finding::Federated(_) => {}
                Finding::NotFederated { reason, detail } => {
                    state.defects.push(format!("its NTA record is not valid: {reason}: {detail}"));
                }
                Finding::Temporary { detail, .. } => state.trouble.push(detail),
            }
            state
        });
        let mut state = judged.await.unwrap_or_else(|_| {
            let mut state = OwnState::default();
            without_keys(own, &mut state);
            state.trouble.push("the look-ups took too long".to_owned());
            state
        });
        state.dns = asked.trace.into_facts();
        state
    }
}

/// Without keys no message of the domain is signed, whatever DNS says.
fn without_keys(own: &OwnDomain<'_>, state: &mut OwnState) {
    if own.keys.is_empty() {
        state.defects.push("no DKIM key signs for it".to_owned());
    }
}

async fn inspect(names: &mut dyn Names, own: &OwnDomain<'_>) -> OwnState {
    let mut state = OwnState::default();
    without_keys(own, &mut state);
    for (selector, key) in &own.keys {
        published(names, own.domain, selector, key, &mut state).await;
    }
    match dmarc::policy_of(names, own.domain).await {
        Ok(Some(policy)) if enforces(policy) => {}
        Ok(Some(_)) => {
            state.defects.push("its DMARC record asks for neither quarantine nor reject".to_owned())
        }
        Ok(None) => state.defects.push("it has no DMARC record".to_owned()),
        Err(dmarc::Stop::Permanent(detail)) => state.defects.push(format!("DMARC: {detail}")),
        Err(dmarc::Stop::Temporary(detail)) => state.trouble.push(detail),
    }
    named_by_spf(names, own, &mut state).await;
    state
}

async fn published(
    names: &mut dyn Names,
    domain: &DomainName,
    selector: &str,
    key: &SigningKey,
    state: &mut OwnState,
) {
    // The configuration admits only selectors that make a name.
    let Ok(name) = format!("{selector}._domainkey.{domain}").parse::<OwnerName>() else { return };
    match names.txt(&name).await {
        Found::Trouble(detail) => state.trouble.push(detail),
        Found::None(_) => state.defects.push(format!("there is no key at {name}")),
        Found::Some(_, Mark::Unproven) => {
            state.defects.push(format!("the key at {name} is not signed with DNSSEC"));
        }
        Found::Some(records, Mark::Proven) => match records.as_slice() {
            [record] if key.is_published_by(record) => {}
            [_] => state.defects.push(format!("the key at {name} is not the one that signs")),
            _ => state.defects.push(format!("there is more than one record at {name}")),
        },
    }
}

/// Whether SPF passes for each address that this node sends from, as far as its own name tells.
async fn named_by_spf(names: &mut dyn Names, own: &OwnDomain<'_>, state: &mut OwnState) {
    let Ok(host) = own.node.as_str().parse::<OwnerName>() else { return };
    let mut addresses = Vec::new();
    for like in [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])] {
        match names.addresses(&host, like).await {
            Found::Some(found, _) => addresses.extend(found),
            Found::None(_) => {}
            Found::Trouble(detail) => return state.trouble.push(detail),
        }
    }
    if addresses.is_empty() {
        state.defects.push(format!("SPF cannot be judged: {host} has no address"));
    }
    let Ok(sender) = format!("postmaster@{}", own.domain).parse::<Address>() else { return };
    let (sender, helo) = (ReversePath::Address(sender), GivenName::Name(own.node.clone()));
    for ip in addresses.into_iter().take(ADDRESSES_MAX) {
        let client = spf::Client { ip, helo: &helo, mail_from: &sender, host: own.node };
        let outcome = spf::check(names, &client).await;
        match outcome.result.word {
            SpfWord::Pass if outcome.unproven.iter().any(|name| name == own.domain.as_str()) => {
                state.defects.push("its SPF record is not signed with DNSSEC".to_owned());
                break;
            }
            SpfWord::Pass => {}
            SpfWord::Temperror => state.trouble.push(outcome.detail),
            _ => state
                .defects
                .push(format!("SPF does not name {ip}, an address of this node ({})", outcome.detail)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::names::testing::Table;
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    fn table(key: &SigningKey) -> Table {
        Table::new(&[
            ("a.nl", "TXT v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"),
            ("_dmarc.a.nl", "TXT v=DMARC1; p=reject"),
            ("s._domainkey.a.nl", &format!("TXT {}", key.record())),
            ("nta.a.nl", "A 192.0.2.25"),
            ("nta.a.nl", "A 2001:db8::25"),
        ])
    }

    async fn state(change: impl FnOnce(&mut Table)) -> OwnState {
        let key = SigningKey::from_pem(KEY.as_bytes()).unwrap();
        let mut table = table(&key);
        change(&mut table);
        let (domain, node) = ("a.nl".parse().unwrap(), "nta.a.nl".parse().unwrap());
        inspect(&mut table, &OwnDomain { domain: &domain, node: &node, keys: vec![("s", &key)] }).await
    }

    fn replace(table: &mut Table, name: &str, record: &str) {
        table.txt.remove(name);
        table.addresses.remove(name);
        table.add(name, record);
    }

    /// Proves: +SIGN-010
    #[tokio::test]
    async fn a_domain_in_order_has_no_defect() {
        assert_eq!(state(|_| ()).await, OwnState::default());
        let relaxed = |table: &mut Table| replace(table, "_dmarc.a.nl", "TXT v=DMARC1; p=quarantine");
        assert_eq!(state(relaxed).await, OwnState::default());
    }

    /// Proves: -SIGN-010
    #[tokio::test]
    async fn t32_each_defect_is_seen_and_named() {
        let other = "TXT v=DKIM1; k=ed25519; p=AAAA";
        for (name, record, said) in [
            ("a.nl", "TXT v=spf1 ip4:198.51.100.0/24 -all", "SPF does not name 192.0.2.25"),
            ("a.nl", "TXT v=spf1 ip4:192.0.2.25 -all", "SPF does not name 2001:db8::25"),
            ("a.nl", "TXT something", "SPF does not name"),
            ("a.nl", "UNPROVEN", "SPF does not name"),
            ("_dmarc.a.nl", "TXT v=DMARC1; p=none", "neither quarantine nor reject"),
            ("_dmarc.a.nl", "TXT x", "no DMARC record"),
            ("_dmarc.a.nl", "UNPROVEN", "not signed with DNSSEC"),
            ("s._domainkey.a.nl", other, "is not the one that signs"),
            ("s._domainkey.a.nl", "UNPROVEN", "no key at"),
            ("nta.a.nl", "MX nta.a.nl", "has no address"),
        ] {
            let state = state(|table| replace(table, name, record)).await;
            assert!(state.defects.iter().any(|defect| defect.contains(said)), "{name} {record}: {state:?}");
            assert!(state.trouble.is_empty(), "{name} {record}: {state:?}");
        }
        for name in ["s._domainkey.a.nl", "a.nl"] {
            let state = state(|table| table.add(name, "UNPROVEN")).await;
            assert!(
                state.defects.iter().any(|defect| defect.contains("not signed with DNSSEC")),
                "{state:?}"
            );
        }
    }

    /// Proves: +SIGN-012 -SIGN-012
    #[tokio::test]
    async fn trouble_is_no_defect() {
        for name in ["a.nl", "_dmarc.a.nl", "s._domainkey.a.nl", "nta.a.nl"] {
            let state = state(|table| table.add(name, "TROUBLE")).await;
            assert!(state.defects.is_empty() && !state.trouble.is_empty(), "{name}: {state:?}");
        }
    }
}
