//! What a hook may cost: time, octets, memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use super::super::testing::{PASS, Reads, WINDOW};
use super::*;
use crate::world::Network;

/// As much of a message as may be between its two ends: both buffers of hyper, the pieces on either side of it, the wire.
const UNDER_WAY_MAX: u64 = 2 * BUFFER_OCTETS as u64 + 6 * (32 << 10) + 2 * WINDOW as u64;
const LARGE: u64 = 40 << 20;

/// A large message that counts what was read of it.
struct Counted {
    left: u64,
    produced: Arc<AtomicU64>,
    consumed: Arc<AtomicU64>,
    head: &'static [u8],
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = u64::try_from(out.remaining()).unwrap().min(self.left);
        let head = std::mem::take(&mut self.head);
        out.put_slice(head);
        for at in (head.len() as u64)..room {
            out.put_slice(if (self.left - at) % 64 == 2 {
                b"\r"
            } else if (self.left - at) % 64 == 1 {
                b"\n"
            } else {
                b"x"
            });
        }
        self.left -= room;
        let produced = self.produced.fetch_add(room, Ordering::SeqCst) + room;
        let consumed = self.consumed.load(Ordering::SeqCst);
        assert!(
            produced - consumed < UNDER_WAY_MAX,
            "{produced} octets read, of which {consumed} have arrived"
        );
        Poll::Ready(Ok(()))
    }
}

/// A hook that reads a large message, and answers with one as large.
struct Large {
    /// Of the message, how much has arrived.
    arrived: Arc<AtomicU64>,
    /// Of the answer, how much was kept.
    kept: Arc<AtomicU64>,
}

async fn serve(mut stream: DuplexStream, arrived: Arc<AtomicU64>, kept: Arc<AtomicU64>) -> io::Result<()> {
    let mut piece = vec![0; WINDOW];
    let mut seen = Vec::new();
    let mut total = 0;
    while total < LARGE {
        let count = stream.read(&mut piece).await? as u64;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = (seen.len() < 2000)
            .then(|| seen.extend(&piece))
            .and_then(|()| memchr::memmem::find(&seen, b"\r\n\r\n"))
        {
            // The head of the request comes first, and is not counted.
            total = if total == 0 { count - (end as u64 + 4).min(count) } else { total + count };
        } else {
            total += count;
        }
        arrived.store(total, Ordering::SeqCst);
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\nContent-Length: {LARGE}\r\n\r\nFrom: <alice@a.nl>\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut written = u64::try_from("From: <alice@a.nl>\r\n\r\n".len()).unwrap();
    while written < LARGE {
        let line = [&[b'y'; 62][..], b"\r\n"].concat();
        let line = if LARGE - written < 66 {
            [&vec![b'y'; usize::try_from(LARGE - written - 2).unwrap()][..], b"\r\n"].concat()
        } else {
            line
        };
        stream.write_all(&line).await?;
        written += line.len() as u64;
        let kept = kept.load(Ordering::SeqCst);
        assert!(
            written.saturating_sub(kept) < UNDER_WAY_MAX,
            "{written} octets sent, of which {kept} were kept"
        );
    }
    Ok(())
}

#[async_trait]
impl Network for Large {
    async fn connect(&self, _: std::net::SocketAddr, _: Option<std::net::IpAddr>) -> io::Result<Link> {
        let (near, far) = duplex(WINDOW);
        tokio::spawn(serve(far, Arc::clone(&self.arrived), Arc::clone(&self.kept)));
        Ok(Box::new(near))
    }
}

/// Counts, and keeps nothing.
struct Counter(Arc<AtomicU64>);

#[async_trait]
impl Keep for Counter {
    async fn keep(&mut self, octets: &[u8]) -> Result<(), NotKept> {
        self.0.fetch_add(octets.len() as u64, Ordering::SeqCst);
        // Others get their turn, as with a disk.
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// Proves: +HOOK-010
#[tokio::test]
async fn a_large_message_and_a_large_answer_pass_through_little_memory() {
    let (arrived, kept) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let network = Large { arrived: Arc::clone(&arrived), kept: Arc::clone(&kept) };
    let hook = hook_on(network, HookLimits { answer_octets: LARGE, ..limits() });
    let produced = Arc::new(AtomicU64::new(0));
    let head = b"From: <alice@a.nl>\r\n\r\n";
    let content = Counted { left: LARGE, produced: Arc::clone(&produced), consumed: arrived, head };
    let to = envelope("alice@a.nl", &["bob@b.nl"]);
    let asked = ask(&hook, &to, content, LARGE, &mut Counter(Arc::clone(&kept))).await.unwrap();
    assert!(matches!(asked.answer, Answer::Changed(Changed { size: LARGE, .. })));
    assert_eq!((produced.load(Ordering::SeqCst), kept.load(Ordering::SeqCst)), (LARGE, LARGE));
}

/// Proves: -HOOK-010
#[tokio::test]
async fn an_answer_over_the_limit_is_not_taken() {
    let message = MESSAGE.replace("Inhoud", "Anders");
    for (answer, over) in [
        (changed(message.as_bytes()), false),
        (super::super::testing::in_chunks(message.as_bytes(), 11), false),
        (changed(message.replace("Anders", "Anderss").as_bytes()), true),
        (super::super::testing::in_chunks(message.replace("Anders", "Anderss").as_bytes(), 11), true),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\nContent-Length: 99999999999\r\n\r\n"
                .to_vec(),
            true,
        ),
    ] {
        let limits = HookLimits { answer_octets: message.len() as u64, ..limits() };
        let hook = hook_on(FakeHook::new(Script::saying(answer)), limits);
        let mut kept = Kept(Some(Vec::new()));
        let to = envelope("alice@a.nl", &["bob@b.nl"]);
        let asked = ask(&hook, &to, MESSAGE.as_bytes(), MESSAGE.len() as u64, &mut kept).await;
        match asked {
            Ok(_) => assert!(!over),
            Err(error) => assert!(over && error.to_string().contains("is longer than"), "{error}"),
        }
        assert!(kept.0.unwrap().len() <= message.len());
    }
}

/// Proves: +HOOK-010 -HOOK-010
#[tokio::test(start_paused = true)]
async fn a_hook_that_takes_too_long_has_said_nothing() {
    let message = MESSAGE.replace("Inhoud", "Anders");
    let whole = changed(message.as_bytes());
    // It reads nothing, says nothing, or stops in the middle; or it does not close when it is done (RFC 9112 section 9.6).
    for (answer, reads) in [
        (Vec::new(), Reads::Nothing),
        (Vec::new(), Reads::All),
        (whole[..whole.len() / 2].to_vec(), Reads::All),
        (whole.clone(), Reads::All),
        (PASS.as_bytes().to_vec(), Reads::All),
    ] {
        let started = tokio::time::Instant::now();
        let script = Script { answer, reads, closes: false };
        let (asked, _) = asked(script).await;
        let error = asked.unwrap_err();
        assert!(matches!(error, HookError::Timeout(120)), "{error}");
        assert_eq!(started.elapsed().as_secs(), 120);
    }
}
