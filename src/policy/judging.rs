//! What becomes of a message: one table over everything that was found out about it (JUDGE-001).
//!
//! The rows are data. The node looks a message up in them, and `spec/11-judging.md` shows the same rows.

use super::{Client, ClientKeys, SenderVerdict, Standing, consequence};
use crate::model::{Level, Reason};

/// Who the client proved to be, with regard to the sender's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A proven name is a host of the domain.
    OfSender,
    /// Names are proven, and none is a host of the domain.
    OfAnother,
    /// The certificate proves nothing under any rule.
    Invalid,
    /// It has none of the keys configured for the peer.
    PinMismatch,
    /// A secure TLSA record stands at its name and does not match.
    KeyMismatch,
    /// It could not be checked.
    Temporary,
    /// No certificate was shown.
    NoCertificate,
    /// One was, whose names provably take no part.
    Unclaimed,
}

/// The NTA record of the sender's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Valid, and no host of it publishes keys for clients.
    Valid,
    /// Valid, and a host publishes such keys (IDEN-011).
    Keyed,
    /// Valid, and nobody can tell now whether a host does.
    KeysUnknown,
    /// Provably not there.
    Absent,
    /// Insecure, legacy, malformed or outside its months.
    Invalid,
    /// Nobody can tell now.
    Temporary,
}

/// How DKIM, DMARC or SPF came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Pass; of DKIM: of a signature aligned with `From:`.
    Pass,
    /// No signature, or no record.
    None,
    /// Anything else that is final.
    Fail,
    /// Nobody can tell now.
    Temporary,
}

/// How all three came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proofs {
    /// DKIM (RFC 6376).
    pub dkim: Proof,
    /// DMARC (RFC 9989).
    pub dmarc: Proof,
    /// SPF (RFC 7208).
    pub spf: Proof,
}

impl Proofs {
    /// All pass.
    pub const PASS: Self = Self { dkim: Proof::Pass, dmarc: Proof::Pass, spf: Proof::Pass };
}

/// Everything the outcome depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The client.
    pub identity: Identity,
    /// The sender's domain.
    pub record: Record,
    /// The lowest level admitted for that domain.
    pub floor: Level,
    /// The message.
    pub proofs: Proofs,
}

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Taken, at this level.
    Accept(Level),
    /// Refused by this check; [`consequence`] has code and requirement.
    Refuse(Reason),
}

/// A row: the values of each column for which it is meant, none for any, and what follows.
struct Row {
    identity: &'static [Identity],
    record: &'static [Record],
    floor: &'static [Level],
    dkim: &'static [Proof],
    dmarc: &'static [Proof],
    spf: &'static [Proof],
    ruling: Ruling,
}

const ANY: Row = Row {
    identity: &[],
    record: &[],
    floor: &[],
    dkim: &[],
    dmarc: &[],
    spf: &[],
    ruling: Ruling::Refuse(Reason::LocalFault),
};

const fn refuse(row: Row, reason: Reason) -> Row {
    Row { ruling: Ruling::Refuse(reason), ..row }
}

const fn of(identity: &'static [Identity]) -> Row {
    Row { identity, ..ANY }
}

const fn with(record: &'static [Record]) -> Row {
    Row { record, ..ANY }
}

const MUTUAL: &[Level] = &[Level::Mutual];
const TEMPORARY: &[Proof] = &[Proof::Temporary];
const NOT_THERE: &[Proof] = &[Proof::None, Proof::Fail];

