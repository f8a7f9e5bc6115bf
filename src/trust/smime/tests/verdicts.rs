//! What a signature is worth, with one thing wrong at a time; and messages in which nothing is to be judged.

use proptest::prelude::*;

use super::*;

fn author() -> &'static Mailbox {
    static AUTHOR: OnceLock<Mailbox> = OnceLock::new();
    AUTHOR.get_or_init(|| Pki::shared().author(Kind::P256))
}

fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| signed(author().signer(), SECTION, BODY))
}

fn text() -> String {
    String::from_utf8(good().to_vec()).unwrap()
}

/// The word over the good message with this in the place of that.
fn changed(old: &str, new: &str) -> (String, String) {
    let text = text();
    assert!(text.contains(old), "{old}");
    word(text.replacen(old, new, 1).as_bytes())
}

fn neutral(detail: &str) -> (String, String) {
    ("neutral".into(), detail.into())
}

fn policy(detail: &str) -> (String, String) {
    ("policy".into(), detail.into())
}

/// Proves: +SMIME-006 -SMIME-006
#[test]
fn the_certificate_is_for_who_stands_in_from_or_sender() {
    let anchors = Pki::shared().anchors();
    let case = |from: &str, sender: Option<&str>| {
        let (from, sender): ([Address; 1], Option<Address>) =
            ([from.parse().unwrap()], sender.map(|a| a.parse().unwrap()));
        let case = SmimeCase { from: &from, sender: sender.as_ref(), anchors: Some(&anchors), now: now() };
        let verdict = SmimeEvidence::of(good()).judge(&case).unwrap();
        assert_eq!(verdict.result.identity.is_some(), verdict.facts.verdict == "pass");
        (verdict.facts.verdict, verdict.facts.detail.unwrap_or_default())
    };
    for (from, sender) in
        [("jan@a.example", None), ("Jan@A.example", None), ("piet@b.example", Some("jan@a.example"))]
    {
        assert_eq!(case(from, sender).0, "pass", "{from}");
    }
    let other = policy("the certificate is not for the sender's address");
    for (from, sender) in
        [("piet@a.example", None), ("jan@b.example", Some("jan@x.a.example")), ("jan.jan@a.example", None)]
    {
        assert_eq!(case(from, sender), other, "{from}");
    }
    // The older place of an address: the subject.
    let mut params = mailbox("somebody@b.example");
    params.subject_alt_names.clear();
    let email = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
    params.distinguished_name.push(email, rcgen::DnValue::Ia5String(AUTHOR.try_into().unwrap()));
    let signer = Pki::shared().issue(&params, &Kind::P256.key()).signer();
    assert_eq!(word(&signed(signer, SECTION, BODY)).0, "pass");
}

/// Proves: +SMIME-007 -SMIME-007
#[test]
fn who_vouches_for_the_certificate_is_for_the_operator_to_say() {
    let unjudged = judge(good(), None).unwrap();
    assert_eq!(unjudged.facts.verdict, "neutral");
    assert!(unjudged.facts.detail.unwrap().contains("no authority is configured"));
    assert_eq!(unjudged.result.identity, None);
    let strangers = judge(good(), Some(&Pki::new().anchors())).unwrap();
    assert_eq!(strangers.facts.verdict, "policy");
    assert!(
        strangers
            .facts
            .detail
            .unwrap()
            .starts_with("the certificate does not lead to a configured authority: ")
    );
    let from: [Address; 1] = [AUTHOR.parse().unwrap()];
    let anchors = Pki::shared().anchors();
    for (time, detail) in [
        ("2019-12-31T00:00:00Z", "a certificate is not valid yet"),
        ("2090-01-02T00:00:00Z", "a certificate has expired"),
    ] {
        let now = time.parse().unwrap();
        let case = SmimeCase { from: &from, sender: None, anchors: Some(&anchors), now };
        let facts = SmimeEvidence::of(good()).judge(&case).unwrap().facts;
        assert_eq!((facts.verdict, facts.detail.unwrap()), policy(detail));
    }
}

