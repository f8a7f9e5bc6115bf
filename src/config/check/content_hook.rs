//! `[content_hook]`: the provider's own filter.

use toml::Spanned;

use super::values::Check;
use crate::config::checked::ContentHook;
use crate::config::file;
use crate::config::limits::Limits;

/// Servers take request lines of at least this length (RFC 9112 section 3 asks for 8000).
const PATH_OCTETS_MAX: usize = 1000;

impl Check<'_, '_> {
    /// HOOK-002: the rules for what leaves this machine are those of the hand-off.
    pub(super) fn content_hook(
        &mut self,
        entry: &Spanned<file::ContentHook>,
        limits: &Limits,
    ) -> Option<ContentHook> {
        let written = entry.get_ref();
        let endpoint = self.endpoint_at(entry.span(), &written.address, written.tls.as_ref(), "content_hook");
        let path = match &written.path {
            None => Some("/".to_owned()),
            Some(path) if is_path(path.get_ref()) => Some(path.get_ref().clone()),
            Some(path) => {
                let what = format!("`{}` is no path of a request", path.get_ref());
                let advice = "write what stands behind the host in a URL, such as \"/filter\": printable ASCII, blanks as %20";
                self.wrong(path, "content_hook.path", what, advice);
                None
            }
        };
        if limits.hook_answer_octets <= limits.message_octets {
            self.warnings.push(format!(
                "limits.hook_answer_octets ({}) is not above limits.message_octets ({}): a large message that the content \
                 hook changes waits until it is returned",
                limits.hook_answer_octets, limits.message_octets
            ));
        }
        Some(ContentHook { endpoint: endpoint?, path: path? })
    }
}

/// Whether a text can stand as the target of a request (RFC 9112 section 3.2.1).
fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= PATH_OCTETS_MAX
        && text.bytes().all(|octet| octet.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&octet))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::tests::{Bench, GOOD};
    use crate::config::{Endpoint, RemoteAddress};

    fn read(lines: &str) -> Result<crate::config::Config, crate::config::ConfigError> {
        Bench::new().parse(&format!("{GOOD}\n[content_hook]\n{lines}\n"))
    }

    /// Proves: +HOOK-002 +HOOK-010
    #[test]
    fn a_hook_is_near_or_behind_tls() {
        let near =
            read("address = \"unix:/run/hook\"\npath = \"/filter?x=%20y\"").unwrap().content_hook.unwrap();
        assert!(matches!(near.endpoint, Endpoint::Unix(path) if path.to_str() == Some("/run/hook")));
        assert_eq!(near.path, "/filter?x=%20y");
        let near = read("address = \"127.0.0.1:8080\"").unwrap().content_hook.unwrap();
        assert!(matches!(near.endpoint, Endpoint::Loopback(_, None)));
        assert_eq!(near.path, "/");
        let far = read("address = \"hook.a.example:443\"\ntls = { ca = \"authority.pem\" }").unwrap();
        let far = far.content_hook.unwrap().endpoint;
        assert!(matches!(far, Endpoint::Remote(RemoteAddress::Name(_, 443), _)));
        assert!(Bench::new().parse(GOOD).unwrap().content_hook.is_none());
        // A message at the limit, changed, would not be taken.
        let small = Bench::new()
            .parse(&format!(
                "{}\n[content_hook]\naddress = \"unix:/run/hook\"\n",
                GOOD.replace("recipients = 200", "recipients = 200\nhook_answer_octets = 1_000_000")
            ))
            .unwrap();
        assert!(small.warnings.concat().contains("hook_answer_octets"), "{:?}", small.warnings);
    }

    /// Proves: -HOOK-002
    #[test]
    fn anything_else_refuses_to_start_and_says_why() {
        for (wrong, why) in [
            ("", "content_hook.address: is missing"),
            ("address = \"filter\"", "is no address"),
            ("address = \"192.0.2.7:8080\"", "is beyond this machine, and there is no `tls`"),
            ("address = \"hook.a.example:8080\"", "is beyond this machine, and there is no `tls`"),
            ("address = \"hook.a.example:443\"\ntls = {}", "neither which key nor which authority"),
            (
                "address = \"unix:/run/hook\"\ntls = { ca = \"authority.pem\", name = \"x.nl\" }",
                "no effect on a UNIX socket",
            ),
            ("address = \"192.0.2.7:443\"\ntls = { ca = \"authority.pem\" }", "needs the name"),
            ("address = \"unix:/run/hook\"\npath = \"filter\"", "is no path of a request"),
            ("address = \"unix:/run/hook\"\npath = \"/a b\"", "is no path of a request"),
            ("address = \"unix:/run/hook\"\npath = \"/a\\r\\nX: y\"", "is no path of a request"),
            ("address = \"unix:/run/hook\"\nurl = \"/\"", "has no such key"),
        ] {
            let refusal = read(wrong).err().unwrap_or_else(|| panic!("{wrong}: was accepted")).to_string();
            assert!(refusal.contains(why), "{wrong}: {refusal}");
        }
    }
}
