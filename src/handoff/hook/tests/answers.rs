use super::super::testing::{PASS, Reads, changed, in_chunks, rejecting};
use super::*;

fn replaced(from: &str, to: &str) -> String {
    assert_eq!(MESSAGE.matches(from).count(), 1, "{from:?}");
    MESSAGE.replace(from, to)
}

/// Proves: +HOOK-001 +HOOK-011
#[tokio::test]
async fn a_hook_is_asked_about_the_message_and_its_envelope() {
    let fake = FakeHook::new(Script::saying(PASS));
    let hook = hook_on(fake.clone(), limits());
    let to = envelope("alice@a.nl", &["bob@b.nl", "\"a, b%\"@b.nl", "jürgen@b.nl"]);
    let mut kept = Kept(None);
    for sender in ["alice@a.nl", ""] {
        let to = Envelope { sender: envelope(sender, &["x@b.nl"]).sender, ..to.clone() };
        let asked = ask(&hook, &to, MESSAGE.as_bytes(), MESSAGE.len() as u64, &mut kept).await.unwrap();
        assert_eq!(asked.answer, Answer::Passed);
        assert_eq!(asked.before, Some(Digest::of(MESSAGE.as_bytes())));
        assert_eq!(fake.last_body(), MESSAGE.as_bytes());
    }
    let heard = fake.heard();
    let [first, second] = heard.as_slice() else { panic!("each attempt asks anew") };
    let head = String::from_utf8(first.clone()).unwrap();
    for line in [
        "POST /filter HTTP/1.1",
        "host: 127.0.0.1:8080",
        "connection: close",
        "content-type: message/rfc822",
        &format!("content-length: {}", MESSAGE.len()),
        &format!("sluis-message: {}", MessageId::from_parts(1, 2)),
        &format!("sluis-attempt: {}", AttemptId::from_parts(3, 4)),
        "sluis-sender: alice@a.nl",
        "sluis-recipients: bob@b.nl,%22a%2C%20b%25%22@b.nl,j%C3%BCrgen@b.nl",
        "sluis-level: mutual",
        "sluis-domain: a.nl",
    ] {
        assert!(head.split("\r\n").any(|found| found == line), "{line}: {head}");
    }
    assert!(String::from_utf8_lossy(second).contains("\r\nsluis-sender: <>\r\n"));
}

/// Proves: +HOOK-004 +HOOK-005
#[tokio::test]
async fn a_changed_message_is_taken_to_the_octet_in_either_framing() {
    let message = replaced("Inhoud", "Inhoud\r\n..\r\n.\r\né");
    let mut answers = vec![changed(message.as_bytes())];
    answers.extend([1, 2, 7, 4096].map(|step| in_chunks(message.as_bytes(), step)));
    for answer in answers {
        let (asked, kept) = asked(Script::saying(answer)).await;
        let asked = asked.unwrap();
        assert_eq!(asked.before, Some(Digest::of(MESSAGE.as_bytes())));
        let expected =
            Changed { digest: Digest::of(message.as_bytes()), size: message.len() as u64, eight_bit: true };
        assert_eq!(asked.answer, Answer::Changed(expected));
        assert_eq!(kept, message.as_bytes());
    }
    // An answer that changes nothing is none that changes.
    let (same, _) = asked(Script::saying(changed(MESSAGE.as_bytes()))).await;
    assert_eq!(same.unwrap().answer, Answer::Passed);
}

/// Proves: +HOOK-003 -HOOK-003 -HOOK-004
#[tokio::test]
async fn t32_an_answer_that_breaks_off_at_any_octet_is_none() {
    let message = replaced("Inhoud", "Anders");
    for answer in [
        PASS.as_bytes().to_vec(),
        changed(message.as_bytes()),
        in_chunks(message.as_bytes(), 50),
        rejecting(422, "nee"),
    ] {
        for end in 0..answer.len() {
            let (asked, _) = asked(Script::saying(&answer[..end])).await;
            let error = asked.expect_err(&format!("{end} of {:?}", String::from_utf8_lossy(&answer)));
            assert_eq!(error.reason(), Reason::HookUnavailable, "{error}");
        }
        assert!(asked(Script::saying(answer)).await.0.is_ok());
    }
}

