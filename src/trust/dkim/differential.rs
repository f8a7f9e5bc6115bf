//! Two judges of the same signatures: ours and `mail-auth`, which no code of the node asks about DKIM any more.
//!
//! Every letter of the testnet is signed by `mail-auth` in each form, changed in many ways, and verified by both. Where they
//! disagree one of the three tables below says why ours is the answer, and each line of them occurs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_auth::AuthenticatedMessage;
use mail_auth::common::crypto::{DkimKey, Ed25519Key, RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::{DomainKey, VerifySignature};
use mail_auth::dkim::{Canonicalization, DkimSigner};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use testnet::letters::{Parties, cases};

use super::evidence::without_signature;
use super::*;

/// Letters larger than this are left to the tests that send them.
const OCTETS_MAX: usize = 128 << 10;

/// Where we say no and `mail-auth` says yes, and why ours is the answer.
const EXPLAINED: [(&str, &str); 8] = [
    (
        "the header section is none",
        "a stray line in it: who shows the message may see other fields than were signed",
    ),
    ("has an item that is no tag", "RFC 6376 section 3.2: between two semicolons stands a tag"),
    ("has a tag twice", "RFC 6376 section 3.2: the whole list is invalid"),
    ("has a character that no value can hold", "RFC 6376 section 3.2: not in VALCHAR"),
    ("q= names no way", "RFC 6376 section 3.5: a key that is fetched otherwise is not the one in DNS"),
    ("t= or x= holds no time", "RFC 6376 section 3.5: decimal digits, nothing else"),
    ("i= does not lie in d=", "RFC 6376 section 3.5"),
    ("s= makes no DNS name", "RFC 6376 section 3.5: labels without blanks"),
];

fn rsa() -> &'static (Vec<u8>, String) {
    static KEY: OnceLock<(Vec<u8>, String)> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
        let der = der.as_ref().to_vec();
        let public = RsaKey::<Sha256>::from_key_der(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(&der[..])))
            .unwrap()
            .public_key();
        (der, format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(public)))
    })
}

fn ed() -> (Ed25519Key, String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = pair.public_key().as_ref();
    let record = format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(public));
    (Ed25519Key::from_seed_and_public_key(&[7; 32], public).unwrap(), record)
}

/// The letter with a signature on top, and the key record it needs.
fn sign(content: &[u8], with_rsa: bool, forms: [Canonicalization; 2]) -> Option<(Vec<u8>, String)> {
    let (key, record): (DkimKey, _) = if with_rsa {
        let (der, record) = rsa();
        let key: PrivateKeyDer<'_> = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(&der[..]));
        (RsaKey::<Sha256>::from_key_der(key).unwrap().into(), record.clone())
    } else {
        let (key, record) = ed();
        (key.into(), record)
    };
    let signer = DkimSigner::from_key(key)
        .domain("a.nl")
        .selector("s1")
        .headers(["From", "To", "Subject", "Date", "From", "MIME-Version"])
        .header_canonicalization(forms[0])
        .body_canonicalization(forms[1]);
    let field = signer.sign(content).ok()?.to_header();
    Some(([field.as_bytes(), content].concat(), record))
}

/// Ours: whether any signature passes, else why not.
fn ours(content: &[u8], record: &str) -> Result<(), String> {
    let evidence = Evidence::of(content);
    if evidence.fields().is_empty() {
        return Err("the header section is none".to_owned());
    }
    let mut why = Err("no signature".to_owned());
    for found in &evidence.signatures {
        let judged = found.signature.as_ref().map_err(|result| result.detail.clone()).and_then(|signature| {
            let key = Key::read(record.as_bytes(), signature).map_err(|(_, detail)| detail.to_owned())?;
            let whole = evidence.body_is_that_of(signature);
            let verifies = key.verifies(&evidence.signed(found, signature), &signature.signature);
            if whole && verifies { Ok(()) } else { Err("does not verify".to_owned()) }
        });
        if judged.is_ok() {
            return Ok(());
        }
        why = judged;
    }
    why
}

