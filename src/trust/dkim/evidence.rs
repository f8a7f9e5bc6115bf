//! What the signatures of a message need to be verified, gathered while its content streams past.

use std::collections::HashMap;

use super::super::canonical::{BodyHasher, Form, relaxed_field};
use super::super::header::{Field, fields};
use super::super::nta::NtaNames;
use super::super::results::DkimResult;
use super::Signature;

/// Signatures that are read; each costs look-ups that a stranger chose. More than this no honest path adds.
pub(in crate::trust) const SIGNATURES_MAX: usize = 10;

/// Watches content go by and hashes its body in the forms that its signatures ask for.
///
/// It holds the header section, which is bounded by the limit given, and at most one running digest for each of the two
/// canonicalisations; nothing of the body, of whatever size (JUDGE-002). A signature with `l=` proves nothing and is given
/// no digest of its own.
pub struct EvidenceWatch {
    /// Octets of the header section that are held at most.
    limit: usize,
    state: State,
}

enum State {
    /// The empty line has not come yet.
    Header(Vec<u8>),
    /// The body is going by.
    Body(Box<Passing>),
    /// The header section is longer than the limit: whoever reads it refuses the message.
    TooLong,
}

/// A message whose header section is complete, with the digests that run.
struct Passing {
    evidence: Evidence,
    hashers: [Option<BodyHasher>; 2],
}

/// A complete message, as far as its signatures are concerned.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The header section, its last CRLF included.
    section: Vec<u8>,
    /// The first signatures, in the order of the fields.
    pub(in crate::trust) signatures: Vec<Found>,
    /// How many more there are, which are not judged.
    pub(in crate::trust) beyond: usize,
    /// The digests of the body in the simple and the relaxed form, where a signature asks for it.
    bodies: [Option<[u8; 32]>; 2],
}

/// A `DKIM-Signature:` field.
#[derive(Clone, Debug)]
pub(in crate::trust) struct Found {
    /// Which field of the section it is.
    at: usize,
    /// What it says; a result already, if it can't count.
    pub signature: Result<Signature, DkimResult>,
}

impl EvidenceWatch {
    /// Nothing seen yet; `limit` as for the [`HeaderWatch`](crate::trust::HeaderWatch) beside it.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, state: State::Header(Vec::new()) }
    }

    /// Takes the next octets of the content.
    pub fn push(&mut self, octets: &[u8]) {
        match &mut self.state {
            State::TooLong => {}
            State::Body(passing) => hash(&mut passing.hashers, octets),
            State::Header(section) => {
                let seen = section.len();
                let room = self.limit.saturating_add(4).saturating_sub(seen).min(octets.len());
                section.extend_from_slice(&octets[..room]);
                if let Some((end, body)) = end_of_section(section, seen) {
                    section.truncate(end);
                    let mut passing = begin(std::mem::take(section));
                    hash(&mut passing.hashers, &octets[body - seen..]);
                    self.state = State::Body(Box::new(passing));
                } else if room < octets.len() {
                    self.state = State::TooLong;
                }
            }
        }
    }

    /// No more octets. Content without an empty line is a header section only.
    #[must_use]
    pub fn finish(self) -> Evidence {
        let Passing { mut evidence, hashers } = match self.state {
            State::TooLong => return Evidence::default(),
            State::Body(passing) => *passing,
            State::Header(section) => begin(section),
        };
        evidence.bodies = hashers.map(|hasher| hasher.map(|hasher| hasher.finish().0));
        evidence
    }

    /// Octets of the message that are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.state {
            State::Header(section) => section.capacity(),
            State::Body(passing) => passing.evidence.section.capacity(),
            State::TooLong => 0,
        }
    }
}

/// Where the section ends, the CRLF of its last field included, and where the body begins, if the empty line has come.
/// `seen` octets were searched before.
fn end_of_section(section: &[u8], seen: usize) -> Option<(usize, usize)> {
    if section.starts_with(b"\r\n") {
        return Some((0, 2));
    }
    let from = seen.saturating_sub(3);
    memchr::memmem::find(&section[from..], b"\r\n\r\n").map(|at| (from + at + 2, from + at + 4))
}

