#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use mail_auth::common::crypto::{DkimKey, Ed25519Key, RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{Canonicalization, DkimSigner, Done};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::super::dkim::SIGNATURES_MAX;
use super::super::results::DkimWord;
use super::names::testing::Table;
use super::*;

const MESSAGE: &str = "From: Jan <jan@a.nl>\r\nTo: b@b.nl\r\nSubject: Een\r\n  uitslag\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n\r\nHallo  daar \r\n\r\n";
const SIGNED: [&str; 4] = ["From", "To", "Subject", "Date"];

fn rsa_der() -> &'static [u8] {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
        der.as_ref().to_vec()
    })
}

fn rsa() -> RsaKey<Sha256> {
    RsaKey::from_key_der(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(rsa_der()))).unwrap()
}

fn ed_public() -> Vec<u8> {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap().public_key().as_ref().to_vec()
}

fn ed() -> Ed25519Key {
    Ed25519Key::from_seed_and_public_key(&[7; 32], &ed_public()).unwrap()
}

fn rsa_record() -> String {
    format!("TXT v=DKIM1; k=rsa; p={}", STANDARD.encode(rsa().public_key()))
}

fn ed_record() -> String {
    format!("TXT v=DKIM1; k=ed25519; p={}", STANDARD.encode(ed_public()))
}

fn signer(key: DkimKey, domain: &str, selector: &str) -> DkimSigner<DkimKey, Done> {
    DkimSigner::from_key(key)
        .domain(domain)
        .selector(selector)
        .headers(SIGNED)
        .header_canonicalization(Canonicalization::Relaxed)
        .body_canonicalization(Canonicalization::Relaxed)
}

fn put_on(signer: &DkimSigner<DkimKey, Done>, message: &str) -> String {
    format!("{}{message}", signer.sign(message.as_bytes()).unwrap().to_header())
}

/// Signed by `d=a.nl` with its RSA key.
fn signed() -> String {
    put_on(&signer(rsa().into(), "a.nl", "rsa"), MESSAGE)
}

/// The names of a domain that does everything right.
fn good() -> Table {
    Table::new(&[
        ("a.nl", "TXT v=NTA7516-1;startdate=2026-01;enddate=2028-12;provider=A"),
        ("a.nl", "TXT v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"),
        ("_dmarc.a.nl", "TXT v=DMARC1; p=reject"),
        ("rsa._domainkey.a.nl", &rsa_record()),
        ("ed._domainkey.a.nl", &ed_record()),
    ])
}

/// How a message comes in the good case; each test changes one thing.
struct Case {
    table: Table,
    content: String,
    mail_from: &'static str,
    helo: &'static str,
    ip: &'static str,
    from_domain: &'static str,
    now: Timestamp,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            table: good(),
            content: signed(),
            mail_from: "jan@a.nl",
            helo: "out.a.nl",
            ip: "192.0.2.25",
            from_domain: "a.nl",
            now: Timestamp::now(),
        }
    }
}

async fn run(case: Case) -> Judged {
    let mut case = case;
    let mail_from = ReversePath::from(case.mail_from.to_owned());
    let input = Input {
        client_ip: case.ip.parse().unwrap(),
        helo: &GivenName::read(case.helo),
        mail_from: &mail_from,
        from_domain: &case.from_domain.parse().unwrap(),
        evidence: &Evidence::of(case.content.as_bytes()),
        host: &"nta.b.nl".parse().unwrap(),
    };
    judge(&mut case.table, &input, case.now).await
}

async fn reason(case: Case) -> Option<Reason> {
    run(case).await.verdict.err().map(|(reason, _)| reason)
}

/// A case with this content.
fn content(content: impl Into<String>) -> Case {
    Case { content: content.into(), ..Case::default() }
}

/// A case in which the names were changed.
fn names(change: impl FnOnce(&mut Table)) -> Case {
    let mut case = Case::default();
    change(&mut case.table);
    case
}

/// A case in which `name` has only these records.
fn instead(name: &str, records: &[&str]) -> Case {
    names(|table| {
        table.txt.remove(name);
        for record in records {
            table.add(name, record);
        }
    })
}

