//! `[environment]` and `[fallback]`: the borders with our own platform.

use std::net::SocketAddr;
use std::ops::Range;

use toml::Spanned;

use super::values::Check;
use crate::config::checked::{Binding, Endpoint, EndpointTls, HandOff, Recipients, RemoteAddress};
use crate::config::file;
use crate::transport::tls::Pins;

const ADDRESS_FORMS: &str = "write unix:/run/dovecot/lmtp, 127.0.0.1:24, or mail.example.nl:24 with `tls`";

/// `kind`
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lmtp,
    Smtp,
    Maildir,
}

/// `address` as it is written.
enum Address {
    Unix(std::path::PathBuf),
    Loopback(SocketAddr),
    Remote(RemoteAddress),
}

impl Check<'_, '_> {
    pub(super) fn environment(&mut self, written: Option<&Spanned<file::HandOff>>) -> Option<HandOff> {
        let Some(written) = written else {
            if !self.problems.mentions("environment") {
                let advice = "add [environment] with `kind` and `address`: where mail for your own domains is delivered";
                self.problems.add(None, "environment", "is missing", advice);
            }
            return None;
        };
        self.hand_off(written, "environment")
    }

    pub(super) fn hand_off(&mut self, entry: &Spanned<file::HandOff>, section: &str) -> Option<HandOff> {
        let (written, span) = (entry.get_ref(), entry.span());
        let key = |name: &str| format!("{section}.{name}");
        let kinds = [("lmtp", Kind::Lmtp), ("smtp", Kind::Smtp), ("maildir", Kind::Maildir)];
        self.need_in(span.clone(), &written.kind, &key("kind"), "write one of: lmtp, smtp, maildir")?;
        let kind = self.word(&written.kind, &key("kind"), &kinds, Kind::Lmtp)?;
        let recipients = self.recipients(written, kind, &key("recipients"));
        let binding = match kind {
            Kind::Maildir => self.maildir(entry, section),
            Kind::Lmtp => self.endpoint(entry, section).map(Binding::Lmtp),
            Kind::Smtp => self.endpoint(entry, section).map(Binding::Smtp),
        };
        Some(HandOff { binding: binding?, recipients: recipients? })
    }

    fn recipients(&mut self, written: &file::HandOff, kind: Kind, key: &str) -> Option<Recipients> {
        // A relay that only takes mail over can rarely tell; LMTP servers and directories can.
        let default = if kind == Kind::Smtp { Recipients::Accept } else { Recipients::Ask };
        self.word(
            &written.recipients,
            key,
            &[("ask", Recipients::Ask), ("accept", Recipients::Accept)],
            default,
        )
    }

    fn maildir(&mut self, entry: &Spanned<file::HandOff>, section: &str) -> Option<Binding> {
        let written = entry.get_ref();
        let useless = [
            ("address", written.address.as_ref().map(Spanned::span)),
            ("tls", written.tls.as_ref().map(Spanned::span)),
        ];
        for (name, span) in useless {
            if let Some(span) = span {
                let key = format!("{section}.{name}");
                self.problems.add(Some(span), key, "has no effect with kind = \"maildir\"", "remove it");
            }
        }
        let advice = "name the directory; mail goes to PATH/DOMAIN/LOCAL-PART";
        let path = self.need_in(entry.span(), &written.path, &format!("{section}.path"), advice)?;
        Some(Binding::Maildir(self.path(path)))
    }

    /// HAND-002: what leaves this machine is protected by TLS with a key or authority that we know.
    fn endpoint(&mut self, entry: &Spanned<file::HandOff>, section: &str) -> Option<Endpoint> {
        let written = entry.get_ref();
        if let Some(path) = &written.path {
            let what = "has no effect without kind = \"maildir\"";
            self.wrong(path, &format!("{section}.path"), what, "use `address`");
        }
        self.endpoint_at(entry.span(), &written.address, written.tls.as_ref(), section)
    }

