//! Before the handshake.

use super::super::dialogue::Ended;
use super::harness::{Asked, TestGate, connected, settings};

/// Proves: +SMTP-001 -SMTP-001
#[tokio::test]
async fn only_harmless_commands_are_answered_in_clear_text() {
    let mut client = connected(settings(), TestGate::default());
    assert_eq!(client.reply().await, "220 mx.b.nl ESMTP");
    client.send("EHLO a.nl\r\n").await;
    assert_eq!(client.whole_reply().await, ["250-mx.b.nl", "250-ENHANCEDSTATUSCODES", "250 STARTTLS"]);
    client
        .expect(&[
            ("HELO a.nl", "250 mx.b.nl"),
            ("NOOP", "250 2.0.0"),
            ("RSET", "250 2.0.0"),
            ("MAIL FROM:<a@a.nl>", "530 5.7.0 SMTP-001 "),
            ("MAIL FROM:<a@a.nl> NONSENSE", "530 5.7.0"),
            ("MAIL FROM:nobody", "530 5.7.0"),
            ("RCPT TO:<b@b.nl>", "530 5.7.0"),
            ("DATA", "530 5.7.0"),
            ("VRFY b", "530 5.7.0"),
            ("EXPN b", "530 5.7.0"),
            ("HELP", "530 5.7.0"),
            ("AUTH PLAIN AAAA", "530 5.7.0"),
            ("XCLIENT a", "530 5.7.0"),
            ("STARTTLS now", "501 5.5.4"),
        ])
        .await;
    // The octets of a chunk are no commands.
    client.send("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n").await;
    assert!(client.reply().await.starts_with("530 5.7.0"));
    assert!(client.reply().await.starts_with("250 2.0.0"));
    assert!(client.ask("QUIT").await.starts_with("221 2.0.0"));
    let told = Asked::InClear { helo: "a.nl".to_owned(), sender: "a@a.nl".to_owned() };
    // Nothing was judged; that somebody wanted a transaction was told once.
    assert_eq!(client.gate.asked(), [Asked::Admit, told]);
    assert_eq!(client.finish().await, (vec![], Ended::Quit));
}

/// Proves: -SMTP-002
#[tokio::test]
async fn t03_octets_sent_ahead_of_the_handshake_end_the_session() {
    for ahead in ["EHLO evil.nl\r\n", "MAIL FROM:<a@a.nl>\r\n", "X", "\x16\x03\x01", "\r\n"] {
        let mut client = connected(settings(), TestGate::default());
        client.reply().await;
        client.send(format!("EHLO a.nl\r\nSTARTTLS\r\n{ahead}")).await;
        client.whole_reply().await;
        assert!(client.reply().await.starts_with("503 5.5.1 SMTP-002 "), "{ahead:?}");
        let gate = client.gate.clone();
        assert_eq!(client.rest().await, (vec![], Ended::SentAhead), "{ahead:?}");
        assert_eq!(gate.asked(), [Asked::Admit], "{ahead:?}: nothing was asked of the gate");
    }
}

/// The same when they come later and meet the TLS library instead.
///
/// Proves: -SMTP-002
#[tokio::test]
async fn t03_clear_text_after_the_go_ahead_is_no_handshake() {
    let mut client = connected(settings(), TestGate::default());
    client.reply().await;
    assert!(client.ask("STARTTLS").await.starts_with("220 2.0.0"));
    client.send("EHLO evil.nl\r\nMAIL FROM:<a@a.nl>\r\n").await;
    let gate = client.gate.clone();
    assert_eq!(client.vanish().await, Ended::NoHandshake);
    assert_eq!(gate.asked(), [Asked::Admit]);
}

/// Proves: +SMTP-025 -SMTP-025
#[tokio::test]
async fn t12_openers_of_other_protocols_are_turned_away() {
    for opener in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /x HTTP/1.1\r\nContent-Length: 99\r\n\r\nEHLO a\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "OPTIONS rtsp://a RTSP/1.0\r\n",
        "USER anonymous\r\n",
        "a001 LOGIN a b\r\n",
        "SSH-2.0-x\r\n",
        "CAPA\r\n",
        "\x16\x03\x01\x02\r\n",
        "LHLO a.nl\r\n",
    ] {
        let mut client = connected(settings(), TestGate::default());
        client.reply().await;
        client.send(opener).await;
        client.send("EHLO a.nl\r\nSTARTTLS\r\n").await;
        assert!(client.reply().await.starts_with("421 4.7.0 SMTP-025 "), "{opener:?}");
        assert_eq!(client.rest().await, (vec![], Ended::Unreadable), "{opener:?}");
    }
    let mut client = connected(settings(), TestGate::default());
    client.reply().await;
    client.expect(&[("NOOP GET / HTTP/1.1", "250"), ("EHLO get", "250"), ("QUIT", "221")]).await;
}

#[tokio::test]
async fn whom_the_gate_does_not_admit_hears_why() {
    let mut client = connected(settings(), TestGate::closed());
    assert!(client.reply().await.starts_with("554 5.7.1"));
    assert_eq!(client.rest().await, (vec![], Ended::NotAdmitted));
}

/// Proves: -SMTP-009
#[tokio::test]
async fn t01_a_line_that_is_none_is_answered_and_skipped() {
    let mut client = connected(settings(), TestGate::default());
    client.reply().await;
    client.expect(&[("EHLO a.nl", "250")]).await;
    client.send("NOOP\nQUIT\r\nNOOP\rQUIT\r\nNO\0OP\r\nNOOP\r\n").await;
    for code in ["500 5.5.2 SMTP-009 ", "500 5.5.2", "500 5.5.2", "250"] {
        assert!(client.reply().await.starts_with(code));
    }
    client.send(format!("NOOP {}\r\nQUIT\r\n", "x".repeat(5000))).await;
    assert!(client.reply().await.starts_with("500 5.5.6 SMTP-009 "));
    assert!(client.reply().await.starts_with("221"));
}
