//! `SignedData` of CMS (RFC 5652 section 5), as far as a verdict needs it. Everything borrows from DER that [`ber::to_der`]
//! made, and every count has a limit.

use super::ber::{self, Der, Malformed, Tlv};
use super::oid;

/// Certificates that are looked at.
const CERTIFICATES_MAX: usize = 16;
/// Signers of one message. Each costs a signature check, and honest mail has one.
pub(super) const SIGNERS_MAX: usize = 4;
/// Attributes of one signer.
const ATTRIBUTES_MAX: usize = 64;

/// What a CMS object is, by the identifier at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Signed,
    Encrypted,
    Other,
}

/// The kind of the object that begins so; 32 octets are enough.
pub(super) fn kind(start: &[u8]) -> Kind {
    // SEQUENCE, and its length in any form.
    let skip = match start {
        [ber::SEQUENCE, length @ 0x81..=0x84, ..] => 2 + usize::from(length & 0x7f),
        [ber::SEQUENCE, ..] => 2,
        _ => return Kind::Other,
    };
    let id = Der::new(start.get(skip..).unwrap_or_default()).need(ber::OID).map(|id| id.content);
    match id {
        Ok(oid::SIGNED_DATA) => Kind::Signed,
        Ok(oid::ENVELOPED_DATA | oid::AUTH_ENVELOPED_DATA) => Kind::Encrypted,
        _ => Kind::Other,
    }
}

/// What is signed, by whom.
#[derive(Debug)]
pub(super) struct SignedData<'a> {
    /// `eContentType`.
    pub(super) content_type: &'a [u8],
    /// `eContent`, where it is not detached.
    pub(super) content: Option<&'a [u8]>,
    /// The certificates that came with it, DER.
    pub(super) certificates: Vec<&'a [u8]>,
    pub(super) signers: Vec<SignerInfo<'a>>,
}

/// One signature.
#[derive(Debug)]
pub(super) struct SignerInfo<'a> {
    pub(super) id: SignerId<'a>,
    /// Identifier of the hash over the content.
    pub(super) digest: &'a [u8],
    pub(super) attributes: Option<Attributes<'a>>,
    /// Identifier and parameters of the signature's algorithm.
    pub(super) algorithm: (&'a [u8], Option<&'a [u8]>),
    pub(super) signature: &'a [u8],
}

/// How a signer names its certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SignerId<'a> {
    /// `Name` with tag and length, and the content of the serial number.
    Issuer(&'a [u8], &'a [u8]),
    /// Subject key identifier.
    Key(&'a [u8]),
}

/// `SignedAttributes`.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    /// All of them in the order they came, without the outer tag.
    content: &'a [u8],
    /// Identifier, and content of the set of values.
    list: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> SignedData<'a> {
    /// Reads a `ContentInfo` that holds one.
    pub(super) fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Der::new(Der::new(der).need(ber::SEQUENCE)?.content);
        if outer.need(ber::OID)?.content != oid::SIGNED_DATA {
            return Err(Malformed("the signature is another kind of CMS object"));
        }
        let inner = Der::new(outer.need(0xa0)?.content).need(ber::SEQUENCE)?;
        let mut fields = Der::new(inner.content);
        fields.need(ber::INTEGER)?;
        fields.need(ber::SET)?;
        let mut content = Der::new(fields.need(ber::SEQUENCE)?.content);
        let content_type = content.need(ber::OID)?.content;
        let content = match content.optional(0xa0)? {
            Some(explicit) => Some(Der::new(explicit.content).need(ber::OCTET_STRING)?.content),
            None => None,
        };
        let certificates = match fields.optional(0xa0)? {
            Some(set) => certificates(set.content)?,
            None => Vec::new(),
        };
        fields.optional(0xa1)?;
        let mut set = Der::new(fields.need(ber::SET)?.content);
        let mut signers = Vec::new();
        while let Some(signer) = set.optional(ber::SEQUENCE)? {
            if signers.len() == SIGNERS_MAX {
                return Err(Malformed("too many signers"));
            }
            signers.push(SignerInfo::read(signer.content)?);
        }
        Ok(Self { content_type, content, certificates, signers })
    }
}

fn certificates(set: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let (mut set, mut found) = (Der::new(set), Vec::new());
    while let Some(Tlv { tag, raw, .. }) = set.next()? {
        // The other choices are attribute certificates and obsolete forms (RFC 5652 section 10.2.2).
        if tag == ber::SEQUENCE {
            if found.len() == CERTIFICATES_MAX {
                return Err(Malformed("too many certificates"));
            }
            found.push(raw);
        }
    }
    Ok(found)
}

impl<'a> SignerInfo<'a> {
    fn read(content: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Der::new(content);
        fields.need(ber::INTEGER)?;
        let id = match fields.optional(0x80)? {
            Some(key) => SignerId::Key(key.content),
            None => {
                let mut pair = Der::new(fields.need(ber::SEQUENCE)?.content);
                SignerId::Issuer(pair.need(ber::SEQUENCE)?.raw, pair.need(ber::INTEGER)?.content)
            }
        };
        let digest = Der::new(fields.need(ber::SEQUENCE)?.content).need(ber::OID)?.content;
        let attributes = match fields.optional(0xa0)? {
            Some(set) => Some(Attributes::read(set.content)?),
            None => None,
        };
        let mut algorithm = Der::new(fields.need(ber::SEQUENCE)?.content);
        let algorithm = (algorithm.need(ber::OID)?.content, algorithm.next()?.map(|next| next.raw));
        let signature = fields.need(ber::OCTET_STRING)?.content;
        Ok(Self { id, digest, attributes, algorithm, signature })
    }
}

impl<'a> Attributes<'a> {
    fn read(content: &'a [u8]) -> Result<Self, Malformed> {
        let (mut set, mut list) = (Der::new(content), Vec::new());
        while let Some(attribute) = set.optional(ber::SEQUENCE)? {
            if list.len() == ATTRIBUTES_MAX {
                return Err(Malformed("too many signed attributes"));
            }
            let mut pair = Der::new(attribute.content);
            list.push((pair.need(ber::OID)?.content, pair.need(ber::SET)?.content));
        }
        if set.next()?.is_some() {
            return Err(Malformed("a signed attribute is none"));
        }
        Ok(Self { content, list })
    }

    /// The one value of the one attribute with this identifier (RFC 5652 section 11: neither may be there twice).
    pub(super) fn one(&self, id: &[u8]) -> Result<Option<Tlv<'a>>, Malformed> {
        let mut all = self.list.iter().filter(|(found, _)| *found == id);
        let Some((_, values)) = all.next() else { return Ok(None) };
        let mut values = Der::new(values);
        let value = values.next()?;
        if value.is_none() || all.next().is_some() || values.next()?.is_some() {
            return Err(Malformed("a signed attribute is not there exactly once"));
        }
        Ok(value)
    }

    /// The octets under the signature: the set with its own tag instead of the implicit one (RFC 5652 section 5.4). In the
    /// order they came in: DER wants them sorted, and those who don't sort sign what they send.
    pub(super) fn signed(&self) -> Vec<u8> {
        ber::element(ber::SET, self.content)
    }
}
