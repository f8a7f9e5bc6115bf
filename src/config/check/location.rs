//! `[location]`.

use std::io::Read as _;
use std::sync::Arc;

use toml::Spanned;

use super::values::Check;
use crate::config::checked::Location;
use crate::config::file;
use crate::config::limits::Limits;
use crate::discovery::location::TABLE_OCTETS_MAX;
use crate::discovery::{LocationTable, TableError};
use crate::model::LocationRule;

const KEY: &str = "location.table";
const FETCH: &str =
    "fetch a table of countries in MMDB form and name it here, or remove [location]: then nothing is checked";

impl Check<'_, '_> {
    /// Reads the table; without one there is no check (LOCA-003).
    pub(super) fn location(&mut self, written: &file::Location, limits: &Limits) -> Option<Option<Location>> {
        let words = [("observe", LocationRule::Observe), ("enforce", LocationRule::Enforce)];
        let mode = self.word(&written.mode, "location.mode", &words, LocationRule::Observe);
        let Some(text) = &written.table else {
            if let Some(mode) = &written.mode {
                let what = "says what to do about a place, and there is no table that says which";
                self.wrong(mode, "location.mode", what, "set location.table, or remove this key");
                return None;
            }
            return Some(None);
        };
        let table = self.table(text)?;
        let (age, most) = (table.age_days(self.now), i64::try_from(limits.location_table_days));
        if most.is_ok_and(|most| age > most) {
            self.warnings.push(format!(
                "{KEY}: built on {}, {age} days ago; networks move, so fetch a newer one and `sluis reload`",
                table.built().strftime("%Y-%m-%d")
            ));
        } else if age < -1 {
            let built = table.built().strftime("%Y-%m-%d");
            self.warnings.push(format!("{KEY}: says that it was built on {built}, which lies ahead"));
        }
        Some(Some(Location { path: self.path(text), mode: mode?, table: Arc::new(table) }))
    }

    fn table(&mut self, text: &Spanned<String>) -> Option<LocationTable> {
        let path = self.path(text);
        let read = std::fs::File::open(&path).and_then(|file| {
            let mut octets = Vec::new();
            file.take(TABLE_OCTETS_MAX + 1).read_to_end(&mut octets)?;
            Ok(octets)
        });
        let octets = match read {
            Ok(octets) => octets,
            Err(error) => {
                self.wrong(text, KEY, format!("cannot read {}: {error}", path.display()), FETCH);
                return None;
            }
        };
        if u64::try_from(octets.len()).unwrap_or(u64::MAX) > TABLE_OCTETS_MAX {
            let what = format!("{} is larger than {TABLE_OCTETS_MAX} octets", path.display());
            self.wrong(text, KEY, what, "a table of countries has some ten million octets");
            return None;
        }
        match LocationTable::read(octets) {
            Ok(table) => Some(table),
            Err(error) => {
                let advice = match error {
                    TableError::Damaged(_) => "fetch it again, unpacked, and compare its checksum",
                    TableError::NoCountries(_) | TableError::NoTime(_) => FETCH,
                };
                self.wrong(text, KEY, format!("{}: {error}", path.display()), advice);
                None
            }
        }
    }

