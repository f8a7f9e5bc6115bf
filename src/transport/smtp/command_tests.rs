#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn ascii(line: &str) -> Result<Command, CommandError> {
    parse(line.as_bytes(), Spelling::Ascii)
}

fn code(line: &str) -> (u16, (u8, u16, u16)) {
    let reply = ascii(line).unwrap_err().reply();
    (reply.code(), reply.enhanced().unwrap())
}

fn mail_of(line: &str) -> Mail {
    match ascii(line) {
        Ok(Command::Mail(mail)) => mail,
        other => panic!("{line}: {other:?}"),
    }
}

fn rcpt_of(line: &str) -> Recipient {
    match parse(line.as_bytes(), Spelling::Utf8) {
        Ok(Command::Rcpt(rcpt)) => rcpt,
        other => panic!("{line}: {other:?}"),
    }
}

/// Proves: +SMTP-010
#[test]
fn the_commands_and_their_parameters() {
    assert!(matches!(ascii("ehlo [127.0.0.1]"), Ok(Command::Ehlo(name)) if name.as_str() == "[127.0.0.1]"));
    assert!(matches!(ascii("HELO my_host.example  "), Ok(Command::Helo(_))));
    for (line, command) in [
        ("DATA", Command::Data),
        ("rset", Command::Rset),
        ("NOOP hello", Command::Noop),
        ("Quit ", Command::Quit),
        ("VRFY x", Command::Vrfy),
        ("EXPN x", Command::Expn),
        ("HELP", Command::Help),
        ("STARTTLS", Command::StartTls),
        ("AUTH PLAIN", Command::Auth),
        ("BDAT 0 LAST", Command::Bdat(Chunk { octets: 0, place: ChunkPlace::Last })),
        ("bdat 86 last", Command::Bdat(Chunk { octets: 86, place: ChunkPlace::Last })),
        ("BDAT 123456789", Command::Bdat(Chunk { octets: 123_456_789, place: ChunkPlace::Inner })),
    ] {
        assert_eq!(ascii(line), Ok(command), "{line}");
    }
    let mail = mail_of("mail from:<a@B.NL> size=99 body=8bitmime RET=hdrs ENVID=a+2Bb+20c SMTPUTF8");
    assert_eq!(mail.sender.to_string(), "a@b.nl");
    assert_eq!((mail.size, mail.body, mail.smtputf8), (Some(99), BodyType::EightBitMime, true));
    assert_eq!((mail.ret, mail.envid.as_deref()), (Some(Ret::Headers), Some("a+b c")));
    assert_eq!(mail_of("MAIL FROM:<>").sender, ReversePath::Null);
    assert_eq!(mail_of("MAIL FROM:<> SIZE=99999999999999999999").size, Some(u64::MAX));
    let rcpt = rcpt_of("RCPT TO:<\"a>b c\"@b.nl> NOTIFY=success,DELAY ORCPT=rfc822;x+2By@b.nl");
    assert_eq!(rcpt.address.to_string(), "\"a>b c\"@b.nl");
    assert_eq!(rcpt.notify, Some(Notify { success: true, failure: false, delay: true }));
    assert_eq!(rcpt.orcpt.as_deref(), Some("rfc822;x+y@b.nl"));
    assert_eq!(rcpt_of("RCPT TO:<a@b.nl> NOTIFY=NEVER").notify, Some(Notify::NEVER));
}

