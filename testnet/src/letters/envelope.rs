//! Letters whose envelopes are odd: addresses of every spelling, UTF-8, several recipients, parameters.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "utf8-recipient",
        about: "SMTPUTF8: a recipient in Greek letters",
        how: |desk| {
            let bob = desk.at_recipient("\u{3c8}\u{3b7}\u{3c6}\u{3b9}\u{3b1}\u{3ba}\u{3cc}");
            desk.letter(format!("Cc: <{bob}>\nSubject: greek\n\nx\n")).to([bob]).parameters(&["SMTPUTF8"])
        },
    },
    Case {
        name: "utf8-sender",
        about: "SMTPUTF8: a sender with an accent, in envelope and From:",
        how: |desk| {
            let alice = format!("j\u{fc}rgen@{}", desk.parties.sender);
            desk.whole(format!(
                "From: J\u{fc}rgen <{alice}>\nTo: <{}>\nSubject: gr\u{fc}n\n\nx\n",
                desk.bob()
            ))
            .from(alice)
            .parameters(&["SMTPUTF8"])
        },
    },
    Case {
        name: "utf8-header",
        about: "SMTPUTF8 for the header alone: names, subject, file names in UTF-8",
        how: |desk| {
            desk.whole(format!(
                "From: \"\u{c1}lice, arts\" <{}>\nTo: B\u{f6}b <{}>\nSubject: \u{1f512} \u{5e9}\u{5dc}\u{5d5}\u{5dd}\n \u{4f60}\u{597d}\nMIME-Version: 1.0\n\
                 Content-Type: text/plain; charset=utf-8; name=\"na\u{ef}ef.txt\"\nContent-Transfer-Encoding: 8bit\n\n\u{e9}\n",
                desk.alice(),
                desk.bob()
            ))
            .parameters(&["SMTPUTF8"])
        },
    },
    Case {
        name: "utf8-for-nothing",
        about: "SMTPUTF8 is said, and nothing needs it",
        how: |desk| desk.letter("Subject: ascii\n\nx\n").parameters(&["SMTPUTF8"]),
    },
    Case {
        name: "three-recipients",
        about: "several recipients: each gets it, in one piece",
        how: |desk| {
            let more =
                ["three-recipients-carol", "three-recipients-dave"].map(|local| desk.at_recipient(local));
            desk.letter("Subject: three\n\nx\n").to([desk.bob()].into_iter().chain(more))
        },
    },
    Case {
        name: "a-hundred-recipients",
        about: "as many recipients as every server must take",
        how: |desk| {
            let more = (1..100).map(|number| desk.at_recipient(&format!("recipient-{number}")));
            desk.letter("Subject: a hundred\n\nx\n").to([desk.bob()].into_iter().chain(more))
        },
    },
    Case {
        name: "quoted-local-part",
        about: "a local part with blanks, an at sign and a closing bracket, in quotes",
        how: |desk| desk.letter("Subject: quoted\n\nx\n").to([desk.at_recipient("\"bob @> smith\"")]),
    },
    Case {
        name: "special-local-part",
        about: "every character a local part may have without quotes",
        how: |desk| {
            desk.letter("Subject: special\n\nx\n").to([desk.at_recipient("o'brien+tag!#$%&*-/=?^_`{|}~.x")])
        },
    },
    Case {
        name: "capitals-in-local-part",
        about: "capitals in a local part, which only its own domain may fold",
        how: |desk| desk.letter("Subject: capitals\n\nx\n").to([desk.at_recipient("Bob.SMITH")]),
    },
    Case {
        name: "local-part-of-64",
        about: "the longest local part",
        how: |desk| desk.letter("Subject: long\n\nx\n").to([desk.at_recipient(&"l".repeat(64))]),
    },
    Case {
        name: "body-8bitmime-for-ascii",
        about: "BODY=8BITMIME is said of plain ASCII",
        how: |desk| desk.letter("Subject: ascii\n\nx\n").parameters(&["BODY=8BITMIME"]),
    },
    Case {
        name: "body-7bit",
        about: "BODY=7BIT and SIZE are said",
        how: |desk| desk.letter("Subject: ascii\n\nx\n").parameters(&["BODY=7BIT", "SIZE=1000"]),
    },
    Case {
        name: "notify-never",
        about: "the sender wants no report at all",
        how: |desk| desk.letter("Subject: never\n\nx\n").rcpt_parameters(&["NOTIFY=NEVER"]),
    },
    Case {
        name: "notify-and-originals",
        about: "NOTIFY, ORCPT, ENVID and RET with characters in xtext",
        how: |desk| {
            desk.letter("Subject: dsn\n\nx\n")
                .parameters(&["RET=HDRS", "ENVID=QQ+2B314159+3D1"])
                .rcpt_parameters(&["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;Bob+2Btag@elsewhere.example"])
        },
    },
    Case {
        name: "null-sender",
        about: "a delivery report under the null sender",
        how: |desk| {
            desk.letter(
                "Subject: Undeliverable\nMIME-Version: 1.0\nAuto-Submitted: auto-replied\n\
                 Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\n\n--b\n\nNot delivered.\n--b\n\
                 Content-Type: message/delivery-status\n\nReporting-MTA: dns; a.nl\n\nFinal-Recipient: rfc822; x@a.nl\nAction: failed\n\
                 Status: 5.1.1\n\n--b--\n",
            )
            .from("")
        },
    },
];
