//! The matcher against OpenSSL's, on a matrix of chains and records (attack class T18).

use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::super::testing::{Authority, Pair, Purpose, Validity, leaf, leaf_valid};
use super::super::*;
use super::dane::{HOST, record};
use crate::discovery::tlsa::Tlsa;

/// Chains that a server could show, each with a word for failure messages.
fn chains() -> Vec<(&'static str, Pair)> {
    let root = Authority::root("root");
    let middle = root.intermediate("middle");
    let expired = Authority::root_valid("expired root", Validity::Past);
    let cut = |pair: Pair, keep: usize| Pair { chain: pair.chain[..keep].to_vec(), key_pem: pair.key_pem };
    let mut swapped = middle.issue(&[HOST]);
    swapped.chain.swap(1, 2);
    let mut misled = middle.issue(&[HOST]);
    misled.chain[1] = Authority::root("middle").certificate();
    vec![
        ("self-signed", leaf(&[HOST])),
        ("self-signed, expired", leaf_valid(&[HOST], Validity::Past)),
        ("self-signed, other name", leaf(&["other.example"])),
        ("below a root", root.issue(&[HOST])),
        ("below an intermediate", middle.issue(&[HOST])),
        ("below an intermediate, root not sent", cut(middle.issue(&[HOST]), 2)),
        ("below an intermediate, alone", cut(middle.issue(&[HOST]), 1)),
        ("chain in the wrong order", swapped),
        ("wrong intermediate of the same name", misled),
        ("expired below a root", root.issue_valid(&[HOST], Validity::Past)),
        ("not valid yet", root.issue_valid(&[HOST], Validity::Future)),
        ("other name below a root", root.issue(&["other.example"])),
        ("wildcard below a root", root.issue(&["*.example.nl"])),
        ("below an expired root", expired.issue(&[HOST])),
        ("for servers only", root.issue_for(&[HOST], Purpose::ServerOnly)),
    ]
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Whether OpenSSL authenticates the server at `port` by this record.
fn openssl_accepts(port: u16, tlsa: &Tlsa) -> bool {
    let output = Command::new("openssl")
        .args(["s_client", "-brief", "-verify_return_error", "-dane_ee_no_namechecks", "-verify", "9"])
        .args(["-connect", &format!("127.0.0.1:{port}"), "-dane_tlsa_domain", HOST])
        .args(["-dane_tlsa_rrdata", &format!("{tlsa} {}", hex(&tlsa.data))])
        .stdin(Stdio::null())
        .output()
        .expect("the openssl command is one of the tools that ./check brings");
    let text = String::from_utf8_lossy(&output.stderr);
    let connected = text.contains("Verification: OK") && output.status.success();
    assert!(connected || text.contains("verif") || text.contains("certificate"), "openssl says: {text}");
    connected
}

/// A TLS server that accepts for ever, on a port of its own.
async fn serve(pair: &Pair) -> (u16, tokio::task::JoinHandle<()>) {
    let key = rustls_pki_types::pem::PemObject::from_pem_slice(pair.key_pem.as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let certified = CertifiedKey::new(pair.chain.clone(), key);
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _end = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    });
    (port, task)
}

/// Proves: +DANE-003 +DANE-006 -DANE-006 +DANE-007 -DANE-007
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t18_openssl_agrees_on_every_chain_and_record() {
    let now: jiff::Timestamp = jiff::Timestamp::now(); // OpenSSL looks at the real clock; the dates leave decades.
    let stranger = leaf(&[HOST]);
    let mut differences = Vec::new();
    let mut cases = 0;
    for (what, pair) in chains() {
        let (port, task) = serve(&pair).await;
        let mut records = Vec::new();
        for (at, certificate) in pair.chain.iter().enumerate() {
            let usage = if at == 0 { "3" } else { "2" };
            for rest in ["0 0", "0 1", "1 1", "1 2"] {
                records.push((
                    format!("{usage} {rest} of certificate {at}"),
                    record(&format!("{usage} {rest}"), certificate),
                ));
            }
        }
        records.push(("2 1 1 of the certificate itself".to_owned(), record("2 1 1", &pair.chain[0])));
        records.push(("3 1 1 of another".to_owned(), record("3 1 1", &stranger.chain[0])));
        for (which, tlsa) in records {
            let names = [HOST.parse().unwrap()];
            let ours =
                match_chain(&pair.chain, std::slice::from_ref(&tlsa), Side::Server, &names, unix_time(now));
            let theirs = tokio::task::spawn_blocking(move || openssl_accepts(port, &tlsa)).await.unwrap();
            cases += 1;
            if ours.is_ok() != theirs {
                differences.push(format!("{what}, {which}: ours {ours:?}, OpenSSL {theirs}"));
            }
        }
        task.abort();
    }
    assert!(cases > 120, "{cases} cases");
    assert!(differences.is_empty(), "{} of {cases} differ:\n{}", differences.len(), differences.join("\n"));
}
