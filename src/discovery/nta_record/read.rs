//! From a TXT set to the one record in it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::discovery::dns::Txt;
use crate::model::DomainName;

use super::{
    Dropped, DroppedBecause, InvalidRecord, NtaProblem, NtaRecord, RECORD_OCTETS_MAX, Tolerated, YearMonth,
    printable, shown,
};

/// The version this node speaks. Its case matters: the tag's value is an identifier, not a word.
const VERSION: &[u8] = b"NTA7516-1";
/// What every version of the family begins with.
const FAMILY: &[u8] = b"NTA7516-";
/// The version value of the older draft.
const DRAFT: &[u8] = b"NTA7516";

/// The record of the set, valid at whatever time it says.
pub(super) fn one_record(set: &[Txt]) -> Result<NtaRecord, NtaProblem> {
    let mut ours = Vec::new();
    let mut unsupported = None;
    let mut legacy = false;
    for txt in set {
        let joined = txt.joined();
        match version_of(&joined) {
            Some(value) if value == VERSION => ours.push((joined, txt.strings().len())),
            Some(value) if value == DRAFT => legacy = true,
            Some(value) if value.starts_with(FAMILY) => unsupported = Some(shown(value)),
            _ => {}
        }
    }
    match ours.as_slice() {
        [(record, strings)] => read(record, *strings).map_err(NtaProblem::Invalid),
        [] if legacy => Err(NtaProblem::Legacy),
        [] => Err(unsupported.map_or(NtaProblem::Absent, NtaProblem::UnsupportedVersion)),
        several => Err(NtaProblem::Several(several.len())),
    }
}

/// The value of the first tag, when that is `v`.
fn version_of(record: &[u8]) -> Option<&[u8]> {
    let first = record.split(|&octet| octet == b';').next()?;
    match Tag::split(first) {
        Tag::Pair { name, value, .. } if name.eq_ignore_ascii_case(b"v") => Some(value),
        _ => None,
    }
}

/// One piece between semicolons.
enum Tag<'a> {
    Empty,
    /// `name = value`, blanks removed.
    Pair {
        name: &'a [u8],
        value: &'a [u8],
        separator: u8,
        blanks: bool,
    },
    /// No separator that counts.
    Bare(&'a [u8]),
}

impl<'a> Tag<'a> {
    fn split(piece: &'a [u8]) -> Self {
        let text = trim(piece);
        if text.is_empty() {
            return Self::Empty;
        }
        let name_end = text.iter().position(|octet| !is_name(*octet)).unwrap_or(text.len());
        let (name, rest) = text.split_at(name_end);
        let rest_trimmed = trim(rest);
        let separator = rest_trimmed.first().copied().unwrap_or_default();
        let is_pair = separator == b'=' || (separator == b':' && name.eq_ignore_ascii_case(b"ntamx"));
        if name.is_empty() || !is_pair {
            return Self::Bare(text);
        }
        let value = trim(&rest_trimmed[1..]);
        let blanks = text.len() != piece.len() || text.len() != name.len() + 1 + value.len();
        Self::Pair { name, value, separator, blanks }
    }
}

fn is_name(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_'
}

fn is_blank(octet: u8) -> bool {
    octet == b' ' || octet == b'\t'
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|octet| !is_blank(*octet)).unwrap_or(text.len());
    let end = text.iter().rposition(|octet| !is_blank(*octet)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// What the tags of a record say, before the rules between them are applied.
#[derive(Default)]
struct Tags<'a> {
    version: Option<&'a [u8]>,
    start: Option<&'a [u8]>,
    end: Option<&'a [u8]>,
    provider: Option<&'a [u8]>,
    duplicate: Option<&'static str>,
    ntamx: Vec<Ntamx>,
    tolerated: BTreeSet<Tolerated>,
}

/// What became of one `ntamx`.
enum Ntamx {
    Host(u16, DomainName),
    Literal(String),
    Malformed(Dropped),
}

fn read(record: &[u8], strings: usize) -> Result<NtaRecord, InvalidRecord> {
    if record.len() > RECORD_OCTETS_MAX {
        return Err(InvalidRecord::TooLarge);
    }
    let mut tags = Tags::default();
    let pieces: Vec<_> = record.split(|&octet| octet == b';').collect();
    for (index, piece) in pieces.iter().enumerate() {
        match Tag::split(piece) {
            // A final semicolon is common usage and not worth a word.
            Tag::Empty if index + 1 == pieces.len() => {}
            Tag::Empty => drop(tags.tolerated.insert(Tolerated::EmptyTag)),
            Tag::Bare(text) => tags.bare(text),
            Tag::Pair { name, value, separator, blanks } => tags.pair(name, value, separator, blanks),
        }
    }
    if strings > 1 {
        tags.tolerated.insert(Tolerated::SeveralStrings);
    }
    tags.judge()
}