/// The first row that fits decides. A client that failed comes first, because nothing else may excuse it (IDEN-008).
const TABLE: [Row; 22] = [
    refuse(of(&[Identity::Invalid]), Reason::ClientCertificateInvalid),
    refuse(of(&[Identity::PinMismatch]), Reason::ClientPinMismatch),
    refuse(of(&[Identity::KeyMismatch]), Reason::ClientTlsaMismatch),
    refuse(of(&[Identity::Temporary]), Reason::ClientIdentityTemporary),
    refuse(Row { floor: MUTUAL, ..of(&[Identity::NoCertificate]) }, Reason::ClientIdentityAbsent),
    refuse(Row { floor: MUTUAL, ..of(&[Identity::Unclaimed]) }, Reason::ClientTlsaAbsent),
    refuse(with(&[Record::Temporary]), Reason::SenderDnsTemporary),
    refuse(with(&[Record::Invalid]), Reason::SenderNotFederated),
    refuse(with(&[Record::Absent]), Reason::SenderNotFederated),
    refuse(of(&[Identity::OfAnother]), Reason::ClientNotOfSender),
    refuse(Row { dkim: TEMPORARY, ..of(&[Identity::OfSender]) }, Reason::TrustDnsTemporary),
    refuse(Row { dkim: NOT_THERE, ..of(&[Identity::OfSender]) }, Reason::DkimFailed),
    Row { ruling: Ruling::Accept(Level::Mutual), ..of(&[Identity::OfSender]) },
    refuse(with(&[Record::Keyed]), Reason::HeldToMutual),
    refuse(with(&[Record::KeysUnknown]), Reason::ClientIdentityTemporary),
    refuse(Row { dkim: TEMPORARY, ..ANY }, Reason::TrustDnsTemporary),
    refuse(Row { dmarc: TEMPORARY, ..ANY }, Reason::TrustDnsTemporary),
    refuse(Row { spf: TEMPORARY, ..ANY }, Reason::TrustDnsTemporary),
    refuse(Row { dkim: NOT_THERE, ..ANY }, Reason::DkimFailed),
    refuse(Row { dmarc: NOT_THERE, ..ANY }, Reason::DmarcFailed),
    refuse(Row { spf: NOT_THERE, ..ANY }, Reason::SpfFailed),
    Row {
        identity: &[Identity::NoCertificate, Identity::Unclaimed],
        record: &[Record::Valid],
        floor: &[Level::Nta7516],
        dkim: &[Proof::Pass],
        dmarc: &[Proof::Pass],
        spf: &[Proof::Pass],
        ruling: Ruling::Accept(Level::Nta7516),
    },
];

fn fits<T: PartialEq>(pattern: &[T], value: &T) -> bool {
    pattern.is_empty() || pattern.contains(value)
}

impl Row {
    fn fits(&self, case: &Case) -> bool {
        fits(self.identity, &case.identity)
            && fits(self.record, &case.record)
            && fits(self.floor, &case.floor)
            && fits(self.dkim, &case.proofs.dkim)
            && fits(self.dmarc, &case.proofs.dmarc)
            && fits(self.spf, &case.proofs.spf)
    }
}

/// What becomes of a message.
#[must_use]
pub fn ruling(case: &Case) -> Ruling {
    // A test shows that there is always a row; if there were none, nothing would be taken.
    TABLE.iter().find(|row| row.fits(case)).map_or(ANY.ruling, |row| row.ruling)
}

/// Judges one domain for one client at the floor that applies to that domain, before there is content: whatever would be
/// refused even if the message proved all that a message can prove, is refused now.
#[must_use]
pub fn judge_sender(client: &Client, standing: &Standing, floor: Level) -> SenderVerdict {
    let case =
        Case { identity: identity(client, standing), record: record(standing), floor, proofs: Proofs::PASS };
    match ruling(&case) {
        Ruling::Accept(Level::Mutual) => SenderVerdict::Mutual,
        Ruling::Accept(Level::Nta7516) => SenderVerdict::ByMessage,
        // Perhaps a subdomain for bounces: the `From:` domain decides, after the content (IDEN-010).
        Ruling::Refuse(Reason::SenderNotFederated) if case.record == Record::Absent => SenderVerdict::ByFrom,
        Ruling::Refuse(reason) => SenderVerdict::Refused(reason),
    }
}

fn identity(client: &Client, standing: &Standing) -> Identity {
    match client {
        Client::Proven(names) => match standing {
            Standing::Federated { hosts, .. } if names.iter().any(|name| hosts.contains(name)) => {
                Identity::OfSender
            }
            _ => Identity::OfAnother,
        },
        Client::Failed(Reason::ClientTlsaMismatch) => Identity::KeyMismatch,
        Client::Failed(Reason::ClientPinMismatch) => Identity::PinMismatch,
        Client::Failed(Reason::ClientIdentityTemporary) => Identity::Temporary,
        Client::Failed(_) => Identity::Invalid,
        Client::Unidentified(Reason::ClientTlsaAbsent) => Identity::Unclaimed,
        Client::Unidentified(_) => Identity::NoCertificate,
    }
}

