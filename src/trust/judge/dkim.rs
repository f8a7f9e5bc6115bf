//! DKIM (RFC 6376, 8301, 8463), by a stricter reading.
//!
//! Parsing, canonicalization and cryptography are `mail-auth`'s. What a signature must be to count here, and where its
//! key comes from, is decided in this file.

use jiff::Timestamp;
use mail_auth::AuthenticatedMessage;
use mail_auth::common::crypto::Algorithm;
use mail_auth::common::headers::Header;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::{DomainKey, VerifySignature};
use mail_auth::dkim::Signature;

use crate::discovery::OwnerName;
use crate::model::DomainName;

use super::super::results::{DkimResult, DkimWord};
use super::names::{Found, Mark, Names};

/// Signatures that are judged; each costs look-ups that a stranger chose. More than this no honest path adds.
pub(super) const SIGNATURES_MAX: usize = 10;
/// Names in `h=`. Each is searched among the fields, so their number is what a signature costs; signers list some dozens.
const NAMES_MAX: usize = 256;
/// RSA keys below this are no proof (RFC 8301 section 3.2).
const RSA_BITS_MIN: usize = 1024;

/// Judges every signature of the message, in the order of the fields; malformed ones come first.
pub(super) async fn verify(
    names: &mut dyn Names,
    message: &AuthenticatedMessage<'_>,
    now: Timestamp,
) -> Vec<DkimResult> {
    let is_signature = |name: &[u8]| name.trim_ascii().eq_ignore_ascii_case(b"dkim-signature");
    let mut results: Vec<DkimResult> = message
        .errors
        .iter()
        .filter(|malformed| is_signature(malformed.name))
        .take(SIGNATURES_MAX)
        .map(|malformed| match &malformed.header {
            mail_auth::Error::Dkim(mail_auth::dkim::DkimError::SignatureLength) => {
                no(DkimWord::Policy, None, "a signature with l= covers only part of the body")
            }
            error => no(DkimWord::Permerror, None, &format!("malformed signature: {error}")),
        })
        .collect();
    for signature in message.dkim_headers.iter().take(SIGNATURES_MAX) {
        results.push(judge(names, message, signature, now).await);
    }
    if message.dkim_headers.len() > SIGNATURES_MAX {
        let detail = format!("signatures beyond the first {SIGNATURES_MAX} were not judged");
        results.push(no(DkimWord::Policy, None, &detail));
    }
    results
}

fn no(word: DkimWord, domain: Option<DomainName>, detail: &str) -> DkimResult {
    let detail = match &domain {
        Some(domain) => format!("d={domain}: {detail}"),
        None => detail.to_owned(),
    };
    DkimResult { word, domain, detail }
}

async fn judge(
    names: &mut dyn Names,
    message: &AuthenticatedMessage<'_>,
    field: &Header<'_, Signature>,
    now: Timestamp,
) -> DkimResult {
    let signature = &field.header;
    let Ok(domain) = signature.d.parse::<DomainName>() else {
        return no(DkimWord::Permerror, None, "d= is no domain name");
    };
    if let Err((word, detail)) = form(signature, &domain, now).and_then(|()| body(message, signature)) {
        return no(word, Some(domain), detail);
    }
    let Ok(name) = format!("{}._domainkey.{domain}", signature.s).parse::<OwnerName>() else {
        return no(DkimWord::Permerror, Some(domain), "s= makes no DNS name");
    };
    let (records, mark) = match names.txt(&name).await {
        Found::Some(records, mark) => (records, mark),
        Found::None(_) => return no(DkimWord::Permerror, Some(domain), &format!("no key at {name}")),
        Found::Trouble(detail) => return no(DkimWord::Temperror, Some(domain), &detail),
    };
    let [record] = records.as_slice() else {
        return no(DkimWord::Permerror, Some(domain), &format!("more than one record at {name}"));
    };
    let key = match key(record, signature, &domain) {
        Ok(key) => key,
        Err((word, detail)) => return no(word, Some(domain), &format!("key at {name}: {detail}")),
    };
    let unsigned = without_signature(field.value);
    let mut headers = message.signed_headers(&signature.h, field.name, &unsigned);
    if key.p.verify(&mut headers, &signature.b, signature.ch, signature.a).is_err() {
        return no(DkimWord::Fail, Some(domain), "the signature does not verify");
    }
    if mark == Mark::Unproven {
        return no(DkimWord::Policy, Some(domain), &format!("the key at {name} is not signed with DNSSEC"));
    }
    let detail = format!("d={domain}: pass");
    DkimResult { word: DkimWord::Pass, domain: Some(domain), detail }
}

