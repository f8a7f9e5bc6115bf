//! Answers of all kinds, from a hook in memory.
#![allow(clippy::unwrap_used)]

mod answers;
mod flat;
mod links;

use std::time::Duration;

use super::testing::{FakeHook, Script, changed};
use super::*;
use crate::model::{AttemptId, BodyType, Envelope, MessageId, Recipient, ReversePath};
use crate::world::{ManualClock, SeededRandom};

/// A message as the environment would get it.
pub(super) const MESSAGE: &str = "Authentication-Results: nta.b.nl; x-federation=pass\r\n\
     Received: from nta.a.nl by nta.b.nl with ESMTPS id 01K; Sun, 22 Nov 2026 12:00:00 +0000\r\n\
     From: Alice <alice@a.nl>\r\nDate: Sun, 22 Nov 2026\r\n 12:00:00 +0000\r\nMessage-ID: <1@a.nl>\r\nSubject: geheim\r\n\r\nInhoud\r\n";

/// Keeps it in memory; `None`: has no room.
pub(super) struct Kept(pub(super) Option<Vec<u8>>);

#[async_trait]
impl Keep for Kept {
    async fn keep(&mut self, octets: &[u8]) -> Result<(), NotKept> {
        self.0.as_mut().ok_or(NotKept)?.extend_from_slice(octets);
        Ok(())
    }
}

pub(super) fn limits() -> HookLimits {
    HookLimits {
        steps: StepLimits::default(),
        total: Duration::from_secs(120),
        answer_octets: 1 << 20,
        header: HeaderLimits::default(),
    }
}

pub(super) fn world(network: impl crate::world::Network) -> World {
    let now = jiff::Timestamp::from_second(1_795_305_600).unwrap();
    let world = World::with(ManualClock::at(now), SeededRandom::new(1));
    World { network: std::sync::Arc::new(network), ..world }
}

pub(super) fn hook_on(network: impl crate::world::Network, limits: HookLimits) -> Hook {
    let endpoint = Endpoint::loopback("127.0.0.1:8080".parse().unwrap()).unwrap();
    let tls = ClientTls::anonymous();
    Hook::new(endpoint, "/filter".into(), "127.0.0.1:8080".into(), tls, world(network), limits)
}

pub(super) fn envelope(sender: &str, recipients: &[&str]) -> Envelope {
    Envelope {
        sender: if sender.is_empty() {
            ReversePath::Null
        } else {
            ReversePath::Address(sender.parse().unwrap())
        },
        recipients: recipients.iter().map(|to| Recipient::plain(to.parse().unwrap())).collect(),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
    }
}

pub(super) async fn ask<R>(
    hook: &Hook,
    envelope: &Envelope,
    content: R,
    size: u64,
    keep: &mut dyn Keep,
) -> Result<Asked, HookError>
where
    R: AsyncRead + Send + Unpin + 'static,
{
    let domain = "a.nl".parse().unwrap();
    let question = Question {
        message: MessageId::from_parts(1, 2),
        attempt: AttemptId::from_parts(3, 4),
        envelope,
        level: Some(crate::model::Level::Mutual),
        domain: Some(&domain),
        size,
    };
    hook.ask(&question, content, keep).await
}

/// Asks a hook with this script about [`MESSAGE`]; what it says, and what was kept.
pub(super) async fn asked(script: Script) -> (Result<Asked, HookError>, Vec<u8>) {
    let hook = hook_on(FakeHook::new(script), limits());
    let mut kept = Kept(Some(Vec::new()));
    let envelope = envelope("alice@a.nl", &["bob@b.nl"]);
    let asked = ask(&hook, &envelope, MESSAGE.as_bytes(), MESSAGE.len() as u64, &mut kept).await;
    (asked, kept.0.unwrap())
}

/// Whether a changed message takes the place of [`MESSAGE`].
pub(super) async fn taken(message: &str) -> Result<(), String> {
    let (asked, kept) = asked(Script::saying(changed(message.as_bytes()))).await;
    match asked.map_err(|error| error.to_string())?.answer {
        Answer::Changed(_) => {
            assert_eq!(String::from_utf8(kept).unwrap(), message);
            Ok(())
        }
        other => panic!("{other:?}"),
    }
}
