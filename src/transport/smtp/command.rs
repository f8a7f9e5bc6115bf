//! Commands: from one complete line to a typed value, or a named refusal (SMTP-010).
//!
//! The grammar is our own, not that of `smtp-proto`: a border takes only what the standards write, and that parser is made
//! to get along with what clients send (line ends, unquoted paths, parameters it skips). A test holds the two against each other.
//!
//! # Guarantees
//! No value holds a control character, also not one spelled in xtext (attack class T5).
//!
//! # Standards
//! RFC 5321 section 4.1, RFC 1870, 3030, 3461, 6152, 6531, 6533.

use crate::model::{Address, AddressError, BodyType, Notify, Recipient, Ret, ReversePath};

use super::Reply;

/// The longest name in EHLO in octets, as for a domain (RFC 5321 section 4.5.3.1.2).
const CLIENT_NAME_OCTETS_MAX: usize = 255;
/// The longest ENVID in octets once decoded (RFC 3461 section 4.4).
const ENVID_OCTETS_MAX: usize = 100;
/// The longest ORCPT in octets once decoded (RFC 3461 section 4.2).
const ORCPT_OCTETS_MAX: usize = 500;

/// A command, well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `EHLO name`: the name as the client gave it; it proves nothing.
    Ehlo(ClientName),
    /// `HELO name`.
    Helo(ClientName),
    /// `MAIL FROM:<…>`.
    Mail(Mail),
    /// `RCPT TO:<…>`.
    Rcpt(Recipient),
    /// `DATA`.
    Data,
    /// `BDAT n [LAST]`.
    Bdat(Chunk),
    /// `RSET`.
    Rset,
    /// `NOOP`, with or without text.
    Noop,
    /// `QUIT`.
    Quit,
    /// `VRFY …`; the argument is not looked at.
    Vrfy,
    /// `EXPN …`; the argument is not looked at.
    Expn,
    /// `HELP …`; the argument is not looked at.
    Help,
    /// `STARTTLS`.
    StartTls,
    /// `AUTH …`, which this node never offers.
    Auth,
}

/// What a client calls itself in EHLO or HELO: printable, no blanks. A claim, never an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName(String);

impl ClientName {
    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `MAIL` with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The reverse path.
    pub sender: ReversePath,
    /// `SIZE=` in octets (RFC 1870 section 6); a number beyond 64 bits is the largest one.
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152 section 3).
    pub body: BodyType,
    /// `SMTPUTF8` (RFC 6531 section 3.4).
    pub smtputf8: bool,
    /// `RET=` (RFC 3461 section 4.3).
    pub ret: Option<Ret>,
    /// `ENVID=`, decoded (RFC 3461 section 4.4).
    pub envid: Option<String>,
}

/// `BDAT` (RFC 3030 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How many octets follow the command line.
    pub octets: u64,
    /// Whether the content ends with them.
    pub place: ChunkPlace,
}

/// Where a chunk stands in its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkPlace {
    /// More chunks follow.
    Inner,
    /// `LAST`.
    Last,
}

/// How addresses may be spelled in this transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// ASCII only: `SMTPUTF8` was not given.
    Ascii,
    /// UTF-8 too (RFC 6531 section 3.3).
    Utf8,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Another protocol is being spoken (attack class T12).
    #[error("SMTP-025 this is SMTP")]
    ForeignProtocol,
    /// No verb of SMTP.
    #[error("command not known")]
    Unknown,
    /// Not UTF-8, or with a control character.
    #[error("SMTP-010 the line holds control characters or is not UTF-8")]
    Octets,
    /// An argument is missing, or there is one where none belongs.
    #[error("the arguments do not fit the command")]
    Arguments,
    /// The name in EHLO.
    #[error("the name is malformed")]
    ClientName,
    /// The sender's address.
    #[error("SMTP-010 sender: {0}")]
    Sender(AddressFault),
    /// A recipient's address.
    #[error("SMTP-010 recipient: {0}")]
    Recipient(AddressFault),
    /// A parameter this node does not know or does not offer.
    #[error("SMTP-010 parameter not known")]
    UnknownParameter,
    /// A known parameter with a value that breaks its grammar, or given twice.
    #[error("SMTP-010 parameter {0} is malformed or given twice")]
    Parameter(&'static str),
    /// UTF-8 in an address without `SMTPUTF8` (RFC 6531 section 3.5).
    #[error("the address needs SMTPUTF8")]
    NeedsSmtputf8,
    /// `BDAT` without a number: nobody knows how many octets follow, so the session can't go on.
    #[error("SMTP-013 BDAT without a size")]
    ChunkSize,
}