/// Proves: +IDEN-016
#[tokio::test]
async fn a_message_that_proves_its_sender_passes() {
    use Canonicalization::{Relaxed, Simple};
    let judged = run(Case::default()).await;
    assert_eq!(judged.verdict, Ok(()));
    assert_eq!((judged.facts.spf.as_deref(), judged.facts.dmarc.as_deref()), (Some("pass"), Some("pass")));
    assert_eq!(judged.facts.dkim, ["pass d=a.nl"]);
    assert_eq!(judged.facts.from_domain, Some("a.nl".parse().unwrap()));
    assert!(judged.warnings.is_empty());

    for (header, body) in [(Relaxed, Simple), (Simple, Relaxed), (Simple, Simple)] {
        for (key, selector) in [(DkimKey::from(rsa()), "rsa"), (DkimKey::from(ed()), "ed")] {
            let signer =
                signer(key, "a.nl", selector).header_canonicalization(header).body_canonicalization(body);
            assert_eq!(
                reason(content(put_on(&signer, MESSAGE))).await,
                None,
                "{header:?} {body:?} {selector}"
            );
        }
    }
    let both = put_on(&signer(ed().into(), "a.nl", "ed"), &signed());
    assert_eq!(run(content(both)).await.facts.dkim, ["pass d=a.nl", "pass d=a.nl"]);

    let bounce = Case {
        mail_from: "x@bounce.a.nl",
        ..names(|table| table.add("bounce.a.nl", "TXT v=spf1 ip4:192.0.2.25 -all"))
    };
    assert_eq!(reason(bounce).await, None);
    assert_eq!(reason(Case { ip: "2001:db8::1", ..Case::default() }).await, None);
    assert_eq!(reason(Case { ip: "::ffff:192.0.2.1", ..Case::default() }).await, None);
}

/// Proves: +IDEN-016 -IDEN-016
#[tokio::test]
async fn the_null_sender_is_judged_by_its_ehlo_name() {
    let null = |helo, record: &'static str| Case {
        mail_from: "",
        helo,
        ..names(|table| table.add("out.a.nl", record))
    };
    let passed = run(null("out.a.nl", "TXT v=spf1 ip4:192.0.2.25 -all")).await;
    assert_eq!(passed.verdict, Ok(()));
    assert_eq!(passed.results.spf.identity, SpfIdentity::Helo(Some("out.a.nl".parse().unwrap())));
    for (helo, record) in [
        ("out.a.nl", "TXT v=spf1 -all"),
        ("other.a.nl", "TXT v=spf1 +all"),
        ("[192.0.2.25]", "TXT v=spf1 +all"),
        ("nonsense()", "TXT v=spf1 +all"),
    ] {
        assert_eq!(reason(null(helo, record)).await, Some(Reason::SpfFailed), "{helo} {record}");
    }
}

/// Proves: -IDEN-016 +IDEN-022 -IDEN-022
#[tokio::test]
async fn t06_what_was_signed_is_what_must_come() {
    let dkim = Some(Reason::DkimFailed);
    for (change, with) in [
        ("Hallo", "Dag"),
        ("Subject: Een", "Subject: Geen"),
        ("Jan <jan@a.nl>", "Piet <piet@a.nl>"),
        ("b@b.nl", "c@b.nl"),
        ("daar \r\n\r\n", "daar \r\n\r\nen meer\r\n"),
        ("s=rsa;", "s=ed;"),
        ("s=rsa;", "s=none;"),
        ("v=1;", "v=2;"),
        ("v=1;", ""),
        ("a=rsa-sha256", "a=rsa-sha1"),
        ("a=rsa-sha256", "a=ed25519-sha256"),
        ("d=a.nl", "d=b.nl"),
        ("d=a.nl", "d=nl"),
        ("bh=", "xx="),
        (":From;", ":X-From;"),
        ("DKIM-Signature:", "X-Signature:"),
    ] {
        let message = signed();
        assert!(message.contains(change), "{change} is not in {message}");
        let changed = message.replacen(change, with, 1);
        assert_eq!(reason(content(changed)).await, dkim, "{change:?} -> {with:?}");
    }
    assert_eq!(reason(content(MESSAGE)).await, dkim);
    let untouched = signed().replace("Hallo  daar", "Hallo daar");
    assert_eq!(reason(content(untouched)).await, None, "relaxed admits what relaxed admits");
}

