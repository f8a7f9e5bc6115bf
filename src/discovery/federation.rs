//! Does a domain take part, and through which hosts?

use std::fmt;

use crate::model::{DiscoveryFacts, DomainName, Reason};
use crate::world::World;

use super::dns::{
    Absence, Answer, Content, DnsTrouble, OwnerName, Question, RecordType, Records, Secure, Verdict,
};
use super::nta_record::{self, NtaRecord};
use super::{Discovery, Trace};

/// What was found out about a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It takes part.
    Federated(Federation),
    /// It does not, now; waiting will not change that.
    NotFederated {
        /// The check that failed.
        reason: Reason,
        /// What exactly was seen.
        detail: String,
    },
    /// DNS gave no answer that can be believed. Never to be taken for "does not take part" (DNS-002).
    Temporary {
        /// The check that failed.
        reason: Reason,
        /// What exactly was seen.
        detail: String,
    },
}

/// A domain that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federation {
    /// The mail domain.
    pub domain: DomainName,
    /// Its NTA record.
    pub record: Secure<NtaRecord>,
    /// Its hosts, in the order in which they are to be tried: lowest preference first, equal ones shuffled anew each
    /// time (DISC-011). All of them together are one peer. Never empty.
    pub hosts: Vec<Host>,
    /// Where the hosts came from.
    pub source: Source,
}

impl Federation {
    /// Whether `name` is one of the hosts.
    #[must_use]
    pub fn has_host(&self, name: &DomainName) -> bool {
        self.hosts.iter().any(|host| host.name == *name)
    }

    /// What goes into the decision record, without the questions.
    #[must_use]
    pub fn facts(&self) -> DiscoveryFacts {
        let record = self.record.get();
        DiscoveryFacts {
            verdict: Some("federated".to_owned()),
            startdate: Some(record.start.to_string()),
            enddate: Some(record.end.to_string()),
            provider: Some(record.provider.clone()).filter(|name| !name.is_empty()),
            source: Some(self.source.to_string()),
            hosts: self.hosts.iter().map(|host| (host.preference, host.name.clone())).collect(),
            ..DiscoveryFacts::default()
        }
    }
}

impl Finding {
    /// What goes into the decision record, without the questions.
    #[must_use]
    pub fn facts(&self) -> DiscoveryFacts {
        match self {
            Self::Federated(federation) => federation.facts(),
            Self::NotFederated { reason, .. } | Self::Temporary { reason, .. } => {
                DiscoveryFacts { verdict: Some(reason.to_string()), ..DiscoveryFacts::default() }
            }
        }
    }
}

/// A host that answers for a domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Its name.
    pub name: DomainName,
    /// Lower is tried first.
    pub preference: u16,
    /// The mail domain, when the host came from MX: then it is a reference name as well (RFC 7672 section 3.2.2).
    pub mail_domain: Option<DomainName>,
}

/// Where hosts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The NTA record names them.
    NtaMx,
    /// It names none; they are the domain's secure MX hosts.
    Mx,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NtaMx => "ntamx",
            Self::Mx => "mx",
        })
    }
}

/// What ends the search early.
enum Stop {
    No(Reason, String),
    Later(DnsTrouble),
}

impl Stop {
    fn no(reason: Reason, detail: impl Into<String>) -> Self {
        Self::No(reason, detail.into())
    }
}

impl From<DnsTrouble> for Stop {
    fn from(trouble: DnsTrouble) -> Self {
        Self::Later(trouble)
    }
}

impl From<Stop> for Finding {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::No(reason, detail) => Self::NotFederated { reason, detail },
            Stop::Later(trouble) => Self::Temporary { reason: trouble.reason(), detail: trouble.to_string() },
        }
    }
}

impl Discovery {
    /// Finds out whether `domain` takes part, and through which hosts.
    ///
    /// The TXT set is that of the domain itself, whatever stands above or below it in the tree (DISC-001).
    pub async fn federation(&self, domain: &DomainName, trace: &mut Trace) -> Finding {
        self.find(domain, trace).await.map_or_else(Finding::from, Finding::Federated)
    }

    async fn find(&self, domain: &DomainName, trace: &mut Trace) -> Result<Federation, Stop> {
        let answer = self.ask(Question::strict(domain.into(), RecordType::Txt), trace).await?;
        let content = proven(answer, domain, "TXT")?;
        if *content.get() == Content::Absent(Absence::Name) {
            return Err(Stop::no(Reason::DomainUnknown, format!("{domain} does not exist")));
        }
        let now = self.world.now();
        let record = content
            .try_derive(|content| match content {
                Content::Records(Records::Txt(set)) => nta_record::parse(&set, now),
                _ => nta_record::parse(&[], now),
            })
            .map_err(|problem| Stop::no(problem.reason(), problem.to_string()))?;

        let (source, mut hosts) = if record.get().ntamx.is_empty() {
            (Source::Mx, self.mx_hosts(domain, trace).await?)
        } else {
            let host = |(preference, name): &(u16, DomainName)| Host {
                name: name.clone(),
                preference: *preference,
                mail_domain: None,
            };
            (Source::NtaMx, record.get().ntamx.iter().map(host).collect())
        };
        in_order(&mut hosts, &self.world);
        Ok(Federation { domain: domain.clone(), record, hosts, source })
    }

