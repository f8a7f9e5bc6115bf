//! The value of a `DKIM-Signature:` field (RFC 6376 section 3.5), and what it must be to count (IDEN-022, JUDGE-003).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::super::canonical::Form;
use super::super::results::{DkimResult, DkimWord};
use super::tags::{Tags, trim, without_blanks};
use crate::discovery::OwnerName;
use crate::model::DomainName;

/// Names in `h=`. Each is searched among the fields, so their number is what a signature costs; signers list some dozens.
const NAMES_MAX: usize = 256;
/// Digits of `t=` and `x=` (RFC 6376 section 3.5).
const TIME_DIGITS_MAX: usize = 12;
/// How far ahead of ours the signer's clock may be, in seconds.
const AHEAD_MAX: u64 = 3600;

/// What signs, and over which digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::trust) enum Algorithm {
    /// `rsa-sha256`.
    RsaSha256,
    /// `ed25519-sha256` (RFC 8463).
    Ed25519Sha256,
}

/// A signature that could count, if its key and what it covers agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::trust) struct Signature {
    pub algorithm: Algorithm,
    /// The value of `b=`.
    pub signature: Vec<u8>,
    /// The value of `bh=`.
    pub body_hash: [u8; 32],
    pub header_form: Form,
    pub body_form: Form,
    /// `d=`.
    pub domain: DomainName,
    /// The domain of `i=`; `d=` where there is none.
    pub identity: DomainName,
    /// Where the key stands.
    pub key_name: OwnerName,
    /// `h=`, in its order, names in lower case.
    pub names: Vec<String>,
    pub(super) signed: Option<u64>,
    pub(super) expires: Option<u64>,
}

/// Why something does not count.
pub(in crate::trust) type Unfit = (DkimWord, &'static str);

impl Signature {
    /// Reads the value of a field.
    ///
    /// # Errors
    /// The result to record, when the signature can't count whatever its key says.
    pub fn read(value: &[u8]) -> Result<Self, DkimResult> {
        let malformed = |domain: Option<DomainName>, detail: &str| {
            no(DkimWord::Permerror, domain, &format!("the signature {detail}"))
        };
        let tags = Tags::read(value).map_err(|detail| malformed(None, detail))?;
        let domain = tags.get("d").and_then(|text| text.parse::<DomainName>().ok());
        let domain = domain.ok_or_else(|| malformed(None, "has no domain name in d="))?;
        Self::of(&tags, &domain).map_err(|(word, detail)| no(word, Some(domain.clone()), detail))
    }

    fn of(tags: &Tags<'_>, domain: &DomainName) -> Result<Self, Unfit> {
        let malformed = |detail| (DkimWord::Permerror, detail);
        if tags.get("v") != Some("1") {
            return Err(malformed("there is no v=1"));
        }
        let algorithm = match tags.get("a").map(str::to_ascii_lowercase).as_deref() {
            Some("rsa-sha256") => Algorithm::RsaSha256,
            Some("ed25519-sha256") => Algorithm::Ed25519Sha256,
            Some("rsa-sha1") => return Err((DkimWord::Policy, "rsa-sha1 is no proof")),
            _ => return Err(malformed("a= names no algorithm that is known")),
        };
        let names = names(tags.get("h").ok_or(malformed("there is no h="))?)?;
        if tags.get("l").is_some() {
            return Err((DkimWord::Policy, "a signature with l= covers only part of the body"));
        }
        let queries = tags.get("q").unwrap_or("dns/txt");
        if !queries.split(':').any(|query| trim(query).eq_ignore_ascii_case("dns/txt")) {
            return Err(malformed("q= names no way to the key that is known"));
        }
        let (header_form, body_form) = forms(tags.get("c").unwrap_or("simple/simple"))?;
        let identity = match tags.get("i") {
            None => domain.clone(),
            Some(text) => {
                let identity = text.rsplit_once('@').and_then(|(_, name)| name.parse::<DomainName>().ok());
                identity
                    .filter(|identity| identity.is_at_or_below(domain))
                    .ok_or(malformed("i= does not lie in d="))?
            }
        };
        let selector = tags.get("s").filter(|text| !text.is_empty() && !text.contains(char::is_whitespace));
        let key_name = selector
            .and_then(|selector| format!("{selector}._domainkey.{domain}").parse().ok())
            .ok_or(malformed("s= makes no DNS name"))?;
        let signature = base64(tags.get("b")).filter(|octets| !octets.is_empty());
        let body_hash = base64(tags.get("bh")).and_then(|octets| octets.try_into().ok());
        let (signed, expires) = (time(tags.get("t"))?, time(tags.get("x"))?);
        Ok(Self {
            algorithm,
            signature: signature.ok_or(malformed("b= holds no signature"))?,
            body_hash: body_hash.ok_or(malformed("bh= holds no SHA-256 digest"))?,
            header_form,
            body_form,
            domain: domain.clone(),
            identity,
            key_name,
            names,
            signed,
            expires,
        })
    }

    /// Whether it counts at this time (`t=` and `x=`).
    pub fn check_time(&self, now: Timestamp) -> Result<(), Unfit> {
        let now = u64::try_from(now.as_second()).unwrap_or(0);
        if self.expires.is_some_and(|end| end <= now || self.signed.is_some_and(|begin| end <= begin)) {
            return Err((DkimWord::Policy, "the signature has expired"));
        }
        if self.signed.is_some_and(|begin| begin > now.saturating_add(AHEAD_MAX)) {
            return Err((DkimWord::Policy, "the signature is of a time to come"));
        }
        Ok(())
    }
}

/// A result that is no pass.
pub(in crate::trust) fn no(word: DkimWord, domain: Option<DomainName>, detail: &str) -> DkimResult {
    let detail = match &domain {
        Some(domain) => format!("d={domain}: {detail}"),
        None => detail.to_owned(),
    };
    DkimResult { word, domain, detail }
}

fn names(text: &str) -> Result<Vec<String>, Unfit> {
    let names: Vec<String> = text.split(':').map(|name| trim(name).to_ascii_lowercase()).collect();
    if !names.iter().all(|name| !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic())) {
        return Err((DkimWord::Permerror, "h= holds what is no field name"));
    }
    if !names.iter().any(|name| name == "from") {
        return Err((DkimWord::Permerror, "From: is not signed"));
    }
    if names.len() > NAMES_MAX {
        return Err((DkimWord::Policy, "h= has too many names"));
    }
    Ok(names)
}