/// Proves: -IDEN-016 +IDEN-022 -IDEN-022
#[tokio::test]
async fn t06_signatures_that_verify_and_do_not_count() {
    let with = |change: fn(DkimSigner<DkimKey, Done>) -> DkimSigner<DkimKey, Done>| {
        content(put_on(&change(signer(rsa().into(), "a.nl", "rsa")), MESSAGE))
    };
    let policy = |judged: &Judged| judged.results.dkim[0].word;

    let part = run(with(|signer| signer.body_length(true))).await;
    assert_eq!((policy(&part), part.verdict.unwrap_err().0), (DkimWord::Policy, Reason::DkimFailed));
    let foreign = run(with(|signer| signer.agent_user_identifier("jan@b.nl"))).await;
    assert_eq!((policy(&foreign), foreign.verdict.unwrap_err().0), (DkimWord::Permerror, Reason::DkimFailed));
    let below = run(with(|signer| signer.agent_user_identifier("jan@team.a.nl"))).await;
    assert_eq!(below.verdict, Ok(()));

    let expires = || with(|signer| signer.expiration(3600));
    assert_eq!(reason(expires()).await, None);
    let late = Case { now: Timestamp::now() + SignedDuration::from_hours(2), ..expires() };
    let late = run(late).await;
    assert_eq!((policy(&late), late.verdict.unwrap_err().0), (DkimWord::Policy, Reason::DkimFailed));

    let without_from =
        DkimSigner::from_key(DkimKey::from(rsa())).domain("a.nl").selector("rsa").headers(["To", "Subject"]);
    let judged = run(content(put_on(&without_from, MESSAGE))).await;
    assert_eq!((policy(&judged), judged.verdict.unwrap_err().0), (DkimWord::Permerror, Reason::DkimFailed));

    let many: Vec<String> =
        SIGNED.iter().map(ToString::to_string).chain((0..300).map(|n| format!("x-{n}"))).collect();
    let many = DkimSigner::from_key(DkimKey::from(rsa())).domain("a.nl").selector("rsa").headers(many);
    let judged = run(content(put_on(&many, MESSAGE))).await;
    assert_eq!((policy(&judged), judged.verdict.unwrap_err().0), (DkimWord::Policy, Reason::DkimFailed));
}

/// Proves: -IDEN-016
#[tokio::test]
async fn t27_a_stranger_cannot_choose_how_much_is_looked_up() {
    let mut message = signed();
    for n in 0..SIGNATURES_MAX {
        message = put_on(&signer(ed().into(), &format!("x{n}.evil.nl"), "ed"), &message);
    }
    let mut case = content(message);
    let input_name = "nta.b.nl".parse().unwrap();
    let mail_from = ReversePath::from("jan@a.nl".to_owned());
    let input = Input {
        client_ip: case.ip.parse().unwrap(),
        helo: &GivenName::Other,
        mail_from: &mail_from,
        from_domain: &case.from_domain.parse().unwrap(),
        evidence: &Evidence::of(case.content.as_bytes()),
        host: &input_name,
    };
    let judged = judge(&mut case.table, &input, case.now).await;
    assert_eq!(judged.verdict.unwrap_err().0, Reason::DkimFailed);
    let keys = case.table.asked.iter().filter(|question| question.contains("._domainkey.")).count();
    assert_eq!(keys, SIGNATURES_MAX);
    assert_eq!(judged.results.dkim.len(), SIGNATURES_MAX + 1);
}

/// Proves: +JUDGE-006 -JUDGE-006
#[tokio::test]
async fn t27_signatures_beyond_the_tenth_are_not_judged() {
    let mut message = signed();
    for n in 1..SIGNATURES_MAX {
        message = put_on(&signer(ed().into(), &format!("x{n}.evil.nl"), "ed"), &message);
    }
    // As many as are judged, the good one last; then one more on top.
    let judged = run(content(message.clone())).await;
    assert_eq!((judged.results.dkim.len(), judged.proofs), (SIGNATURES_MAX, Proofs::PASS));
    let judged = run(content(put_on(&signer(ed().into(), "evil.nl", "ed"), &message))).await;
    assert_eq!((judged.results.dkim.len(), judged.proofs.dkim), (SIGNATURES_MAX + 1, Proof::Fail));
    assert_eq!(judged.facts.dkim.last().map(String::as_str), Some("policy"));
}

