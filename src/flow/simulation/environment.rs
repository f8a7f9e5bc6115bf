//! The provider's own platform: an LMTP server with mailboxes, and a client that submits until it has an answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::time::{sleep, timeout};

use super::letters::{Arrived, Letter, exists};
use super::network::{Listener, Net};
use crate::model::{BodyType, ContentLeft, Digest, DomainName, Envelope, Recipient, ReversePath};
use crate::transport::smtp::dialogue::{
    Content, Dialect, Dialogue, RecipientReply, Settled, Step, StepLimits,
};
use crate::transport::smtp::server::Accept;
use crate::transport::tls::{ClientTls, KeyRing, Pins, ServerProof};
use crate::world::{Clock, Link, Random, SeededRandom};

/// The mailboxes of all providers.
pub(super) type Mailboxes = Arc<Mutex<Vec<Arrived>>>;

/// Serves LMTP: mailboxes that exist get mail, a little later now and then.
pub(super) async fn serve(mut listener: Listener, mailboxes: Mailboxes, random: Arc<SeededRandom>) {
    while let Ok((stream, _, _)) = listener.next().await {
        let (mailboxes, random) = (Arc::clone(&mailboxes), Arc::clone(&random));
        tokio::spawn(async move {
            // Whoever was at the other end is gone.
            let _ = session(BufReader::new(stream), &mailboxes, &random).await;
        });
    }
}

async fn session(
    mut stream: BufReader<DuplexStream>,
    mailboxes: &Mailboxes,
    random: &SeededRandom,
) -> io::Result<()> {
    stream.write_all(b"220 environment LMTP\r\n").await?;
    let (mut sender, mut recipients) = (String::new(), Vec::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let reply = match line.split([' ', ':']).next().unwrap_or_default() {
            "LHLO" => "250-environment\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n",
            "MAIL" => {
                (sender, recipients) = (path(line), Vec::new());
                "250 2.1.0 ok\r\n"
            }
            "RCPT" if !exists(&path(line)) => "550 5.1.1 no such mailbox\r\n",
            "RCPT" if random.next().is_multiple_of(15) => "450 4.2.0 mailbox busy\r\n",
            "RCPT" => {
                recipients.push(path(line));
                "250 2.1.5 ok\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                let content = content(&mut stream).await?;
                for recipient in std::mem::take(&mut recipients) {
                    let reply = if random.next().is_multiple_of(20) {
                        "451 4.3.0 later\r\n"
                    } else {
                        mailboxes.lock().expect("whole").push(Arrived::read(&sender, &recipient, &content));
                        "250 2.0.0 delivered\r\n"
                    };
                    stream.write_all(reply.as_bytes()).await?;
                }
                continue;
            }
            "RSET" | "NOOP" => "250 2.0.0 ok\r\n",
            "QUIT" => "221 2.0.0 bye\r\n",
            _ => "500 5.5.1 what?\r\n",
        };
        stream.write_all(reply.as_bytes()).await?;
    }
}

/// What stands between the angle brackets.
fn path(line: &str) -> String {
    let start = line.find('<').map_or(line.len(), |at| at + 1);
    line[start..].split('>').next().unwrap_or_default().to_owned()
}

/// Everything up to the line with the dot, transparency undone.
async fn content(stream: &mut BufReader<DuplexStream>) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.take(1 << 20).read_until(b'\n', &mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.as_slice() {
            b".\r\n" => return Ok(content),
            [b'.', rest @ ..] => content.extend_from_slice(rest),
            line => content.extend_from_slice(line),
        }
    }
}

/// Where a platform submits, and what it knows.
pub(super) struct Platform {
    pub(super) net: Net,
    pub(super) own: IpAddr,
    pub(super) node: SocketAddr,
    pub(super) host: DomainName,
    pub(super) key: Digest,
    pub(super) keys: Arc<KeyRing>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<SeededRandom>,
}

/// What became of a letter at the first border.
#[derive(Default)]
pub(super) struct Posted {
    /// Recipients for whom the node answered that it has the letter.
    pub(super) taken: Vec<String>,
    /// Recipients it refused for good.
    pub(super) refused: Vec<String>,
    /// How often the letter may have been taken and no answer said so: it was sent again.
    pub(super) unanswered: u64,
}

impl Platform {
    /// Submits until every recipient has a final answer.
    pub(super) async fn post(&self, letter: &Letter) -> Posted {
        let mut posted = Posted::default();
        let mut left = letter.recipients.clone();
        while !left.is_empty() {
            let (answers, unanswered) = self.submit(letter, &left).await;
            posted.unanswered += u64::from(unanswered);
            for (recipient, settled) in answers {
                match settled {
                    Settled::Taken => posted.taken.push(recipient.clone()),
                    Settled::Refused => posted.refused.push(recipient.clone()),
                    Settled::Later => continue,
                }
                left.retain(|address| *address != recipient);
            }
            if !left.is_empty() {
                sleep(Duration::from_secs(20 + self.random.next() % 40)).await;
            }
        }
        posted
    }

    /// The answers there were, and whether content may have reached the node without one that says what became of it. A node
    /// whose flush failed says "later", and the message may be found on its disk all the same (SPOOL-003).
    async fn submit(&self, letter: &Letter, to: &[String]) -> (Vec<(String, Settled)>, bool) {
        let Some(mut dialogue) = self.open().await else { return (Vec::new(), false) };
        let address = |text: &String| text.parse().expect("of our own making");
        let envelope = Envelope {
            sender: ReversePath::Address(address(&letter.sender)),
            recipients: to.iter().map(|to| Recipient::plain(address(to))).collect(),
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
        };
        let mut reader = letter.content.as_slice();
        let content = Content { reader: &mut reader, size: letter.content.len() as u64 };
        let (answers, unanswered) = match dialogue.send(&envelope, content).await {
            Ok(transfer) => {
                let doubtful = |answer: &RecipientReply| {
                    answer.step == Step::FinalDot && answer.settled == Settled::Later
                };
                let unanswered = transfer.recipients.iter().any(doubtful);
                (transfer.recipients, unanswered)
            }
            Err(failed) => (failed.settled, failed.error.content_left() != ContentLeft::Never),
        };
        (answers.into_iter().map(|answer| (answer.address.to_string(), answer.settled)).collect(), unanswered)
    }

    async fn open(&self) -> Option<Dialogue<Link>> {
        let name: DomainName = "platform.invalid".parse().expect("a name");
        let limits = StepLimits::default();
        let network = self.net.of(self.own);
        let stream = timeout(limits.connect, network.connect(self.node, None)).await.ok()?.ok()?;
        let stream =
            Dialogue::open(stream, Dialect::Esmtp, &name, limits).await.ok()?.starttls().await.ok()?;
        let tls = ClientTls::new(Arc::clone(&self.keys));
        let proof = ServerProof::Pinned(Pins::new(vec![self.key]));
        let handshake = tls.connect(stream, &self.host, &proof, self.clock.now());
        let secured = timeout(limits.handshake, handshake).await.ok()?.ok()?;
        Dialogue::resume(secured.stream, Dialect::Esmtp, &name, limits).await.ok()
    }
}
