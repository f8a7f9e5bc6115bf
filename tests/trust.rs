//! Judging messages against a really signed tree of zones, with one thing wrong at a time.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::DkimSigner;
use sluis::discovery::{
    AddressRule, Anchors, CacheSettings, Discovery, DiscoverySettings, DnsSettings, Trust,
};
use sluis::model::{Reason, ReversePath};
use sluis::trust::{Evidence, GivenName, HeaderLimits, HeaderWatch, Input, Judge, Judged};
use sluis::world::{ManualClock, SeededRandom, World};
use testnet::dns::{DnsServer, Fault, RrType, Tree, Trouble};

const MESSAGE: &str = "From: Jan <jan@a.nl>\r\nTo: b@b.nl\r\nSubject: x\r\n\r\nHallo\r\n";
const KEY: &str = "s1._domainkey.a.nl";
const DMARC: &str = "_dmarc.a.nl";

/// A domain that does everything right, its key behind an alias into another signed zone.
fn tree() -> Tree {
    let public = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap().public_key().as_ref().to_vec();
    let key = format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(public));
    let mut tree = Tree::new();
    tree.zone("a.nl")
        .zone("keys.nl")
        .zone("spf.nl")
        .txt("a.nl", "v=spf1 include:_spf.spf.nl mx -all")
        .mx("a.nl", 10, "mx.a.nl")
        .address("mx.a.nl", "192.0.2.10".parse().unwrap())
        .cname(KEY, "a.keys.nl")
        .txt("a.keys.nl", &key)
        .txt(DMARC, "v=DMARC1; p=reject")
        .txt("_spf.spf.nl", "v=spf1 a:out.spf.nl -all")
        .address("out.spf.nl", "192.0.2.25".parse().unwrap());
    tree
}

fn signed() -> String {
    let seed = [7; 32];
    let public = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_ref().to_vec();
    let key = Ed25519Key::from_seed_and_public_key(&seed, &public).unwrap();
    let signer = DkimSigner::from_key(key).domain("a.nl").selector("s1").headers(["From", "To", "Subject"]);
    format!("{}{MESSAGE}", signer.sign(MESSAGE.as_bytes()).unwrap().to_header())
}

struct Lab {
    dns: DnsServer,
    judge: Judge,
}

