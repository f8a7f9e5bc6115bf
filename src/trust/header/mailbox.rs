//! Addresses in `From:` and `Sender:`, read so that nobody can read them differently.
//!
//! The grammar is that of RFC 5322 section 3.4 with RFC 6532, less what readers disagree on: groups, routes, empty list
//! members, domain literals, blanks and comments inside an address, encoded words where the address stands. Who sends
//! legitimate mail has no use for these; who wants a recipient to see another sender than the node has judged, has.

use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;

use crate::model::Address;

use super::section::Field;
use super::{HeaderFault, from_fault};

/// Comments may nest; deeper than this they serve nobody.
const COMMENT_DEPTH_MAX: usize = 8;

/// The addresses of a `From:` field.
pub(super) fn from(field: &Field<'_>) -> Result<Vec<Address>, HeaderFault> {
    read(field).map_err(|why| from_fault(format!("From: {why}")))
}

/// The address of a `Sender:` field (RFC 5322 section 3.6.2: exactly one).
pub(super) fn sender(field: &Field<'_>) -> Result<Address, HeaderFault> {
    let mut all = read(field).map_err(|why| from_fault(format!("Sender: {why}")))?;
    match (all.pop(), all.is_empty()) {
        (Some(address), true) => Ok(address),
        _ => Err(from_fault("Sender: holds more than one address")),
    }
}

fn read(field: &Field<'_>) -> Result<Vec<Address>, &'static str> {
    let value = field.unfolded();
    let text = std::str::from_utf8(&value).map_err(|_| "is neither ASCII nor UTF-8")?;
    let tokens = tokens(text)?;
    let ours = tokens
        .split(|token| *token == Token::Special(','))
        .map(|entry| mailbox(entry, address))
        .collect::<Result<Vec<Address>, &'static str>>()?;
    compare(&ours, &field.line_for_parser())?;
    Ok(ours)
}

/// The entries of a field with a list of addresses, such as `Cc:` (RFC 5322 section 3.4), each read by itself.
///
/// Wider than what a sender may be written in: groups and empty members mean nothing here, and a quoted local part may hold
/// what it likes. Nothing is decided by it but what a person is told.
pub(super) fn list(field: &Field<'_>) -> Result<Vec<Result<Address, &'static str>>, &'static str> {
    let value = field.unfolded();
    let text = std::str::from_utf8(&value).map_err(|_| "is neither ASCII nor UTF-8")?;
    let tokens = tokens(text)?;
    let (mut entries, mut start, mut in_group) = (Vec::new(), 0, false);
    let mut add = |entry: &[Token<'_>]| {
        if !trim(entry).is_empty() {
            entries.push(mailbox(entry, plain_address));
        }
    };
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Special(':') if !in_group && is_phrase(&tokens[start..at]) => in_group = true,
            Token::Special(';') if in_group => {
                add(&tokens[start..at]);
                in_group = false;
            }
            Token::Special(',') => add(&tokens[start..at]),
            _ => continue,
        }
        start = at + 1;
    }
    add(&tokens[start..]);
    if in_group {
        entries.push(Err("has a group that does not end"));
    }
    Ok(entries)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    /// Blanks or a comment: they separate and mean nothing.
    Space,
    /// A run of `atext`.
    Atom(&'t str),
    /// A quoted-string, quotes included.
    Quoted(&'t str),
    /// Any other character.
    Special(char),
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, &'static str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, octets) = match first {
            ' ' | '\t' => (Token::Space, 1),
            '(' => (Token::Space, comment(rest)?),
            '"' => {
                let octets = quoted(rest)?;
                (Token::Quoted(&rest[..octets]), octets)
            }
            _ if first.is_control() => return Err("holds a control character"),
            _ if is_atext(first) => {
                let octets = rest.find(|c| !is_atext(c)).unwrap_or(rest.len());
                (Token::Atom(&rest[..octets]), octets)
            }
            _ => (Token::Special(first), first.len_utf8()),
        };
        tokens.push(token);
        rest = &rest[octets..];
    }
    Ok(tokens)
}

/// `atext` of RFC 5322 section 3.2.3 with RFC 6532 section 3.2. The model's addresses are judged by themselves.
fn is_atext(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c)
    } else {
        !c.is_control()
    }
}

