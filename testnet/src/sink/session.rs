//! One LMTP session.

use std::io;
use std::sync::Arc;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

use jiff::Timestamp;

use super::store::{Draft, Envelope};
use super::{Answer, Shared, lock};

/// Longest command line in octets, CRLF included: RFC 5321's 512, and room for the parameters of its extensions.
const COMMAND_MAX: usize = 2_048;
/// Longest line of content in octets, CRLF not counted (RFC 5321 section 4.5.3.1.6).
const LINE_MAX: usize = 998;
/// Longest piece read at once; a longer line is refused by [`LINE_MAX`] anyway.
const READ_MAX: u64 = 64 * 1_024;
/// Largest message in octets, as announced.
const MESSAGE_MAX: u64 = 64 * 1_024 * 1_024;

/// A transaction: a sender, then recipients.
struct Transaction {
    began: Timestamp,
    sender: String,
    parameters: Vec<String>,
    recipients: Vec<(String, Answer)>,
}

impl Transaction {
    fn says(&self, parameter: &str) -> bool {
        self.parameters.iter().any(|own| own.eq_ignore_ascii_case(parameter))
    }
}

/// How a session goes on after a command.
enum Next {
    Go,
    Close,
}

struct Session<S> {
    stream: BufReader<S>,
    shared: Arc<Shared>,
    greeted: bool,
    transaction: Option<Transaction>,
}

