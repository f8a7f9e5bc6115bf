//! What is put on a message for another provider: settled when it is accepted, made when it is sent (`spec/10-signing.md`).

use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, Chain, ReadBuf};

use super::node::Node;
use super::refusal::Refusal;
use crate::config::Config;
use crate::model::{DecisionRecord, Digest, DomainName, Hasher, Reason};
use crate::spool::{self, Arrival, Attempt, Outgoing};
use crate::trust::{Content, Signable, Signer, SigningKey};

/// Octets of stored content that are hashed at once.
const PIECE_OCTETS: usize = 64 << 10;

impl Node {
    /// Settles what is put on mail of `domain` whenever it is sent to another provider: the NTA header, and above it a
    /// signature of each key that signs for the domain now, in the order of the configuration (SIGN-014).
    ///
    /// The signatures themselves are made when there is a link to send on: whoever gave us the message does not wait for
    /// them, and what never finds a link does not cost them.
    pub(super) fn settle_outgoing(&self, domain: &DomainName) -> Arrival {
        let config = &self.live().config;
        let outgoing = Outgoing {
            selectors: config.signers(domain).map(|(selector, _)| selector.to_owned()).collect(),
            nta_name: config.nta_header.name.clone(),
            nta_value: nta_value(config, domain),
        };
        Arrival { domain: Some(domain.clone()), outgoing: Some(outgoing), ..Arrival::default() }
    }

    /// Stored content as it goes to another provider. A signature that cannot be made is a warning in the record.
    ///
    /// # Errors
    /// The content cannot be read back.
    pub(super) async fn outgoing(
        &self,
        attempt: &Attempt,
        record: &mut DecisionRecord,
    ) -> Result<Sent<spool::Content>, Refusal> {
        let arrival = attempt.arrival();
        let fields = match (&arrival.outgoing, &arrival.domain) {
            (Some(outgoing), Some(domain)) => self.fields(attempt, outgoing, domain, record).await?,
            _ => arrival.outbound_fields.clone(),
        };
        let stored = self.inner.spool.content(attempt.message()).await?;
        Ok(Sent::new(&fields, stored, attempt.content().size))
    }

    /// Signatures, and the NTA header below them.
    async fn fields(
        &self,
        attempt: &Attempt,
        outgoing: &Outgoing,
        domain: &DomainName,
        record: &mut DecisionRecord,
    ) -> Result<Vec<(String, String)>, Refusal> {
        if outgoing.selectors.is_empty() && outgoing.nta_value.is_none() {
            return Ok(Vec::new());
        }
        let mut content = self.signable(attempt).await?;
        let nta = outgoing.nta_name.as_ref().zip(outgoing.nta_value.as_ref());
        let nta = nta.filter(|(name, _)| !content.has(name));
        if let Some((name, value)) = nta {
            content.put_on_top(name, value);
        }
        let live = self.live();
        let mut fields = Vec::new();
        for (selector, key) in keys(&live.config, domain, outgoing, record) {
            let signer = Signer { domain, selector, key, also: outgoing.nta_name.as_deref() };
            match signer.sign(&content, attempt.accepted()) {
                Ok(field) => fields.push(field),
                Err(why) => {
                    let what = format!("not signed with {selector} of {domain}: {why} (SIGN-001)");
                    record.warnings.push(what);
                }
            }
        }
        fields.extend(nta.map(|(name, value)| (name.clone(), value.clone())));
        Ok(fields)
    }

    /// Reads the content once, to its end: if it is damaged, that is known before any of it is sent.
    async fn signable(&self, attempt: &Attempt) -> Result<Content, Refusal> {
        let mut stored = self.inner.spool.content(attempt.message()).await?;
        let mut signable = Signable::default();
        let mut piece = vec![0; PIECE_OCTETS];
        loop {
            let count = stored.read(&mut piece).await;
            match count.map_err(|error| Refusal::new(Reason::LocalFault, error.to_string()))? {
                0 => return Ok(signable.finish()),
                count => signable.push(&piece[..count]),
            }
        }
    }
}

/// What the NTA header says for a domain, where one is configured (SIGN-013).
fn nta_value(config: &Config, domain: &DomainName) -> Option<String> {
    let (_, value) = config.nta_header.outgoing()?;
    let places = [
        ("{domain}", domain.as_str()),
        ("{provider}", config.node.provider.as_str()),
        ("{node}", config.node.name.as_str()),
    ];
    Some(places.iter().fold(value.to_owned(), |text, (place, with)| text.replace(place, with)))
}

/// The keys that were settled; where one has left the configuration since, those that sign for the domain now.
fn keys<'c>(
    config: &'c Config,
    domain: &'c DomainName,
    outgoing: &Outgoing,
    record: &mut DecisionRecord,
) -> Vec<(&'c str, &'c SigningKey)> {
    let settled = outgoing.selectors.iter().map(|selector| config.key(domain, selector).ok_or(selector));
    settled.collect::<Result<_, _>>().unwrap_or_else(|gone| {
        record.warnings.push(format!(
            "the key {gone} of {domain} has left the configuration since this message was accepted; it is signed with those \
             that sign now (SIGN-014)"
        ));
        config.signers(domain).collect()
    })
}

/// Stored content with fields on top, as another provider gets it.
pub(super) struct Sent<R> {
    content: Chain<Cursor<Vec<u8>>, R>,
    /// Octets, all told.
    pub(super) size: u64,
    read: u64,
    hasher: Hasher,
}

impl<R: AsyncRead + Unpin> Sent<R> {
    /// Puts `fields` (name and value) on `content` of `size` octets.
    fn new(fields: &[(String, String)], content: R, size: u64) -> Self {
        let top: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let size = size + top.len() as u64;
        Self {
            content: Cursor::new(top.into_bytes()).chain(content),
            size,
            read: 0,
            hasher: Hasher::default(),
        }
    }

    /// The digest of what was read, once that is all of it.
    pub(super) fn digest(self) -> Option<Digest> {
        (self.read == self.size).then(|| self.hasher.finish())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Sent<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = out.filled().len();
        let polled = Pin::new(&mut self.content).poll_read(context, out);
        let news = &out.filled()[before..];
        self.read += news.len() as u64;
        self.hasher.update(news);
        polled
    }
}
