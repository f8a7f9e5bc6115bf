//! Our node among real programs: Postfix sends to it and receives from it, OpenDKIM signs, Dovecot keeps the mail, and
//! unbound resolves.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use testnet::dkim::SigningKey;
use testnet::dns::{DnsServer, Tree};
use testnet::foreign::{
    Disposition, Dkimpy, Dovecot, Floor, Form, Mailbox, Node, NodeConfig, OpenDkim, Postfix, Receiver,
    Sender, TestResult, Unbound, isolated,
};
use testnet::letters::{Parties, cases};
use testnet::net::expect::has_message_id;
use testnet::pki::{CertSpec, Identity};

const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
const AUTHORITY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const DOVECOT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1));
const MESSAGE: &[u8] =
    b"From: Anna <anna@a.nl>\r\nTo: bob@b.nl\r\nSubject: hello\r\nMessage-ID: <1@a.nl>\r\n\
    Date: Sun, 22 Nov 2026 12:00:00 +0100\r\n\r\n.a dot first\r\n\r\nhello  \r\n";

/// One of two providers: `a.nl` at 127.7.1.1 sends, `b.nl` at 127.7.2.1 receives.
struct Provider {
    domain: &'static str,
    host: &'static str,
    address: IpAddr,
    identity: Identity,
    signing: Vec<SigningKey>,
}

/// Whether a provider says in DNS which key it has as a client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientKey {
    Published,
    Unpublished,
}

impl Provider {
    fn new(domain: &'static str, host: &'static str, number: u8) -> Result<Self, Box<dyn std::error::Error>> {
        let identity = CertSpec::new(host).self_signed(Timestamp::now())?;
        Ok(Self { domain, host, address: [127, 7, number, 1].into(), identity, signing: SigningKey::both()? })
    }

    /// All that a sound provider publishes.
    fn publish(&self, tree: &mut Tree, client: ClientKey) -> TestResult {
        let Self { domain, host, address, .. } = self;
        let tlsa = self.identity.tlsa_311()?;
        tree.zone(domain)
            .txt(domain, &format!("v=NTA7516-1;startdate=2020-01;enddate=2099-12;provider=P;ntamx=10 {host}"))
            .txt(domain, &format!("v=spf1 ip4:{address} -all"))
            .txt(&format!("_dmarc.{domain}"), "v=DMARC1; p=reject")
            .mx(domain, 10, host)
            .address(host, *address)
            .tlsa(&format!("_25._tcp.{host}"), &tlsa);
        for key in &self.signing {
            tree.txt(&key.name(domain), &key.record);
        }
        if client == ClientKey::Published {
            tree.tlsa(&format!("_smtp-client.{host}"), &tlsa);
        }
        Ok(())
    }
}

/// Two providers, their DNS, and Dovecot behind the second.
struct Stage {
    a: Provider,
    b: Provider,
    dns: DnsServer,
    _unbound: Unbound,
    dovecot: Dovecot,
    _runtime: tokio::runtime::Runtime,
}

fn bob() -> Mailbox {
    Mailbox { address: "bob@b.nl".into(), password: "geheim".into() }
}

impl Stage {
    fn set(client: ClientKey) -> Result<Self, Box<dyn std::error::Error>> {
        let (a, b) = (Provider::new("a.nl", "nta.a.nl", 1)?, Provider::new("b.nl", "nta.b.nl", 2)?);
        let mut tree = Tree::new();
        a.publish(&mut tree, client)?;
        b.publish(&mut tree, ClientKey::Published)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let dns = runtime.block_on(DnsServer::start(tree, Timestamp::now(), (AUTHORITY, 53).into()))?;
        let unbound = Unbound::start(RESOLVER, AUTHORITY, &dns.anchor_ds())?;
        let dovecot = Dovecot::start(DOVECOT, &[bob()])?;
        Ok(Self { a, b, dns, _unbound: unbound, dovecot, _runtime: runtime })
    }

    fn node(&self, of: &Provider, floor: Floor) -> NodeConfig {
        NodeConfig {
            host: of.host.into(),
            domain: of.domain.into(),
            address: of.address,
            identity: of.identity.clone(),
            resolver: (RESOLVER, 53).into(),
            anchor_ds: self.dns.anchor_ds(),
            floor,
            signing: of.signing.clone(),
            lmtp_socket: (of.domain == self.b.domain).then(|| self.dovecot.lmtp_socket()),
        }
    }

    /// The Postfix of the first provider.
    fn sender(&self) -> Sender {
        Sender {
            host: self.a.host.into(),
            address: self.a.address,
            resolver: RESOLVER,
            identity: Some(self.a.identity.clone()),
            routes: Vec::new(),
            milter: None,
        }
    }

