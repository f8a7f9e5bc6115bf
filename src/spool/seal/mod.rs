//! Encryption at rest: whatever tells something is sealed before it reaches the disk; identifiers and times are clear.
//!
//! # Guarantees
//! - Values of the database and content are sealed with authentication: what was changed, moved to another place, cut or
//!   put into another order does not open (SPOOL-013, SPOOL-020).
//! - A spool whose keys cannot be opened does not start; nothing is ever written in clear instead (SPOOL-020).
//! - The operator's keys are exchanged without rewriting content (SPOOL-021).
//!
//! # How
//! ```text
//! operator's key (file or command)  seals  key of an epoch  seals  values: envelopes, peers, records, and in the record
//!                                                                  of each message the key of its content
//! ```
//! Values and keys: AES-256-GCM-SIV with a random nonce, since one key seals a great many of them. Content: AES-256-GCM
//! in chunks under a key of its own (`content`). With another operator's key in front, a new epoch begins: the keys of
//! older epochs are sealed anew, what they sealed stays as it is.
//!
//! # Standards
//! RFC 8452 (AES-GCM-SIV), NIST SP 800-38D (AES-GCM). Our text: `spec/06-spool.md`, "At rest".

mod content;
mod keys;

use std::collections::BTreeMap;
use std::io;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::SpoolError;

pub use content::{CHUNK_OCTETS, ContentKey, Opener, Sealer, TAG_OCTETS, sealed_size};
pub(super) use keys::Absent;
use keys::{KeyId, MasterKey};
pub use keys::{KeySource, MasterKeys};

/// Octets of every key.
const KEY_OCTETS: usize = 32;
/// Octets of an epoch's number in front of what it sealed.
const EPOCH_OCTETS: usize = 4;

type Key = Zeroizing<[u8; KEY_OCTETS]>;

/// Where a value stands: it opens nowhere else.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The table.
    pub table: &'static str,
    /// The key in the table.
    pub key: &'a [u8],
}

impl Place<'_> {
    fn aad(&self) -> Aad<Vec<u8>> {
        Aad::from([self.table.as_bytes(), &[0], self.key].concat())
    }
}

/// A key of an epoch as it stands in the database: sealed by one of the operator's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey {
    /// Counted from 1.
    pub epoch: u32,
    /// The operator's key, and the sealed octets.
    pub octets: Vec<u8>,
}

/// The open keys of a spool.
pub struct Vault {
    epochs: BTreeMap<u32, LessSafeKey>,
    current: u32,
    names: hmac::Key,
}

/// A vault, and the keys to store if they are not stored that way yet.
pub struct Opened {
    /// The open keys.
    pub vault: Vault,
    /// All epochs, if one is new or sealed anew.
    pub store: Option<Vec<SealedKey>>,
}

impl Vault {
    /// The keys of a new spool.
    pub fn make(master: &MasterKeys) -> Result<Opened, SpoolError> {
        Self::seal_anew(BTreeMap::from([(1, new_key()?)]), master)
    }

    /// Opens the keys of a spool. A new epoch begins when the operator has put another key in front.
    pub fn unlock(stored: &[SealedKey], master: &MasterKeys) -> Result<Opened, SpoolError> {
        let mut keys = BTreeMap::new();
        let mut newest = None;
        for sealed in stored {
            let id = sealed.master()?;
            let opener = master.find(id).ok_or_else(|| {
                let given = master.names();
                SpoolError::Key(format!("the spool is sealed with key {id}, and the keys given are {given}"))
            })?;
            keys.insert(sealed.epoch, sealed.open(opener)?);
            newest = Some(id);
        }
        let Some(&last) = keys.keys().next_back() else {
            return Err(SpoolError::Damaged("the spool's list of keys".to_owned()));
        };
        if newest == Some(master.current().id) {
            return Ok(Opened { vault: Self::of(&keys)?, store: None });
        }
        tracing::info!(key = %master.current().id, "the spool's keys are sealed with the new key; once the node runs, the old one may go");
        keys.insert(last + 1, new_key()?);
        Self::seal_anew(keys, master)
    }

    fn seal_anew(keys: BTreeMap<u32, Key>, master: &MasterKeys) -> Result<Opened, SpoolError> {
        let store = keys.iter().map(|(&epoch, key)| SealedKey::seal(epoch, key, master.current()));
        Ok(Opened { store: Some(store.collect::<Result<_, _>>()?), vault: Self::of(&keys)? })
    }

