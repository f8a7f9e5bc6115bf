//! The keys of the root that answers are validated from.

use std::fmt;

use domain::base::iana::{DigestAlgorithm, SecurityAlgorithm};
use domain::base::{Name, Record};
use domain::dnssec::validator::anchor::TrustAnchors;
use domain::dnssec::validator::base::{DnskeyExt, supported_algorithm, supported_digest};
use domain::rdata::ZoneRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};

/// The root's key signing keys of 2017 and 2024, as IANA publishes them in `root-anchors.xml`. The root has been signed
/// with the second since 11 October 2026; the first is still published.
const IANA: &str = "\
. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
";

/// Trust anchors for the root (DNS-005).
#[derive(Clone, PartialEq, Eq)]
pub struct Anchors {
    text: String,
    anchors: Vec<Anchor>,
    source: AnchorSource,
}

/// Where anchors came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorSource {
    /// The IANA keys in this program.
    Bundled,
    /// A file that replaces them.
    File,
}

/// One anchor, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Key tag (RFC 4034 appendix B).
    pub key_tag: u16,
    /// DNSSEC algorithm number.
    pub algorithm: u8,
    /// SHA-256 digest of the key with its owner (as in a DS record), upper-case hexadecimal; of a DS record with another
    /// digest type that digest.
    pub digest: String,
}

/// Why anchors cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// No zone file syntax.
    #[error("trust anchors: {0}")]
    Syntax(String),
    /// Not DS or DNSKEY.
    #[error("trust anchors: only DS and DNSKEY records belong here, not {0}")]
    Type(String),
    /// Not the root's.
    #[error("trust anchors: a record of {0}; only anchors of the root are supported")]
    Owner(String),
    /// A DNSKEY that signs no zone, or is revoked.
    #[error("trust anchors: the key with tag {0} is no zone key, or is revoked")]
    Flags(u16),
    /// An algorithm the validator lacks; such an anchor would vouch for nothing.
    #[error("trust anchors: the algorithm or digest of the anchor with tag {0} is not supported")]
    Algorithm(u16),
    /// No record at all.
    #[error("trust anchors: there is none")]
    Empty,
}

impl Anchors {
    /// The IANA keys.
    #[must_use]
    pub fn iana() -> Self {
        Self::parse(IANA, AnchorSource::Bundled)
            .expect("the bundled anchors are well-formed; a test reads them")
    }

    /// From the text of a file: DS or DNSKEY records of the root in presentation form.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_text(text: &str) -> Result<Self, AnchorError> {
        Self::parse(text, AnchorSource::File)
    }

    /// Where they came from.
    #[must_use]
    pub const fn source(&self) -> AnchorSource {
        self.source
    }

    /// Each of them.
    #[must_use]
    pub fn list(&self) -> &[Anchor] {
        &self.anchors
    }

    /// Whether one of them is a key of the real root, wherever it was read from. The lab settings are refused then.
    #[must_use]
    pub fn include_iana(&self) -> bool {
        let iana = Self::iana();
        self.anchors.iter().any(|anchor| iana.anchors.iter().any(|known| known.digest == anchor.digest))
    }

    /// In the form the validator takes.
    pub(super) fn for_validator(&self) -> TrustAnchors {
        TrustAnchors::from_u8(self.text.as_bytes()).expect("the text was read with the same reader before")
    }

    fn parse(text: &str, source: AnchorSource) -> Result<Self, AnchorError> {
        let mut file = Zonefile::new();
        file.set_default_class(domain::base::iana::Class::IN);
        file.set_origin(Name::root_bytes());
        file.extend_from_slice(text.as_bytes());
        file.extend_from_slice(b"\n");
        let (mut anchors, mut kept) = (Vec::new(), String::new());
        loop {
            match file.next_entry().map_err(|error| AnchorError::Syntax(error.to_string()))? {
                None => break,
                Some(Entry::Include { .. }) => {
                    return Err(AnchorError::Syntax("$INCLUDE is not supported".into()));
                }
                Some(Entry::Record(record)) => {
                    let (anchor, line) = one(&record)?;
                    anchors.push(anchor);
                    kept.push_str(&line);
                }
            }
        }
        if anchors.is_empty() {
            return Err(AnchorError::Empty);
        }
        Ok(Self { text: kept, anchors, source })
    }
}

