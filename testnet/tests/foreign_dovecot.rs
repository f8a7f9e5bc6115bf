//! Dovecot by itself: what goes in by LMTP comes out by IMAP, so that a difference found later is the node's.
#![allow(missing_docs)]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use testnet::foreign::{Dovecot, ForeignError, Mailbox, isolated, wire};
use testnet::letters::{Parties, cases};

const DOVECOT: &str = "127.0.1.1";

fn anna() -> Mailbox {
    Mailbox { address: "anna@a.nl".into(), password: "geheim".into() }
}

/// The message without the header fields that Dovecot adds on top, which are known by name. It leaves `Delivered-To` out when
/// the message is for several, so as not to tell one of the others.
fn without_dovecots_own(message: &[u8], recipients: usize) -> &[u8] {
    let mut rest = message;
    let own: &[&str] = match recipients {
        1 => &["Return-Path:", "Delivered-To:", "Received:"],
        _ => &["Return-Path:", "Received:"],
    };
    for name in own {
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

/// Letters that Dovecot 2.3 has no way to take, and why. Each is tried: one that it takes after all must leave this list.
const NOT_FOR_DOVECOT: [(&str, &str); 4] = [
    ("utf8-recipient", "its LMTP does not offer SMTPUTF8 (RFC 6531), so an address has ASCII only"),
    ("utf8-sender", "its LMTP does not offer SMTPUTF8 (RFC 6531), so an address has ASCII only"),
    ("quoted-local-part", "a user's name has the characters of auth_username_chars only"),
    ("special-local-part", "a user's name has the characters of auth_username_chars only"),
];

fn parties() -> Parties {
    Parties { sender: "b.nl".into(), recipient: "a.nl".into() }
}

/// Dovecot looks for the mailbox in lower case.
fn mailbox(recipient: &str) -> Mailbox {
    Mailbox { address: recipient.to_ascii_lowercase(), password: "geheim".into() }
}

#[test]
fn every_letter_goes_in_by_lmtp_and_comes_out_by_imap_octet_for_octet() {
    isolated(|| {
        let excluded = |name: &str| NOT_FOR_DOVECOT.iter().any(|(excluded, _)| *excluded == name);
        let good = || cases().filter(|case| !excluded(case.name));
        let mailboxes: Vec<_> = good()
            .flat_map(|case| case.write(&parties()).recipients().map(mailbox).collect::<Vec<_>>())
            .collect();
        let dovecot = Dovecot::start(DOVECOT.parse()?, &mailboxes)?;
        let mut problems = Vec::new();
        for case in good() {
            let letter = case.write(&parties());
            let to: Vec<_> = letter.recipients().collect();
            let replies = wire::lmtp(dovecot.lmtp_addr(), &letter.envelope.sender, &to, &letter.content)?;
            if let Some(reply) = replies.iter().find(|reply| reply.code != 250) {
                problems.push(format!("{}: {}", case.name, reply.text));
                continue;
            }
            for recipient in &to {
                let stored = dovecot.fetch(&mailbox(recipient))?;
                if !matches!(stored.as_slice(), [one] if without_dovecots_own(one, to.len()) == letter.expected())
                {
                    problems.push(format!("{}: another message, or not one, for {recipient}", case.name));
                }
            }
        }
        assert!(problems.is_empty(), "{problems:#?}\n{}", dovecot.log());
        assert_eq!(good().count() + NOT_FOR_DOVECOT.len(), cases().count());
        Ok(())
    });
}

#[test]
fn what_dovecot_cannot_take_it_refuses_by_the_envelope() {
    isolated(|| {
        let dovecot = Dovecot::start(DOVECOT.parse()?, &[anna()])?;
        for case in cases().filter(|case| NOT_FOR_DOVECOT.iter().any(|(name, _)| *name == case.name)) {
            let letter = case.write(&parties());
            let to: Vec<_> = letter.recipients().collect();
            match wire::lmtp(dovecot.lmtp_addr(), &letter.envelope.sender, &to, &letter.content) {
                Err(ForeignError::Unexpected { reply, .. }) => assert!(reply.starts_with('5'), "{reply}"),
                Ok(replies) => {
                    assert!(replies.iter().all(|reply| reply.code / 100 == 5), "{}: {replies:?}", case.name)
                }
                Err(other) => return Err(other.into()),
            }
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