/// Proves: +JUDGE-008
#[tokio::test]
async fn seals_are_recorded_and_decide_nothing() {
    let seal = "ARC-Seal: i=1; a=rsa-sha256; cv=fail; d=list.nl; s=s; b=AA==\r\n";
    let sealed = run(content(format!("{seal}{}", signed()))).await;
    assert_eq!((sealed.verdict, sealed.facts.arc.unwrap().cv.as_str()), (Ok(()), "fail"));
    let unsigned = run(content(format!("{}{MESSAGE}", seal.replace("fail", "pass")))).await;
    assert_eq!(unsigned.verdict.unwrap_err().0, Reason::DkimFailed);
}

/// Proves: -IDEN-016 +IDEN-022 -IDEN-022
#[tokio::test]
async fn dkim_keys_that_are_none() {
    let key = "rsa._domainkey.a.nl";
    let good = rsa_record();
    let base = good.strip_prefix("TXT ").unwrap();
    let short = {
        // RSAPublicKey of 512 bits: SEQUENCE { INTEGER, INTEGER 65537 }.
        let mut der = vec![0x30, 0x48, 0x02, 0x41, 0x00];
        der.extend([0xC5; 64]);
        der.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
        format!("TXT v=DKIM1; p={}", STANDARD.encode(der))
    };
    for (why, records, expected) in [
        ("as it should be", vec![good.clone()], None),
        ("all tags", vec![format!("TXT {base}; h=sha1:sha256; s=email; t=s; n=x")], None),
        ("none", vec![], Some(Reason::DkimFailed)),
        ("revoked", vec!["TXT v=DKIM1; p=".to_owned()], Some(Reason::DkimFailed)),
        ("malformed", vec!["TXT v=DKIM1; k=rsa".to_owned()], Some(Reason::DkimFailed)),
        (
            "another version",
            vec![format!("TXT {}", base.replace("DKIM1", "DKIM2"))],
            Some(Reason::DkimFailed),
        ),
        ("two", vec![good.clone(), ed_record()], Some(Reason::DkimFailed)),
        ("of another kind", vec![ed_record()], Some(Reason::DkimFailed)),
        ("in test mode", vec![format!("TXT {base}; t=y")], Some(Reason::DkimFailed)),
        ("in test mode too", vec![format!("TXT {base}; t=s : y")], Some(Reason::DkimFailed)),
        ("not for mail", vec![format!("TXT {base}; s=tlsrpt")], Some(Reason::DkimFailed)),
        ("for sha1", vec![format!("TXT {base}; h=sha1")], Some(Reason::DkimFailed)),
        ("too short", vec![short], Some(Reason::DkimFailed)),
        ("not signed", vec![good.clone(), "UNPROVEN".to_owned()], Some(Reason::DkimFailed)),
        ("not to be had", vec!["TROUBLE".to_owned()], Some(Reason::TrustDnsTemporary)),
    ] {
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        assert_eq!(reason(instead(key, &records)).await, expected, "{why}");
    }
    let strict_identity = |record: String| {
        let signer = signer(rsa().into(), "a.nl", "rsa").agent_user_identifier("jan@team.a.nl");
        let mut case = instead(key, &[&record]);
        case.content = put_on(&signer, MESSAGE);
        case
    };
    assert_eq!(reason(strict_identity(good.clone())).await, None);
    assert_eq!(reason(strict_identity(format!("TXT {base}; t=s"))).await, Some(Reason::DkimFailed));
}

/// Proves: -IDEN-016
#[tokio::test]
async fn one_good_signature_is_enough_and_no_bad_one_hides_it() {
    // Its own is good; another one's key can't be had, is missing, or does not verify.
    let foreign = put_on(&signer(ed().into(), "list.example.nl", "ed"), &signed());
    for verdict in ["TROUBLE", "UNPROVEN", "TXT v=DKIM1; p=AAAA"] {
        let mut case = content(foreign.clone());
        case.table.add("ed._domainkey.list.example.nl", verdict);
        assert_eq!(reason(case).await, None, "{verdict}");
    }
    // Its own is broken: another one's good signature does not replace it, and its trouble excuses nothing.
    let broken = signed().replacen("Hallo", "Dag", 1);
    let rescued = put_on(&signer(ed().into(), "list.example.nl", "ed"), &broken);
    let record = ed_record();
    for verdict in [record.as_str(), "TROUBLE"] {
        let mut case = content(rescued.clone());
        case.table.add("ed._domainkey.list.example.nl", verdict);
        assert_eq!(reason(case).await, Some(Reason::DkimFailed), "{verdict}");
    }
    // One of its own can't be judged now, the other is broken.
    let half = put_on(&signer(ed().into(), "a.nl", "ed"), &broken);
    let case = Case { content: half, ..instead("ed._domainkey.a.nl", &["TROUBLE"]) };
    assert_eq!(reason(case).await, Some(Reason::TrustDnsTemporary));
}

