//! OpenSSL signs and we judge; we sign and OpenSSL judges; what was changed fails with both.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// Each way in which OpenSSL signs: key, arguments, whether that is CAdES.
fn ways() -> Vec<(Kind, Vec<&'static str>, bool)> {
    let mut ways = Vec::new();
    for kind in Kind::ALL {
        for md in ["sha256", "sha384", "sha512"] {
            ways.push((kind, vec!["-md", md], false));
        }
        ways.push((kind, vec!["-cades"], true));
        ways.push((kind, vec!["-cades", "-md", "sha512", "-keyid"], true));
        ways.push((kind, vec!["-cades", "-nodetach"], true));
        ways.push((kind, vec!["-nodetach", "-stream", "-indef"], false));
    }
    for md in ["sha256", "sha384", "sha512"] {
        let pss = ["-md", md, "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:digest"];
        ways.push((Kind::Rsa, [&pss[..], &["-cades"]].concat(), true));
    }
    ways
}

/// Proves: +SMIME-002 +SMIME-003 +SMIME-005
#[test]
fn what_openssl_signs_passes() {
    let openssl = OpenSsl::new();
    let mailboxes = Kind::ALL.map(|kind| (kind, Pki::shared().author(kind)));
    for (kind, arguments, cades) in ways() {
        let mailbox = &mailboxes.iter().find(|(of, _)| *of == kind).unwrap().1;
        let message = openssl.sign(mailbox, &arguments);
        let what = format!("{kind:?} {arguments:?}: {}", String::from_utf8_lossy(&message));
        assert!(openssl.accepts(&message, cades), "{what}");
        let verdict = judge(&message, Some(&Pki::shared().anchors())).unwrap();
        assert_eq!(
            (verdict.facts.verdict.as_str(), verdict.facts.cades),
            ("pass", cades),
            "{verdict:?} {what}"
        );
        assert_eq!(verdict.facts.signer.as_deref(), Some(AUTHOR));
        assert_eq!(verdict.facts.subject.as_deref(), Some("CN=Jan Jansen"));
        assert_eq!(verdict.facts.issuer.as_deref(), Some("CN=Mail, issuing"));
        let identity = verdict.result.identity.unwrap();
        assert_eq!((identity.address.to_string().as_str(), &*identity.issuer), (AUTHOR, "CN=Mail, issuing"));
    }
}

/// A message whose signature part is changed so.
fn with_signature(message: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let text = std::str::from_utf8(message).unwrap();
    let start = text.find("smime.p7s\"\r\n\r\n").unwrap() + "smime.p7s\"\r\n\r\n".len();
    let end = start + text[start..].find("\r\n-").unwrap();
    let mut octets = STANDARD.decode(text[start..end].replace("\r\n", "")).unwrap();
    change(&mut octets);
    let encoded = STANDARD.encode(octets);
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("{}{}\r\n{}", &text[..start], lines.join("\r\n"), &text[end..]).into_bytes()
}

fn flip_behind(octets: &mut [u8], needle: &[u8], distance: usize) {
    let at = memchr::memmem::rfind(octets, needle).unwrap() + needle.len() + distance;
    octets[at] ^= 1;
}

/// Proves: -SMIME-003
#[test]
fn one_flipped_bit_fails_here_and_there() {
    let openssl = OpenSsl::new();
    for kind in Kind::ALL {
        let mailbox = Pki::shared().author(kind);
        for message in [openssl.sign(&mailbox, &["-cades"]), signed(mailbox.signer(), SECTION, BODY)] {
            assert!(openssl.accepts(&message, true));
            let body = String::from_utf8(message.clone()).unwrap().replacen("zover", "zoveR", 1).into_bytes();
            let digest = with_signature(&message, |octets| {
                flip_behind(octets, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04], 6);
            });
            let time = with_signature(&message, |octets| {
                flip_behind(octets, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x05], 8);
            });
            let signature = with_signature(&message, |octets| {
                let last = octets.len() - 1;
                octets[last] ^= 1;
            });
            for (what, changed, detail) in [
                ("body", body, "the content is not the one that was signed"),
                ("digest", digest, "the content is not the one that was signed"),
                ("signing time", time, "the signature is wrong"),
                ("signature", signature, "the signature is wrong"),
            ] {
                assert!(!openssl.accepts(&changed, true), "{kind:?} {what}");
                assert_eq!(word(&changed), ("fail".into(), detail.into()), "{kind:?} {what}");
            }
            assert_eq!(word(&with_signature(&message, |_| ())).0, "pass");
        }
    }
}