fn place(form: Form) -> usize {
    usize::from(form == Form::Relaxed)
}

/// Reads the signatures of a complete header section, and sets up the digests they ask for.
fn begin(mut section: Vec<u8>) -> Passing {
    section.shrink_to_fit();
    let mut hashers = [None, None];
    let (mut signatures, mut beyond) = (Vec::new(), 0);
    // A section that is none is refused by whoever reads it for its senders.
    for (at, field) in fields(&section, usize::MAX).unwrap_or_default().iter().enumerate() {
        if !field.is("dkim-signature") {
            continue;
        }
        if signatures.len() == SIGNATURES_MAX {
            beyond += 1;
            continue;
        }
        let signature = Signature::read(field.value);
        if let Ok(signature) = &signature {
            let form = signature.body_form;
            hashers[place(form)].get_or_insert_with(|| BodyHasher::new(form));
        }
        signatures.push(Found { at, signature });
    }
    Passing { evidence: Evidence { section, signatures, beyond, bodies: [None, None] }, hashers }
}

fn hash(hashers: &mut [Option<BodyHasher>; 2], octets: &[u8]) {
    for hasher in hashers.iter_mut().flatten() {
        hasher.push(octets);
    }
}

impl Evidence {
    /// Of content that stands in memory already.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let mut watch = EvidenceWatch::new(content.len());
        watch.push(content);
        watch.finish()
    }

    /// What is noted of the NTA headers among its fields (JUDGE-009).
    #[must_use]
    pub fn nta_headers(&self, names: &NtaNames) -> Vec<String> {
        names.noted(&self.fields())
    }

    /// Whether the configured NTA header is there (JUDGE-011).
    #[must_use]
    pub fn has_nta_header(&self, names: &NtaNames) -> bool {
        names.holds_configured(&self.fields())
    }

    /// The fields of the header section.
    pub(in crate::trust) fn fields(&self) -> Vec<Field<'_>> {
        fields(&self.section, usize::MAX).unwrap_or_default()
    }

    /// Whether the body is the one that was signed.
    pub(in crate::trust) fn body_is_that_of(&self, signature: &Signature) -> bool {
        self.bodies[place(signature.body_form)] == Some(signature.body_hash)
    }

    /// The octets that a signature of this message is over (RFC 6376 section 3.7).
    ///
    /// Names of `h=` take the fields of that name from the bottom up, each once; what is named more often than it stands
    /// there takes nothing, which is how a signer says that no more may be added (section 5.4.2).
    pub(in crate::trust) fn signed(&self, found: &Found, signature: &Signature) -> Vec<u8> {
        let fields = self.fields();
        let mut places: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (at, field) in fields.iter().enumerate().filter(|(at, _)| *at != found.at) {
            places.entry(field.name.to_ascii_lowercase()).or_default().push(at);
        }
        let mut signed = Vec::new();
        for name in &signature.names {
            if let Some(at) = places.get_mut(name.as_bytes()).and_then(Vec::pop) {
                let field = &fields[at];
                match signature.header_form {
                    Form::Simple => signed.extend_from_slice(field.raw),
                    Form::Relaxed => relaxed_field(field.name, field.value, &mut signed),
                }
                signed.extend_from_slice(b"\r\n");
            }
        }
        if let Some(own) = fields.get(found.at) {
            let value = without_signature(own.value);
            match signature.header_form {
                Form::Simple => {
                    signed.extend_from_slice(&own.raw[..own.raw.len() - own.value.len()]);
                    signed.extend_from_slice(&value);
                }
                Form::Relaxed => relaxed_field(own.name, &value, &mut signed),
            }
        }
        signed
    }
}