/// Proves: +IDEN-016 -IDEN-016
#[tokio::test]
async fn dmarc_decides_what_is_aligned() {
    let dkim = Some(Reason::DkimFailed);
    // Signed by this domain, with From: of that, under these policy records.
    for (d, from, records, expected) in [
        ("a.nl", "a.nl", vec![("_dmarc.a.nl", "TXT v=DMARC1; p=reject; adkim=s")], None),
        ("a.nl", "a.nl", vec![("_dmarc.a.nl", "TXT v=DMARC1;p=none")], None),
        ("mail.a.nl", "a.nl", vec![("_dmarc.a.nl", "TXT v=DMARC1; p=reject")], None),
        ("mail.a.nl", "a.nl", vec![("_dmarc.a.nl", "TXT v=DMARC1; p=reject; adkim=s")], dkim),
        ("a.nl", "www.a.nl", vec![("_dmarc.a.nl", "TXT v=DMARC1; p=reject")], None),
        ("a.nl", "www.a.nl", vec![("_dmarc.a.nl", "TXT v=DMARC1; p=reject; adkim=s")], dkim),
        ("mail.a.nl", "www.a.nl", vec![("_dmarc.a.nl", "TXT v=DMARC1; p=reject")], None),
        ("b.nl", "a.nl", vec![("_dmarc.a.nl", "TXT v=DMARC1; p=reject")], dkim),
        ("ba.nl", "a.nl", vec![("_dmarc.a.nl", "TXT v=DMARC1; p=reject")], dkim),
        // A public suffix with a record of its own: neighbours below it are strangers.
        ("b.nl", "a.nl", vec![("_dmarc.nl", "TXT v=DMARC1; p=reject; psd=y")], dkim),
        ("a.nl", "a.nl", vec![("_dmarc.nl", "TXT v=DMARC1; p=reject; psd=y")], None),
        ("mail.a.nl", "a.nl", vec![("_dmarc.nl", "TXT v=DMARC1; p=reject; psd=y")], None),
        // A department that stands on its own feet.
        (
            "a.nl",
            "dep.a.nl",
            vec![
                ("_dmarc.a.nl", "TXT v=DMARC1; p=reject"),
                ("_dmarc.dep.a.nl", "TXT v=DMARC1; p=reject; psd=n"),
            ],
            dkim,
        ),
    ] {
        let mut case = instead("_dmarc.a.nl", &[]);
        for (name, record) in &records {
            case.table.add(name, record);
        }
        case.table.txt.insert(format!("rsa._domainkey.{d}"), case.table.txt["rsa._domainkey.a.nl"].clone());
        case.content = put_on(&signer(rsa().into(), d, "rsa"), MESSAGE);
        case.from_domain = from;
        assert_eq!(reason(case).await, expected, "d={d} From: {from} {records:?}");
    }
}