/// Proves: +SMIME-016 -SMIME-016
#[test]
fn the_signers_own_word_of_the_time_must_fit() {
    let anchors = Pki::shared().anchors();
    let from: [Address; 1] = [AUTHOR.parse().unwrap()];
    let at = |message: &[u8], time: Timestamp| {
        let case = SmimeCase { from: &from, sender: None, anchors: Some(&anchors), now: time };
        SmimeEvidence::of(message).judge(&case).unwrap().facts
    };
    let hour = jiff::SignedDuration::from_hours(1);
    let facts = at(good(), now() - hour);
    assert_eq!((facts.verdict.as_str(), facts.signed_at), ("pass", Some(now())));
    let facts = at(good(), now() - hour - jiff::SignedDuration::from_secs(1));
    let ahead = policy("it says that it was signed after now");
    assert_eq!((facts.verdict, facts.detail.unwrap()), ahead);
    assert_eq!(facts.signed_at, Some(now()), "recorded all the same");

    let mut late = mailbox(AUTHOR);
    late.not_before = date_time_ymd(2027, 1, 1);
    let message = signed(Pki::shared().issue(&late, &Kind::P256.key()).signer(), SECTION, BODY);
    let facts = at(&message, "2027-02-01T00:00:00Z".parse().unwrap());
    let not_valid = policy("it was signed when the certificate was not valid");
    assert_eq!((facts.verdict, facts.detail.unwrap()), not_valid);
}

#[test]
fn times_are_read_as_they_are_written_and_in_no_other_form() {
    for time in [
        "1949-12-31T23:59:59Z",
        "1950-01-01T00:00:00Z",
        "2026-11-26T02:33:00Z",
        "2049-12-31T23:59:59Z",
        "2050-01-01T00:00:00Z",
    ] {
        let time: Timestamp = time.parse().unwrap();
        let written = ber::time(time);
        assert_eq!(ber::read_time(ber::Der::new(&written).next().unwrap().unwrap()), Some(time));
    }
    for (tag, text) in [
        (ber::UTC_TIME, "261126023300+0100"),
        (ber::UTC_TIME, "2611260233Z"),
        (ber::UTC_TIME, "261326023300Z"),
        (ber::UTC_TIME, "26112602330 Z"),
        (ber::GENERALIZED_TIME, "20261126023300.5Z"),
        (ber::GENERALIZED_TIME, "261126023300Z"),
        (ber::OCTET_STRING, "261126023300Z"),
    ] {
        let written = ber::element(tag, text.as_bytes());
        assert_eq!(ber::read_time(ber::Der::new(&written).next().unwrap().unwrap()), None, "{text}");
    }
}

/// Certificates that our own configuration refuses are brought in by OpenSSL.
/// Proves: -SMIME-007
#[test]
fn a_certificate_for_other_things_does_not_count() {
    let openssl = OpenSsl::new();
    let judged = |extended: &[ExtendedKeyUsagePurpose], usage: KeyUsagePurpose| {
        let mut params = mailbox(AUTHOR);
        (params.extended_key_usages, params.key_usages) = (extended.to_vec(), vec![usage]);
        let mailbox = Pki::shared().issue(&params, &Kind::P256.key());
        let word = word(&openssl.sign(&mailbox, &[]));
        let taken = SmimeSigner::from_pem(mailbox.chain.as_bytes(), mailbox.key.as_bytes());
        assert_eq!(
            taken.is_ok(),
            word.0 == "pass",
            "what others would not believe is not signed with: {taken:?}"
        );
        word
    };
    use ExtendedKeyUsagePurpose::{Any, EmailProtection, ServerAuth};
    use KeyUsagePurpose::{ContentCommitment, DigitalSignature, KeyEncipherment};
    let pass = ("pass".to_owned(), String::new());
    assert_eq!(judged(&[ServerAuth, EmailProtection], DigitalSignature), pass);
    assert_eq!(judged(&[Any], ContentCommitment), pass);
    let no_mail = policy("the certificate is not for mail");
    assert_eq!(judged(&[ServerAuth], DigitalSignature), no_mail);
    assert_eq!(judged(&[], DigitalSignature), no_mail);
    assert_eq!(judged(&[EmailProtection], KeyEncipherment), policy("the certificate is not for signing"));
}