/// Why a path holds no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Not `<`, address, `>`.
    #[error("the path is malformed")]
    Path,
    /// The address within.
    #[error("{0}")]
    Address(#[from] AddressError),
}

/// Whether the session can go on after a line that is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// The next line may be a command.
    GoOn,
    /// What comes next can't be told from content or from another protocol.
    Close,
}

impl CommandError {
    /// The refusal.
    #[must_use]
    pub fn reply(self) -> Reply {
        let (code, enhanced) = match self {
            Self::ForeignProtocol => (421, (4, 7, 0)),
            Self::Unknown => (500, (5, 5, 1)),
            Self::Octets => (500, (5, 5, 2)),
            Self::Arguments | Self::ClientName | Self::Parameter(_) | Self::ChunkSize => (501, (5, 5, 4)),
            Self::Sender(_) => (501, (5, 1, 7)),
            Self::Recipient(_) => (501, (5, 1, 3)),
            Self::UnknownParameter => (555, (5, 5, 4)),
            Self::NeedsSmtputf8 => (553, (5, 6, 7)),
        };
        Reply::sanitised(code, enhanced, &self.to_string())
    }

    /// Whether the session can go on.
    #[must_use]
    pub const fn aftermath(self) -> Aftermath {
        match self {
            Self::ForeignProtocol | Self::ChunkSize => Aftermath::Close,
            _ => Aftermath::GoOn,
        }
    }
}

/// Reads one line, without its CRLF, as a command.
///
/// # Errors
/// Names what is wrong with the line.
pub fn parse(line: &[u8], spelling: Spelling) -> Result<Command, CommandError> {
    if is_foreign(line) {
        return Err(CommandError::ForeignProtocol);
    }
    let text = std::str::from_utf8(line).map_err(|_| CommandError::Octets)?;
    if text.chars().any(char::is_control) {
        return Err(CommandError::Octets);
    }
    // RFC 5321 section 4.1.1: blanks before the CRLF are tolerated.
    let text = text.trim_end_matches(' ');
    let (verb, arguments) = text.split_once(' ').map_or((text, None), |(verb, rest)| (verb, Some(rest)));
    let bare = |command| if arguments.is_none() { Ok(command) } else { Err(CommandError::Arguments) };
    let given = || arguments.ok_or(CommandError::Arguments);
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => Ok(Command::Ehlo(client_name(given()?)?)),
        "HELO" => Ok(Command::Helo(client_name(given()?)?)),
        "MAIL" => mail(given()?).map(Command::Mail),
        "RCPT" => rcpt(given()?, spelling).map(Command::Rcpt),
        "DATA" => bare(Command::Data),
        "BDAT" => chunk(arguments.unwrap_or_default()).map(Command::Bdat),
        "RSET" => bare(Command::Rset),
        "NOOP" => Ok(Command::Noop),
        "QUIT" => bare(Command::Quit),
        "VRFY" => Ok(Command::Vrfy),
        "EXPN" => Ok(Command::Expn),
        "HELP" => Ok(Command::Help),
        "STARTTLS" => bare(Command::StartTls),
        "AUTH" => Ok(Command::Auth),
        _ => Err(CommandError::Unknown),
    }
}

/// HTTP's methods and version, and whatever does not begin with a letter: an upload form, an IMAP tag, a TLS record
/// (SMTP-025). The empty line is merely wrong.
fn is_foreign(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] =
        [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"CONNECT", b"PRI"];
    let verb = line.split(|octet| *octet == b' ').next().unwrap_or_default();
    line.first().is_some_and(|octet| !octet.is_ascii_alphabetic() && *octet != b' ')
        || METHODS.iter().any(|method| verb.eq_ignore_ascii_case(method))
        || memchr::memmem::find(line, b" HTTP/").is_some_and(|_| !is_smtp_verb(verb))
}

fn is_smtp_verb(verb: &[u8]) -> bool {
    const VERBS: [&[u8]; 6] = [b"NOOP", b"VRFY", b"EXPN", b"HELP", b"MAIL", b"RCPT"];
    VERBS.iter().any(|known| verb.eq_ignore_ascii_case(known))
}

fn client_name(text: &str) -> Result<ClientName, CommandError> {
    let fits = (1..=CLIENT_NAME_OCTETS_MAX).contains(&text.len());
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._:[]".contains(&octet);
    if fits && text.bytes().all(plain) {
        Ok(ClientName(text.to_owned()))
    } else {
        Err(CommandError::ClientName)
    }
}

