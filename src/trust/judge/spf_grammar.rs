//! The grammar of an SPF record (RFC 7208 section 12), read whole before anything is evaluated.
//!
//! The parser of `mail-auth` is lenient: it takes `ip4:192.0.2.5/33`, octets that no record can hold and names that are none,
//! and evaluates what is left. Section 4.6 wants a record with any such term to be no record at all, so that a slip of the
//! pen can't become a `pass`.

/// Letters of macros that a term may use; `c`, `r` and `t` are for explanations alone (section 7.2).
const MACRO_LETTERS: &[u8] = b"slodiphv";
/// Those of an explanation's own name are the same; of other modifiers any letter is taken.
const ALL_MACRO_LETTERS: &[u8] = b"slodiphcrtv";
/// Section 5.
const MECHANISMS: [&[u8]; 8] = [b"all", b"include", b"a", b"mx", b"ptr", b"ip4", b"ip6", b"exists"];
const DELIMITERS: &[u8] = b".-+,/_=";

/// The record with nothing in it but what is evaluated: mechanisms and `redirect`. `None`: it is malformed.
pub(super) fn evaluated(record: &[u8]) -> Option<Vec<u8>> {
    if !record.iter().all(|octet| (b' '..=b'~').contains(octet)) {
        return None;
    }
    let mut kept = b"v=spf1".to_vec();
    let (mut redirects, mut explanations) = (0, 0);
    for term in record.get(6..)?.split(|octet| *octet == b' ').filter(|term| !term.is_empty()) {
        let keep = match modifier(term) {
            Some((name, value)) if name.eq_ignore_ascii_case(b"redirect") => {
                redirects += 1;
                domain_spec(value)?;
                true
            }
            Some((name, value)) if name.eq_ignore_ascii_case(b"exp") => {
                explanations += 1;
                domain_spec(value)?;
                false
            }
            // Almost a mechanism: a slip that must not make the rest of the record count.
            Some((name, _)) if MECHANISMS.iter().any(|known| name.eq_ignore_ascii_case(known)) => {
                return None;
            }
            Some((_, value)) => {
                macro_string(value, ALL_MACRO_LETTERS)?;
                false
            }
            None => {
                mechanism(term)?;
                true
            }
        };
        if keep {
            kept.push(b' ');
            kept.extend_from_slice(term);
        }
    }
    (redirects <= 1 && explanations <= 1).then_some(kept)
}

/// Name and value, if an equals sign stands behind something that can be a name.
fn modifier(term: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = term.iter().position(|octet| *octet == b'=')?;
    let (name, value) = (&term[..at], &term[at + 1..]);
    let fits = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.".contains(octet);
    (name.first()?.is_ascii_alphabetic() && name.iter().all(fits)).then_some((name, value))
}

/// A directive (section 4.6.1): a qualifier, if any, and one of the mechanisms with what may stand behind it.
fn mechanism(term: &[u8]) -> Option<()> {
    let text = match term.split_first() {
        Some((b'+' | b'-' | b'~' | b'?', rest)) => rest,
        _ => term,
    };
    let end = text.iter().position(|octet| !octet.is_ascii_alphanumeric()).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let argument = rest.strip_prefix(b":");
    match name.to_ascii_lowercase().as_slice() {
        b"all" => rest.is_empty().then_some(()),
        b"include" | b"exists" => domain_spec(argument?),
        b"a" | b"mx" => match argument {
            Some(argument) => domain_spec(without_lengths(argument)?),
            None => without_lengths(rest)?.is_empty().then_some(()),
        },
        b"ptr" => argument.map_or(rest.is_empty().then_some(()), domain_spec),
        b"ip4" => {
            let (network, length) = at_slash(argument?);
            text_of::<std::net::Ipv4Addr>(network)?;
            length.map_or(Some(()), |length| prefix_length(length, 32))
        }
        b"ip6" => {
            let (network, length) = at_slash(argument?);
            text_of::<std::net::Ipv6Addr>(network)?;
            length.map_or(Some(()), |length| prefix_length(length, 128))
        }
        _ => None,
    }
}

fn text_of<T: std::str::FromStr>(octets: &[u8]) -> Option<T> {
    std::str::from_utf8(octets).ok()?.parse().ok()
}

fn at_slash(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let at = text.iter().position(|octet| *octet == b'/');
    at.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])))
}

/// `0` to `most`, without leading zeros.
fn prefix_length(text: &[u8], most: u8) -> Option<()> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let leading = text.len() > 1 && text[0] == b'0';
    (digits && !leading && text_of::<u8>(text)? <= most).then_some(())
}