    /// The only message in Bob's mailbox, as IMAP shows it.
    fn only_mail(&mut self) -> Result<String, Box<dyn std::error::Error>> {
        let mut mail = self.dovecot.fetch_when(&bob(), 1)?;
        assert_eq!(mail.len(), 1, "{}", self.dovecot.log());
        Ok(String::from_utf8(mail.remove(0))?)
    }
}

/// Sends one message from a Postfix, and says what became of it.
fn send(sender: &Sender) -> Result<(Disposition, String), Box<dyn std::error::Error>> {
    let mut postfix = Postfix::sender(sender)?;
    postfix.inject("anna@a.nl", "bob@b.nl", MESSAGE)?;
    let outcome = postfix.outcome("bob@b.nl")?;
    Ok((outcome.disposition, format!("{}\n{}", outcome.reason, postfix.log())))
}

/// A Postfix as most providers have it, with OpenDKIM, plus a client certificate: nothing more is needed for the highest level.
///
/// Proves: +IDEN-006 +IDEN-009 +IDEN-010 +IDEN-013 +IDEN-021
#[test]
fn postfix_with_a_certificate_is_mutual() {
    isolated(|| {
        let mut stage = Stage::set(ClientKey::Published)?;
        let node = Node::start(&stage.node(&stage.b, Floor::Mutual))?;
        let opendkim = signer(&stage)?;
        let (disposition, told) = send(&Sender { milter: Some(opendkim.addr()), ..stage.sender() })?;
        assert_eq!(disposition, Disposition::Sent, "{told}\n{}", node.log());
        assert!(told.contains("Verified TLS connection established to nta.b.nl"), "{told}");

        let mail = stage.only_mail()?;
        assert!(mail.contains("\r\nFederation-Assurance: mutual; domain=a.nl; rule=dane;"), "{mail}");
        assert!(mail.as_bytes().ends_with(MESSAGE), "{mail}");
        Ok(())
    });
}

/// Proves: -IDEN-002
#[test]
fn postfix_without_a_certificate_is_refused_at_mutual() {
    isolated(|| {
        let stage = Stage::set(ClientKey::Unpublished)?;
        let node = Node::start(&stage.node(&stage.b, Floor::Mutual))?;
        let opendkim = signer(&stage)?;
        let sender = Sender { identity: None, milter: Some(opendkim.addr()), ..stage.sender() };
        let (disposition, told) = send(&sender)?;
        assert_eq!(disposition, Disposition::Bounced, "{told}\n{}", node.log());
        assert!(told.contains("550 5.7.") && told.contains("IDEN-"), "{told}");
        assert!(stage.dovecot.fetch(&bob())?.is_empty());
        Ok(())
    });
}

/// Proves: +IDEN-002 +IDEN-016
#[test]
fn postfix_without_a_certificate_passes_by_its_messages_at_nta7516() {
    isolated(|| {
        let mut stage = Stage::set(ClientKey::Unpublished)?;
        let node = Node::start(&stage.node(&stage.b, Floor::Nta7516))?;
        let opendkim = signer(&stage)?;
        let sender = Sender { identity: None, milter: Some(opendkim.addr()), ..stage.sender() };
        let (disposition, told) = send(&sender)?;
        assert_eq!(disposition, Disposition::Sent, "{told}\n{}", node.log());

        let mail = stage.only_mail()?;
        assert!(mail.contains("\r\nFederation-Assurance: nta7516; domain=a.nl; rule=message;"), "{mail}");
        let field = mail.split("Authentication-Results:").nth(1).unwrap_or_default();
        for result in ["spf=pass", "dkim=pass", "dmarc=pass"] {
            assert!(field.contains(result), "{result}: {mail}");
        }
        Ok(())
    });
}

/// Proves: -IDEN-016
#[test]
fn postfix_without_certificate_and_signature_is_refused_at_any_floor() {
    isolated(|| {
        let stage = Stage::set(ClientKey::Unpublished)?;
        let node = Node::start(&stage.node(&stage.b, Floor::Nta7516))?;
        let (disposition, told) = send(&Sender { identity: None, ..stage.sender() })?;
        assert_eq!(disposition, Disposition::Bounced, "{told}\n{}", node.log());
        assert!(told.contains("550 5.7.26") && told.contains("IDEN-016"), "{told}");
        assert!(stage.dovecot.fetch(&bob())?.is_empty());
        Ok(())
    });
}

