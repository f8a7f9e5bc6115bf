//! DANE: does a certificate chain match what DNS says about its owner? (RFC 7671; RFC 7672 for mail servers.)
//!
//! The same rules judge a server by `_25._tcp.<host>` and a client by `_smtp-client.<name>`. Nothing in here asks DNS:
//! the records come in as an argument, and only the validator can have made a set of secure ones.
//!
//! # Standards
//! RFC 6698 section 2.1, RFC 7671 section 5, RFC 7672 section 3. Our text: DANE-003 to DANE-009, IDEN-006.

use std::fmt;

use aws_lc_rs::digest;
use rustls::pki_types::{CertificateDer, Der, TrustAnchor, UnixTime};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

use super::certificate::spki_of;
use super::chain::{self, ChainFault, Usage};
use super::error::DaneMismatch;
use crate::discovery::tlsa::{Matching, Selector, Tlsa, Usage as TlsaUsage};
use crate::model::DomainName;

/// Whose chain is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A server's, shown to us as a client.
    Server,
    /// A client's, shown to us as a server. Extended key usage is not consulted (IDEN-020).
    Client,
}

/// The record that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched {
    usage: TlsaUsage,
    selector: Selector,
    matching: Matching,
}

impl fmt::Display for Matched {
    /// `usage selector matching`, as in `3 1 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.usage as u8, self.selector as u8, self.matching as u8)
    }
}

/// Judges `chain` (the other side's own certificate first) by `records`; one match is enough (DANE-008).
///
/// `names` are the reference names of usage 2: for a server the TLSA base domain and the next-hop domain, for a client
/// the name whose records these are. Usage 3 ignores them, and the dates too (DANE-006). The caller makes sure that the
/// handshake's signature was verified with the key of the first certificate (DANE-009).
///
/// # Errors
/// The mismatch that came closest to a match.
pub fn match_chain(
    chain: &[CertificateDer<'_>],
    records: &[Tlsa],
    side: Side,
    names: &[DomainName],
    now: UnixTime,
) -> Result<Matched, DaneMismatch> {
    let leaf = chain.first().ok_or(DaneMismatch::NoCertificate)?;
    let of =
        |record: &Tlsa| Matched { usage: record.usage, selector: record.selector, matching: record.matching };
    let with_usage = |usage| records.iter().filter(move |record| record.usage == usage);
    if let Some(record) = with_usage(TlsaUsage::EndEntity).find(|record| fits(record, leaf)) {
        return Ok(of(record));
    }
    let mut nearest = None;
    for record in with_usage(TlsaUsage::TrustAnchor) {
        for anchor in anchors(record, chain, now) {
            let usage = if side == Side::Server { Usage::Server } else { Usage::Any };
            match anchor.and_then(|anchor| chain::verify(chain, &[anchor], usage, names, now)) {
                Ok(()) => return Ok(of(record)),
                Err(fault) => nearest = Some(fault),
            }
        }
    }
    match nearest {
        Some(fault) => Err(DaneMismatch::Chain(fault)),
        None if spki_of(leaf).is_none() => Err(DaneMismatch::NoCertificate),
        None => Err(DaneMismatch::NoRecord),
    }
}

/// Whether a record's data is that of this certificate (RFC 6698 section 2.1).
fn fits(record: &Tlsa, certificate: &CertificateDer<'_>) -> bool {
    let selected = match record.selector {
        Selector::Certificate => Some(certificate.to_vec()),
        Selector::PublicKey => spki_of(certificate),
    };
    let Some(selected) = selected else { return false };
    let data = record.data.as_slice();
    match record.matching {
        Matching::Full => selected == data,
        Matching::Sha256 => digest::digest(&digest::SHA256, &selected).as_ref() == data,
        Matching::Sha512 => digest::digest(&digest::SHA512, &selected).as_ref() == data,
    }
}

/// The authorities that a usage 2 record can mean in this chain.
///
/// The other side's own certificate is none of them: usage 2 speaks of its issuers. An authority given in full by the
/// record need not be sent along (RFC 7671 section 5.2.2).
fn anchors<'a>(
    record: &'a Tlsa,
    chain: &'a [CertificateDer<'a>],
    now: UnixTime,
) -> Vec<Result<TrustAnchor<'static>, ChainFault>> {
    let sent: Vec<_> = chain
        .iter()
        .skip(1)
        .filter(|certificate| fits(record, certificate))
        .map(|certificate| anchor_of(certificate, now))
        .collect();
    if !sent.is_empty() || record.matching != Matching::Full {
        return sent;
    }
    match record.selector {
        Selector::Certificate => {
            let authority = CertificateDer::from(record.data.as_slice());
            vec![anchor_of(&authority, now)]
        }
        // A bare key has no name of its own. It is the issuer of whichever certificate its signature verifies on.
        Selector::PublicKey => {
            let issuers =
                chain.iter().filter_map(|certificate| bare_anchor(record.data.as_slice(), certificate));
            issuers.map(Ok).collect()
        }
    }
}

fn anchor_of(authority: &CertificateDer<'_>, now: UnixTime) -> Result<TrustAnchor<'static>, ChainFault> {
    chain::check_authority(authority, now)?;
    let anchor = webpki::anchor_from_trusted_cert(authority)
        .map_err(|error| ChainFault::Broken(format!("the authority's certificate: {error}")))?;
    Ok(anchor.to_owned())
}

fn bare_anchor(spki: &[u8], issued: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    let (_, x509) = X509Certificate::from_der(issued).ok()?;
    let (rest, _) = SubjectPublicKeyInfo::from_der(spki).ok()?;
    let key = sequence_content(spki).filter(|_| rest.is_empty())?;
    let issuer = sequence_content(x509.issuer().as_raw())?;
    Some(TrustAnchor {
        subject: Der::from(issuer.to_vec()),
        subject_public_key_info: Der::from(key.to_vec()),
        name_constraints: None,
    })
}

/// The content octets of a DER SEQUENCE: webpki keeps its anchors without the outer header.
fn sequence_content(der: &[u8]) -> Option<&[u8]> {
    let (rest, any) = x509_parser::asn1_rs::Any::from_der(der).ok()?;
    (rest.is_empty() && any.tag() == x509_parser::asn1_rs::Tag::Sequence).then_some(any.data)
}
