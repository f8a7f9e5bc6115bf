//! Validation in this process, from the trust anchors down (DNS-005). The default.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use domain::base::iana::OptRcode;
use domain::base::{Message, Name, Rtype};
use domain::dnssec::validator::context::{Config, ValidationContext, ValidationState};
use tokio_util::task::AbortOnDropHandle;

use crate::world::Clock;

use super::chase::{Judge, Link, Says, chase};
use super::transport::{Checking, Transport, noting_trouble};
use super::undersized;
use super::wire::{Alias, Found, Group, Reply, Rr, compose, lifetime, typed, unsigned_claim};
use super::{
    Absence, Anchors, Answer, DnsSettings, DnsTrouble, OwnerName, Question, RecordType, SecureDns,
    TroubleKind, Verdict,
};

/// How long the validator remembers that a zone is bogus: as short as it can (RFC 9520 section 3.2 asks for at least a
/// second). The cache in front of it remembers temporary trouble; a second memory would double the time a repaired
/// zone is shunned.
const BOGUS_VALIDITY: std::time::Duration = std::time::Duration::from_secs(1);

/// Zones whose keys are kept.
const ZONES_MAX: u64 = 10_000;

/// The most NSEC3 iterations of a proof that is believed (RFC 9276 section 3.2); above, it proves nothing.
const NSEC3_ITERATIONS_MAX: u16 = 100;

/// A stub resolver that believes nothing it cannot verify.
pub struct ValidatingResolver {
    transport: Transport,
    anchors: Anchors,
    context: ArcSwap<ValidationContext<Transport>>,
    clock: Arc<dyn Clock>,
    limit: std::time::Duration,
}

impl ValidatingResolver {
    /// A resolver that asks `settings.resolver` and validates from `anchors`.
    #[must_use]
    pub fn start(settings: &DnsSettings, anchors: Anchors, clock: Arc<dyn Clock>) -> Self {
        let transport = Transport::new(settings, clock.clone());
        let context = ArcSwap::from_pointee(new_context(&anchors, &transport));
        Self { transport, anchors, context, clock, limit: settings.question_timeout }
    }

    async fn judge(&self, reply: &Reply, name: &Name<Bytes>, rtype: RecordType) -> Result<Link, DnsTrouble> {
        let now = self.clock.now();
        let proofs = reply.proofs();
        let link = |verdict, says, group: &Group| {
            let records: Vec<Rr> = group.records.iter().chain(&group.signatures).cloned().collect();
            let (ttl, proven_until) = lifetime(&records, &proofs, now);
            Link { verdict, says, ttl, proven_until }
        };
        match reply.find(name, rtype.wire())? {
            Found::Records(group) if undersized::is_unreadable(rtype.wire(), &group) => {
                let verdict = self.verdict_on_octets(&group, name).await?;
                Ok(link(verdict, Says::Records(typed(rtype, &group.records)?), &group))
            }
            Found::Records(group) => {
                let message = compose(name, rtype.wire(), OptRcode::NOERROR, &group, &proofs)?;
                let verdict = self.verdict(message, name, reply).await?;
                Ok(link(verdict, Says::Records(typed(rtype, &group.records)?), &group))
            }
            Found::Alias(Alias { group, owner, rtype, target }) => {
                let message = compose(&owner, rtype, OptRcode::NOERROR, &group, &proofs)?;
                let verdict = self.verdict(message, &owner, reply).await?;
                Ok(link(verdict, Says::Alias(OwnerName::from_wire(&target)), &group))
            }
            Found::Nothing => {
                let message = compose(name, rtype.wire(), reply.rcode, &Group::default(), &proofs)?;
                let verdict = self.verdict(message, name, reply).await?;
                let absence = if reply.rcode == OptRcode::NXDOMAIN { Absence::Name } else { Absence::Type };
                Ok(link(verdict, Says::Absent(absence), &Group::default()))
            }
        }
    }

    /// The verdict on a composed message about `name`.
    async fn verdict(
        &self,
        message: Message<Vec<u8>>,
        name: &Name<Bytes>,
        reply: &Reply,
    ) -> Result<Verdict, DnsTrouble> {
        let bogus = |detail: String| DnsTrouble::new(TroubleKind::Bogus, detail);
        match self.validate(message).await? {
            (ValidationState::Secure, _) => Ok(Verdict::Secure),
            (ValidationState::Insecure, _) => {
                // The validator starts from the signer that a signature names. Whoever can forge an answer could name
                // one that lies in an unsigned zone, and have a signed name called insecure: a downgrade. So the name
                // itself must be proven to lie in an unsigned zone.
                match self.validate(unsigned_claim(name)?).await? {
                    (ValidationState::Insecure, _) => Ok(Verdict::Insecure),
                    (_, why) => {
                        Err(bogus(format!("{name} is in a signed zone but is not signed by it: {why}")))
                    }
                }
            }
            (ValidationState::Bogus | ValidationState::Indeterminate, why) => {
                self.root_is_vouched_for().await?;
                let stale = if reply.stale_signatures { " (signatures outside their dates)" } else { "" };
                Err(bogus(format!("{name}: {why}{stale}")))
            }
        }
    }