/// Leaving the certificate away gains nothing for a provider whose client key is published.
///
/// Proves: -IDEN-011
#[test]
fn postfix_that_hides_its_published_key_is_refused_at_any_floor() {
    isolated(|| {
        let stage = Stage::set(ClientKey::Published)?;
        let node = Node::start(&stage.node(&stage.b, Floor::Nta7516))?;
        let opendkim = signer(&stage)?;
        let sender = Sender { identity: None, milter: Some(opendkim.addr()), ..stage.sender() };
        let (disposition, told) = send(&sender)?;
        assert_eq!(disposition, Disposition::Bounced, "{told}\n{}", node.log());
        assert!(told.contains("550 5.7.26") && told.contains("IDEN-011"), "{told}");
        Ok(())
    });
}

/// An OpenDKIM for the first provider, with its key published.
fn signer(stage: &Stage) -> Result<OpenDkim, Box<dyn std::error::Error>> {
    let opendkim = OpenDkim::start(stage.a.address, stage.a.domain, RESOLVER)?;
    let (name, text) = opendkim.record();
    stage.dns.update(|tree| {
        tree.txt(&name, text);
    })?;
    Ok(opendkim)
}

/// The Postfix of the second provider.
fn receiver(stage: &Stage, identity: Identity) -> Result<Postfix, Box<dyn std::error::Error>> {
    Ok(Postfix::receiver(&Receiver {
        host: stage.b.host.into(),
        address: stage.b.address,
        identity,
        mailboxes: vec!["bob@b.nl".into()],
    })?)
}

/// Proves: +IDEN-003
#[test]
fn node_delivers_to_postfix_and_shows_its_certificate() {
    isolated(|| {
        let stage = Stage::set(ClientKey::Published)?;
        let mut postfix = receiver(&stage, stage.b.identity.clone())?;
        let mut node = Node::start(&stage.node(&stage.a, Floor::Mutual))?;
        node.send("anna@a.nl", "bob@b.nl", MESSAGE)?;
        node.until_logged(&["delivered"])?;
        assert_eq!(postfix.outcome("bob@b.nl")?.disposition, Disposition::Sent);
        let mail = postfix.mail("bob@b.nl").remove(0);
        let text = String::from_utf8_lossy(&mail);
        assert!(mail.ends_with(MESSAGE), "{text}");
        assert!(text.contains("client-signature"), "our certificate was sent: {text}");
        assert!(text.contains("TLSv1.3"), "{text}");
        Ok(())
    });
}

#[test]
fn node_sends_nothing_to_a_postfix_with_another_key() {
    isolated(|| {
        let stage = Stage::set(ClientKey::Published)?;
        let other = CertSpec::new(stage.b.host).self_signed(Timestamp::now())?;
        let postfix = receiver(&stage, other)?;
        let mut node = Node::start(&stage.node(&stage.a, Floor::Mutual))?;
        node.send("anna@a.nl", "bob@b.nl", MESSAGE)?;
        node.until_logged(&["tlsa_mismatch"])?;
        assert!(!postfix.log().contains("client=unknown"), "no transaction: {}", postfix.log());
        assert!(postfix.mail("bob@b.nl").is_empty());
        Ok(())
    });
}

/// What dkimpy signs, in either form and with either kind of key, our node takes; one changed octet, and it does not.
///
/// Proves: +JUDGE-005 -JUDGE-005 +IDEN-022
#[test]
fn node_takes_what_dkimpy_signs() {
    isolated(|| {
        let mut stage = Stage::set(ClientKey::Published)?;
        let node = Node::start(&stage.node(&stage.b, Floor::Mutual))?;
        let dkimpy = Dkimpy::new(RESOLVER)?;
        let mut postfix = Postfix::sender(&stage.sender())?;
        let mut sent = 0;
        for key in &stage.a.signing {
            for form in [Form::Simple, Form::Relaxed] {
                let signed = dkimpy.sign(key, stage.a.domain, form, MESSAGE)?;
                assert!(signed.ends_with(MESSAGE), "{}", String::from_utf8_lossy(&signed));
                postfix.inject("anna@a.nl", "bob@b.nl", &signed)?;
                sent += 1;
                let changed = String::from_utf8(signed)?.replace("hello  ", "hallo  ");
                postfix.inject("anna@a.nl", "bob@b.nl", changed.as_bytes())?;
            }
        }
        let mail = stage.dovecot.fetch_when(&bob(), sent)?;
        for mail in &mail {
            let text = String::from_utf8_lossy(mail);
            assert!(text.contains("dkim=pass") && text.contains("\r\nhello  \r\n"), "{text}");
        }
        postfix.until_logged_times("dkim_failed", sent)?;
        assert_eq!(stage.dovecot.fetch(&bob())?.len(), sent, "{}", node.log());
        Ok(())
    });
}

