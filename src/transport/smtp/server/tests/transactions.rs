//! The order of things inside TLS.

use super::super::dialogue::Ended;
use super::harness::{Asked, pipelined, secured, settings};

/// Proves: +SMTP-005 -SMTP-005
#[tokio::test]
async fn inside_tls_the_extensions_are_offered_and_starttls_is_not() {
    let mut client = secured(settings());
    client.send("EHLO a.nl\r\n").await;
    let lines = client.whole_reply().await;
    assert_eq!(lines[0], "250-mx.b.nl");
    let keywords: Vec<_> = lines[1..].iter().map(|line| &line[4..]).collect();
    assert_eq!(
        keywords,
        [
            "PIPELINING",
            "8BITMIME",
            "SMTPUTF8",
            "CHUNKING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "SIZE 67108864",
            "XPEERLEVEL mutual a.nl",
        ]
    );
    client.expect(&[("STARTTLS", "503 5.5.1 SMTP-005 "), ("HELO a.nl", "250 mx.b.nl")]).await;
    client.expect(&[("QUIT", "221 2.0.0")]).await;
    assert_eq!(client.finish().await.1, Ended::Quit);
}

/// Proves: +SMTP-012 -SMTP-012
#[tokio::test]
async fn t04_commands_out_of_order_are_refused() {
    let mut client = secured(settings());
    client
        .expect(&[
            ("MAIL FROM:<a@a.nl>", "503 5.5.1 SMTP-012 "),
            ("RCPT TO:<b@b.nl>", "503 5.5.1"),
            ("DATA", "503 5.5.1"),
            ("EHLO a.nl", "250"),
            ("RCPT TO:<b@b.nl>", "503 5.5.1"),
            ("DATA", "503 5.5.1"),
            ("MAIL FROM:<a@a.nl>", "250 2.1.0"),
            ("DATA", "503 5.5.1"),
            ("MAIL FROM:<c@a.nl>", "503 5.5.1"),
            ("RCPT TO:<no@b.nl>", "550 5.7.1"),
            ("DATA", "503 5.5.1"),
            ("RCPT TO:<b@b.nl>", "250 2.1.5"),
            ("MAIL FROM:<c@a.nl>", "503 5.5.1"),
            ("RSET", "250 2.0.0"),
            ("DATA", "503 5.5.1"),
            ("MAIL FROM:<no@a.nl>", "550 5.7.1"),
            ("RCPT TO:<b@b.nl>", "503 5.5.1"),
            ("MAIL FROM:<a@a.nl>", "250"),
            ("RCPT TO:<b@b.nl>", "250"),
            ("EHLO a.nl", "250"),
            ("DATA", "503 5.5.1"),
            ("AUTH PLAIN", "502 5.5.1"),
            ("QUIT", "221"),
        ])
        .await;
    assert!(client.gate.accepted().is_empty());
}

/// A refusal at the end of content once let a second message skip the checks of its recipients.
///
/// Proves: -SMTP-012
#[tokio::test]
async fn t04_after_refused_content_there_is_no_transaction() {
    for refused in ["FINISH-NO\r\n", "WRITE-NO\r\n", "bare\nLF\r\n"] {
        let mut client = secured(settings());
        client.expect(&[("EHLO a.nl", "250"), ("MAIL FROM:<a@a.nl>", "250")]).await;
        client.expect(&[("RCPT TO:<b@b.nl>", "250"), ("DATA", "354")]).await;
        let reply = client.ask(&format!("{refused}.")).await;
        assert!(reply.starts_with('4') || reply.starts_with('5'), "{reply}");
        client.expect(&[("DATA", "503"), ("RCPT TO:<c@b.nl>", "503"), ("BDAT 0 LAST", "503")]).await;
        assert!(client.gate.accepted().is_empty(), "{refused:?}");
    }
}

