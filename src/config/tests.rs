//! One wrong value at a time, and the files that are right.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::*;
use crate::discovery::Trust;
use crate::model::Level;
use crate::spool::KeySource;

/// A directory with keys and a root trust anchor; removed at the end.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bench = Self { dir };
        bench.key("ours", &["nta-a.a.example"]);
        bench.key("second", &["nta-a.a.example", "alias.a.example"]);
        bench.key("other", &["someone.else.example", "*.a.example"]);
        bench.key("many", &["nta-a.a.example", "b.example", "c.example", "d.example", "e.example"]);
        bench.write("root.ds", &format!(". IN DS 4242 13 2 {}\n", "AB".repeat(32)));
        bench.write("iana.ds", IANA);
        bench.write("org.ds", &format!("org. IN DS 4242 13 2 {}\n", "AB".repeat(32)));
        bench.write("authority.pem", &authority());
        bench.write("empty.pem", "");
        bench
    }

    pub(crate) fn key(&self, name: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        self.write(&format!("{name}.pem"), &made.cert.pem());
        self.write(&format!("{name}.key"), &made.signing_key.serialize_pem());
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("sluis.toml")
    }

    pub(crate) fn parse(&self, text: &str) -> Result<Config, ConfigError> {
        parse(text, &self.path(), now())
    }

    /// What the operator would read, without the name of the temporary directory.
    fn refusal(&self, text: &str) -> Option<String> {
        let error = self.parse(text).err()?;
        Some(error.to_string().replace(&format!("{}/", self.dir.path().display()), ""))
    }
}

/// One of the real root's keys, as a file.
const IANA: &str = ". IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16\n";

fn authority() -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

pub(crate) const GOOD: &str = r#"
[node]
name = "nta-a.a.example"
provider = "A"
domains = ["a.example", "hospital.example"]
postmaster = "postmaster@a.example"
startdate = "2026-01"
enddate = "2028-12"
state_dir = "state"

[dns]
resolver = "127.0.0.1:5300"
mode = "validate"
trust_anchor_file = "root.ds"

[[tls.certificate]]
chain = "ours.pem"
key = "ours.key"

[federation]
listen = ["127.0.0.1:2025"]
floor = "mutual"
ntamx = ["10 nta-a.a.example", "20 nta-b.a.example"]

[[federation.peer]]
name = "b"
domain = "b.example"
identity = "pinned"
pins = ["sha256:00000000000000000000000000000000000000000000000000000000000000bb"]

[[federation.peer]]
name = "c"
hosts = ["nta.c.example"]
identity = "federation_ca"
ca = "authority.pem"

[submission]
listen = ["127.0.0.1:2026"]
temporary = "queue"

[[submission.client]]
name = "platform"
addresses = ["127.0.0.0/8"]
domains = ["a.example"]

[environment]
kind = "lmtp"
address = "127.0.0.1:24"

[fallback]
kind = "smtp"
address = "portal.a.example:25"
tls = { ca = "authority.pem" }

[limits]
recipients = 200

[log]
format = "json"
level = "info"
addresses = "clear"

[control]
mode = "0600"

[admin]
listen = "127.0.0.1:9125"

[lab]
peer_port = 2025
private_peer_addresses = true
"#;

