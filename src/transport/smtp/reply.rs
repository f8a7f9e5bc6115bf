//! Replies: one type for those we give, those we get, and those we pass on.

use std::fmt;

/// The longest text of one reply line, so that the line stays within RFC 5321 section 4.5.3.1.5 (512 octets).
const TEXT_OCTETS_MAX: usize = 480;

/// An SMTP reply (RFC 5321 section 4.2) with its enhanced status code (RFC 3463, RFC 2034).
///
/// Every line is printable ASCII: nothing that came from elsewhere can add a line, or a reply, of its own (attack
/// class T5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<(u8, u16, u16)>,
    lines: Vec<String>,
}

/// Why something is not a [`Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The code is not within 200 to 599.
    #[error("the reply code is not within 200 to 599")]
    Code,
    /// The class of the enhanced status code is not 2, 4 or 5, or not that of the reply code (RFC 2034 section 4).
    #[error("the enhanced status code does not belong to the reply code")]
    Enhanced,
    /// There is no line, or one with a CR, an LF or another octet that is not printable ASCII.
    #[error("the text of the reply is not lines of printable ASCII")]
    Text,
    /// A line of text is longer than 480 octets.
    #[error("a line of the reply is longer than 480 octets")]
    TooLong,
}

impl Reply {
    /// A reply whose text must be printable ASCII already: one line, at most 480 octets.
    ///
    /// # Errors
    /// Names what is wrong with code, enhanced code or text.
    pub fn new(code: u16, enhanced: Option<(u8, u16, u16)>, text: &str) -> Result<Self, ReplyError> {
        Self::with_lines(code, enhanced, vec![text.to_owned()])
    }

    /// A reply of several lines, each as in [`Self::new`].
    ///
    /// # Errors
    /// As [`Self::new`]; also when there is no line.
    pub fn with_lines(
        code: u16,
        enhanced: Option<(u8, u16, u16)>,
        lines: Vec<String>,
    ) -> Result<Self, ReplyError> {
        if !(200..=599).contains(&code) {
            return Err(ReplyError::Code);
        }
        if enhanced.is_some_and(|(class, ..)| !matches!(class, 2 | 4 | 5) || u16::from(class) != code / 100) {
            return Err(ReplyError::Enhanced);
        }
        if lines.is_empty() || lines.iter().any(|line| !line.bytes().all(is_printable)) {
            return Err(ReplyError::Text);
        }
        if lines.iter().any(|line| line.len() > TEXT_OCTETS_MAX) {
            return Err(ReplyError::TooLong);
        }
        Ok(Self { code, enhanced, lines })
    }

    /// A reply with text from anywhere: what is not printable ASCII becomes `?`, and what is too long is cut.
    ///
    /// # Panics
    /// When code and enhanced code do not fit each other. They are written in our code, never received.
    #[must_use]
    pub fn sanitised(code: u16, enhanced: (u8, u16, u16), text: &str) -> Self {
        Self::new(code, Some(enhanced), &printable(text)).expect("code and enhanced code are chosen together")
    }

    /// The three digits.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code: class, subject, detail.
    #[must_use]
    pub const fn enhanced(&self) -> Option<(u8, u16, u16)> {
        self.enhanced
    }

    /// The text, without codes.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Code and enhanced code as records have them: `550 5.7.1`.
    #[must_use]
    pub fn code_text(&self) -> String {
        match self.enhanced {
            Some((class, subject, detail)) => format!("{} {class}.{subject}.{detail}", self.code),
            None => self.code.to_string(),
        }
    }

    /// Whether the command succeeded, or may go on (2yz and 3yz).
    #[must_use]
    pub const fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Whether the same may succeed later (4yz).
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        self.code >= 400 && self.code < 500
    }

    /// Whether the same will fail again (5yz).
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// The reply as it goes over the wire, each line with its CRLF.
    #[must_use]
    pub fn to_wire(&self) -> String {
        let mut wire = String::new();
        let last = self.lines.len() - 1;
        for (at, line) in self.lines.iter().enumerate() {
            wire.push_str(&self.code.to_string());
            wire.push(if at == last { ' ' } else { '-' });
            if let Some((class, subject, detail)) = self.enhanced {
                wire.push_str(&format!("{class}.{subject}.{detail} "));
            }
            wire.push_str(line);
            wire.push_str("\r\n");
        }
        wire
    }
}

/// `text` with everything that is not printable ASCII replaced by `?`, at most 480 octets of it.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(TEXT_OCTETS_MAX).collect()
}

const fn is_printable(octet: u8) -> bool {
    matches!(octet, b' '..=b'~')
}

impl fmt::Display for Reply {
    /// One line, for records, reports and logs: `550 5.7.1 text text`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some((class, subject, detail)) = self.enhanced {
            write!(f, " {class}.{subject}.{detail}")?;
        }
        for line in self.lines.iter().filter(|line| !line.is_empty()) {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn several_lines_repeat_both_codes() {
        let lines = vec!["SMTP-012 no".to_owned(), "RCPT first".to_owned()];
        let reply = Reply::with_lines(503, Some((5, 5, 1)), lines).unwrap();
        assert_eq!(reply.to_wire(), "503-5.5.1 SMTP-012 no\r\n503 5.5.1 RCPT first\r\n");
        assert_eq!(reply.to_string(), "503 5.5.1 SMTP-012 no RCPT first");
        assert!(reply.is_permanent() && !reply.is_temporary() && !reply.is_positive());
        assert_eq!(Reply::new(354, None, "go on").unwrap().to_wire(), "354 go on\r\n");
    }

    #[test]
    fn t05_text_that_could_add_a_reply_is_refused() {
        for text in ["a\r\n250 ok", "a\nb", "a\rb", "a\0", "\u{7f}", "é", "\t"] {
            assert_eq!(Reply::new(250, None, text), Err(ReplyError::Text), "{text:?}");
        }
        assert_eq!(Reply::with_lines(250, None, vec![]), Err(ReplyError::Text));
        assert_eq!(Reply::new(250, None, &"x".repeat(481)), Err(ReplyError::TooLong));
        assert_eq!(Reply::new(199, None, "x"), Err(ReplyError::Code));
        assert_eq!(Reply::new(600, None, "x"), Err(ReplyError::Code));
        assert_eq!(Reply::new(550, Some((4, 0, 0)), "x"), Err(ReplyError::Enhanced));
        assert_eq!(Reply::new(354, Some((3, 0, 0)), "x"), Err(ReplyError::Enhanced));
    }

    proptest! {
        #[test]
        fn t05_sanitised_text_is_one_line(text in "\\PC*|[\\x00-\\xff]*") {
            let wire = Reply::sanitised(550, (5, 7, 1), &text).to_wire();
            prop_assert_eq!(wire.matches('\r').count(), 1);
            prop_assert_eq!(wire.matches('\n').count(), 1);
            prop_assert!(wire.len() <= 512);
        }
    }
}