/// Proves: -SMTP-010
#[test]
fn each_refusal_has_the_code_of_its_part() {
    for (line, expected) in [
        ("MAIL FROM:a@b.nl", (501, (5, 1, 7))),
        ("MAIL FROM:<a@b.nl", (501, (5, 1, 7))),
        ("MAIL FROM:<a@b.nl>SIZE=1", (501, (5, 1, 7))),
        ("MAIL FROM: <a@b.nl>", (501, (5, 1, 7))),
        ("MAIL FROM:<a>", (501, (5, 1, 7))),
        ("MAIL FROM:<a@b.nl.>", (501, (5, 1, 7))),
        ("MAIL FROM:<a@[127.0.0.1]>", (501, (5, 1, 7))),
        ("MAIL FROM:<@x.nl:a@b.nl>", (501, (5, 1, 7))),
        ("RCPT TO:<>", (501, (5, 1, 3))),
        ("RCPT TO:<a..b@b.nl>", (501, (5, 1, 3))),
        ("RCPT TO:<a@b.nl><c@d.nl>", (501, (5, 1, 3))),
        ("RCPT TO:<\"a>@b.nl", (501, (5, 1, 3))),
        ("MAIL", (501, (5, 5, 4))),
        ("MAIL FROM", (501, (5, 5, 4))),
        ("MAIL TO:<a@b.nl>", (501, (5, 5, 4))),
        ("RCPT FROM:<a@b.nl>", (501, (5, 5, 4))),
        ("EHLO", (501, (5, 5, 4))),
        ("EHLO a b", (501, (5, 5, 4))),
        ("EHLO <script>", (501, (5, 5, 4))),
        ("DATA now", (501, (5, 5, 4))),
        ("RSET x", (501, (5, 5, 4))),
        ("QUIT x", (501, (5, 5, 4))),
        ("STARTTLS x", (501, (5, 5, 4))),
        ("BDAT", (501, (5, 5, 4))),
        ("BDAT x", (501, (5, 5, 4))),
        ("BDAT -1", (501, (5, 5, 4))),
        ("BDAT +1", (501, (5, 5, 4))),
        ("BDAT 1 2", (501, (5, 5, 4))),
        ("BDAT 99999999999999999999", (501, (5, 5, 4))),
        ("MAIL FROM:<> SIZE=x", (501, (5, 5, 4))),
        ("MAIL FROM:<> SIZE", (501, (5, 5, 4))),
        ("MAIL FROM:<> SIZE=1 size=2", (501, (5, 5, 4))),
        ("MAIL FROM:<> BODY=9BIT", (501, (5, 5, 4))),
        ("MAIL FROM:<> SMTPUTF8=1", (501, (5, 5, 4))),
        ("MAIL FROM:<> RET=SOME", (501, (5, 5, 4))),
        ("RCPT TO:<a@b.nl> NOTIFY=NEVER,DELAY", (501, (5, 5, 4))),
        ("RCPT TO:<a@b.nl> NOTIFY=DELAY,DELAY", (501, (5, 5, 4))),
        ("RCPT TO:<a@b.nl> NOTIFY=", (501, (5, 5, 4))),
        ("RCPT TO:<a@b.nl> ORCPT=rfc822", (501, (5, 5, 4))),
        ("RCPT TO:<a@b.nl> ORCPT=;x", (501, (5, 5, 4))),
        ("RCPT TO:<a@b.nl> ORCPT=rfc822;", (501, (5, 5, 4))),
        ("MAIL FROM:<> BODY=BINARYMIME", (555, (5, 5, 4))),
        ("MAIL FROM:<> AUTH=<>", (555, (5, 5, 4))),
        ("MAIL FROM:<> REQUIRETLS", (555, (5, 5, 4))),
        ("MAIL FROM:<> NOTIFY=NEVER", (555, (5, 5, 4))),
        ("RCPT TO:<a@b.nl> SIZE=1", (555, (5, 5, 4))),
        ("MAIL FROM:<jörg@b.nl>", (553, (5, 6, 7))),
        ("RCPT TO:<a@zörg.nl>", (553, (5, 6, 7))),
        ("XCLIENT ADDR=1.2.3.4", (500, (5, 5, 1))),
        ("", (500, (5, 5, 1))),
        (" MAIL FROM:<>", (500, (5, 5, 1))),
        ("MAIL\tFROM:<>", (500, (5, 5, 2))),
    ] {
        assert_eq!(code(line), expected, "{line:?}");
    }
}

/// Proves: -SMTP-010
#[test]
fn t05_no_control_character_gets_in_by_any_spelling() {
    for line in [
        "MAIL FROM:<> ENVID=a+00",
        "MAIL FROM:<> ENVID=a+0D+0ARCPT",
        "MAIL FROM:<> ENVID=+7F",
        "MAIL FROM:<> ENVID=+80",
        "MAIL FROM:<> ENVID=+0d",
        "MAIL FROM:<> ENVID=+2b",
        "MAIL FROM:<> ENVID=a=b",
        "MAIL FROM:<> ENVID=+4",
        "MAIL FROM:<> ENVID=",
        "RCPT TO:<a@b.nl> ORCPT=rfc822;a+0Ab",
        "RCPT TO:<a@b.nl> ORCPT=rf+0Ac;a",
        "RCPT TO:<a@b.nl> ORCPT=utf-8;jörg@b.nl",
    ] {
        assert_eq!(code(line), (501, (5, 5, 4)), "{line:?}");
    }
    let too_long = |octets: usize| ascii(&format!("MAIL FROM:<> ENVID={}", "+41".repeat(octets)));
    assert!(too_long(100).is_ok() && too_long(101).is_err());
    for line in [
        &b"EHLO a\x1bb"[..],
        b"MAIL FROM:<a\x01@b.nl>",
        b"MAIL FROM:<\"\x7f\"@b.nl>",
        b"NOOP \xff",
        b"NOOP \xc2\x85",
    ] {
        assert_eq!(parse(line, Spelling::Utf8), Err(CommandError::Octets), "{line:?}");
    }
}

