//! Signing what leaves for another provider: settled when it is accepted, done when it is sent (`spec/10-signing.md`).

use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, Chain, ReadBuf};

use super::node::Node;
use super::refusal::Refusal;
use crate::config::Config;
use crate::handoff::deliver::headers::HEADER_OCTETS_MAX;
use crate::model::{DecisionRecord, Digest, DomainName, Hasher, Reason};
use crate::spool::{Arrival, Attempt, Signing};
use crate::trust::{Content, SectionReader, Signer, SigningKey};

/// Octets read at once, in search of the end of a header section.
const PIECE_OCTETS: usize = 16 << 10;

impl Node {
    /// Settles what is put on content of `domain` whenever it is sent to another provider: the NTA header, and above it a
    /// signature of each key that signs for the domain now, in the order of the configuration (SIGN-014).
    ///
    /// The signatures themselves are made when there is a link to send on: whoever gave us the message does not wait for
    /// them, and what never finds a link does not cost them.
    pub(super) fn settle_signing(&self, domain: &DomainName, content: Content) -> Arrival {
        let config = &self.live().config;
        let selectors: Vec<_> = config.signers(domain).map(|(selector, _)| selector.to_owned()).collect();
        let outbound_fields = self.nta_field(domain, &content).into_iter().collect();
        let signing = (!selectors.is_empty()).then(|| Signing {
            selectors,
            also: config.nta_header.name.clone(),
            body_hash: content.into_body_hash(),
        });
        Arrival { domain: Some(domain.clone()), outbound_fields, signing, ..Arrival::default() }
    }

    /// The NTA header, where one is configured and the content brings none of its own (SIGN-013).
    fn nta_field(&self, domain: &DomainName, content: &Content) -> Option<(String, String)> {
        let config = &self.live().config;
        let (name, value) = config.nta_header.outgoing()?;
        let places = [
            ("{domain}", domain.as_str()),
            ("{provider}", config.node.provider.as_str()),
            ("{node}", config.node.name.as_str()),
        ];
        let filled = places.iter().fold(value.to_owned(), |text, (place, with)| text.replace(place, with));
        (!content.has(name)).then(|| (name.to_owned(), filled))
    }

    /// Stored content as it goes to another provider. A signature that cannot be made is a warning in the record.
    ///
    /// # Errors
    /// The header section cannot be read back.
    pub(super) async fn signed<R: AsyncRead + Unpin>(
        &self,
        attempt: &Attempt,
        mut stored: R,
        record: &mut DecisionRecord,
    ) -> Result<Sent<R>, Refusal> {
        let (arrival, size) = (attempt.arrival(), attempt.content().size);
        let (Some(signing), Some(domain)) = (&arrival.signing, &arrival.domain) else {
            return Ok(Sent::new(&arrival.outbound_fields, Vec::new(), stored, size));
        };
        let (section, read) = read_section(&mut stored).await?;
        let mut content = Content::new(section, signing.body_hash.clone());
        for (name, value) in arrival.outbound_fields.iter().rev() {
            content.put_on_top(name, value);
        }
        let live = self.live();
        let mut fields = Vec::new();
        for (selector, key) in keys(&live.config, domain, signing, record) {
            let signer = Signer { domain, selector, key, also: signing.also.as_deref() };
            match signer.sign(&content, attempt.accepted()) {
                Ok(field) => fields.push(field),
                Err(why) => {
                    let what = format!("not signed with {selector} of {domain}: {why} (SIGN-001)");
                    record.warnings.push(what);
                }
            }
        }
        fields.extend(arrival.outbound_fields.iter().cloned());
        Ok(Sent::new(&fields, read, stored, size))
    }
}

/// The keys that were settled; where one has left the configuration since, those that sign for the domain now.
fn keys<'c>(
    config: &'c Config,
    domain: &'c DomainName,
    signing: &Signing,
    record: &mut DecisionRecord,
) -> Vec<(&'c str, &'c SigningKey)> {
    let settled = signing.selectors.iter().map(|selector| config.key(domain, selector).ok_or(selector));
    settled.collect::<Result<_, _>>().unwrap_or_else(|gone| {
        record.warnings.push(format!(
            "the key {gone} of {domain} has left the configuration since this message was accepted; it is signed with those \
             that sign now (SIGN-014)"
        ));
        config.signers(domain).collect()
    })
}

/// The header section at the start of stored content, and all that was read to find its end.
async fn read_section<R: AsyncRead + Unpin>(stored: &mut R) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    let mut reader = SectionReader::new(HEADER_OCTETS_MAX);
    let mut read = Vec::new();
    loop {
        let start = read.len();
        read.resize(start + PIECE_OCTETS, 0);
        let count = stored.read(&mut read[start..]).await;
        let count = count.map_err(|error| Refusal::new(Reason::LocalFault, error.to_string()))?;
        read.truncate(start + count);
        if count == 0 || reader.push(&read[start..])? {
            return Ok((reader.finish(), read));
        }
    }
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
    /// Puts `fields` (name and value) on content of `size` octets, of which `read` was taken from `rest` already.
    fn new(fields: &[(String, String)], read: Vec<u8>, rest: R, size: u64) -> Self {
        let top: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let size = size + top.len() as u64;
        let mut first = top.into_bytes();
        first.extend(read);
        Self { content: Cursor::new(first).chain(rest), size, read: 0, hasher: Hasher::default() }
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