    /// The verdict on a set that the validator cannot read.
    async fn verdict_on_octets(&self, group: &Group, name: &Name<Bytes>) -> Result<Verdict, DnsTrouble> {
        for signature in group.signatures.iter().take(undersized::SIGNATURES_MAX) {
            let Some(signer) = undersized::signer(signature, name) else { continue };
            let reply = self.transport.ask(&signer, Rtype::DNSKEY, Checking::Here).await?;
            let Found::Records(keys) = reply.find(&signer, Rtype::DNSKEY)? else { continue };
            let message = compose(&signer, Rtype::DNSKEY, OptRcode::NOERROR, &keys, &[])?;
            let secure = matches!(self.validate(message).await?, (ValidationState::Secure, _));
            if secure && undersized::is_signed_by(group, signature, &keys.records) {
                return Ok(Verdict::Secure);
            }
        }
        match self.validate(unsigned_claim(name)?).await? {
            (ValidationState::Insecure, _) => Ok(Verdict::Insecure),
            _ => {
                self.root_is_vouched_for().await?;
                Err(DnsTrouble::new(TroubleKind::Bogus, format!("{name}: no signature holds")))
            }
        }
    }

    /// Runs the validator in a task of its own: it has code paths that panic, and its input is a stranger's.
    async fn validate(&self, message: Message<Vec<u8>>) -> Result<(ValidationState, String), DnsTrouble> {
        let context = self.context.load_full();
        let work = async move {
            let mut message = message;
            noting_trouble(async { context.validate_msg(&mut message).await }).await
        };
        let (result, met) = AbortOnDropHandle::new(tokio::spawn(work)).await.map_err(|_| {
            DnsTrouble::new(TroubleKind::Malformed, "the validator gave up on the answer".to_owned())
        })?;
        match (result, met) {
            (Ok((state, why)), None) => {
                let text = why.as_ref().and_then(|why| why.text()?.ok()).map(ToString::to_string);
                Ok((state, text.unwrap_or_else(|| format!("{state:?}"))))
            }
            (Ok((state @ (ValidationState::Secure | ValidationState::Insecure), _)), Some(_)) => {
                Ok((state, format!("{state:?}")))
            }
            (Ok(_) | Err(_), Some(trouble)) => Err(trouble),
            (Err(error), None) => Err(DnsTrouble::new(TroubleKind::Malformed, error.to_string())),
        }
    }

    /// Tells a zone that is bogus from a root whose keys changed under our anchors (DNS-006).
    async fn root_is_vouched_for(&self) -> Result<(), DnsTrouble> {
        let root = Name::root_bytes();
        let reply = self.transport.ask(&root, Rtype::DNSKEY, Checking::Here).await?;
        let Found::Records(group) = reply.find(&root, Rtype::DNSKEY)? else {
            return Err(DnsTrouble::new(TroubleKind::Malformed, "the resolver has no DNSKEY of the root"));
        };
        let message = compose(&root, Rtype::DNSKEY, OptRcode::NOERROR, &group, &[])?;
        match self.validate(message).await? {
            (ValidationState::Secure, _) => Ok(()),
            (_, _) if reply.stale_signatures => {
                let detail =
                    "the root's own signatures are outside their dates: is the clock of this host right?";
                Err(DnsTrouble::new(TroubleKind::Bogus, detail))
            }
            (_, why) => {
                let tags: Vec<_> =
                    self.anchors.list().iter().map(|anchor| anchor.key_tag.to_string()).collect();
                let detail =
                    format!("no anchor (key tags {}) vouches for the root's keys: {why}", tags.join(", "));
                Err(DnsTrouble::new(TroubleKind::RootKey, detail))
            }
        }
    }
}

fn new_context(anchors: &Anchors, transport: &Transport) -> ValidationContext<Transport> {
    let mut config = Config::new();
    config.set_max_bogus_validity(BOGUS_VALIDITY);
    config.set_max_node_cache(ZONES_MAX);
    config.set_nsec3_iter_insecure(NSEC3_ITERATIONS_MAX);
    config.set_nsec3_iter_bogus(NSEC3_ITERATIONS_MAX);
    ValidationContext::with_config(anchors.for_validator(), transport.clone(), config)
}

#[async_trait]
impl Judge for ValidatingResolver {
    async fn link(&self, name: &OwnerName, rtype: RecordType) -> Result<Link, DnsTrouble> {
        let reply = self.transport.ask(name.wire(), rtype.wire(), Checking::Here).await?;
        self.judge(&reply, name.wire(), rtype).await
    }
}

#[async_trait]
impl SecureDns for ValidatingResolver {
    async fn query(&self, question: &Question) -> Result<Answer, DnsTrouble> {
        let late = |_| DnsTrouble::new(TroubleKind::Timeout, format!("{} took too long", question.name));
        tokio::time::timeout(self.limit, chase(self, question)).await.map_err(late)?
    }

    fn forget(&self) {
        self.context.store(Arc::new(new_context(&self.anchors, &self.transport)));
    }
}