type Refusal = (DkimWord, &'static str);

/// What can be said without key and body.
fn form(signature: &Signature, domain: &DomainName, now: Timestamp) -> Result<(), Refusal> {
    if signature.v != 1 {
        return Err((DkimWord::Permerror, "there is no v=1"));
    }
    if !signature.h.iter().any(|name| name.trim().eq_ignore_ascii_case("from")) {
        return Err((DkimWord::Permerror, "From: is not signed"));
    }
    if signature.h.len() > NAMES_MAX {
        return Err((DkimWord::Policy, "h= has too many names"));
    }
    let identity = signature.i.rsplit_once('@').map(|(_, identity)| identity.parse::<DomainName>());
    match identity {
        None if signature.i.is_empty() => {}
        Some(Ok(identity)) if identity.is_at_or_below(domain) => {}
        _ => return Err((DkimWord::Permerror, "i= does not lie in d=")),
    }
    if signature.a == Algorithm::RsaSha1 {
        return Err((DkimWord::Policy, "rsa-sha1 is no proof"));
    }
    let now = u64::try_from(now.as_second()).unwrap_or(0);
    if signature.x != 0 && (signature.x <= now || signature.x <= signature.t) {
        return Err((DkimWord::Policy, "the signature has expired"));
    }
    Ok(())
}

fn body(message: &AuthenticatedMessage<'_>, signature: &Signature) -> Result<(), Refusal> {
    let algorithm = signature.algorithm().into();
    let same = message.body_hashes.iter().any(|(form, hash, length, digest)| {
        *form == signature.cb && *hash == algorithm && *length == 0 && *digest == signature.bh
    });
    if same { Ok(()) } else { Err((DkimWord::Fail, "the body is not what was signed")) }
}

/// The key, if it may be used for this signature (RFC 6376 section 3.6.1).
fn key(record: &[u8], signature: &Signature, domain: &DomainName) -> Result<DomainKey, Refusal> {
    let key = DomainKey::parse(record).map_err(|_| (DkimWord::Permerror, "malformed or revoked"))?;
    let has = |tag: &str, wanted: &[&str]| {
        tag_value(record, tag).map(|value| {
            value.split(':').any(|item| wanted.iter().any(|word| item.trim().eq_ignore_ascii_case(word)))
        })
    };
    if has("h", &["sha256"]) == Some(false) {
        return Err((DkimWord::Permerror, "does not admit sha256"));
    }
    if has("s", &["*", "email"]) == Some(false) {
        return Err((DkimWord::Permerror, "is not for mail"));
    }
    if has("t", &["y"]) == Some(true) {
        return Err((DkimWord::Policy, "is in test mode"));
    }
    let identity = signature.i.rsplit_once('@').and_then(|(_, identity)| identity.parse::<DomainName>().ok());
    if has("t", &["s"]) == Some(true) && identity.is_some_and(|identity| identity != *domain) {
        return Err((DkimWord::Permerror, "admits no subdomain in i="));
    }
    if key.p.public_key_bits() < RSA_BITS_MIN {
        return Err((DkimWord::Policy, "is shorter than 1024 bits"));
    }
    Ok(key)
}

/// The value of a tag in a tag-list (RFC 6376 section 3.2).
fn tag_value<'r>(record: &'r [u8], tag: &str) -> Option<&'r str> {
    std::str::from_utf8(record).ok()?.split(';').find_map(|item| {
        let (name, value) = item.split_once('=')?;
        (name.trim() == tag).then_some(value)
    })
}

/// The value of a signature field as it was when it was signed: the value of `b=` taken out, and no last CRLF (RFC 6376
/// section 3.7).
fn without_signature(value: &[u8]) -> Vec<u8> {
    let value = value.strip_suffix(b"\r\n").unwrap_or(value);
    let mut unsigned = Vec::with_capacity(value.len());
    for (index, item) in value.split(|octet| *octet == b';').enumerate() {
        if index > 0 {
            unsigned.push(b';');
        }
        let equals = memchr::memchr(b'=', item);
        match equals {
            Some(at) if item[..at].trim_ascii() == b"b" => unsigned.extend_from_slice(&item[..=at]),
            _ => unsigned.extend_from_slice(item),
        }
    }
    unsigned
}