/// The length of the comment at the start of `text`.
fn comment(text: &str) -> Result<usize, &'static str> {
    let (mut depth, mut escaped) = (0_usize, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if c.is_control() && c != '\t' => return Err("holds a control character"),
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' if depth == COMMENT_DEPTH_MAX => return Err("has comments nested too deep"),
            '(' => depth += 1,
            ')' if depth == 1 => return Ok(at + 1),
            ')' => depth -= 1,
            _ => {}
        }
    }
    Err("has a comment that does not end")
}

/// The length of the quoted-string at the start of `text`.
fn quoted(text: &str) -> Result<usize, &'static str> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if c.is_control() && c != '\t' => return Err("holds a control character"),
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok(at + 1),
            _ => {}
        }
    }
    Err("has a quoted string that does not end")
}

/// One member of the list: an address, or a display name with an address in angle brackets.
fn mailbox(
    tokens: &[Token<'_>],
    address: impl Fn(&[Token<'_>]) -> Result<Address, &'static str>,
) -> Result<Address, &'static str> {
    let tokens = trim(tokens);
    let Some(open) = tokens.iter().position(|token| *token == Token::Special('<')) else {
        return address(tokens);
    };
    let (phrase, rest) = tokens.split_at(open);
    let Some((Token::Special('>'), inner)) = rest.split_last() else {
        return Err("has an address in angle brackets that does not end its entry");
    };
    if !is_phrase(phrase) {
        return Err("has a display name with characters that must be quoted");
    }
    address(&inner[1..])
}

/// Whether this can be a display name, or none.
fn is_phrase(tokens: &[Token<'_>]) -> bool {
    tokens.iter().all(|token| match token {
        Token::Space | Token::Atom(_) | Token::Quoted(_) | Token::Special('.') => true,
        Token::Special(_) => false,
    })
}

fn trim<'a, 't>(mut tokens: &'a [Token<'t>]) -> &'a [Token<'t>] {
    while let [Token::Space, rest @ ..] | [rest @ .., Token::Space] = tokens {
        tokens = rest;
    }
    tokens
}

/// An address that everybody reads alike.
fn address(tokens: &[Token<'_>]) -> Result<Address, &'static str> {
    let address = plain_address(tokens)?;
    let local = address.local();
    if local.contains("=?") {
        return Err("has an encoded word inside an address");
    }
    let quoted_specials = local.starts_with('"')
        && !local.trim_matches('"').chars().all(|c| c == ' ' || c == '.' || is_atext(c));
    if quoted_specials {
        return Err("has an address with quoted special characters");
    }
    Ok(address)
}

fn plain_address(tokens: &[Token<'_>]) -> Result<Address, &'static str> {
    if tokens.is_empty() {
        return Err("has an empty entry");
    }
    let mut text = String::new();
    for token in tokens {
        match token {
            Token::Atom(part) | Token::Quoted(part) => text.push_str(part),
            Token::Special(c @ ('.' | '@')) => text.push(*c),
            Token::Special(':' | ';') => return Err("holds a group"),
            Token::Special('[' | ']') => return Err("holds an address literal"),
            Token::Space => return Err("has blanks or comments inside an address"),
            Token::Special(_) => return Err("has characters that no address can have"),
        }
    }
    if tokens.iter().filter(|token| **token == Token::Special('@')).count() != 1 {
        return Err("has an entry that is no address");
    }
    text.parse().map_err(|_| "holds an address that is malformed")
}

/// Whether another reader, one that repairs what it can, sees the same addresses.
fn compare(ours: &[Address], value: &[u8]) -> Result<(), &'static str> {
    const DIFFERENT: &str = "can be read in more than one way";
    let HeaderValue::Address(mail_parser::Address::List(theirs)) = MessageStream::new(value).parse_address()
    else {
        return Err(DIFFERENT);
    };
    let same = |(ours, theirs): (&Address, &mail_parser::Addr<'_>)| {
        let Some((local, domain)) = theirs.address().and_then(|address| address.rsplit_once('@')) else {
            return false;
        };
        // Quotes are part of the local part for us and decoration for others; what is between them is harmless here.
        let same_local = ours.local() == local || ours.local().starts_with('"');
        same_local && domain.parse().is_ok_and(|domain: crate::model::DomainName| domain == *ours.domain())
    };
    if ours.len() == theirs.len() && ours.iter().zip(&theirs).all(same) { Ok(()) } else { Err(DIFFERENT) }
}