/// Name of the case, what to replace in [`GOOD`], by what.
const WRONG: &[(&str, &str, &str)] = &[
    ("broken syntax", "provider = \"A\"", "provider = \"A"),
    ("key twice", "provider = \"A\"", "provider = \"A\"\nprovider = \"B\""),
    ("unknown section", "[limits]", "[limit]"),
    ("unknown key", "provider = ", "providr = \"A\"\nprovider = "),
    ("unknown key far from all", "provider = ", "colour = \"A\"\nprovider = "),
    (
        "unknown key in a peer",
        "ca = \"authority.pem\"\n\n[sub",
        "ca = \"authority.pem\"\nfallback = \"plain\"\n\n[sub",
    ),
    ("number for a text", "provider = \"A\"", "provider = 5"),
    ("text for a list", "domains = [\"a.example\", \"hospital.example\"]", "domains = \"a.example\""),
    ("text for a switch", "private_peer_addresses = true", "private_peer_addresses = \"yes\""),
    ("no name", "name = \"nta-a.a.example\"\n", ""),
    ("name is a number", "name = \"nta-a.a.example\"", "name = \"192.0.2.1\""),
    ("name with underscore", "name = \"nta-a.a.example\"", "name = \"nta_a.a.example\""),
    ("provider cannot stand in a record", "provider = \"A\"", "provider = \"A; ntamx=0 x.example\""),
    ("no domains", "domains = [\"a.example\", \"hospital.example\"]", "domains = []"),
    ("domain twice", "\"hospital.example\"]", "\"A.example.\"]"),
    ("postmaster is no address", "\"postmaster@a.example\"", "\"postmaster\""),
    ("postmaster elsewhere", "\"postmaster@a.example\"", "\"postmaster@b.example\""),
    ("month is no month", "\"2026-01\"", "\"2026-13\""),
    ("month with day", "\"2026-01\"", "\"2026-01-01\""),
    ("months reversed", "\"2028-12\"", "\"2025-12\""),
    ("no enddate", "enddate = \"2028-12\"\n", ""),
    ("resolver by name", "\"127.0.0.1:5300\"", "\"localhost:53\""),
    ("mode unknown", "mode = \"validate\"", "mode = \"trust\""),
    ("AD bit of a remote resolver", AD_FROM, "resolver = \"192.0.2.53:53\"\nmode = \"ad-bit\""),
    ("AD bit with anchors", AD_FROM, "mode = \"ad-bit\"\ntrust_anchor_file = \"root.ds\""),
    (
        "AD bit without self-test",
        "\nmode = \"validate\"\ntrust_anchor_file = \"root.ds\"",
        "\nmode = \"ad-bit\"\nself_test = { bogus = \"bogus.example\" }",
    ),
    ("trust anchor file is not there", "\"root.ds\"", "\"nowhere.ds\""),
    ("trust anchor of another zone", "\"root.ds\"", "\"org.ds\""),
    ("trust anchor file is no zone file", "\"root.ds\"", "\"ours.pem\""),
    ("lab with the real root in a file", "\"root.ds\"", "\"iana.ds\""),
    ("record too long", "provider = \"A\"", LONG_PROVIDER),
    ("authority that is none", "ca = \"authority.pem\"\n\n[sub", "ca = \"other.pem\"\n\n[sub"),
    ("lab with the real root", "trust_anchor_file = \"root.ds\"\n", ""),
    ("lab port is no port", "peer_port = 2025", "peer_port = 70000"),
    ("no certificate", CERTIFICATE, ""),
    ("certificate file is not there", "\"ours.pem\"", "\"nowhere.pem\""),
    ("certificate file is empty", "\"ours.pem\"", "\"empty.pem\""),
    ("key file is not there", "\"ours.key\"", "\"nowhere.key\""),
    ("key file holds none", "\"ours.key\"", "\"ours.pem\""),
    ("key of another certificate", "\"ours.key\"", "\"other.key\""),
    ("certificate without a key", "key = \"ours.key\"\n", ""),
    ("certificate of another name", CERTIFICATE, "chain = \"other.pem\"\nkey = \"other.key\""),
    ("certificate with too many names", CERTIFICATE, "chain = \"many.pem\"\nkey = \"many.key\""),
    ("no listen", "listen = [\"127.0.0.1:2025\"]\n", ""),
    ("listen is empty", "listen = [\"127.0.0.1:2025\"]", "listen = []"),
    ("listen without port", "listen = [\"127.0.0.1:2025\"]", "listen = [\"127.0.0.1\"]"),
    ("listen taken by submission", "listen = [\"127.0.0.1:2026\"]", "listen = [\"127.0.0.1:2025\"]"),
    ("listen taken through the wildcard", "listen = [\"127.0.0.1:2026\"]", "listen = [\"0.0.0.0:2025\"]"),
    ("listen taken by admin", "listen = \"127.0.0.1:9125\"", "listen = \"127.0.0.1:2026\""),
    ("floor none", "floor = \"mutual\"", "floor = \"none\""),
    ("floor opportunistic", "floor = \"mutual\"", "floor = \"opportunistic\""),
    ("floor misspelt", "floor = \"mutual\"", "floor = \"Mutual\""),
    ("floor of a peer", "domain = \"b.example\"", "domain = \"b.example\"\nfloor = \"encrypt\""),
    ("ntamx without preference", "\"10 nta-a.a.example\"", "\"nta-a.a.example\""),
    ("ntamx without this node", "\"10 nta-a.a.example\"", "\"10 nta-c.a.example\""),
    ("peer without name", "name = \"b\"\n", ""),
    ("two peers of one name", "name = \"c\"", "name = \"b\""),
    ("two peers of one domain", "hosts = [\"nta.c.example\"]", "domain = \"b.example\""),
    ("peer is ourselves", "domain = \"b.example\"", "domain = \"hospital.example\""),
    ("peer without hosts", "domain = \"b.example\"\n", ""),
    (
        "peer with domain and hosts",
        "domain = \"b.example\"",
        "domain = \"b.example\"\nhosts = [\"x.example\"]",
    ),
    ("identity unknown", "identity = \"pinned\"", "identity = \"webpki\""),
    ("pinned without pins", PINS, ""),
    ("pin malformed", "00bb\"]", "bb\"]"),
    ("pins without pinned", "identity = \"pinned\"\n", ""),
    ("authority without federation_ca", "identity = \"federation_ca\"", "identity = \"dane\""),
    ("authority is not there", "ca = \"authority.pem\"\n\n[sub", "ca = \"nowhere.pem\"\n\n[sub"),
    ("t11 key of two peers", "identity = \"federation_ca\"\nca = \"authority.pem\"", SAME_PIN),
    (
        "submission without client",
        "[[submission.client]]\nname = \"platform\"\naddresses = [\"127.0.0.0/8\"]\ndomains = [\"a.example\"]\n",
        "",
    ),
    ("client that is anybody", "addresses = [\"127.0.0.0/8\"]\n", ""),
    ("client network with host bits", "127.0.0.0/8", "127.0.0.1/8"),
    ("client domain is foreign", "domains = [\"a.example\"]", "domains = [\"b.example\"]"),
    ("temporary unknown", "temporary = \"queue\"", "temporary = \"bounce\""),
    ("no environment", "[environment]\nkind = \"lmtp\"\naddress = \"127.0.0.1:24\"\n", ""),
    ("environment kind unknown", "kind = \"lmtp\"", "kind = \"imap\""),
    ("environment without address", "address = \"127.0.0.1:24\"\n", ""),
    ("environment address malformed", "address = \"127.0.0.1:24\"", "address = \"dovecot\""),
    ("LMTP beyond this machine without TLS", "address = \"127.0.0.1:24\"", "address = \"192.0.2.24:24\""),
    ("LMTP to a name without TLS", "address = \"127.0.0.1:24\"", "address = \"localhost:24\""),
    ("TLS without key or authority", "tls = { ca = \"authority.pem\" }", "tls = {}"),
    ("fallback without TLS", "tls = { ca = \"authority.pem\" }\n", ""),
    ("TLS authority without name", "\"127.0.0.1:24\"", "\"192.0.2.24:24\"\ntls = { ca = \"authority.pem\" }"),
    ("maildir without path", "kind = \"lmtp\"\naddress = \"127.0.0.1:24\"", "kind = \"maildir\""),
    ("unknown limit", "recipients = 200", "recipient = 200"),
    ("limit under its floor", "recipients = 200", "recipients = 99"),
    ("limit over its ceiling", "recipients = 200", "return_seconds = 86_401"),
    ("limit below zero", "recipients = 200", "recipients = -1"),
    ("log level unknown", "level = \"info\"", "level = \"verbose\""),
    ("log addresses unknown", "addresses = \"clear\"", "addresses = \"all\""),
    ("control socket for everybody", "mode = \"0600\"", "mode = \"0666\""),
    ("control mode is no mode", "mode = \"0600\"", "mode = \"rw\""),
    ("spool key in the spool", "[log]", "[spool]\nkey_file = \"state/spool/key\"\n\n[log]"),
    ("spool key twice", "[log]", "[spool]\nkey_file = \"key\"\nkey_command = [\"key\"]\n\n[log]"),
    ("spool key command is empty", "[log]", "[spool]\nkey_command = []\n\n[log]"),
    ("admin beyond loopback", "listen = \"127.0.0.1:9125\"", "listen = \"0.0.0.0:9125\""),
];

