//! Where a hook is, and who it has to be.

use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, UnixListener};

use super::super::testing::PASS;
use super::*;
use crate::transport::smtp::dialogue::{EndpointError, TlsStart};
use crate::transport::tls::testing::{Authority, leaf, pem, today};
use crate::transport::tls::{Authorities, Certificate, Pins, ServerProof, ServerTls};
use crate::world::{Network, SystemNetwork};

/// Reads a question with [`MESSAGE`] to its end and lets the message pass.
async fn pass<S: AsyncRead + tokio::io::AsyncWrite + Unpin>(mut stream: S, heard: &Mutex<Vec<u8>>) {
    let mut piece = [0; 4096];
    while !heard.lock().unwrap().ends_with(b"Inhoud\r\n") {
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => heard.lock().unwrap().extend(&piece[..count]),
            Ok(0) | Err(_) => return,
        }
    }
    stream.write_all(PASS.as_bytes()).await.unwrap();
    let _closed = stream.shutdown().await;
}

fn hook_at(endpoint: Endpoint) -> Hook {
    let now = jiff::Timestamp::from_second(i64::try_from(today().as_secs()).unwrap()).unwrap();
    let world = World::with(ManualClock::at(now), SeededRandom::new(1));
    let host = "hook.b.nl".to_owned();
    Hook::new(endpoint, "/".into(), host, ClientTls::anonymous(), world, limits())
}

async fn passes(hook: &Hook) -> Result<(), HookError> {
    let to = envelope("alice@a.nl", &["bob@b.nl"]);
    let asked = ask(hook, &to, MESSAGE.as_bytes(), MESSAGE.len() as u64, &mut Kept(None)).await?;
    assert_eq!(asked.answer, Answer::Passed);
    Ok(())
}

/// Proves: +HOOK-002
#[tokio::test]
async fn a_hook_on_this_machine_is_asked_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hook");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        let heard = Mutex::default();
        pass(listener.accept().await.unwrap().0, &heard).await;
    });
    let hook = hook_at(Endpoint::unix(path.clone()));
    passes(&hook).await.unwrap();
    server.await.unwrap();
    assert_eq!(hook.describe(), format!("hook unix:{}", path.display()));
    // Nobody listens any more.
    assert!(matches!(passes(&hook).await, Err(HookError::Unreachable(_))));
    assert!(hook.reach().await.is_err());
}

/// Proves: +HOOK-002 -HOOK-002
#[tokio::test]
async fn t09_only_the_configured_key_or_authority_gets_a_message() {
    let remote = Endpoint::loopback("192.0.2.7:8080".parse().unwrap());
    assert!(matches!(remote, Err(EndpointError::NotLoopback(_))));
    let authority = Authority::root("ours");
    let stranger = Authority::root("theirs");
    let pair = authority.issue(&["hook.b.nl"]);
    let key = Certificate::parse(&pair.chain[0]).unwrap().key_digest();
    let other = Certificate::parse(&leaf(&["hook.b.nl"]).chain[0]).unwrap().key_digest();
    let trusted = |of: &Authority| {
        ServerProof::Authority(Authorities::from_pem(pem(&of.certificate()).as_bytes()).unwrap())
    };
    for (number, (proof, host, good)) in [
        (ServerProof::Pinned(Pins::new(vec![key])), "any.b.nl", true),
        (trusted(&authority), "hook.b.nl", true),
        (ServerProof::Pinned(Pins::new(vec![other])), "hook.b.nl", false),
        (trusted(&authority), "other.b.nl", false),
        (trusted(&stranger), "hook.b.nl", false),
    ]
    .into_iter()
    .enumerate()
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tls = ServerTls::new(pair.ring());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&heard);
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok((stream, _)) = tls.accept(stream).await {
                pass(stream, &record).await;
            }
        });
        let endpoint = Endpoint::tls(address, host.parse().unwrap(), proof, TlsStart::Immediate).unwrap();
        let passed = passes(&hook_at(endpoint)).await;
        server.await.unwrap();
        assert_eq!(passed.is_ok(), good, "case {number}: {passed:?}");
        assert_eq!(heard.lock().unwrap().is_empty(), !good, "case {number}");
        if let Err(error) = passed {
            assert!(matches!(&error, HookError::Unreachable(_)), "{error}");
        }
    }
}

/// A hook that is configured to speak TLS gets nothing in the clear.
///
/// Proves: -HOOK-002
#[tokio::test]
async fn a_hook_without_tls_gets_nothing_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 4096];
        let count = stream.read(&mut heard).await.unwrap();
        stream.write_all(PASS.as_bytes()).await.unwrap();
        heard.truncate(count);
        heard
    });
    let proof = ServerProof::Pinned(Pins::new(Vec::new()));
    let endpoint =
        Endpoint::tls(address.to_string(), "hook.b.nl".parse().unwrap(), proof, TlsStart::Immediate).unwrap();
    assert!(matches!(passes(&hook_at(endpoint)).await, Err(HookError::Unreachable(_))));
    let heard = server.await.unwrap();
    assert_eq!(heard.first(), Some(&0x16), "a TLS handshake, and nothing else");
    assert!(memchr::memmem::find(&heard, b"POST").is_none());
    // That the system's own network is used on this machine.
    let _ = SystemNetwork.connect(address, None).await;
}
