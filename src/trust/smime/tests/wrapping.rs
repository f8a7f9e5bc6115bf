//! Which messages are signed, and what of them moves where.

use super::*;

fn begin(section: &str) -> Result<String, NotSigned> {
    let signer = Pki::shared().author(Kind::P256).signer();
    SmimeWrap::begin(section.as_bytes(), signer, "B".into())
        .map(|(_, outer)| String::from_utf8(outer).unwrap())
}

/// Proves: +SMIME-010
#[test]
fn what_says_something_of_the_content_moves_in_and_nothing_else_changes() {
    let outer = begin(
        "From: jan@a.example\r\ncontent-TYPE: text/plain;\r\n charset=x\r\nSubject: a\r\n b\r\nContent-Foo: y\r\n",
    );
    assert_eq!(
        outer.unwrap(),
        "From: jan@a.example\r\nSubject: a\r\n b\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\";\r\n micalg=sha-256;\r\n boundary=\"B\"\r\n\r\n\
         --B\r\ncontent-TYPE: text/plain;\r\n charset=x\r\nContent-Foo: y\r\n\r\n"
    );
    let outer = begin("Mime-version: 1.0\r\nContent-Transfer-Encoding: 8BIT\r\n").unwrap();
    assert_eq!(outer.to_lowercase().matches("mime-version").count(), 1);
    assert_eq!(outer.matches("Content-Transfer-Encoding: 8bit\r\n\r\n--B").count(), 1, "{outer}");
    assert!(outer.ends_with("--B\r\nContent-Transfer-Encoding: 8BIT\r\n\r\n"));
}

/// Proves: +SMIME-011 -SMIME-011
#[test]
fn what_is_signed_or_doubtful_is_left_alone() {
    for kind in [
        "multipart/signed; protocol=\"application/pgp-signature\"; boundary=a",
        "Multipart/Encrypted; boundary=a",
        "application/pkcs7-mime; smime-type=enveloped-data",
        "application/x-pkcs7-mime",
    ] {
        assert_eq!(begin(&format!("Content-Type: {kind}\r\n")), Err(NotSigned::Already), "{kind}");
    }
    for (section, field) in [
        ("Content-Type: text/plain\r\nContent-type: text/html\r\n", "content-type"),
        ("Content-Type : text/plain\r\n", "content-type"),
        ("Content-Type: text\r\n", "content-type"),
        (
            "Content-Transfer-Encoding: 8bit\r\ncontent-transfer-encoding: 7bit\r\n",
            "content-transfer-encoding",
        ),
        ("MIME-Version: 1.0\r\nMIME-Version: 1.0\r\n", "mime-version"),
        ("no field\r\n", "the header section"),
    ] {
        assert_eq!(begin(section), Err(NotSigned::Doubtful(field)), "{section}");
    }
    for signed in [
        "",
        "Content-Type: multipart/mixed; boundary=a\r\n",
        "Content-Type: multipart/report; boundary=a\r\n",
    ] {
        assert!(begin(signed).is_ok(), "{signed}");
    }
}

/// Proves: -SMIME-014
#[test]
fn certificates_that_do_not_fit_are_refused() {
    let pki = Pki::shared();
    let good = pki.author(Kind::P256);
    let from = |chain: &str, key: &str| SmimeSigner::from_pem(chain.as_bytes(), key.as_bytes()).map(|_| ());
    assert_eq!(from(&good.chain, &good.key), Ok(()));
    for other in [pki.author(Kind::P256), pki.author(Kind::P384), pki.author(Kind::Rsa)] {
        assert_eq!(from(&good.chain, &other.key), Err(SmimeKeyError::Mismatch));
        assert_eq!(from(&other.chain, &good.key), Err(SmimeKeyError::Mismatch));
    }
    assert_eq!(from(&good.chain, &good.chain), Err(SmimeKeyError::NoKey));
    assert!(matches!(from("", &good.key), Err(SmimeKeyError::Chain(_))));
    assert!(matches!(from(&good.chain.repeat(5), &good.key), Err(SmimeKeyError::Chain(_))));
    let key = Kind::P256.key();
    let mut params = mailbox(AUTHOR);
    params.subject_alt_names.clear();
    let nameless = pki.issue(&params, &key);
    assert_eq!(from(&nameless.chain, &nameless.key), Err(SmimeKeyError::NoAddress));
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let ed25519 = pki.issue(&mailbox(AUTHOR), &ed25519);
    assert_eq!(from(&ed25519.chain, &ed25519.key), Err(SmimeKeyError::Kind));
    for pem in ["", &good.chain] {
        assert!(MailAnchors::from_pem(pem.as_bytes()).is_err());
    }
}
