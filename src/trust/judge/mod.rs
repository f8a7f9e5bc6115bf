//! Judging a message that must prove its sender by itself: floor `nta7516` (IDEN-016).
//!
//! All look-ups go through [`Discovery`], so each answer has a verdict of DNSSEC and none comes from elsewhere. The
//! resolver inside `mail-auth` is not used: it has no verdicts, and reads the system's root certificates.

mod dkim;
mod dmarc;
mod names;
mod own;
mod spf;

#[cfg(test)]
mod spf_tests;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mail_auth::AuthenticatedMessage;

use crate::discovery::{Discovery, Trace};
use crate::model::{DnsFact, DomainName, Reason, ReversePath, TrustFacts};
use crate::world::Clock;

use super::fields::GivenName;
use super::results::{DkimResult, DmarcWord, MessageResults, SpfIdentity, SpfResult, SpfWord};
use dmarc::Aligned;
use names::{Asked, Names};
pub use own::{OwnDomain, OwnState, dmarc_enforces};

/// All look-ups of one judgement. The client waits for the reply to its final dot, for which it gives us ten minutes
/// (RFC 5321 section 4.5.3.2.6).
const TIME_MAX: Duration = Duration::from_secs(120);

/// Judges messages.
pub struct Judge {
    discovery: Arc<Discovery>,
    clock: Arc<dyn Clock>,
}

/// A message and how it came.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The client's address.
    pub client_ip: IpAddr,
    /// What it called itself in EHLO.
    pub helo: &'a GivenName,
    /// MAIL FROM.
    pub mail_from: &'a ReversePath,
    /// The domain of `From:`, as [`HeaderFacts`](super::HeaderFacts) of this same content has it.
    pub from_domain: &'a DomainName,
    /// The whole content as it came, without the field that acceptance puts on top.
    pub content: &'a [u8],
    /// This node.
    pub host: &'a DomainName,
}

/// The judgement.
#[derive(Clone, Debug)]
pub struct Judged {
    /// For the decision record.
    pub facts: TrustFacts,
    /// For `Authentication-Results:`.
    pub results: MessageResults,
    /// Every DNS question asked, for the decision record.
    pub dns: Vec<DnsFact>,
    /// What was tolerated, so that its owner can be told.
    pub warnings: Vec<String>,
    /// Whether the message proves its sender; if not, the named check and what exactly was seen.
    pub verdict: Result<(), (Reason, String)>,
}

impl Judge {
    /// A judge that asks `discovery`. Expiry of signatures is measured by `clock`.
    #[must_use]
    pub fn new(discovery: Arc<Discovery>, clock: Arc<dyn Clock>) -> Self {
        Self { discovery, clock }
    }

    /// Judges one message. Content of any form is survived; what takes too long is temporary.
    pub async fn judge(&self, input: &Input<'_>) -> Judged {
        let mut asked = Asked { discovery: &self.discovery, trace: Trace::new() };
        let judged =
            unbroken(tokio::time::timeout(TIME_MAX, judge(&mut asked, input, self.clock.now()))).await;
        let mut judged = match judged {
            Some(Ok(judged)) => judged,
            Some(Err(_)) => unjudged(input, Reason::TrustDnsTemporary, "the look-ups took too long"),
            None => unjudged(input, Reason::LocalFault, "a fault of this node's while judging the message"),
        };
        judged.dns = asked.trace.into_facts();
        judged
    }
}

/// The future's output, or nothing if it panics: a library that trips over a message must not end more than this
/// judgement.
async fn unbroken<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
        Err(_) => Poll::Ready(None),
    })
    .await
}

fn unjudged(input: &Input<'_>, reason: Reason, detail: &str) -> Judged {
    let results = MessageResults {
        spf: SpfResult { word: SpfWord::Temperror, identity: SpfIdentity::Helo(None) },
        dkim: Vec::new(),
        dmarc: DmarcWord::Temperror,
    };
    Judged {
        facts: results.facts(input.from_domain),
        results,
        dns: Vec::new(),
        warnings: Vec::new(),
        verdict: Err((reason, detail.to_owned())),
    }
}

