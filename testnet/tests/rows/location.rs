//! Rows about where the other side's server stands: the same two nodes, and tables of countries that differ.

use std::net::IpAddr;

use serde_json::Value;
use testnet::mmdb::{Entry, Writer};
use testnet::net::Net;
use testnet::sink::Stored;
use tokio::time::timeout;

use super::support::{
    GOOD, PATIENCE, Row, Who, assert_record, assert_row, configure, first_attempt, nodes, plain, submit, with,
};

/// Where the clients of these tests come from: the testnet's own, and the nodes, which choose no address of theirs.
const CLIENTS: &str = "127.0.0.1";

/// Writes a table for the node of `id`, in which nothing else than this is listed, and puts it in force.
async fn table(net: &Net, id: &str, lines: &str, networks: &[(&str, &str)]) {
    let mut writer = Writer::new(u64::try_from(jiff::Timestamp::now().as_second()).unwrap());
    // A table without any country is none.
    writer.insert("192.0.2.0/24", Entry::country("NL"));
    for (network, code) in networks {
        writer.insert(network, Entry::country(code));
    }
    let file = net.node(id).unwrap().config().with_file_name("countries.mmdb");
    std::fs::write(file, writer.to_octets()).unwrap();
    let section = format!("\n[location]\ntable = \"countries.mmdb\"\n{lines}\n");
    configure(net, id, |text| text.split("\n[location]").next().unwrap().to_owned() + &section).await;
}

/// The address of the one host of `b`.
fn host_of_b(net: &Net) -> IpAddr {
    net.provider("b").unwrap().placed.hosts[0].1
}

/// The place of the first host in a record.
fn place(record: &Value) -> &Value {
    &record["hosts"][0]["location"]
}

/// Proves: +LOCA-003 -LOCA-004 +LOCA-004 -LOCA-005 +LOCA-007 +LOCA-009 -LOCA-009
#[test]
fn under_enforce_nothing_goes_to_a_server_outside_or_to_one_that_nobody_can_place() {
    with(&nodes("", ""), async |net| {
        let address = host_of_b(net).to_string();
        let no_table = net.node("a").unwrap().ask(&["explain", "bob@b.nl"]).await.unwrap();
        assert!(place(&no_table).is_null(), "{no_table}");

        let enforce = "mode = \"enforce\"";
        table(net, "a", enforce, &[(&address, "US")]).await;
        let foretold = net.node("a").unwrap().ask(&["explain", "bob@b.nl"]).await.unwrap();
        assert_record(&foretold, "later", "outside_eea", "never");
        let looked = net.node("a").unwrap().ask(&["explain", "bob@b.nl", "--dns-only"]).await.unwrap();
        assert_record(&looked, "later", "outside_eea", "never");
        let before = net.node("b").unwrap().printed().len();
        let (outside, record) = first_attempt(net, "bob@b.nl").await;
        assert_record(&record, "later", "outside_eea", "never");
        assert_eq!(record["hosts"], foretold["hosts"], "explain says what the attempt did");
        assert_eq!(place(&record)["verdict"], "outside");
        assert_eq!(place(&record)["country"], "US");
        assert_eq!(place(&record)["rule"], "enforce");
        assert!(record["hosts"][0]["tls"].is_null() && record["hosts"][0]["step"].is_null(), "{record}");

        table(net, "a", enforce, &[]).await;
        let (unknown, record) = first_attempt(net, "bob@b.nl").await;
        assert_record(&record, "later", "location_unknown", "never");
        assert_eq!(place(&record)["detail"], "not in the table");
        // The other node has seen no session of theirs at all.
        assert_eq!(net.node("b").unwrap().printed().len(), before);

        for id in [outside, unknown] {
            let node = net.node("a").unwrap();
            assert!(node.command(&["spool", "return", &format!("{id}.0")]).await.unwrap().status.success());
        }
        // Inside it goes, and outside too where the peer may stand anywhere.
        table(net, "a", enforce, &[(&address, "IS")]).await;
        let inside = first_attempt(net, GOOD).await.1;
        assert_eq!((&inside["outcome"], &place(&inside)["verdict"]), (&"delivered".into(), &"eea".into()));
        let any = "[[federation.peer]]\nname = \"b\"\nhosts = [\"nta.b.nl\"]\nlocation = \"any\"";
        table(net, "a", &format!("{enforce}\n{any}"), &[(&address, "US")]).await;
        let anywhere = first_attempt(net, GOOD).await.1;
        assert_eq!(anywhere["outcome"], "delivered", "{anywhere}");
        assert_eq!(
            (&place(&anywhere)["verdict"], &place(&anywhere)["rule"]),
            (&"outside".into(), &"any".into())
        );
        assert_eq!(anywhere["warnings"], Value::Array(Vec::new()));
    });
}

