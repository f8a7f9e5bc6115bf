//! The LMTP sink, spoken to octet by octet.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use testnet::sink::{Answer, Listen, Sink};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

struct Client(BufReader<UnixStream>);

impl Client {
    async fn connect(sink: &Sink) -> Self {
        let Listen::Unix(path) = sink.address() else { panic!("a UNIX socket") };
        let mut client = Self(BufReader::new(UnixStream::connect(path).await.unwrap()));
        assert!(client.line().await.starts_with("220 "));
        client
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(Duration::from_secs(10), self.0.read_line(&mut line)).await.unwrap().unwrap();
        line
    }

    async fn send(&mut self, octets: &[u8]) {
        self.0.write_all(octets).await.unwrap();
    }

    /// Sends a line and returns the last line of the reply.
    async fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes()).await;
        loop {
            let line = self.line().await;
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    async fn transaction(&mut self, recipients: &[&str]) {
        assert!(self.ask("LHLO node.a.nl").await.starts_with("250 "));
        assert!(self.ask("MAIL FROM:<alice@a.nl> BODY=8BITMIME").await.starts_with("250 "));
        for recipient in recipients {
            assert!(self.ask(&format!("RCPT TO:<{recipient}>")).await.starts_with("250 "));
        }
        assert!(self.ask("DATA").await.starts_with("354 "));
    }
}

async fn sink(directory: &Path) -> Sink {
    let at = "2026-11-22T12:00:00Z".parse().unwrap();
    let listen = Listen::Unix(directory.join("lmtp.sock"));
    Sink::start(listen, &directory.join("mail"), Arc::new(move || at)).await.unwrap()
}

#[tokio::test]
async fn stores_exact_octets_and_the_envelope_before_it_answers() {
    let directory = tempfile::tempdir().unwrap();
    let sink = sink(directory.path()).await;
    let mut client = Client::connect(&sink).await;
    client.transaction(&["bob@b.nl", "Carol@b.nl"]).await;
    client.send("Subject: dots\r\n\r\n..one\r\n...\r\nümlaut \t \r\n\r\n.\r\n".as_bytes()).await;
    assert!(client.line().await.starts_with("250 2.0.0"));
    let messages = sink.messages();
    assert!(client.line().await.starts_with("250 2.0.0"));
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    let content = "Subject: dots\r\n\r\n.one\r\n..\r\nümlaut \t \r\n\r\n".as_bytes();
    assert_eq!(message.content().unwrap(), content);
    assert_eq!(message.octets, content.len() as u64);
    assert_eq!((message.sender.as_str(), message.number), ("alice@a.nl", 1));
    assert_eq!(message.recipients, ["bob@b.nl", "Carol@b.nl"]);
    assert_eq!(message.parameters, ["BODY=8BITMIME"]);
    assert_eq!(message.arrived.to_string(), "2026-11-22T12:00:00Z");
    assert_eq!(sink.violations(), []);
    assert!(client.ask("QUIT").await.starts_with("221 "));
    assert_eq!(client.line().await, "", "closed");
}

#[tokio::test]
async fn waiting_ends_when_the_message_has_come() {
    let directory = tempfile::tempdir().unwrap();
    let sink = Arc::new(sink(directory.path()).await);
    let waiting = tokio::spawn({
        let sink = sink.clone();
        async move { sink.wait_for(2).await }
    });
    for _ in 0..2 {
        let mut client = Client::connect(&sink).await;
        client.transaction(&["bob@b.nl"]).await;
        client.send(b"x\r\n.\r\n").await;
        assert!(client.line().await.starts_with("250 "));
    }
    let messages = timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert_eq!(messages.len(), 2);
}

#[tokio::test]
async fn every_recipient_gets_its_own_answer() {
    let directory = tempfile::tempdir().unwrap();
    let sink = sink(directory.path()).await;
    sink.answer("Later@b.nl", Answer::Temporary);
    sink.answer("unwanted@b.nl", Answer::Reject);
    sink.answer("nobody@b.nl", Answer::Unknown);
    sink.answer("busy@b.nl", Answer::TemporaryAtRcpt);
    let mut client = Client::connect(&sink).await;
    client.ask("LHLO a").await;
    client.ask("MAIL FROM:<>").await;
    assert!(client.ask("RCPT TO:<later@b.nl>").await.starts_with("250 "));
    assert!(client.ask("RCPT TO:<nobody@b.nl>").await.starts_with("550 5.1.1"));
    assert!(client.ask("RCPT TO:<busy@b.nl>").await.starts_with("451 "));
    assert!(client.ask("RCPT TO:<bob@b.nl>").await.starts_with("250 "));
    assert!(client.ask("RCPT TO:<unwanted@b.nl>").await.starts_with("250 "));
    client.ask("DATA").await;
    client.send(b".\r\n").await;
    assert!(client.line().await.starts_with("451 4.3.0"));
    assert!(client.line().await.starts_with("250 2.0.0"));
    assert!(client.line().await.starts_with("550 5.7.1"));
    let messages = sink.messages();
    assert_eq!(messages[0].recipients, ["bob@b.nl"]);
    assert_eq!(messages[0].sender, "");
    assert_eq!(messages[0].octets, 0, "an empty message is one");
    assert_eq!(sink.violations(), []);
}

