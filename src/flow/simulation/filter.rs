//! The provider's own filter: marks what it lets pass, and now and then is in no state to do so.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::letters::{Arrived, provider_of};
use super::network::Listener;
use crate::transport::smtp::server::Accept;
use crate::world::{Random, SeededRandom};

/// What it puts on top.
pub(super) const MARK: &str = "X-Filtered: yes\r\n";

/// Serves a filter.
pub(super) async fn serve(mut listener: Listener, random: Arc<SeededRandom>) {
    while let Ok((stream, _, _)) = listener.next().await {
        let random = Arc::clone(&random);
        tokio::spawn(async move {
            // Whoever was at the other end is gone.
            let _ = session(stream, &random).await;
        });
    }
}

async fn session(mut stream: DuplexStream, random: &SeededRandom) -> io::Result<()> {
    let mut read = Vec::new();
    let (start, length) = loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        break (end + 4, length.ok_or(io::ErrorKind::InvalidData)?);
    };
    while read.len() < start + length {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    let message = &read[start..];
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\nContent-Length: {}\r\n\r\n{MARK}",
        MARK.len() + message.len()
    );
    let mut answer = [head.as_bytes(), message].concat();
    match random.next() % 8 {
        0 => answer = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec(),
        1 => answer.truncate(usize::try_from(random.next()).unwrap_or(0) % answer.len()),
        2 if random.next().is_multiple_of(4) => std::future::pending().await,
        _ => {}
    }
    stream.write_all(&answer).await
}

/// What is wrong with something that arrived: what came from another provider has passed the filter, and nothing else has.
pub(super) fn judge(mailboxes: &[Arrived]) -> Vec<String> {
    let wrong = mailboxes.iter().filter(|mail| {
        let from_outside = provider_of(&mail.sender) != provider_of(&mail.recipient);
        !mail.sender.is_empty() && mail.filtered != from_outside
    });
    wrong
        .map(|mail| format!("letter {:?} for {}: filtered: {}", mail.letter, mail.recipient, mail.filtered))
        .collect()
}
