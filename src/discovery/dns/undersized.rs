//! TLSA sets that the validator cannot read.
//!
//! A TLSA record of fewer than three octets is nonsense, and some resolvers pass it on (attack class T19). The validator
//! refuses the whole message, so one such record would make a good one beside it useless. Its signature is valid all the
//! same; here it is verified over the octets as they are, by RFC 4035 section 5.3. Only for this case: wildcards are not
//! followed, and keys come from a DNSKEY set that the validator has judged.

use bytes::Bytes;
use domain::base::{CanonicalOrd, Name, Rtype, ToName};
use domain::dnssec::validator::base::RrsigExt;
use domain::rdata::{AllRecordData, Dnskey};

use super::wire::{Group, Rr};

/// The shortest TLSA record that can be read as one.
const READABLE_OCTETS: usize = 3;

/// The most signatures that are tried: two algorithms in the middle of a roll-over. More would let a stranger buy our
/// time (KeyTrap, CVE-2023-50387).
pub(super) const SIGNATURES_MAX: usize = 4;

/// The most keys with the same tag and algorithm that are tried for one signature.
const KEYS_MAX: usize = 2;

/// Whether the validator would choke on this set.
pub(super) fn is_unreadable(rtype: Rtype, group: &Group) -> bool {
    rtype == Rtype::TLSA
        && group.records.iter().any(
            |record| matches!(record.data(), AllRecordData::Unknown(raw) if raw.data().len() < READABLE_OCTETS),
        )
}

/// Who signed this signature record, if it can be the zone of `name` (RFC 4035 section 5.3.1).
pub(super) fn signer(signature: &Rr, name: &Name<Bytes>) -> Option<Name<Bytes>> {
    let AllRecordData::Rrsig(signature) = signature.data() else { return None };
    // The root label is not counted in the field.
    let exact = usize::from(signature.labels()) + 1 == name.label_count();
    let signer: Name<Bytes> = signature.signer_name().to_name();
    (exact && name.ends_with(&signer)).then_some(signer)
}

/// Whether one of `keys`, which belong to the signer, made this signature over this set.
pub(super) fn is_signed_by(group: &Group, signature: &Rr, keys: &[Rr]) -> bool {
    let AllRecordData::Rrsig(signature) = signature.data() else { return false };
    let mut records = group.records.clone();
    records.sort_by(|a, b| a.data().canonical_cmp(b.data()));
    records.dedup_by(|a, b| a.data() == b.data());
    let mut signed = Vec::<u8>::new();
    if signature.signed_data(&mut signed, &mut records).is_err() {
        return false;
    }
    let fits = |key: &&Dnskey<Bytes>| {
        key.is_zone_key()
            && !key.is_revoked()
            && key.protocol() == 3
            && key.algorithm() == signature.algorithm()
            && key.key_tag() == signature.key_tag()
    };
    let keys = keys
        .iter()
        .filter_map(|key| if let AllRecordData::Dnskey(key) = key.data() { Some(key) } else { None });
    keys.filter(fits).take(KEYS_MAX).any(|key| signature.verify_signed_data(key, &signed).is_ok())
}