/// Proves: -HOOK-003 -HOOK-004
#[tokio::test]
async fn t32_whatever_else_is_said_decides_nothing() {
    let message = replaced("Inhoud", "Anders");
    let whole = String::from_utf8(changed(message.as_bytes())).unwrap();
    let length = format!("Content-Length: {}\r\n", message.len());
    let without = |line: &str, instead: &str| {
        assert!(whole.contains(line), "{line}");
        whole.replacen(line, instead, 1)
    };
    let kind = "Content-Type: message/rfc822\r\n";
    for (answer, why) in [
        (without(&length, ""), "neither Content-Length nor chunks"),
        (without(&length, &format!("{length}Transfer-Encoding: chunked\r\n")), "more than one framing"),
        (without(&length, &format!("{length}Content-Length: 3\r\n")), "broke off"),
        (without(&length, &format!("{length}{length}")), "more than one framing"),
        (without(&length, "Transfer-Encoding: gzip, chunked\r\n"), "more than one framing"),
        (without(&length, &format!("Content-Length: {}\r\n", message.len() - 1)), "a CR without LF"),
        (without(&length, &format!("Content-Length: {}\r\n", message.len() - 2)), "its last line has no end"),
        // Counted in characters, say: the rest of the message stands behind its end.
        (without(&length, &format!("Content-Length: {}\r\n", message.len() - 8)), "octets follow its end"),
        (without(&length, &format!("Content-Length: {}\r\n", message.len() + 1)), "broke off"),
        (without(kind, ""), "its Content-Type is not message/rfc822"),
        (without(kind, "Content-Type: text/plain\r\n"), "its Content-Type is not"),
        (without(kind, &format!("{kind}{kind}")), "its Content-Type is not"),
        (without(kind, &format!("{kind}Content-Encoding: gzip\r\n")), "Content-Encoding"),
        (without("HTTP/1.1", "HTTP/1.0"), "HTTP/1.0, not HTTP/1.1"),
        (without("HTTP/1.1 200 OK\r\n", ""), "broke off"),
        (without("200 OK", "201 Created"), "status 201"),
        (without("200 OK", "206 Partial Content"), "status 206"),
        (without("200 OK", "302 Found"), "status 302"),
        (without("200 OK", "400 Bad"), "status 400"),
        (without("200 OK", "404 Not Found"), "status 404"),
        (without("200 OK", "500 Oops"), "status 500"),
        (without("200 OK", "503 Later"), "status 503"),
        (format!("{whole}x"), "octets follow its end"),
        (without("200 OK", "204 No Content"), "octets follow its end"),
        (format!("{PASS}{PASS}"), "octets follow its end"),
        (String::new(), "broke off"),
        ("220 mail.example ESMTP\r\n".to_owned(), "broke off"),
        // What stands in between may refuse too, and must return nobody's mail.
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno".into(),
            "not text/plain",
        ),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".into(), "not text/plain"),
        (String::from_utf8(rejecting(422, " \r\n")).unwrap(), "no reason"),
        (String::from_utf8(rejecting(422, &"x".repeat(17 << 10))).unwrap(), "a reason of more than"),
    ] {
        let (asked, _) = asked(Script::saying(answer.clone())).await;
        let error = asked.expect_err(&answer);
        assert_eq!(error.reason(), Reason::HookUnavailable);
        assert!(error.to_string().contains(why), "{answer}\n{error}");
    }
}