/// Proves: -LOCA-004 +LOCA-004 +LOCA-005 +LOCA-007
#[test]
fn under_enforce_a_client_outside_is_refused_at_mail_and_one_that_nobody_can_place_is_not() {
    with(&nodes("", ""), async |net| {
        let own = &net.provider("a").unwrap().placed.certificate;
        let enforce = "mode = \"enforce\"";
        table(net, "b", enforce, &[(CLIENTS, "GB")]).await;
        for from in ["alice@a.nl", ""] {
            let row = Row::new("outside_eea", "MAIL", plain()).from(from);
            assert_row(net, Who::Peer(own), &row).await;
        }
        // For its own domain the peer may stand anywhere: the null sender, and a bounce address below it, are judged by
        // what `From:` says, and this one says nothing for which they may be used.
        let any = "[[federation.peer]]\nname = \"a\"\ndomain = \"a.nl\"\nlocation = \"any\"";
        table(net, "b", &format!("{enforce}\n{any}"), &[(CLIENTS, "GB")]).await;
        assert_row(net, Who::Peer(own), &Row::new("null_sender_not_report", "content", plain()).from(""))
            .await;
        let record = arrived(net).await;
        assert_eq!((&place(&record)["country"], &place(&record)["rule"]), (&"GB".into(), &"any".into()));

        table(net, "b", enforce, &[]).await;
        let record = arrived(net).await;
        assert_eq!(place(&record)["verdict"], "unknown");
        assert_warned(&record, "LOCA-005");
    });
}

/// Proves: +LOCA-006 -LOCA-006 +LOCA-009
#[test]
fn under_observe_everything_passes_and_is_on_record() {
    with(&nodes("", ""), async |net| {
        let address = host_of_b(net).to_string();
        table(net, "a", "", &[(&address, "US")]).await;
        table(net, "b", "", &[(CLIENTS, "US")]).await;
        let sent = first_attempt(net, GOOD).await.1;
        assert_eq!((&sent["outcome"], &place(&sent)["verdict"]), (&"delivered".into(), &"outside".into()));
        assert_warned(&sent, "LOCA-006");
        assert_warned(&arrived(net).await, "LOCA-006");
        // The log and the counters say so too.
        let node = net.node("b").unwrap();
        let line = node
            .logged("a place", 0, |line| line["direction"] == "inbound" && line["location"].is_string())
            .await
            .unwrap();
        assert_eq!(line["location"], "outside, in US");
        let status = node.ask(&["status"]).await.unwrap();
        assert_eq!(
            (&status["location"]["mode"], &status["location"]["old"]),
            (&"observe".into(), &false.into())
        );
    });
}

/// Proves: -LOCA-003
#[test]
fn a_reload_with_a_damaged_table_changes_nothing() {
    with(&nodes("", ""), async |net| {
        let address = host_of_b(net).to_string();
        table(net, "a", "mode = \"enforce\"", &[(&address, "US")]).await;
        let node = net.node("a").unwrap();
        let file = node.config().with_file_name("countries.mmdb");
        std::fs::write(&file, b"half a download").unwrap();
        let reloaded = node.command(&["reload"]).await.unwrap();
        let said = String::from_utf8(reloaded.stderr).unwrap();
        assert_eq!(reloaded.status.code(), Some(1), "{said}");
        assert!(said.contains("location.table") && said.contains("damaged"), "{said}");
        let record = first_attempt(net, "bob@b.nl").await.1;
        assert_record(&record, "later", "outside_eea", "never");
    });
}

#[track_caller]
fn assert_warned(record: &Value, id: &str) {
    let warnings = record["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning.as_str().unwrap().contains(id)), "{id}: {record}");
}

/// `a` sends something good to `b`: the record under which the node of `b` took it.
async fn arrived(net: &Net) -> Value {
    let sink = net.provider("b").unwrap().sink().unwrap();
    let had = sink.messages().len();
    submit(net, "a", "alice@a.nl", GOOD, plain().as_bytes()).await;
    let more = |messages: &[Stored]| messages.len() > had;
    let messages = timeout(PATIENCE, sink.wait_until(more)).await.unwrap();
    let content = String::from_utf8(messages.last().unwrap().content().unwrap()).unwrap();
    // The topmost trace is of the node that took it: its id is that of the record.
    let (_, after) = content.split_once("record=").unwrap();
    let attempt: String = after.chars().take(26).collect();
    let node = net.node("b").unwrap();
    let line = node
        .logged("an arrival", 0, |line| line["outcome"] == "accepted" && line["attempt"] == attempt.as_str())
        .await
        .unwrap();
    let shown = node.ask(&["spool", "show", line["message_id"].as_str().unwrap()]).await.unwrap();
    let records = shown["records"].as_array().unwrap();
    records.iter().find(|record| record["attempt"] == attempt.as_str()).unwrap().clone()
}
