//! Judging what a message proves by itself. Where nothing else proves its sender all of it decides (IDEN-016); at level
//! `mutual` DKIM does, and the rest is recorded (JUDGE-005).
//!
//! All look-ups go through [`Discovery`], so each answer has a verdict of DNSSEC and none comes from elsewhere. The
//! resolver inside `mail-auth` is not used: it has no verdicts, and reads the system's root certificates.

mod dkim;
mod dmarc;
mod names;
mod own;
mod spf;
mod spf_grammar;

#[cfg(test)]
mod spf_suite;
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

use crate::discovery::{Discovery, Trace};
use crate::model::{DnsFact, DomainName, Level, Reason, ReversePath, TrustFacts};
use crate::policy::{Case, Identity, Proof, Proofs, Record, Ruling, ruling};
use crate::world::Clock;

use super::dkim::{Evidence, chain};
use super::fields::GivenName;
use super::results::{DkimResult, DmarcWord, MessageResults, SpfIdentity, SpfResult, SpfWord};
use dmarc::Aligned;
use names::{Asked, Names};
pub use own::{OwnDomain, OwnState, dmarc_enforces};

/// For all look-ups of a message together (JUDGE-006). The client waits for the reply to its final dot, for which it gives us
/// ten minutes (RFC 5321 section 4.5.3.2.6).
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
    /// What its signatures need, from the content as it came, without the field that acceptance puts on top.
    pub evidence: &'a Evidence,
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
    /// How the three came out, as the table of `policy` has them.
    pub proofs: Proofs,
    /// Whether the message proves its sender where nothing else does; if not, the named check and what exactly was seen.
    pub verdict: Result<(), (Reason, String)>,
    /// What exactly was seen of each.
    pub details: Details,
}

/// What exactly was seen of DKIM, DMARC and SPF.
#[derive(Clone, Debug, Default)]
pub struct Details(Vec<(Reason, Part)>);

impl Details {
    /// What is behind a refusal for this reason: at `mutual` it can only be DKIM.
    #[must_use]
    pub fn of(&self, identity: Identity, reason: Reason) -> String {
        let matters = |part: &(Reason, Part)| match (identity, reason) {
            (Identity::OfSender, _) => part.0 == Reason::DkimFailed,
            (_, Reason::TrustDnsTemporary) => part.1.0 == Proof::Temporary,
            _ => part.1.0 != Proof::Pass,
        };
        let seen: Vec<&str> =
            self.0.iter().filter(|part| matters(part)).map(|(_, (_, detail))| detail.as_str()).collect();
        seen.join("; ")
    }
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
        proofs: Proofs { dkim: Proof::Temporary, dmarc: Proof::Temporary, spf: Proof::Temporary },
        verdict: Err((reason, detail.to_owned())),
        details: Details(vec![(Reason::DkimFailed, (Proof::Temporary, detail.to_owned()))]),
    }
}

async fn judge(names: &mut dyn Names, input: &Input<'_>, now: jiff::Timestamp) -> Judged {
    let dkim = dkim::verify(names, input.evidence, now).await;
    let dmarc = dmarc::check(names, input.from_domain, &dkim).await;
    let client =
        spf::Client { ip: input.client_ip, helo: input.helo, mail_from: input.mail_from, host: input.host };
    let spf = spf::check(names, &client).await;

    let parts = [
        (Reason::DkimFailed, dkim_part(dmarc.aligned, &dkim)),
        (Reason::DmarcFailed, dmarc_part(dmarc.word, dmarc.detail)),
        (Reason::SpfFailed, spf_part(spf.result.word, spf.detail)),
    ];
    let [dkim_proof, dmarc_proof, spf_proof] = [0, 1, 2].map(|at| parts[at].1.0);
    let proofs = Proofs { dkim: dkim_proof, dmarc: dmarc_proof, spf: spf_proof };
    let warnings = if spf.unproven.is_empty() {
        Vec::new()
    } else {
        vec![format!("SPF rests on answers that are not signed with DNSSEC: {}", spf.unproven.join(", "))]
    };
    let results = MessageResults { spf: spf.result, dkim, dmarc: dmarc.word };
    let facts = TrustFacts { arc: chain(&input.evidence.fields()), ..results.facts(input.from_domain) };
    let details = Details(parts.into());
    Judged { facts, results, dns: Vec::new(), warnings, proofs, verdict: verdict(proofs, &details), details }
}

/// How one of the three came out, and what was seen.
type Part = (Proof, String);

fn dkim_part(aligned: Aligned, dkim: &[DkimResult]) -> Part {
    let details = || match dkim {
        [] => "there is no DKIM signature".to_owned(),
        all => all.iter().map(|one| one.detail.as_str()).collect::<Vec<_>>().join("; "),
    };
    match aligned {
        Aligned::Yes => (Proof::Pass, String::new()),
        Aligned::No => {
            let proof = if dkim.is_empty() { Proof::None } else { Proof::Fail };
            (proof, format!("no aligned DKIM signature passed ({})", details()))
        }
        Aligned::Unknown => (Proof::Temporary, format!("DKIM could not be judged ({})", details())),
    }
}

fn dmarc_part(word: DmarcWord, detail: String) -> Part {
    let proof = match word {
        DmarcWord::Pass => Proof::Pass,
        DmarcWord::None => Proof::None,
        DmarcWord::Temperror => Proof::Temporary,
        DmarcWord::Fail | DmarcWord::Permerror => Proof::Fail,
    };
    (proof, detail)
}

fn spf_part(word: SpfWord, detail: String) -> Part {
    let proof = match word {
        SpfWord::Pass => Proof::Pass,
        SpfWord::None => Proof::None,
        SpfWord::Temperror => Proof::Temporary,
        SpfWord::Neutral | SpfWord::Fail | SpfWord::Softfail | SpfWord::Permerror => Proof::Fail,
    };
    (proof, detail)
}

/// What the table says of a message that nothing but itself speaks for, with what was seen (JUDGE-001).
fn verdict(proofs: Proofs, details: &Details) -> Result<(), (Reason, String)> {
    let identity = Identity::NoCertificate;
    match ruling(&Case { identity, record: Record::Valid, floor: Level::Nta7516, proofs }) {
        Ruling::Accept(_) => Ok(()),
        Ruling::Refuse(reason) => Err((reason, details.of(identity, reason))),
    }
}
