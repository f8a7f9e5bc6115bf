//! Letters with odd header sections: folding, case, order, repetition, 8-bit octets, obsolete forms, long lists.

use std::fmt::Write as _;

use super::{Case, Desk, Letter};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "folded-subject",
        about: "a field folded over many lines, with blanks at their ends",
        how: |desk| {
            desk.letter(format!(
                "Subject: folded{}\n\nx\n",
                "\n and goes on \n\tand on\n   and on".repeat(40)
            ))
        },
    },
    Case {
        name: "folded-before-value",
        about: "a field whose first line has no value",
        how: |desk| desk.letter("Subject:\n below\nX-Tab:\t\n\tbelow a tab\nX-Blank: \n  two blanks\n\nx\n"),
    },
    Case {
        name: "tabs",
        about: "tabs instead of blanks, before and in values",
        how: |desk| desk.letter("Subject:\ttab\tand\ttab\nX-None:none\nX-Many:   \t  many\n\nx\n"),
    },
    Case {
        name: "empty-values",
        about: "fields without a value",
        how: |desk| desk.letter("Subject:\nComments: \nKeywords:\t\nX-Empty:\nBcc:\n\nx\n"),
    },
    Case {
        name: "odd-capitals",
        about: "field names in any case",
        how: |desk| {
            desk.whole(format!(
                "FROM: {}\ntO: {}\nsUBJECT: capitals\ndate: Sun, 22 Nov 2026 12:00:00 +0100\nMESSAGE-id: <odd@x>\nmImE-vErSiOn: 1.0\n\
                 CONTENT-TYPE: TEXT/PLAIN; CHARSET=US-ASCII\n\nx\n",
                desk.alice(),
                desk.bob()
            ))
        },
    },
    Case {
        name: "odd-order",
        about: "From: last, MIME fields first",
        how: |desk| {
            desk.whole(format!(
                "Content-Type: text/plain\nMIME-Version: 1.0\nSubject: order\nX-A: 1\nTo: {}\nX-B: 2\nFrom: {}\n\nx\n",
                desk.bob(),
                desk.alice()
            ))
        },
    },
    Case {
        name: "repeated-fields",
        about: "fields that may be there more than once, and some that should not",
        how: |desk| {
            desk.letter(
                "Subject: one\nSubject: two\nComments: a\nComments: b\nComments: a\nKeywords: k\nKeywords: k\nX-Tag: 1\nx-tag: 1\n\
                 To: <third@b.nl>\nCc: <a@b.nl>\nCc: <b@b.nl>\n\nx\n",
            )
        },
    },
    Case {
        name: "odd-names",
        about: "field names of every printable character",
        how: |desk| {
            desk.letter("X-!#$%&'*+-./;<=>?@[\\]^_`{|}~: odd\n1: digit\n_: underscore\nX: short\n\nx\n")
        },
    },
    Case {
        name: "blank-before-colon",
        about: "blanks between name and colon (RFC 5322 section 4.5)",
        how: |desk| desk.letter("Subject : old\nX-Old\t: old too\nComments  :\n\nx\n"),
    },
    Case {
        name: "header-line-of-998",
        about: "fields of the longest line, also in a fold",
        how: |desk| {
            let (first, fold) = ("s".repeat(998 - "Subject: ".len()), "f".repeat(997));
            desk.letter(format!("Subject: {first}\nX-Fold: x\n {fold}\n\nx\n"))
        },
    },
    Case {
        name: "many-fields",
        about: "hundreds of fields",
        how: |desk| {
            let mut rest = String::new();
            for number in 0..800 {
                // Writing to a String does not fail.
                let _ = writeln!(rest, "X-Field-{number}: {number}");
            }
            desk.letter(rest + "\nx\n")
        },
    },
    Case {
        name: "large-header",
        about: "a header section of more than 200 KiB",
        how: |desk| {
            desk.letter(format!("X-Large: large\n{}\nx\n", format!(" {}\n", "l".repeat(900)).repeat(235)))
        },
    },
    Case {
        name: "received-many",
        about: "as many trace fields as a long way leaves, below the limit",
        how: received,
    },
    Case {
        name: "encoded-words",
        about: "encoded words of several charsets, folded, with a character cut in two, and ones that are none",
        how: |desk| {
            desk.letter(
                "Subject: =?utf-8?Q?pati=C3=ABnt?= =?UTF-8?B?4oKs?=\n =?iso-8859-1?q?caf=E9?=\n\t=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=\n \
                 =?koi8-r?B?8NLJ18XU?= =?gb18030?B?xOO6ww==?= =?windows-1252?Q?=80_10?=\n\
                 Comments: =?utf-8?B?4oI=?= =?utf-8?B?rA==?= =?utf-8*nl?Q?taal?= =?x?y?z?= =?utf-8?Q?not closed\n\
                 X-Name: =?us-ascii?Q?=0D=0AX-Evil:_yes?=\n\nx\n",
            )
        },
    },
    Case {
        name: "encoded-names",
        about: "encoded words in the names of people",
        how: |desk| {
            desk.whole(format!(
                "From: =?utf-8?Q?Ali=C3=A7e?= =?utf-8?Q?_de_Vri=C3=ABs?= <{}>\nTo: \"=?utf-8?Q?no_word?=\" <{}>,\n =?iso-8859-1?Q?Ren=E9?= <rene@b.nl>\n\nx\n",
                desk.alice(),
                desk.bob()
            ))
        },
    },
    Case {
        name: "raw-8-bit-subject",
        about: "octets above 127 in fields, in no charset that is named",
        how: |desk| desk.letter(b"Subject: caf\xE9 \xFF\xFE\nX-Latin: na\xEFve\nX-Utf8: \xE2\x82\xAC\n\nx\n"),
    },
    Case {
        name: "references-long",
        about: "a thread of two hundred messages",
        how: |desk| {
            let mut rest = "References:".to_owned();
            for number in 0..200 {
                // Writing to a String does not fail.
                let _ = write!(rest, "\n <{number}.{}@a-rather-long-name-of-a-host.a.nl>", "r".repeat(40));
            }
            desk.letter(rest + "\nIn-Reply-To: <199.x@a.nl> <198.x@a.nl>\nSubject: Re: Re: Antw: Re:\n\nx\n")
        },
    },
    Case {
        name: "comments",
        about: "comments in fields, nested, quoted, folded",
        how: |desk| {
            desk.whole(format!(
                "From: (a (nested) \\) comment) {} (Alice)\nTo: Bob (the \"first\") <{}> (he)\n\
                 Date: Sun (zondag), 22 (two\n (and) twenty) Nov 2026 12:00:00 +0100 (CET)\nMessage-ID: <comments@a.nl> (mine)\n\
                 MIME-Version: 1.0 (by hand)\nContent-Type: text/plain (really) ; charset=us-ascii (plain)\n\nx\n",
                desk.alice(),
                desk.bob()
            ))
        },
    },
    Case {
        name: "groups",
        about: "groups in To: and Cc:, with and without members",
        how: |desk| {
            desk.whole(format!(
                "From: {}\nTo: undisclosed-recipients:;\nCc: Huisartsen: Anna <anna@b.nl>, bob@b.nl;, \"De (B)\": ;\nSubject: groups\n\nx\n",
                desk.alice()
            ))
        },
    },
    Case {
        name: "obsolete-dates",
        about: "dates of former times: two digits, names of zones, blanks around colons",
        how: |desk| {
            desk.whole(format!(
                "From: {}\nTo: {}\nDate: 22 Nov 26 12 : 00 : 00 EST\nResent-Date: Sun, 1 Jan 70 00:00 Z\nX-Date: Thu, 31 Feb 2026 25:61:61 -9999\n\nx\n",
                desk.alice(),
                desk.bob()
            ))
        },
    },
    Case {
        name: "no-date-no-id",
        about: "neither Date: nor Message-ID:; nobody on the way may add them",
        how: |desk| desk.whole(format!("From: {}\nTo: {}\n\nx\n", desk.alice(), desk.bob())),
    },
    Case {
        name: "from-only",
        about: "a header section of one field",
        how: |desk| {
            desk.whole(format!(
                "From: {}\n\nthe recipient is {} in the envelope only\n",
                desk.alice(),
                desk.bob()
            ))
        },
    },
    Case {
        name: "two-message-ids",
        about: "two Message-ID fields, and one that is no id",
        how: |desk| desk.letter("Message-ID: <second@a.nl>\nMessage-ID: no id at all\n\nx\n"),
    },
    Case {
        name: "sender-and-from",
        about: "several authors and the one who sent it",
        how: |desk| {
            let (domain, bob) = (&desk.parties.sender, desk.bob());
            desk.whole(format!(
                "From: Alice <alice@{domain}>, \"Carol, MD\" <carol@{domain}>,\n dave@{domain}\nSender: Secretary <secretary@{domain}>\n\
                 Reply-To: <alice@{domain}>, practice: carol@{domain};\nTo: {bob}\nSubject: authors\n\nx\n"
            ))
        },
    },
    Case {
        name: "functional-mailbox",
        about: "a mailbox of an organisation, with capitals and a name that must be quoted",
        how: |desk| {
            let domain = desk.parties.sender.to_uppercase();
            desk.whole(format!(
                "From: \"Huisartsenpost Noord (24/7); spoed: 112, afd. <A>\" <HAP.Noord+spoed@{domain}>\nTo: {}\nPriority: urgent\nImportance: High\n\
                 X-Priority: 1 (Highest)\nSensitivity: Company-Confidential\n\nx\n",
                desk.bob()
            ))
            .from(format!("HAP.Noord+bounce@{}", desk.parties.sender))
        },
    },
    Case {
        name: "addressees-many",
        about: "five hundred addresses in To:",
        how: |desk| {
            let mut rest = format!("From: {}\nTo: {}", desk.alice(), desk.bob());
            for number in 0..500 {
                // Writing to a String does not fail.
                let _ = write!(rest, ",\n \"Person {number}\" <person-{number}@b.nl>");
            }
            desk.whole(rest + "\nSubject: many\n\nx\n")
        },
    },
    Case {
        name: "resent",
        about: "resent twice: blocks of fields whose order matters",
        how: |desk| {
            let block = "Resent-From: <alice@a.nl>\nResent-To: <bob@b.nl>\nResent-Date: Sun, 22 Nov 2026 12:00:00 +0100\nResent-Message-ID: <r@a.nl>\n";
            desk.whole(format!("{block}{block}{}Subject: resent\n\nx\n", desk.head()))
        },
    },
    Case {
        name: "delivered-before",
        about: "fields of an earlier delivery: Return-Path, Delivered-To, Envelope-To, X-Original-To",
        how: |desk| {
            desk.whole(format!(
                "Return-Path: <>\nDelivered-To: somebody@else.example\nX-Original-To: x@else.example\n{}Envelope-To: bob@b.nl\nStatus: RO\nX-UID: 7\nLines: 1\nContent-Length: 99\n\nx\n",
                desk.head()
            ))
        },
    },
    Case {
        name: "results-of-others",
        about: "verdicts of other hosts, which are theirs and stay",
        how: |desk| {
            desk.whole(format!(
                "Authentication-Results: mx.elsewhere.example; spf=pass smtp.mailfrom=x;\n\tdkim=fail (bad) header.d=y\nAuthentication-Results: nta.b.nl.elsewhere.example; none\n\
                 ARC-Authentication-Results: i=1; nta.b.nl; dmarc=pass\nReceived-SPF: pass (x) client-ip=192.0.2.1;\nX-Spam-Status: No, score=-1.0\n{}\nx\n",
                desk.head()
            ))
        },
    },
    Case {
        name: "signed-by-domain",
        about: "signatures over header and body: DKIM with odd folds, ARC",
        how: |desk| {
            desk.whole(format!(
                "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=a.nl;\n\ts=2026; h=From : To\n :Subject:Date;  bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\n  b=AAAA\n  BBBB\t\n \tCC==\n\
                 ARC-Seal: i=1; a=rsa-sha256; cv=none; d=a.nl; s=2026;\n b=A/B+C==\n{}Subject: signed \n\nx  \n\n\n",
                desk.head()
            ))
        },
    },
    Case {
        name: "list",
        about: "fields of a mailing list",
        how: |desk| {
            desk.letter(
                "List-Id: \"A list\" <list.a.nl>\nList-Unsubscribe: <https://a.nl/?a=b&c=%20>,\n <mailto:u@a.nl?subject=x>\n\
                 List-Unsubscribe-Post: List-Unsubscribe=One-Click\nPrecedence: bulk\nErrors-To: <e@a.nl>\n\nx\n",
            )
        },
    },
    Case {
        name: "asks-for-receipts",
        about: "requests and promises to other programs, which travel on",
        how: |desk| {
            desk.letter(
                "Disposition-Notification-To: <alice@a.nl>\nReturn-Receipt-To: <alice@a.nl>\nAuto-Submitted: auto-replied\nTLS-Required: no\n\
                 X-Auto-Response-Suppress: All\nRequire-Recipient-Valid-Since: bob@b.nl; Sat, 1 Jun 2013 09:23:01 -0700\nMT-Priority: 3\n\nx\n",
            )
        },
    },
];

fn received(desk: &Desk<'_>) -> Letter {
    let mut trace = String::new();
    for hop in 0..90 {
        let folded = if hop % 2 == 0 { "\n\t" } else { " " };
        // Writing to a String does not fail.
        let _ = writeln!(
            trace,
            "Received: from h{hop}.a.nl ([192.0.2.{hop}]) by h{}.a.nl{folded}(Postfix) with ESMTPS id {hop:X};\n Sun, 22 Nov 2026 12:00:00 +0100",
            hop + 1
        );
    }
    desk.whole(format!("{trace}{}Subject: a long way\n\nx\n", desk.head()))
}