/// Theirs: whether any signature over the whole body passes.
fn theirs(content: &[u8], record: &str) -> bool {
    let Some(message) = AuthenticatedMessage::parse(content) else { return false };
    message.dkim_headers.iter().any(|field| {
        let signature = &field.header;
        let algorithm = signature.algorithm().into();
        let whole = message.body_hashes.iter().any(|(form, hash, length, digest)| {
            *form == signature.cb && *hash == algorithm && *length == 0 && *digest == signature.bh
        });
        let unsigned = without_signature(field.value.strip_suffix(b"\r\n").unwrap_or(field.value));
        let mut headers = message.signed_headers(&signature.h, field.name, &unsigned);
        let key = DomainKey::parse(record.as_bytes()).unwrap();
        whole && key.p.verify(&mut headers, &signature.b, signature.ch, signature.a).is_ok()
    })
}

/// Replaces the first occurrence.
fn replaced(content: &[u8], from: &str, to: &str) -> Option<Vec<u8>> {
    let at = memchr::memmem::find(content, from.as_bytes())?;
    Some([&content[..at], to.as_bytes(), &content[at + from.len()..]].concat())
}

/// The message in many other ways; what is told in words of the protocol first, chance last.
fn changed(content: &[u8], seed: u64) -> Vec<Vec<u8>> {
    let mut all = vec![content.to_vec(), [content, b"\r\n\r\n"].concat(), [content, b" \r\n"].concat()];
    all.push(content.strip_suffix(b"\r\n").unwrap_or(content).to_vec());
    for (from, to) in [
        ("Subject: ", "SUBJECT:\t "),
        ("Subject: ", "Subject : "),
        ("Subject: ", "Subject:\r\n "),
        ("\r\nFrom: ", "\r\nTo: x@y.nl\r\nFrom: "),
        ("\r\nTo: ", "\r\nFrom: x@y.nl\r\nTo: "),
        ("\r\n\r\n", "\r\nX-New: 1\r\n\r\n"),
        ("\r\n\r\n", "\r\nstray line\r\n\r\n"),
        ("\r\n\r\n", "\r\n\r\n\r\n"),
        ("v=1;", "v=1;;"),
        ("v=1;", ""),
        ("v=1;", "v=1; v=1;"),
        ("v=1;", "v=1; z=\u{1};"),
        ("v=1;", "v=1; l=1;"),
        ("v=1;", "V=1;"),
        (" b=", " b =\r\n "),
        ("DKIM-Signature: ", "dkim-signature:"),
        ("DKIM-Signature: ", "DKIM-Signature :"),
    ] {
        all.extend(replaced(content, from, to));
    }
    // What depends on when it was signed is left alone, so that each run is the same.
    let time = memchr::memmem::find(content, b" t=").unwrap_or(0);
    let field_end = memchr::memmem::find_iter(content, b"\r\n")
        .map(|at| at + 2)
        .find(|&at| !matches!(content.get(at), Some(b' ' | b'\t')))
        .unwrap_or(time);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for _ in 0..8 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Mostly in the header, where most can go wrong.
        let span = if state & 3 == 0 { content.len() } else { content.len().min(900) };
        let at = usize::try_from(state >> 33).unwrap() % span;
        let octet = content[at] ^ 1 << ((state >> 29) & 7);
        // The wire brings no line end that is half a one, and no NUL.
        let stable = !(time..field_end).contains(&at);
        if stable && !matches!(content[at], b'\r' | b'\n') && !matches!(octet, b'\r' | b'\n' | 0) {
            let mut message = content.to_vec();
            message[at] = octet;
            all.push(message);
        }
    }
    all
}

/// Whether a message looks so.
type Looks = fn(&[u8]) -> bool;
/// The message, spelt otherwise.
type Respelt = fn(&[u8]) -> Vec<u8>;

/// Messages that `mail-auth` signs in its own way, so that ours does not verify: what they look like, and why ours is the
/// answer.
const EXPLAINED_SIGNED: [(&str, Looks); 3] = [
    (
        "RFC 6376 section 3.4.2, again: its signer leaves out a field with blanks before the colon",
        has_blanks_before_colons,
    ),
    ("RFC 6376 section 3.4.4, again: its signer keeps the same last lines of blanks", ends_in_blank_lines),
    (
        "RFC 5322 section 2.2: a field that lacks its line end at the end of the content; it leaves the field out, and whoever \
         shows the message does not",
        ends_in_a_field,
    ),
];