    fn of(keys: &BTreeMap<u32, Key>) -> Result<Self, SpoolError> {
        let mut epochs = BTreeMap::new();
        for (&epoch, key) in keys {
            epochs.insert(epoch, aead_key(key)?);
        }
        // From the first epoch: a name has to stay the same when the operator's key is exchanged.
        let first = keys.values().next().ok_or_else(|| SpoolError::broken("a spool without keys"))?;
        let named =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, first.as_ref()), b"names of things at rest");
        let names = hmac::Key::new(hmac::HMAC_SHA256, named.as_ref());
        Ok(Self { current: *keys.keys().next_back().unwrap_or(&1), epochs, names })
    }

    /// Seals a value.
    pub fn seal(&self, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>, SpoolError> {
        let key = self.epochs.get(&self.current).ok_or_else(|| SpoolError::broken("a spool without keys"))?;
        let mut octets = self.current.to_be_bytes().to_vec();
        octets.extend(seal(key, place, value)?);
        Ok(octets)
    }

    /// Opens a value; `None` if it was not sealed by this spool for this place.
    pub fn open(&self, place: Place<'_>, octets: &[u8]) -> Option<Vec<u8>> {
        let (epoch, sealed) = octets.split_first_chunk::<EPOCH_OCTETS>()?;
        open(self.epochs.get(&u32::from_be_bytes(*epoch))?, place, sealed)
    }

    /// A name for something that must not be readable at rest, such as a digest. The same thing has the same name.
    pub fn name(&self, thing: &[u8]) -> [u8; 32] {
        let mut name = [0; 32];
        name.copy_from_slice(hmac::sign(&self.names, thing).as_ref());
        name
    }
}

impl SealedKey {
    const TABLE: &'static str = "keys";

    fn seal(epoch: u32, key: &Key, master: &MasterKey) -> Result<Self, SpoolError> {
        let place = Place { table: Self::TABLE, key: &epoch.to_be_bytes() };
        let mut octets = master.id.0.to_vec();
        octets.extend(seal(&master.key, place, key.as_ref())?);
        Ok(Self { epoch, octets })
    }

    fn damaged(&self) -> SpoolError {
        SpoolError::Damaged(format!("key {} of the spool", self.epoch))
    }

    fn master(&self) -> Result<KeyId, SpoolError> {
        self.octets.first_chunk().copied().map(KeyId).ok_or_else(|| self.damaged())
    }

    fn open(&self, master: &MasterKey) -> Result<Key, SpoolError> {
        let place = Place { table: Self::TABLE, key: &self.epoch.to_be_bytes() };
        let opened = self.octets.get(master.id.0.len()..).and_then(|sealed| open(&master.key, place, sealed));
        let opened = opened.map(Zeroizing::new).ok_or_else(|| self.damaged())?;
        <[u8; KEY_OCTETS]>::try_from(opened.as_slice()).map(Zeroizing::new).map_err(|_| self.damaged())
    }
}

fn seal(key: &LessSafeKey, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>, SpoolError> {
    let mut nonce = [0; NONCE_LEN];
    random(&mut nonce).map_err(SpoolError::broken)?;
    let mut octets = Vec::with_capacity(NONCE_LEN + value.len() + TAG_OCTETS);
    octets.extend_from_slice(&nonce);
    octets.extend_from_slice(value);
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            place.aad(),
            &mut octets[NONCE_LEN..],
        )
        .map_err(|_| SpoolError::broken("a value could not be sealed"))?;
    octets.extend_from_slice(tag.as_ref());
    Ok(octets)
}

fn open(key: &LessSafeKey, place: Place<'_>, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut octets = sealed.to_vec();
    let length = key.open_in_place(Nonce::from(nonce), place.aad(), &mut octets).ok()?.len();
    octets.truncate(length);
    Some(octets)
}

fn aead_key(key: &Key) -> Result<LessSafeKey, SpoolError> {
    UnboundKey::new(&AES_256_GCM_SIV, key.as_ref())
        .map(LessSafeKey::new)
        .map_err(|_| SpoolError::broken("a key of the spool does not work"))
}

fn new_key() -> Result<Key, SpoolError> {
    let mut key = Key::new([0; KEY_OCTETS]);
    random(key.as_mut()).map_err(SpoolError::broken)?;
    Ok(key)
}

/// Secret random octets. Unlike those of `world` they are nobody's argument: a test that chose them would choose keys.
fn random(octets: &mut [u8]) -> io::Result<()> {
    aws_lc_rs::rand::fill(octets).map_err(|_| io::Error::other("the system gives no random numbers"))
}

#[cfg(test)]
mod tests;
