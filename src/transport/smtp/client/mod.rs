//! The client that speaks to peers: one link to one address of one host, authenticated before anything is said on it.
//!
//! # Guarantees
//! - A [`Session`] exists only inside TLS, with a server that DANE authenticated (SMTP-004, DANE-005). Until then nothing
//!   but EHLO and STARTTLS was said: no sender, no recipient, no content.
//! - What is recorded of a link is in its [`HostFacts`], also when it failed.
//!
//! # A link
//! connect → greeting → EHLO → STARTTLS → handshake with DANE → EHLO again → messages, each MAIL, RCPT…, content → QUIT.
//!
//! # Errors
//! [`ConnectError`] for the link (next host), [`TransferError`] for a message on it. The level that a link reached is a
//! fact; whether it is enough is for policy to say.
//!
//! # Standards
//! RFC 5321, 3207, 7672. Our text: `spec/03-transport.md`, `spec/04-identity.md`.

mod confirmation;
mod pool;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

pub use pool::{LinkKey, Pool, PoolSettings};

use crate::discovery::Candidate;
use crate::model::{Confirmation, DomainName, Envelope, HostFacts, Level, Reason};
use crate::transport::VerifiedPeer;
use crate::transport::smtp::dialogue::{
    Content, Dialect, Dialogue, DialogueError, Fault, Step, StepLimits, Transfer, TransferError, reach,
};
use crate::transport::tls::{ClientTls, HandshakeFacts, OwnCertificate, ServerProof};
use crate::world::{Link, World};

/// How we appear to peers, and how patient we are.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The name in EHLO. A host of our own NTA record, best the name of our client certificate.
    pub name: DomainName,
    /// Local address of outgoing connections. Default: the system's choice.
    pub source: Option<IpAddr>,
    /// Time per step.
    pub limits: StepLimits,
}

/// A link that is not.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct ConnectError {
    error: DialogueError,
    facts: Box<HostFacts>,
}

impl ConnectError {
    /// What went wrong, and in which step. No content has left.
    #[must_use]
    pub const fn error(&self) -> &DialogueError {
        &self.error
    }

    /// The named check that failed.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.error.reason()
    }

    /// All that was learned about the host, reason and detail included.
    #[must_use]
    pub fn into_facts(self) -> HostFacts {
        *self.facts
    }
}

/// An open, authenticated link to a peer's host.
pub struct Session {
    dialogue: Dialogue<Link>,
    facts: HostFacts,
    server: VerifiedPeer,
    handshake: HandshakeFacts,
    messages: u32,
}

/// Connects to one address of a candidate and proves who is there.
///
/// # Errors
/// Any step that failed, with the facts up to it. The caller goes on to the next address or host.
pub async fn connect(
    candidate: &Candidate,
    address: IpAddr,
    settings: &ClientSettings,
    tls: &ClientTls,
    world: &World,
) -> Result<Session, ConnectError> {
    let target = SocketAddr::new(address, candidate.port);
    let mut facts = facts_of(candidate, target);
    let outcome = match reach(&settings.limits, world.network.connect(target, settings.source)).await {
        Ok(stream) => establish(stream, candidate, settings, tls, world.now(), &mut facts).await,
        Err(error) => Err(error),
    };
    outcome.map_err(|error| {
        note_failure(&mut facts, &error);
        ConnectError { error, facts: Box::new(facts) }
    })
}

/// From a fresh connection to a session.
async fn establish<S>(
    stream: S,
    candidate: &Candidate,
    settings: &ClientSettings,
    tls: &ClientTls,
    now: Timestamp,
    facts: &mut HostFacts,
) -> Result<Session, DialogueError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = settings.limits;
    let clear = Dialogue::open(stream, Dialect::Esmtp, &settings.name, limits).await?;
    // The stream alone comes through here: what was offered in the clear ends with this line (SMTP-003).
    let stream = clear.starttls().await?;
    let proof = ServerProof::Dane {
        records: candidate.tlsa.get().usable.clone(),
        names: candidate.reference_names.clone(),
    };
    let handshake = timeout(limits.handshake, tls.connect(stream, &candidate.base, &proof, now)).await;
    let secured = match handshake {
        Ok(Ok(secured)) => secured,
        Ok(Err(error)) => return Err(DialogueError::new(Step::Handshake, error)),
        Err(_) => return Err(DialogueError::new(Step::Handshake, Fault::Timeout)),
    };
    let mut record = secured.facts.to_record();
    record.authenticated_by = Some(secured.peer.evidence().to_owned());
    facts.tls = Some(record);
    facts.proven_names = secured.peer.names().to_vec();
    let handshake = secured.facts;
    let dialogue = Dialogue::resume(secured.stream, Dialect::Esmtp, &settings.name, limits).await?;
    facts.ehlo = dialogue.capabilities().lines();
    facts.peer_confirmed = confirmation::read(dialogue.capabilities(), handshake.own_certificate());
    facts.step = Some(Step::HelloSecured.as_str().to_owned());
    Ok(Session { dialogue, facts: facts.clone(), server: secured.peer, handshake, messages: 0 })
}

