//! What we sign, others verify; and what was changed since, they do not.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::Ed25519KeyPair;
use mail_auth::AuthenticatedMessage;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;

use super::*;

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
    }
    pem + &format!("-----END {label}-----\n")
}

fn rsa_pem(size: KeySize) -> String {
    let der: Pkcs8V1Der<'_> = KeyPair::generate(size).unwrap().as_der().unwrap();
    pem("PRIVATE KEY", der.as_ref())
}

fn rsa() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::from_pem(rsa_pem(KeySize::Rsa2048).as_bytes()).unwrap())
}

fn ed25519_of(seed: &[u8]) -> SigningKey {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
    SigningKey::from_pem(pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()).as_bytes()).unwrap()
}

fn ed25519() -> SigningKey {
    ed25519_of(&[7; 32])
}

fn content(octets: &[u8], piece: usize) -> Content {
    let mut signable = Signable::default();
    octets.chunks(piece).for_each(|piece| signable.push(piece));
    signable.finish()
}

/// Signed with both keys.
fn signed(octets: &[u8]) -> Vec<u8> {
    let domain = "a.nl".parse().unwrap();
    let content = content(octets, 7);
    let ed25519 = ed25519();
    let mut top = String::new();
    for (selector, key) in [("rsa", rsa()), ("ed", &ed25519)] {
        let at = "2026-11-22T12:00:00Z".parse().unwrap();
        let (name, value) = Signer { domain: &domain, selector, key, also: None }.sign(&content, at).unwrap();
        assert!(value.split("\r\n").all(|line| line.len() <= 78), "{value}");
        let _ = write!(top, "{name}: {value}\r\n");
    }
    [top.as_bytes(), octets].concat()
}

/// The relaxed body of RFC 6376 section 3.4.4, read off the text; and whether its last line is one of blanks.
fn reference(octets: &[u8]) -> (Vec<u8>, bool) {
    let start = memchr::memmem::find(octets, b"\r\n\r\n").map_or(octets.len(), |at| at + 4);
    let text: String = octets[start..].iter().map(|&octet| char::from(octet)).collect();
    let mut lines: Vec<String> = Vec::new();
    for line in text.split("\r\n") {
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        let indent = if line.starts_with([' ', '\t']) && !words.is_empty() { " " } else { "" };
        lines.push(format!("{indent}{}", words.join(" ")));
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let body: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let last = text.trim_end_matches("\r\n").rsplit("\r\n").next().unwrap_or_default();
    let blank = !last.is_empty() && last.chars().all(|c| matches!(c, ' ' | '\t'));
    (body.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect(), blank)
}

/// How many signatures hold, by `mail-auth`.
fn hold(octets: &[u8]) -> usize {
    let Some(message) = AuthenticatedMessage::parse(octets) else { return 0 };
    let ed25519 = ed25519();
    let holds = |field: &mail_auth::common::headers::Header<'_, mail_auth::dkim::Signature>| {
        let signature = &field.header;
        let key = if signature.s == "rsa" { rsa() } else { &ed25519 };
        let key = DomainKey::parse(key.record().as_bytes()).unwrap();
        let value = String::from_utf8(field.value.to_vec()).unwrap();
        let unsigned = &value[..value.rfind("b=").unwrap() + 2];
        let mut headers = message.signed_headers(&signature.h, field.name, unsigned.as_bytes());
        let theirs = message
            .body_hashes
            .iter()
            .any(|(form, _, length, hash)| *form == signature.cb && *length == 0 && *hash == signature.bh);
        let (body, blank_at_end) = reference(octets);
        let body = digest(&SHA256, &body).as_ref() == signature.bh.as_slice();
        // Lines of nothing but blanks at the end are empty lines (RFC 6376 section 3.4.4); `mail-auth` keeps them.
        assert!(theirs == body || blank_at_end);
        body && key.p.verify(&mut headers, &signature.b, signature.ch, signature.a).is_ok()
    };
    message.dkim_headers.iter().filter(|field| holds(field)).count()
}

const LETTER: &str = "Received: by x\r\nFrom: Jan <jan@a.nl>\r\nTo: piet@b.nl,\r\n\tklaas@b.nl\r\nCc: c@b.nl\r\nSubject: Een  uitslag \
\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@a.nl>\r\nReply-To: r@a.nl\r\nMIME-Version: 1.0\r\nContent-Type: \
text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nHallo  daar \r\n\r\ntot ziens\r\n\r\n";

/// Proves: +SIGN-001 +SIGN-002
#[test]
fn both_signatures_hold_over_every_letter() {
    assert_eq!(hold(&signed(LETTER.as_bytes())), 2);
    let parties = testnet::letters::Parties { sender: "a.nl".into(), recipient: "b.nl".into() };
    let mut broken = Vec::new();
    for case in testnet::letters::cases() {
        // As the node has it, every line with its end.
        if hold(&signed(&case.write(&parties).expected())) != 2 {
            broken.push(case.name);
        }
    }
    // `mail-auth` takes the blank for a part of the name, which RFC 6376 section 3.4.2 deletes.
    assert_eq!(broken, ["blank-before-colon"]);
}

