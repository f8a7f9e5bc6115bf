//! Signing a message while it streams past: what it says of its content moves into a first part, and the signature follows
//! as the second (RFC 8551 section 3.5.3).

use aws_lc_rs::digest::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::entity::ContentType;
use super::signer::SmimeSigner;
use crate::model::SmimeFacts;
use crate::trust::header::{Field, fields};

/// Octets of Base64 on one line (RFC 2045 section 6.8).
const LINE_OCTETS: usize = 76;

/// A message that is not signed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSigned {
    /// It is signed or encrypted already, and passes as it is.
    Already,
    /// Its header can be read in two ways, so what would be signed is doubtful; says in which.
    Doubtful(&'static str),
}

/// A message on its way through.
pub struct SmimeWrap {
    signer: SmimeSigner,
    boundary: String,
    digest: Context,
}

impl SmimeWrap {
    /// Begins with a header section, its last CRLF included. `boundary` must be one that no content can hold by chance.
    ///
    /// Gives what takes the place of the section and the empty line after it. The body follows as it is, through
    /// [`Self::body`].
    ///
    /// # Errors
    /// [`NotSigned`]
    pub fn begin(
        section: &[u8],
        signer: SmimeSigner,
        boundary: String,
    ) -> Result<(Self, Vec<u8>), NotSigned> {
        let fields = fields(section, usize::MAX).map_err(|_| NotSigned::Doubtful("the header section"))?;
        let named = |name: &'static str| fields.iter().filter(move |field| field.is(name));
        for name in ["content-type", "content-transfer-encoding", "mime-version"] {
            if named(name).count() > 1 || named(name).any(|field| field.blank_before_colon) {
                return Err(NotSigned::Doubtful(name));
            }
        }
        if let Some(field) = named("content-type").next() {
            let kind = ContentType::read(&field.unfolded()).ok_or(NotSigned::Doubtful("content-type"))?;
            if kind.is_opaque() || matches!(kind.media.as_str(), "multipart/signed" | "multipart/encrypted") {
                return Err(NotSigned::Already);
            }
        }
        let (mut outer, mut inner) = (Vec::new(), Vec::new());
        for field in &fields {
            let place = if is_content(field) { &mut inner } else { &mut outer };
            place.extend_from_slice(field.raw);
            place.extend_from_slice(b"\r\n");
        }
        inner.extend_from_slice(b"\r\n");
        if named("mime-version").next().is_none() {
            outer.extend_from_slice(b"MIME-Version: 1.0\r\n");
        }
        let kind = format!(
            "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\";\r\n micalg={};\r\n boundary=\"{boundary}\"\r\n",
            signer.micalg()
        );
        outer.extend_from_slice(kind.as_bytes());
        // What holds 8-bit content says so itself (RFC 2045 section 6.4).
        let eight = |field: &Field<'_>| field.text_is("8bit") || field.text_is("binary");
        if named("content-transfer-encoding").any(eight) {
            outer.extend_from_slice(b"Content-Transfer-Encoding: 8bit\r\n");
        }
        outer.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        let mut digest = signer.context();
        digest.update(&inner);
        outer.extend_from_slice(&inner);
        Ok((Self { signer, boundary, digest }, outer))
    }

    /// The next octets of the body; they are sent as they are.
    pub fn body(&mut self, octets: &[u8]) {
        self.digest.update(octets);
    }

    /// What follows the body, and what the record says; `None` if the library fails, and then the message must not go.
    #[must_use]
    pub fn finish(self, now: Timestamp) -> Option<(Vec<u8>, SmimeFacts)> {
        let Self { signer, boundary, digest } = self;
        let signature = signer.sign(digest.finish().as_ref(), now)?;
        let mut text = format!(
            "\r\n--{boundary}\r\nContent-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\n\
             Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"smime.p7s\"\r\n\r\n"
        );
        for line in STANDARD.encode(signature).as_bytes().chunks(LINE_OCTETS) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push_str("\r\n");
        }
        text.push_str(&format!("--{boundary}--\r\n"));
        Some((text.into_bytes(), signer.facts()))
    }
}

/// Whether a field describes the content (RFC 2045 section 9).
fn is_content(field: &Field<'_>) -> bool {
    field.name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"))
}