/// Both ends are ours, and the mail is read back where a customer would read it. Everything is for one mailbox: what the
/// environment makes of a recipient's address is its own affair (see `foreign_dovecot`).
///
/// Proves: +HAND-004 +HAND-005 +HAND-006 +SIGN-001 -SIGN-001
#[test]
fn dovecot_keeps_what_node_hands_to_node_byte_for_byte() {
    isolated(|| {
        let mut stage = Stage::set(ClientKey::Published)?;
        let receiving = Node::start(&stage.node(&stage.b, Floor::Mutual))?;
        let sending = Node::start(&stage.node(&stage.a, Floor::Mutual))?;
        let opendkim = OpenDkim::start(stage.a.address, stage.a.domain, RESOLVER)?;
        let parties = Parties { sender: "a.nl".into(), recipient: "b.nl".into() };
        for case in cases() {
            sending.send("anna@a.nl", "bob@b.nl", &case.write(&parties).content)?;
        }
        let mut mail = stage.dovecot.fetch_when(&bob(), cases().count())?;
        assert_eq!(mail.len(), cases().count(), "{}", receiving.log());
        let mut problems = Vec::new();
        let mut verified = 0;
        let mut whole = Vec::new();
        for case in cases() {
            let expected = case.write(&parties).expected();
            // They may overtake each other on the way.
            let Some(found) = mail.iter().position(|mail| mail.ends_with(&expected)) else {
                problems.push(format!("{}: not among what arrived", case.name));
                continue;
            };
            let mail = mail.remove(found);
            let above = String::from_utf8_lossy(&mail[..mail.len() - expected.len()]).into_owned();
            // What does not name itself is given a name, below our trace field (SUBM-005).
            let named = if has_message_id(&expected) { None } else { Some("Message-ID") };
            if !field_names(&above).into_iter().eq(ADDED.into_iter().chain(named)) {
                problems.push(format!("{}: above it stands {above}", case.name));
            }
            whole.push((case.name, mail.clone()));
            // Of what was added on the way nothing is signed. The RSA signature stands alone, below the other.
            let mut places = mail.windows(15).enumerate().filter(|(_, name)| *name == b"DKIM-Signature:");
            let signed = places.nth(1).map_or(&mail[..], |(at, _)| &mail[at..]);
            match opendkim.verify(signed) {
                Ok(()) => {
                    verified += 1;
                    if opendkim.verify(&[signed, b"x\r\n"].concat()).is_ok() {
                        problems.push(format!("{}: a changed body passes", case.name));
                    }
                }
                // OpenDKIM judges no message whose header is in a form that RFC 5322 section 3.6 does not have.
                Err(error) if error.to_string().contains("Syntax error") => {}
                Err(error) => problems.push(format!("{}: {error}", case.name)),
            }
        }
        problems.extend(dkimpy_says(&Dkimpy::new(RESOLVER)?, &whole)?);
        assert!(problems.is_empty(), "{problems:#?}\n{}", receiving.log());
        assert!(verified * 2 > cases().count(), "OpenDKIM judged only {verified}");
        Ok(())
    });
}

/// What dkimpy says against the two signatures of each message as Bob reads it, whole, with all that was added above; and of
/// the first one changed.
fn dkimpy_says(
    dkimpy: &Dkimpy,
    whole: &[(&'static str, Vec<u8>)],
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut messages: Vec<_> = whole.iter().map(|(_, mail)| mail.clone()).collect();
    messages.push([&messages[0][..], b"x\r\n"].concat());
    let mut said = dkimpy.verify(&messages, 2)?;
    assert_eq!(said.len(), messages.len());
    assert_ne!(said.pop().as_deref(), Some("ok ok"), "a changed body passes");
    // It reads no field with a blank before its colon (obsolete syntax, RFC 5322 section 4.5).
    let unread =
        |name: &str, said: &str| name == "blank-before-colon" && said.contains("Unexpected characters");
    let against = whole.iter().zip(said).filter(|((name, _), said)| said != "ok ok" && !unread(name, said));
    Ok(against.map(|((name, _), said)| format!("{name}: dkimpy says {said}")).collect())
}

/// All that stands above a message, by name: Dovecot's three, our verdicts, a trace field of each node, and the signatures of the
/// first.
const ADDED: [&str; 9] = [
    "Return-Path",
    "Delivered-To",
    "Received",
    "Authentication-Results",
    "Federation-Assurance",
    "Received",
    "DKIM-Signature",
    "DKIM-Signature",
    "Received",
];

fn field_names(header: &str) -> Vec<&str> {
    let starts = header.lines().filter(|line| !line.starts_with([' ', '\t']));
    starts.filter_map(|line| line.split(':').next()).collect()
}