async fn judge(names: &mut dyn Names, input: &Input<'_>, now: jiff::Timestamp) -> Judged {
    let dkim = match without_blocking(|| AuthenticatedMessage::parse(input.content)) {
        Some(message) => dkim::verify(names, &message, now).await,
        None => Vec::new(),
    };
    let dmarc = dmarc::check(names, input.from_domain, &dkim).await;
    let client =
        spf::Client { ip: input.client_ip, helo: input.helo, mail_from: input.mail_from, host: input.host };
    let spf = spf::check(names, &client).await;

    let verdict = verdict([
        (Reason::DkimFailed, dkim_standing(dmarc.aligned, &dkim)),
        (Reason::DmarcFailed, dmarc_standing(dmarc.word, dmarc.detail)),
        (Reason::SpfFailed, spf_standing(spf.result.word, spf.detail)),
    ]);
    let warnings = if spf.unproven.is_empty() {
        Vec::new()
    } else {
        vec![format!("SPF rests on answers that are not signed with DNSSEC: {}", spf.unproven.join(", "))]
    };
    let results = MessageResults { spf: spf.result, dkim, dmarc: dmarc.word };
    Judged { facts: results.facts(input.from_domain), results, dns: Vec::new(), warnings, verdict }
}

/// Hashing a large body takes a while; other tasks of this worker are moved elsewhere where that is possible.
fn without_blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// How one of the three came out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Pass,
    Fail(String),
    Temporary(String),
}

fn dkim_standing(aligned: Aligned, dkim: &[DkimResult]) -> Standing {
    let details = || match dkim {
        [] => "there is no DKIM signature".to_owned(),
        all => all.iter().map(|one| one.detail.as_str()).collect::<Vec<_>>().join("; "),
    };
    match aligned {
        Aligned::Yes => Standing::Pass,
        Aligned::No => Standing::Fail(format!("no aligned DKIM signature passed ({})", details())),
        Aligned::Unknown => Standing::Temporary(format!("DKIM could not be judged ({})", details())),
    }
}

fn dmarc_standing(word: DmarcWord, detail: String) -> Standing {
    match word {
        DmarcWord::Pass => Standing::Pass,
        DmarcWord::Temperror => Standing::Temporary(detail),
        DmarcWord::None | DmarcWord::Fail | DmarcWord::Permerror => Standing::Fail(detail),
    }
}

fn spf_standing(word: SpfWord, detail: String) -> Standing {
    match word {
        SpfWord::Pass => Standing::Pass,
        SpfWord::Temperror => Standing::Temporary(detail),
        SpfWord::None | SpfWord::Neutral | SpfWord::Fail | SpfWord::Softfail | SpfWord::Permerror => {
            Standing::Fail(detail)
        }
    }
}

/// All three must pass. A temporary error in any is neither pass nor failure (IDEN-016).
fn verdict(parts: [(Reason, Standing); 3]) -> Result<(), (Reason, String)> {
    let temporary: Vec<&str> = parts
        .iter()
        .filter_map(
            |(_, part)| if let Standing::Temporary(detail) = part { Some(detail.as_str()) } else { None },
        )
        .collect();
    if !temporary.is_empty() {
        return Err((Reason::TrustDnsTemporary, temporary.join("; ")));
    }
    let failed: Vec<(Reason, &str)> =
        parts
            .iter()
            .filter_map(|(reason, part)| {
                if let Standing::Fail(detail) = part { Some((*reason, detail.as_str())) } else { None }
            })
            .collect();
    match failed.first() {
        None => Ok(()),
        Some((reason, _)) => {
            let details: Vec<&str> = failed.iter().map(|(_, detail)| *detail).collect();
            Err((*reason, details.join("; ")))
        }
    }
}