/// What stands before `[/n][//n]` (`dual-cidr-length`), which is checked. A slash inside a macro is none of them.
fn without_lengths(text: &[u8]) -> Option<&[u8]> {
    let open = text.iter().rposition(|octet| *octet == b'}').map_or(0, |at| at + 1);
    let mut rest = text;
    if let Some(at) = memchr::memmem::rfind(&rest[open..], b"//") {
        prefix_length(&rest[open + at + 2..], 128)?;
        rest = &rest[..open + at];
    }
    if let Some(at) = memchr::memrchr(b'/', &rest[open..]) {
        let length = &rest[open + at + 1..];
        // Behind a name that holds a slash there may be none.
        if length.is_empty() || length.iter().all(u8::is_ascii_digit) {
            prefix_length(length, 32)?;
            rest = &rest[..open + at];
        }
    }
    Some(rest)
}

/// A name with macros: at its end a macro, or a dot and a label that can be that of a top-level domain.
fn domain_spec(text: &[u8]) -> Option<()> {
    macro_string(text, MACRO_LETTERS)?;
    if text.ends_with(b"}") {
        return Some(());
    }
    let text = text.strip_suffix(b".").unwrap_or(text);
    let dot = memchr::memrchr(b'.', text)?;
    let label = &text[dot + 1..];
    let inner = label.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
    let ends = label.first()?.is_ascii_alphanumeric() && label.last()?.is_ascii_alphanumeric();
    (inner && ends && !label.iter().all(u8::is_ascii_digit)).then_some(())
}

/// Visible characters and macros, each of them well-formed.
fn macro_string(text: &[u8], letters: &[u8]) -> Option<()> {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'%', rest) {
        rest = &rest[at + 1..];
        match rest.first()? {
            b'%' | b'_' | b'-' => rest = &rest[1..],
            b'{' => {
                let end = memchr::memchr(b'}', rest)?;
                expansion(&rest[1..end], letters)?;
                rest = &rest[end + 1..];
            }
            _ => return None,
        }
    }
    Some(())
}

/// Inside the braces: a letter, how many labels from the right, whether reversed, and where to cut.
fn expansion(text: &[u8], letters: &[u8]) -> Option<()> {
    let (letter, rest) = text.split_first()?;
    let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let (number, rest) = rest.split_at(digits);
    let none = !number.is_empty() && number.iter().all(|digit| *digit == b'0');
    let rest = rest.strip_prefix(b"r").or(rest.strip_prefix(b"R")).unwrap_or(rest);
    let known = letters.contains(&letter.to_ascii_lowercase());
    (known && !none && rest.iter().all(|octet| DELIMITERS.contains(octet))).then_some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(terms: &str) -> Option<String> {
        evaluated(format!("v=spf1 {terms}").as_bytes()).map(|kept| String::from_utf8(kept).unwrap())
    }

    /// Proves: +IDEN-016 -IDEN-016
    #[test]
    fn what_is_evaluated_is_kept_and_what_is_malformed_spoils_the_record() {
        for terms in [
            "-all",
            "a mx/24 a//64 mx:x.nl/24//64 a:%{d}/24",
            "ip4:192.0.2.0/24 ip4:192.0.2.1 ip6:2001:db8::/32 ip6:::1/0",
            "include:x.nl exists:%{ir}.%{v}._spf.%{d2} ?ptr ~ptr:x.nl",
            "exists:%{l1r-}.x.nl a:%%%_%-.nl",
            "redirect=x.nl",
        ] {
            assert_eq!(read(terms), Some(format!("v=spf1 {terms}")), "{terms}");
        }
        assert_eq!(read("exp=x.nl a moo.cow-far_out=man:dog/cat  -all"), Some("v=spf1 a -all".into()));
        assert_eq!(evaluated(b"v=spf1"), Some(b"v=spf1".to_vec()));
        for terms in [
            "ip4:192.0.2.5/33 -all",
            "ip4:192.0.2.5/032",
            "ip4:192.0.2.5/",
            "ip4:192.0.2",
            "ip4:192.0.2.5\n",
            "ip4:192.0.2.5\r\n+all",
            "ip6:::1/129",
            "ip6:192.0.2.5",
            "a/33 +all",
            "a//129",
            "a:x.nl/24/24",
            "a:x.nl:25",
            "a:foo",
            "a:1.2.3.4",
            "a:x.-nl",
            "a:",
            "include:",
            "include",
            "all:x.nl",
            "all/8",
            "exists:%{z}.nl",
            "exists:%{c}.nl",
            "exists:%{d0}.nl",
            "exists:%{d.nl",
            "exists:%x.nl",
            "redirect=x.nl redirect=x.nl",
            "exp=x.nl exp=x.nl",
            "exp=",
            "-x=y",
            "ip4=192.0.2.5",
            "=y",
            "nonsense",
            "--all",
            "é",
        ] {
            assert_eq!(read(&format!("{terms} +all")), None, "{terms}");
        }
    }

    proptest::proptest! {
        /// Whatever a stranger publishes is read without a panic, and what is kept is read the same way again.
        #[test]
        fn any_octets_are_read(record in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
            let record = [b"v=spf1 ".as_slice(), &record].concat();
            if let Some(kept) = evaluated(&record) {
                proptest::prop_assert_eq!(evaluated(&kept), Some(kept.clone()));
            }
        }
    }
}
