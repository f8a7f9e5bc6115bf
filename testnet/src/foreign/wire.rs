//! The client's side of LMTP, SMTP and IMAP, as little as the tests need, over plain TCP.
//!
//! Deliberately not the node's code: a mistake made there must not be repeated by what checks it.
//!
//! # Standards
//! RFC 2033, RFC 5321, RFC 3501 (LOGIN, SELECT, FETCH with literals).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::{ForeignError, PATIENCE};

/// A connection on which both sides speak in lines.
struct Lines {
    stream: BufReader<TcpStream>,
    what: String,
}

impl Lines {
    fn connect(addr: SocketAddr) -> Result<Self, ForeignError> {
        let what = format!("talking to {addr}");
        let io = |source| ForeignError::System { what: what.clone(), source };
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).map_err(io)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(io)?;
        Ok(Self { stream: BufReader::new(stream), what })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), ForeignError> {
        self.stream.get_mut().write_all(bytes).map_err(ForeignError::system(&*self.what))
    }

    /// One line without its end.
    fn line(&mut self) -> Result<Vec<u8>, ForeignError> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).map_err(ForeignError::system(&*self.what))?;
        if line.pop() != Some(b'\n') {
            return Err(ForeignError::Unexpected {
                what: self.what.clone(),
                reply: "end of connection".into(),
            });
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }

    /// One reply of SMTP or LMTP: its lines, joined by a line feed.
    fn reply(&mut self) -> Result<Reply, ForeignError> {
        let mut text = String::new();
        loop {
            let line = String::from_utf8_lossy(&self.line()?).into_owned();
            let last = line.as_bytes().get(3) != Some(&b'-');
            text += &line;
            if last {
                let code = text.get(..3).and_then(|digits| digits.parse().ok());
                return match code {
                    Some(code) => Ok(Reply { code, text }),
                    None => Err(ForeignError::Unexpected { what: self.what.clone(), reply: text }),
                };
            }
            text.push('\n');
        }
    }

    fn expect(&mut self, command: &str, class: u16) -> Result<Reply, ForeignError> {
        if !command.is_empty() {
            self.send(format!("{command}\r\n").as_bytes())?;
        }
        let reply = self.reply()?;
        if reply.code / 100 == class {
            return Ok(reply);
        }
        Err(ForeignError::Unexpected { what: format!("{}: {command}", self.what), reply: reply.text })
    }
}

/// A reply of an SMTP or LMTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// All lines with their codes, joined by a line feed.
    pub text: String,
}

/// Hands a message to an LMTP server. One reply for each recipient, in order: that to `RCPT` if it was refused there,
/// else that to the message.
///
/// # Errors
/// The connection broke, or the server refused something that does not depend on a recipient.
pub fn lmtp(addr: SocketAddr, from: &str, to: &[&str], message: &[u8]) -> Result<Vec<Reply>, ForeignError> {
    let mut lines = Lines::connect(addr)?;
    lines.expect("", 2)?;
    lines.expect("LHLO test.invalid", 2)?;
    lines.expect(&format!("MAIL FROM:<{from}>"), 2)?;
    let mut replies = Vec::new();
    for recipient in to {
        lines.send(format!("RCPT TO:<{recipient}>\r\n").as_bytes())?;
        replies.push(lines.reply()?);
    }
    if replies.iter().any(|reply| reply.code / 100 == 2) {
        lines.expect("DATA", 3)?;
        lines.send(&dotted(message))?;
        for reply in replies.iter_mut().filter(|reply| reply.code / 100 == 2) {
            *reply = lines.reply()?;
        }
    }
    lines.expect("QUIT", 2)?;
    Ok(replies)
}

/// The message as DATA carries it: dots doubled at line starts, the end marked. A last line without an end gets one.
fn dotted(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    if !wire.is_empty() && !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// All messages in somebody's INBOX over IMAP, oldest first, byte for byte.
///
/// # Errors
/// The connection broke, or the server refused a command.
pub fn imap_inbox(addr: SocketAddr, user: &str, password: &str) -> Result<Vec<Vec<u8>>, ForeignError> {
    let (mut lines, _) = imap_select(addr, user, password)?;
    // On an empty mailbox `1:*` is a sequence that does not exist; UIDs may be asked for in any case.
    let messages = imap(&mut lines, "UID FETCH 1:* BODY.PEEK[]")?.literals;
    lines.send(b"z LOGOUT\r\n")?;
    Ok(messages)
}

/// How many messages somebody's INBOX has.
///
/// # Errors
/// The connection broke, or the server refused a command.
pub fn imap_count(addr: SocketAddr, user: &str, password: &str) -> Result<usize, ForeignError> {
    let (mut lines, selected) = imap_select(addr, user, password)?;
    lines.send(b"z LOGOUT\r\n")?;
    let count = |line: &String| line.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok();
    selected.lines.iter().find_map(count).ok_or_else(|| ForeignError::Unexpected {
        what: "IMAP SELECT".into(),
        reply: selected.lines.join("\n"),
    })
}

/// What came between a command and its status.
#[derive(Default)]
struct ImapAnswer {
    lines: Vec<String>,
    literals: Vec<Vec<u8>>,
}

fn imap_select(addr: SocketAddr, user: &str, password: &str) -> Result<(Lines, ImapAnswer), ForeignError> {
    let mut lines = Lines::connect(addr)?;
    lines.line()?;
    imap(&mut lines, &format!("LOGIN \"{user}\" \"{password}\""))?;
    let selected = imap(&mut lines, "SELECT INBOX")?;
    Ok((lines, selected))
}

/// Sends one command.
fn imap(lines: &mut Lines, command: &str) -> Result<ImapAnswer, ForeignError> {
    lines.send(format!("t {command}\r\n").as_bytes())?;
    let mut answer = ImapAnswer::default();
    loop {
        let line = String::from_utf8_lossy(&lines.line()?).into_owned();
        if let Some(status) = line.strip_prefix("t ") {
            if status.starts_with("OK") {
                return Ok(answer);
            }
            let verb = command.split(' ').next().unwrap_or_default();
            return Err(ForeignError::Unexpected { what: format!("IMAP {verb}"), reply: line });
        }
        if let Some(length) = literal_length(&line) {
            let mut literal = vec![0; length];
            lines.stream.read_exact(&mut literal).map_err(ForeignError::system("reading an IMAP literal"))?;
            answer.literals.push(literal);
        }
        answer.lines.push(line);
    }
}

/// `* 1 FETCH (BODY[] {1234}` announces 1,234 octets.
fn literal_length(line: &str) -> Option<usize> {
    line.strip_suffix('}')?.rsplit_once('{')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_and_the_end_is_marked() {
        assert_eq!(dotted(b".a\r\nb.\r\n..\r\n"), b"..a\r\nb.\r\n...\r\n.\r\n");
        assert_eq!(dotted(b"no end"), b"no end\r\n.\r\n");
        assert_eq!(dotted(b""), b".\r\n");
    }

    #[test]
    fn literals_are_recognised() {
        assert_eq!(literal_length("* 1 FETCH (UID 1 BODY[] {42}"), Some(42));
        assert_eq!(literal_length("* OK {hello}"), None);
        assert_eq!(literal_length("* 2 EXISTS"), None);
    }
}
