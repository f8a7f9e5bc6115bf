//! The verdict over a signature (RFC 8551, RFC 5652 section 5.6, RFC 5035), in the words of RFC 7281.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::signature::UnparsedPublicKey;
use jiff::{SignedDuration, Timestamp};

use super::ber::{self, Der, Malformed, to_der};
use super::certificate::{Certificate, Key, MailAnchors, MailUse, is_same, printable};
use super::cms::{Attributes, SignedData, SignerInfo};
use super::oid::{self, Hash, Scheme, Unusable};
use super::watch::{Digests, Finding, SmimeEvidence};
use crate::model::{Address, SmimeFacts};
use crate::trust::results::{SmimeIdentity, SmimeResult, SmimeWord};

/// The word in records for what is encrypted. RFC 7281 has none: there it is `neutral`.
const ENCRYPTED: &str = "encrypted";

/// What a signature is measured by.
#[derive(Clone, Copy, Debug)]
pub struct SmimeCase<'a> {
    /// The addresses of `From:`.
    pub from: &'a [Address],
    /// The address of `Sender:`.
    pub sender: Option<&'a Address>,
    /// The authorities that count; without them no chain is judged (SMIME-007).
    pub anchors: Option<&'a MailAnchors>,
    /// The time of receipt.
    pub now: Timestamp,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmimeVerdict {
    /// For the environment.
    pub result: SmimeResult,
    /// For the decision record.
    pub facts: SmimeFacts,
}

/// Why a signature does not pass: the word, a reason of ours, and what exactly was seen.
struct Fault {
    word: SmimeWord,
    reason: &'static str,
    detail: Option<String>,
}

impl Fault {
    const fn new(word: SmimeWord, reason: &'static str) -> Self {
        Self { word, reason, detail: None }
    }
}

impl From<Malformed> for Fault {
    /// Syntax errors are `neutral` (RFC 7281 section 3.1).
    fn from(Malformed(reason): Malformed) -> Self {
        Self::new(SmimeWord::Neutral, reason)
    }
}

impl SmimeEvidence {
    /// The verdict; `None` when nothing of S/MIME is there. It decides nothing (SMIME-001).
    #[must_use]
    pub fn judge(&self, case: &SmimeCase<'_>) -> Option<SmimeVerdict> {
        let fault = |reason| Some(verdict(Fault::new(SmimeWord::Neutral, reason), SmimeFacts::default()));
        let (octets, digests) = match &self.finding {
            Finding::Unsigned => return None,
            Finding::Encrypted => {
                let mut encrypted = fault("encrypted, so not judged")?;
                ENCRYPTED.clone_into(&mut encrypted.facts.verdict);
                return Some(encrypted);
            }
            Finding::NotJudged(why) => return fault(why),
            Finding::Detached(digests, octets) => (octets, Some(digests)),
            Finding::Opaque(octets) => (octets, None),
        };
        let der = match to_der(octets) {
            Ok(der) => der,
            Err(Malformed(why)) => return fault(why),
        };
        let signed = match SignedData::read(&der) {
            Ok(signed) => signed,
            Err(Malformed(why)) => return fault(why),
        };
        // The worst of them: who wants to be believed has no signature that fails.
        let verdicts = signed.signers.iter().map(|signer| judge_signer(&signed, signer, digests, case));
        match verdicts.max_by_key(|verdict| rank(verdict.result.word)) {
            Some(mut worst) => {
                let count = signed.signers.len();
                if count > 1 {
                    let said = worst.facts.detail.take().unwrap_or_default();
                    worst.facts.detail = Some(format!("{count} signers; {said}"));
                }
                Some(worst)
            }
            None => fault("certificates alone, nothing is signed"),
        }
    }
}

/// The lower, the better.
const fn rank(word: SmimeWord) -> u8 {
    match word {
        SmimeWord::Pass => 0,
        SmimeWord::Neutral => 1,
        SmimeWord::Policy => 2,
        SmimeWord::Permerror => 3,
        SmimeWord::Fail => 4,
    }
}

fn verdict(fault: Fault, mut facts: SmimeFacts) -> SmimeVerdict {
    let Fault { word, reason, detail } = fault;
    facts.verdict = word.to_string();
    facts.detail = Some(detail.map_or_else(|| reason.to_owned(), |detail| format!("{reason}: {detail}")));
    SmimeVerdict { result: SmimeResult { word, reason: Some(reason), identity: None }, facts }
}