impl<'a> Tags<'a> {
    fn bare(&mut self, text: &[u8]) {
        let name_end = text.iter().position(|octet| !is_name(*octet)).unwrap_or(text.len());
        if text[..name_end].eq_ignore_ascii_case(b"ntamx") {
            // Ignoring it would open the way to MX, which its owner did not mean.
            self.ntamx
                .push(Ntamx::Malformed(Dropped { text: shown(text), why: DroppedBecause::NoSeparator }));
        } else {
            self.tolerated.insert(Tolerated::UnknownTag(shown(&text[..name_end])));
        }
    }

    fn pair(&mut self, name: &'a [u8], value: &'a [u8], separator: u8, blanks: bool) {
        if blanks {
            self.tolerated.insert(Tolerated::Blanks);
        }
        let lower = name.to_ascii_lowercase();
        let (slot, word) = match lower.as_slice() {
            b"v" => (&mut self.version, "v"),
            b"startdate" => (&mut self.start, "startdate"),
            b"enddate" => (&mut self.end, "enddate"),
            b"provider" => (&mut self.provider, "provider"),
            b"ntamx" => {
                if separator == b':' {
                    self.tolerated.insert(Tolerated::NtamxColon);
                }
                self.note_case(name);
                let entry = self.entry(value);
                self.ntamx.push(entry);
                return;
            }
            _ => {
                self.tolerated.insert(Tolerated::UnknownTag(shown(name)));
                return;
            }
        };
        if slot.replace(value).is_some() {
            self.duplicate.get_or_insert(word);
        }
        self.note_case(name);
    }

    fn note_case(&mut self, name: &[u8]) {
        if name.iter().any(u8::is_ascii_uppercase) {
            self.tolerated.insert(Tolerated::TagCase);
        }
    }

    fn entry(&mut self, value: &[u8]) -> Ntamx {
        let drop_it = |why| Ntamx::Malformed(Dropped { text: shown(value), why });
        let (preference, host) = match value.iter().position(|octet| is_blank(*octet)) {
            Some(end) => (Some(&value[..end]), trim(&value[end..])),
            None => (None, value),
        };
        if is_ip_literal(host) || is_ip_literal(value) {
            return Ntamx::Literal(shown(value));
        }
        let preference = match preference {
            None => {
                self.tolerated.insert(Tolerated::NoPreference);
                0
            }
            Some(digits) => match number(digits) {
                Some(number) => number,
                None => return drop_it(DroppedBecause::Preference),
            },
        };
        match host_name(host) {
            Some(host) => Ntamx::Host(preference, host),
            None => drop_it(DroppedBecause::Host),
        }
    }

    /// The rules between tags, in the order in which the specification ranks their violations.
    fn judge(self) -> Result<NtaRecord, InvalidRecord> {
        if let Some(tag) = self.duplicate {
            return Err(InvalidRecord::DuplicateTag(tag));
        }
        let start = self.start.ok_or(InvalidRecord::MissingStart)?;
        let end = self.end.ok_or(InvalidRecord::MissingEnd)?;
        let start = month(start).ok_or_else(|| InvalidRecord::MalformedStart(shown(start)))?;
        let end = month(end).ok_or_else(|| InvalidRecord::MalformedEnd(shown(end)))?;
        if start > end {
            return Err(InvalidRecord::ReversedMonths(start, end));
        }
        let (mut hosts, mut dropped, mut literal) = (Vec::new(), Vec::new(), None);
        for entry in self.ntamx {
            match entry {
                Ntamx::Host(preference, host) => hosts.push((preference, host)),
                Ntamx::Malformed(entry) => dropped.push(entry),
                Ntamx::Literal(text) => drop(literal.get_or_insert(text)),
            }
        }
        if let Some(text) = literal {
            return Err(InvalidRecord::IpLiteral(text));
        }
        if hosts.is_empty() && !dropped.is_empty() {
            return Err(InvalidRecord::NoUsableNtamx);
        }
        hosts.sort_unstable();
        let mut seen = BTreeSet::new();
        hosts.retain(|(_, host): &(u16, DomainName)| seen.insert(host.clone()));
        Ok(NtaRecord {
            start,
            end,
            provider: self.provider.map(printable).unwrap_or_default(),
            ntamx: hosts,
            dropped,
            tolerated: self.tolerated.into_iter().collect(),
        })
    }
}

fn month(value: &[u8]) -> Option<YearMonth> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn number(digits: &[u8]) -> Option<u16> {
    let well_formed = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| well_formed)?.parse().ok()
}

fn is_ip_literal(host: &[u8]) -> bool {
    let bare = host.strip_suffix(b".").unwrap_or(host);
    bare.first() == Some(&b'[') || std::str::from_utf8(bare).is_ok_and(|text| text.parse::<IpAddr>().is_ok())
}

/// A host of the grammar: at least two labels of letters, digits and inner hyphens. A-labels only: what stands in DNS
/// is not typed by a person, so there is nothing to convert.
fn host_name(text: &[u8]) -> Option<DomainName> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    text.parse().ok().filter(|name: &DomainName| name.label_count() >= 2)
}
