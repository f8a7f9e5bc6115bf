//! Our own domains before and while we send in their name: are they in order, and the signatures (`spec/10-signing.md`).

use std::collections::BTreeMap;
use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll};

use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt as _, Chain, ReadBuf};
use tokio::sync::Mutex;

use super::node::Node;
use crate::admin::Alarm;
use crate::config::Config;
use crate::model::{DecisionRecord, Digest, DomainName, Hasher};
use crate::trust::{Content, OwnDomain, Signer};

/// How long a domain that is in order is not asked about again.
const GOOD_SECONDS: i64 = 600;
/// How long a defect is remembered: a correction shows by then, or at once after a reload.
const DEFECT_SECONDS: i64 = 300;
/// How long nobody asks again where DNS gave no answer.
const TROUBLE_SECONDS: i64 = 60;

/// What was seen of each of our domains, for a bounded time (SIGN-012).
pub(super) struct OwnDomains(BTreeMap<DomainName, Mutex<Option<Held>>>);

struct Held {
    until: Timestamp,
    defects: Vec<String>,
}

impl OwnDomains {
    pub(super) fn new(config: &Config) -> Self {
        Self(config.node.domains.iter().map(|domain| (domain.clone(), Mutex::new(None))).collect())
    }
}

impl Node {
    /// What other providers would refuse of this domain of ours; nothing: no reason is known. Asks DNS when the last look is
    /// too old, and then raises an alarm for what it finds.
    pub(super) async fn own_domain_defects(
        &self,
        domain: &DomainName,
        record: &mut DecisionRecord,
    ) -> Vec<String> {
        let live = self.live();
        let Some(held) = live.own_domains.0.get(domain) else { return Vec::new() };
        // One look at a time: whoever comes meanwhile gets what it finds.
        let mut held = held.lock().await;
        let now = self.inner.world.now();
        if let Some(held) = held.as_ref().filter(|held| now < held.until) {
            return held.defects.clone();
        }
        let own =
            OwnDomain { domain, node: &live.config.node.name, keys: live.config.signers(domain).collect() };
        let state = self.inner.judge.own_domain(&own).await;
        record.discovery.dns.extend(state.dns);
        let seconds = match (state.defects.is_empty(), state.trouble.is_empty()) {
            (false, _) => DEFECT_SECONDS,
            (true, false) => TROUBLE_SECONDS,
            (true, true) => GOOD_SECONDS,
        };
        if !state.defects.is_empty() {
            let detail = format!("{domain}: {}", state.defects.join("; "));
            self.inner.observer.alarm(Alarm::OwnDomain, &detail);
        }
        let until = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        *held = Some(Held { until, defects: state.defects.clone() });
        state.defects
    }

    /// What is put on content of `domain` for another provider: a signature of each key that signs for it, in the order of the
    /// configuration, and the NTA header below them; and why a signature is missing.
    pub(super) fn outbound_fields(
        &self,
        domain: &DomainName,
        mut content: Content,
    ) -> (Vec<(String, String)>, Vec<String>) {
        let (live, now) = (self.live(), self.inner.world.now());
        let nta = self.nta_field(domain, &content);
        if let Some((name, value)) = &nta {
            content.put_on_top(name, value);
        }
        let also = live.config.nta_header.name.as_deref();
        let (mut fields, mut warnings) = (Vec::new(), Vec::new());
        for (selector, key) in live.config.signers(domain) {
            match (Signer { domain, selector, key, also }).sign(&content, now) {
                Ok(field) => fields.push(field),
                Err(why) => {
                    warnings.push(format!("not signed with {selector} of {domain}: {why} (SIGN-001)"))
                }
            }
        }
        fields.extend(nta);
        (fields, warnings)
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
    pub(super) fn new(fields: &[(String, String)], content: R, size: u64) -> Self {
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
