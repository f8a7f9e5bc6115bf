//! Would a reply to a message stay secure? Each domain in it is looked at as `explain` does (RPLY family).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::explain::{Depth, foretell};
use super::node::Node;
use super::road::Roads;
use super::{assemble, breaker::Breakers};
use crate::admin::{
    Answer, ContentStream, REPLY_ADDRESSES_MAX, REPLY_DOMAINS_MAX, ReplyAddress, ReplyRefusal, ReplyReport,
    Standing,
};
use crate::config::Config;
use crate::discovery::ResolverError;
use crate::model::{Address, DecisionRecord, DomainName, Level, MessageId, Outcome, Reason};
use crate::transport::tls::ClientTls;
use crate::trust::{Correspondent, HeaderLimits, SectionReader, correspondents};
use crate::world::World;

/// How many domains are looked at at once.
const LOOKS_AT_ONCE: usize = 4;
/// How long one of them may take: a person waits.
const LOOK: Duration = Duration::from_secs(60);
/// How much of a stored message is read per step.
const STEP_OCTETS: usize = 16 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// The resolver could not be started.
    #[error("the resolver: {0}")]
    Resolver(#[from] ResolverError),
    /// The message can't be read.
    #[error(transparent)]
    Message(#[from] ReplyRefusal),
}

/// What a domain comes to, for every address in it.
#[derive(Clone)]
struct Judged {
    standing: Standing,
    reason: Option<Reason>,
    detail: Option<String>,
    level: Option<Level>,
    provider: Option<String>,
}

/// Reads the header section of `content`, and looks at every address that a reply may go to. No running node is needed.
///
/// # Errors
/// [`ReplyError`].
pub async fn explain_message(
    config: &Config,
    world: World,
    content: ContentStream,
    depth: Depth,
) -> Result<ReplyReport, ReplyError> {
    let section = section_of(config, content).await?;
    let roads = assemble::roads(config, world).await?;
    Ok(report(config, roads, &section, depth).await?)
}

impl Node {
    /// The same with what the running node knows already.
    pub(super) async fn reply_to(
        &self,
        content: ContentStream,
        depth: Depth,
    ) -> Result<ReplyReport, ReplyRefusal> {
        let live = self.live();
        let section = section_of(&live.config, content).await?;
        report(&live.config, self.looking_roads(&live.config), &section, depth).await
    }

    /// The same for a message in the spool.
    pub(super) async fn reply_to_stored(
        &self,
        message: MessageId,
        depth: Depth,
    ) -> Result<ReplyReport, ReplyRefusal> {
        let live = self.live();
        let mut content = self.inner.spool.content(message).await?;
        let mut reader = SectionReader::new(header_limits(&live.config).octets);
        let mut step = vec![0; STEP_OCTETS];
        loop {
            let count = content.read(&mut step).await?;
            if count == 0 || reader.push(&step[..count])? {
                break;
            }
        }
        let roads = self.looking_roads(&live.config);
        let report = report(&live.config, roads, &reader.finish(), depth).await?;
        Ok(ReplyReport { message: Some(message), ..report })
    }

    /// Roads on which a look leaves no trace: no host rests for it, and no link is kept (RPLY-007).
    fn looking_roads(&self, config: &Config) -> Roads {
        let inner = &self.inner;
        let tls = ClientTls::new(Arc::clone(&inner.keys));
        let breakers = Arc::new(Breakers::new(&config.limits));
        assemble::roads_with(config, inner.world.clone(), Arc::clone(&inner.discovery), tls, breakers)
    }
}

fn header_limits(config: &Config) -> HeaderLimits {
    let count = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    HeaderLimits {
        octets: count(config.limits.header_octets),
        fields: count(config.limits.header_fields),
        ..HeaderLimits::default()
    }
}

async fn section_of(config: &Config, mut content: ContentStream) -> Result<Vec<u8>, ReplyRefusal> {
    let mut reader = SectionReader::new(header_limits(config).octets);
    while let Some(octets) = content.recv().await {
        let octets: Bytes = octets?;
        if reader.push(&octets)? {
            break;
        }
    }
    Ok(reader.finish())
}

async fn report(
    config: &Config,
    roads: Roads,
    section: &[u8],
    depth: Depth,
) -> Result<ReplyReport, ReplyRefusal> {
    let found = correspondents(section, header_limits(config), REPLY_ADDRESSES_MAX)?;
    let judged = look_at(config, roads, &found.people, depth).await;
    let addresses = found.people.into_iter().map(|one| entry(one, &judged)).collect();
    let mut report = ReplyReport {
        answer: String::new(),
        reply: Answer::Incomplete,
        reply_all: Answer::Incomplete,
        message: None,
        delegate: found.delegate,
        addresses,
        faults: found.faults,
        beyond: found.beyond,
        dns_only: depth == Depth::Dns,
    };
    report.conclude();
    Ok(report)
}

fn entry(found: Correspondent, judged: &BTreeMap<DomainName, Judged>) -> ReplyAddress {
    let Correspondent { field, address } = found;
    let domain = address.domain().clone();
    let unseen = || Judged::plain(Standing::NotLookedAt);
    let Judged { standing, reason, detail, level, provider } =
        judged.get(&domain).cloned().unwrap_or_else(unseen);
    ReplyAddress { field, address, domain, standing, reason, detail, level, provider }
}

/// Looks at each domain once, a few at a time.
async fn look_at(
    config: &Config,
    roads: Roads,
    people: &[Correspondent],
    depth: Depth,
) -> BTreeMap<DomainName, Judged> {
    let mut judged = BTreeMap::new();
    let mut asked: BTreeMap<DomainName, Address> = BTreeMap::new();
    for address in people.iter().map(|one| &one.address) {
        let domain = address.domain();
        if config.node.domains.contains(domain) {
            judged.insert(domain.clone(), Judged::plain(Standing::Own));
        } else if asked.len() < REPLY_DOMAINS_MAX {
            asked.entry(domain.clone()).or_insert_with(|| address.clone());
        }
    }
    let (config, roads) = (Arc::new(config.clone()), Arc::new(roads));
    let mut looks = JoinSet::new();
    for (domain, address) in asked {
        if looks.len() == LOOKS_AT_ONCE {
            enter(looks.join_next().await, &mut judged);
        }
        let (config, roads) = (Arc::clone(&config), Arc::clone(&roads));
        looks.spawn(async move {
            let record = timeout(LOOK, foretell(&config, &roads, &address, None, depth)).await;
            (domain, record.map_or_else(|_| Judged::late(), |record| Judged::of(&record)))
        });
    }
    while let Some(looked) = looks.join_next().await {
        enter(Some(looked), &mut judged);
    }
    judged
}

/// A look that panicked leaves its domain not looked at.
fn enter(
    looked: Option<Result<(DomainName, Judged), tokio::task::JoinError>>,
    judged: &mut BTreeMap<DomainName, Judged>,
) {
    if let Some(Ok((domain, one))) = looked {
        judged.insert(domain, one);
    }
}

impl Judged {
    const fn plain(standing: Standing) -> Self {
        Self { standing, reason: None, detail: None, level: None, provider: None }
    }

    fn late() -> Self {
        Self {
            reason: Some(Reason::PeerTimeout),
            detail: Some(format!("no answer within {} seconds", LOOK.as_secs())),
            ..Self::plain(Standing::Temporary)
        }
    }

    fn of(record: &DecisionRecord) -> Self {
        Self {
            standing: match record.outcome {
                Outcome::WouldDeliver => Standing::Federated,
                Outcome::Later => Standing::Temporary,
                _ => Standing::NotFederated,
            },
            reason: record.reason,
            detail: record.detail.clone(),
            level: record.assurance,
            provider: record.discovery.provider.clone(),
        }
    }
}
