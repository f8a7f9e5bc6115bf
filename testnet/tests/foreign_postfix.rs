//! Postfix sends to Postfix with DANE through unbound and the testnet's DNS: the stage on which the node will stand in
//! for either of them.
#![allow(missing_docs)]

use std::net::IpAddr;

use jiff::Timestamp;
use testnet::dns::{DnsServer, Tree};
use testnet::foreign::{Disposition, OpenDkim, Postfix, Receiver, Sender, Unbound, isolated};
use testnet::pki::{CertSpec, Identity, PkiError};

const RESOLVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 53));
const OUT: &str = "127.7.1.1";
const IN: &str = "127.7.2.1";
const MESSAGE: &[u8] = b"From: anna@a.nl\r\nTo: bob@b.nl\r\nSubject: hello\r\nMessage-ID: <1@a.nl>\r\n\
    Date: Sun, 22 Nov 2026 12:00:00 +0100\r\n\r\n.dot\r\nhello\r\n";

/// Provider a.nl sends, provider b.nl receives.
struct Stage {
    dns: DnsServer,
    _unbound: Unbound,
    receiver: Postfix,
    sender: Sender,
    _runtime: tokio::runtime::Runtime,
}

impl Stage {
    /// `tlsa` is what DNS publishes for the receiver, given its identity.
    fn set(
        tlsa: impl FnOnce(&Identity) -> Result<Vec<u8>, PkiError>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let identity = |host| CertSpec::new(host).self_signed(Timestamp::now());
        let (client, server) = (identity("nta.a.nl")?, identity("nta.b.nl")?);
        let mut tree = Tree::new();
        tree.zone("a.nl").address("nta.a.nl", OUT.parse()?);
        tree.zone("b.nl")
            .mx("b.nl", 10, "nta.b.nl")
            .address("nta.b.nl", IN.parse()?)
            .tlsa("_25._tcp.nta.b.nl", &tlsa(&server)?);

        let runtime = tokio::runtime::Runtime::new()?;
        let dns = runtime.block_on(DnsServer::start(tree, Timestamp::now(), "127.0.0.2:53".parse()?))?;
        let unbound = Unbound::start(RESOLVER, dns.addr().ip(), &dns.anchor_ds())?;
        let receiver = Postfix::receiver(&Receiver {
            host: "nta.b.nl".into(),
            address: IN.parse()?,
            identity: server,
            mailboxes: vec!["bob@b.nl".into()],
        })?;
        let sender = Sender {
            host: "nta.a.nl".into(),
            address: OUT.parse()?,
            resolver: RESOLVER,
            identity: Some(client),
            routes: Vec::new(),
            milter: None,
        };
        Ok(Self { dns, _unbound: unbound, receiver, sender, _runtime: runtime })
    }
}

#[test]
fn postfix_delivers_with_dane_and_shows_its_certificate() {
    isolated(|| {
        let mut stage = Stage::set(Identity::tlsa_311)?;
        let mut sender = Postfix::sender(&stage.sender)?;
        sender.inject("anna@a.nl", "bob@b.nl", MESSAGE)?;
        let outcome = sender.outcome("bob@b.nl")?;
        assert_eq!(outcome.disposition, Disposition::Sent, "{outcome:?}\n{}", sender.log());
        assert!(sender.log().contains("Verified TLS connection established to nta.b.nl"), "{}", sender.log());
        assert!(stage.receiver.log().contains("TLS connection established from"), "{}", stage.receiver.log());

        assert_eq!(stage.receiver.outcome("bob@b.nl")?.disposition, Disposition::Sent);
        let mail = stage.receiver.mail("bob@b.nl");
        assert_eq!(mail.len(), 1);
        let text = String::from_utf8_lossy(&mail[0]);
        assert!(
            text.contains("Client CN") || text.contains("client-signature"),
            "a client certificate: {text}"
        );
        assert!(mail[0].ends_with(MESSAGE), "{text}");
        assert!(sender.queue()?.is_empty());
        Ok(())
    });
}

#[test]
fn postfix_keeps_the_message_when_the_tlsa_record_does_not_match() {
    isolated(|| {
        let stage = Stage::set(|_| Ok([&[3, 1, 1][..], &[9; 32]].concat()))?;
        let mut sender = Postfix::sender(&stage.sender)?;
        sender.inject("anna@a.nl", "bob@b.nl", MESSAGE)?;
        let outcome = sender.outcome("bob@b.nl")?;
        assert_eq!(outcome.disposition, Disposition::Deferred, "{outcome:?}\n{}", sender.log());
        assert_eq!(sender.queue()?.len(), 1);
        assert!(stage.receiver.mail("bob@b.nl").is_empty());
        Ok(())
    });
}

#[test]
fn opendkim_signs_what_postfix_sends() {
    isolated(|| {
        let mut stage = Stage::set(Identity::tlsa_311)?;
        let opendkim = OpenDkim::start(OUT.parse()?, "a.nl", RESOLVER)?;
        let (name, text) = opendkim.record();
        stage.dns.update(|tree| {
            tree.txt(&name, text);
        })?;
        stage.sender.milter = Some(opendkim.addr());
        let mut sender = Postfix::sender(&stage.sender)?;
        sender.inject("anna@a.nl", "bob@b.nl", MESSAGE)?;
        let outcome = sender.outcome("bob@b.nl")?;
        assert_eq!(outcome.disposition, Disposition::Sent, "{outcome:?}\n{}", sender.log());
        stage.receiver.outcome("bob@b.nl")?;
        let mail = stage.receiver.mail("bob@b.nl").remove(0);
        assert!(
            String::from_utf8_lossy(&mail).contains("d=a.nl; s=real"),
            "{}",
            String::from_utf8_lossy(&mail)
        );
        opendkim.verify(&mail)?;
        let changed = String::from_utf8_lossy(&mail).replace("hello\r\n", "hallo\r\n");
        assert!(opendkim.verify(changed.as_bytes()).is_err(), "a changed message must not verify");
        Ok(())
    });
}
