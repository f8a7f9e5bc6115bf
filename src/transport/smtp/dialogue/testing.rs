//! The other side of a dialogue, played from a script.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Content;
use crate::model::{BodyType, Envelope, Recipient, ReversePath};

/// A peer that says what it is told to and remembers what it heard.
pub(crate) struct Peer<S> {
    /// The stream.
    pub(crate) stream: S,
    /// Everything heard.
    pub(crate) heard: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, heard: Vec::new() }
    }

    /// Sends `text` as it is.
    pub(crate) async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("the client listens");
        self.stream.flush().await.expect("the client listens");
    }

    /// The next line, which must end with CRLF; without it.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.stream.read_u8().await.expect("the client speaks"));
        }
        self.heard.extend_from_slice(&line);
        line.truncate(line.len() - 2);
        String::from_utf8(line).expect("commands are text")
    }

    /// Waits for a line that is exactly `line`, then says `answer`.
    pub(crate) async fn expect(&mut self, line: &str, answer: &str) {
        assert_eq!(self.line().await, line);
        self.say(answer).await;
    }

    /// The next `count` octets.
    pub(crate) async fn octets(&mut self, count: usize) -> Vec<u8> {
        let mut octets = vec![0; count];
        self.stream.read_exact(&mut octets).await.expect("the client speaks");
        self.heard.extend_from_slice(&octets);
        octets
    }

    /// Everything up to and including CRLF `.` CRLF.
    pub(crate) async fn content(&mut self) -> Vec<u8> {
        let mut content = b"\r\n".to_vec();
        while !content.ends_with(b"\r\n.\r\n") {
            content.push(self.stream.read_u8().await.expect("the client speaks"));
        }
        self.heard.extend_from_slice(&content[2..]);
        content.split_off(2)
    }

    /// Everything until the client hangs up, however it does.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        let _end = self.stream.read_to_end(&mut self.heard).await;
        self.heard
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> super::Dialogue<S> {
    /// Makes the other side go away, without our side taking notice.
    pub(crate) async fn hang_up(&mut self) {
        self.wire.command(super::Step::Quit, "QUIT\r\n").await.expect("it is still there");
    }
}

/// An envelope from `a@a.nl` to these recipients.
pub(crate) fn envelope(recipients: &[&str]) -> Envelope {
    Envelope {
        sender: ReversePath::Address("a@a.nl".parse().expect("an address")),
        recipients: recipients.iter().map(|to| Recipient::plain(to.parse().expect("an address"))).collect(),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
    }
}

/// Content that is read from memory.
pub(crate) fn content<'a>(reader: &'a mut &[u8]) -> Content<'a> {
    let size = reader.len() as u64;
    Content { reader, size }
}
