//! Content on its way into the spool, with its header section read as it passes.

use std::net::IpAddr;

use super::node::Node;
use super::refusal::Refusal;
use crate::model::{AttemptId, Envelope, Reason, SmimeFacts};
use crate::spool::{Accepted, Draft, SpoolError};
use crate::transport::smtp::Reply;
use crate::trust::smime::{NotSigned, SmimeEvidence, SmimeWatch, SmimeWrap};
use crate::trust::{
    Evidence, EvidenceWatch, GivenName, HeaderFacts, HeaderFault, HeaderLimits, HeaderWatch, ReceivedFacts,
    WithProtocol, received,
};

/// Whether what the message proves by itself is gathered as it passes. Memory stays flat either way (JUDGE-002).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// The header section and the digests that its signatures ask for, those of S/MIME too.
    Evidence,
    /// Nothing.
    Nothing,
}

/// Content being received.
pub(super) struct Intake {
    draft: Draft,
    watch: HeaderWatch,
    evidence: Option<(EvidenceWatch, SmimeWatch)>,
    /// The header section, held back until it is known whether it lacks something of ours.
    held: Option<Vec<u8>>,
    /// Whether it is ours to complete, and to sign.
    completes: bool,
    /// A signature of S/MIME that is being made.
    wrap: Option<SmimeWrap>,
    warnings: Vec<String>,
    node: Node,
}

/// Content that is complete.
pub(super) struct Complete {
    pub(super) draft: Draft,
    pub(super) header: HeaderFacts,
    pub(super) evidence: Evidence,
    /// What the message's own S/MIME signature needs to be judged.
    pub(super) smime: SmimeEvidence,
    /// That this node signed it with S/MIME.
    pub(super) smime_signed: Option<SmimeFacts>,
    pub(super) warnings: Vec<String>,
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
        let evidence = (keep == Keep::Evidence).then(|| {
            let (header, smime) = (count(limits.header_octets), count(limits.smime_octets));
            (EvidenceWatch::new(header), SmimeWatch::new(smime))
        });
        let message = node.inner.world.message_id();
        Self {
            draft: node.inner.spool.draft(message, field.to_string().as_bytes()),
            watch,
            evidence,
            held: None,
            completes: false,
            wrap: None,
            warnings: Vec::new(),
            node: node.clone(),
        }
    }

    /// Has a message without `Message-ID:` given one, so that whoever gets it twice can see that (SUBM-005). Once, here: all
    /// attempts carry the same. What is completed here is ours to sign, too.
    pub(super) fn completing(self) -> Self {
        Self { held: Some(Vec::new()), completes: true, ..self }
    }

    /// The next octets.
    pub(super) async fn write(&mut self, octets: &[u8]) -> Result<(), Refusal> {
        self.watch.push(octets)?;
        if let Some((evidence, smime)) = &mut self.evidence {
            evidence.push(octets);
            smime.push(octets);
        }
        let Some(mut held) = self.held.take() else { return self.body(octets).await };
        held.extend_from_slice(octets);
        match self.watch.facts().cloned() {
            Some(facts) => self.release(&held, &facts).await,
            None => {
                self.held = Some(held);
                Ok(())
            }
        }
    }

    /// The header section is known: what was held goes on, with what it lacks, and wrapped if it is to be signed.
    async fn release(&mut self, held: &[u8], header: &HeaderFacts) -> Result<(), Refusal> {
        if header.message_ids == 0 {
            let by = self.node.live().config.node.name.clone();
            let field = format!("Message-ID: <{}@{by}>\r\n", self.draft.message());
            self.draft.add_prefix(field.as_bytes());
        }
        let (section, body) = split(held);
        match self.wrap(&held[..section], header) {
            None => self.emit(held).await,
            Some((wrap, outer)) => {
                self.wrap = Some(wrap);
                self.emit(&outer).await?;
                self.body(&held[body..]).await
            }
        }
    }

    /// Begins to sign with S/MIME, if that is configured for who wrote the message (SMIME-010, SMIME-011).
    fn wrap(&mut self, section: &[u8], header: &HeaderFacts) -> Option<(SmimeWrap, Vec<u8>)> {
        let (live, world) = (self.node.live(), &self.node.inner.world);
        let ours = self.completes && header.report.is_none();
        let signer = live.config.smime.signer_of(&header.from).filter(|_| ours)?;
        if !signer.is_valid_at(world.now()) {
            self.warnings.push(format!(
                "not signed with S/MIME: the certificate for {} is not valid now (SMIME-015)",
                header.from_domain
            ));
            return None;
        }
        let boundary = format!("=_sluis_{:016x}{:016x}", world.random.next(), world.random.next());
        match SmimeWrap::begin(section, signer.clone(), boundary) {
            Ok(begun) => Some(begun),
            Err(NotSigned::Already) => None,
            Err(NotSigned::Doubtful(where_)) => {
                let what = format!("not signed with S/MIME: {where_} can be read in two ways (SMIME-011)");
                self.warnings.push(what);
                None
            }
        }
    }

    /// Octets of the body.
    async fn body(&mut self, octets: &[u8]) -> Result<(), Refusal> {
        if let Some(wrap) = &mut self.wrap {
            wrap.body(octets);
        }
        self.emit(octets).await
    }

    /// Octets as they are stored and sent.
    async fn emit(&mut self, octets: &[u8]) -> Result<(), Refusal> {
        Ok(self.draft.write(octets).await?)
    }

    /// No more octets.
    pub(super) async fn finish(mut self) -> Result<Complete, Refusal> {
        let held = self.held.take();
        let watch = std::mem::replace(&mut self.watch, HeaderWatch::new(HeaderLimits::default()));
        let header = watch.finish()?;
        if let Some(held) = held {
            self.release(&held, &header).await?;
        }
        let mut smime_signed = None;
        if let Some(wrap) = self.wrap.take() {
            // A part of it is written: without its signature it would be a damaged message.
            let signed = wrap.finish(self.node.inner.world.now());
            let (tail, facts) =
                signed.ok_or_else(|| Refusal::new(Reason::LocalFault, "the S/MIME key did not sign"))?;
            self.emit(&tail).await?;
            smime_signed = Some(facts);
        }
        let (evidence, smime) = match self.evidence {
            Some((evidence, smime)) => (evidence.finish(), smime.finish()),
            None => Default::default(),
        };
        let warnings = self.warnings;
        Ok(Complete { header, draft: self.draft, evidence, smime, smime_signed, warnings })
    }
}

/// The length of the header section at the start, its last CRLF included, and where the body begins.
fn split(content: &[u8]) -> (usize, usize) {
    if content.starts_with(b"\r\n") {
        return (0, 2);
    }
    let end = memchr::memmem::find(content, b"\r\n\r\n");
    end.map_or((content.len(), content.len()), |at| (at + 2, at + 4))
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
