//! What comes through, and what does not.

use super::super::dialogue::Ended;
use super::harness::{Asked, Client, pipelined, secured, settings};

/// A session that waits for content.
async fn addressed() -> Client {
    let mut client = secured(settings());
    client.expect(&[("EHLO a.nl", "250"), ("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
    client
}

/// Every sequence that some server took for the end of a message, in both commands.
///
/// Proves: +SMTP-006 -SMTP-006 +SMTP-007 -SMTP-007
#[tokio::test]
async fn t01_nothing_is_smuggled_through_content() {
    for ending in [
        "\n.\n",
        "\r\n.\n",
        "\n.\r\n",
        "\r.\r",
        "\r\n.\r",
        "\r.\r\n",
        "\r\n\0.\r\n",
        "\n\n.\r\n",
        "\r\r\n.\r\r\n",
    ] {
        let smuggled =
            format!("first{ending}MAIL FROM:<evil@a.nl>\r\nRCPT TO:<c@b.nl>\r\nDATA\r\nsecond\r\n");
        let mut client = addressed().await;
        client.expect(&[("DATA", "354")]).await;
        client.send(format!("{smuggled}.\r\nNOOP\r\n")).await;
        assert!(client.reply().await.starts_with("550 5.6.0 SMTP-007 "), "{ending:?}");
        assert!(client.reply().await.starts_with("250 2.0.0"), "{ending:?}");
        client.expect(&[("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
        client.send(format!("BDAT {} LAST\r\n{smuggled}NOOP\r\n", smuggled.len())).await;
        assert!(client.reply().await.starts_with("550 5.6.0 SMTP-007 "), "{ending:?}");
        assert!(client.reply().await.starts_with("250 2.0.0"), "{ending:?}");
        assert!(client.gate.accepted().is_empty(), "{ending:?}");
        assert!(!client.gate.asked().contains(&Asked::Finished), "{ending:?}");
    }
    let mut client = addressed().await;
    client.expect(&[("DATA", "354"), ("first\r\n..\r\n.x\r\n.", "250 2.6.0")]).await;
    assert_eq!(client.gate.accepted()[0].content, b"first\r\n.\r\nx\r\n");
}

/// Proves: +SMTP-008 -SMTP-008
#[tokio::test]
async fn a_line_over_998_octets_refuses_the_content() {
    for (octets, code) in [(998, "250 2.6.0"), (999, "550 5.6.0 SMTP-008 ")] {
        let line = "x".repeat(octets);
        let mut client = addressed().await;
        client.expect(&[("DATA", "354")]).await;
        assert!(client.ask(&format!("{line}\r\n.")).await.starts_with(code));
        client.expect(&[("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
        client.send(format!("BDAT {} LAST\r\n{line}\r\n", octets + 2)).await;
        assert!(client.reply().await.starts_with(code));
    }
}

/// Proves: +SMTP-014 -SMTP-014
#[tokio::test]
async fn content_over_the_limit_is_refused_declared_or_not() {
    let mut small = settings();
    small.message_octets = 1000;
    let mut client = secured(small.clone());
    client.expect(&[("EHLO a.nl", "250"), ("MAIL FROM:<a@a.nl> SIZE=1001", "552 5.3.4 SMTP-014 ")]).await;
    client.expect(&[("MAIL FROM:<a@a.nl> SIZE=1000", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
    client.expect(&[("DATA", "354")]).await;
    let lines = |count: usize| "12345678\r\n".repeat(count);
    assert!(client.ask(&format!("{}.", lines(100))).await.starts_with("250 2.6.0"));
    client.expect(&[("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250"), ("DATA", "354")]).await;
    assert!(client.ask(&format!("{}.", lines(101))).await.starts_with("552 5.3.4 SMTP-014 "));
    client.expect(&[("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
    client.send(format!("BDAT 600\r\n{}BDAT 600 LAST\r\n{}NOOP\r\n", lines(60), lines(60))).await;
    for code in ["250 2.0.0", "552 5.3.4", "250 2.0.0"] {
        assert!(client.reply().await.starts_with(code));
    }
    assert_eq!(client.gate.accepted().len(), 1);
    // Who goes on and on is not listened to.
    let head = "EHLO a.nl\r\nMAIL FROM:<a@a.nl>\r\nRCPT TO:<b@b.nl>\r\n";
    let (codes, ended, gate) =
        pipelined(small.clone(), format!("{head}DATA\r\n{}", lines(5000)).as_bytes()).await;
    assert_eq!((codes, ended), (vec![250, 250, 250, 354, 552], Ended::Unreadable));
    assert_eq!(gate.asked().last(), Some(&Asked::Abandoned(552)));
    let (codes, ended, _) = pipelined(small, format!("{head}BDAT 4001\r\n{}", lines(900)).as_bytes()).await;
    assert_eq!((codes, ended), (vec![250, 250, 250, 552], Ended::Unreadable));
}

/// A lost connection, at every octet of the content up to its end.
#[tokio::test]
async fn a_lost_connection_leaves_nothing_behind() {
    const CONTENT: &str = "a\r\n..b\r\n.\r\n";
    for cut in 0..CONTENT.len() {
        let mut client = addressed().await;
        client.expect(&[("DATA", "354")]).await;
        client.send(&CONTENT[..cut]).await;
        let gate = client.gate.clone();
        assert_eq!(client.vanish().await, Ended::Lost);
        assert_eq!(gate.asked().last(), Some(&Asked::Abandoned(421)), "cut at {cut}");
    }
    for head in ["BDAT 6\r\na\r", "BDAT 3\r\na\r\n", "BDAT 3\r\na\r\nBDAT 0 LA"] {
        let mut client = addressed().await;
        client.send(head).await;
        let gate = client.gate.clone();
        assert_eq!(client.vanish().await, Ended::Lost);
        assert_eq!(gate.asked().last(), Some(&Asked::Abandoned(421)), "{head:?}");
    }
}

/// Content that began ends with its transaction, whatever ends that.
#[tokio::test]
async fn content_in_chunks_is_abandoned_on_reset() {
    for (command, code) in [("RSET", 451), ("EHLO a.nl", 451), ("HELO a.nl", 451), ("QUIT", 451)] {
        let mut client = addressed().await;
        client.send("BDAT 3\r\na\r\n").await;
        client.reply().await;
        client.ask(command).await;
        assert_eq!(client.gate.asked().last(), Some(&Asked::Abandoned(code)), "{command}");
        assert!(client.gate.accepted().is_empty());
    }
}

/// Proves: +LIM-007 -LIM-007
#[tokio::test]
async fn content_comes_to_the_gate_in_pieces() {
    let line = format!("{}\r\n", "x".repeat(98));
    let content = line.repeat(20_000);
    let mut client = addressed().await;
    client.send(format!("BDAT {} LAST\r\n{content}", content.len())).await;
    assert!(client.reply().await.starts_with("250 2.6.0"));
    assert_eq!(client.gate.accepted()[0].content, content.as_bytes());
    assert!(client.gate.largest_write() <= 16 * 1024, "{}", client.gate.largest_write());
}
