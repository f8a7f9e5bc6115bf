#![allow(clippy::unwrap_used)]
//! Dialogues with a scripted other side.

mod broken;
mod endpoints;
mod smuggling;
mod transactions;

use tokio::io::DuplexStream;

use super::testing::Peer;
use super::*;

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn name() -> DomainName {
    "client.a.nl".parse().unwrap()
}

fn pipe() -> (DuplexStream, Peer<DuplexStream>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    (near, Peer::new(far))
}

/// A dialogue whose other side offered these keywords.
async fn open(dialect: Dialect, offers: &[&str]) -> (Dialogue<DuplexStream>, Peer<DuplexStream>) {
    let (near, mut peer) = pipe();
    let name = name();
    let script = async {
        peer.say("220 ready\r\n").await;
        assert_eq!(peer.line().await, format!("{} client.a.nl", dialect.hello()));
        let mut answer = String::new();
        for offer in offers {
            answer.push_str(&format!("250-{offer}\r\n"));
        }
        // The last line is an offer as well, of nothing we know.
        peer.say(&format!("250-host\r\n{answer}250 XNOTHING\r\n")).await;
        peer
    };
    let (dialogue, peer) = tokio::join!(Dialogue::open(near, dialect, &name, StepLimits::default()), script);
    (dialogue.unwrap(), peer)
}
