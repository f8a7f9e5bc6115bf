//! Clients that take too much: time, commands, chunks, recipients.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::dialogue::Ended;
use super::harness::{Asked, TestGate, connected, pipelined, secured, settings};

const SECOND: Duration = Duration::from_secs(1);

/// Proves: +LIM-005 -LIM-005 +SMTP-022 -SMTP-022
#[tokio::test(start_paused = true)]
async fn t26_a_silent_client_is_told_when_its_time_is_over() {
    let begun = Instant::now();
    let mut client = connected(settings(), TestGate::default());
    assert!(client.reply().await.starts_with("220"));
    assert!(client.reply().await.starts_with("421 4.4.2 LIM-005 "));
    assert_eq!(begun.elapsed().as_secs(), 300);
    assert_eq!(client.rest().await, (vec![], Ended::Late));

    let begun = Instant::now();
    let mut client = secured(settings());
    client.expect(&[("EHLO a.nl", "250"), ("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
    sleep(299 * SECOND).await;
    client.expect(&[("DATA", "354")]).await;
    assert!(client.reply().await.starts_with("421 4.4.2 LIM-005 "));
    assert_eq!(begun.elapsed().as_secs(), 299 + 180);
    assert_eq!(client.gate.asked().last(), Some(&Asked::Abandoned(421)));
    assert_eq!(client.rest().await, (vec![], Ended::Late));
}

/// One octet a second keeps no step alive: not a command, not the clear-text part, not content.
///
/// Proves: -LIM-005
#[tokio::test(start_paused = true)]
async fn t26_octets_that_trickle_buy_no_time() {
    let begun = Instant::now();
    let mut client = secured(settings());
    for _ in 0..299 {
        client.send("N").await;
        sleep(SECOND).await;
    }
    assert!(client.reply().await.starts_with("421 4.4.2"));
    assert_eq!(begun.elapsed().as_secs(), 300);

    let begun = Instant::now();
    let mut client = connected(settings(), TestGate::default());
    client.reply().await;
    for _ in 0..29 {
        sleep(10 * SECOND).await;
        client.expect(&[("NOOP", "250")]).await;
    }
    assert!(client.reply().await.starts_with("421 4.4.2"));
    assert_eq!(begun.elapsed().as_secs(), 300);

    let mut client = secured(settings());
    client.expect(&[("EHLO a.nl", "250"), ("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
    client.expect(&[("DATA", "354")]).await;
    let begun = Instant::now();
    for _ in 0..36 {
        client.send("x\r\n").await;
        sleep(100 * SECOND).await;
    }
    assert!(client.reply().await.starts_with("421 4.4.2"));
    assert_eq!(begun.elapsed().as_secs(), 3600);

    // Chunks do not restart the clock either.
    let mut client = secured(settings());
    client.expect(&[("EHLO a.nl", "250"), ("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
    let begun = Instant::now();
    for _ in 0..35 {
        client.send("BDAT 3\r\na\r\n").await;
        assert!(client.reply().await.starts_with("250"));
        sleep(100 * SECOND).await;
    }
    assert!(client.reply().await.starts_with("421 4.4.2"));
    assert_eq!(begun.elapsed().as_secs(), 3600);
}

/// Proves: -LIM-005
#[tokio::test(start_paused = true)]
async fn t26_a_session_has_an_end_however_busy_it_is() {
    let begun = Instant::now();
    let mut client = secured(settings());
    client.expect(&[("EHLO a.nl", "250")]).await;
    for _ in 0..71 {
        client.expect(&[("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
        client.expect(&[("DATA", "354"), (".", "250 2.6.0")]).await;
        sleep(100 * SECOND).await;
    }
    assert!(client.reply().await.starts_with("421 4.4.2"));
    assert_eq!(begun.elapsed().as_secs(), 7200);
}

/// A client that sends and never reads.
///
/// Proves: -LIM-005
#[tokio::test(start_paused = true)]
async fn t26_a_client_that_does_not_read_is_let_go() {
    let mut generous = settings();
    (generous.idle_commands, generous.errors) = (u64::MAX, u64::MAX);
    let mut client = secured(generous);
    let flood = "NOOP\r\n".repeat(100_000);
    // The pipe fills in both directions, and then it is for the session to give up.
    while client.try_send(&flood).await.is_ok() {}
    assert_eq!(client.vanish().await, Ended::Late);
}

/// Proves: +LIM-002 -LIM-002
#[tokio::test]
async fn recipients_beyond_the_limit_wait_for_another_transaction() {
    let mut few = settings();
    few.recipients = 2;
    let mut client = secured(few);
    client
        .expect(&[
            ("EHLO a.nl", "250"),
            ("MAIL FROM:<a@a.nl>", "250"),
            ("RCPT TO:<b@b.nl>", "250 2.1.5"),
            ("RCPT TO:<no@b.nl>", "550"),
            ("RCPT TO:<c@b.nl>", "250 2.1.5"),
            ("RCPT TO:<d@b.nl>", "452 4.5.3 LIM-002 "),
            ("RCPT TO:<e@b.nl>", "452 4.5.3"),
            ("DATA", "354"),
            (".", "250 2.6.0"),
        ])
        .await;
    assert_eq!(client.gate.accepted()[0].recipients, ["b@b.nl", "c@b.nl"]);
    assert!(!client.gate.asked().contains(&Asked::Rcpt("d@b.nl".to_owned())));
}

/// Proves: +LIM-006 -LIM-006
#[tokio::test]
async fn t04b_many_tiny_chunks_are_counted() {
    let mut few = settings();
    few.chunks = 3;
    let head = "EHLO a.nl\r\nMAIL FROM:<a@a.nl>\r\nRCPT TO:<b@b.nl>\r\n";
    let chunk = "BDAT 3\r\na\r\n";
    let within = format!("{head}{chunk}{chunk}BDAT 0 LAST\r\nQUIT\r\n");
    let (codes, _, gate) = pipelined(few.clone(), within.as_bytes()).await;
    assert_eq!(codes, [250, 250, 250, 250, 250, 250, 221]);
    assert_eq!(gate.accepted().len(), 1);
    let beyond = format!("{head}{chunk}{chunk}{chunk}{chunk}BDAT 0 LAST\r\nQUIT\r\n");
    let (codes, _, gate) = pipelined(few.clone(), beyond.as_bytes()).await;
    assert_eq!(codes, [250, 250, 250, 250, 250, 250, 552, 503, 221]);
    assert!(gate.accepted().is_empty());
    assert_eq!(gate.asked().last(), Some(&Asked::Abandoned(552)));
    // Empty chunks count, and who goes on regardless is sent away.
    let endless = format!("{head}{}", "BDAT 0\r\n".repeat(10_000));
    let (codes, ended, _) = pipelined(few, endless.as_bytes()).await;
    assert_eq!((codes.len(), codes.last(), ended), (3 + 3 + 1 + 21 + 1, Some(&421), Ended::UsedUp));
}

/// Proves: +LIM-004 -LIM-004
#[tokio::test]
async fn t04b_errors_idling_refusals_and_transactions_have_an_end() {
    let mut strict = settings();
    (strict.errors, strict.refusals, strict.idle_commands, strict.transactions) = (3, 3, 5, 2);
    for (script, codes) in [
        ("X\r\n".repeat(9), vec![500, 500, 500, 500, 421]),
        ("DATA\r\n".repeat(9), vec![503, 503, 503, 503, 421]),
        ("MAIL FROM:<no@a.nl>\r\n".repeat(9), vec![550, 550, 550, 550, 421]),
        ("RSET\r\n".repeat(9), vec![250, 250, 250, 250, 250, 421]),
        ("MAIL FROM:<a@a.nl>\r\nRSET\r\n".repeat(9), vec![250, 250, 250, 250, 421]),
        (
            "MAIL FROM:<a@a.nl>\r\nVRFY x\r\n".to_owned() + &"NOOP\r\n".repeat(9),
            vec![250, 252, 250, 250, 250, 250, 421],
        ),
    ] {
        let script = format!("EHLO a.nl\r\n{script}");
        let (mut found, ended, _) = pipelined(strict.clone(), script.as_bytes()).await;
        assert_eq!(found.remove(0), 250);
        // The command that passes the limit still gets its own reply.
        assert_eq!((found, ended), (codes, Ended::UsedUp), "{script:?}");
    }
    // Work does not count as idling.
    let work = "MAIL FROM:<a@a.nl>\r\nRCPT TO:<b@b.nl>\r\nBDAT 0 LAST\r\nNOOP\r\nNOOP\r\nNOOP\r\n";
    let (codes, ended, gate) =
        pipelined(strict, format!("EHLO a.nl\r\n{work}{work}QUIT\r\n").as_bytes()).await;
    assert_eq!((codes.last(), ended, gate.accepted().len()), (Some(&221), Ended::Quit, 2));
}

/// Proves: -SMTP-009
#[tokio::test]
async fn t04b_a_line_without_end_ends_the_session() {
    let mut client = secured(settings());
    let gate = client.gate.clone();
    client.send(vec![b'x'; 100_000]).await;
    assert!(client.reply().await.starts_with("500 5.5.6"));
    assert_eq!(client.rest().await, (vec![], Ended::Unreadable));
    assert!(gate.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_idle_sessions_and_lets_transactions_finish() {
    let mut idle = secured(settings());
    idle.expect(&[("EHLO a.nl", "250")]).await;
    let mut busy = secured(settings());
    busy.expect(&[("EHLO a.nl", "250"), ("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
    let mut stuck = secured(settings());
    stuck.expect(&[("EHLO a.nl", "250"), ("MAIL FROM:<a@a.nl>", "250"), ("RCPT TO:<b@b.nl>", "250")]).await;
    stuck.expect(&[("DATA", "354")]).await;
    for client in [&idle, &busy, &stuck] {
        client.stop.soon.cancel();
    }
    assert_eq!(idle.rest().await, (vec![421], Ended::Stopping));
    busy.expect(&[("DATA", "354"), ("a\r\n.", "250 2.6.0")]).await;
    assert!(busy.reply().await.starts_with("421 4.3.2"));
    assert_eq!(busy.gate.accepted().len(), 1);
    let gate = stuck.gate.clone();
    stuck.stop.now.cancel();
    assert_eq!(stuck.rest().await, (vec![421], Ended::Stopping));
    assert_eq!(gate.asked().last(), Some(&Asked::Abandoned(421)));
}
