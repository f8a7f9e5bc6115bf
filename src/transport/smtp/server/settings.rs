//! What a listener may be told.

use std::time::Duration;

use crate::model::DomainName;

/// Settings of one listener. The numbers and their reasons: `spec/08-limits.md`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name in greeting and EHLO.
    pub hostname: DomainName,
    /// Largest content in octets; announced as SIZE.
    pub message_octets: u64,
    /// Accepted recipients per transaction.
    pub recipients: usize,
    /// Longest command line in octets, CRLF included.
    pub command_line_octets: usize,
    /// BDAT chunks per transaction.
    pub chunks: u64,
    /// Accepted MAIL commands per session.
    pub transactions: u64,
    /// Commands per session that break the protocol.
    pub errors: u64,
    /// Negative replies of the gate per session.
    pub refusals: u64,
    /// Commands in a row that bring no message nearer: NOOP, RSET, EHLO, VRFY and the like.
    pub idle_commands: u64,
    /// Sessions at once, over all listeners that share [`super::Slots`].
    pub sessions: usize,
    /// Of these, sessions of one IPv4 address or one IPv6 /64.
    pub sessions_per_network: usize,
    /// For one command line to come whole, for the client to take our replies, and for everything before STARTTLS.
    pub command_time: Duration,
    /// For the handshake.
    pub handshake_time: Duration,
    /// For the next octet of content.
    pub content_idle_time: Duration,
    /// For the content of one transaction.
    pub content_time: Duration,
    /// For a session, from its connection on.
    pub session_time: Duration,
    /// For transactions under way when the node stops.
    pub stop_time: Duration,
}

impl Settings {
    /// The defaults, under the name `hostname`.
    #[must_use]
    pub const fn new(hostname: DomainName) -> Self {
        const MINUTE: u64 = 60;
        Self {
            hostname,
            message_octets: 64 << 20,
            recipients: 100,
            command_line_octets: 4096,
            chunks: 20_000,
            transactions: 1000,
            errors: 20,
            refusals: 1000,
            idle_commands: 100,
            sessions: 256,
            sessions_per_network: 32,
            command_time: Duration::from_secs(5 * MINUTE),
            handshake_time: Duration::from_secs(30),
            content_idle_time: Duration::from_secs(3 * MINUTE),
            content_time: Duration::from_secs(60 * MINUTE),
            session_time: Duration::from_secs(120 * MINUTE),
            stop_time: Duration::from_secs(30),
        }
    }

    /// How much refused content is read before the connection is closed instead, in octets.
    pub(super) const fn drain_octets(&self) -> u64 {
        self.message_octets.saturating_mul(4)
    }
}