fn ends_in_blank_lines(message: &[u8]) -> bool {
    let tail = &message[message.trim_ascii_end().len()..];
    memchr::memchr(b'\n', tail).is_some_and(|at| tail[at..].iter().any(|octet| matches!(octet, b' ' | b'\t')))
}

fn has_blanks_before_colons(message: &[u8]) -> bool {
    without_blanks_before_colons(message) != message
}

fn ends_in_a_field(message: &[u8]) -> bool {
    memchr::memmem::find(message, b"\r\n\r\n").is_none() && !message.ends_with(b"\r\n")
}

/// Where we say yes and `mail-auth` says no, why ours is the answer, and the same message in a spelling that both take.
const EXPLAINED_YES: [(&str, Respelt); 2] = [
    (
        "RFC 6376 section 3.4.4: blanks at line ends are ignored, then empty lines at the end of the body; a last line of \
         blanks is one",
        without_blank_last_lines,
    ),
    ("RFC 6376 section 3.4.2: blanks before the colon of a field are deleted", without_blanks_before_colons),
];

fn without_blank_last_lines(message: &[u8]) -> Vec<u8> {
    [message.trim_ascii_end(), b"\r\n"].concat()
}

fn without_blanks_before_colons(message: &[u8]) -> Vec<u8> {
    let end = memchr::memmem::find(message, b"\r\n\r\n").unwrap_or(message.len());
    let mut plain = Vec::new();
    for line in message[..end].split_inclusive(|octet| *octet == b'\n') {
        let name = line.iter().position(|octet| matches!(octet, b':' | b' ' | b'\t')).unwrap_or(0);
        let blanks = line[name..].iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
        let before_colon = name > 0 && line.get(name + blanks) == Some(&b':');
        plain.extend_from_slice(&line[..name]);
        plain.extend_from_slice(&line[if before_colon { name + blanks } else { name }..]);
    }
    [&plain, &message[end..]].concat()
}

/// Compares both on one message.
///
/// # Errors
/// What the difference is, when nothing here explains it.
fn compare(name: &str, message: &[u8], record: &str) -> Result<Option<&'static str>, String> {
    let (ours, theirs) = (ours(message, record), self::theirs(message, record));
    let explained = match (&ours, theirs) {
        (Ok(()), true) | (Err(_), false) => return Ok(None),
        (Ok(()), false) => EXPLAINED_YES
            .iter()
            .find(|(_, respelt)| self::theirs(&respelt(message), record))
            .map(|(line, _)| *line),
        (Err(why), true) if why == "does not verify" => {
            EXPLAINED_SIGNED.iter().find(|(_, looks)| looks(message)).map(|(line, _)| *line)
        }
        (Err(why), true) => EXPLAINED.iter().find(|(line, _)| why.contains(line)).map(|(line, _)| *line),
    };
    let shown = || {
        let start = memchr::memmem::find(message, b"\r\nFrom").unwrap_or(0);
        String::from_utf8_lossy(&message[start..message.len().min(start + 400)]).into_owned()
    };
    explained.map(Some).ok_or_else(|| format!("{name}: we say {ours:?}, they {theirs}\n{:?}", shown()))
}