async fn lab() -> Lab {
    let dns = DnsServer::start(tree(), Timestamp::now(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let clock = ManualClock::at(Timestamp::now());
    let anchors = Anchors::from_text(&dns.anchor_ds()).unwrap();
    let settings = DiscoverySettings {
        dns: DnsSettings {
            try_timeout: Duration::from_millis(500),
            retries: 0,
            question_timeout: Duration::from_secs(30),
            ..DnsSettings::new(dns.addr(), Trust::Validate(anchors))
        },
        // Trouble is asked for again at once, so that a test can repair and look.
        cache: CacheSettings { trouble: Duration::ZERO, ..CacheSettings::default() },
        addresses: AddressRule::LabToo,
    };
    let world = World::with(clock.clone(), SeededRandom::new(1));
    let discovery = Discovery::start(settings, world).await.unwrap();
    Lab { dns, judge: Judge::new(Arc::new(discovery), clock) }
}

impl Lab {
    async fn judge(&self, ip: &str) -> Judged {
        let content = signed();
        let mut watch = HeaderWatch::new(HeaderLimits::default());
        watch.push(content.as_bytes()).unwrap();
        let facts = watch.finish().unwrap();
        self.judge
            .judge(&Input {
                client_ip: ip.parse().unwrap(),
                helo: &GivenName::read("out.spf.nl"),
                mail_from: &ReversePath::from("jan@a.nl".to_owned()),
                from_domain: &facts.from_domain,
                evidence: &Evidence::of(content.as_bytes()),
                host: &"nta.b.nl".parse().unwrap(),
            })
            .await
    }
}

/// What a judgement with one fault in the tree comes to.
async fn with(fault: Fault) -> (Option<Reason>, Judged) {
    let lab = lab().await;
    lab.dns
        .update(|tree| {
            tree.fault(fault);
        })
        .unwrap();
    let judged = lab.judge("192.0.2.25").await;
    (judged.verdict.clone().err().map(|(reason, _)| reason), judged)
}

/// Proves: +IDEN-016 +IDEN-022
#[tokio::test(flavor = "multi_thread")]
async fn all_look_ups_are_validated_and_on_record() {
    let lab = lab().await;
    for ip in ["192.0.2.25", "192.0.2.10"] {
        let judged = lab.judge(ip).await;
        assert_eq!(judged.verdict, Ok(()), "{ip}");
        assert!(judged.warnings.is_empty());
        assert!(judged.dns.iter().all(|fact| fact.verdict.starts_with("secure")), "{:?}", judged.dns);
        for name in [KEY, DMARC, "a.nl", "_spf.spf.nl", "out.spf.nl"] {
            assert!(judged.dns.iter().any(|fact| fact.name == name), "{name}");
        }
    }
    let stranger = lab.judge("192.0.2.99").await;
    assert_eq!(stranger.verdict.unwrap_err().0, Reason::SpfFailed);
    assert_eq!(stranger.facts.spf.as_deref(), Some("fail"));
    assert_eq!(stranger.facts.dmarc.as_deref(), Some("pass"));
}

/// Proves: -IDEN-016
#[tokio::test(flavor = "multi_thread")]
async fn t16_trouble_in_any_look_up_is_temporary() {
    for name in [KEY, "a.keys.nl", DMARC, "a.nl", "_spf.spf.nl", "out.spf.nl"] {
        for trouble in [
            Trouble::Servfail,
            Trouble::Refused,
            Trouble::WrongSignature,
            Trouble::ExpiredSignature,
            Trouble::MissingSignature,
            Trouble::FalseNodata,
        ] {
            let what = format!("{name} {trouble:?}");
            let (reason, judged) = with(Fault::name(name, trouble)).await;
            assert_eq!(
                reason,
                Some(Reason::TrustDnsTemporary),
                "{what}: {:?} {:?}",
                judged.verdict,
                judged.dns
            );
        }
    }
    let (reason, _) = with(Fault::name(KEY, Trouble::Silence)).await;
    assert_eq!(reason, Some(Reason::TrustDnsTemporary));
}

/// Proves: -IDEN-022
#[tokio::test(flavor = "multi_thread")]
async fn t17_what_is_not_signed_proves_nothing() {
    let (reason, judged) = with(Fault::zone("keys.nl", Trouble::Unsigned)).await;
    assert_eq!(reason, Some(Reason::DkimFailed));
    assert_eq!(judged.facts.dkim, ["policy d=a.nl"]);

    let (reason, judged) = with(Fault::zone("a.nl", Trouble::Unsigned)).await;
    assert_eq!(reason, Some(Reason::DkimFailed));
    assert_eq!(judged.facts.dmarc.as_deref(), Some("permerror"));

    // A hoster without DNSSEC: admitted for SPF, and told.
    let (reason, judged) = with(Fault::zone("spf.nl", Trouble::Unsigned)).await;
    assert_eq!(reason, None, "{:?}", judged.verdict);
    let warning = "SPF rests on answers that are not signed with DNSSEC: _spf.spf.nl, out.spf.nl";
    assert_eq!(judged.warnings, [warning]);
}

/// Proves: -IDEN-016
#[tokio::test(flavor = "multi_thread")]
async fn after_repair_the_same_message_passes() {
    let lab = lab().await;
    lab.dns
        .update(|tree| {
            tree.fault(Fault::record(DMARC, RrType::Txt, Trouble::Servfail));
        })
        .unwrap();
    assert_eq!(lab.judge("192.0.2.25").await.verdict.unwrap_err().0, Reason::TrustDnsTemporary);
    lab.dns
        .update(|tree| {
            tree.heal();
        })
        .unwrap();
    assert_eq!(lab.judge("192.0.2.25").await.verdict, Ok(()));
}
