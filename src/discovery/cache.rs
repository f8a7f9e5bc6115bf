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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::dns::{Absence, RecordType, Records};
    use super::*;
    use crate::world::ManualClock;

    /// Gives the same result each time, and counts.
    struct Always {
        result: Result<Answer, DnsTrouble>,
        asked: Arc<AtomicUsize>,
        /// Where given, each answer waits for a permit.
        gate: Option<Arc<tokio::sync::Semaphore>>,
    }

    #[async_trait]
    impl SecureDns for Always {
        async fn query(&self, _: &Question) -> Result<Answer, DnsTrouble> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            self.result.clone()
        }

        fn forget(&self) {}
    }

    const START: &str = "2026-11-22T12:00:00Z";

    fn answer(
        verdict: Verdict,
        content: Content,
        ttl: u64,
        proven_for: Option<i64>,
    ) -> Result<Answer, DnsTrouble> {
        let start: Timestamp = START.parse().unwrap();
        Ok(Answer {
            verdict,
            content,
            aliases: Vec::new(),
            ttl: Duration::from_secs(ttl),
            proven_until: proven_for.map(|seconds| start + SignedDuration::from_secs(seconds)),
            cached: false,
        })
    }

    fn address() -> Content {
        Content::Records(Records::A(vec![[192, 0, 2, 1].into()]))
    }

    fn question() -> Question {
        Question::strict("a.nl".parse().unwrap(), RecordType::A)
    }

    /// For how many seconds the result is repeated without asking again.
    async fn kept(result: Result<Answer, DnsTrouble>) -> u64 {
        let clock = ManualClock::at(START.parse().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let inner = Box::new(Always { result, asked: asked.clone(), gate: None });
        let cache = CachedDns::new(inner, CacheSettings::default(), clock.clone());
        let _ = cache.query(&question()).await;
        for second in 0..10_000 {
            if cache.query(&question()).await.is_ok_and(|answer| !answer.cached)
                || asked.load(Ordering::SeqCst) > 1
            {
                return second;
            }
            clock.advance(1000);
        }
        u64::MAX
    }

    /// Proves: +DNS-008 -DNS-008 +DNS-010 -DNS-010
    #[tokio::test]
    async fn how_long_each_kind_of_result_is_kept() {
        let secure = |ttl, proven_for| answer(Verdict::Secure, address(), ttl, proven_for);
        let none = || Content::Absent(Absence::Type);
        let trouble = |kind| Err(DnsTrouble::new(kind, "for the test"));
        for (what, result, seconds) in [
            ("its ttl", secure(60, Some(100_000)), 60),
            ("the floor", secure(0, Some(100_000)), 5),
            ("the ceiling", secure(86_400, Some(100_000)), 3600),
            ("the end of its signatures", secure(60, Some(7)), 7),
            ("the end of its signatures, under the floor", secure(1, Some(2)), 2),
            ("not at all: its signatures have ended", secure(60, Some(-1)), 0),
            ("insecure records", answer(Verdict::Insecure, address(), 60, None), 60),
            ("proven absence", answer(Verdict::Secure, none(), 60, Some(100_000)), 60),
            ("proven absence, cut", answer(Verdict::Secure, none(), 86_400, Some(100_000)), 900),
            ("absence without proof", answer(Verdict::Insecure, none(), 86_400, None), 5),
            ("trouble", trouble(TroubleKind::Bogus), 5),
            ("the root's trouble", trouble(TroubleKind::RootKey), 0),
        ] {
            assert_eq!(kept(result).await, seconds, "{what}");
        }
    }

    #[tokio::test]
    async fn those_who_ask_at_once_share_one_question() {
        let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
        let result = answer(Verdict::Secure, address(), 60, None);
        let inner = Box::new(Always { result, asked: asked.clone(), gate: Some(gate.clone()) });
        let clock = ManualClock::at(START.parse().unwrap());
        let cache = Arc::new(CachedDns::new(inner, CacheSettings::default(), clock));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let cache = cache.clone();
            tasks.spawn(async move { cache.query(&question()).await.is_ok() });
        }
        tokio::task::yield_now().await;
        gate.add_permits(1);
        assert!(tasks.join_all().await.into_iter().all(|good| good));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // After a reload everything is asked again.
        cache.forget();
        gate.add_permits(1);
        cache.query(&question()).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