impl Session {
    /// All that was learned about the host, and what happened last.
    #[must_use]
    pub const fn facts(&self) -> &HostFacts {
        &self.facts
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn server(&self) -> &VerifiedPeer {
        &self.server
    }

    /// What became of our certificate.
    #[must_use]
    pub const fn own_certificate(&self) -> &OwnCertificate {
        self.handshake.own_certificate()
    }

    /// What TLS agreed on, and the certificates the server showed: for a rule that our configuration adds to DANE
    /// (IDEN-012).
    #[must_use]
    pub const fn handshake(&self) -> &HandshakeFacts {
        &self.handshake
    }

    /// The level of this link: `mutual` when the server asked for our certificate and we sent it (IDEN-003).
    #[must_use]
    pub const fn level(&self) -> Level {
        match self.handshake.own_certificate() {
            OwnCertificate::Sent(_) => Level::Mutual,
            _ => Level::Nta7516,
        }
    }

    /// The server's confirmation that it proved who we are (IDEN-005). Its absence does not lower the level.
    #[must_use]
    pub const fn confirmation(&self) -> Option<&Confirmation> {
        self.facts.peer_confirmed.as_ref()
    }

    /// How many messages were offered on this link.
    #[must_use]
    pub const fn messages(&self) -> u32 {
        self.messages
    }

    /// Whether another message can be sent.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.dialogue.is_usable()
    }

    /// Offers one message. [`Self::facts`] then tell of its last step and reply.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn send(
        &mut self,
        envelope: &Envelope,
        content: Content<'_>,
    ) -> Result<Transfer, TransferError> {
        self.messages += 1;
        (self.facts.reason, self.facts.detail, self.facts.code) = (None, None, None);
        let outcome = self.dialogue.send(envelope, content).await;
        match &outcome {
            Ok(transfer) => {
                // The furthest reply says how far it came.
                if let Some(last) = transfer.recipients.iter().max_by_key(|recipient| recipient.step) {
                    self.facts.step = Some(last.step.as_str().to_owned());
                    self.facts.code = Some(code_of(&last.reply));
                }
            }
            Err(error) => note_failure(&mut self.facts, &error.error),
        }
        outcome
    }

    /// Finds out whether an idle link still lives.
    ///
    /// # Errors
    /// It does not.
    pub async fn check(&mut self) -> Result<(), DialogueError> {
        self.dialogue.reset().await
    }

    /// Says good-bye.
    pub async fn quit(self) {
        self.dialogue.quit().await;
    }
}

fn facts_of(candidate: &Candidate, target: SocketAddr) -> HostFacts {
    let set = candidate.tlsa.get();
    HostFacts {
        host: candidate.host.name.to_string(),
        preference: Some(candidate.host.preference),
        address: Some(target.to_string()),
        tlsa_base: Some(candidate.base.clone()),
        tlsa: set.parameters(),
        tlsa_unusable: set.unusable.len(),
        ..HostFacts::default()
    }
}

fn note_failure(facts: &mut HostFacts, error: &DialogueError) {
    facts.step = Some(error.step().as_str().to_owned());
    facts.reason = Some(error.reason());
    facts.detail = Some(error.to_string());
    facts.code = error.reply().map(code_of);
}

fn code_of(reply: &crate::transport::smtp::Reply) -> String {
    match reply.enhanced() {
        Some((class, subject, detail)) => format!("{} {class}.{subject}.{detail}", reply.code()),
        None => reply.code().to_string(),
    }
}
