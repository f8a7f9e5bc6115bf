//! Clients that offer messages for as long as they are let.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::ledger::{Ledger, Told};
use super::letters::{Letter, Size};
use super::seed::Seed;
use super::subject::Door;
use crate::net::NetError;
use crate::net::client::{Broken, Call, Carriage, Client, Envelope, Recipient, connect};
use tokio::io::{AsyncRead, AsyncWrite};

/// Before a server that does not answer is tried again, or a queue that is full looked at.
const WAIT: Duration = Duration::from_millis(5);
/// Acknowledged messages that may wait to arrive: the queue is never empty, and never takes long to empty.
const BACKLOG: usize = 60;

/// Running clients. Dropped, they are gone.
pub struct Load {
    clients: JoinSet<()>,
    end: watch::Sender<bool>,
}

impl Load {
    /// Starts so many clients; each decides by its own part of `seed` where it knocks next.
    #[must_use]
    pub fn start(ledger: &Ledger, clients: u64, seed: &Seed) -> Self {
        let (end, _) = watch::channel(false);
        let mut set = JoinSet::new();
        for number in 0..clients {
            set.spawn(client(ledger.clone(), seed.part(number), end.subscribe()));
        }
        Self { clients: set, end }
    }

    /// Lets every client finish its message.
    pub async fn stop(self) {
        self.end.send_replace(true);
        self.clients.join_all().await;
    }
}

async fn client(ledger: Ledger, mut seed: Seed, end: watch::Receiver<bool>) {
    let doors = ledger.doors();
    let mut waits = interval(WAIT);
    waits.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*end.borrow() {
        if ledger.outstanding() > BACKLOG {
            waits.tick().await;
            continue;
        }
        let number = usize::try_from(seed.below(doors.len() as u64)).unwrap_or_default();
        let Ok(mut client) = connect(&call(&doors[number])).await else {
            waits.tick().await;
            continue;
        };
        let mut alive = true;
        for _ in 0..seed.between(1, 8) {
            if *end.borrow() || !alive || ledger.outstanding() > BACKLOG {
                break;
            }
            let letter = ledger.next(number, None);
            let told = offer(&mut client, &letter).await;
            alive = matches!(told, Told::Acknowledged(_) | Told::Refused(_));
            ledger.told(letter.number, told);
        }
        if alive {
            client.quit().await;
        }
    }
}

fn call(door: &Door) -> Call<'_> {
    Call { address: door.address, server: &door.server, helo: &door.helo, identity: door.identity.as_ref() }
}

async fn offer<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, letter: &Letter) -> Told {
    let content = letter.content();
    let recipient = |to: &String| Recipient { address: to.clone(), parameters: Vec::new() };
    let envelope = Envelope {
        recipients: letter.to.iter().map(recipient).collect(),
        ..Envelope::plain(&letter.from, "", &content)
    };
    match client.transact(&envelope, &content, Carriage::Data).await {
        Ok(offered) if offered.step == "content" && offered.reply.code == 250 => {
            let text = offered.reply.text();
            Told::Acknowledged(text.rsplit(' ').next().unwrap_or_default().to_owned())
        }
        Ok(offered) => Told::Refused(format!("{} {}", offered.reply.code, offered.reply.text())),
        // Part of the content may have been all of it.
        Err(Broken { step: "content" | "reply", .. }) => Told::Nothing,
        Err(Broken { .. }) => Told::NotOffered,
    }
}

/// Offers one message of this size at a door, and notes what came of it.
///
/// # Errors
/// There is no connection.
pub async fn offer_one(ledger: &Ledger, door: usize, size: Size) -> Result<Told, NetError> {
    let doors = ledger.doors();
    let letter = ledger.next(door, Some(size));
    let mut client = match connect(&call(&doors[door])).await {
        Ok(client) => client,
        Err(error) => {
            ledger.told(letter.number, Told::NotOffered);
            return Err(error);
        }
    };
    let told = offer(&mut client, &letter).await;
    ledger.told(letter.number, told.clone());
    if matches!(told, Told::Acknowledged(_) | Told::Refused(_)) {
        client.quit().await;
    }
    Ok(told)
}