const LONG_PROVIDER: &str = "provider = \"A provider with a name that goes on and on, through all of the many trades and \
     places that it has ever been in, and those of the four companies that were joined to make it\"";
const AD_FROM: &str = "resolver = \"127.0.0.1:5300\"\nmode = \"validate\"\ntrust_anchor_file = \"root.ds\"";
const CERTIFICATE: &str = "chain = \"ours.pem\"\nkey = \"ours.key\"";
const PINS: &str = "pins = [\"sha256:00000000000000000000000000000000000000000000000000000000000000bb\"]\n";
const SAME_PIN: &str = "identity = \"pinned\"\npins = [\"sha256:00000000000000000000000000000000000000000000000000000000000000BB\"]";

/// Proves: -OPS-001 -OPS-002 -OPS-007 -LIM-001 -IDEN-001 -IDEN-018 -HAND-002
#[test]
fn one_wrong_value_at_a_time() {
    let bench = Bench::new();
    let mut all = String::new();
    for (name, find, replace) in WRONG {
        assert_eq!(GOOD.matches(find).count(), 1, "{name}: {find:?} must stand once in the good file");
        let refusal = bench.refusal(&GOOD.replace(find, replace));
        let refusal = refusal.unwrap_or_else(|| panic!("{name}: was accepted"));
        writeln!(all, "## {name}\n{refusal}\n").unwrap();
    }
    insta::assert_snapshot!("refusals", all);
}