fn one<N: domain::base::ToName, R>(
    record: &Record<N, ZoneRecordData<bytes::Bytes, R>>,
) -> Result<(Anchor, String), AnchorError>
where
    R: domain::base::ToName,
{
    let owner = record.owner().to_vec();
    if !owner.is_root() {
        return Err(AnchorError::Owner(owner.to_string()));
    }
    let usable = |tag, fits: bool| if fits { Ok(()) } else { Err(AnchorError::Algorithm(tag)) };
    match record.data() {
        ZoneRecordData::Ds(ds) => {
            let digest = hex(ds.digest());
            let (algorithm, kind) = (ds.algorithm(), ds.digest_type());
            usable(ds.key_tag(), supported_algorithm(&algorithm) && supported_digest(&kind))?;
            let line =
                format!(". IN DS {} {} {} {digest}\n", ds.key_tag(), algorithm.to_int(), kind.to_int());
            Ok((Anchor { key_tag: ds.key_tag(), algorithm: algorithm.to_int(), digest }, line))
        }
        ZoneRecordData::Dnskey(key) => {
            let tag = key.key_tag();
            if !key.is_zone_key() || key.is_revoked() {
                return Err(AnchorError::Flags(tag));
            }
            usable(tag, supported_algorithm(&key.algorithm()))?;
            let digest = key
                .digest(&Name::root_bytes(), DigestAlgorithm::SHA256)
                .map_err(|_| AnchorError::Algorithm(tag))?;
            let digest = hex(digest.as_ref());
            // Kept as DS: the validator then compares one thing in one way.
            let line = format!(". IN DS {tag} {} 2 {digest}\n", algorithm_number(key.algorithm()));
            Ok((Anchor { key_tag: tag, algorithm: algorithm_number(key.algorithm()), digest }, line))
        }
        _ => Err(AnchorError::Type(record.rtype().to_string())),
    }
}

fn algorithm_number(algorithm: SecurityAlgorithm) -> u8 {
    algorithm.to_int()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect()
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.anchors).finish()
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key tag {} algorithm {} digest {}", self.key_tag, self.algorithm, self.digest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The keys themselves, from the root's DNSKEY set: a second, independent way to the digests above.
    const KSK_2017: &str = "AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU=";
    const KSK_2024: &str = "AwEAAa96jeuknZlaeSrvyAJj6ZHv28hhOKkx3rLGXVaC6rXTsDc449/cidltpkyGwCJNnOAlFNKF2jBosZBU5eeHspaQWOmOElZsjICMQMC3aeHbGiShvZsx4wMYSjH8e7Vrhbu6irwCzVBApESjbUdpWWmEnhathWu1jo+siFUiRAAxm9qyJNg/wOZqqzL/dL/q8PkcRU5oUKEpUge71M3ej2/7CPqpdVwuMoTvoB+ZOT4YeGyxMvHmbrxlFzGOHOijtzN+u1TQNatX2XBuzZNQ1K+s2CXkPIZo7s6JgZyvaBevYtxPvYLw4z9mR7K2vaF18UYH9Z9GNUUeayffKC73PYc=";

    /// Proves: +DNS-005
    #[test]
    fn bundled_anchors_are_the_root_keys_of_2017_and_2024() {
        let bundled = Anchors::iana();
        assert_eq!(bundled.list().iter().map(|anchor| anchor.key_tag).collect::<Vec<_>>(), [20326, 38696]);
        let keys = Anchors::from_text(&format!(
            ". IN DNSKEY 257 3 8 {KSK_2017}\n. 172800 IN DNSKEY 257 3 8 {KSK_2024}"
        ));
        let keys = keys.unwrap();
        assert_eq!(keys.list(), bundled.list());
        assert_eq!((bundled.source(), keys.source()), (AnchorSource::Bundled, AnchorSource::File));
        assert!(keys.include_iana());
    }

    /// Proves: -DNS-005
    #[test]
    fn a_file_replaces_the_bundled_keys_as_a_whole_or_is_refused() {
        let other = "11".repeat(32);
        let own = Anchors::from_text(&format!("; the lab\n. 3600 IN DS 4711 13 2 {other}\n")).unwrap();
        assert_eq!(own.list().len(), 1);
        assert!(!own.include_iana());
        for (text, error) in [
            (String::new(), AnchorError::Empty),
            ("; only a comment".to_owned(), AnchorError::Empty),
            (format!("nl. IN DS 4711 13 2 {other}"), AnchorError::Owner("nl".into())),
            (". IN A 192.0.2.1".to_owned(), AnchorError::Type("A".into())),
            (format!(". IN DS 4711 250 2 {other}"), AnchorError::Algorithm(4711)),
            (format!(". IN DS 4711 13 250 {other}"), AnchorError::Algorithm(4711)),
        ] {
            assert_eq!(Anchors::from_text(&text), Err(error), "{text}");
        }
        assert!(matches!(Anchors::from_text(". IN DS what"), Err(AnchorError::Syntax(_))));
        assert!(matches!(
            Anchors::from_text(&format!(". IN DNSKEY 385 3 8 {KSK_2017}")),
            Err(AnchorError::Flags(_))
        ));
    }
}