#[test]
fn utf8_addresses_where_the_transaction_has_smtputf8() {
    assert_eq!(rcpt_of("RCPT TO:<jörg@zörg.nl>").address.to_string(), "jörg@xn--zrg-sna.nl");
    assert_eq!(mail_of("MAIL FROM:<jörg@b.nl> SMTPUTF8").sender.to_string(), "jörg@b.nl");
    let orcpt = |text: &str| rcpt_of(&format!("RCPT TO:<a@b.nl> ORCPT={text}")).orcpt.unwrap();
    assert_eq!(orcpt("utf-8;jörg@b.nl"), "utf-8;jörg@b.nl");
    assert_eq!(orcpt("utf-8;j\\x{F6}rg@b.nl"), "utf-8;j\\x{F6}rg@b.nl");
    assert!(parse("RCPT TO:<a@b.nl> ORCPT=rfc822;jörg@b.nl".as_bytes(), Spelling::Utf8).is_err());
}

/// Proves: -SMTP-025 +SMTP-025
#[test]
fn t12_openers_of_other_protocols_are_told_apart() {
    for line in [
        "GET / HTTP/1.1",
        "get /",
        "POST /upload HTTP/1.1",
        "PRI * HTTP/2.0",
        "CONNECT a:25 HTTP/1.1",
        "BREW / HTTP/1.0",
        "------boundary",
        "{\"a\":1}",
        "1 LOGIN a b",
        "\"MAIL\"",
    ] {
        let error = ascii(line).unwrap_err();
        assert_eq!((error, error.aftermath()), (CommandError::ForeignProtocol, Aftermath::Close), "{line}");
        assert_eq!(error.reply().code(), 421);
    }
    for line in ["NOOP HTTP/1.1", "NOOP GET / HTTP/1.1", "HELP POST", "EHLO get"] {
        assert!(ascii(line).is_ok(), "{line}");
    }
    assert_eq!(ascii("BDAT x").unwrap_err().aftermath(), Aftermath::Close);
    assert_eq!(ascii("USER a").unwrap_err().aftermath(), Aftermath::GoOn);
}

/// What we take, the general parser takes too, and it sees the same address.
#[test]
fn the_general_parser_agrees_on_what_we_accept() {
    use smtp_proto::Request;
    for line in [
        "MAIL FROM:<a@b.nl> SIZE=5 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x",
        "MAIL FROM:<>",
        "RCPT TO:<jan.de.vries@b.nl> NOTIFY=FAILURE ORCPT=rfc822;a@b.nl",
        "BDAT 7 LAST",
        "EHLO a.nl",
        "DATA",
        "STARTTLS",
    ] {
        let wire = format!("{line}\r\n");
        let theirs = Request::parse(&mut wire.as_bytes().iter()).unwrap();
        let ours = ascii(line).unwrap();
        let same = match (&ours, &theirs) {
            (Command::Mail(ours), Request::Mail { from }) => ours.sender.to_string() == from.address,
            (Command::Rcpt(ours), Request::Rcpt { to }) => ours.address.to_string() == to.address,
            (Command::Bdat(ours), Request::Bdat { chunk_size, is_last }) => {
                ours.octets == *chunk_size as u64 && (ours.place == ChunkPlace::Last) == *is_last
            }
            (Command::Ehlo(ours), Request::Ehlo { host }) => ours.as_str() == host.as_ref(),
            (Command::Data, Request::Data) | (Command::StartTls, Request::StartTls) => true,
            _ => false,
        };
        assert!(same, "{line}: {ours:?} / {theirs:?}");
    }
}

proptest! {
    #[test]
    fn t05_whatever_parses_is_clean(
        line in "(MAIL FROM:|RCPT TO:|EHLO |BDAT |)<?[\\PC\\x00-\\x7f]{0,20}(@[a-z.]{1,10})?>?( (SIZE|ENVID|ORCPT|NOTIFY|BODY|RET)=[+;a-zA-Z0-9é\\x00-\\x20]{0,12}){0,3}"
    ) {
        fuzz(line.as_bytes());
    }

    #[test]
    fn t05_xtext_round_trips(text in "[ -~]{1,100}") {
        let encoded = encode_xtext(&text);
        prop_assert!(encoded.bytes().all(|octet| matches!(octet, b'!'..=b'~') && octet != b'='));
        prop_assert_eq!(decode_xtext(&encoded, 100).unwrap(), text);
    }
}
