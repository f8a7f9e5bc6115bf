#![allow(clippy::unwrap_used)]

use super::names::testing::Table;
use super::*;

/// What SPF says of `192.0.2.25` when `a.nl` has this record.
async fn spf(record: &str, ip: &str) -> SpfWord {
    let mut table = Table::new(&[
        ("a.nl", "A 192.0.2.25"),
        ("a.nl", "A 2001:db8::25"),
        ("a.nl", "MX mx1.a.nl"),
        ("mx1.a.nl", "A 192.0.2.26"),
        ("pass.nl", "TXT v=spf1 ip4:192.0.2.25 -all"),
        ("fail.nl", "TXT v=spf1 -all"),
        ("soft.nl", "TXT v=spf1 ~all"),
        ("neutral.nl", "TXT v=spf1 ?all"),
        ("bare.nl", "TXT v=spf1"),
        ("broken.nl", "TXT v=spf1 ip4:"),
        ("two.nl", "TXT v=spf1 +all"),
        ("two.nl", "TXT v=spf1 -all"),
        ("other.nl", "TXT v=spf10 +all"),
        ("trouble.nl", "TROUBLE"),
        ("loop.nl", "TXT v=spf1 include:loop.nl"),
        ("relative.nl", "TXT v=spf1 a"),
        ("relative.nl", "A 192.0.2.25"),
        ("25.2.0.192.list.nl", "A 127.0.0.2"),
        ("jan.user.nl", "A 127.0.0.2"),
        ("a.nl.of.out.a.nl", "A 127.0.0.2"),
    ]);
    for host in 0..11 {
        table.add("many.nl", &format!("MX mx{host}.many.nl"));
    }
    if !record.is_empty() {
        table.add("a.nl", &format!("TXT {record}"));
    }
    let mail_from = ReversePath::from("jan@a.nl".to_owned());
    let client = super::spf::Client {
        ip: ip.parse().unwrap(),
        helo: &GivenName::read("out.a.nl"),
        mail_from: &mail_from,
        host: &"nta.b.nl".parse().unwrap(),
    };
    super::spf::check(&mut table, &client).await.result.word
}

/// Proves: +IDEN-016 -IDEN-016
#[tokio::test]
async fn spf_row_by_row() {
    use SpfWord::{Fail, Neutral, None, Pass, Permerror, Softfail, Temperror};
    for (record, expected) in [
        ("", None),
        ("v=spf10 +all", None),
        ("v=spf1", Neutral),
        ("v=spf1 +all", Pass),
        ("V=SPF1 -ALL", Fail),
        ("v=spf1 ~all", Softfail),
        ("v=spf1 ?all", Neutral),
        ("v=spf1 ip4:192.0.2.25 -all", Pass),
        ("v=spf1 ip4:192.0.2.24/30 -all", Pass),
        ("v=spf1 ip4:192.0.2.24 -all", Fail),
        ("v=spf1 ip4:192.0.2.24", Neutral),
        ("v=spf1 -ip4:192.0.2.25 +all", Fail),
        ("v=spf1 ip6:::/0 -all", Fail),
        ("v=spf1 a -all", Pass),
        ("v=spf1 a:mx1.a.nl -all", Fail),
        ("v=spf1 a:mx1.a.nl/24 -all", Pass),
        ("v=spf1 mx -all", Fail),
        ("v=spf1 mx/24 -all", Pass),
        ("v=spf1 mx:many.nl -all", Permerror),
        ("v=spf1 include:pass.nl -all", Pass),
        ("v=spf1 -include:pass.nl +all", Fail),
        ("v=spf1 include:fail.nl include:soft.nl include:neutral.nl include:bare.nl ~all", Softfail),
        ("v=spf1 include:relative.nl -all", Pass),
        ("v=spf1 include:absent.nl +all", Permerror),
        ("v=spf1 include:other.nl +all", Permerror),
        ("v=spf1 include:broken.nl +all", Permerror),
        ("v=spf1 include:two.nl +all", Permerror),
        ("v=spf1 include:trouble.nl +all", Temperror),
        ("v=spf1 a:trouble.nl +all", Temperror),
        ("v=spf1 mx:trouble.nl +all", Temperror),
        ("v=spf1 exists:trouble.nl +all", Temperror),
        ("v=spf1 redirect=trouble.nl", Temperror),
        ("v=spf1 ip4:192.0.2.25 include:trouble.nl", Pass),
        ("v=spf1 redirect=pass.nl", Pass),
        ("v=spf1 redirect=fail.nl", Fail),
        ("v=spf1 redirect=absent.nl", Permerror),
        ("v=spf1 redirect=pass.nl -all", Fail),
        ("v=spf1 include:loop.nl -all", Permerror),
        ("v=spf1 exists:%{ir}.list.nl -all", Pass),
        ("v=spf1 exists:%{l}.user.nl -all", Pass),
        ("v=spf1 exists:%{o}.of.%{h} -all", Pass),
        ("v=spf1 exists:%{d}.absent.nl -all", Fail),
        ("v=spf1 exists:%{p}.a.nl +all", Permerror),
        ("v=spf1 ptr +all", Permerror),
        ("v=spf1 a:..nl +all", Permerror),
        ("v=spf1 nonsense +all", Permerror),
        ("v=spf1 nonsense -ip4:192.0.2.25 +all", Permerror),
        ("v=spf1 all=x +all", Permerror),
        ("v=spf1 -x=y +all", Permerror),
        ("v=spf1 ip4=192.0.2.25 -all", Permerror),
        ("v=spf1 --all +all", Permerror),
        ("v=spf1 +all\t", Permerror),
        ("v=spf1 ip4:1.2.3 +all", Permerror),
        ("v=spf1 future=x +all", Pass),
        ("v=spf1 a:x1.nl a:x2.nl +all", Pass),
        ("v=spf1 a:x1.nl a:x2.nl a:x3.nl +all", Permerror),
        (
            "v=spf1 a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl +all",
            Pass,
        ),
        (
            "v=spf1 a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a:mx1.a.nl a +all",
            Permerror,
        ),
    ] {
        assert_eq!(spf(record, "192.0.2.25").await, expected, "{record}");
    }
    for (record, expected) in [
        ("v=spf1 ip6:2001:db8::/64 -all", Pass),
        ("v=spf1 ip4:0.0.0.0/0 -all", Fail),
        ("v=spf1 a -all", Pass),
        ("v=spf1 a//64 -all", Pass),
        ("v=spf1 mx -all", Fail),
    ] {
        assert_eq!(spf(record, "2001:db8::25").await, expected, "{record} IPv6");
    }
}
