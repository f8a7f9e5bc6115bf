#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::super::results::{DkimResult, DkimWord, DmarcWord, SmimeIdentity, SmimeWord, SpfResult, SpfWord};
use super::*;

fn name(text: &str) -> DomainName {
    text.parse().unwrap()
}

fn record() -> AttemptId {
    AttemptId::from_parts(1_793_613_600_000, 42)
}

fn noon() -> Timestamp {
    "2026-11-02T10:00:00Z".parse().unwrap()
}

fn client(text: &str) -> String {
    let client = GivenName::read(text);
    let facts = ReceivedFacts {
        client: &client,
        address: Some("192.0.2.1".parse().unwrap()),
        by: &name("nta.b.nl"),
        with: WithProtocol::Esmtps,
        record: record(),
        at: noon(),
    };
    received(&facts).to_string()
}

fn unfolded(field: &Field) -> String {
    field.to_string().strip_suffix("\r\n").unwrap().replace("\r\n ", " ")
}

/// Proves: +HAND-004
#[test]
fn received_says_who_and_when() {
    assert_eq!(
        client("NTA-A.a.nl"),
        format!(
            "Received: from nta-a.a.nl ([192.0.2.1]) by nta.b.nl with ESMTPS id\r\n {}; Mon, 02 Nov 2026 10:00:00 +0000\r\n",
            record()
        )
    );
    let submitted = received(&ReceivedFacts {
        client: &GivenName::read("[IPv6:2001:db8::1]"),
        address: None,
        by: &name("nta.b.nl"),
        with: WithProtocol::Utf8Smtps,
        record: record(),
        at: noon(),
    });
    assert!(
        unfolded(&submitted).starts_with("Received: from [IPv6:2001:db8::1] by nta.b.nl with UTF8SMTPS id ")
    );
}

/// Proves: -HAND-004
#[test]
fn t05_what_a_client_calls_itself_breaks_nothing() {
    for text in [
        "a(b",
        "a;b",
        "a\r\nX: y",
        "[1.2.3.4] by evil.nl",
        "[[1.2.3.4]]",
        "\"a\"",
        "",
        "[IPv6:1.2.3.4]",
        "a_b.nl",
    ] {
        assert!(client(text).starts_with("Received: from unknown ([192.0.2.1]) by nta.b.nl "), "{text:?}");
    }
    assert!(client("[192.0.2.9]").contains("from [192.0.2.9] ("));
}

#[test]
fn results_are_those_of_rfc_8601() {
    let (node, domain) = (name("nta.b.nl"), name("a.nl"));
    let mut facts = ResultsFacts {
        authserv_id: &node,
        level: Level::Mutual,
        domain: &domain,
        delegate: None,
        message: None,
        smime: None,
    };
    assert_eq!(
        unfolded(&authentication_results(&facts)),
        "Authentication-Results: nta.b.nl; x-federation=pass policy.level=mutual policy.domain=a.nl"
    );
    let message = MessageResults {
        spf: SpfResult { word: SpfWord::Pass, identity: SpfIdentity::MailFrom(name("bounce.a.nl")) },
        dkim: vec![
            DkimResult { word: DkimWord::Permerror, domain: None, detail: String::new() },
            DkimResult { word: DkimWord::Pass, domain: Some(name("a.nl")), detail: "a detail; x=y".into() },
        ],
        dmarc: DmarcWord::Pass,
    };
    (facts.level, facts.message) = (Level::Nta7516, Some(&message));
    assert_eq!(
        unfolded(&authentication_results(&facts)),
        "Authentication-Results: nta.b.nl; x-federation=pass policy.level=nta7516 policy.domain=a.nl; spf=pass \
         smtp.mailfrom=bounce.a.nl; dkim=permerror; dkim=pass header.d=a.nl; dmarc=pass header.from=a.nl"
    );
}

/// The grammar of IDEN-021, on the unfolded field.
fn is_assurance(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("Federation-Assurance: ") else { return false };
    let mut parts = rest.split("; ");
    let level = parts.next();
    let (mut order, mut seen) = (0, 0);
    let names = ["domain", "delegate", "rule", "client", "dkim", "dmarc", "spf", "by", "record"];
    let all_known = parts.by_ref().all(|part| {
        let Some((key, value)) = part.split_once('=') else { return false };
        let place = names.iter().position(|known| *known == key).map_or(0, |at| at + 1);
        let in_order = place > order;
        (order, seen) = (place, seen + usize::from(!["client", "delegate"].contains(&key)));
        let value_holds = match key {
            "domain" | "delegate" | "by" => value.parse::<DomainName>().is_ok(),
            "rule" => {
                (value == "message") == (level == Some("nta7516"))
                    && ["dane", "pinned", "federation_ca", "message"].contains(&value)
            }
            "client" => {
                level == Some("mutual")
                    && value.split(',').all(|one| one.trim().parse::<DomainName>().is_ok())
            }
            "dkim" | "dmarc" | "spf" => {
                let words = ["pass", "none", "fail", "temporary"];
                words.contains(&value) && (value == "pass" || level == Some("mutual"))
            }
            "record" => value.len() == 26 && value.bytes().all(|octet| octet.is_ascii_alphanumeric()),
            _ => false,
        };
        in_order && value_holds
    });
    matches!(level, Some("mutual" | "nta7516")) && all_known && seen == 7
}

