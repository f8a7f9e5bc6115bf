//! Who decides: the room behind the server.

use std::fmt;
use std::net::SocketAddr;

use async_trait::async_trait;

use crate::model::Recipient;
use crate::transport::smtp::Reply;
use crate::transport::smtp::command::Mail;
use crate::transport::tls::HandshakeFacts;

/// Identifies a session in the log of this process; it is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(super) u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A session after its handshake. Who the client is has not been judged yet.
#[derive(Clone, Debug)]
pub struct SecuredSession {
    /// Names the session in the log.
    pub id: SessionId,
    /// The client.
    pub remote: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// What TLS agreed on, and the certificates the client showed.
    pub tls: HandshakeFacts,
}

/// Decides about sessions, transactions and content. The server asks it everything, in the order of the methods, and
/// never twice.
///
/// Every refusal is a negative reply; one with code 421 ends the session. A positive reply in an `Err` is a bug, and the
/// client hears `451 4.3.0` instead. The server sets no time limit on these calls: the client waits five minutes for the
/// reply to MAIL or RCPT and ten for that to content (RFC 5321 section 4.5.3.2), and they must end before.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// What is known about the client of a session.
    type Peer: Send + Sync;
    /// A transaction that was allowed to begin. Dropped when it ends without content.
    type Transaction: Send;

    /// Before the greeting: budget, address list. The refusal is sent and the connection closed.
    async fn admit(&self, from: SocketAddr) -> Result<(), Reply>;

    /// MAIL came before STARTTLS and was refused. For a gate that keeps records (REC-001). `helo` is empty before EHLO.
    async fn in_clear(&self, from: SocketAddr, helo: &str, mail: &Mail, why: &Reply) {
        let _ = (from, helo, mail, why);
    }

    /// After the handshake and before the first command. Cannot fail: a refusal is kept in `Peer` and given at MAIL, where
    /// the client takes it for an answer and not for an accident.
    async fn secured(&self, session: &SecuredSession) -> Self::Peer;

    /// More EHLO keyword lines; asked only inside TLS.
    fn keywords(&self, peer: &Self::Peer) -> Vec<String>;

    /// May this sender open a transaction? `helo` is a claim of the client.
    async fn mail(&self, peer: &Self::Peer, helo: &str, mail: &Mail) -> Result<Self::Transaction, Reply>;

    /// The server has refused this MAIL by itself, for what it declares. For a gate that keeps records (REC-001).
    async fn refused(&self, peer: &Self::Peer, helo: &str, mail: &Mail, why: &Reply) {
        let _ = (peer, helo, mail, why);
    }

    /// May this recipient join? A refusal leaves the transaction as it was.
    async fn rcpt(
        &self,
        peer: &Self::Peer,
        transaction: &mut Self::Transaction,
        recipient: &Recipient,
    ) -> Result<(), Reply>;

    /// May content follow? At least one recipient was accepted. The transaction is over either way.
    async fn content(
        &self,
        peer: &Self::Peer,
        transaction: Self::Transaction,
    ) -> Result<Box<dyn Content>, Reply>;
}

/// Takes the content of one transaction. Exactly one of these ends it: an `Err` from [`Self::write`],
/// [`Self::finish`], or [`Self::abandon`]. Only when the node is torn down is it dropped without.
#[async_trait]
pub trait Content: Send {
    /// The next octets, transparency undone; at most some 16 KiB at a time. After an `Err` the session reads on to the
    /// end of the content, and gives that reply.
    async fn write(&mut self, octets: &[u8]) -> Result<(), Reply>;

    /// The content is complete and well-formed. `Ok` is the positive reply, given only when the message is on stable
    /// storage.
    async fn finish(self: Box<Self>) -> Result<Reply, Reply>;

    /// The session refused the content (fault, limit, reset, connection lost): nothing of it may be kept. `why` is what
    /// the client was told, or would have been, for the decision record.
    async fn abandon(self: Box<Self>, why: &Reply);
}
