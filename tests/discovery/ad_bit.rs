//! Attack class T21: the AD bit, believed only of a resolver on this host that was seen to validate.

use std::net::SocketAddr;

use sluis::discovery::{AddressRule, Discovery, ResolverError, Trace, Trust};
use sluis::model::Reason;
use sluis::world::ManualClock;
use testnet::dns::{Fault, KNOWN_BOGUS, RrType, Tree, Trouble};

use crate::forgery::Proxy;
use crate::support::{Is, is, name, provider, serve, settings, world};

async fn start(resolver: SocketAddr) -> Result<Discovery, ResolverError> {
    let trust = Trust::AdBit { known_good: "nl".parse().unwrap(), known_bogus: KNOWN_BOGUS.parse().unwrap() };
    let clock = ManualClock::at(jiff::Timestamp::now());
    Discovery::start(settings(resolver, trust, AddressRule::PublicOnly), world(clock)).await
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    for zone in ["good.nl", "plain.nl", "bogus.nl", "forged.nl"] {
        provider(&mut tree, zone);
    }
    tree.fault(Fault::zone("plain.nl", Trouble::Unsigned))
        .fault(Fault::zone("bogus.nl", Trouble::WrongSignature))
        .fault(Fault::record("forged.nl", RrType::Txt, Trouble::WrongSignature))
        .fault(Fault::record("forged.nl", RrType::Txt, Trouble::ForgedAd));
    tree
}

/// Proves: +DNS-007
#[tokio::test]
async fn t21_a_validating_resolver_on_loopback_serves() {
    let dns = serve(tree()).await;
    let discovery = start(dns.addr()).await.unwrap();
    for (domain, expect) in [
        ("good.nl", Is::Good),
        ("plain.nl", Is::No(Reason::ZoneInsecure)),
        ("bogus.nl", Is::Later(Reason::DnsServfail)),
        ("nobody.nl", Is::No(Reason::DomainUnknown)),
    ] {
        assert_eq!(is(&discovery.federation(&name(domain), &mut Trace::new()).await), expect, "{domain}");
    }
    // What the option costs: here the resolver alone decides. In-process validation calls the same answer bogus
    // (`t20_forgeries_are_bogus_and_never_insecure`), which is why it is the default.
    assert_eq!(is(&discovery.federation(&name("forged.nl"), &mut Trace::new()).await), Is::Good);
}

/// Proves: -DNS-007
#[tokio::test]
async fn t21_a_resolver_that_others_can_stand_between_is_refused() {
    for resolver in
        ["192.0.2.53:53", "10.0.0.53:53", "[2001:db8::53]:53", "0.0.0.0:53", "[::ffff:192.0.2.1]:53"]
    {
        let refused = start(resolver.parse().unwrap()).await;
        assert!(matches!(refused, Err(ResolverError::NotLoopback(_))), "{resolver}");
    }
}

/// Proves: -DNS-007
#[tokio::test]
async fn t21_the_self_test_finds_a_resolver_that_does_not_validate() {
    let dns = serve(tree()).await;
    let no_ad = Proxy::start(dns.addr(), |_, reply| reply.metadata.authentic_data = false).await;
    assert!(matches!(start(no_ad.addr()).await, Err(ResolverError::NoAd { .. })));

    // Marks everything, and answers everything.
    let credulous =
        Proxy::with_checking_disabled(dns.addr(), |_, reply| reply.metadata.authentic_data = true).await;
    assert!(matches!(start(credulous.addr()).await, Err(ResolverError::BogusAnswered { .. })));

    let nobody: SocketAddr = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(start(nobody).await, Err(ResolverError::SelfTest { .. })));
}