/// Proves: +JUDGE-003 -JUDGE-003 +JUDGE-004 -JUDGE-004
#[test]
fn t06_both_judges_agree_on_signed_letters_and_what_becomes_of_them() {
    use Canonicalization::{Relaxed, Simple};
    let parties = Parties { sender: "a.nl".into(), recipient: "b.nl".into() };
    let (mut compared, mut passed) = (0, 0);
    let (mut used, mut unexplained) = (BTreeSet::new(), Vec::new());
    let mut look = |name: &str, message: &[u8], record: &str| match compare(name, message, record) {
        Ok(line) => used.extend(line),
        Err(difference) => unexplained.push(difference),
    };
    for (number, case) in cases().enumerate() {
        let content = case.write(&parties).content;
        if content.len() > OCTETS_MAX {
            continue;
        }
        // Both algorithms take turns, so that each form meets each of them.
        for (turn, forms) in
            [[Relaxed, Relaxed], [Relaxed, Simple], [Simple, Relaxed], [Simple, Simple]].iter().enumerate()
        {
            let Some((signed, record)) = sign(&content, (number + turn) % 2 == 0, *forms) else { continue };
            passed += usize::from(ours(&signed, &record).is_ok());
            for (change, message) in changed(&signed, (number * 4 + turn) as u64).iter().enumerate() {
                look(&format!("{}, {forms:?}, change {change}", case.name), message, &record);
                compared += 1;
            }
        }
    }
    assert!(compared > 1000 && passed > 100, "{compared} compared, {passed} passed");

    // What chance does not find.
    let (signed, record) = sign(b"From: a@a.nl\r\n\r\nx\r\n", false, [Relaxed, Relaxed]).unwrap();
    assert_eq!(compare("plain", &signed, &record), Ok(None));
    let tags = |extra: &str| {
        // Signed anew with the tag in it, so that the signature is good.
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let field = format!(
            "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; h=From; {extra} \
             bh=lKkGhoAQGkbCkaMTVsxZpfYGNSnnlGkzkUT7xxfMjAw=; b="
        );
        let body = {
            let mut hasher = super::super::canonical::BodyHasher::new(super::super::canonical::Form::Relaxed);
            hasher.push(b"x\r\n");
            STANDARD.encode(hasher.finish().0)
        };
        let field = field.replace("lKkGhoAQGkbCkaMTVsxZpfYGNSnnlGkzkUT7xxfMjAw=", &body);
        let mut input = b"from:a@a.nl\r\n".to_vec();
        let (name, value) = field.split_once(':').unwrap();
        super::super::canonical::relaxed_field(name.as_bytes(), value.as_bytes(), &mut input);
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &input);
        format!("{field}{}\r\nFrom: a@a.nl\r\n\r\nx\r\n", STANDARD.encode(pair.sign(hash.as_ref())))
    };
    for extra in [
        "d=a.nl; s=s1;",
        "d=a.nl; s=s1; q=dns/txt;",
        "d=a.nl; s=s1; q=https;",
        "d=a.nl; s=s1; t=1a;",
        "d=a.nl; s=s1; t=-1;",
        "d=a.nl; s=s1; x=99999999999999;",
        "d=a.nl; s=s1; i=x@b.nl;",
        "d=a.nl; s=s 1;",
        "d=a.nl; s=s1; s=s1;",
        "d=a.nl; s=s1;;",
        "d=a.nl; s=s1; z=\u{1};",
    ] {
        look(extra, tags(extra).as_bytes(), &record);
    }
    assert_eq!(ours(tags("d=a.nl; s=s1;").as_bytes(), &record), Ok(()));
    let yes = EXPLAINED_YES.iter().map(|(line, _)| *line);
    let signed = EXPLAINED_SIGNED.iter().map(|(line, _)| *line);
    let lines = EXPLAINED.iter().map(|(line, _)| *line).chain(yes).chain(signed);
    let unused: Vec<_> = lines.filter(|line| !used.contains(line)).collect();
    let (count, first) = (unexplained.len(), unexplained.iter().take(40).cloned().collect::<Vec<_>>());
    assert!(
        unexplained.is_empty() && unused.is_empty(),
        "the judges do not differ in these: {unused:?}\n{count} unexplained:\n{}",
        first.join("\n---\n")
    );
}

/// The message of RFC 8463 appendix A, with both its signatures.
#[test]
fn the_message_of_rfc_8463_verifies() {
    const MESSAGE: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\nDKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n date : message-id : from : subject : date;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\nFrom: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\nHi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
    let keys = [
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
    ];
    let evidence = Evidence::of(MESSAGE.as_bytes());
    for (found, record) in evidence.signatures.iter().zip(keys) {
        let signature = found.signature.clone().unwrap();
        let key = Key::read(record.as_bytes(), &signature).unwrap();
        assert!(evidence.body_is_that_of(&signature), "{record}");
        assert!(key.verifies(&evidence.signed(found, &signature), &signature.signature), "{record}");
    }
    assert_eq!(evidence.signatures.len(), 2);
}