fn judge_signer(
    signed: &SignedData<'_>,
    signer: &SignerInfo<'_>,
    digests: Option<&Digests>,
    case: &SmimeCase<'_>,
) -> SmimeVerdict {
    let mut facts = SmimeFacts::default();
    let certificate = signed.certificates.iter().find_map(|der| {
        let certificate = Certificate::read(der)?;
        certificate.is_named_by(&signer.id).then_some((*der, certificate))
    });
    let Some((der, certificate)) = certificate else {
        return verdict(Fault::new(SmimeWord::Permerror, "the signer's certificate is not there"), facts);
    };
    facts.subject = Some(certificate.subject());
    facts.issuer = Some(certificate.issuer());
    facts.serial = Some(certificate.serial());
    facts.certificate = Some(certificate.fingerprint().to_string());
    let proven = check_signature(signed, signer, digests, &certificate, &mut facts)
        .and_then(|()| check_address(&certificate, case, &mut facts))
        .and_then(|address| check_trust(signed, der, &certificate, case).map(|()| address))
        .and_then(|address| check_time(&certificate, case, &facts).map(|()| address));
    match proven {
        Err(fault) => verdict(fault, facts),
        Ok(address) => {
            facts.verdict = SmimeWord::Pass.to_string();
            let identity = SmimeIdentity::new(address, certificate.serial(), &certificate.issuer());
            let result = SmimeResult { word: SmimeWord::Pass, reason: None, identity: Some(identity) };
            SmimeVerdict { result, facts }
        }
    }
}

/// Is the content the one that was signed, with the key of this certificate?
fn check_signature(
    signed: &SignedData<'_>,
    signer: &SignerInfo<'_>,
    digests: Option<&Digests>,
    certificate: &Certificate<'_>,
    facts: &mut SmimeFacts,
) -> Result<(), Fault> {
    let hash = Hash::of(signer.digest).map_err(unusable)?;
    facts.digest = Some(hash.as_str().to_owned());
    let scheme = Scheme::of(signer.algorithm.0, signer.algorithm.1, hash).map_err(unusable)?;
    facts.signature = Some(format!("{} with {}", scheme.as_str(), scheme.hash().as_str()));
    // Without them anybody can present the attributes of an old signature as a new content.
    let attributes = signer.attributes.as_ref();
    let attributes =
        attributes.ok_or_else(|| Fault::new(SmimeWord::Policy, "there are no signed attributes"))?;
    let failed = |reason| Fault::new(SmimeWord::Fail, reason);
    match attributes.one(oid::CONTENT_TYPE)? {
        Some(kind) if kind.tag == ber::OID && kind.content == signed.content_type => {}
        _ => return Err(failed("the signed content type is another")),
    }
    let expected = attributes.one(oid::MESSAGE_DIGEST)?.filter(|digest| digest.tag == ber::OCTET_STRING);
    let expected = expected.ok_or_else(|| failed("there is no signed digest"))?;
    if expected.content != content_digest(signed, digests, hash)? {
        return Err(failed("the content is not the one that was signed"));
    }
    let (curve, key) = match certificate.key() {
        Key::Rsa(key) => (None, key),
        Key::Ec(curve, key) => (Some(curve), key),
        Key::WeakRsa => return Err(Fault::new(SmimeWord::Policy, "the key is too short")),
        Key::Other => return Err(Fault::new(SmimeWord::Neutral, "a kind of key that is not known here")),
    };
    if scheme.is_rsa() == curve.is_some() {
        return Err(failed("the key is of another kind than the signature"));
    }
    let algorithm = scheme.algorithm(curve).ok_or_else(|| unusable(Unusable::Unknown))?;
    let key = UnparsedPublicKey::new(algorithm, key);
    key.verify(&attributes.signed(), signer.signature).map_err(|_| failed("the signature is wrong"))?;
    facts.cades = check_signing_certificate(attributes, certificate)?;
    facts.signed_at = signing_time(attributes)?;
    Ok(())
}

/// How far ahead of ours the signer's clock may be.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// When the signer says that it signed (RFC 5652 section 11.3).
fn signing_time(attributes: &Attributes<'_>) -> Result<Option<Timestamp>, Fault> {
    let Some(value) = attributes.one(oid::SIGNING_TIME)? else { return Ok(None) };
    let read = ber::read_time(value);
    read.map(Some).ok_or_else(|| Fault::new(SmimeWord::Neutral, "the signing time is none"))
}

/// The certificate was valid when the signer says that it signed, and that was not after now (SMIME-016).
fn check_time(certificate: &Certificate<'_>, case: &SmimeCase<'_>, facts: &SmimeFacts) -> Result<(), Fault> {
    let Some(at) = facts.signed_at else { return Ok(()) };
    let (from, until) = certificate.validity();
    if at < from || at > until {
        return Err(Fault::new(SmimeWord::Policy, "it was signed when the certificate was not valid"));
    }
    if at.duration_since(case.now) > AHEAD {
        return Err(Fault::new(SmimeWord::Policy, "it says that it was signed after now"));
    }
    Ok(())
}

fn unusable(why: Unusable) -> Fault {
    match why {
        Unusable::Broken => Fault::new(SmimeWord::Policy, "it rests on SHA-1 or MD5"),
        Unusable::Unknown => Fault::new(SmimeWord::Neutral, "an algorithm that is not known here"),
    }
}

