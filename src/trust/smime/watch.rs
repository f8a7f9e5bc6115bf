//! What a signature of S/MIME needs, gathered while content streams past.

use aws_lc_rs::digest::Context;

use super::cms::{self, Kind};
use super::entity::{ContentType, EntityHeader, Unreadable};
use super::lines::{Base64, Fault, Line, Lines};
use super::oid::Hash;

/// So much of an object in one piece is enough to see what it is.
const KIND_OCTETS: usize = 32;

const TOO_LARGE: &str = "too large to be judged";
const TWO_WAYS: &str = "the content type can be read in two ways";
const NESTED: &str = "a signature inside another part";
const FORM: &str = "the signed message is malformed";
const ENCODING: &str = "the signature is not in Base64";

/// Watches content go by.
///
/// It holds two header fields, one line, running digests and the signature, which is bounded by the limit given; nothing of
/// what is signed, unless that is in one piece with its signature (SMIME-002).
pub struct SmimeWatch {
    limit: usize,
    lines: Lines,
    state: State,
}

enum State {
    /// The empty line of the message has not come yet.
    Header(EntityHeader),
    /// Looking for signed parts of a multipart, in whose part headers.
    Parts { boundary: String, header: Option<EntityHeader> },
    /// `multipart/signed`.
    Detached(Box<Detached>),
    /// All in one piece.
    Opaque(Base64),
    /// Nothing more can change it.
    Settled(Finding),
}

/// What there is to judge.
#[derive(Debug, Default)]
pub(super) enum Finding {
    /// Nothing of S/MIME.
    #[default]
    Unsigned,
    /// Encrypted for the recipient.
    Encrypted,
    /// Something of S/MIME that is not judged, and why.
    NotJudged(&'static str),
    /// Content that passed, and a CMS object beside it.
    Detached(Digests, Vec<u8>),
    /// A CMS object.
    Opaque(Vec<u8>),
}

/// Digests of the content that was signed, in the hashes that were announced.
#[derive(Debug, Default)]
pub(super) struct Digests(pub(super) Vec<(Hash, Vec<u8>)>);

/// `multipart/signed` going by.
struct Detached {
    boundary: Vec<u8>,
    running: Vec<(Hash, Context)>,
    part: Part,
    /// A CRLF of the first part that has not been hashed: it may belong to the delimiter.
    pending: bool,
    signature: Base64,
}

enum Part {
    Preamble,
    Content,
    SignatureHeader(EntityHeader),
    Signature,
    Epilogue,
}

/// What a line is to a multipart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimiter {
    None,
    Part,
    Close,
    /// It begins as a delimiter and goes on: one for some readers and none for others.
    Doubtful,
}

fn delimiter(line: Line<'_>, boundary: &[u8]) -> Delimiter {
    let rest = line.octets.strip_prefix(b"--").and_then(|rest| rest.strip_prefix(boundary));
    match rest {
        Some(rest) if line.begins => match rest.trim_ascii_end() {
            b"" => Delimiter::Part,
            b"--" => Delimiter::Close,
            _ => Delimiter::Doubtful,
        },
        _ => Delimiter::None,
    }
}

impl SmimeWatch {
    /// Nothing seen yet; of a signature at most `limit` octets are held.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, lines: Lines::new(), state: State::Header(EntityHeader::default()) }
    }

    /// Takes the next octets of the content.
    pub fn push(&mut self, octets: &[u8]) {
        if matches!(self.state, State::Settled(_)) {
            return;
        }
        let (state, limit) = (&mut self.state, self.limit);
        self.lines.push(octets, |line| state.line(line, limit));
    }

    /// Octets of the message that are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        let state = match &self.state {
            State::Detached(detached) => detached.signature.held(),
            State::Opaque(object) => object.held(),
            _ => 0,
        };
        self.lines.held() + state
    }

    /// No more octets.
    #[must_use]
    pub fn finish(self) -> SmimeEvidence {
        let Self { limit, lines, mut state } = self;
        lines.finish(|line| state.line(line, limit));
        let finding = match state {
            State::Header(header) => match begin(&header, limit) {
                State::Settled(finding) => finding,
                State::Parts { .. } => Finding::Unsigned,
                // Signed, and then nothing came.
                _ => Finding::NotJudged(FORM),
            },
            State::Parts { .. } => Finding::Unsigned,
            State::Detached(detached) => detached.finish(),
            State::Opaque(object) => opaque(object),
            State::Settled(finding) => finding,
        };
        SmimeEvidence { finding }
    }
}

/// A complete message, as far as its signature is concerned.
#[derive(Debug, Default)]
pub struct SmimeEvidence {
    pub(super) finding: Finding,
}

impl SmimeEvidence {
    /// Of content that stands in memory already.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let mut watch = SmimeWatch::new(content.len());
        watch.push(content);
        watch.finish()
    }
}

impl State {
    fn line(&mut self, line: Line<'_>, limit: usize) {
        let next = match self {
            Self::Header(header) if line.is_empty() => Some(begin(header, limit)),
            Self::Header(header) => {
                header.line(line);
                None
            }
            Self::Parts { boundary, header } => {
                match (delimiter(line, boundary.as_bytes()), &mut *header) {
                    (Delimiter::Part, _) => *header = Some(EntityHeader::default()),
                    (Delimiter::Close | Delimiter::Doubtful, _) => *header = None,
                    (Delimiter::None, Some(part)) if !line.is_empty() => part.line(line),
                    (Delimiter::None, Some(part)) if is_smime(part) => {
                        *self = Self::Settled(Finding::NotJudged(NESTED));
                    }
                    (Delimiter::None, _) => *header = None,
                }
                None
            }
            Self::Detached(detached) => detached.line(line).map(|why| Self::Settled(Finding::NotJudged(why))),
            Self::Opaque(object) => {
                object.push(line.octets);
                let start = object.octets();
                let seen = start.len() >= KIND_OCTETS;
                (seen && cms::kind(start) == Kind::Encrypted).then_some(Self::Settled(Finding::Encrypted))
            }
            Self::Settled(_) => None,
        };
        if let Some(next) = next {
            *self = next;
        }
    }
}

