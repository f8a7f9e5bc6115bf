//! Answers remembered (DNS-008, DNS-010).
//!
//! Time is the node's own clock, so that a test or a simulation moves it; the store underneath only bounds the number.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;
use moka::ops::compute::Op;

use crate::world::Clock;

use super::dns::{Answer, Content, DnsTrouble, Question, SecureDns, TroubleKind, Verdict};

/// How long answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// A shorter TTL is raised to this. Default: 5 s, so that one message asks once.
    pub ttl_floor: Duration,
    /// A longer TTL is cut to this. Default: 1 h: a key that its owner withdrew is not honoured for a day because an old
    /// record said so.
    pub ttl_ceiling: Duration,
    /// The same for proven absence. Default: 15 min: a provider that joins is found soon.
    pub absence_ceiling: Duration,
    /// How long a temporary trouble is remembered, so that a broken zone is not asked by every message. Default: 5 s; at
    /// most [`TROUBLE_MAX`].
    pub trouble: Duration,
    /// The most answers kept. Default: 20 000, some 20 MB.
    pub entries_max: u64,
}

/// The longest that trouble is remembered; RFC 9520 section 3.2 allows five minutes to a resolver for many, which this
/// is not.
pub const TROUBLE_MAX: Duration = Duration::from_secs(30);

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            ttl_floor: Duration::from_secs(5),
            ttl_ceiling: Duration::from_secs(3600),
            absence_ceiling: Duration::from_secs(900),
            trouble: Duration::from_secs(5),
            entries_max: 20_000,
        }
    }
}

#[derive(Clone)]
struct Entry {
    answer: Result<Answer, DnsTrouble>,
    expires: Timestamp,
}

/// A resolver with a memory.
pub struct CachedDns {
    inner: Box<dyn SecureDns>,
    entries: Cache<Question, Entry>,
    settings: CacheSettings,
    clock: Arc<dyn Clock>,
}

impl CachedDns {
    /// Puts a memory in front of `inner`.
    #[must_use]
    pub fn new(inner: Box<dyn SecureDns>, settings: CacheSettings, clock: Arc<dyn Clock>) -> Self {
        Self { inner, entries: Cache::new(settings.entries_max), settings, clock }
    }

    /// Until when a result may be repeated.
    fn expires(&self, result: &Result<Answer, DnsTrouble>, now: Timestamp) -> Timestamp {
        let settings = &self.settings;
        let keep = match result {
            // The root's keys are this node's own trouble; its operator should see the repair at once.
            Err(trouble) if trouble.kind == TroubleKind::RootKey => Duration::ZERO,
            Err(_) => settings.trouble.min(TROUBLE_MAX),
            Ok(answer) => match (&answer.content, answer.verdict) {
                (Content::Records(_), _) => answer.ttl.max(settings.ttl_floor).min(settings.ttl_ceiling),
                (Content::Absent(_), Verdict::Secure) => {
                    answer.ttl.max(settings.ttl_floor).min(settings.absence_ceiling).min(settings.ttl_ceiling)
                }
                // "There is none" without proof: as much worth as trouble.
                (Content::Absent(_), Verdict::Insecure) => settings.trouble.min(TROUBLE_MAX),
            },
        };
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        let by_ttl = now.saturating_add(keep).unwrap_or(Timestamp::MAX);
        let proven_until = result.as_ref().ok().and_then(|answer| answer.proven_until);
        proven_until.map_or(by_ttl, |until| until.min(by_ttl))
    }
}

#[async_trait]
impl SecureDns for CachedDns {
    async fn query(&self, question: &Question) -> Result<Answer, DnsTrouble> {
        let now = self.clock.now();
        if let Some(entry) = self.entries.get(question).await
            && now < entry.expires
        {
            return entry.answer.map(|answer| Answer { cached: true, ..answer });
        }
        // One asks, those who come meanwhile wait for what it learns.
        let asked = self.entries.entry_by_ref(question).and_compute_with(|old| async move {
            match old.map(moka::Entry::into_value) {
                Some(entry) if self.clock.now() < entry.expires => Op::Nop,
                _ => {
                    let answer = self.inner.query(question).await;
                    let expires = self.expires(&answer, self.clock.now());
                    Op::Put(Entry { answer, expires })
                }
            }
        });
        match asked.await.into_entry() {
            Some(entry) => entry.into_value().answer,
            None => self.inner.query(question).await,
        }
    }

    fn forget(&self) {
        self.entries.invalidate_all();
        self.inner.forget();
    }
}
