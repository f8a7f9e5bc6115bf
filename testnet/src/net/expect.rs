//! What the environment got, compared with what was sent.

/// The fields that a node may put on top (`spec/07-handoff.md`), in lower case.
const ADDED: [&str; 5] =
    ["received", "authentication-results", "federation-assurance", "return-path", "dkim-signature"];

/// The fields on top of `got` that were not in `sent`, as `(name, unfolded value)`.
///
/// # Errors
/// What is different: an octet of the content, or a field that nobody may add.
pub fn added_fields(got: &[u8], sent: &[u8]) -> Result<Vec<(String, String)>, String> {
    let Some(top) = got.strip_suffix(sent) else {
        let same = got.iter().rev().zip(sent.iter().rev()).take_while(|(a, b)| a == b).count();
        return Err(format!("the content differs, {same} octets before its end"));
    };
    let text = String::from_utf8_lossy(top).replace("\r\n ", " ").replace("\r\n\t", " ");
    let mut fields = Vec::new();
    for line in text.split_terminator("\r\n") {
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("{line:?} is no field"));
        };
        let name = name.to_ascii_lowercase();
        let missing = name == "message-id" && !has_message_id(sent);
        if !ADDED.contains(&name.as_str()) && !missing {
            return Err(format!("the field {name} was added"));
        }
        fields.push((name, value.trim().to_owned()));
    }
    Ok(fields)
}

/// Whether content names itself; a submission that does not is given a name (SUBM-005).
#[must_use]
pub fn has_message_id(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let header = text.split("\r\n\r\n").next().unwrap_or_default();
    header.split("\r\n").any(|line| line.to_ascii_lowercase().starts_with("message-id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trace_fields_may_stand_on_top() {
        let sent = b"From: a\r\n\r\nx\r\n";
        let with = |top: &str| [top.as_bytes(), sent].concat();
        let fields =
            added_fields(&with("Received: from a\r\n by b\r\nFederation-Assurance: mutual\r\n"), sent);
        assert_eq!(fields.map(|fields| fields.len()), Ok(2));
        assert!(added_fields(&with("X-Spam: no\r\n"), sent).is_err());
        assert!(added_fields(b"Received: x\r\nFrom: a\r\n\r\ny\r\n", sent).is_err());
        assert!(added_fields(&with("no field\r\n"), sent).is_err());
        let named = b"From: a\r\nMessage-ID: <1@a>\r\n\r\nx\r\n";
        assert!(added_fields(&with("Message-ID: <2@a>\r\n"), sent).is_ok());
        assert!(added_fields(&[b"Message-ID: <2@a>\r\n".as_slice(), named].concat(), named).is_err());
    }
}