/// What a message with this header is to us.
fn begin(header: &EntityHeader, limit: usize) -> State {
    let settled = State::Settled;
    let kind = match header.content_type() {
        None | Some(Err(Unreadable { about_smime: false })) => return settled(Finding::Unsigned),
        Some(Err(Unreadable { about_smime: true })) => return settled(Finding::NotJudged(TWO_WAYS)),
        Some(Ok(kind)) => kind,
    };
    if kind.is_signed_with_smime() {
        return match kind.boundary() {
            Some(boundary) => State::Detached(Box::new(Detached::new(boundary, &kind, limit))),
            None => settled(Finding::NotJudged(FORM)),
        };
    }
    if kind.is_opaque() {
        return match kind.parameter("smime-type").map(str::to_ascii_lowercase).as_deref() {
            Some("enveloped-data" | "authenveloped-data") => settled(Finding::Encrypted),
            Some("certs-only") => settled(Finding::NotJudged("certificates alone, nothing is signed")),
            Some("compressed-data") => settled(Finding::NotJudged("compressed data")),
            _ if header.is_encoded("base64") => State::Opaque(Base64::new(limit)),
            _ => settled(Finding::NotJudged(ENCODING)),
        };
    }
    match kind.boundary() {
        Some(boundary) if kind.media.starts_with("multipart/") => {
            State::Parts { boundary: boundary.to_owned(), header: None }
        }
        _ => settled(Finding::Unsigned),
    }
}

fn is_smime(part: &EntityHeader) -> bool {
    match part.content_type() {
        Some(Ok(kind)) => kind.is_signed_with_smime() || kind.is_opaque(),
        Some(Err(Unreadable { about_smime })) => about_smime,
        None => false,
    }
}

fn opaque(object: Base64) -> Finding {
    match object.finish() {
        Ok(octets) if cms::kind(&octets) == Kind::Encrypted => Finding::Encrypted,
        Ok(octets) => Finding::Opaque(octets),
        Err((_, start)) if cms::kind(&start) == Kind::Encrypted => Finding::Encrypted,
        Err((Fault::TooLarge, _)) => Finding::NotJudged(TOO_LARGE),
        Err((Fault::Malformed, _)) => Finding::NotJudged(ENCODING),
    }
}

impl Detached {
    fn new(boundary: &str, kind: &ContentType, limit: usize) -> Self {
        let named = kind.parameter("micalg").unwrap_or_default().split(',').filter_map(Hash::named);
        let mut hashes: Vec<Hash> = Vec::new();
        for hash in named {
            if !hashes.contains(&hash) {
                hashes.push(hash);
            }
        }
        // Nothing is announced that counts: whatever it is signed with.
        if hashes.is_empty() {
            hashes.extend(Hash::ALL);
        }
        Self {
            boundary: boundary.as_bytes().to_vec(),
            running: hashes.into_iter().map(|hash| (hash, hash.context())).collect(),
            part: Part::Preamble,
            pending: false,
            signature: Base64::new(limit),
        }
    }

    /// The next line; gives a word when there is nothing to judge any more.
    fn line(&mut self, line: Line<'_>) -> Option<&'static str> {
        match (&mut self.part, delimiter(line, &self.boundary)) {
            (Part::Epilogue, _) => {}
            (_, Delimiter::Doubtful) => return Some("a line can be read as a boundary"),
            (Part::Preamble, Delimiter::Part) => self.part = Part::Content,
            (Part::Content, Delimiter::Part) => self.part = Part::SignatureHeader(EntityHeader::default()),
            (Part::Signature, Delimiter::Close) => self.part = Part::Epilogue,
            (_, Delimiter::Part | Delimiter::Close) => return Some(FORM),
            (Part::Preamble, Delimiter::None) => {}
            (Part::Content, Delimiter::None) => self.hash(line),
            (Part::SignatureHeader(header), Delimiter::None) if line.is_empty() => {
                match header.content_type() {
                    Some(Ok(kind)) if kind.is_signature() && header.is_encoded("base64") => {
                        self.part = Part::Signature;
                    }
                    Some(Ok(kind)) if kind.is_signature() => return Some(ENCODING),
                    _ => return Some(FORM),
                }
            }
            (Part::SignatureHeader(header), Delimiter::None) => header.line(line),
            (Part::Signature, Delimiter::None) => self.signature.push(line.octets),
        }
        None
    }

    fn hash(&mut self, line: Line<'_>) {
        for (_, context) in &mut self.running {
            if self.pending {
                context.update(b"\r\n");
            }
            context.update(line.octets);
        }
        self.pending = line.ends;
    }

    fn finish(self) -> Finding {
        if !matches!(self.part, Part::Epilogue) {
            return Finding::NotJudged(FORM);
        }
        let digests =
            self.running.into_iter().map(|(hash, running)| (hash, running.finish().as_ref().to_vec()));
        match self.signature.finish() {
            Ok(octets) => Finding::Detached(Digests(digests.collect()), octets),
            Err((Fault::TooLarge, _)) => Finding::NotJudged(TOO_LARGE),
            Err((Fault::Malformed, _)) => Finding::NotJudged(ENCODING),
        }
    }
}