/// Proves: +OPS-001 +OPS-002 +OPS-007 +LIM-001 +IDEN-018 +HAND-002
#[test]
fn a_good_file_is_understood() {
    let bench = Bench::new();
    let config = bench.parse(GOOD).unwrap();
    assert_eq!(config.node.name.as_str(), "nta-a.a.example");
    assert_eq!(config.federation.peers.len(), 2);
    assert_eq!(config.federation.peers[0].floor, Level::Mutual);
    assert_eq!(config.limits.recipients, 200);
    assert_eq!(config.weakened(), ["lab.peer_port=2025", "lab.private_peer_addresses"]);
    assert_eq!(config.spool.dir, bench.dir.path().join("state/spool"));
    assert_eq!(config.spool.key, KeySource::File(bench.dir.path().join("state/spool.key")));
    assert_eq!(config.control.mode, 0o600);
    assert_eq!(config.keys.identities(), std::slice::from_ref(&config.node.name));
    let record = "v=NTA7516-1;startdate=2026-01;enddate=2028-12;provider=A;ntamx=10 nta-a.a.example;ntamx=20 nta-b.a.example";
    assert_eq!(config.record.text().unwrap(), record);
    assert_eq!(control_socket_of(&bench, GOOD), bench.dir.path().join("state/control.sock"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

/// Proves: +SPOOL-015
#[test]
fn a_warning_that_comes_too_late_is_pointed_out() {
    let bench = Bench::new();
    let config = bench.parse(&GOOD.replace("recipients = 200", "return_seconds = 3600")).unwrap();
    let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(
        warning.contains("limits.warning_seconds (14400) is not below limits.return_seconds (3600)"),
        "{warning}"
    );
}

fn control_socket_of(bench: &Bench, text: &str) -> PathBuf {
    bench.write("sluis.toml", text);
    control_socket(&bench.path()).unwrap()
}

/// Who may talk to the node need not be able to read its keys.
#[test]
fn the_control_socket_is_found_without_the_keys() {
    let bench = Bench::new();
    let text = GOOD.replace(CERTIFICATE, "chain = \"nowhere\"\nkey = \"nowhere\"");
    let text = text.replace("mode = \"0600\"", "mode = \"0660\"\nsocket = \"/run/sluis/control.sock\"");
    assert!(bench.parse(&text).is_err());
    assert_eq!(control_socket_of(&bench, &text), Path::new("/run/sluis/control.sock"));
}

/// Proves: +IDEN-001 +IDEN-002
#[test]
fn a_floor_is_mutual_unless_it_is_lowered_by_name() {
    let bench = Bench::new();
    let floor_of = |text: &str| bench.parse(text).unwrap().federation;
    let silent = floor_of(&GOOD.replace("floor = \"mutual\"\n", ""));
    assert_eq!((silent.floor, silent.peers[0].floor), (Level::Mutual, Level::Mutual));
    let all = floor_of(&GOOD.replace("floor = \"mutual\"", "floor = \"nta7516\""));
    assert_eq!((all.floor, all.peers[0].floor), (Level::Nta7516, Level::Nta7516));
    let one =
        floor_of(&GOOD.replace("domain = \"b.example\"", "domain = \"b.example\"\nfloor = \"nta7516\""));
    assert_eq!(
        (one.floor, one.peers[0].floor, one.peers[1].floor),
        (Level::Mutual, Level::Nta7516, Level::Mutual)
    );
}

#[test]
fn the_ad_bit_of_this_machine_may_be_believed() {
    let bench = Bench::new();
    let text = GOOD
        .replace(
            "mode = \"validate\"\ntrust_anchor_file = \"root.ds\"",
            "mode = \"ad-bit\"\nself_test = { bogus = \"bogus.example\", signed = \"signed.example\" }",
        )
        .replace("[lab]\npeer_port = 2025\nprivate_peer_addresses = true\n", "");
    let config = bench.parse(&text).unwrap();
    assert!(matches!(&config.discovery.dns.trust, Trust::AdBit { .. }));
    assert!(config.weakened().is_empty());
}

/// Proves: -OPS-001
#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let bench = Bench::new();
    let text = GOOD
        .replace("provider = \"A\"", "provder = \"A\"")
        .replace("floor = \"mutual\"", "floor = \"may\"")
        .replace("recipients = 200", "recipients = 5")
        .replace("level = \"info\"", "level = 3");
    let error = bench.parse(&text).unwrap_err();
    let keys: Vec<&str> = error.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["node.provder", "federation.floor", "limits.recipients", "log.level", "node.provider"]);
    let floor = &error.problems[1];
    assert_eq!(floor.at.unwrap().column, 9);
}

#[test]
fn old_and_weak_keys_are_warned_about() {
    let bench = Bench::new();
    let text = GOOD.replace(
        CERTIFICATE,
        &format!("{CERTIFICATE}\n[[tls.certificate]]\nchain = \"second.pem\"\nkey = \"second.key\""),
    );
    use std::os::unix::fs::PermissionsExt;
    let key = bench.dir.path().join("ours.key");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let config = parse(&text, &bench.path(), "4100-01-01T00:00:00Z".parse().unwrap()).unwrap();
    let warnings = config.warnings.join("\n");
    assert!(warnings.contains("everybody on this machine may read"), "{warnings}");
    assert!(warnings.contains("a second key of the same kind"), "{warnings}");
    assert!(warnings.contains("expired on"), "{warnings}");
}

/// Proves: +OPS-001
#[test]
fn the_example_file_is_accepted_once_its_keys_exist() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sluis.example.toml");
    let text = std::fs::read_to_string(example).unwrap();
    let bench = Bench::new();
    let missing = bench.parse(&text).unwrap_err();
    assert!(missing.problems.iter().all(|problem| problem.key.starts_with("tls.certificate")), "{missing}");
    bench.key("tls/ecdsa", &["nta-a.provider.example"]);
    let config = bench.parse(&text).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(matches!(&config.discovery.dns.trust, Trust::Validate(anchors) if anchors.include_iana()));
    assert_eq!(config.discovery.dns.resolver.to_string(), "127.0.0.1:53");
}