/// Proves: -HOOK-001 -HOOK-003
#[tokio::test]
async fn a_message_is_not_passed_by_a_hook_that_did_not_get_all_of_it() {
    let content = format!("{MESSAGE}{}", "regel\r\n".repeat(100_000));
    for reads in [Reads::Nothing, Reads::Head] {
        let other = changed(replaced("Inhoud", "Anders").as_bytes());
        for answer in [PASS.as_bytes().to_vec(), other] {
            let script = Script { reads, ..Script::saying(answer) };
            let hook = hook_on(FakeHook::new(script), limits());
            let mut kept = Kept(Some(Vec::new()));
            let size = content.len() as u64;
            let to = envelope("alice@a.nl", &["bob@b.nl"]);
            let asked = ask(&hook, &to, std::io::Cursor::new(content.clone()), size, &mut kept).await;
            assert_eq!(asked.unwrap_err().reason(), Reason::HookUnavailable);
        }
    }
}

/// Proves: +HOOK-009
#[tokio::test]
async fn a_rejection_has_the_hooks_own_words_as_one_printable_line() {
    for (status, said, words) in [
        (
            422,
            "Bijlagen van dit type nemen wij niet aan.\r\nIntern: regel 7\r\n",
            "Bijlagen van dit type nemen wij niet aan.",
        ),
        (403, "\n\n  no \u{7} thanks \n", "no"),
        (422, &"lang ".repeat(200), "lang"),
    ] {
        let (asked, kept) = asked(Script::saying(rejecting(status, said))).await;
        let Answer::Rejected(heard) = asked.unwrap().answer else { panic!("{said}") };
        assert!(heard.starts_with(words) && heard.chars().count() <= 300, "{heard}");
        assert!(!heard.chars().any(char::is_control), "{heard}");
        assert!(kept.is_empty());
    }
}

/// Everything that somebody takes for the end of a line, a message or a header section, in every place of the answer.
///
/// Proves: -HOOK-005
#[tokio::test]
async fn t02_what_is_no_line_end_does_not_get_through_the_filter() {
    for bad in [
        "\n",
        "\r",
        "\0",
        "\n.\n",
        "\n.\r\n",
        "\r.\r",
        "\r.\r\n",
        "\r\n.\n",
        "\r\n.\r",
        "\r\r\n",
        "\n\n",
        "\r\r",
        "\n\r",
        "\r\0\n",
        "\r\n.\r\0\n",
        "x\0",
    ] {
        for place in ["Subject: geheim", "geheim", "Inhoud", "From: Alice", "Inhoud\r\n"] {
            let message = replaced(place, &format!("{place}{bad}x"));
            for answer in [
                changed(message.as_bytes()),
                in_chunks(message.as_bytes(), 1),
                in_chunks(message.as_bytes(), 3),
            ] {
                let (asked, kept) = asked(Script::saying(answer)).await;
                let error = asked.expect_err(&message);
                assert_eq!(error.reason(), Reason::HookUnavailable, "{message:?}");
                // Not even into what is thrown away then.
                let lines = String::from_utf8(kept).unwrap().replace("\r\n", "");
                assert!(!lines.contains(['\r', '\n', '\0']), "{bad:?} was passed on in {lines:?}");
            }
        }
    }
    let long = "x".repeat(999);
    assert!(taken(&replaced("Inhoud", &long)).await.unwrap_err().contains("998"));
    assert_eq!(taken(&replaced("Inhoud", &long[1..])).await, Ok(()));
    for (message, why) in [
        ("", "no From: field"),
        ("\r\n", "no From: field"),
        ("Inhoud\r\n", "is no field"),
        (&replaced("Inhoud\r\n", "Inhoud"), "its last line has no end"),
        (&replaced("Subject: geheim", "Subject : geheim\r\nno field at all"), "is no field"),
        (&replaced("Subject: geheim", &"X: y\r\n".repeat(1200)), "more than"),
        (&replaced("Subject: geheim", &format!("X: {}y", "y\r\n ".repeat(120_000))), "longer than"),
    ] {
        let refused = taken(message).await.unwrap_err();
        assert!(refused.contains(why), "{message:.60}: {refused}");
    }
}

