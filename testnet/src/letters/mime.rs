//! Letters with structure: multipart in all its kinds, signed, encrypted, reports, calendars, messages in messages.

use std::fmt::Write as _;

use super::{Case, Desk, Letter};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "mixed",
        about: "text and an attachment, with preamble and epilogue",
        how: |desk| {
            multipart(
                desk,
                "mixed; boundary=\"=_b\"",
                "This is MIME.\n\n--=_b\n\ntext\n--=_b\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=a.pdf\n\nJVBERi0xLjQK\n--=_b--\nepilogue\n\n",
            )
        },
    },
    Case {
        name: "alternative",
        about: "text and HTML, with 8-bit parts",
        how: |desk| {
            multipart(
                desk,
                "alternative; boundary=alt",
                "--alt\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nhallo \u{e9}\n\n--alt\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n<p style=\"x\">hallo&nbsp;\u{e9}</p>\n.\n--alt--\n",
            )
        },
    },
    Case {
        name: "related",
        about: "HTML with an image by its Content-ID",
        how: |desk| {
            multipart(
                desk,
                "related; type=\"text/html\"; start=\"<1@a>\"; boundary=\"r'()+_,-./:=?\"",
                "--r'()+_,-./:=?\nContent-Type: text/html\nContent-ID: <1@a>\n\n<img src=\"cid:2@a\">\n--r'()+_,-./:=?\nContent-Type: image/gif\nContent-ID: <2@a>\nContent-Transfer-Encoding: base64\n\nR0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs=\n--r'()+_,-./:=?--\n",
            )
        },
    },
    Case { name: "nested-deep", about: "parts in parts in parts, forty deep", how: nested },
    Case {
        name: "many-parts",
        about: "a thousand parts, empty ones among them",
        how: |desk| {
            let part = "--p\n\n--p\nContent-Type: text/plain\n\nx\n";
            multipart(desk, "mixed; boundary=p", &format!("{}--p--\n", part.repeat(500)))
        },
    },
    Case {
        name: "boundary-of-70",
        about: "the longest boundary, with blanks inside, and lines that look like it",
        how: |desk| {
            let boundary = format!("{} {}", "b".repeat(34), "c".repeat(35));
            multipart(
                desk,
                &format!("mixed; boundary=\"{boundary}\""),
                &format!(
                    "--{boundary}  \t\n\n--{}\n-- {boundary}\n--{boundary}x\n--{boundary}--\n",
                    &boundary[..69]
                ),
            )
        },
    },
    Case {
        name: "boundary-never-closed",
        about: "a multipart without its end, and one whose boundary never comes",
        how: |desk| {
            multipart(
                desk,
                "mixed; boundary=b",
                "--b\nContent-Type: multipart/mixed; boundary=never\n\nno part of it\n--b\n\nx\n",
            )
        },
    },
    Case {
        name: "signed-smime",
        about: "multipart/signed: blanks and 8-bit octets that the signature covers",
        how: |desk| {
            multipart(
                desk,
                "signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=\"s\"",
                "--s\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nsigned \u{e9}  \n\t\nFrom here\n.\n\n--s\nContent-Type: application/pkcs7-signature; name=\"smime.p7s\"\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=\"smime.p7s\"\n\nMIIGHgYJKoZIhvcNAQcCoIIGDzCCBgsCAQExDzANBglghkgBZQMEAgEFADALBgkq\nhkiG9w0BBwE=\n--s--\n",
            )
        },
    },
    Case {
        name: "signed-pgp",
        about: "multipart/signed with an OpenPGP signature; lines with dashes",
        how: |desk| {
            multipart(
                desk,
                "signed; micalg=pgp-sha512;\n protocol=\"application/pgp-signature\";\n boundary=\"pgp\"",
                "--pgp\nContent-Type: text/plain; format=flowed\n\n- dash\n-- \nAlice \n--pgp\nContent-Type: application/pgp-signature; name=\"OpenPGP_signature.asc\"\n\n-----BEGIN PGP SIGNATURE-----\n\niHUEARYKAB0WIQ\n=abcd\n-----END PGP SIGNATURE-----\n\n--pgp--\n",
            )
        },
    },
    Case {
        name: "encrypted-pgp",
        about: "multipart/encrypted",
        how: |desk| {
            multipart(
                desk,
                "encrypted; protocol=\"application/pgp-encrypted\"; boundary=e",
                "--e\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--e\nContent-Type: application/octet-stream\n\n-----BEGIN PGP MESSAGE-----\n\nhQEMA1234\n=wxyz\n-----END PGP MESSAGE-----\n--e--\n",
            )
        },
    },
    Case {
        name: "encrypted-smime",
        about: "an enveloped message without any text",
        how: |desk| {
            desk.letter(format!("MIME-Version: 1.0\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data;\n name=\"smime.p7m\"\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=\"smime.p7m\"\n\n{}", "MIAGCSqGSIb3DQEHA6CAMIACAQAxggHXMIIB0wIBADCBujCBpDELMAkGA1UEBhMC\n".repeat(300)))
        },
    },
    Case {
        name: "clear-signed",
        about: "an OpenPGP message in the text, whose dashes are escaped",
        how: |desk| {
            desk.letter("Subject: clear\n\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n- -- \n- From here\ntrailing  \n-----BEGIN PGP SIGNATURE-----\n\n=abcd\n-----END PGP SIGNATURE-----\n")
        },
    },
    Case {
        name: "message-in-message",
        about: "message/rfc822 with fields of its own, twice",
        how: |desk| {
            desk.letter("MIME-Version: 1.0\nContent-Type: message/rfc822\n\nReceived: by x\nFrom: <mallory@evil.example>\nSubject: inner\nMIME-Version: 1.0\nContent-Type: message/rfc822\n\nFrom: nobody\n\ninnermost\n")
        },
    },
    Case {
        name: "message-partial",
        about: "the second of three pieces of a message",
        how: |desk| {
            desk.letter("MIME-Version: 1.0\nContent-Type: message/partial; id=\"p@a.nl\"; number=2; total=3\n\nthe middle of it\n.\n")
        },
    },
    Case {
        name: "message-external",
        about: "message/external-body, whose phantom body is no message",
        how: |desk| {
            desk.letter("MIME-Version: 1.0\nContent-Type: message/external-body; access-type=URL;\n URL*0=\"https://a.nl/a-very-long-\";\n URL*1=\"address\"; size=1\n\nContent-Type: image/png\n\nTHIS IS NOT REALLY THE BODY!\n")
        },
    },
    Case {
        name: "digest",
        about: "multipart/digest: parts that are messages without saying so",
        how: |desk| {
            multipart(
                desk,
                "digest; boundary=d",
                "--d\n\nFrom: a@a.nl\nSubject: one\n\n1\n--d\n\nFrom: b@a.nl\n\n2\n\n--d--\n",
            )
        },
    },
    Case {
        name: "report",
        about: "a delivery status report sent by a person's program",
        how: |desk| {
            multipart(
                desk,
                "report; report-type=delivery-status; boundary=r",
                "--r\n\nNot delivered.\n--r\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x.example\nArrival-Date: Sun, 22 Nov 2026 12:00:00 +0100\n\nFinal-Recipient: rfc822; x@b.nl\nAction: failed\nStatus: 5.1.1\n\n--r\nContent-Type: text/rfc822-headers\n\nFrom: a\n\n--r--\n",
            )
        },
    },
    Case {
        name: "report-from-nobody",
        about: "a report under the null sender",
        how: |desk| {
            multipart(desk, "report; report-type=disposition-notification; boundary=r", "--r\n\nRead.\n--r\nContent-Type: message/disposition-notification\n\nFinal-Recipient: rfc822; alice@a.nl\nDisposition: manual-action/MDN-sent-manually; displayed\n\n--r--\n").from("")
        },
    },
    Case {
        name: "calendar",
        about: "an invitation; its lines are folded by a rule of their own",
        how: |desk| {
            desk.letter("Subject: invitation\nMIME-Version: 1.0\nContent-Type: text/calendar; method=REQUEST; charset=utf-8\nContent-Transfer-Encoding: 8bit\nContent-class: urn:content-classes:calendarmessage\n\nBEGIN:VCALENDAR\nVERSION:2.0\nBEGIN:VEVENT\nUID:1@a.nl\nSUMMARY:overleg pati\u{eb}nt\nDESCRIPTION:a long line that is folded in the mid\n dle of a word\\, with a comma\\nand a line\nEND:VEVENT\nEND:VCALENDAR\n")
        },
    },
    Case {
        name: "winmail-dat",
        about: "TNEF, as Exchange sends it",
        how: |desk| {
            multipart(
                desk,
                "mixed; boundary=\"_000_\"",
                "--_000_\n\ntext\n--_000_\nContent-Type: application/ms-tnef; name=\"winmail.dat\"\nContent-Transfer-Encoding: base64\nX-MS-Has-Attach: yes\n\neJ8+IgAAAQaQCAAEAAAAAAABAAEAAQeQBgAIAAAA5AQAAAAAAADoAAEIgAcAGAAA\n--_000_--\n",
            )
        },
    },
    Case {
        name: "names-of-files",
        about: "RFC 2231 parameters: continued, encoded, out of order, and the older ways",
        how: |desk| {
            let disposition =
                |parameters: &str| format!("--f\nContent-Disposition: attachment;\n {parameters}\n\nx\n");
            let parts: String = [
                "filename*=UTF-8''na%C3%AFef%20%E2%82%AC.txt",
                "filename*0*=iso-8859-1'nl'een%20;\n\tfilename*1=\" twee \";\n filename*2*=%e9",
                "filename*1=\"b\"; filename*0=\"a\"; filename=\"fallback\"",
                "filename=\"=?utf-8?B?w6kucGRm?=\"",
                "filename=\"quo\\\"ted;\\\\.txt\"; filename=twice; x",
                "filename=\"../../etc/passwd\"",
            ]
            .map(disposition)
            .concat();
            multipart(desk, "mixed; boundary=f", &format!("{parts}--f--\n"))
        },
    },
    Case {
        name: "odd-encodings",
        about: "encodings that nobody knows, and a composite part that claims one",
        how: |desk| {
            multipart(
                desk,
                "mixed; boundary=o",
                "--o\nContent-Transfer-Encoding: x-unknown\n\nx\n--o\nContent-Type: multipart/mixed; boundary=i\nContent-Transfer-Encoding: base64\n\n--i\n\nx\n--i--\n--o\nContent-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: base64\n\n//5oAGEAbABsAG8A\n--o\nContent-Type: ;;;\nContent-Disposition\n\nx\n--o--\n",
            )
        },
    },
    Case {
        name: "type-in-doubt",
        about: "no MIME-Version, two content types, a type that is none",
        how: |desk| {
            desk.letter("Content-Type: text/html\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\nMIME-Version: 2.0 (?)\n\n--b\n<b>x</b>\n")
        },
    },
    Case {
        name: "form-data",
        about: "what a browser or a fax gateway sends",
        how: |desk| {
            multipart(
                desk,
                "form-data; boundary=----WebKitFormBoundaryX",
                "------WebKitFormBoundaryX\nContent-Disposition: form-data; name=\"a\"\n\n1\n------WebKitFormBoundaryX--\n",
            )
        },
    },
    Case {
        name: "octets-in-a-part",
        about: "8-bit octets of an image in lines, as some programs send them",
        how: |desk| {
            let line: Vec<u8> = (1..=255_u8).filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
            let head = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: image/x-raw\nContent-Transfer-Encoding: 8bit\n\n";
            let lines = [&line[..], b"\n"].concat().repeat(300);
            desk.letter([head.as_bytes(), &lines, b"--b--\n"].concat())
        },
    },
];

fn multipart(desk: &Desk<'_>, kind: &str, body: &str) -> Letter {
    desk.letter(format!(
        "Subject: {}\nMIME-Version: 1.0\nContent-Type: multipart/{kind}\n\n{body}",
        desk.name
    ))
}

fn nested(desk: &Desk<'_>) -> Letter {
    const DEPTH: usize = 40;
    let mut body = String::new();
    // Writing to a String does not fail.
    for depth in 1..=DEPTH {
        let _ = write!(body, "--b{}\nContent-Type: multipart/mixed; boundary=b{depth}\n\n", depth - 1);
    }
    let _ = write!(body, "--b{DEPTH}\n\ninnermost\n");
    for depth in (0..=DEPTH).rev() {
        let _ = writeln!(body, "--b{depth}--");
    }
    multipart(desk, "mixed; boundary=b0", &body)
}