fn content_digest(signed: &SignedData<'_>, digests: Option<&Digests>, hash: Hash) -> Result<Vec<u8>, Fault> {
    match (digests, signed.content) {
        (Some(Digests(all)), None) => {
            let found = all.iter().find(|(computed, _)| *computed == hash);
            found.map(|(_, digest)| digest.clone()).ok_or_else(|| {
                Fault::new(SmimeWord::Neutral, "the message announces another hash than it is signed with")
            })
        }
        (None, Some(content)) => Ok(hash.digest(content)),
        (Some(_), Some(_)) => Err(Fault::new(SmimeWord::Neutral, "the content is there twice")),
        (None, None) => Err(Fault::new(SmimeWord::Neutral, "the content is not there")),
    }
}

/// The attribute by which a signer binds its certificate (RFC 5035): if it is there, the first entry must be that certificate.
/// Whether it is there in the form that CAdES asks for (ETSI EN 319 122-1 section 5.2.2).
fn check_signing_certificate(
    attributes: &Attributes<'_>,
    certificate: &Certificate<'_>,
) -> Result<bool, Fault> {
    let other = || Fault::new(SmimeWord::Fail, "it was signed with another certificate");
    let first = |value: ber::Tlv<'_>| -> Result<Vec<u8>, Malformed> {
        let list = Der::new(Der::new(value.raw).need(ber::SEQUENCE)?.content).need(ber::SEQUENCE)?;
        Ok(Der::new(list.content).need(ber::SEQUENCE)?.content.to_vec())
    };
    if let Some(value) = attributes.one(oid::SIGNING_CERTIFICATE)? {
        let entry = first(value)?;
        let mut entry = Der::new(&entry);
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate.der());
        if entry.need(ber::OCTET_STRING)?.content != digest.as_ref() || !names(&mut entry, certificate)? {
            return Err(other());
        }
    }
    let Some(value) = attributes.one(oid::SIGNING_CERTIFICATE_V2)? else { return Ok(false) };
    let entry = first(value)?;
    let mut entry = Der::new(&entry);
    let hash = match entry.optional(ber::SEQUENCE)? {
        Some(algorithm) => Hash::of(Der::new(algorithm.content).need(ber::OID)?.content).map_err(unusable)?,
        None => Hash::Sha256,
    };
    if entry.need(ber::OCTET_STRING)?.content != hash.digest(certificate.der())
        || !names(&mut entry, certificate)?
    {
        return Err(other());
    }
    Ok(true)
}

/// Whether `IssuerSerial`, if it is there, is that of the certificate.
fn names(entry: &mut Der<'_>, certificate: &Certificate<'_>) -> Result<bool, Malformed> {
    let Some(pair) = entry.optional(ber::SEQUENCE)? else { return Ok(true) };
    let mut pair = Der::new(pair.content);
    let directory = Der::new(pair.need(ber::SEQUENCE)?.content).need(0xa4)?;
    let serial = pair.need(ber::INTEGER)?;
    Ok(directory.content == certificate.issuer_der() && serial.content == certificate.serial_octets())
}

/// The address of the certificate that is the sender's (RFC 8550 section 3).
fn check_address(
    certificate: &Certificate<'_>,
    case: &SmimeCase<'_>,
    facts: &mut SmimeFacts,
) -> Result<Address, Fault> {
    let addresses = certificate.addresses();
    facts.signer = addresses.first().map(|address| printable(&address.to_string()));
    let claimed: Vec<&Address> = case.from.iter().chain(case.sender).collect();
    let found = addresses.into_iter().find(|ours| claimed.iter().any(|theirs| is_same(ours, theirs)));
    match found {
        Some(address) => {
            facts.signer = Some(printable(&address.to_string()));
            Ok(address)
        }
        None => Err(Fault::new(SmimeWord::Policy, "the certificate is not for the sender's address")),
    }
}

/// May this certificate sign mail, now, by the word of an authority that counts (SMIME-007)?
fn check_trust(
    signed: &SignedData<'_>,
    der: &[u8],
    certificate: &Certificate<'_>,
    case: &SmimeCase<'_>,
) -> Result<(), Fault> {
    let policy = |reason| Fault::new(SmimeWord::Policy, reason);
    match certificate.mail_use() {
        MailUse::Yes => {}
        MailUse::NoSigning => return Err(policy("the certificate is not for signing")),
        MailUse::NoMail => return Err(policy("the certificate is not for mail")),
    }
    let anchors = case.anchors.ok_or_else(|| {
        Fault::new(
            SmimeWord::Neutral,
            "the signature holds, and no authority is configured to judge whose it is",
        )
    })?;
    let others: Vec<&[u8]> = signed.certificates.iter().copied().filter(|other| *other != der).collect();
    anchors.verify(der, &others, case.now).map_err(|error| match error {
        webpki::Error::CertExpired { .. } => policy("a certificate has expired"),
        webpki::Error::CertNotValidYet { .. } => policy("a certificate is not valid yet"),
        other => Fault {
            detail: Some(printable(&other.to_string())),
            ..policy("the certificate does not lead to a configured authority")
        },
    })
}