/// Proves: +HOOK-006 -HOOK-006
#[tokio::test]
async fn t10_a_changed_message_is_by_the_same_author() {
    for (from, to, field) in [
        ("alice@a.nl", "mallory@a.nl", "From:"),
        ("alice@a.nl", "alice@b.nl", "From:"),
        ("Alice <alice@a.nl>", "alice@a.nl, bob@a.nl", "From:"),
        ("From: Alice <alice@a.nl>\r\n", "", "no From: field"),
        ("Subject: geheim", "From: <alice@a.nl>", "more than one from field"),
        ("Subject: geheim", "Sender: <bob@a.nl>", "Sender:"),
        ("Date: Sun, 22", "Date: Sat, 21", "Date:"),
        ("Subject: geheim", "Date: Sun, 22 Nov 2026 12:00:00 +0000", "Date:"),
        ("<1@a.nl>", "<2@a.nl>", "Message-ID:"),
        ("Message-ID: <1@a.nl>\r\n", "", "Message-ID:"),
        ("Subject: geheim", "Message-ID: <1@a.nl>", "Message-ID:"),
        ("Received: from", "X-Received: from", "Received:"),
    ] {
        let refused = taken(&replaced(from, to)).await.unwrap_err();
        assert!(refused.contains(field), "{from} -> {to}: {refused}");
    }
    for (from, to) in [
        ("Alice <", "\"Alice (van buiten)\" <"),
        ("Date: Sun, 22 Nov 2026\r\n 12:00:00", "date:  Sun, 22 Nov 2026 12:00:00"),
        (
            "Subject: geheim",
            "Subject: [extern] geheim\r\nX-Filter: ja\r\nReceived: from filter by filter; today",
        ),
        ("Inhoud", "Bijlage verwijderd"),
        ("Authentication-Results: nta.b.nl; x-federation=pass\r\n", ""),
    ] {
        assert_eq!(taken(&replaced(from, to)).await, Ok(()), "{from} -> {to}");
    }
}

/// Content that breaks off with this error.
struct Torn(&'static [u8]);

impl AsyncRead for Torn {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        out: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        if self.0.is_empty() {
            return std::task::Poll::Ready(Err(io::Error::other("the disk is broken")));
        }
        out.put_slice(std::mem::take(&mut self.0));
        std::task::Poll::Ready(Ok(()))
    }
}

/// Damage is found at the end of content. By then the hook has not got its last octets.
///
/// Proves: -HOOK-003 -HOOK-004
#[tokio::test]
async fn a_fault_of_our_own_is_none_of_the_hook() {
    let to = envelope("alice@a.nl", &["bob@b.nl"]);
    let size = MESSAGE.len() as u64;
    let fake = FakeHook::new(Script::saying(PASS));
    let mut kept = Kept(Some(Vec::new()));
    let error = ask(&hook_on(fake.clone(), limits()), &to, Torn(MESSAGE.as_bytes()), size, &mut kept).await;
    let error = error.unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string().contains("the disk is broken")),
        (Reason::LocalFault, true)
    );
    assert!(fake.heard().is_empty(), "it waits for the rest of what was announced");
    for wrong in [size - 1, size + 1] {
        let hook = hook_on(FakeHook::new(Script::saying(PASS)), limits());
        let error = ask(&hook, &to, MESSAGE.as_bytes(), wrong, &mut kept).await.unwrap_err();
        assert!(matches!(&error, HookError::Content(_)), "{error}");
    }
    let answer = changed(replaced("Inhoud", "Anders").as_bytes());
    let hook = hook_on(FakeHook::new(Script::saying(answer)), limits());
    let error = ask(&hook, &to, MESSAGE.as_bytes(), size, &mut Kept(None)).await.unwrap_err();
    assert_eq!((error.reason(), matches!(error, HookError::NotKept)), (Reason::LocalFault, true));
}