/// Proves: +SMTP-013 -SMTP-013
#[tokio::test]
async fn t04_a_refused_chunk_is_read_and_ends_the_transaction() {
    // Where no chunk may come, its octets still are no commands.
    let chunk = "BDAT 6\r\nQUIT\r\n";
    let mut client = secured(settings());
    client.send(chunk).await;
    assert!(client.reply().await.starts_with("503 5.5.1"));
    client.expect(&[("EHLO a.nl", "250")]).await;
    client.send(chunk).await;
    assert!(client.reply().await.starts_with("503 5.5.1"));
    client.expect(&[("MAIL FROM:<a@a.nl>", "250")]).await;
    client.send(chunk).await;
    assert!(client.reply().await.starts_with("503 5.5.1"));
    client.expect(&[("RCPT TO:<b@b.nl>", "503 5.5.1")]).await;
    // Where the gate wants none of it, neither this chunk nor a later one gets through.
    client.expect(&[("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<nodata@b.nl>", "250")]).await;
    client.send("BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n").await;
    assert!(client.reply().await.starts_with("452 4.3.1"));
    assert!(client.reply().await.starts_with("503 5.5.1"));
    // A fault in one chunk refuses it and all that follow.
    client.expect(&[("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
    client.send("BDAT 3\r\na\nbBDAT 6 LAST\r\nQUIT\r\n").await;
    assert!(client.reply().await.starts_with("550 5.6.0 SMTP-007 "));
    assert!(client.reply().await.starts_with("503 5.5.1"));
    // DATA and BDAT do not mix.
    client.expect(&[("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
    client.send("BDAT 3\r\na\r\n").await;
    assert!(client.reply().await.starts_with("250 2.0.0"));
    client
        .expect(&[
            ("DATA", "503 5.5.1 SMTP-013 "),
            ("RCPT TO:<c@b.nl>", "503 5.5.1"),
            ("MAIL FROM:<c@a.nl>", "503 5.5.1"),
            ("NOOP", "250"),
            ("BDAT 0 LAST", "250 2.6.0"),
        ])
        .await;
    assert_eq!(client.gate.accepted().len(), 1);
    assert_eq!(client.gate.accepted()[0].content, b"a\r\n");
}

#[tokio::test]
async fn bdat_without_a_size_ends_the_session() {
    let (codes, ended, gate) = pipelined(
        settings(),
        b"EHLO a.nl\r\nMAIL FROM:<a@a.nl>\r\nRCPT TO:<b@b.nl>\r\nBDAT 3\r\na\r\nBDAT LAST\r\nRSET\r\nQUIT\r\n",
    )
    .await;
    assert_eq!((codes, ended), (vec![250, 250, 250, 250, 501], Ended::Unreadable));
    assert_eq!(gate.asked().last(), Some(&Asked::Abandoned(501)));
}

/// Proves: +SMTP-020 -SMTP-020
#[tokio::test]
async fn t04_vrfy_and_expn_tell_nothing_and_change_nothing() {
    let mut client = secured(settings());
    let first = client.ask("VRFY b@b.nl").await;
    assert!(first.starts_with("252 2.5.0"));
    assert_eq!(client.ask("VRFY nobody@b.nl").await, first);
    client.send("VRFY jörg SMTPUTF8\r\n").await;
    assert_eq!(client.reply().await, first);
    assert!(client.ask("EXPN list").await.starts_with("502 5.5.1"));
    client.expect(&[("EHLO a.nl", "250"), ("MAIL FROM:<a@a.nl>", "250"), ("VRFY x", "252")]).await;
    client.expect(&[("RCPT TO:<jörg@b.nl>", "553 5.6.7"), ("RCPT TO:<b@b.nl>", "250")]).await;
    client.expect(&[("HELP", "214 2.0.0"), ("DATA", "354"), (".", "250 2.6.0")]).await;
}

#[tokio::test]
async fn a_pipelined_session_gets_its_replies_in_order() {
    let script = b"EHLO a.nl\r\nMAIL FROM:<a@a.nl> SIZE=10\r\nRCPT TO:<no@b.nl>\r\nRCPT TO:<later@b.nl>\r\n\
        RCPT TO:<b@b.nl>\r\nBDAT 3\r\na\r\nBDAT 3 LAST\r\nb\r\nMAIL FROM:<>\r\nRCPT TO:<b@b.nl>\r\nRSET\r\nQUIT\r\n";
    let (codes, ended, gate) = pipelined(settings(), script).await;
    assert_eq!(codes, [250, 250, 550, 451, 250, 250, 250, 250, 250, 250, 221]);
    assert_eq!(ended, Ended::Quit);
    assert_eq!(gate.accepted()[0].recipients, ["b@b.nl"]);
    assert_eq!(gate.accepted()[0].content, b"a\r\nb\r\n");
}

#[tokio::test]
async fn smtputf8_holds_for_its_transaction_only() {
    let mut client = secured(settings());
    client.expect(&[("EHLO a.nl", "250"), ("MAIL FROM:<jörg@a.nl>", "553 5.6.7")]).await;
    client.expect(&[("MAIL FROM:<jörg@a.nl> SMTPUTF8", "250"), ("RCPT TO:<zoë@b.nl>", "250")]).await;
    client.expect(&[("DATA", "354"), ("Subject: grüße\r\n.", "250 2.6.0")]).await;
    client.expect(&[("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<zoë@b.nl>", "553 5.6.7")]).await;
    assert_eq!(client.gate.accepted()[0].sender, "jörg@a.nl");
}

#[tokio::test]
async fn a_gate_that_says_421_ends_the_session_and_one_that_errs_accepts_nothing() {
    let (codes, ended, _) = pipelined(settings(), b"EHLO a.nl\r\nMAIL FROM:<bye@a.nl>\r\nNOOP\r\n").await;
    assert_eq!((codes, ended), (vec![250, 421], Ended::GateClosed));
    let mut client = secured(settings());
    client.expect(&[("EHLO a.nl", "250"), ("MAIL FROM:<bug@a.nl>", "451 4.3.0")]).await;
    client.expect(&[("RCPT TO:<b@b.nl>", "503"), ("MAIL FROM:<a@a.nl>", "250")]).await;
    client.expect(&[("RCPT TO:<bug@b.nl>", "451 4.3.0"), ("DATA", "503")]).await;
}
