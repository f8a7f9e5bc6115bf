//! TLSA records: which keys a name vouches for.
//!
//! Pure: octets in, a typed record or the reason why it is unusable out; never a panic (attack class T19). An unusable
//! record counts as if it were not there, and does not disturb the others (DANE-003, DANE-004; RFC 7671 section 4).

use std::fmt;

use x509_parser::prelude::FromDer;

/// The most records a set may have. A roll-over needs two per key and hash, two keys, two hashes; ten times as many is
/// no longer a roll-over but work that somebody wants us to do.
pub const SET_RECORDS_MAX: usize = 64;

/// The largest record. The largest sensible content is a certificate in full; RSA-16384 ones stay under it.
pub const RECORD_OCTETS_MAX: usize = 8192;

/// What a record says about the key or certificate (RFC 6698 section 2.1.1). PKIX usages do not exist here: RFC 7672
/// section 3.1.3 lets SMTP treat them as unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Usage {
    /// 2: the certificate or key of an authority; the chain up to it, its names and its dates count.
    TrustAnchor = 2,
    /// 3: the certificate or key of the end entity itself; nothing else counts.
    EndEntity = 3,
}

/// Which part of the certificate is matched (RFC 6698 section 2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// 0: the whole certificate, DER.
    Certificate = 0,
    /// 1: its SubjectPublicKeyInfo, DER.
    PublicKey = 1,
}

/// How it is matched (RFC 6698 section 2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Matching {
    /// 0: the octets themselves.
    Full = 0,
    /// 1: their SHA-256.
    Sha256 = 1,
    /// 2: their SHA-512.
    Sha512 = 2,
}

/// A usable record.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tlsa {
    /// Whose key.
    pub usage: Usage,
    /// Which part.
    pub selector: Selector,
    /// In which form.
    pub matching: Matching,
    /// The association data: a digest of the right length, or well-formed DER.
    pub data: Vec<u8>,
}

impl fmt::Display for Tlsa {
    /// The three parameters, as in `3 1 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.usage as u8, self.selector as u8, self.matching as u8)
    }
}

impl fmt::Debug for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ")?;
        self.data.iter().take(64).try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// Why a record, or a set, is unusable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unusable {
    /// Fewer octets than the three parameters and any data need.
    #[error("only {0} octets long")]
    TooShort(usize),
    /// More than [`RECORD_OCTETS_MAX`].
    #[error("{0} octets long; at most {RECORD_OCTETS_MAX} are read")]
    TooLong(usize),
    /// Usage 0, 1, or unknown.
    #[error("certificate usage {0} is not for SMTP")]
    Usage(u8),
    /// Unknown selector.
    #[error("unknown selector {0}")]
    Selector(u8),
    /// Unknown matching type.
    #[error("unknown matching type {0}")]
    Matching(u8),
    /// The data has not the length of the digest.
    #[error("the digest has {found} octets instead of {expected}")]
    DigestLength {
        /// What the matching type asks for.
        expected: usize,
        /// What is there.
        found: usize,
    },
    /// Full data that is no certificate or public key.
    #[error("the full data is no well-formed certificate or public key")]
    Data,
    /// The set has more than [`SET_RECORDS_MAX`] records.
    #[error("the set has {0} records; more than {SET_RECORDS_MAX} are not looked at")]
    SetTooLarge(usize),
}

/// Judges the data of one record.
///
/// # Errors
/// Why the record is unusable.
pub fn parse(rdata: &[u8]) -> Result<Tlsa, Unusable> {
    let [usage, selector, matching, data @ ..] = rdata else {
        return Err(Unusable::TooShort(rdata.len()));
    };
    if data.is_empty() {
        return Err(Unusable::TooShort(rdata.len()));
    }
    if rdata.len() > RECORD_OCTETS_MAX {
        return Err(Unusable::TooLong(rdata.len()));
    }
    let usage = match usage {
        2 => Usage::TrustAnchor,
        3 => Usage::EndEntity,
        other => return Err(Unusable::Usage(*other)),
    };
    let selector = match selector {
        0 => Selector::Certificate,
        1 => Selector::PublicKey,
        other => return Err(Unusable::Selector(*other)),
    };
    let matching = match matching {
        0 => Matching::Full,
        1 => Matching::Sha256,
        2 => Matching::Sha512,
        other => return Err(Unusable::Matching(*other)),
    };
    check_data(selector, matching, data)?;
    Ok(Tlsa { usage, selector, matching, data: data.to_vec() })
}

fn check_data(selector: Selector, matching: Matching, data: &[u8]) -> Result<(), Unusable> {
    let digest = |expected| {
        if data.len() == expected {
            Ok(())
        } else {
            Err(Unusable::DigestLength { expected, found: data.len() })
        }
    };
    match (matching, selector) {
        (Matching::Sha256, _) => digest(32),
        (Matching::Sha512, _) => digest(64),
        (Matching::Full, Selector::Certificate) => {
            whole(x509_parser::certificate::X509Certificate::from_der(data))
        }
        (Matching::Full, Selector::PublicKey) => {
            whole(x509_parser::x509::SubjectPublicKeyInfo::from_der(data))
        }
    }
}

/// Well-formed, and nothing behind it.
fn whole<T, E>(parsed: Result<(&[u8], T), E>) -> Result<(), Unusable> {
    match parsed {
        Ok(([], _)) => Ok(()),
        _ => Err(Unusable::Data),
    }
}

/// For fuzzing: any octets give a verdict, and what is usable is what was given.
///
/// # Panics
/// When that does not hold.
pub fn fuzz(input: &[u8]) {
    if let Ok(tlsa) = parse(input) {
        assert!(!tlsa.data.is_empty());
        let parameters = [tlsa.usage as u8, tlsa.selector as u8, tlsa.matching as u8];
        assert_eq!([&parameters, tlsa.data.as_slice()].concat(), input);
    }
    let set: Vec<_> = input.chunks(35).map(<[u8]>::to_vec).collect();
    let judged = TlsaSet::from_rdata(&set);
    assert!(judged.usable.len() + judged.unusable.len() <= set.len().max(1));
}

/// The records at one name, judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsaSet {
    /// Records that can authenticate. Empty: this name authenticates nobody, which is not the same as having no record.
    pub usable: Vec<Tlsa>,
    /// Why the others cannot, one entry per record.
    pub unusable: Vec<Unusable>,
}

impl TlsaSet {
    /// Judges the record data of a whole set.
    #[must_use]
    pub fn from_rdata(records: &[Vec<u8>]) -> Self {
        if records.len() > SET_RECORDS_MAX {
            return Self { usable: Vec::new(), unusable: vec![Unusable::SetTooLarge(records.len())] };
        }
        let mut set = Self::default();
        for rdata in records {
            match parse(rdata) {
                Ok(tlsa) => set.usable.push(tlsa),
                Err(why) => set.unusable.push(why),
            }
        }
        set.usable.sort_unstable();
        set.usable.dedup();
        set
    }

    /// The parameters of the usable records, for the decision record.
    #[must_use]
    pub fn parameters(&self) -> Vec<String> {
        self.usable.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests;