fn chunk(text: &str) -> Result<Chunk, CommandError> {
    let (number, place) = match text.split_once(' ') {
        None => (text, ChunkPlace::Inner),
        Some((number, last)) if last.eq_ignore_ascii_case("LAST") => (number, ChunkPlace::Last),
        Some(_) => return Err(CommandError::ChunkSize),
    };
    let octets = if is_number(number) { number.parse().ok() } else { None };
    Ok(Chunk { octets: octets.ok_or(CommandError::ChunkSize)?, place })
}

fn is_number(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit())
}

/// `FROM:<path>` and parameters.
fn mail(arguments: &str) -> Result<Mail, CommandError> {
    let rest = after_keyword(arguments, "FROM:")?;
    let (path, rest) = split_path(rest).ok_or(CommandError::Sender(AddressFault::Path))?;
    let mut mail = Mail {
        sender: ReversePath::Null,
        size: None,
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
    };
    for parameter in Parameters::read(rest, &["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID"])?.list {
        match (parameter.key, parameter.value) {
            ("SIZE", Some(value)) if is_number(value) => mail.size = Some(value.parse().unwrap_or(u64::MAX)),
            ("BODY", Some(value)) => mail.body = body(value)?,
            ("SMTPUTF8", None) => mail.smtputf8 = true,
            ("RET", Some(value)) if value.eq_ignore_ascii_case("FULL") => mail.ret = Some(Ret::Full),
            ("RET", Some(value)) if value.eq_ignore_ascii_case("HDRS") => mail.ret = Some(Ret::Headers),
            ("ENVID", Some(value)) => {
                mail.envid =
                    Some(decode_xtext(value, ENVID_OCTETS_MAX).ok_or(CommandError::Parameter("ENVID"))?);
            }
            (key, _) => return Err(CommandError::Parameter(key)),
        }
    }
    if !path.is_empty() {
        let spelling = if mail.smtputf8 { Spelling::Utf8 } else { Spelling::Ascii };
        mail.sender = ReversePath::Address(address(path, spelling, CommandError::Sender)?);
    }
    Ok(mail)
}

fn body(value: &str) -> Result<BodyType, CommandError> {
    if value.eq_ignore_ascii_case("7BIT") {
        Ok(BodyType::SevenBit)
    } else if value.eq_ignore_ascii_case("8BITMIME") {
        Ok(BodyType::EightBitMime)
    } else if value.eq_ignore_ascii_case("BINARYMIME") {
        // RFC 3030 section 3: known, and not offered here.
        Err(CommandError::UnknownParameter)
    } else {
        Err(CommandError::Parameter("BODY"))
    }
}

/// `TO:<path>` and parameters.
fn rcpt(arguments: &str, spelling: Spelling) -> Result<Recipient, CommandError> {
    let rest = after_keyword(arguments, "TO:")?;
    let (path, rest) = split_path(rest).ok_or(CommandError::Recipient(AddressFault::Path))?;
    let (mut notify, mut orcpt) = (None, None);
    for parameter in Parameters::read(rest, &["NOTIFY", "ORCPT"])?.list {
        match (parameter.key, parameter.value) {
            ("NOTIFY", Some(value)) => {
                notify = Some(read_notify(value).ok_or(CommandError::Parameter("NOTIFY"))?);
            }
            ("ORCPT", Some(value)) => {
                orcpt = Some(read_orcpt(value, spelling).ok_or(CommandError::Parameter("ORCPT"))?);
            }
            (key, _) => return Err(CommandError::Parameter(key)),
        }
    }
    Ok(Recipient { address: address(path, spelling, CommandError::Recipient)?, notify, orcpt })
}

fn address(
    path: &str,
    spelling: Spelling,
    whose: fn(AddressFault) -> CommandError,
) -> Result<Address, CommandError> {
    if spelling == Spelling::Ascii && !path.is_ascii() {
        return Err(CommandError::NeedsSmtputf8);
    }
    // In DNS a final dot is a spelling; in a path it is an error (RFC 5321 section 4.1.2).
    if path.ends_with('.') {
        return Err(whose(AddressFault::Path));
    }
    path.parse().map_err(|error: AddressError| whose(error.into()))
}

fn after_keyword<'a>(arguments: &'a str, keyword: &str) -> Result<&'a str, CommandError> {
    let head = arguments.get(..keyword.len()).ok_or(CommandError::Arguments)?;
    if head.eq_ignore_ascii_case(keyword) {
        Ok(&arguments[keyword.len()..])
    } else {
        Err(CommandError::Arguments)
    }
}

/// Splits `<path>` from the parameters: the closing bracket is the first outside a quoted string, and a space or nothing
/// follows it.
fn split_path(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    for (at, octet) in inner.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => {
                let rest = &inner[at + 1..];
                return (rest.is_empty() || rest.starts_with(' ')).then_some((&inner[..at], rest));
            }
            _ => {}
        }
    }
    None
}