const fn record(standing: &Standing) -> Record {
    match standing {
        Standing::Federated { client_keys: ClientKeys::NotPublished, .. } => Record::Valid,
        Standing::Federated { client_keys: ClientKeys::Published, .. } => Record::Keyed,
        Standing::Federated { client_keys: ClientKeys::Unknown, .. } => Record::KeysUnknown,
        Standing::NoRecord(_) => Record::Absent,
        Standing::Excluded(_) => Record::Invalid,
        Standing::Temporary(_) => Record::Temporary,
    }
}

impl Identity {
    const ALL: [Self; 8] = [
        Self::OfSender,
        Self::OfAnother,
        Self::Invalid,
        Self::PinMismatch,
        Self::KeyMismatch,
        Self::Temporary,
        Self::NoCertificate,
        Self::Unclaimed,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::OfSender => "proven, host of the sender",
            Self::OfAnother => "proven, host of another",
            Self::Invalid => "certificate invalid",
            Self::PinMismatch => "not the pinned key",
            Self::KeyMismatch => "not the key in TLSA",
            Self::Temporary => "could not be checked",
            Self::NoCertificate => "no certificate",
            Self::Unclaimed => "claims nothing",
        }
    }
}

impl Record {
    const ALL: [Self; 6] =
        [Self::Valid, Self::Keyed, Self::KeysUnknown, Self::Absent, Self::Invalid, Self::Temporary];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Keyed => "valid, client keys",
            Self::KeysUnknown => "valid, client keys temporary",
            Self::Absent => "absent",
            Self::Invalid => "invalid",
            Self::Temporary => "temporary",
        }
    }
}

impl Proof {
    const ALL: [Self; 4] = [Self::Pass, Self::None, Self::Fail, Self::Temporary];

    /// The word in the table and in `Federation-Assurance:`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::None => "none",
            Self::Fail => "fail",
            Self::Temporary => "temporary",
        }
    }
}

/// The table in Markdown, as it is in force.
#[must_use]
pub fn judging_markdown() -> String {
    use std::fmt::Write as _;
    let mut table = String::from(
        "| row | client | NTA record | floor | DKIM | DMARC | SPF | outcome | reason | requirement |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (at, row) in TABLE.iter().enumerate() {
        let (outcome, reason, requirement) = match row.ruling {
            Ruling::Accept(level) => (format!("accept at `{level}`"), String::new(), ""),
            Ruling::Refuse(reason) => {
                let follows = consequence(reason);
                let (code, status) = follows.reply.unwrap_or((451, "4.3.0"));
                (format!("`{code} {status}`"), format!("`{reason}`"), follows.requirement)
            }
        };
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} | {outcome} | {reason} | {requirement} |",
            at + 1,
            cell(row.identity, Identity::as_str, Identity::ALL.len()),
            cell(row.record, Record::as_str, Record::ALL.len()),
            cell(row.floor, |level| level.as_str(), 2),
            cell(row.dkim, Proof::as_str, Proof::ALL.len()),
            cell(row.dmarc, Proof::as_str, Proof::ALL.len()),
            cell(row.spf, Proof::as_str, Proof::ALL.len()),
        );
    }
    table
}