/// Proves: -IDEN-016 +IDEN-022 -IDEN-022
#[tokio::test]
async fn dmarc_records_that_are_none() {
    let at = "_dmarc.a.nl";
    let good = "TXT v=DMARC1; p=reject";
    for (why, records, expected) in [
        ("none", vec![], Some(Reason::DmarcFailed)),
        ("something else", vec!["TXT hello"], Some(Reason::DmarcFailed)),
        ("beside something else", vec!["TXT hello", good], None),
        ("two", vec![good, good], Some(Reason::DmarcFailed)),
        ("another version", vec!["TXT v=DMARC2; p=reject"], Some(Reason::DmarcFailed)),
        ("version in another case", vec!["TXT v=dmarc1; p=reject"], Some(Reason::DmarcFailed)),
        ("malformed", vec!["TXT v=DMARC1; p=perhaps"], Some(Reason::DmarcFailed)),
        ("neither policy nor reports", vec!["TXT v=DMARC1"], Some(Reason::DmarcFailed)),
        ("reports only", vec!["TXT v=DMARC1; rua=mailto:d@a.nl"], None),
        ("not signed", vec![good, "UNPROVEN"], Some(Reason::DmarcFailed)),
        ("claimed absent, not signed", vec!["UNPROVEN"], Some(Reason::DmarcFailed)),
        ("not to be had", vec!["TROUBLE"], Some(Reason::TrustDnsTemporary)),
    ] {
        assert_eq!(reason(instead(at, &records)).await, expected, "{why}");
    }
    // The parent can't be asked: perhaps it has the record.
    let mut case = instead(at, &[]);
    case.table.add("_dmarc.nl", "TROUBLE");
    assert_eq!(reason(case).await, Some(Reason::TrustDnsTemporary));
    // A long name takes eight questions.
    let long = "a.b.c.d.e.f.g.h.i.j.k.nl";
    let mut case = Case { from_domain: long, ..instead(at, &[]) };
    assert_eq!(dmarc::check(&mut case.table, &long.parse().unwrap(), &[]).await.word, DmarcWord::None);
    assert_eq!(case.table.asked.len(), 8);
    assert_eq!(
        (case.table.asked[1].as_str(), case.table.asked[7].as_str()),
        ("_dmarc.f.g.h.i.j.k.nl TXT", "_dmarc.nl TXT")
    );
}

/// Proves: -IDEN-016
#[tokio::test]
async fn only_an_spf_pass_is_a_pass() {
    for (records, expected) in [
        (vec!["TXT v=spf1 ip4:192.0.2.25 -all"], None),
        (vec![], Some(Reason::SpfFailed)),
        (vec!["TXT v=spf1 -all"], Some(Reason::SpfFailed)),
        (vec!["TXT v=spf1 ~all"], Some(Reason::SpfFailed)),
        (vec!["TXT v=spf1 ?all"], Some(Reason::SpfFailed)),
        (vec!["TXT v=spf1 ip4:nonsense"], Some(Reason::SpfFailed)),
        (vec!["TXT v=spf1 +all", "TXT v=spf1 +all"], Some(Reason::SpfFailed)),
        (vec!["TROUBLE"], Some(Reason::TrustDnsTemporary)),
    ] {
        assert_eq!(reason(instead("a.nl", &records)).await, expected, "{records:?}");
    }
}

#[tokio::test]
async fn unsigned_answers_for_spf_are_told() {
    let mut case = instead("a.nl", &["TXT v=spf1 include:spf.host.nl -all"]);
    case.table.add("spf.host.nl", "TXT v=spf1 ip4:192.0.2.25 -all");
    case.table.add("spf.host.nl", "UNPROVEN");
    let judged = run(case).await;
    assert_eq!(judged.verdict, Ok(()));
    assert_eq!(judged.warnings, ["SPF rests on answers that are not signed with DNSSEC: spf.host.nl"]);
}

#[tokio::test]
async fn t27_a_library_that_trips_ends_one_judgement_only() {
    assert_eq!(unbroken(async { 1 }).await, Some(1));
    let trips = async {
        tokio::task::yield_now().await;
        assert!(std::hint::black_box(false), "as a library might");
    };
    assert_eq!(unbroken(trips).await, None);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    #[test]
    fn t27_no_content_passes_or_trips_by_chance(
        cut in 0_usize..900,
        octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
    ) {
        let message = signed();
        let cut = cut.min(message.len());
        // Everything but the blanks at the end was signed, in the header or in the body.
        let mut changed = message.as_bytes()[..cut].to_vec();
        changed.extend_from_slice(&octets);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let judged = runtime.block_on(async {
            let mut table = good();
            let mail_from = ReversePath::from("jan@a.nl".to_owned());
            let input = Input {
                client_ip: "192.0.2.25".parse().unwrap(),
                helo: &GivenName::Other,
                mail_from: &mail_from,
                from_domain: &"a.nl".parse().unwrap(),
                evidence: &Evidence::of(&changed),
                    host: &"nta.b.nl".parse().unwrap(),
            };
            judge(&mut table, &input, Timestamp::now()).await
        });
        let whole = cut + "daar \r\n\r\n".len() >= message.len();
        proptest::prop_assert!(whole || judged.verdict.is_err());
    }
}