/// Proves: +IDEN-021 -IDEN-021
#[test]
fn assurance_has_the_form_of_the_page() {
    let (domain, by) = (name("a.example"), name("nta.b.example"));
    let names = [name("nta-a.a.example"), name("nta-out.a.example")];
    let proof = Proof::Client { rule: IdentityRule::Dane, names: &names };
    let proofs = Proofs {
        dkim: crate::policy::Proof::None,
        dmarc: crate::policy::Proof::Fail,
        spf: crate::policy::Proof::Temporary,
    };
    let mutual = federation_assurance(&AssuranceFacts {
        proof,
        proofs,
        domain: &domain,
        delegate: None,
        by: &by,
        record: record(),
    });
    assert_eq!(
        unfolded(&mutual),
        format!(
            "Federation-Assurance: mutual; domain=a.example; rule=dane; client=nta-a.a.example,nta-out.a.example; dkim=none; dmarc=fail; spf=temporary; by=nta.b.example; record={}",
            record()
        )
    );
    let by_message = federation_assurance(&AssuranceFacts {
        proof: Proof::Message,
        proofs: Proofs::PASS,
        domain: &domain,
        delegate: None,
        by: &by,
        record: record(),
    });
    let line = unfolded(&by_message);
    assert_eq!(
        line,
        format!(
            "Federation-Assurance: nta7516; domain=a.example; rule=message; dkim=pass; dmarc=pass; spf=pass; by=nta.b.example; record={}",
            record()
        )
    );
    assert!(is_assurance(&line) && is_assurance(&unfolded(&mutual)));
    for broken in [
        line.replace("nta7516", "mutual"),
        line.replace("rule=message", "rule=dane"),
        line.replace("; by=nta.b.example", ""),
        line.replace("; dmarc=pass", ""),
        line.replace("spf=pass", "spf=none"),
        line.replace("nta7516", "opportunistic"),
        line.replace("record=", "by=x.nl; record="),
    ] {
        assert!(!is_assurance(&broken), "{broken}");
    }
}

/// Proves: +RPLY-006 -RPLY-006
#[test]
fn a_delegate_is_told_by_its_domain() {
    let (domain, other, by) = (&name("a.example"), &name("desk.example"), &name("nta.b.example"));
    let (proof, proofs, level, record) = (Proof::Message, Proofs::PASS, Level::Nta7516, record());
    for (delegate, told) in [(None, false), (Some(other), true)] {
        let facts = AssuranceFacts { proof, proofs, domain, delegate, by, record };
        let assurance = unfolded(&federation_assurance(&facts));
        assert!(is_assurance(&assurance), "{assurance}");
        assert_eq!(assurance.contains("; domain=a.example; delegate=desk.example; rule="), told);
        let facts = ResultsFacts { authserv_id: by, level, domain, delegate, message: None, smime: None };
        let results = unfolded(&authentication_results(&facts));
        assert_eq!(results.ends_with(" policy.domain=a.example policy.delegate=desk.example"), told);
    }
}

fn a_name() -> impl Strategy<Value = DomainName> {
    // Two hyphens in places three and four belong to A-labels, and few texts are one.
    "([a-z]([a-z0-9]|[a-z0-9]-[a-z0-9]){0,20}\\.){1,5}[a-z]{2,60}"
        .prop_filter_map("longer than a name can be", |text| text.parse().ok())
}

fn holds(field: &Field) {
    let text = field.to_string();
    assert!(text.is_ascii());
    let unfolded = text.strip_suffix("\r\n").unwrap().replace("\r\n ", " ");
    assert!(!unfolded.contains(['\r', '\n', '\t', '\0']), "{unfolded:?}");
    for line in text.split_terminator("\r\n") {
        assert!(line.len() <= LINE_OCTETS_MAX && !line.trim().is_empty());
        assert!(line.len() <= LINE_OCTETS_WANTED || !line[1..].trim_end().contains("; "), "{line}");
    }
}

proptest! {
    /// Proves: +HAND-004 -HAND-004 +IDEN-021
    #[test]
    fn t05_every_field_is_one_line_of_ascii_after_unfolding(
        helo in "\\PC{0,60}|[\\x00-\\x7f]{0,30}|[a-z.]{1,200}",
        names in prop::collection::vec(a_name(), 1..5),
        address in any::<std::net::IpAddr>(),
        second in -377_705_023_200_i64..253_402_207_200,
        random in any::<u64>(),
    ) {
        let record = AttemptId::from_parts(random >> 16, u128::from(random));
        let client = GivenName::read(&helo);
        let at = Timestamp::from_second(second).unwrap();
        let (with, by) = (WithProtocol::Esmtps, &names[0]);
        holds(&received(&ReceivedFacts { client: &client, address: Some(address), by, with, record, at }));
        let domain = names.last().unwrap();
        for proof in [Proof::Message, Proof::Client { rule: IdentityRule::FederationCa, names: &names }] {
            let field = federation_assurance(&AssuranceFacts { proof, proofs: Proofs::PASS, domain, delegate: Some(domain), by, record });
            holds(&field);
            prop_assert!(is_assurance(&unfolded(&field)));
        }
        let message = MessageResults {
            spf: SpfResult { word: SpfWord::Softfail, identity: SpfIdentity::Helo(Some(names[0].clone())) },
            dkim: names.iter().map(|name| DkimResult {
                word: DkimWord::Fail,
                domain: Some(name.clone()),
                detail: helo.clone(),
            }).collect(),
            dmarc: DmarcWord::Temperror,
        };
        let level = Level::Nta7516;
        let address = format!("a.b@{}", names[0]).parse().unwrap();
        let identity = Some(SmimeIdentity::new(address, "00ff".into(), &helo));
        let smime = SmimeResult { word: SmimeWord::Pass, reason: Some("said by us"), identity };
        holds(&authentication_results(&ResultsFacts { authserv_id: by, level, domain, delegate: Some(domain), message: Some(&message), smime: Some(&smime) }));
    }
}
