//! Keys of the zones, the trust anchor, and one signature.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::dnssec::crypto::EcdsaSigningKey;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, RRSIG, SigInput};
use hickory_proto::dnssec::{Algorithm, DigestType, SigningKey as _, TBS};
use hickory_proto::rr::{DNSClass, Name, RData, Record, SerialNumber};
use jiff::Timestamp;

use super::error::TreeError;

/// ECDSA P-256 with SHA-256: what new zones use, and the cheapest to make by the hundred.
const ALGORITHM: Algorithm = Algorithm::ECDSAP256SHA256;
/// Zone key with the secure entry point flag (RFC 4034 section 2.1.1).
const KSK_FLAGS: u16 = 257;
/// Zone key without it.
const ZSK_FLAGS: u16 = 256;

/// One key pair of a zone.
pub(super) struct ZoneKey {
    key: EcdsaSigningKey,
    pub(super) dnskey: DNSKEY,
    tag: u16,
}

impl ZoneKey {
    fn generate(flags: u16) -> Result<Self, TreeError> {
        let failed = |why: String| TreeError::Signing { what: "new key".into(), why };
        let pkcs8 = EcdsaSigningKey::generate_pkcs8(ALGORITHM).map_err(|e| failed(e.to_string()))?;
        let key = EcdsaSigningKey::from_pkcs8(&pkcs8, ALGORITHM).map_err(|e| failed(e.to_string()))?;
        let public = key.to_public_key().map_err(|e| failed(e.to_string()))?;
        let dnskey = DNSKEY::with_flags(flags, public);
        let tag = dnskey.calculate_key_tag().map_err(|e| failed(e.to_string()))?;
        Ok(Self { key, dnskey, tag })
    }

    /// The DS that the parent publishes for this key.
    pub(super) fn ds(&self, apex: &Name) -> Result<DS, TreeError> {
        let digest = self
            .dnskey
            .to_digest(apex, DigestType::SHA256)
            .map_err(|e| TreeError::Signing { what: format!("DS of {apex}"), why: e.to_string() })?;
        Ok(DS::new(self.tag, ALGORITHM, DigestType::SHA256, digest.as_ref().to_vec()))
    }
}

/// Keys of one zone.
pub(super) struct ZoneKeys {
    /// Signs the key set; its digest is the DS.
    pub(super) ksk: ZoneKey,
    /// Signs everything else; without one the first does.
    pub(super) zsk: Option<ZoneKey>,
}

impl ZoneKeys {
    pub(super) fn dnskeys(&self) -> impl Iterator<Item = DNSKEY> + '_ {
        [Some(&self.ksk), self.zsk.as_ref()].into_iter().flatten().map(|key| key.dnskey.clone())
    }

    pub(super) fn zone_signer(&self) -> &ZoneKey {
        self.zsk.as_ref().unwrap_or(&self.ksk)
    }
}

/// All keys; they outlive changes of the tree.
pub(super) struct Keyring {
    zones: BTreeMap<Name, Arc<ZoneKeys>>,
    /// Keys the root is signed with once it has rolled away from the published anchor.
    rolled: Option<Arc<ZoneKeys>>,
    anchor: Arc<ZoneKeys>,
}

impl Keyring {
    pub(super) fn new() -> Result<Self, TreeError> {
        let anchor = Arc::new(split_keys()?);
        Ok(Self { zones: BTreeMap::new(), rolled: None, anchor })
    }

    /// The keys of a zone, made when first asked for. Leaf zones have one key for all, as many real ones do; the
    /// root and top-level zones have two.
    pub(super) fn of(&mut self, apex: &Name) -> Result<Arc<ZoneKeys>, TreeError> {
        if apex.is_root() {
            return Ok(self.anchor.clone());
        }
        if let Some(keys) = self.zones.get(apex) {
            return Ok(keys.clone());
        }
        let keys = if apex.num_labels() == 1 {
            split_keys()?
        } else {
            ZoneKeys { ksk: ZoneKey::generate(KSK_FLAGS)?, zsk: None }
        };
        let keys = Arc::new(keys);
        self.zones.insert(apex.clone(), keys.clone());
        Ok(keys)
    }

    /// The root's keys after a roll-over that nobody announced.
    pub(super) fn rolled_root(&mut self) -> Result<Arc<ZoneKeys>, TreeError> {
        if let Some(keys) = &self.rolled {
            return Ok(keys.clone());
        }
        let keys = Arc::new(split_keys()?);
        self.rolled = Some(keys.clone());
        Ok(keys)
    }

    /// The published trust anchor.
    pub(super) fn anchor(&self) -> Result<Anchor, TreeError> {
        let key = &self.anchor.ksk;
        Ok(Anchor { dnskey: key.dnskey.clone(), ds: key.ds(&Name::root())? })
    }
}

fn split_keys() -> Result<ZoneKeys, TreeError> {
    Ok(ZoneKeys { ksk: ZoneKey::generate(KSK_FLAGS)?, zsk: Some(ZoneKey::generate(ZSK_FLAGS)?) })
}