struct Parameter<'a> {
    key: &'static str,
    value: Option<&'a str>,
}

struct Parameters<'a> {
    list: Vec<Parameter<'a>>,
}

impl<'a> Parameters<'a> {
    /// Reads ` KEY[=value]…`; every key must be one of `known`, and come once.
    fn read(rest: &'a str, known: &[&'static str]) -> Result<Self, CommandError> {
        let mut list: Vec<Parameter<'a>> = Vec::new();
        for word in rest.split(' ').filter(|word| !word.is_empty()) {
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let key = known.iter().copied().find(|key| key.eq_ignore_ascii_case(name));
            let key = key.ok_or(CommandError::UnknownParameter)?;
            if list.iter().any(|earlier| earlier.key == key) {
                return Err(CommandError::Parameter(key));
            }
            list.push(Parameter { key, value });
        }
        Ok(Self { list })
    }
}

/// `NEVER`, or some of `SUCCESS`, `FAILURE`, `DELAY`, each once (RFC 3461 section 4.1).
fn read_notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::NEVER);
    }
    let mut notify = Notify::NEVER;
    for word in value.split(',') {
        let event = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut notify.success,
            "FAILURE" => &mut notify.failure,
            "DELAY" => &mut notify.delay,
            _ => return None,
        };
        if std::mem::replace(event, true) {
            return None;
        }
    }
    Some(notify)
}

/// `type;address` (RFC 3461 section 4.2). Type `utf-8` may hold UTF-8 as it is where the transaction does (RFC 6533 section 3).
fn read_orcpt(value: &str, spelling: Spelling) -> Option<String> {
    let (kind, original) = value.split_once(';')?;
    if kind.is_empty() || !kind.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-') {
        return None;
    }
    let unicode = kind.eq_ignore_ascii_case("utf-8") && spelling == Spelling::Utf8 && !original.is_ascii();
    let original = if unicode {
        original.chars().all(|c| !c.is_control() && !"+= ".contains(c)).then(|| original.to_owned())
    } else {
        decode_xtext(original, ORCPT_OCTETS_MAX)
    };
    let decoded = format!("{kind};{}", original.filter(|original| !original.is_empty())?);
    (decoded.len() <= ORCPT_OCTETS_MAX).then_some(decoded)
}

/// Decodes xtext (RFC 3461 section 4). What it hides must be printable ASCII: `+0D+0A` is no way in.
#[must_use]
pub fn decode_xtext(text: &str, octets_max: usize) -> Option<String> {
    let mut decoded = String::new();
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let octet = match octet {
            b'+' => hex(octets.next()?)? << 4 | hex(octets.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => octet,
            _ => return None,
        };
        if !matches!(octet, b' '..=b'~') {
            return None;
        }
        decoded.push(char::from(octet));
    }
    (1..=octets_max).contains(&decoded.len()).then_some(decoded)
}

/// The standard writes upper-case digits only.
const fn hex(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        _ => None,
    }
}

/// The inverse of [`decode_xtext`], for printable ASCII.
#[must_use]
pub fn encode_xtext(text: &str) -> String {
    let mut encoded = String::new();
    for octet in text.bytes() {
        match octet {
            b'+' | b'=' => encoded.push_str(&format!("+{octet:02X}")),
            b'!'..=b'~' => encoded.push(char::from(octet)),
            _ => encoded.push_str(&format!("+{octet:02X}")),
        }
    }
    encoded
}

/// For fuzzing: whatever is taken for a command holds no control character.
///
/// # Panics
/// When it does.
pub fn fuzz(input: &[u8]) {
    for spelling in [Spelling::Ascii, Spelling::Utf8] {
        match parse(input, spelling) {
            Ok(command) => {
                let mut texts = Vec::new();
                match command {
                    Command::Ehlo(name) | Command::Helo(name) => texts.push(name.0),
                    Command::Mail(mail) => {
                        assert!(mail.smtputf8 || mail.sender.to_string().is_ascii());
                        texts.extend([Some(mail.sender.to_string()), mail.envid].into_iter().flatten());
                    }
                    Command::Rcpt(rcpt) => {
                        assert!(spelling == Spelling::Utf8 || rcpt.address.to_string().is_ascii());
                        texts.extend([Some(rcpt.address.to_string()), rcpt.orcpt].into_iter().flatten());
                    }
                    _ => {}
                }
                assert!(!texts.iter().flat_map(|text| text.chars()).any(char::is_control));
            }
            Err(error) => assert!(!error.reply().is_positive()),
        }
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
