//! Dovecot by itself: what goes in by LMTP comes out by IMAP, so that a difference found later is the node's.
#![allow(missing_docs)]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use testnet::foreign::{Dovecot, Mailbox, isolated, wire};

const DOVECOT: &str = "127.0.1.1";

fn anna() -> Mailbox {
    Mailbox { address: "anna@a.nl".into(), password: "geheim".into() }
}

/// The message without the header fields that Dovecot adds on top, which are known by name.
fn without_dovecots_own(message: &[u8]) -> &[u8] {
    let mut rest = message;
    for name in ["Return-Path:", "Delivered-To:", "Received:"] {
        assert!(
            rest.starts_with(name.as_bytes()),
            "{name} expected on top of {}",
            String::from_utf8_lossy(rest)
        );
        let mut at = 0;
        loop {
            at += rest[at..].iter().position(|octet| *octet == b'\n').expect("a field has an end") + 1;
            if !rest[at..].starts_with(b" ") && !rest[at..].starts_with(b"\t") {
                break;
            }
        }
        rest = &rest[at..];
    }
    rest
}

#[test]
fn lmtp_in_imap_out_byte_for_byte() {
    isolated(|| {
        let dovecot = Dovecot::start(DOVECOT.parse()?, &[anna()])?;
        let large =
            ["Subject: large\r\n\r\n", &"0123456789abcdef0123456789abcdef\r\n".repeat(100_000)].concat();
        let messages: [&[u8]; 5] = [
            b"From: bob@b.nl\r\nSubject: plain\r\n\r\nhello\r\n",
            b"Subject: dots\r\n\r\n.\r\n..\r\n.hidden\r\nend.\r\n",
            "Subject: gr\u{fc}n\r\n\r\n\u{20ac} 8-bit\r\n".as_bytes(),
            b"Subject: no body at all\r\n\r\n",
            large.as_bytes(),
        ];
        for message in messages {
            let replies = wire::lmtp(dovecot.lmtp_addr(), "bob@b.nl", &["anna@a.nl"], message)?;
            assert_eq!(replies[0].code, 250, "{replies:?}\n{}", dovecot.log());
        }
        let stored = dovecot.fetch(&anna())?;
        assert_eq!(stored.len(), messages.len());
        for (sent, stored) in messages.iter().zip(&stored) {
            assert!(
                without_dovecots_own(stored) == *sent,
                "{}",
                String::from_utf8_lossy(&stored[..stored.len().min(600)])
            );
        }
        Ok(())
    });
}

#[test]
fn every_recipient_gets_an_answer_of_his_own() {
    isolated(|| {
        let dovecot = Dovecot::start(DOVECOT.parse()?, &[anna()])?;
        let to = ["nobody@a.nl", "anna@a.nl"];
        let replies = wire::lmtp(dovecot.lmtp_addr(), "bob@b.nl", &to, b"Subject: x\r\n\r\nx\r\n")?;
        assert_eq!(replies.iter().map(|reply| reply.code).collect::<Vec<_>>(), [550, 250], "{replies:?}");
        assert_eq!(dovecot.fetch(&anna())?.len(), 1);
        let stranger = Mailbox { password: "wrong".into(), ..anna() };
        assert!(dovecot.fetch(&stranger).is_err(), "a wrong password opens nothing");
        Ok(())
    });
}

#[test]
fn the_unix_socket_speaks_lmtp_too() {
    isolated(|| {
        let dovecot = Dovecot::start(DOVECOT.parse()?, &[anna()])?;
        let mut socket = UnixStream::connect(dovecot.lmtp_socket())?;
        let mut greeting = [0; 4];
        socket.read_exact(&mut greeting)?;
        assert_eq!(&greeting, b"220 ");
        socket.write_all(b"QUIT\r\n")?;
        Ok(())
    });
}