/// Where an [`Anchor`] was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorFiles {
    /// The DS record.
    pub ds: PathBuf,
    /// The DNSKEY record.
    pub dnskey: PathBuf,
    /// BIND's notation, for `delv -a`.
    pub bind: PathBuf,
}

/// The trust anchor of a tree: its root's key-signing key.
#[derive(Debug, Clone)]
pub struct Anchor {
    dnskey: DNSKEY,
    ds: DS,
}

impl Anchor {
    /// As one DS record in presentation format, without a line end: for nodes and unbound's `trust-anchor-file`.
    pub fn ds(&self) -> String {
        let hex: String = self.ds.digest().iter().map(|octet| format!("{octet:02X}")).collect();
        format!(
            ". 172800 IN DS {} {} {} {hex}",
            self.ds.key_tag(),
            u8::from(self.ds.algorithm()),
            u8::from(self.ds.digest_type())
        )
    }

    /// As one DNSKEY record in presentation format, without a line end.
    pub fn dnskey(&self) -> String {
        format!(". 172800 IN DNSKEY {} 3 {} {}", self.dnskey.flags(), u8::from(ALGORITHM), self.key_base64())
    }

    /// In BIND's syntax, for `delv -a`.
    pub fn bind(&self) -> String {
        format!(
            "trust-anchors {{\n    . static-key {} 3 {} \"{}\";\n}};\n",
            self.dnskey.flags(),
            u8::from(ALGORITHM),
            self.key_base64()
        )
    }

    /// Writes all three notations into a directory.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn write(&self, directory: &Path) -> io::Result<AnchorFiles> {
        let files = AnchorFiles {
            ds: directory.join("root.ds"),
            dnskey: directory.join("root.key"),
            bind: directory.join("root.bind.conf"),
        };
        std::fs::write(&files.ds, self.ds() + "\n")?;
        std::fs::write(&files.dnskey, self.dnskey() + "\n")?;
        std::fs::write(&files.bind, self.bind())?;
        Ok(files)
    }

    fn key_base64(&self) -> String {
        use hickory_proto::dnssec::PublicKey as _;
        STANDARD.encode(self.dnskey.public_key().public_bytes())
    }
}

/// From when to when a signature holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    inception: u32,
    expiration: u32,
}

impl Window {
    const HOUR: i64 = 3_600;
    const DAY: i64 = 24 * Self::HOUR;

    /// Good now: an hour back for clocks that are behind, two weeks ahead.
    pub(super) fn good(now: Timestamp) -> Self {
        Self::around(now, -Self::HOUR, 14 * Self::DAY)
    }

    /// Over for two days. unbound forgives a day by default, so less would be no fault to everybody.
    pub(super) fn expired(now: Timestamp) -> Self {
        Self::around(now, -30 * Self::DAY, -2 * Self::DAY)
    }

    /// Begins in two days.
    pub(super) fn not_yet(now: Timestamp) -> Self {
        Self::around(now, 2 * Self::DAY, 16 * Self::DAY)
    }

    fn around(now: Timestamp, from: i64, to: i64) -> Self {
        // Signature times are serial numbers modulo 2^32 (RFC 4034 section 3.1.5), so wrapping is right.
        let at = |offset: i64| ((now.as_second() + offset) & 0xFFFF_FFFF) as u32;
        Self { inception: at(from), expiration: at(to) }
    }
}

/// Signs one record set. `records` share owner, type and TTL.
pub(super) fn sign(
    key: &ZoneKey,
    signer: &Name,
    records: &[Record],
    window: Window,
) -> Result<Record, TreeError> {
    let first = &records[0];
    let failed =
        |why: String| TreeError::Signing { what: format!("{} {}", first.name, first.record_type()), why };
    let input = SigInput {
        type_covered: first.record_type(),
        algorithm: ALGORITHM,
        num_labels: first.name.num_labels(),
        original_ttl: first.ttl,
        sig_expiration: SerialNumber::new(window.expiration),
        sig_inception: SerialNumber::new(window.inception),
        key_tag: key.tag,
        signer_name: signer.clone(),
    };
    let tbs = TBS::from_input(&first.name, DNSClass::IN, &input, records.iter())
        .map_err(|error| failed(error.to_string()))?;
    let signature = key.key.sign(&tbs).map_err(|error| failed(error.to_string()))?;
    let rrsig = RRSIG::from_sig(input, signature);
    Ok(Record::from_rdata(first.name.clone(), first.ttl, RData::DNSSEC(DNSSECRData::RRSIG(rrsig))))
}

/// The same signature with one bit of its value wrong.
pub(super) fn spoil(record: &Record) -> Record {
    let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data else { return record.clone() };
    let mut wrong = rrsig.sig().to_vec();
    if let Some(last) = wrong.last_mut() {
        *last ^= 1;
    }
    let rrsig = RRSIG::from_sig(rrsig.input().clone(), wrong);
    Record::from_rdata(record.name.clone(), record.ttl, RData::DNSSEC(DNSSECRData::RRSIG(rrsig)))
}