/// Serves one connection to its end. Errors of the connection end it; nobody is left to tell.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: Arc<Shared>) {
    let mut session = Session { stream: BufReader::new(stream), shared, greeted: false, transaction: None };
    let _ = session.run().await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn run(&mut self) -> io::Result<()> {
        self.say("220 sink.invalid LMTP\r\n").await?;
        loop {
            let mut line = Vec::new();
            let length = (&mut self.stream).take(COMMAND_MAX as u64).read_until(b'\n', &mut line).await?;
            if length == 0 {
                return Ok(());
            }
            let Some(command) = command_line(&line) else {
                self.shared.violation(format!("command line {:?}", String::from_utf8_lossy(&line)));
                self.say("500 5.5.2 not a command line\r\n").await?;
                return Ok(());
            };
            if let Next::Close = self.command(&command).await? {
                return Ok(());
            }
        }
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await?;
        // Replies to pipelined commands go out together (RFC 2920 section 3.2).
        if self.stream.buffer().is_empty() { self.stream.flush().await } else { Ok(()) }
    }

    /// Refuses something no well-behaved client does.
    async fn scold(&mut self, command: &str, reply: &str) -> io::Result<Next> {
        self.shared.violation(format!("{command:?} was answered {reply:?}"));
        self.say(&format!("{reply}\r\n")).await?;
        Ok(Next::Go)
    }

    async fn command(&mut self, command: &str) -> io::Result<Next> {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        match verb.to_ascii_uppercase().as_str() {
            "LHLO" if !rest.is_empty() => {
                self.greeted = true;
                self.transaction = None;
                let size = format!("250 SIZE {MESSAGE_MAX}\r\n");
                let words = ["PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"];
                let words: String = words.iter().map(|word| format!("250-{word}\r\n")).collect();
                self.say(&format!("250-sink.invalid\r\n{words}{size}")).await?;
                Ok(Next::Go)
            }
            "MAIL" => self.mail(command).await,
            "RCPT" => self.rcpt(command).await,
            "DATA" if rest.is_empty() => self.data().await,
            "RSET" if rest.is_empty() => {
                self.transaction = None;
                self.say("250 2.0.0 forgotten\r\n").await?;
                Ok(Next::Go)
            }
            "NOOP" => self.say("250 2.0.0 fine\r\n").await.map(|()| Next::Go),
            "QUIT" if rest.is_empty() => {
                self.say("221 2.0.0 bye\r\n").await?;
                self.stream.flush().await?;
                Ok(Next::Close)
            }
            _ => self.scold(command, "500 5.5.1 not an LMTP command").await,
        }
    }

    async fn mail(&mut self, command: &str) -> io::Result<Next> {
        if !self.greeted || self.transaction.is_some() {
            return self.scold(command, "503 5.5.1 not now").await;
        }
        let Some((sender, parameters)) = path_and_parameters(command, "MAIL FROM:") else {
            return self.scold(command, "501 5.5.4 MAIL FROM:<address> parameters").await;
        };
        let known = |parameter: &String| {
            let upper = parameter.to_ascii_uppercase();
            matches!(upper.as_str(), "BODY=7BIT" | "BODY=8BITMIME" | "SMTPUTF8")
                || upper.strip_prefix("SIZE=").is_some_and(|size| size.parse::<u64>().is_ok())
        };
        if !parameters.iter().all(known) {
            return self.scold(command, "555 5.5.4 a parameter that was not offered").await;
        }
        let began = (self.shared.clock)();
        let transaction = Transaction { began, sender, parameters, recipients: Vec::new() };
        if !transaction.sender.is_ascii() && !transaction.says("SMTPUTF8") {
            return self.scold(command, "553 5.6.7 needs SMTPUTF8").await;
        }
        self.transaction = Some(transaction);
        self.say("250 2.1.0 sender ok\r\n").await?;
        Ok(Next::Go)
    }

    async fn rcpt(&mut self, command: &str) -> io::Result<Next> {
        let Some((recipient, parameters)) = path_and_parameters(command, "RCPT TO:") else {
            return self.scold(command, "501 5.5.4 RCPT TO:<address>").await;
        };
        let Some(transaction) = &mut self.transaction else {
            return self.scold(command, "503 5.5.1 MAIL first").await;
        };
        if recipient.is_empty() || !parameters.is_empty() {
            return self.scold(command, "555 5.5.4 one recipient and no parameters").await;
        }
        if !recipient.is_ascii() && !transaction.says("SMTPUTF8") {
            return self.scold(command, "553 5.6.7 needs SMTPUTF8").await;
        }
        let answer = self.shared.answer_for(&recipient);
        let reply = match answer {
            Answer::Unknown => "550 5.1.1 no such user here\r\n",
            Answer::TemporaryAtRcpt => "451 4.3.0 not now\r\n",
            _ => {
                transaction.recipients.push((recipient, answer));
                "250 2.1.5 recipient ok\r\n"
            }
        };
        self.say(reply).await?;
        Ok(Next::Go)
    }

    async fn data(&mut self) -> io::Result<Next> {
        let Some(transaction) = self.transaction.take() else {
            return self.scold("DATA", "503 5.5.1 MAIL first").await;
        };
        if transaction.recipients.is_empty() {
            // A pipelining client can't know yet that all its recipients were refused, so this is no violation.
            self.say("503 5.5.1 no valid recipients\r\n").await?;
            return Ok(Next::Go);
        }
        self.say("354 go on\r\n").await?;
        self.stream.flush().await?;
        let mut draft = lock(&self.shared.store).draft()?;
        let wrong = self.content(&transaction, &mut draft).await?;
        if let Some(wrong) = wrong {
            drop(draft);
            self.shared.violation(format!("content: {wrong}"));
            let reply = format!("550 5.6.0 {wrong}\r\n").repeat(transaction.recipients.len());
            self.say(&reply).await?;
            return Ok(Next::Go);
        }
        self.settle(transaction, draft).await
    }

    /// Reads content to CRLF `.` CRLF. Returns what is wrong with it, or an error if the connection ends first.
    async fn content(&mut self, transaction: &Transaction, draft: &mut Draft) -> io::Result<Option<String>> {
        let mut wrong = None;
        let mut at_line_start = true;
        let mut octets = 0_u64;
        let mut piece = Vec::new();
        loop {
            piece.clear();
            let length = (&mut self.stream).take(READ_MAX).read_until(b'\n', &mut piece).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if at_line_start && piece == b".\r\n" {
                return Ok(wrong);
            }
            let stuffed = at_line_start && piece[0] == b'.';
            at_line_start = piece.ends_with(b"\r\n");
            let text = if at_line_start { &piece[..length - 2] } else { &piece[..] };
            let content = if stuffed { &piece[1..] } else { &piece[..] };
            octets += content.len() as u64;
            let complaint = if text.contains(&b'\n') || text.contains(&b'\r') {
                Some("a CR or LF alone")
            } else if text.len() - usize::from(stuffed) > LINE_MAX {
                Some("a line over 998 octets")
            } else if text.contains(&0) {
                Some("a NUL")
            } else if !text.is_ascii() && !transaction.says("BODY=8BITMIME") {
                Some("8-bit octets without BODY=8BITMIME")
            } else if octets > MESSAGE_MAX {
                Some("more octets than announced")
            } else {
                None
            };
            match complaint {
                Some(complaint) => wrong = wrong.or(Some(complaint.to_owned())),
                None if wrong.is_none() => draft.write(content)?,
                None => {}
            }
        }
    }

    async fn settle(&mut self, transaction: Transaction, draft: Draft) -> io::Result<Next> {
        let answers: Vec<Answer> = transaction.recipients.iter().map(|(_, answer)| *answer).collect();
        let accepted: Vec<String> = transaction
            .recipients
            .into_iter()
            .filter(|(_, answer)| matches!(answer, Answer::Accept | Answer::LoseReply))
            .map(|(recipient, _)| recipient)
            .collect();
        if answers.contains(&Answer::Silence) {
            drop(draft);
            return std::future::pending().await;
        }
        if !accepted.is_empty() {
            let envelope = Envelope {
                began: transaction.began,
                arrived: (self.shared.clock)(),
                sender: transaction.sender,
                recipients: accepted,
                parameters: transaction.parameters,
            };
            let count = {
                let mut store = lock(&self.shared.store);
                store.keep(draft, envelope)?;
                store.messages().len()
            };
            self.shared.stored.send_replace(count);
        }
        if answers.contains(&Answer::LoseReply) {
            return Ok(Next::Close);
        }
        let replies: String = answers
            .iter()
            .map(|answer| match answer {
                Answer::Temporary => "451 4.3.0 not now\r\n",
                Answer::Reject => "550 5.7.1 not wanted\r\n",
                _ => "250 2.0.0 stored\r\n",
            })
            .collect();
        self.say(&replies).await?;
        Ok(Next::Go)
    }
}