/// Proves: -SIGN-001 -SIGN-002
#[test]
fn t07_whatever_is_changed_or_added_breaks_both() {
    let good = String::from_utf8(signed(LETTER.as_bytes())).unwrap();
    for name in SIGNED_FIELDS {
        let start = good.find(&format!("\r\n{name}: ")).unwrap() + 2 + name.len() + 2;
        let mut bad = good.clone();
        bad.insert(start, 'x');
        assert_eq!(hold(bad.as_bytes()), 0, "{name} changed");
        let added = format!("{name}: x\r\n");
        for at in [0, good.find("Received: ").unwrap(), good.find("\r\n\r\n").unwrap() + 2] {
            let mut bad = good.clone();
            bad.insert_str(at, &added);
            assert_eq!(hold(bad.as_bytes()), 0, "{name} added at {at}");
        }
        let (before, from) = good.split_at(good.find(&format!("\r\n{name}: ")).unwrap() + 2);
        let end = from.match_indices("\r\n").map(|(at, _)| at + 2);
        let end = end.into_iter().find(|&end| !from[end..].starts_with(['\t', ' '])).unwrap();
        assert_eq!(hold(format!("{before}{}", &from[end..]).as_bytes()), 0, "{name} removed");
    }
    let body = good.find("\r\n\r\n").unwrap() + 4;
    for at in body..good.trim_end().len() {
        let mut bad = good.clone().into_bytes();
        // Blanks and line ends are relaxed; a letter is not.
        if bad[at].is_ascii_alphanumeric() {
            bad[at] ^= 1;
            assert_eq!(hold(&bad), 0, "octet {at}");
        }
    }
    assert_eq!(hold(format!("{good}more\r\n").as_bytes()), 0);
}

#[test]
fn what_relaxed_forgives_and_trace_fields_do_not_break_it() {
    let good = String::from_utf8(signed(LETTER.as_bytes())).unwrap();
    for changed in [
        good.replace("Een  uitslag ", "Een uitslag"),
        good.replace(",\r\n\tklaas", ", klaas"),
        good.replace("Hallo  daar \r\n", "Hallo daar\r\n"),
        format!("Received: by y\r\nX: z\r\n{good}"),
        format!("{good}\r\n\r\n"),
    ] {
        assert_eq!(hold(changed.as_bytes()), 2, "{changed}");
    }
}

/// The pieces of our signer give the very signature of RFC 8463 appendix A.3, whose algorithm is deterministic.
#[test]
fn the_signature_of_rfc_8463_comes_out() {
    let section = "From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner \
ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n";
    let value = " v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; \
s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n \
bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=";
    let names = ["from", "to", "subject", "date", "message-id", "from", "subject", "date"];
    let covered = covered(&cut(section.as_bytes()), &names, value);
    let key = ed25519_of(&STANDARD.decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap());
    assert_eq!(key.public_text(), "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    assert_eq!(
        key.sign(&covered).unwrap(),
        "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
    );
}

#[test]
fn where_pieces_end_makes_no_difference_and_a_field_of_ours_is_signed_too() {
    let whole = content(LETTER.as_bytes(), usize::MAX);
    for piece in 1..20 {
        assert_eq!(content(LETTER.as_bytes(), piece), whole);
    }
    for odd in ["", "\r\n", "\r\nbody", "A: b\r\n", "A: b\r\n\r\n"] {
        assert_eq!(content(odd.as_bytes(), 1), content(odd.as_bytes(), 100), "{odd:?}");
    }
    let mut signable = Signable::default();
    let without = LETTER.replace("Message-ID: <1@a.nl>\r\n", "");
    signable.push(b"Message-ID: <2@a.nl>\r\n");
    signable.push(without.as_bytes());
    let top = content(format!("Message-ID: <2@a.nl>\r\n{without}").as_bytes(), 100);
    assert_eq!(signable.finish(), top);
}

#[test]
fn a_header_that_would_cost_a_verifier_too_much_is_not_signed() {
    let letter = format!("{}{LETTER}", "Cc: x@b.nl\r\n".repeat(300));
    let (domain, key) = ("a.nl".parse().unwrap(), ed25519());
    let signed = Signer { domain: &domain, selector: "s", key: &key, also: None }
        .sign(&content(letter.as_bytes(), 100), Timestamp::UNIX_EPOCH);
    assert!(matches!(signed, Err(Unsigned::TooManyFields(_))));
}

/// Proves: +SIGN-003 -SIGN-003
#[test]
fn weak_and_other_keys_are_refused() {
    for (kind, key) in [("Ed25519", &ed25519()), ("RSA 2048 bits", rsa())] {
        assert_eq!(key.to_string(), kind);
    }
    let refused = |pem: &str| SigningKey::from_pem(pem.as_bytes()).unwrap_err();
    assert_eq!(refused(RSA_1024), SigningKeyError::Length(1024));
    assert_eq!(refused("x"), SigningKeyError::NoKey);
    assert_eq!(refused(&pem("PRIVATE KEY", b"x")), SigningKeyError::Kind);
    let ecdsa = rcgen::KeyPair::generate().unwrap().serialize_pem();
    assert_eq!(refused(&ecdsa), SigningKeyError::Kind);
    assert_eq!(refused(&rsa_pem(KeySize::Rsa8192)), SigningKeyError::Length(8192));
}

#[test]
fn a_published_record_is_compared_by_what_it_means() {
    let key = ed25519();
    let public = key.public_text();
    for (record, same) in [
        (key.record(), true),
        (format!("k=ed25519;p={public}"), true),
        (format!("v=DKIM1; h=sha1:sha256; s=*; k = ed25519 ; p = {} {};", &public[..9], &public[9..]), true),
        (format!("v=DKIM1; k=rsa; p={public}"), false),
        (format!("v=DKIM1; p={public}"), false),
        (format!("v=DKIM1; k=ed25519; t=y; p={public}"), false),
        (format!("v=DKIM1; k=ed25519; h=sha1; p={public}"), false),
        (format!("v=DKIM1; k=ed25519; s=tlsrpt; p={public}"), false),
        ("v=DKIM1; k=ed25519; p=".to_owned(), false),
        (rsa().record(), false),
    ] {
        assert_eq!(key.is_published_by(record.as_bytes()), same, "{record}");
    }
}

/// A test key, published here and so worth nothing.
const RSA_1024: &str = include_str!("testdata/rsa-1024.pem");
