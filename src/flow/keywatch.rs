//! One key, two peers: an alarm, never a lock-out (IDEN-019).
//!
//! Under usage 3 anybody may publish anybody's key under a name of his own, so a key seen at two peers proves a mistake
//! or a prank, and shutting either of them out would hand pranksters a switch.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::knock::Knock;
use super::node::Node;
use crate::admin::Alarm;
use crate::model::{Digest, DomainName};

/// Keys remembered at most; then the memory starts anew.
const KEYS_MAX: usize = 10_000;

/// Which name showed a key first.
#[derive(Default)]
pub(super) struct KeyWatch(Mutex<HashMap<Digest, Vec<DomainName>>>);

impl KeyWatch {
    /// Notes that `names` showed `key`; answers with the names seen before when none of them is the same.
    fn note(&self, key: Digest, names: &[DomainName]) -> Option<Vec<DomainName>> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= KEYS_MAX {
            seen.clear();
        }
        let before = seen.entry(key).or_insert_with(|| names.to_vec());
        let same_peer = names.iter().any(|name| before.contains(name));
        (!same_peer).then(|| before.clone())
    }
}

impl Node {
    /// Looks whether the key of a proven client was another peer's before.
    pub(super) fn watch_key(&self, knock: &Knock) {
        let Some(peer) = &knock.proven else { return };
        if let Some(before) = self.inner.keywatch.note(peer.key(), peer.names()) {
            let detail =
                format!("key {} shown by {:?} was shown by {before:?} before", peer.key(), peer.names());
            self.inner.observer.alarm(Alarm::SharedKey, &detail);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Proves: +IDEN-019 -IDEN-019
    #[test]
    fn t11_a_key_of_two_peers_is_noticed_and_one_of_two_names_is_not() {
        let watch = KeyWatch::default();
        let name = |text: &str| text.parse::<DomainName>().unwrap();
        let key = Digest::of(b"key");
        assert_eq!(watch.note(key, &[name("nta-a.a.nl"), name("nta-b.a.nl")]), None);
        assert_eq!(watch.note(key, &[name("nta-b.a.nl")]), None);
        assert_eq!(watch.note(key, &[name("nta.c.nl")]).map(|before| before.len()), Some(2));
    }
}