    /// The domain's secure MX hosts. An address of the domain itself does not stand in for them (DISC-010).
    async fn mx_hosts(&self, domain: &DomainName, trace: &mut Trace) -> Result<Vec<Host>, Stop> {
        let answer = self.ask(Question::strict(domain.into(), RecordType::Mx), trace).await?;
        let content = proven(answer, domain, "MX")?;
        let records = match content.get() {
            Content::Records(Records::Mx(records)) => records.as_slice(),
            _ => &[],
        };
        if records.iter().any(|(_, host)| host.is_root()) {
            return Err(Stop::no(Reason::NoHosts, format!("{domain} takes no mail (null MX, RFC 7505)")));
        }
        let hosts: Vec<_> =
            records.iter().filter_map(|(preference, host)| mx_host(*preference, host, domain)).collect();
        if hosts.is_empty() {
            let what = if records.is_empty() { "no MX" } else { "no MX that names a host" };
            return Err(Stop::no(Reason::NoHosts, format!("{domain} has no ntamx and {what}")));
        }
        Ok(hosts)
    }
}

fn mx_host(preference: u16, host: &OwnerName, domain: &DomainName) -> Option<Host> {
    Some(Host { name: host.to_domain_name()?, preference, mail_domain: Some(domain.clone()) })
}

fn proven(answer: Answer, domain: &DomainName, rtype: &str) -> Result<Secure<Content>, Stop> {
    let said = match (answer.verdict, &answer.content) {
        (Verdict::Insecure, Content::Absent(Absence::Name)) => " (and the name is said not to exist)",
        _ => "",
    };
    answer.into_secure().ok_or_else(|| {
        Stop::no(Reason::ZoneInsecure, format!("the {rtype} answer for {domain} is not signed{said}"))
    })
}

/// Lowest preference first, a host once at its lowest, equal ones in an order drawn anew (DISC-011).
fn in_order(hosts: &mut Vec<Host>, world: &World) {
    hosts.sort_by(|a, b| (a.preference, &a.name).cmp(&(b.preference, &b.name)));
    let mut seen = std::collections::HashSet::new();
    hosts.retain(|host| seen.insert(host.name.clone()));
    let mut from = 0;
    while from < hosts.len() {
        let preference = hosts[from].preference;
        let len = hosts[from..].iter().take_while(|host| host.preference == preference).count();
        let group = &mut hosts[from..from + len];
        // Fisher and Yates.
        for last in (1..group.len()).rev() {
            let bound = u64::try_from(last + 1).expect("a record has fewer hosts than 2^64");
            let pick = usize::try_from(world.below(bound)).expect("below a usize");
            group.swap(last, pick);
        }
        from += len;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::super::dns::{SecureDns, Txt};
    use super::super::{AddressRule, CacheSettings, CachedDns};
    use super::*;
    use crate::world::{ManualClock, SeededRandom, SystemClock};

    /// Answers every question with this TXT record, secure for a day.
    struct Publishes(String);

    #[async_trait::async_trait]
    impl SecureDns for Publishes {
        async fn query(&self, _: &Question) -> Result<Answer, DnsTrouble> {
            let txt = Txt::new(vec![self.0.clone().into_bytes()]);
            Ok(Answer {
                verdict: Verdict::Secure,
                content: Content::Records(Records::Txt(vec![txt])),
                aliases: Vec::new(),
                ttl: std::time::Duration::from_secs(86_400),
                proven_until: None,
                cached: false,
            })
        }

        fn forget(&self) {}
    }

    /// The record is judged when it is used, not when it was cached.
    ///
    /// Proves: +DISC-007 -DISC-007
    #[tokio::test]
    async fn t25_a_record_begins_and_ends_while_its_answer_is_cached() {
        let clock = ManualClock::at("2026-06-30T21:59:00Z".parse().unwrap());
        let world = World::with(clock.clone(), SeededRandom::new(7));
        let text = "v=NTA7516-1;startdate=2026-07;enddate=2026-07;ntamx=10 mx.a.nl".to_owned();
        let settings = CacheSettings { ttl_ceiling: std::time::Duration::MAX, ..CacheSettings::default() };
        let dns = Box::new(CachedDns::new(Box::new(Publishes(text)), settings, clock.clone()));
        let discovery = Discovery { dns, addresses: AddressRule::PublicOnly, world };
        let find = async || discovery.federation(&"a.nl".parse().unwrap(), &mut Trace::new()).await;
        assert!(matches!(find().await, Finding::NotFederated { reason: Reason::RecordNotYetValid, .. }));
        clock.advance(60_000);
        assert!(matches!(find().await, Finding::Federated(_)));
        clock.advance(31 * 86_400_000 - 1);
        assert!(matches!(find().await, Finding::Federated(_)));
        clock.advance(1);
        assert!(matches!(find().await, Finding::NotFederated { reason: Reason::RecordExpired, .. }));
    }

    fn host(preference: u16, name: &str) -> Host {
        Host { name: name.parse().unwrap(), preference, mail_domain: None }
    }

    /// Proves: +DISC-011 -DISC-011
    #[test]
    fn lowest_first_equal_shuffled_and_each_host_once() {
        let world = World::with(std::sync::Arc::new(SystemClock), SeededRandom::new(7));
        let given =
            [host(20, "d.nl"), host(10, "a.nl"), host(10, "b.nl"), host(30, "a.nl"), host(10, "c.nl")];
        let mut orders = HashSet::new();
        for _ in 0..200 {
            let mut hosts = given.to_vec();
            in_order(&mut hosts, &world);
            let preferences: Vec<_> = hosts.iter().map(|host| host.preference).collect();
            assert_eq!(preferences, [10, 10, 10, 20]);
            orders.insert(hosts.iter().map(|host| host.name.to_string()).collect::<Vec<_>>());
        }
        assert_eq!(orders.len(), 6, "all orders of the three equal ones occur");
    }
}