/// Proves: -SMIME-002 -SMIME-008
#[test]
fn what_can_be_read_in_two_ways_or_has_another_form_is_not_judged() {
    let form = neutral("the signed message is malformed");
    let boundary = "--=_sluis_0123456789abcdef0123456789abcdef";
    assert_eq!(changed("Beste Piet,", &format!("{boundary}-x")), neutral("a line can be read as a boundary"));
    assert_eq!(changed("Beste Piet,", boundary), form);
    assert_eq!(changed("Beste Piet,", &format!("{boundary}--")), form);
    assert_eq!(changed(&format!("{boundary}--\r\n"), ""), form);
    assert_eq!(
        changed(&format!("{boundary}--\r\n"), &format!("{boundary}\r\n\r\nx\r\n{boundary}--\r\n")),
        form
    );
    assert_eq!(changed("pkcs7-signature; name", "octet-stream; name"), form);
    assert_eq!(changed("Encoding: base64", "Encoding: 7bit"), neutral("the signature is not in Base64"));
    let two_ways = neutral("the content type can be read in two ways");
    assert_eq!(changed("From:", "Content-Type: text/plain\r\nFrom:"), two_ways);
    assert_eq!(changed("micalg=sha-256;", "boundary=x;"), two_ways);
    assert_eq!(changed("micalg=sha-256;", "micalg=sha-256; (comment)"), two_ways);
    let announced = neutral("the message announces another hash than it is signed with");
    assert_eq!(changed("micalg=sha-256;", "micalg=sha-512;"), announced);
    for micalg in ["", "micalg=sha1;", "micalg=unknown;", "micalg=\"sha-512,SHA256\";", "micalg=sha256;"] {
        assert_eq!(changed("micalg=sha-256;", micalg).0, "pass", "{micalg}");
    }
    // What surrounds the parts is nobody's.
    assert_eq!(word(format!("{}\r\nepilogue\r\n{boundary}-x\r\n", text()).as_bytes()).0, "pass");
    assert_eq!(word(text().trim_end().as_bytes()).0, "pass");
    assert_eq!(
        changed(&format!("\r\n{boundary}\r\n"), &format!("\r\npreamble\r\n{boundary} \t\r\n")).0,
        "pass"
    );
}

/// Proves: +SMIME-008
#[test]
fn what_is_inside_another_part_is_noted_and_other_mail_is_left_alone() {
    let (header, body) = {
        let text = text();
        let at = text.find("Content-Type: multipart/signed").unwrap();
        (text[..at].to_owned(), text[at..].to_owned())
    };
    let list = format!(
        "{header}Content-Type: multipart/mixed; boundary=list\r\n\r\n--list\r\n{body}\r\n--list\r\n\r\nfooter\r\n--list--\r\n"
    );
    assert_eq!(word(list.as_bytes()), neutral("a signature inside another part"));
    for other in [
        "From: a@a.example\r\n\r\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"\r\n",
        "From: a@a.example\r\nContent-Type: text/plain\r\n\r\nx\r\n",
        "From: a@a.example\r\nContent-Type: nonsense\r\n\r\nx\r\n",
        "From: a@a.example\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: text/plain\r\n\r\nContent-Type: application/pkcs7-mime\r\n--a--\r\n",
        "From: a@a.example\r\nContent-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=a\r\n\r\n--a\r\n",
        "",
    ] {
        assert_eq!(judge(other.as_bytes(), None), None, "{other}");
    }
    let opaque = |kind: &str| {
        word(format!("Content-Type: application/pkcs7-mime; smime-type={kind}\r\n\r\nx\r\n").as_bytes())
    };
    assert_eq!(opaque("certs-only"), neutral("certificates alone, nothing is signed"));
    assert_eq!(opaque("compressed-data"), neutral("compressed data"));
    assert_eq!(opaque("authEnveloped-data").0, "encrypted");
    assert_eq!(opaque("signed-data"), neutral("the signature is not in Base64"));
}

