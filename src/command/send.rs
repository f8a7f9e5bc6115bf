//! `sluis send`: submit a message to the running node.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use super::{Exit, Failure, Report};
use crate::admin::control::SendEnvelope;
use crate::admin::{ContentStream, ControlClient};
use crate::model::Address;

const BLOCK_OCTETS: usize = 64 * 1024;

/// The message.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The sender, in one of our domains.
    #[arg(long, value_name = "ADDRESS")]
    from: Address,
    /// A recipient; may be repeated.
    #[arg(long, required = true, value_name = "ADDRESS")]
    to: Vec<Address>,
    /// The message as a file (RFC 5322; lines may end with LF or CRLF), or `-` for standard input.
    file: PathBuf,
}

pub(super) async fn send(client: &ControlClient, arguments: &Arguments) -> Result<Report, Failure> {
    let opened = open(&arguments.file);
    let source = opened.map_err(|error| Failure::usage(format!("{}: {error}", arguments.file.display())))?;
    let envelope = SendEnvelope {
        from: arguments.from.to_string(),
        to: arguments.to.iter().map(ToString::to_string).collect(),
        smtputf8: arguments.to.iter().chain([&arguments.from]).any(Address::needs_smtputf8),
    };
    let sent = client.send(&envelope, with_crlf(tokio::fs::File::from_std(source))).await?;
    let text = format!("accepted as {}; follow it with `sluis spool show {}`\n", sent.message, sent.message);
    Report::new(text, &sent, Exit::Pass)
}

pub(super) fn open(path: &Path) -> io::Result<std::fs::File> {
    if path.as_os_str() == "-" {
        return Ok(io::stdin().as_fd().try_clone_to_owned()?.into());
    }
    std::fs::File::open(path)
}

/// The octets of `source` with line ends as they are on the wire: a file of this machine has LF, a saved message CRLF.
/// A CR that stands alone stays, and the node refuses it.
pub(super) fn with_crlf(mut source: impl AsyncRead + Send + Unpin + 'static) -> ContentStream {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut block = vec![0; BLOCK_OCTETS];
        let mut last = 0;
        loop {
            let result: io::Result<Bytes> = match source.read(&mut block).await {
                Ok(0) => return,
                Ok(count) => Ok(wire(&block[..count], &mut last)),
                Err(error) => Err(error),
            };
            let broken = result.is_err();
            if sender.send(result).await.is_err() || broken {
                return;
            }
        }
    });
    receiver
}

fn wire(octets: &[u8], last: &mut u8) -> Bytes {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    for &octet in octets {
        if octet == b'\n' && *last != b'\r' {
            out.push(b'\r');
        }
        out.push(octet);
        *last = octet;
    }
    out.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn converted(pieces: &[&[u8]]) -> Vec<u8> {
        let mut last = 0;
        pieces.iter().flat_map(|piece| wire(piece, &mut last).to_vec()).collect()
    }

    #[tokio::test]
    async fn line_ends_become_those_of_the_wire_also_across_blocks() {
        assert_eq!(converted(&[b"a\nb\r\nc"]).await, b"a\r\nb\r\nc");
        assert_eq!(converted(&[b"a\r", b"\nb\n"]).await, b"a\r\nb\r\n");
        assert_eq!(converted(&[b"\n\n"]).await, b"\r\n\r\n");
        assert_eq!(converted(&[b"a\rb"]).await, b"a\rb", "a bare CR is for the node to refuse");
    }

    #[tokio::test]
    async fn a_whole_file_goes_through() {
        let text = "line\n".repeat(50_000);
        let mut stream = with_crlf(io::Cursor::new(text.clone().into_bytes()));
        let mut all = Vec::new();
        while let Some(block) = stream.recv().await {
            all.extend_from_slice(&block.unwrap());
        }
        assert_eq!(all, text.replace('\n', "\r\n").into_bytes());
    }
}
