//! Rows that a client brings about by what it says, at the border to the platform and at the one to other providers.

use jiff::Timestamp;
use testnet::net::Net;
use testnet::net::client::Carriage;
use testnet::pki::CertSpec;
use testnet::sink::Answer;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::support::{
    HEAD, PATIENCE, Row, Who, assert_refusal, assert_reply, assert_row, configure, pinned, plain, with_net,
};

/// Rows of content and envelope, the same at both borders.
fn rows() -> Vec<Row> {
    let lines = |line: &str, count| format!("{HEAD}{}\r\nx\r\n", format!("{line}\r\n").repeat(count));
    vec![
        Row::new("message_too_large", "MAIL", plain()).parameters(&["SIZE=100001"]),
        Row::new("message_too_large", "content", format!("{}{}", plain(), "a line\r\n".repeat(13_000))),
        Row::new(
            "header_too_large",
            "content",
            lines("X-Long: a field that is repeated until it is too much", 1_200),
        ),
        Row::new("header_too_large", "content", lines("X: y", 1_001)),
        Row::new("too_many_chunks", "content", plain() + &"a line\r\n".repeat(125))
            .carriage(Carriage::Chunks(1)),
        Row::new("content_malformed", "content", plain() + "a line that ends\nas none does\r\n"),
        Row::new("line_too_long", "content", plain() + &"x".repeat(999) + "\r\n"),
        Row::new("mail_loop", "content", lines("Received: by x; y", 101)),
        Row::new("from_malformed", "content", lines(HEAD.trim_end(), 1)),
        Row::new("from_malformed", "content", "Subject: nobody\r\n\r\nx\r\n"),
        Row::new("null_sender_not_report", "content", plain()).from(""),
    ]
}

/// Proves: -SMTP-007 -SMTP-008 -SMTP-014 -SMTP-019 -LIM-006 -IDEN-014 -IDEN-015
/// Proves: +REC-001 -REC-001 +REC-002 -REC-002
#[test]
fn our_own_platform_is_refused_by_the_row() {
    with_net(async |net| {
        for row in rows() {
            assert_row(net, Who::Platform, &row).await;
        }
        // A client that is none of ours.
        configure(net, "a", |text| text.replace("\"127.0.0.0/8\"", "\"192.0.2.0/24\"")).await;
        assert_row(net, Who::Platform, &Row::new("client_denied", "MAIL", plain())).await;
    });
}

/// Proves: -SMTP-007 -SMTP-008 -SMTP-014 -SMTP-018 -SMTP-019 -LIM-006 -IDEN-010 -IDEN-014 -IDEN-015
/// Proves: +REC-001 -REC-001 +REC-002 -REC-002
#[test]
fn a_proven_peer_is_refused_by_the_row() {
    with_net(async |net| {
        let own = &net.provider("a").unwrap().placed.certificate;
        for row in rows() {
            assert_row(net, Who::Peer(own), &row).await;
        }
        let doubtful = Row::new("sender_dns_temporary", "MAIL", plain()).from("carol@c.nl");
        assert_row(net, Who::Peer(own), &doubtful).await;
        let sink = net.provider("b").unwrap().sink().unwrap();
        sink.answer("nobody@b.nl", Answer::Unknown);
        sink.answer("busy@b.nl", Answer::TemporaryAtRcpt);
        for (reason, to) in [("recipient_unknown", "nobody@b.nl"), ("environment_temporary", "busy@b.nl")] {
            assert_row(net, Who::Peer(own), &Row::new(reason, "RCPT", plain()).to(to)).await;
        }
    });
}

/// Proves: -IDEN-007 -IDEN-012 -LIM-003
#[test]
fn a_client_without_the_right_key_or_with_too_many_messages_is_refused_by_the_row() {
    with_net(async |net| {
        let own = &net.provider("a").unwrap().placed.certificate;
        let names = (1..=5).map(|number| format!("nta-{number}.a.nl"));
        let crowded = CertSpec::new("nta.a.nl").names(names).self_signed(Timestamp::now()).unwrap();
        assert_row(net, Who::Peer(&crowded), &Row::new("client_certificate_invalid", "MAIL", plain())).await;

        let other_key = pinned("a", "nta.a.nl");
        configure(net, "b", |text| text + &other_key).await;
        assert_row(net, Who::Peer(own), &Row::new("client_pin_mismatch", "MAIL", plain())).await;

        // One message in a minute; the second one is one too many, and a reload has brought the limit into force.
        configure(net, "b", |text| text.replace(&other_key, "messages_per_peer_per_minute = 1\n")).await;
        assert_row(net, Who::Peer(own), &Row::new("from_malformed", "content", "Subject: x\r\n\r\nx\r\n"))
            .await;
        assert_row(net, Who::Peer(own), &Row::new("over_budget", "MAIL", plain())).await;
    });
}

/// A client that goes on without TLS hears of it at each command, and its transaction is on record.
/// Proves: -SMTP-001 -REC-001 -REC-002
#[test]
fn a_client_that_does_not_start_tls_is_refused_by_the_row() {
    with_net(async |net| {
        for who in [Who::Platform, Who::Unproven] {
            in_clear_text(net, who).await;
        }
    });
}

async fn in_clear_text(net: &Net, who: Who<'_>) {
    let (node, direction, call) = who.door(net);
    let before = node.printed().len();
    let mut stream = BufStream::new(TcpStream::connect(call.address).await.unwrap());
    assert!(last_line(&mut stream).await.starts_with("220 "));
    say(&mut stream, &format!("EHLO {}", call.helo), "250 ").await;
    for command in ["MAIL FROM:<alice@a.nl>", "RCPT TO:<bob@b.nl>", "DATA"] {
        let said = say(&mut stream, command, "530 ").await;
        assert_reply("starttls_required", &said);
    }
    // Without a transaction this is no content but commands.
    for line in plain().split_terminator("\r\n").filter(|line| !line.is_empty()) {
        say(&mut stream, line, "5").await;
    }
    say(&mut stream, "QUIT", "221 ").await;
    assert_refusal(node, direction, "starttls_required", before).await;
    let printed = node.printed();
    let records = printed[before..].lines().filter(|line| line.contains("starttls_required")).count();
    assert_eq!(records, 1, "one transaction, one record");
}

async fn say(stream: &mut BufStream<TcpStream>, command: &str, code: &str) -> String {
    stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let said = last_line(stream).await;
    assert!(said.starts_with(code), "{command}: {said}");
    said
}

/// The last line of a reply.
async fn last_line(stream: &mut BufStream<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        let read = timeout(PATIENCE, stream.read_line(&mut line)).await.unwrap().unwrap();
        assert!(read > 3, "the server hung up");
        if line.as_bytes()[3] == b' ' {
            return line.trim_end().to_owned();
        }
    }
}