fn cell<T: Copy>(pattern: &[T], word: impl Fn(T) -> &'static str, all: usize) -> String {
    if pattern.is_empty() || pattern.len() == all {
        return "·".to_owned();
    }
    pattern.iter().map(|value| word(*value)).collect::<Vec<_>>().join(" / ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/11-judging.md");
    const BEGIN: &str = "<!-- table:judging begin -->\n";
    const END: &str = "<!-- table:judging end -->";

    fn every_case() -> Vec<Case> {
        let mut cases = Vec::new();
        for identity in Identity::ALL {
            for record in Record::ALL {
                for floor in [Level::Nta7516, Level::Mutual] {
                    for dkim in Proof::ALL {
                        for dmarc in Proof::ALL {
                            for spf in Proof::ALL {
                                let proofs = Proofs { dkim, dmarc, spf };
                                cases.push(Case { identity, record, floor, proofs });
                            }
                        }
                    }
                }
            }
        }
        cases
    }

    /// The same decision in other words: the levels of `spec/04-identity.md` as nested questions.
    fn expected(case: &Case) -> Ruling {
        use Ruling::{Accept, Refuse};
        let Proofs { dkim, dmarc, spf } = case.proofs;
        let failed = match case.identity {
            Identity::Invalid => Some(Reason::ClientCertificateInvalid),
            Identity::PinMismatch => Some(Reason::ClientPinMismatch),
            Identity::KeyMismatch => Some(Reason::ClientTlsaMismatch),
            Identity::Temporary => Some(Reason::ClientIdentityTemporary),
            Identity::NoCertificate if case.floor == Level::Mutual => Some(Reason::ClientIdentityAbsent),
            Identity::Unclaimed if case.floor == Level::Mutual => Some(Reason::ClientTlsaAbsent),
            _ => None,
        };
        if let Some(reason) = failed {
            return Refuse(reason);
        }
        match case.record {
            Record::Temporary => return Refuse(Reason::SenderDnsTemporary),
            Record::Invalid | Record::Absent => return Refuse(Reason::SenderNotFederated),
            Record::Valid | Record::Keyed | Record::KeysUnknown => {}
        }
        match (case.identity, case.record) {
            (Identity::OfAnother, _) => return Refuse(Reason::ClientNotOfSender),
            (Identity::OfSender, _) if dkim == Proof::Temporary => return Refuse(Reason::TrustDnsTemporary),
            (Identity::OfSender, _) if dkim != Proof::Pass => return Refuse(Reason::DkimFailed),
            (Identity::OfSender, _) => return Accept(Level::Mutual),
            (_, Record::Keyed) => return Refuse(Reason::HeldToMutual),
            (_, Record::KeysUnknown) => return Refuse(Reason::ClientIdentityTemporary),
            _ => {}
        }
        if [dkim, dmarc, spf].contains(&Proof::Temporary) {
            return Refuse(Reason::TrustDnsTemporary);
        }
        match (dkim, dmarc, spf) {
            (Proof::Pass, Proof::Pass, Proof::Pass) => Accept(Level::Nta7516),
            (Proof::Pass, Proof::Pass, _) => Refuse(Reason::SpfFailed),
            (Proof::Pass, ..) => Refuse(Reason::DmarcFailed),
            _ => Refuse(Reason::DkimFailed),
        }
    }

    /// Proves: +JUDGE-001 -JUDGE-001 -IDEN-016 -IDEN-008
    #[test]
    fn every_combination_has_the_outcome_of_its_row() {
        let cases = every_case();
        assert_eq!(cases.len(), 8 * 6 * 2 * 4 * 4 * 4);
        let mut accepted = [0, 0];
        for case in &cases {
            let ruling = ruling(case);
            assert_eq!(ruling, expected(case), "{case:?}");
            assert_ne!(ruling, ANY.ruling, "no row fits {case:?}");
            if let Ruling::Accept(level) = ruling {
                accepted[usize::from(level == Level::Mutual)] += 1;
            }
        }
        // At `nta7516`: two clients, one record, one floor, three passes. At `mutual`: three records, both floors, DKIM.
        assert_eq!(accepted, [2, 3 * 2 * 16]);
    }

    /// Proves: +JUDGE-005 -JUDGE-005
    #[test]
    fn at_mutual_only_dkim_decides() {
        for case in every_case().iter().filter(|case| case.identity == Identity::OfSender) {
            let dkim = case.proofs.dkim;
            let alone = Case { proofs: Proofs { dkim, ..Proofs::PASS }, ..*case };
            assert_eq!(ruling(case), ruling(&alone), "{case:?}");
            let taken = ruling(case) == Ruling::Accept(Level::Mutual);
            assert!(!taken || dkim == Proof::Pass, "{case:?}");
        }
    }

    /// Each row decides at least one case.
    #[test]
    fn no_row_stands_in_the_shadow_of_others() {
        let cases = every_case();
        for at in 0..TABLE.len() {
            let decides = cases.iter().any(|case| TABLE.iter().position(|row| row.fits(case)) == Some(at));
            assert!(decides, "row {at}");
        }
    }

    /// The page carries these rows; `SLUIS_BLESS=1` writes them.
    #[test]
    fn the_page_carries_this_table() {
        let page = std::fs::read_to_string(PAGE).unwrap();
        let (head, rest) = page.split_once(BEGIN).expect("the begin marker stands in the page");
        let (shown, tail) = rest.split_once(END).expect("the end marker stands in the page");
        if std::env::var_os("SLUIS_BLESS").is_some() {
            std::fs::write(PAGE, format!("{head}{BEGIN}{}{END}{tail}", judging_markdown())).unwrap();
        } else {
            assert_eq!(
                shown,
                judging_markdown(),
                "run again with SLUIS_BLESS=1 to write the table into {PAGE}"
            );
        }
    }
}