/// A command without its CRLF, if it is one line of UTF-8 that ends in CRLF and holds no other control characters.
fn command_line(line: &[u8]) -> Option<String> {
    let line = line.strip_suffix(b"\r\n")?;
    if line.iter().any(u8::is_ascii_control) {
        return None;
    }
    String::from_utf8(line.to_vec()).ok()
}

/// `MAIL FROM:<address> parameters`, without blanks where the grammar has none (RFC 5321 section 3.3).
fn path_and_parameters(command: &str, prefix: &str) -> Option<(String, Vec<String>)> {
    let head = command.get(..prefix.len())?;
    if !head.eq_ignore_ascii_case(prefix) {
        return None;
    }
    let rest = command[prefix.len()..].strip_prefix('<')?;
    // A quoted local part may hold a `>`; the last one before a blank or the end closes the path.
    let close = rest.match_indices('>').map(|(at, _)| at).find(|at| {
        let after = &rest[at + 1..];
        (after.is_empty() || after.starts_with(' ')) && quotes_are_closed(&rest[..*at])
    })?;
    let parameters =
        rest[close + 1..].split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    Some((rest[..close].to_owned(), parameters))
}

fn quotes_are_closed(text: &str) -> bool {
    let mut quoted = false;
    let mut escaped = false;
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}
