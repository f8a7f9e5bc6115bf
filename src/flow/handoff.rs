//! Mail into our own environment, or into its fallback.

use tokio::io::AsyncRead;

use super::breaker::Post;
use super::disposition::Ends;
use super::filter::{self, Filtered, Replacement};
use super::node::{Live, Node};
use super::refusal::Refusal;
use crate::handoff::deliver::headers::{Removal, Rewritten, rewrite};
use crate::handoff::deliver::{Environment, Handover, Outgoing, RecipientAnswer, Reports, Verdict};
use crate::model::{
    BodyType, ContentLeft, DecisionRecord, Direction, Envelope, HostFacts, Reason, Recipient, ReportAction,
};
use crate::spool::{Attempt, Fate, Note, SpoolError};
use crate::transport::smtp::dialogue::Step;
use crate::trust::NtaNames;

/// One attempt to hand a message off, from its intent (on disk already) to its end.
///
/// # Errors
/// The spool is broken; the attempt is `unknown` after a restart.
pub(super) async fn hand_off(
    node: &Node,
    attempt: Attempt,
    environment: &Environment,
) -> Result<(), SpoolError> {
    let mut record = DecisionRecord::begin(attempt.id(), Direction::Handoff, attempt.started());
    record.message = Some(attempt.message());
    record.sender = Some(attempt.envelope().sender.to_string());
    record.assurance = attempt.arrival().level;
    record.peer_domain = attempt.arrival().domain.clone();
    record.policy.weakened = node.live().policy.weakened().to_vec();
    record.hosts.push(HostFacts { host: environment.describe(), ..HostFacts::default() });
    let mut ends = Ends::new(&attempt);
    match go(node, &attempt, environment, &mut record).await {
        Ok(end) => {
            let (handover, host, success) = match end {
                End::Handed(handover) => {
                    watch(node, &attempt, &handover);
                    let success = success(environment, handover.reports);
                    (handover, environment.describe(), success)
                }
                End::Rejected(handover, hook) => (handover, hook, None),
            };
            record.content_left = handover.content_left;
            if let Some(host) = record.hosts.last_mut() {
                host.step = handover.step.map(str::to_owned);
                host.detail.clone_from(&handover.detail);
            }
            enter(&handover, &host, success, node, &mut ends);
            ends.conclude(&mut record);
        }
        Err(refusal) => ends.refuse(&refusal, &mut record),
    }
    node.conclude(attempt, record, ends).await
}

/// What came of an attempt.
enum End {
    /// The environment was there, or should have been.
    Handed(Handover),
    /// The filter refused the message: answers in its name, and that name.
    Rejected(Handover, String),
}

async fn go(
    node: &Node,
    attempt: &Attempt,
    environment: &Environment,
    record: &mut DecisionRecord,
) -> Result<End, Refusal> {
    let live = node.live();
    let mut envelope = attempt.pending_envelope();
    let fields = &attempt.arrival().handoff_fields;
    let stored = async || {
        let content = node.inner.spool.content(attempt.message()).await?;
        view(&live, attempt, content, attempt.content().size, fields).await
    };
    let offered = stored().await?;
    if offered.removed > 0 {
        record.warnings.push(format!("{} fields that imitate verdicts were removed", offered.removed));
    }
    record.size = Some(offered.size);
    let Some(hook) = filter::hook_of(&live, attempt) else {
        return deliver(environment, attempt, &envelope, offered).await;
    };
    match filter::filter(node, hook, attempt, &envelope, offered, record).await? {
        Filtered::Passed => deliver(environment, attempt, &envelope, stored().await?).await,
        Filtered::Changed(replacement) => {
            let Replacement { content, eight_bit, field } = *replacement;
            // What the environment has to take now, whatever the peer announced.
            if eight_bit {
                envelope.body = BodyType::EightBitMime;
            }
            let fields: Vec<_> = fields.iter().cloned().chain([field]).collect();
            let size = content.size();
            // Ours are on it already, and whatever else the hook wrote in our name: they are put on afresh (HOOK-007).
            let changed = view(&live, attempt, content, size, &fields).await?;
            record.size = Some(changed.size);
            deliver(environment, attempt, &envelope, changed).await
        }
        Filtered::Rejected(words) => Ok(End::Rejected(rejected(&envelope, &words), hook.describe())),
    }
}

