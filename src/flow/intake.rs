//! Content on its way into the spool, with its header section read as it passes.

use std::net::IpAddr;

use super::node::Node;
use super::refusal::Refusal;
use crate::model::{AttemptId, DomainName, Envelope};
use crate::spool::{Accepted, Draft, SpoolError};
use crate::transport::smtp::Reply;
use crate::trust::{
    Content, Evidence, EvidenceWatch, GivenName, HeaderFacts, HeaderFault, HeaderLimits, HeaderWatch,
    ReceivedFacts, Signable, WithProtocol, received,
};

/// Whether what the message proves by itself is gathered as it passes. Memory stays flat either way (JUDGE-002).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// The header section and the digests that its signatures ask for.
    Evidence,
    /// Nothing.
    Nothing,
}

/// Content being received.
pub(super) struct Intake {
    draft: Draft,
    watch: HeaderWatch,
    evidence: Option<EvidenceWatch>,
    /// The header section, held back until it is known whether it lacks something of ours.
    held: Option<Vec<u8>>,
    /// For a signature, where one may be made.
    signable: Option<Signable>,
    by: DomainName,
}

/// Content that is complete.
pub(super) struct Complete {
    pub(super) draft: Draft,
    pub(super) header: HeaderFacts,
    pub(super) evidence: Evidence,
    /// What a signature is made of, where one may be made.
    pub(super) signable: Option<Content>,
}

impl Intake {
    /// Opens a draft with our trace field on top. `address` is left out where it is of no use to anybody outside.
    pub(super) fn open(
        node: &Node,
        helo: &str,
        address: Option<IpAddr>,
        envelope: &Envelope,
        record: AttemptId,
        keep: Keep,
    ) -> Self {
        let live = node.live();
        let limits = &live.config.limits;
        let with = if envelope.smtputf8 { WithProtocol::Utf8Smtps } else { WithProtocol::Esmtps };
        let field = received(&ReceivedFacts {
            client: &GivenName::read(helo),
            address,
            by: &live.config.node.name,
            with,
            record,
            at: node.inner.world.now(),
        });
        let watch = HeaderWatch::new(HeaderLimits {
            octets: count(limits.header_octets),
            fields: count(limits.header_fields),
            received: count(limits.received_fields),
            own_received: count(limits.own_received_fields),
        })
        .at(live.config.node.name.clone());
        let evidence = (keep == Keep::Evidence).then(|| EvidenceWatch::new(count(limits.header_octets)));
        let message = node.inner.world.message_id();
        Self {
            draft: node.inner.spool.draft(message, field.to_string().as_bytes()),
            watch,
            evidence,
            held: None,
            signable: None,
            by: live.config.node.name.clone(),
        }
    }

    /// Has a message without `Message-ID:` given one, so that whoever gets it twice can see that (SUBM-005). Once, here: all
    /// attempts carry the same.
    ///
    /// What is completed here is ours to sign, and what signatures need is gathered too.
    pub(super) fn completing(self) -> Self {
        Self { held: Some(Vec::new()), signable: Some(Signable::default()), ..self }
    }

    /// The next octets.
    pub(super) async fn write(&mut self, octets: &[u8]) -> Result<(), Refusal> {
        self.watch.push(octets)?;
        if let Some(evidence) = &mut self.evidence {
            evidence.push(octets);
        }
        if let Some(signable) = &mut self.signable {
            signable.push(octets);
        }
        let Some(mut held) = self.held.take() else { return Ok(self.draft.write(octets).await?) };
        held.extend_from_slice(octets);
        match self.watch.facts().map(|facts| facts.message_ids) {
            Some(message_ids) => self.release(&held, message_ids).await,
            None => {
                self.held = Some(held);
                Ok(())
            }
        }
    }

    async fn release(&mut self, held: &[u8], message_ids: usize) -> Result<(), Refusal> {
        if message_ids == 0 {
            let field = format!("Message-ID: <{}@{}>\r\n", self.draft.message(), self.by);
            self.draft.add_prefix(field.as_bytes());
            if let Some(signable) = &mut self.signable {
                signable.put_on_top(field.as_bytes());
            }
        }
        Ok(self.draft.write(held).await?)
    }

    /// No more octets.
    pub(super) async fn finish(mut self) -> Result<Complete, Refusal> {
        let held = self.held.take();
        let watch = std::mem::replace(&mut self.watch, HeaderWatch::new(HeaderLimits::default()));
        let header = watch.finish()?;
        if let Some(held) = held {
            self.release(&held, header.message_ids).await?;
        }
        let signable = self.signable.map(Signable::finish);
        let evidence = self.evidence.map(EvidenceWatch::finish).unwrap_or_default();
        Ok(Complete { header, draft: self.draft, evidence, signable })
    }
}

fn count(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl From<HeaderFault> for Refusal {
    fn from(fault: HeaderFault) -> Self {
        Self { reason: fault.reason, detail: fault.detail }
    }
}

impl From<SpoolError> for Refusal {
    fn from(error: SpoolError) -> Self {
        Self { reason: error.reason(), detail: error.to_string() }
    }
}

/// The positive reply: given only when there is an [`Accepted`], which only the spool makes.
pub(super) fn accepted_reply(accepted: &Accepted) -> Reply {
    Reply::sanitised(250, (2, 0, 0), &format!("accepted as {}", accepted.message()))
}