    /// `address` and `tls` of the section at `span`.
    pub(super) fn endpoint_at(
        &mut self,
        span: Range<usize>,
        address: &file::Text,
        tls: Option<&Spanned<file::HandOffTls>>,
        section: &str,
    ) -> Option<Endpoint> {
        let key = format!("{section}.address");
        let text = self.need_in(span, address, &key, ADDRESS_FORMS)?;
        let address = self.hand_off_address(text, &key);
        let tls_span = tls.map(Spanned::span);
        let tls = match (tls, &address) {
            (Some(tls), Some(address)) => Some(self.endpoint_tls(tls, address, &format!("{section}.tls"))?),
            _ => None,
        };
        match (address?, tls) {
            (Address::Unix(path), None) => Some(Endpoint::Unix(path)),
            (Address::Unix(_), Some(_)) => {
                let what = "has no effect on a UNIX socket";
                self.problems.add(tls_span, format!("{section}.tls"), what, "remove it");
                None
            }
            (Address::Loopback(address), tls) => Some(Endpoint::Loopback(address, tls)),
            (Address::Remote(address), Some(tls)) => Some(Endpoint::Remote(address, tls)),
            (Address::Remote(address), None) => {
                if !self.problems.mentions(&format!("{section}.tls")) {
                    self.wrong(
                        text,
                        &key,
                        format!("{address} is beyond this machine, and there is no `tls`"),
                        "add tls = { pins = [\"sha256:…\"] } or tls = { ca = \"FILE\", name = \"HOST\" }, or use a UNIX socket \
                         or loopback address",
                    );
                }
                None
            }
        }
    }

    fn hand_off_address(&mut self, text: &Spanned<String>, key: &str) -> Option<Address> {
        let written = text.get_ref();
        if let Some(path) = written.strip_prefix("unix:") {
            return Some(Address::Unix(self.base.join(path)));
        }
        if let Ok(address) = written.parse::<SocketAddr>() {
            let here = address.ip().to_canonical().is_loopback();
            return Some(if here {
                Address::Loopback(address)
            } else {
                Address::Remote(RemoteAddress::Address(address))
            });
        }
        let named = written.rsplit_once(':').and_then(|(name, port)| {
            Some(RemoteAddress::Name(name.parse().ok()?, port.parse::<u16>().ok().filter(|port| *port > 0)?))
        });
        if named.is_none() {
            self.wrong(text, key, format!("`{written}` is no address"), ADDRESS_FORMS);
        }
        named.map(Address::Remote)
    }

    fn endpoint_tls(
        &mut self,
        entry: &Spanned<file::HandOffTls>,
        address: &Address,
        key: &str,
    ) -> Option<EndpointTls> {
        let written = entry.get_ref();
        match (&written.pins, &written.ca) {
            (Some(pins), None) => {
                self.pins(pins, &format!("{key}.pins")).map(|pins| EndpointTls::Pins(Pins::new(pins)))
            }
            (None, Some(ca)) => {
                let advice = "name the PEM file of the authority that issued the server's certificate";
                let authorities = self.authorities(ca, &format!("{key}.ca"), advice).map(|(known, _)| known);
                let name = match (&written.name, address) {
                    (Some(text), _) => self.domain(text, &format!("{key}.name")),
                    (None, Address::Remote(RemoteAddress::Name(name, _))) => Some(name.clone()),
                    (None, _) => {
                        let what = "needs the name that the server's certificate carries";
                        self.wrong(entry, &format!("{key}.name"), what, "add name = \"mail.example.nl\"");
                        None
                    }
                };
                Some(EndpointTls::Ca { authorities: authorities?, name: name? })
            }
            (Some(_), Some(ca)) => {
                self.wrong(ca, key, "has both `pins` and `ca`", "keep one: they would not both be required");
                None
            }
            (None, None) => {
                if !self.problems.mentions(&format!("{key}.pins"))
                    && !self.problems.mentions(&format!("{key}.ca"))
                {
                    let what = "says neither which key nor which authority to expect";
                    self.wrong(
                        entry,
                        key,
                        what,
                        "add pins = [\"sha256:…\"] or ca = \"FILE\"; system roots take no part",
                    );
                }
                None
            }
        }
    }
}