    /// `location` of a peer's entry.
    pub(super) fn peer_location(
        &mut self,
        text: &file::Text,
        has_table: bool,
    ) -> Option<Option<LocationRule>> {
        let key = "federation.peer.location";
        let words = [("any", Some(LocationRule::Any)), ("eea", Some(LocationRule::Enforce))];
        let rule = self.word(text, key, &words, None)?;
        if let (Some(LocationRule::Enforce), Some(text), false) = (rule, text, has_table) {
            let what = "asks for a place, and there is no table that says which";
            self.wrong(text, key, what, "set location.table, or remove this key");
            return None;
        }
        Some(rule)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use testnet::mmdb::{Entry, Writer};

    use super::*;
    use crate::config::ConfigError;
    use crate::config::tests::{Bench, GOOD};

    /// Two days before the clock of the bench.
    const BUILT: u64 = 1_795_132_800;

    fn table(built: u64) -> Vec<u8> {
        let mut writer = Writer::new(built);
        writer.insert("192.0.2.0/24", Entry::country("NL"));
        writer.to_octets()
    }

    fn with(lines: &str, file: &[u8]) -> Result<crate::config::Config, ConfigError> {
        let bench = Bench::new();
        std::fs::write(bench.path().with_file_name("eea.mmdb"), file).unwrap();
        bench.parse(&format!("{GOOD}\n{lines}\n"))
    }

    fn refusal(lines: &str, file: &[u8]) -> String {
        with(lines, file).err().unwrap_or_else(|| panic!("{lines} is taken")).to_string()
    }

    /// Proves: +LOCA-003 -LOCA-003
    #[test]
    fn a_table_is_read_with_the_configuration_or_there_is_no_check() {
        assert!(with("", &[]).unwrap().location.is_none());
        let observed = with("[location]\ntable = \"eea.mmdb\"", &table(BUILT)).unwrap();
        let location = observed.location.unwrap();
        assert_eq!((location.mode, location.table.networks()), (LocationRule::Observe, 1));
        assert!(observed.warnings.is_empty(), "{:?}", observed.warnings);
        let enforced = with("[location]\ntable = \"eea.mmdb\"\nmode = \"enforce\"", &table(BUILT)).unwrap();
        assert_eq!(enforced.location.unwrap().mode, LocationRule::Enforce);

        let named = "[location]\ntable = \"eea.mmdb\"";
        for (lines, file, says) in [
            ("[location]\ntable = \"gone.mmdb\"", &b""[..], "gone.mmdb: No such file"),
            (named, b"", "or a damaged one"),
            (named, &table(BUILT)[..99], "or a damaged one"),
            (named, &Writer::new(BUILT).to_octets(), "none of its entries names a country"),
            ("[location]\ntable = \"eea.mmdb\"\nmode = \"off\"", &table(BUILT), "`off` is not known here"),
            ("[location]\nmode = \"enforce\"", b"", "there is no table that says which"),
            ("[location]\ntabel = \"eea.mmdb\"", b"", "did you mean `table`"),
        ] {
            let text = refusal(lines, file);
            assert!(text.contains(says) && text.contains("sluis.toml:"), "{lines}: {text}");
        }
    }

    /// Proves: +LOCA-008 -LOCA-008
    #[test]
    fn an_old_table_is_warned_about() {
        const DAY: u64 = 86_400;
        let warned = |built, limits: &str| {
            let bench = Bench::new();
            std::fs::write(bench.path().with_file_name("eea.mmdb"), table(built)).unwrap();
            let text = GOOD.replace("[limits]", &format!("[limits]\n{limits}"));
            let text = format!("{text}\n[location]\ntable = \"eea.mmdb\"\n");
            bench.parse(&text).unwrap().warnings.join("\n")
        };
        // The clock of the bench stands at noon of the second day after BUILT.
        assert_eq!(warned(BUILT - 33 * DAY, ""), "");
        let old = warned(BUILT - 34 * DAY, "");
        assert!(old.contains("built on 2026-10-17, 36 days ago"), "{old}");
        assert_eq!(warned(BUILT - 34 * DAY, "location_table_days = 60"), "");
        assert!(warned(BUILT + 9 * DAY, "").contains("which lies ahead"));
    }

    #[test]
    fn a_peer_has_a_rule_of_its_own() {
        let lines = |location: &str, more: &str| {
            let peer = "name = \"d\"\ndomain = \"d.example\"";
            format!("[[federation.peer]]\n{peer}\nlocation = \"{location}\"\n{more}")
        };
        let rule = |lines: &str| {
            let config = with(lines, &table(BUILT)).unwrap();
            config.federation.peers.iter().find(|peer| peer.name == "d").unwrap().location
        };
        let observe = "[location]\ntable = \"eea.mmdb\"";
        assert_eq!(rule(&lines("any", observe)), Some(LocationRule::Any));
        assert_eq!(rule(&lines("any", "")), Some(LocationRule::Any));
        assert_eq!(rule(&lines("eea", observe)), Some(LocationRule::Enforce));
        assert!(refusal(&lines("eea", ""), b"").contains("there is no table that says which"));
        assert!(refusal(&lines("nl", observe), &table(BUILT)).contains("write one of: any, eea"));
    }
}