fn forms(text: &str) -> Result<(Form, Form), Unfit> {
    let form = |word: &str| {
        [("simple", Form::Simple), ("relaxed", Form::Relaxed)]
            .into_iter()
            .find_map(|(name, form)| trim(word).eq_ignore_ascii_case(name).then_some(form))
            .ok_or((DkimWord::Permerror, "c= names no canonicalisation that is known"))
    };
    // One word is about the header; the body is `simple` then (RFC 6376 section 3.5).
    let (header, body) = text.split_once('/').unwrap_or((text, "simple"));
    Ok((form(header)?, form(body)?))
}

fn base64(text: Option<&str>) -> Option<Vec<u8>> {
    STANDARD.decode(without_blanks(text?)).ok()
}

fn time(text: Option<&str>) -> Result<Option<u64>, Unfit> {
    let Some(text) = text else { return Ok(None) };
    let digits =
        (1..=TIME_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    match text.parse() {
        Ok(seconds) if digits => Ok(Some(seconds)),
        _ => Err((DkimWord::Permerror, "t= or x= holds no time")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = "v=1; a=rsa-sha256; c=relaxed/simple; d=a.nl; s=s1; i=jan@team.a.nl; h=From : To:\r\n from; \
        bh=MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=; t=1000; x=2000; b=AQ ID";

    fn read(text: &str) -> Result<Signature, DkimWord> {
        Signature::read(text.as_bytes()).map_err(|result| result.word)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Proves: +JUDGE-003
    #[test]
    fn a_signature_that_could_count_is_read_whole() {
        let read = read(GOOD).unwrap();
        assert_eq!((read.header_form, read.body_form), (Form::Relaxed, Form::Simple));
        assert_eq!((read.domain.as_str(), read.identity.as_str()), ("a.nl", "team.a.nl"));
        assert_eq!(read.key_name.to_string(), "s1._domainkey.a.nl");
        assert_eq!(read.names, ["from", "to", "from"]);
        assert_eq!(read.signature, [1, 2, 3]);
        assert_eq!(&read.body_hash, b"12345678901234567890123456789012");
    }

    /// Proves: -JUDGE-003
    #[test]
    fn t06_one_thing_wrong_at_a_time() {
        use DkimWord::{Permerror, Policy};
        for (change, with, word) in [
            ("v=1;", "v=2;", Permerror),
            ("v=1;", "v=1; v=1;", Permerror),
            ("a=rsa-sha256", "a=rsa-sha1", Policy),
            ("a=rsa-sha256", "a=dsa-sha256", Permerror),
            ("d=a.nl", "d=a..nl", Permerror),
            ("d=a.nl", "d=b.nl", Permerror),
            ("team.a.nl", "teama.nl", Permerror),
            ("h=From", "h=X-From", Permerror),
            ("h=From : To:\r\n from;", "h=From::To;", Permerror),
            ("bh=MTIz", "bh=MTI", Permerror),
            ("b=AQ ID", "b=", Permerror),
            ("b=AQ ID", "b=AQ!D", Permerror),
            ("t=1000", "t=-1", Permerror),
            ("x=2000", "x=1234567890123", Permerror),
            ("c=relaxed/simple", "c=strict/simple", Permerror),
            ("t=1000", "l=12", Policy),
            ("t=1000", "q=https", Permerror),
            ("s=s1", "s=", Permerror),
        ] {
            let text = GOOD.replacen(change, with, 1);
            let text = if change == "h=From" { text.replace("\r\n from;", "x;") } else { text };
            assert_eq!(read(&text).err(), Some(word), "{change:?} -> {with:?}");
        }
    }

    /// Proves: +JUDGE-003 -JUDGE-003
    #[test]
    fn time_is_that_of_the_clock_given() {
        let signature = read(GOOD).unwrap();
        assert!(signature.check_time(at(1999)).is_ok());
        assert!(signature.check_time(at(2000)).is_err());
        let ahead = read(&GOOD.replace("t=1000; x=2000", "t=10000")).unwrap();
        assert!(ahead.check_time(at(6400)).is_ok() && ahead.check_time(at(6399)).is_err());
        let reversed = read(&GOOD.replace("x=2000", "x=900")).unwrap();
        assert!(reversed.check_time(at(800)).is_err());
    }
}
