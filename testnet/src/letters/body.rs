//! Letters whose bodies are easily damaged: dots, blanks, line ends, octets above 127, words that look like commands.

use std::fmt::Write as _;

use super::{Case, Desk, Letter};

pub(super) const CASES: &[Case] = &[
    Case { name: "plain", about: "nothing odd at all", how: |desk| desk.letter("Subject: plain\n\nhello\n") },
    Case {
        name: "empty-body",
        about: "an empty line ends the header, and nothing follows",
        how: |desk| desk.letter("Subject: empty body\n\n"),
    },
    Case {
        name: "no-body",
        about: "no empty line: all of it is header (RFC 5322 section 3.5)",
        how: |desk| desk.letter("Subject: no body at all\n"),
    },
    Case {
        name: "empty-lines-only",
        about: "a body of empty lines",
        how: |desk| desk.letter("Subject: lines\n\n\n\n\n\n"),
    },
    Case { name: "one-dot", about: "a body that is one dot", how: |desk| desk.letter("Subject: dot\n\n.\n") },
    Case {
        name: "dots",
        about: "dots at line starts, one to many, with and without company",
        how: |desk| {
            desk.letter("Subject: dots\n\n.\n..\n...\n....\n.\n.x\n..x\nx.\n. \n.\t\n. .\n ..\n\n.\n\n..\n")
        },
    },
    Case {
        name: "dot-after-empty-line",
        about: "what looks like the end of content, again and again",
        how: |desk| desk.letter("Subject: almost the end\n\nx\n\n.\n\n.\n\n.\nx\n"),
    },
    Case {
        name: "dot-at-the-end",
        about: "the last line is a dot",
        how: |desk| desk.letter("Subject: the end is a dot\n\nthe end\n.\n"),
    },
    Case {
        name: "dot-first-in-header",
        about: "a dot at the start of a folded field cannot be, but one after the fold can",
        how: |desk| desk.letter("Subject: folded\n .before a dot\n\t..and two\n\nx\n"),
    },
    Case {
        name: "dots-by-the-thousand",
        about: "so many doubled dots that pieces of the stream end at each of their places",
        how: |desk| desk.letter(format!("Subject: dots\n\n{}", ".\n..\n.x\n".repeat(12_000))),
    },
    Case {
        name: "blanks-at-line-ends",
        about: "blanks and tabs at the ends of lines, and lines of nothing else",
        how: |desk| {
            desk.letter(
                "Subject: blanks  \n\nline \ntab\t\n \n\t\n  \t \nsignature follows\n-- \nAlice\n   \n",
            )
        },
    },
    Case {
        name: "blanks-at-line-starts",
        about: "a body that looks folded",
        how: |desk| desk.letter("Subject: blanks\n\n one\n\ttwo\n   three\n"),
    },
    Case {
        name: "commands",
        about: "lines that are commands elsewhere",
        how: |desk| {
            desk.letter(
                "Subject: DATA\n\nDATA\nQUIT\nRSET\nNOOP\nEHLO evil.example\nSTARTTLS\nMAIL FROM:<a@a.nl>\nRCPT TO:<b@b.nl>\n\
                 BDAT 5 LAST\nhello\nGET / HTTP/1.1\nHost: b.nl\n250 ok\n354 go\n550 5.7.1 no\nLHLO x\n",
            )
        },
    },
    Case {
        name: "mbox-lines",
        about: "lines that begin as those between messages in a mailbox file",
        how: |desk| {
            desk.letter("Subject: mbox\n\nFrom alice@a.nl Sun Nov 22 12:00:00 2026\n>From the start\n\nFrom here\n>>From\n")
        },
    },
    Case {
        name: "header-in-body",
        about: "a body that begins like a header",
        how: |desk| {
            desk.letter("Subject: header\n\nReceived: by nobody\nFrom: somebody else\nReturn-Path: <>\n\nx\n")
        },
    },
    Case {
        name: "line-of-998",
        about: "the longest line there may be, in the body",
        how: |desk| {
            desk.letter(format!("Subject: long\n\n{}\nshort\n{}\n", "x".repeat(998), "y".repeat(998)))
        },
    },
    Case {
        name: "line-of-998-after-a-dot",
        about: "the longest line, with a dot that is doubled on the way",
        how: |desk| desk.letter(format!("Subject: long\n\n.{}\n", "x".repeat(997))),
    },
    Case {
        name: "line-of-998-utf8",
        about: "the longest line, of characters of two octets",
        how: |desk| desk.letter(format!("Subject: long\n\n{}\n", "\u{e9}".repeat(499))),
    },
    Case {
        name: "no-last-line-end",
        about: "a last line without CRLF, which only BDAT can bring",
        how: |desk| desk.letter("Subject: no end\n\nthe last line").in_chunks_of(4_096),
    },
    Case {
        name: "base64-without-line-end",
        about: "a base64 body without CRLF at its end",
        how: |desk| {
            desk.letter("Subject: base64\nMIME-Version: 1.0\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\nSGVsbG8sIHdvcmxkIQ==")
                .in_chunks_of(64)
        },
    },
    Case {
        name: "no-body-no-line-end",
        about: "a header without an empty line and without the CRLF of its last field",
        how: |desk| desk.letter("Subject: cut off").in_chunks_of(4_096),
    },
    Case {
        name: "latin-1",
        about: "every octet above 127 in a text that is not UTF-8",
        how: |desk| {
            let octets: Vec<u8> = (0x80..=0xFF).collect();
            let head = "Subject: latin-1\nMIME-Version: 1.0\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\n";
            desk.letter([head.as_bytes(), &octets, b"\n"].concat())
        },
    },
    Case {
        name: "utf8",
        about: "UTF-8 of one to four octets, combining characters and a byte order mark",
        how: |desk| {
            desk.letter("Subject: utf-8\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n\
                \u{feff}pati\u{eb}nt \u{20ac} 10 \u{1f512} e\u{301} \u{202e}left\u{2028}line\u{85}\n")
        },
    },
    Case {
        name: "wrong-charset",
        about: "octets that are no text in the charset they claim",
        how: |desk| {
            let head = "Subject: not utf-8\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n";
            desk.letter([head.as_bytes(), b"\xC3\x28 \xA0\xA1 \xE2\x82 \xF0\x9F\x94 \xFF\xFE\n"].concat())
        },
    },
    Case {
        name: "control-characters",
        about: "every control character that may be: all but NUL, CR and LF",
        how: controls,
    },
    Case {
        name: "quoted-printable",
        about: "soft breaks, encoded blanks at line ends, an encoded dot",
        how: |desk| {
            desk.letter("Subject: qp\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n\
                a line that is=\n broken softly=\n.\n=2E\ntrailing=20\ntab=09\n=E2=82=AC=3D=\n\nend=\n")
        },
    },
    Case {
        name: "base64-in-odd-lines",
        about: "base64 in lines of other lengths than usual, with blanks",
        how: |desk| {
            desk.letter("Subject: base64\nMIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n\
                SGVs\nbG8g \n\nd29ybGQ=\n====\n")
        },
    },
    Case {
        name: "flowed",
        about: "format=flowed: the blank at the end of a line has a meaning",
        how: flowed,
    },
    Case {
        name: "uuencoded",
        about: "an encoding whose lines begin with any printable character, the dot included",
        how: |desk| desk.letter("Subject: uu\n\nbegin 644 a.txt\n.:&5L;&\\L('=O<FQD\n#0V%T\n`\nend\n"),
    },
];

fn controls(desk: &Desk<'_>) -> Letter {
    let all: Vec<u8> = (1..=0x1F).chain([0x7F]).filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
    desk.letter([b"Subject: controls\n\n", &all[..], b"\n\x1A\n\x0C\n\x1B[2J\x1B]0;title\x07\n"].concat())
}

fn flowed(desk: &Desk<'_>) -> Letter {
    let mut text =
        "Subject: flowed\nMIME-Version: 1.0\nContent-Type: text/plain; format=flowed; delsp=yes\n\n"
            .to_owned();
    for number in 1..=20 {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} paragraph {number} goes on ", ">".repeat(number % 4));
    }
    desk.letter(text + " stuffed\n From\n")
}