#[tokio::test]
async fn nothing_is_stored_when_nobody_takes_it() {
    let directory = tempfile::tempdir().unwrap();
    let sink = sink(directory.path()).await;
    sink.answer_everybody(Answer::Temporary);
    let mut client = Client::connect(&sink).await;
    client.transaction(&["bob@b.nl"]).await;
    client.send(b"x\r\n.\r\n").await;
    assert!(client.line().await.starts_with("451 "));
    assert!(sink.messages().is_empty());
    let left: Vec<_> = std::fs::read_dir(directory.path().join("mail")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the index: {left:?}");
}

#[tokio::test]
async fn a_lost_reply_leaves_a_stored_message() {
    let directory = tempfile::tempdir().unwrap();
    let sink = sink(directory.path()).await;
    sink.answer("bob@b.nl", Answer::LoseReply);
    let mut client = Client::connect(&sink).await;
    client.transaction(&["bob@b.nl"]).await;
    client.send(b"x\r\n.\r\n").await;
    let mut rest = Vec::new();
    client.0.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn t01_only_crlf_dot_crlf_ends_content_and_lone_ends_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let sink = sink(directory.path()).await;
    let endings: [&[u8]; 7] = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r"];
    for ending in endings {
        let mut client = Client::connect(&sink).await;
        client.transaction(&["bob@b.nl"]).await;
        client.send(&[b"one", ending, b"two\r\n.\r\n"].concat()).await;
        let reply = client.line().await;
        assert!(reply.starts_with("550 5.6.0 a CR or LF alone"), "{ending:?}: {reply}");
        assert!(client.ask("NOOP").await.starts_with("250 "), "{ending:?}: in step");
    }
    assert!(sink.messages().is_empty());
    assert_eq!(sink.violations().len(), endings.len());
}

#[tokio::test]
async fn what_no_client_should_do_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let sink = sink(directory.path()).await;
    let long = "x".repeat(999);
    for (content, complaint) in [("a\0b", "a NUL"), (long.as_str(), "a line over 998"), ("ü", "8-bit octets")]
    {
        let mut client = Client::connect(&sink).await;
        client.ask("LHLO a").await;
        client.ask("MAIL FROM:<a@a.nl>").await;
        client.ask("RCPT TO:<b@b.nl>").await;
        client.ask("DATA").await;
        client.send(format!("{content}\r\n.\r\n").as_bytes()).await;
        assert!(client.line().await.contains(complaint));
    }
    let mut client = Client::connect(&sink).await;
    for (command, reply) in [
        ("MAIL FROM:<a@a.nl>", "503 "),
        ("EHLO a", "500 "),
        ("DATA", "503 "),
        ("LHLO a", "250 "),
        ("RCPT TO:<b@b.nl>", "503 "),
        ("MAIL FROM: <a@a.nl>", "501 "),
        ("MAIL FROM:<a@a.nl> RET=HDRS", "555 "),
        ("MAIL FROM:<ü@a.nl>", "553 "),
        ("MAIL FROM:<\"a> b\"@a.nl> SMTPUTF8", "250 "),
        ("MAIL FROM:<a@a.nl>", "503 "),
        ("RCPT TO:<ü@b.nl>", "250 "),
        ("RSET", "250 "),
        ("RCPT TO:<b@b.nl>", "503 "),
    ] {
        let got = client.ask(command).await;
        assert!(got.starts_with(reply), "{command}: {got}");
    }
    assert_eq!(sink.violations().len(), 3 + 9);
}

#[tokio::test]
async fn a_pipelining_client_gets_all_replies_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let sink = sink(directory.path()).await;
    let mut client = Client::connect(&sink).await;
    client.ask("LHLO a").await;
    client.send(b"MAIL FROM:<a@a.nl>\r\nRCPT TO:<b@b.nl>\r\nDATA\r\n").await;
    for reply in ["250 2.1.0", "250 2.1.5", "354 "] {
        assert!(client.line().await.starts_with(reply));
    }
}

#[tokio::test]
async fn a_directory_is_continued_and_broken_off_content_is_not_a_message() {
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=2 {
        let sink = sink(directory.path()).await;
        let mut broken = Client::connect(&sink).await;
        broken.transaction(&["bob@b.nl"]).await;
        broken.send(b"half a mess").await;
        broken.0.shutdown().await.unwrap();
        assert_eq!(broken.line().await, "", "closed without a word");
        let mut client = Client::connect(&sink).await;
        client.transaction(&["bob@b.nl"]).await;
        client.send(b"whole\r\n.\r\n").await;
        assert!(client.line().await.starts_with("250 "));
        assert_eq!(sink.messages().len(), round);
        let left = std::fs::read_dir(directory.path().join("mail")).unwrap().count();
        assert_eq!(left, round + 1, "messages and index, no draft");
    }
}

#[tokio::test]
async fn a_tcp_sink_says_its_port() {
    let directory = tempfile::tempdir().unwrap();
    let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
    let sink = Sink::start(listen, directory.path(), testnet::clock::system()).await.unwrap();
    let Listen::Tcp(addr) = sink.address() else { panic!("TCP") };
    assert_ne!(addr.port(), 0);
    let mut greeting = [0; 4];
    tokio::net::TcpStream::connect(addr).await.unwrap().read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ");
}
