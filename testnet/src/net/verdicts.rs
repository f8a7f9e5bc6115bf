//! What the recipient's environment was told about a message: who sent it, and what it proved by itself.

use serde::Serialize;

use crate::topology::Level;

/// The verdicts in the fields on top of a message (`spec/04-identity.md`, `spec/07-handoff.md`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// How the sender was proven: `dane`, `pinned`, `federation_ca`, or `message` when only the message did.
    pub rule: String,
    /// The names that its client proved.
    pub client: Vec<String>,
    /// Of all signatures together: `pass`, `none`, `fail` or `temporary`.
    pub dkim: String,
    /// The same of DMARC.
    pub dmarc: String,
    /// The same of SPF.
    pub spf: String,
    /// One for each signature, as `pass d=a.nl`.
    pub signatures: Vec<String>,
}

impl Verdicts {
    /// Reads them from the fields that were added, names in lower case and values unfolded. `None`: no verdict is among
    /// them.
    #[must_use]
    pub fn read(fields: &[(String, String)]) -> Option<Self> {
        let value = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let mut verdicts = Self::default();
        for part in value("federation-assurance")?.split(';').map(str::trim) {
            let Some((key, told)) = part.split_once('=') else { continue };
            match key {
                "rule" => told.clone_into(&mut verdicts.rule),
                "client" => verdicts.client = told.split(',').map(|name| name.trim().to_owned()).collect(),
                "dkim" => told.clone_into(&mut verdicts.dkim),
                "dmarc" => told.clone_into(&mut verdicts.dmarc),
                "spf" => told.clone_into(&mut verdicts.spf),
                _ => {}
            }
        }
        for result in value("authentication-results").into_iter().flat_map(|value| value.split(';')) {
            let mut words = result.split_whitespace();
            if let Some(word) = words.next().and_then(|word| word.strip_prefix("dkim=")) {
                let domain = words.find_map(|word| word.strip_prefix("header.d=")).unwrap_or("?");
                verdicts.signatures.push(format!("{word} d={domain}"));
            }
        }
        Some(verdicts)
    }

    /// Whether they are those of a message of this level: DKIM passes at either; at the lower one all three do, and at the
    /// higher one a client has proven its names (IDEN-016, JUDGE-005).
    #[must_use]
    pub fn prove(&self, level: Level) -> bool {
        self.dkim == "pass"
            && match level {
                Level::Mutual => self.rule != "message" && !self.client.is_empty(),
                Level::Nta7516 => self.rule == "message" && self.dmarc == "pass" && self.spf == "pass",
            }
    }

    /// DKIM, SPF and DMARC in a few words, for people.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}/{}/{}", self.dkim, self.spf, self.dmarc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_fields_are_read() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let fields = [
            field(
                "authentication-results",
                "nta.b.nl; x-federation=pass policy.level=mutual; spf=pass smtp.mailfrom=a.nl; \
                 dkim=pass header.d=a.nl; dkim=fail header.d=c.nl; dmarc=pass header.from=a.nl",
            ),
            field(
                "federation-assurance",
                "mutual; domain=a.nl; rule=dane; client=nta-1.a.nl, nta-2.a.nl; dkim=pass; dmarc=pass; spf=fail; by=nta.b.nl",
            ),
        ];
        let verdicts = Verdicts::read(&fields).unwrap_or_default();
        assert_eq!(verdicts.signatures, ["pass d=a.nl", "fail d=c.nl"]);
        assert_eq!((verdicts.rule.as_str(), verdicts.text().as_str()), ("dane", "pass/fail/pass"));
        assert_eq!(verdicts.client, ["nta-1.a.nl", "nta-2.a.nl"]);
        assert_eq!(Verdicts::read(&fields[..1]), None);
        assert!(verdicts.prove(Level::Mutual) && !verdicts.prove(Level::Nta7516));
        let unsigned = Verdicts { dkim: "none".to_owned(), ..verdicts.clone() };
        assert!(!unsigned.prove(Level::Mutual));
        let by_message = Verdicts { rule: "message".to_owned(), spf: "pass".to_owned(), ..verdicts };
        assert!(by_message.prove(Level::Nta7516) && !by_message.prove(Level::Mutual));
    }
}