/// The value of a signature field as it was when it was signed: the value of `b=` taken out (RFC 6376 section 3.7).
pub(super) fn without_signature(value: &[u8]) -> Vec<u8> {
    let mut unsigned = Vec::with_capacity(value.len());
    for (index, item) in value.split(|octet| *octet == b';').enumerate() {
        if index > 0 {
            unsigned.push(b';');
        }
        let equals = memchr::memchr(b'=', item);
        match equals {
            Some(at) if item[..at].trim_ascii() == b"b" => unsigned.extend_from_slice(&item[..=at]),
            _ => unsigned.extend_from_slice(item),
        }
    }
    unsigned
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A field that is read, and signs nothing that would verify.
    fn field(form: &str, extra: &str) -> String {
        format!(
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/{form}; d=a.nl; s=s1; h=From:To:from;{extra}\r\n \
             bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AQID\r\n"
        )
    }

    /// Proves: +JUDGE-002 -JUDGE-002
    #[test]
    fn t27_what_is_held_does_not_grow_with_the_body() {
        let limit = 4096;
        let mut watch = EvidenceWatch::new(limit);
        watch.push(format!("{}{}From: a@a.nl\r\n\r\n", field("simple", ""), field("relaxed", "")).as_bytes());
        let held = watch.held();
        assert!(held <= limit, "{held}");
        let piece = b" x \r\n\r\n".repeat(16 << 10);
        for _ in 0..64 {
            watch.push(&piece);
            assert_eq!(watch.held(), held);
        }
        assert!(watch.finish().bodies.iter().all(Option::is_some));

        let mut endless = EvidenceWatch::new(limit);
        for _ in 0..64 {
            endless.push(&piece[..1024].replace_lines());
            assert!(endless.held() <= 2 * (limit + 4), "{}", endless.held());
        }
        assert!(endless.finish().signatures.is_empty());
    }

    trait ReplaceLines {
        fn replace_lines(&self) -> Vec<u8>;
    }

    impl ReplaceLines for [u8] {
        /// The same without any line end, so that the header section goes on.
        fn replace_lines(&self) -> Vec<u8> {
            self.iter().map(|octet| if octet.is_ascii_control() { b'x' } else { *octet }).collect()
        }
    }

    #[test]
    fn pieces_do_not_matter_and_digests_are_made_for_those_who_ask() {
        for (extra, wanted) in [("", true), ("l=3;", false)] {
            let content = format!("{}From: a@a.nl\r\n\r\nbody\r\n\r\n", field("relaxed", extra));
            let whole = Evidence::of(content.as_bytes());
            assert_eq!((whole.bodies[0].is_some(), whole.bodies[1].is_some()), (false, wanted), "{extra}");
            for cut in 0..content.len() {
                let mut watch = EvidenceWatch::new(4096);
                watch.push(&content.as_bytes()[..cut]);
                watch.push(&content.as_bytes()[cut..]);
                let pieces = watch.finish();
                assert_eq!((&pieces.section, pieces.bodies), (&whole.section, whole.bodies), "{cut}");
            }
        }
    }

    #[test]
    fn t06_names_take_fields_from_the_bottom_up_and_no_field_twice() {
        let content = format!("To: 1\r\n{}From: a\r\nTO : 2\r\nTo:\r\n 3\r\n\r\n", field("simple", ""));
        let evidence = Evidence::of(content.as_bytes());
        let found = &evidence.signatures[0];
        let signature = found.signature.clone().unwrap();
        let names = |names: &[&str], header_form| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let signed = evidence.signed(found, &Signature { names, header_form, ..signature.clone() });
            String::from_utf8(signed).unwrap()
        };
        let signed = names(&["to", "from", "to", "from", "to", "to", "dkim-signature"], Form::Simple);
        let (fields, own) = signed.split_at(signed.find("DKIM").unwrap());
        assert_eq!(fields, "To:\r\n 3\r\nFrom: a\r\nTO : 2\r\nTo: 1\r\n");
        assert!(own.ends_with("; b="), "{own}");
        let signed = names(&["to", "to"], Form::Relaxed);
        assert!(signed.starts_with("to:3\r\nto:2\r\ndkim-signature:v=1; a="), "{signed}");
    }

    #[test]
    fn t27_signatures_beyond_the_most_are_counted_only() {
        let content = format!("{}From: a@a.nl\r\n\r\n", field("simple", "").repeat(SIGNATURES_MAX + 3));
        let evidence = Evidence::of(content.as_bytes());
        assert_eq!((evidence.signatures.len(), evidence.beyond), (SIGNATURES_MAX, 3));
    }
}
