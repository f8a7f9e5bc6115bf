//! Verdicts of a resolver on this host (DNS-007). An explicit option.
//!
//! One secret less to manage where a validating resolver runs anyway, one more program to trust. The self-test shows at
//! start that it validates; nothing shows that it still does an hour later.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::base::Rtype;
use domain::base::iana::OptRcode;

use crate::world::Clock;

use super::chase::{Judge, Link, Says, chase};
use super::transport::{Checking, Transport};
use super::wire::{Found, Group, Rr, lifetime, typed};
use super::{
    Absence, Answer, DnsSettings, DnsTrouble, OwnerName, Question, RecordType, ResolverError, SecureDns,
    TroubleKind, Verdict,
};

/// A stub resolver that believes the AD bit.
pub struct AdBitResolver {
    transport: Transport,
    clock: Arc<dyn Clock>,
    limit: Duration,
}

impl AdBitResolver {
    /// A resolver that has passed its self-test.
    ///
    /// # Errors
    /// The resolver is not on loopback, or does not validate.
    pub async fn start(
        settings: &DnsSettings,
        known_good: &OwnerName,
        known_bogus: &OwnerName,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ResolverError> {
        let resolver = settings.resolver;
        if !resolver.ip().to_canonical().is_loopback() {
            return Err(ResolverError::NotLoopback(resolver));
        }
        let transport = Transport::new(settings, clock.clone());
        let good = transport.ask(known_good.wire(), Rtype::SOA, Checking::AtResolver).await;
        let good =
            good.map_err(|trouble| ResolverError::SelfTest { resolver, name: known_good.clone(), trouble })?;
        if !good.authenticated {
            return Err(ResolverError::NoAd { resolver, name: known_good.clone() });
        }
        match transport.ask(known_bogus.wire(), Rtype::A, Checking::AtResolver).await {
            Err(trouble) if trouble.kind == TroubleKind::Servfail => {}
            Err(trouble) => {
                return Err(ResolverError::SelfTest { resolver, name: known_bogus.clone(), trouble });
            }
            Ok(_) => return Err(ResolverError::BogusAnswered { resolver, name: known_bogus.clone() }),
        }
        Ok(Self { transport, clock, limit: settings.question_timeout })
    }
}

#[async_trait]
impl Judge for AdBitResolver {
    async fn link(&self, name: &OwnerName, rtype: RecordType) -> Result<Link, DnsTrouble> {
        let reply = self.transport.ask(name.wire(), rtype.wire(), Checking::AtResolver).await?;
        let verdict = if reply.authenticated { Verdict::Secure } else { Verdict::Insecure };
        let (says, group) = match reply.find(name.wire(), rtype.wire())? {
            Found::Records(group) => (Says::Records(typed(rtype, &group.records)?), group),
            Found::Alias(alias) => (Says::Alias(OwnerName::from_wire(&alias.target)), alias.group),
            Found::Nothing if reply.rcode == OptRcode::NXDOMAIN => {
                (Says::Absent(Absence::Name), Group::default())
            }
            Found::Nothing => (Says::Absent(Absence::Type), Group::default()),
        };
        let records: Vec<Rr> = group.records.into_iter().chain(group.signatures).collect();
        let (ttl, proven_until) = lifetime(&records, &reply.proofs(), self.clock.now());
        Ok(Link { verdict, says, ttl, proven_until })
    }
}

#[async_trait]
impl SecureDns for AdBitResolver {
    async fn query(&self, question: &Question) -> Result<Answer, DnsTrouble> {
        let late = |_| DnsTrouble::new(TroubleKind::Timeout, format!("{} took too long", question.name));
        tokio::time::timeout(self.limit, chase(self, question)).await.map_err(late)?
    }

    /// The resolver's own cache is not ours to empty.
    fn forget(&self) {}
}
