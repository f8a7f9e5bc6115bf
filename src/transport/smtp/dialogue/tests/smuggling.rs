//! What content can and cannot do to the wire (attack class T1).

use super::super::content::{Content, Encoder, Framing, Octets};
use super::super::error::Fault;
use crate::transport::smtp::data::{Data, Progress};

/// What goes over the wire, and how it ended.
async fn encode(content: &[u8], framing: Framing) -> (Vec<u8>, Result<(), Fault>) {
    let mut reader = content;
    let size = reader.len() as u64;
    let mut encoder = Encoder::new(Content { reader: &mut reader, size }, framing, Octets::All);
    let (mut wire, mut part) = (Vec::new(), Vec::new());
    loop {
        match encoder.next(&mut part).await {
            Ok(()) if part.is_empty() => return (wire, Ok(())),
            Ok(()) => wire.extend_from_slice(&part),
            Err(fault) => return (wire, Err(fault)),
        }
    }
}

fn is_clean(octets: &[u8]) -> bool {
    let mut previous = 0;
    for &octet in octets {
        if (previous == b'\r') != (octet == b'\n') || octet == 0 {
            return false;
        }
        previous = octet;
    }
    previous != b'\r'
}

/// Every string of 2 to 5 octets over the alphabet that matters.
fn endings() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![vec![]];
    let mut longest = all.clone();
    for _ in 0..5 {
        longest = longest
            .iter()
            .flat_map(|head| b"\r\n.a\0".iter().map(|octet| [head.as_slice(), &[*octet]].concat()))
            .collect();
        all.extend(longest.iter().cloned());
    }
    all.retain(|ending| ending.len() >= 2);
    all
}

/// Proves: +SMTP-006 -SMTP-006 +SMTP-007 -SMTP-007 +SMTP-011
#[tokio::test]
async fn t01_no_ending_in_content_ends_it_on_the_wire() {
    let all = endings();
    assert_eq!(all.len(), 25 + 125 + 625 + 3125);
    for ending in all {
        for (before, after) in
            [(&b"text"[..], &b"\r\nMAIL FROM:<x@y.nl>\r\n"[..]), (b"", b"\r\n"), (b"text\r\n", b"")]
        {
            let content = [before, &ending, after].concat();
            let (wire, outcome) = encode(&content, Framing::Dots).await;
            let complete = [&wire, &b".\r\n"[..]].concat();
            if !is_clean(&content) {
                assert!(matches!(outcome, Err(Fault::Content(_))), "{content:?}");
                // Not even the part before the fault holds a lone CR or LF, but for a CR that waits for its LF.
                assert!(is_clean(&wire) || is_clean(&[&wire, &b"\n"[..]].concat()), "{content:?} {wire:?}");
                continue;
            }
            outcome.unwrap();
            let (mut data, mut out) = (Data::new(), Vec::new());
            let (used, progress) = data.push(&complete, &mut out);
            assert_eq!(
                (used, progress, data.fault()),
                (complete.len(), Progress::Ended, None),
                "{content:?}"
            );
            let expected = if content.is_empty() || content.ends_with(b"\n") {
                content.clone()
            } else {
                [&content, &b"\r\n"[..]].concat()
            };
            assert_eq!(out, expected);
            let (chunk, outcome) = encode(&content, Framing::Chunk).await;
            outcome.unwrap();
            assert_eq!(chunk, content);
        }
    }
}

/// Proves: -SMTP-008
#[tokio::test]
async fn long_lines_are_not_sent() {
    let line = |length: usize| [vec![b'x'; length], b"\r\n".to_vec()].concat();
    assert!(encode(&line(998), Framing::Dots).await.1.is_ok());
    for framing in [Framing::Dots, Framing::Chunk] {
        let (wire, outcome) = encode(&[line(10), line(999)].concat(), framing).await;
        assert!(matches!(outcome, Err(Fault::Content(_))));
        assert!(wire.len() < 999);
    }
}

#[tokio::test]
async fn dots_are_doubled_wherever_the_reader_cuts() {
    struct Drops<'a>(&'a [u8], usize);
    impl tokio::io::AsyncRead for Drops<'_> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            out: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            let (now, later) = self.0.split_at(self.1.min(self.0.len()));
            out.put_slice(now);
            self.0 = later;
            std::task::Poll::Ready(Ok(()))
        }
    }
    let content = b".\r\n..\r\n.a\r\nb.\r\n\r\n.";
    for step in 1..content.len() {
        let mut reader = Drops(content, step);
        let size = content.len() as u64;
        let mut encoder = Encoder::new(Content { reader: &mut reader, size }, Framing::Dots, Octets::All);
        let (mut wire, mut part) = (Vec::new(), Vec::new());
        loop {
            encoder.next(&mut part).await.unwrap();
            if part.is_empty() {
                break;
            }
            wire.extend_from_slice(&part);
        }
        assert_eq!(wire, b"..\r\n...\r\n..a\r\nb.\r\n\r\n..\r\n", "in pieces of {step}");
    }
}

/// Proves: +LIM-007
#[tokio::test]
async fn memory_does_not_grow_with_the_message() {
    let line = [&[b'.'; 76][..], b"\r\n"].concat();
    let (lines, mut sent) = (300_000, 0);
    struct Lines<'a>(&'a [u8], usize, usize);
    impl tokio::io::AsyncRead for Lines<'_> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            out: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            while self.1 > 0 && out.remaining() > 0 {
                let count = (self.0.len() - self.2).min(out.remaining());
                out.put_slice(&self.0[self.2..self.2 + count]);
                self.2 += count;
                if self.2 == self.0.len() {
                    (self.1, self.2) = (self.1 - 1, 0);
                }
            }
            std::task::Poll::Ready(Ok(()))
        }
    }
    let mut reader = Lines(&line, lines, 0);
    let size = (line.len() * lines) as u64;
    let mut encoder = Encoder::new(Content { reader: &mut reader, size }, Framing::Dots, Octets::All);
    let mut part = Vec::new();
    loop {
        encoder.next(&mut part).await.unwrap();
        if part.is_empty() {
            break;
        }
        sent += part.len();
        assert!(part.capacity() <= 128 * 1024, "{}", part.capacity());
    }
    assert_eq!(sent, (line.len() + 1) * lines);
}