/// A line `# key = value` of the example shows a default: with all of them in force nothing changes.
#[test]
fn the_example_shows_the_true_defaults() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sluis.example.toml");
    let text = std::fs::read_to_string(example).unwrap();
    let bench = Bench::new();
    bench.key("tls/ecdsa", &["nta-a.provider.example"]);
    let shown = [
        "state_dir = ",
        "resolver = ",
        "mode = \"validate\"",
        "floor = ",
        "temporary = ",
        "own_domain = ",
        "recipients = ",
        "dir = ",
        "return_seconds = ",
        "format = ",
        "level = ",
        "addresses = ",
        "socket = ",
        "mode = \"0600\"",
    ];
    let mut all = text.clone();
    for key in shown {
        let line =
            text.lines().find(|line| line.strip_prefix("# ").is_some_and(|rest| rest.starts_with(key)));
        let line = line.unwrap_or_else(|| panic!("no line for {key}"));
        all = all.replace(line, line.trim_start_matches("# "));
    }
    let debug = |text: &str| format!("{:?}", bench.parse(text).unwrap());
    assert_eq!(debug(&all), debug(&text));
}

#[test]
fn networks_hold_their_addresses() {
    let holds =
        |network: &str, address: &str| network.parse::<Network>().unwrap().holds(address.parse().unwrap());
    assert!(holds("127.0.0.0/8", "127.9.9.9") && !holds("127.0.0.0/8", "128.0.0.1"));
    assert!(holds("127.0.0.0/8", "::ffff:127.0.0.1") && holds("2001:db8::/32", "2001:db8:1::1"));
    assert!(holds("0.0.0.0/0", "203.0.113.5") && !holds("0.0.0.0/0", "::1") && holds("::/0", "::1"));
    assert!(holds("192.0.2.1", "192.0.2.1") && !holds("192.0.2.1", "192.0.2.2"));
    for bad in ["127.0.0.1/8", "127.0.0.0/33", "x", "::1/129", "127.0.0.0/-1"] {
        assert!(bad.parse::<Network>().is_err(), "{bad}");
    }
}
