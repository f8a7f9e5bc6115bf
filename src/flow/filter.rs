//! The provider's own filter, asked between the spool and the environment (`spec/13-content-hook.md`).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::node::{Live, Node};
use super::refusal::Refusal;
use crate::handoff::deliver::headers::Rewritten;
use crate::handoff::hook::{Answer, Asked, ChangeFacts, Changed, Hook, HookError, Keep, NotKept, Question};
use crate::model::{DecisionRecord, Envelope, HookFacts, HookVerdict, HostFacts};
use crate::spool::{Attempt, Content, Draft, Kept, Origin, Route, SpoolError};

/// What is to become of a message.
pub(super) enum Filtered {
    /// It is handed off as it is.
    Passed,
    /// This is, in its place.
    Changed(Box<Replacement>),
    /// It goes back, with these words.
    Rejected(String),
}

/// A changed message that is whole.
pub(super) struct Replacement {
    /// The message.
    pub(super) content: Kept,
    /// Whether it has octets above 127.
    pub(super) eight_bit: bool,
    /// The field that tells the recipient, as name and value.
    pub(super) field: (String, String),
}

/// The hook that a message has to pass: one from another provider, on its way into the environment (HOOK-001).
pub(super) fn hook_of<'l>(live: &'l Live, attempt: &Attempt) -> Option<&'l Hook> {
    let asked = attempt.origin() == Origin::Peer && *attempt.route() == Route::Environment;
    live.hook.as_ref().filter(|_| asked)
}

/// Asks `hook` about `offered`, which is what the environment would get, and enters into `record` what came of it.
///
/// # Errors
/// There is no answer: the message waits. Nothing is passed unfiltered.
pub(super) async fn filter(
    node: &Node,
    hook: &Hook,
    attempt: &Attempt,
    envelope: &Envelope,
    offered: Rewritten<Content>,
    record: &mut DecisionRecord,
) -> Result<Filtered, Refusal> {
    let question = Question {
        message: attempt.message(),
        attempt: attempt.id(),
        envelope,
        level: attempt.arrival().level,
        domain: attempt.arrival().domain.as_ref(),
        size: offered.size,
    };
    let mut keeper = Keeper { node, draft: None, failed: None };
    let asked = hook.ask(&question, offered.content, &mut keeper).await;
    let mut facts = HookFacts {
        hook: hook.describe(),
        verdict: HookVerdict::Unavailable,
        before: asked.as_ref().ok().and_then(|asked| asked.before),
        after: None,
        after_size: None,
    };
    node.inner.hook_watch.heard(node, asked.is_ok());
    let filtered = match asked {
        Ok(asked) => conclude(node, attempt, asked, keeper, &mut facts).await,
        Err(error) => Err(refusal(&error, keeper.failed)),
    };
    if !matches!(filtered, Ok(Filtered::Passed | Filtered::Changed(_))) {
        // It did not come to the environment.
        record.hosts = vec![HostFacts { host: hook.describe(), ..HostFacts::default() }];
    }
    record.content_hook = Some(facts);
    filtered
}

async fn conclude(
    node: &Node,
    attempt: &Attempt,
    asked: Asked,
    keeper: Keeper<'_>,
    facts: &mut HookFacts,
) -> Result<Filtered, Refusal> {
    match asked.answer {
        Answer::Passed => {
            facts.verdict = HookVerdict::Passed;
            Ok(Filtered::Passed)
        }
        Answer::Rejected(words) => {
            facts.verdict = HookVerdict::Rejected;
            Ok(Filtered::Rejected(words))
        }
        Answer::Changed(Changed { digest, size, eight_bit }) => {
            let content = keeper.finish().await?;
            if (content.digest(), content.size()) != (digest, size) {
                let detail = "the changed message was not kept as it came";
                return Err(Refusal::new(crate::model::Reason::LocalFault, detail));
            }
            facts.verdict = HookVerdict::Changed;
            (facts.after, facts.after_size) = (Some(digest), Some(size));
            let by = &node.live().config.node.name;
            // A changed message was compared with the whole of the one that came.
            let before = asked.before.unwrap_or(digest);
            let field = ChangeFacts { by, before, after: digest, record: attempt.id() }.field();
            Ok(Filtered::Changed(Box::new(Replacement { content, eight_bit, field })))
        }
    }
}

fn refusal(error: &HookError, failed: Option<SpoolError>) -> Refusal {
    match (error, failed) {
        (HookError::NotKept, Some(error)) => Refusal::from(error),
        _ => Refusal::new(error.reason(), error.to_string()),
    }
}

/// Keeps a changed message, sealed as all content is, until it is handed off.
struct Keeper<'n> {
    node: &'n Node,
    draft: Option<Draft>,
    failed: Option<SpoolError>,
}

impl Keeper<'_> {
    fn open(&mut self) -> &mut Draft {
        let inner = &self.node.inner;
        self.draft.get_or_insert_with(|| inner.spool.draft(inner.world.message_id(), b""))
    }

    async fn finish(mut self) -> Result<Kept, SpoolError> {
        self.open();
        match self.draft {
            Some(draft) => draft.keep().await,
            None => Err(SpoolError::Misuse("a draft that was just opened is gone")),
        }
    }
}

#[async_trait]
impl Keep for Keeper<'_> {
    async fn keep(&mut self, octets: &[u8]) -> Result<(), NotKept> {
        let written = self.open().write(octets).await;
        written.map_err(|error| {
            self.failed = Some(error);
            NotKept
        })
    }
}

/// Since when the hook gives no answers. What waits because of it is tried at once when it answers again.
#[derive(Default)]
pub(super) struct HookWatch(Mutex<Option<Timestamp>>);

impl HookWatch {
    /// An answer came, or none.
    fn heard(&self, node: &Node, answered: bool) {
        let now = node.inner.world.now();
        let mut silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !answered {
            silent.get_or_insert(now);
            return;
        }
        let Some(since) = silent.take() else { return };
        drop(silent);
        // Nothing is hurried for trouble that was over within the first pause, or a hook that answers every other time would
        // be asked about everything all the time.
        let first = Duration::from_secs(node.live().config.limits.retry_first_seconds);
        if now.duration_since(since).unsigned_abs() >= first {
            tracing::info!(%since, "the content hook answers again");
            node.inner.spool.hasten(&Route::Environment);
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
