//! Rows of DNS: of the domain, which the platform hears of at once, and of a host, for which the message waits. Nobody listens
//! at any of these hosts, and it would be noticed if somebody knocked.

use std::net::{IpAddr, Ipv4Addr};

use testnet::dns::RrType;

use super::support::{
    Row, Who, assert_record, assert_row, first_attempt, nodes, plain, provider, tripwire, with,
};

/// Proves: -DNS-002 +SUBM-004
#[test]
fn t16_a_domain_whose_name_servers_do_not_answer_is_not_judged() {
    let silent =
        "played_by = \"nobody\"\n[[fault]]\nname = \"silent.nl\"\ntype = \"TXT\"\ntrouble = \"silence\"";
    // Less than the default, so that nobody waits long; still far more than any good look-up takes.
    let topology = nodes("dns_question_seconds = 8", &provider("silent", &["silent.nl"], silent));
    with(&topology, async |net| {
        assert_row(net, Who::Platform, &Row::new("dns_timeout", "RCPT", plain()).to("bob@silent.nl")).await;
        assert_eq!(tripwire(net, "silent").touched(), 0);
    });
}

/// Proves: -DNS-004 -DANE-005 -DISC-015
#[test]
fn a_domain_or_host_that_dns_does_not_vouch_for_is_left_before_a_connection() {
    let nobody = "played_by = \"nobody\"";
    let circle = format!("{nobody}\n[[fault]]\nname = \"nta.circle.nl\"\ntrouble = \"alias_loop\"");
    let borrowed = format!(
        "{nobody}\n[[fault]]\nzone = \"plain.nl\"\ntrouble = \"unsigned\"\n\
         [[fault]]\nname = \"_2525._tcp.nta.borrowed.nl\"\ntrouble = {{ alias = \"keys.plain.nl\" }}"
    );
    let providers = [
        provider("circle", &["circle.nl"], &circle),
        provider("borrowed", &["borrowed.nl", "plain.nl"], &borrowed),
        provider("many", &["many.nl"], nobody),
    ];
    with(&nodes("", &providers.concat()), async |net| {
        // Not even a lab connects to a multicast address (DISC-015).
        let many = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1));
        net.dns
            .update(|tree| {
                tree.cname("round.circle.nl", "and.circle.nl").cname("and.circle.nl", "round.circle.nl");
                tree.remove("nta.many.nl", RrType::A).address("nta.many.nl", many);
            })
            .unwrap();
        let round = Row::new("dns_alias_chain", "RCPT", plain()).to("bob@round.circle.nl");
        assert_row(net, Who::Platform, &round).await;
        for (id, reason) in
            [("circle", "dns_alias_chain"), ("borrowed", "tlsa_insecure"), ("many", "host_address_forbidden")]
        {
            let (_, record) = first_attempt(net, &format!("bob@{id}.nl")).await;
            assert_record(&record, "later", reason, "never");
            assert_eq!(tripwire(net, id).touched(), 0, "{id}");
        }
    });
}

/// Proves: -DISC-010
#[test]
fn a_domain_that_takes_part_and_names_no_host_is_refused() {
    let bare = provider("bare", &["bare.nl"], "played_by = \"nobody\"\nrecord = \"no_hosts\"");
    with(&nodes("", &bare), async |net| {
        net.dns
            .update(|tree| {
                tree.remove("bare.nl", RrType::Mx);
            })
            .unwrap();
        assert_row(net, Who::Platform, &Row::new("no_hosts", "RCPT", plain()).to("bob@bare.nl")).await;
        assert_eq!(tripwire(net, "bare").touched(), 0);
    });
}
