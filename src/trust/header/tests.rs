#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const SMALL: HeaderLimits = HeaderLimits { octets: 4096, fields: 20, received: 3, own_received: 2 };

fn facts(content: &[u8]) -> Result<HeaderFacts, HeaderFault> {
    let mut watch = HeaderWatch::new(SMALL);
    watch.push(content)?;
    watch.finish()
}

fn reason(content: &[u8]) -> Option<Reason> {
    facts(content).err().map(|fault| fault.reason)
}

/// A message whose `From:` field has this value.
fn with_from(value: &str) -> Vec<u8> {
    format!("Subject: x\r\nFrom: {value}\r\nTo: b@b.nl\r\n\r\nbody\r\n").into_bytes()
}

fn domain_of(value: &str) -> Option<String> {
    facts(&with_from(value)).ok().map(|facts| facts.from_domain.to_string())
}

/// Proves: +IDEN-014
#[test]
fn t10_reads_the_sender_in_every_honest_spelling() {
    for value in [
        "a@a.nl",
        "A@A.NL",
        "<a@a.nl>",
        "Jan <a@a.nl>",
        "Jan de Vries <a@a.nl>",
        "J. de Vries <a@a.nl>",
        "\"Vries, Jan de\" <a@a.nl>",
        "\"x@evil.nl\" <a@a.nl>",
        "=?utf-8?q?J=C3=B6rg?= <a@a.nl>",
        "=?utf-8?q?J=C3=B6rg?= =?utf-8?q?_de_Vries?=\r\n <a@a.nl>",
        "Jörg <a@a.nl>",
        "a@a.nl (Jan)",
        "(Jan (de) Vries) a@a.nl",
        "\r\n Jan\r\n\t<a@a.nl>",
        "Jan <a@a.nl>, Piet <b@a.nl>",
        "a@a.nl,b@A.nl",
        "a+b=c@a.nl",
        "\"jan de vries\"@a.nl",
        "Jan <\"jan.\"@a.nl>",
    ] {
        assert_eq!(domain_of(value).as_deref(), Some("a.nl"), "{value:?}");
    }
    let two = facts(&with_from("Jan <a@a.nl>, b@a.nl")).unwrap();
    assert_eq!(two.from.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a@a.nl", "b@a.nl"]);
    assert_eq!(domain_of("a@zörg.nl").as_deref(), Some("xn--zrg-sna.nl"));
}

/// Proves: -IDEN-014
#[test]
fn t10_refuses_a_sender_that_two_readers_could_see_differently() {
    for value in [
        "",
        " ",
        "Jan",
        "<>",
        "Jan <>",
        "a@",
        "@a.nl",
        "a@a.nl, b@b.nl",
        "a@a.nl b@a.nl",
        "a@evil.nl <a@a.nl>",
        "Jan <a@a.nl> <b@a.nl>",
        "Jan <a@a.nl> b@evil.nl",
        "<a@a.nl>, <a@evil.nl>",
        "<a@a.nl",
        "a@a.nl>",
        "a@a.nl,",
        ",a@a.nl",
        "a@a.nl,,b@a.nl",
        "Groep: a@a.nl;",
        "undisclosed:;",
        "<@evil.nl:a@a.nl>",
        "a@[127.0.0.1]",
        "a@127.0.0.1",
        "a @ a.nl",
        "a@(x)a.nl",
        "a@a .nl",
        "a..b@a.nl",
        "a@a@a.nl",
        "=?utf-8?q?a=40evil.nl=3E?=@a.nl",
        "Jan <=?utf-8?q?b?=@a.nl>",
        "\"a@evil.nl>, \"@a.nl",
        "\"a\\\"b\"@a.nl",
        "Vries, Jan <a@a.nl>",
        "\"Jan <a@a.nl>",
        "(Jan <a@a.nl>",
        "((((((((((x)))))))))) a@a.nl",
        "Jan\u{1}<a@a.nl>",
        "Jan\u{85}<a@a.nl>",
        "a\u{0}@a.nl",
        "a@a_b.nl",
        "a\\@evil.nl@a.nl",
    ] {
        let fault = facts(&with_from(value)).unwrap_err();
        let expected = if value.contains('\0') { Reason::ContentMalformed } else { Reason::FromMalformed };
        assert_eq!(fault.reason(), expected, "{value:?}: {fault}");
    }
    let mut latin1 = b"From: J\xf6rg <a@a.nl>\r\n\r\n".to_vec();
    assert_eq!(reason(&latin1), Some(Reason::FromMalformed));
    latin1.splice(7..8, "ö".bytes());
    assert_eq!(reason(&latin1), None);
}

/// Proves: -IDEN-014
#[test]
fn t06_exactly_one_from_however_it_is_spelled() {
    for (content, why) in [
        ("Subject: x\r\n\r\n", "there is no From: field"),
        ("\r\nFrom: a@a.nl\r\n", "there is no From: field"),
        ("", "there is no From: field"),
        ("Subject: x\r\n\r\nFrom: a@a.nl\r\n", "there is no From: field"),
        ("X-From: a@a.nl\r\n\r\n", "there is no From: field"),
        ("From: a@a.nl\r\nFrom: a@a.nl\r\n\r\n", "there is more than one from field"),
        ("From: a@a.nl\r\nFROM: a@evil.nl\r\n\r\n", "there is more than one from field"),
        ("From: a@a.nl\r\nfrom : a@evil.nl\r\n\r\n", "there is more than one from field"),
        ("From: a@a.nl\r\nfRoM\t: a@evil.nl\r\n\r\n", "there is more than one from field"),
        ("From : a@a.nl\r\n\r\n", "blanks before the colon of the from field"),
        (
            "From: a@a.nl\r\nFrom\r\n : b@evil.nl\r\n\r\n",
            "what follows field 1 of the header section is no field",
        ),
        (
            "From: a@a.nl\r\nstray line\r\nSubject: x\r\n\r\n",
            "what follows field 1 of the header section is no field",
        ),
        (" From: a@a.nl\r\n\r\n", "what follows field 0 of the header section is no field"),
        (
            "From a@a.nl Mon Nov 2 2026\r\nFrom: a@a.nl\r\n\r\n",
            "what follows field 0 of the header section is no field",
        ),
        (": x\r\nFrom: a@a.nl\r\n\r\n", "what follows field 0 of the header section is no field"),
        ("Fr\u{f6}m: x\r\nFrom: a@a.nl\r\n\r\n", "what follows field 0 of the header section is no field"),
    ] {
        let fault = facts(content.as_bytes()).unwrap_err();
        assert_eq!((fault.reason(), fault.detail.as_str()), (Reason::FromMalformed, why), "{content:?}");
    }
    assert!(facts(b"From: a@a.nl\r\nSubject : x\r\n\r\n").is_ok());
    assert!(facts(b"From: a@a.nl\r\n \t\r\n\r\n").is_ok(), "a blank continuation belongs to its field");
}

/// Proves: +IDEN-014 -IDEN-014
#[test]
fn t10_sender_field_is_read_as_strictly() {
    let with = |sender: &str| format!("From: a@a.nl\r\n{sender}\r\n\r\n").into_bytes();
    let facts_of =
        |sender: &str| facts(&with(sender)).map(|facts| facts.sender.map(|address| address.to_string()));
    assert_eq!(facts_of("X: y"), Ok(None));
    assert_eq!(facts_of("Sender: Secretariaat <s@b.nl>"), Ok(Some("s@b.nl".into())));
    for bad in [
        "Sender:",
        "Sender: a@a.nl, b@a.nl",
        "Sender : s@b.nl",
        "Sender: s@b.nl\r\nSENDER: s@b.nl",
        "Sender: x",
    ] {
        assert_eq!(facts_of(bad).unwrap_err().reason, Reason::FromMalformed, "{bad}");
    }
}

/// Proves: +IDEN-015 -IDEN-015
#[test]
fn reports_are_known_by_their_type_alone() {
    let kind = |content_type: &str| {
        facts(format!("From: a@a.nl\r\n{content_type}\r\n\r\n").as_bytes()).unwrap().report
    };
    for (field, expected) in [
        (
            "Content-Type: multipart/report; report-type=delivery-status; boundary=x",
            ReportKind::DeliveryStatus,
        ),
        (
            "content-type: Multipart/Report;\r\n boundary=\"x\";\r\n\tREPORT-TYPE=\"Delivery-Status\"",
            ReportKind::DeliveryStatus,
        ),
        ("Content-Type: multipart/report; report-type=disposition-notification", ReportKind::Disposition),
    ] {
        assert_eq!(kind(field), Some(expected), "{field}");
    }
    for field in [
        "X: y",
        "Content-Type: text/plain",
        "Content-Type: multipart/mixed; report-type=delivery-status",
        "Content-Type: text/report; report-type=delivery-status",
        "Content-Type: multipart/report",
        "Content-Type: multipart/report; report-type=feedback-report",
        "Content-Type: multipart/report; x=\"report-type=delivery-status\"",
        "Content-Type: multipart/report; report-type=x; report-type=delivery-status",
        "Content-Type : multipart/report; report-type=delivery-status",
        "Content-Type: text/html\r\nContent-Type: multipart/report; report-type=delivery-status",
        "Content-Type: multipart/report; report-type=delivery-status\r\nContent-Type: text/html",
    ] {
        assert_eq!(kind(field), None, "{field}");
    }
}

/// Proves: +SMTP-019 -SMTP-019
#[test]
fn t30_counts_received_fields() {
    let with = |hops: usize| {
        format!("{}From: a@a.nl\r\n\r\n", "Received: from x by y; z\r\n".repeat(hops)).into_bytes()
    };
    assert_eq!(facts(&with(3)).unwrap().received, 3);
    assert_eq!(reason(&with(4)), Some(Reason::MailLoop));
    let folded = b"RECEIVED : x\r\nReceived:\r\n y\r\nreceived: z\r\nReceived: z\r\nFrom: a@a.nl\r\n\r\n";
    assert_eq!(reason(folded), Some(Reason::MailLoop));
}

/// Proves: +SMTP-019 -SMTP-019
#[test]
fn t30_a_node_knows_its_own_trace() {
    let reason = |traces: &[&str]| {
        let fields: String = traces.iter().map(|trace| format!("Received: {trace}\r\n")).collect();
        let mut watch = HeaderWatch::new(SMALL).at("nta.b.nl".parse().unwrap());
        let pushed = watch.push(format!("{fields}From: a@a.nl\r\n\r\n").as_bytes());
        pushed.and_then(|()| watch.finish()).err().map(|fault| fault.reason())
    };
    let own = "from nta.a.nl ([192.0.2.1]) by nta.b.nl with ESMTPS id 1; Mon, 02 Nov 2026 10:00:00 +0000";
    let others = [
        "from nta.b.nl by nta.a.nl with ESMTPS id 1; date",
        "from x by nta.b.nl.evil.nl; date",
        "from x by mail.nta.b.nl; date",
        "from x by nta.c.nl for <by@nta.b.nl>; date",
    ];
    assert_eq!(reason(&[own, own]), None, "it may come by again");
    assert_eq!(reason(&[own, own, own]), Some(Reason::MailLoop));
    for other in others {
        assert_eq!(reason(&[own, own, other]), None, "{other}");
    }
    for same in [
        "from x\r\n by NTA.B.NL\r\n with ESMTPS; date",
        "from x BY nta.b.nl.; date",
        "by nta.b.nl(x) with y; d",
        "from x\tby\tnta.b.nl; d",
    ] {
        assert_eq!(reason(&[own, same, own]), Some(Reason::MailLoop), "{same}");
    }
}

/// Proves: +LIM-006 -LIM-006
#[test]
fn t27_fields_and_octets_are_counted() {
    let fields =
        |count: usize| format!("From: a@a.nl\r\n{}\r\nbody\r\n", "X: y\r\n".repeat(count - 1)).into_bytes();
    assert!(facts(&fields(20)).is_ok());
    assert_eq!(reason(&fields(21)), Some(Reason::HeaderTooLarge));
    let octets = |count: usize| {
        let start = "From: a@a.nl\r\nX: ";
        format!("{start}{}\r\n\r\nbody\r\n", "y".repeat(count - start.len() - 2)).into_bytes()
    };
    assert!(facts(&octets(4096)).is_ok());
    assert_eq!(reason(&octets(4097)), Some(Reason::HeaderTooLarge));
}

/// Proves: -LIM-006 +LIM-007
#[test]
fn t27_what_is_kept_never_exceeds_the_limit_by_more_than_a_step() {
    let mut endless = HeaderWatch::new(SMALL);
    let chunk = vec![b'x'; 1 << 20];
    assert_eq!(endless.push(&chunk).unwrap_err().reason, Reason::HeaderTooLarge);
    assert_eq!(endless.section.capacity(), 0);
    assert_eq!(endless.push(b"\r\n\r\n").unwrap_err().reason, Reason::HeaderTooLarge, "and stays so");
    assert_eq!(endless.finish().unwrap_err().reason, Reason::HeaderTooLarge);

    let mut long_body = HeaderWatch::new(SMALL);
    long_body.push(b"From: a@a.nl\r\n\r\n").unwrap();
    for _ in 0..100 {
        long_body.push(&chunk).unwrap();
        assert_eq!(long_body.section.capacity(), 0);
    }
    assert!(long_body.finish().is_ok());
}

/// Proves: +SMTP-021
#[test]
fn t22_tls_required_no_is_noted() {
    let noted =
        |field: &str| facts(format!("From: a@a.nl\r\n{field}\r\n\r\n").as_bytes()).unwrap().tls_required_no;
    assert!(noted("TLS-Required: no") && noted("tls-required:NO ") && noted("X: y\r\nTLS-Required:\r\n No"));
    assert!(!noted("TLS-Required: yes") && !noted("X-TLS-Required: no") && !noted("X: y"));
}

#[test]
fn message_id_is_fit_for_a_log_line_or_absent() {
    let id = |field: &str| facts(format!("From: a@a.nl\r\n{field}\r\n\r\n").as_bytes()).unwrap().message_id;
    assert_eq!(id("Message-ID: <1@a.nl>").as_deref(), Some("<1@a.nl>"));
    assert_eq!(id("Message-ID:\r\n <1@a.nl>").as_deref(), Some("<1@a.nl>"));
    for bad in ["X: y", "Message-ID:", "Message-ID: a b", "Message-ID: \u{1b}[2J", "Message-ID: <ö@a.nl>"] {
        assert_eq!(id(bad), None, "{bad:?}");
    }
    assert_eq!(id(&format!("Message-ID: <{}@a.nl>", "x".repeat(300))), None);
    assert_eq!(id("Message-ID: <1@a.nl>\r\nMessage-ID: <2@a.nl>"), None);
}

#[test]
fn t05_line_ends_are_crlf_and_nothing_else() {
    for content in
        ["From: a@a.nl\nX: y\r\n\r\n", "From: a@a.nl\rX: y\r\n\r\n", "From: a@a.nl\r\nX: \0\r\n\r\n"]
    {
        assert_eq!(reason(content.as_bytes()), Some(Reason::ContentMalformed), "{content:?}");
    }
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("From: a@a.nl\r\n".to_owned()),
        Just("from: Jan <b@b.nl>\r\n".to_owned()),
        Just("Sender: s@a.nl\r\n".to_owned()),
        Just("Received: x\r\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("Subject: x\r\n y\r\n".to_owned()),
        Just("Content-Type: multipart/report; report-type=delivery-status\r\n".to_owned()),
        "[ -~]{0,20}\r\n",
        "\\PC{0,8}",
        "[\\x00-\\x7f]{0,12}",
    ]
}

proptest! {
    /// Proves: +IDEN-014
    #[test]
    fn chunk_borders_change_nothing(
        pieces in prop::collection::vec(piece(), 0..8),
        cuts in prop::collection::vec(0_usize..400, 0..6),
    ) {
        let content = pieces.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(content.len())).collect();
        cuts.sort_unstable();
        let whole = facts(&content);
        let mut watch = HeaderWatch::new(SMALL);
        let mut last = 0;
        for cut in cuts.into_iter().chain([content.len()]) {
            let _ = watch.push(&content[last..cut]);
            last = cut;
        }
        prop_assert_eq!(watch.finish(), whole);
    }

    /// Proves: +IDEN-014
    #[test]
    fn t10_whatever_is_accepted_is_read_the_same_by_a_whole_parser(value in "[a-c@.<>,:;\"()\\[\\]\\\\=? ö\t-]{0,24}") {
        let content = with_from(&value);
        if let Ok(facts) = facts(&content) {
            let message = mail_parser::MessageParser::default().parse(&content).unwrap();
            let theirs = message.from().unwrap();
            prop_assert_eq!(theirs.iter().count(), facts.from.len());
            for address in theirs.iter() {
                let (_, domain) = address.address().unwrap().rsplit_once('@').unwrap();
                prop_assert_eq!(domain.parse::<DomainName>().unwrap(), facts.from_domain.clone());
            }
        }
    }

    #[test]
    fn t27_no_input_ends_the_process(content in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = facts(&content);
    }
}