/// Proves: +SMIME-004 -SMIME-004
#[test]
fn what_rests_on_old_hashes_or_signs_no_attributes_does_not_count() {
    let openssl = OpenSsl::new();
    let mailbox = Pki::shared().author(Kind::Rsa);
    for (arguments, expected) in [
        (vec!["-md", "sha1"], ("policy", "it rests on SHA-1 or MD5")),
        (vec!["-noattr"], ("policy", "there are no signed attributes")),
        (vec!["-noattr", "-nodetach"], ("policy", "there are no signed attributes")),
        (
            vec!["-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_mgf1_md:sha1"],
            ("policy", "it rests on SHA-1 or MD5"),
        ),
        (vec!["-md", "sha224"], ("neutral", "an algorithm that is not known here")),
        (vec!["-md", "sha256"], ("pass", "")),
    ] {
        let message = openssl.sign(&mailbox, &arguments);
        assert_eq!(word(&message), (expected.0.into(), expected.1.into()), "{arguments:?}");
    }
    // No library of ours takes such a key into its hands any more.
    let key = crate::transport::tls::testing::rsa_1024().1;
    openssl.file("weak.key", key.as_bytes());
    let name = ["-subj", "/CN=weak", "-addext", "subjectAltName=email:jan@a.example"];
    let made = openssl.run(&[&["req", "-x509", "-key", "weak.key", "-out", "weak.pem"], &name[..]].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let chain = std::fs::read_to_string(openssl.dir.path().join("weak.pem")).unwrap();
    let message = openssl.sign(&Mailbox { chain, key }, &[]);
    assert_eq!(word(&message), ("policy".into(), "the key is too short".into()));
}

/// Proves: +SMIME-008
#[test]
fn what_is_encrypted_is_noted_and_a_missing_certificate_too() {
    let openssl = OpenSsl::new();
    let mailbox = Pki::shared().author(Kind::Rsa);
    let encrypted = openssl.make(&mailbox, ENTITY, &["-encrypt", "-aes256", "chain.pem"]);
    assert_eq!(word(&encrypted).0, "encrypted", "{}", String::from_utf8_lossy(&encrypted));
    // What says nothing of its kind is told by its content.
    let silent = String::from_utf8(encrypted).unwrap().replace("smime-type=enveloped-data;", "");
    assert_eq!(word(silent.as_bytes()).0, "encrypted", "{silent}");
    let base = ["-sign", "-signer", "chain.pem", "-inkey", "key.pem", "-nocerts"];
    let bare = openssl.make(&mailbox, ENTITY, &base);
    assert_eq!(word(&bare), ("permerror".into(), "the signer's certificate is not there".into()));
}

/// Proves: +SMIME-012
#[test]
fn what_we_sign_openssl_accepts_as_cades() {
    let openssl = OpenSsl::new();
    for kind in Kind::ALL {
        let signer = Pki::shared().author(kind).signer();
        for (section, body) in [
            (SECTION, BODY),
            ("From: jan@a.example\r\nMIME-Version: 1.0\r\n", "x"),
            (
                "From: jan@a.example\r\nContent-Type: multipart/mixed; boundary=a\r\n",
                "--a\r\n\r\nx\r\n--a--\r\n",
            ),
            ("From: jan@a.example\r\n", ""),
        ] {
            let message = signed(signer.clone(), section, body);
            let text = String::from_utf8_lossy(&message);
            assert!(openssl.accepts(&message, true), "{kind:?} {text}");
            let content = std::fs::read_to_string(openssl.dir.path().join("content")).unwrap();
            assert!(content.ends_with(body), "{content}");
            assert_eq!(word(&message), ("pass".into(), String::new()), "{kind:?} {text}");
        }
    }
}

/// OpenSSL is as strict about the certificate that a signature binds.
/// Proves: -SMIME-005 -SMIME-012
#[test]
fn another_certificate_for_the_same_key_fails_where_one_is_bound() {
    let openssl = OpenSsl::new();
    let key = Kind::P256.key();
    let mut params = mailbox(AUTHOR);
    params.serial_number = Some(vec![7; 8].into());
    let first = Pki::shared().issue(&params, &key);
    params.distinguished_name.push(DnType::OrganizationName, "Somebody else's department");
    let second = Pki::shared().issue(&params, &key);
    let der = |mailbox: &Mailbox| crate::transport::tls::testing::certificates(&mailbox.chain)[0].to_vec();
    let swap = |message: &[u8]| {
        with_signature(message, |octets| {
            // Lengths change, so the whole is put together again.
            let old = super::super::ber::to_der(octets).unwrap();
            *octets = replaced(&old, &der(&first), &der(&second));
        })
    };
    for (arguments, expected) in [(vec!["-cades"], "fail"), (vec![], "pass")] {
        let message = openssl.sign(&first, &arguments);
        let swapped = swap(&message);
        let cades = expected == "fail";
        assert_eq!((openssl.accepts(&message, cades), openssl.accepts(&swapped, cades)), (true, !cades));
        assert_eq!((word(&message).0.as_str(), word(&swapped).0.as_str()), ("pass", expected));
    }
    let ours = signed(first.signer(), SECTION, BODY);
    assert!(openssl.accepts(&ours, true) && !openssl.accepts(&swap(&ours), true));
    assert_eq!(word(&swap(&ours)), ("fail".into(), "it was signed with another certificate".into()));
}

/// DER with one element in the place of another, wherever that stands, and every length around it corrected.
fn replaced(der: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    use super::super::ber::{Der, push};
    let (mut reader, mut out) = (Der::new(der), Vec::new());
    while let Some(element) = reader.next().unwrap() {
        if element.raw == old {
            out.extend_from_slice(new);
        } else if element.tag & 0x20 != 0 {
            push(&mut out, element.tag, &replaced(element.content, old, new));
        } else {
            out.extend_from_slice(element.raw);
        }
    }
    out
}