/// Proves: +SMIME-002 -SMIME-002
#[test]
fn t27_what_is_held_does_not_grow_with_the_content() {
    const LIMIT: usize = 16 << 10;
    let text = text();
    let (head, tail) = text.split_at(text.find("Beste").unwrap());
    let mut watch = SmimeWatch::new(LIMIT);
    watch.push(head.as_bytes());
    let line = [&[b'x'; 998][..], b"\r\n"].concat();
    for _ in 0..2000 {
        watch.push(&line);
        assert!(watch.held() <= 8 << 10, "{}", watch.held());
    }
    watch.push(tail.as_bytes());
    let from: [Address; 1] = [AUTHOR.parse().unwrap()];
    let case = SmimeCase { from: &from, sender: None, anchors: None, now: now() };
    let facts = watch.finish().judge(&case).unwrap().facts;
    assert_eq!(
        (facts.verdict.as_str(), facts.detail.as_deref()),
        ("fail", Some("the content is not the one that was signed"))
    );

    // A signature that does not end, beside the content and in one piece with it.
    let detached = text.split_at(text.find("\r\n\r\nMI").unwrap() + 4).0;
    let opaque = "Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    for (head, end) in [(detached, "\r\n--=_sluis_0123456789abcdef0123456789abcdef--\r\n"), (opaque, "")] {
        let head = &head[..head.rfind("\r\n\r\n").unwrap() + 4];
        let mut watch = SmimeWatch::new(LIMIT);
        watch.push(head.as_bytes());
        for _ in 0..2000 {
            watch.push([&[b'A'; 76][..], b"\r\n"].concat().as_slice());
            assert!(watch.held() <= 2 * LIMIT + (8 << 10), "{}", watch.held());
        }
        watch.push(end.as_bytes());
        assert_eq!(
            watch.finish().judge(&case).unwrap().facts.detail.as_deref(),
            Some("too large to be judged")
        );
    }
}

#[test]
fn several_signers_are_as_good_as_the_worst() {
    let openssl = OpenSsl::new();
    let (first, second) =
        (author().clone(), Pki::shared().issue(&mailbox("piet@a.example"), &Kind::P256.key()));
    openssl.file("second.pem", second.chain.as_bytes());
    openssl.file("second.key", second.key.as_bytes());
    let message = openssl.sign(&first, &["-signer", "second.pem", "-inkey", "second.key"]);
    assert!(openssl.accepts(&message, false));
    assert_eq!(word(&message), policy("2 signers; the certificate is not for the sender's address"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Proves: -SMIME-002
    #[test]
    fn t27_nothing_that_was_changed_makes_a_judge_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..6),
    ) {
        let mut message = good().to_vec();
        for (at, octet, how) in changes {
            let at = at.index(message.len());
            match how {
                0 => message[at] = octet,
                1 => drop(message.remove(at)),
                _ => message.insert(at, octet),
            }
        }
        fuzz(&message);
    }

    /// The same below the Base64.
    /// Proves: -SMIME-002
    #[test]
    fn t27_nothing_in_a_cms_object_makes_a_judge_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        cutting in any::<bool>(),
    ) {
        let mut object = author().signer().sign(&[0; 32], now()).unwrap();
        for (at, octet) in changes {
            let at = at.index(object.len());
            object[at] = octet;
        }
        if cutting {
            object.truncate(cut.index(object.len()));
        }
        fuzz(&object);
    }
}
