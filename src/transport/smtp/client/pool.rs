//! Links kept open for the next message on the same terms (SMTP-023).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Session;
use crate::discovery::{Candidate, Tlsa};
use crate::model::{Digest, DomainName, Level};
use crate::transport::tls::ClientTls;

/// How long and how often a link is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// How long an unused link stays open. 30 s: below the five minutes after which servers hang up.
    pub idle: Duration,
    /// How many messages one link carries. 100: then a fresh handshake proves both sides anew.
    pub messages: u32,
    /// How many links of the same terms stay open unused. 4.
    pub idle_links: usize,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), messages: 100, idle_links: 4 }
    }
}

/// The terms a link was authenticated for. A delivery with any other term does not get it: another host or address, a
/// floor, a roll-over of their keys or ours, another mail domain as reference name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinkKey {
    host: DomainName,
    base: DomainName,
    reference_names: Vec<DomainName>,
    address: IpAddr,
    port: u16,
    tlsa: Vec<Tlsa>,
    floor: Level,
    own_keys: Vec<Digest>,
}

impl LinkKey {
    /// The terms of a delivery to one address of a candidate.
    #[must_use]
    pub fn new(candidate: &Candidate, address: IpAddr, floor: Level, tls: &ClientTls) -> Self {
        Self {
            host: candidate.host.name.clone(),
            base: candidate.base.clone(),
            reference_names: candidate.reference_names.clone(),
            address,
            port: candidate.port,
            tlsa: candidate.tlsa.get().usable.clone(),
            floor,
            own_keys: tls.key_digests(),
        }
    }
}

/// The links that nobody uses at the moment.
pub struct Pool {
    settings: PoolSettings,
    idle: Mutex<HashMap<LinkKey, Vec<Idle>>>,
}

struct Idle {
    session: Session,
    since: Instant,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(settings: PoolSettings) -> Self {
        Self { settings, idle: Mutex::new(HashMap::new()) }
    }

    /// A link on these very terms that still answers, the one used last first.
    pub async fn take(&self, key: &LinkKey) -> Option<Session> {
        loop {
            let Idle { mut session, since } = self.pop(key)?;
            if since.elapsed() < self.settings.idle && session.check().await.is_ok() {
                return Some(session);
            }
        }
    }

    fn pop(&self, key: &LinkKey) -> Option<Idle> {
        let mut all = self.lock();
        let links = all.get_mut(key)?;
        let link = links.pop();
        if links.is_empty() {
            all.remove(key);
        }
        link
    }

    /// Keeps a link for later, or says good-bye to it when it has served its time or there are enough.
    pub async fn keep(&self, key: LinkKey, session: Session) {
        if session.is_usable() && session.messages() < self.settings.messages {
            let mut all = self.lock();
            let links = all.entry(key).or_default();
            if links.len() < self.settings.idle_links {
                links.push(Idle { session, since: Instant::now() });
                return;
            }
        }
        session.quit().await;
    }

    /// Closes what has been idle for too long. Call it every few seconds.
    pub async fn sweep(&self) {
        let idle = self.settings.idle;
        self.close(|link| link.since.elapsed() >= idle).await;
    }

    /// Closes everything, as before a stop.
    pub async fn clear(&self) {
        self.close(|_| true).await;
    }

    /// How many links are open and unused.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn close(&self, chosen: impl Fn(&Idle) -> bool) {
        let mut closing = Vec::new();
        self.lock().retain(|_, links| {
            closing.extend(links.extract_if(.., |link| chosen(link)));
            !links.is_empty()
        });
        for link in closing {
            link.session.quit().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<LinkKey, Vec<Idle>>> {
        // Nothing in here can be left half done: each change is one push, pop or retain.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
