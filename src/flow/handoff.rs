//! Mail into our own environment, or into its fallback.

use super::breaker::Post;
use super::disposition::Ends;
use super::node::Node;
use super::refusal::Refusal;
use crate::handoff::deliver::headers::{Removal, rewrite};
use crate::handoff::deliver::{Environment, Handover, Outgoing, Reports, Verdict};
use crate::model::{DecisionRecord, Direction, HostFacts, Reason, ReportAction};
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
        Ok(handover) => {
            record.content_left = handover.content_left;
            if let Some(host) = record.hosts.last_mut() {
                host.step = handover.step.map(str::to_owned);
                host.detail.clone_from(&handover.detail);
            }
            watch(node, &attempt, &handover);
            enter(&handover, environment, node, &mut ends);
            ends.conclude(&mut record);
        }
        Err(refusal) => ends.refuse(&refusal, &mut record),
    }
    node.conclude(attempt, record, ends).await
}

async fn go(
    node: &Node,
    attempt: &Attempt,
    environment: &Environment,
    record: &mut DecisionRecord,
) -> Result<Handover, Refusal> {
    let live = node.live();
    let content = node.inner.spool.content(attempt.message()).await?;
    let fields = &attempt.arrival().handoff_fields;
    let nta = NtaNames::new(live.config.nta_header.name.as_deref());
    let removal =
        Removal { authserv_id: &live.config.node.name, nta: attempt.arrival().remove_nta.then_some(&nta) };
    let rewritten = rewrite(content, attempt.content().size, removal, fields)
        .await
        .map_err(|error| Refusal::new(Reason::LocalFault, error.to_string()))?;
    if rewritten.removed > 0 {
        record.warnings.push(format!("{} fields that imitate verdicts were removed", rewritten.removed));
    }
    record.size = Some(rewritten.size);
    let envelope = attempt.pending_envelope();
    let unique = attempt.delivery().to_string();
    let outgoing =
        Outgoing { envelope: &envelope, content: rewritten.content, size: rewritten.size, unique: &unique };
    environment.deliver(outgoing).await.map_err(|error| Refusal::new(error.reason(), error.to_string()))
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

fn enter(handover: &Handover, environment: &Environment, node: &Node, ends: &mut Ends) {
    let host = environment.describe();
    let success = success(environment, handover.reports);
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
                host: Some(host.clone()),
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