/// `content` of `size` octets as the environment gets it: with `fields`, and without what imitates them.
async fn view<R: AsyncRead + Unpin>(
    live: &Live,
    attempt: &Attempt,
    content: R,
    size: u64,
    fields: &[(String, String)],
) -> Result<Rewritten<R>, Refusal> {
    let nta = NtaNames::new(live.config.nta_header.name.as_deref());
    let removal =
        Removal { authserv_id: &live.config.node.name, nta: attempt.arrival().remove_nta.then_some(&nta) };
    let rewritten = rewrite(content, size, removal, fields).await;
    rewritten.map_err(|error| Refusal::new(Reason::LocalFault, error.to_string()))
}

async fn deliver<R: AsyncRead + Unpin + Send>(
    environment: &Environment,
    attempt: &Attempt,
    envelope: &Envelope,
    content: Rewritten<R>,
) -> Result<End, Refusal> {
    let unique = attempt.delivery().to_string();
    let outgoing = Outgoing { envelope, content: content.content, size: content.size, unique: &unique };
    let handover = environment.deliver(outgoing).await;
    handover.map(End::Handed).map_err(|error| Refusal::new(error.reason(), error.to_string()))
}

/// The same answer for every recipient: the filter's own words go back to the sender (HOOK-009).
fn rejected(envelope: &Envelope, words: &str) -> Handover {
    let answer = |to: &Recipient| RecipientAnswer {
        address: to.address.clone(),
        verdict: Verdict::Failed,
        code: "550 5.7.1".to_owned(),
        text: words.to_owned(),
        reason: Some(Reason::HookRejected),
    };
    Handover {
        recipients: envelope.recipients.iter().map(answer).collect(),
        content_left: ContentLeft::Never,
        step: None,
        detail: None,
        reports: Reports::Ours,
    }
}

/// Lets the breakers know whether the environment was there.
fn watch(node: &Node, attempt: &Attempt, handover: &Handover) {
    let (breakers, route, now) = (&node.inner.breakers, attempt.route(), node.inner.world.now());
    let post = Post::of(route);
    let nobody = handover.recipients.iter().all(|answer| answer.verdict == Verdict::Later);
    if nobody && handover.step.is_some_and(before_mail) {
        let random = node.inner.world.random.next();
        breakers.failed(&post, route, Reason::EnvironmentTemporary, now, random);
        breakers.no_link(route, &[], Reason::EnvironmentTemporary, now, random);
    } else {
        breakers.reached(&post, route, now);
    }
}

/// Whether a dialogue that broke off in this step had not come to any message.
fn before_mail(step: &str) -> bool {
    use Step::{Connect, Greeting, Handshake, Hello, HelloSecured, Starttls};
    [Connect, Greeting, Hello, Starttls, Handshake, HelloSecured].iter().any(|early| early.as_str() == step)
}

fn enter(handover: &Handover, host: &str, success: Option<ReportAction>, node: &Node, ends: &mut Ends) {
    for answer in &handover.recipients {
        let fate = match answer.verdict {
            Verdict::Delivered => Fate::Delivered,
            Verdict::Later => Fate::Pending,
            Verdict::Failed => Fate::Failed,
        };
        ends.set(
            &answer.address,
            fate,
            Note {
                at: node.inner.world.now(),
                reason: answer.reason,
                code: Some(answer.code.clone()),
                text: Some(answer.text.clone()),
                host: Some(host.to_owned()),
            },
            success,
        );
    }
}

/// What a report may say of those the environment took: LMTP and Maildir end in a mailbox, SMTP goes on. Nothing, when the
/// environment was told what the sender wants to hear (SPOOL-016).
const fn success(environment: &Environment, reports: Reports) -> Option<ReportAction> {
    match (environment, reports) {
        (_, Reports::Passed) => None,
        (Environment::Lmtp(_) | Environment::Maildir(_), Reports::Ours) => Some(ReportAction::Delivered),
        (Environment::SmtpRelay(_), Reports::Ours) => Some(ReportAction::Relayed),
    }
}
