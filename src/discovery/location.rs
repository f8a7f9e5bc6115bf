//! Is an address in the EU or the EEA (LOCA family; NTA 7516 6.1.13)?
//!
//! The answer comes from a table of networks and countries in the MMDB format, which the operator supplies. It is read
//! whole, and each of its entries once, before it is in force; after that a look-up touches neither disk nor network.

use std::collections::HashSet;
use std::net::IpAddr;

use jiff::Timestamp;
use maxminddb::{MaxMindDbError, Reader, path};

use crate::model::{Digest, LocationVerdict};

/// The largest table that is read. The largest in the field (cities) have a fifth of it.
pub const TABLE_OCTETS_MAX: u64 = 512 * 1024 * 1024;
/// The longest name of a kind of table that is shown.
const KIND_CHARS_MAX: usize = 64;

/// ISO 3166-1 codes that count as inside, sorted: the 27 member states of the EU; Iceland, Liechtenstein and Norway; and
/// the parts of member states with a code of their own in which the EU's treaties hold (TFEU 355(1) and (4): AX, GF, GP,
/// MF, MQ, RE, YT). Svalbard (SJ) is not in the EEA (its Protocol 40); overseas countries (TFEU 355(2)) are in neither.
const INSIDE: [&str; 37] = [
    "AT", "AX", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GF", "GP", "GR", "HR", "HU",
    "IE", "IS", "IT", "LI", "LT", "LU", "LV", "MF", "MQ", "MT", "NL", "NO", "PL", "PT", "RE", "RO", "SE",
    "SI", "SK", "YT",
];

/// Codes in old tables that name a continent and no country.
const NO_COUNTRY: [&str; 2] = ["AP", "EU"];

/// Why a table is not taken. The operator acts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is no MMDB file, or a damaged one.
    #[error("this is no MMDB file, or a damaged one: {0}")]
    Damaged(String),
    /// It is one of something else.
    #[error("this is a table of kind {0}, and none of its entries names a country")]
    NoCountries(String),
    /// It says of no time that it was built then.
    #[error("its time of building, {0}, is no time")]
    NoTime(u64),
}

impl From<MaxMindDbError> for TableError {
    fn from(error: MaxMindDbError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// What a table says of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Inside, outside or unknown.
    pub verdict: LocationVerdict,
    /// The country, where there is one.
    pub country: Option<String>,
    /// Why it is unknown.
    pub detail: Option<String>,
}

impl Place {
    fn unknown(detail: impl Into<String>) -> Self {
        Self { verdict: LocationVerdict::Unknown, country: None, detail: Some(detail.into()) }
    }

    fn in_country(code: &str) -> Self {
        let verdict = if is_inside(code) { LocationVerdict::Eea } else { LocationVerdict::Outside };
        Self { verdict, country: Some(code.to_owned()), detail: None }
    }
}

/// Whether a country counts as inside (LOCA-001).
#[must_use]
pub fn is_inside(code: &str) -> bool {
    INSIDE.binary_search(&code).is_ok()
}

/// A table in memory.
pub struct LocationTable {
    reader: Reader<Vec<u8>>,
    kind: String,
    built: Timestamp,
    networks: u64,
    digest: Digest,
}

impl std::fmt::Debug for LocationTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocationTable({} of {}, {})", self.kind, self.built, self.digest)
    }
}

impl PartialEq for LocationTable {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl LocationTable {
    /// Takes the octets of an MMDB file, and looks at all of its entries.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn read(octets: Vec<u8>) -> Result<Self, TableError> {
        let digest = Digest::of(&octets);
        let reader = Reader::from_source(octets)?;
        let metadata = reader.metadata();
        let kind: String =
            metadata.database_type.chars().filter(|c| !c.is_control()).take(KIND_CHARS_MAX).collect();
        let epoch = metadata.build_epoch;
        let built = i64::try_from(epoch)
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .filter(|_| epoch > 0)
            .ok_or(TableError::NoTime(epoch))?;
        let (networks, countries) = walk(&reader)?;
        if countries == 0 {
            return Err(TableError::NoCountries(kind));
        }
        Ok(Self { reader, kind, built, networks, digest })
    }

    /// Where `address` is (LOCA-001, LOCA-002).
    ///
    /// The country is that of the network (`country`), never that of its registration: who registered a network says
    /// nothing about where its machines are. An address that no table can know, such as a private one, is unknown unless
    /// this one lists it.
    #[must_use]
    pub fn place(&self, address: IpAddr) -> Place {
        let address = address.to_canonical();
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Place::unknown("the table has IPv4 addresses only");
        }
        let found = match self.reader.lookup(address) {
            Ok(found) if found.has_data() => found,
            Ok(_) => return Place::unknown("not in the table"),
            Err(error) => return Place::unknown(format!("the table can't be read here: {error}")),
        };
        match found.decode_path::<&str>(&path!["country", "iso_code"]) {
            Ok(Some(code)) if is_country(code) => Place::in_country(code),
            Ok(_) => match found.decode_path::<&str>(&path!["registered_country", "iso_code"]) {
                Ok(Some(code)) if is_country(code) => Place::unknown(format!(
                    "the table names no country for its network, which is registered in {code}"
                )),
                _ => Place::unknown("the table names no country for its network"),
            },
            Err(error) => Place::unknown(format!("the table's entry can't be read: {error}")),
        }
    }

    /// What kind of table it says it is.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// When it was built, as it says.
    #[must_use]
    pub const fn built(&self) -> Timestamp {
        self.built
    }

    /// How many networks it has entries for.
    #[must_use]
    pub const fn networks(&self) -> u64 {
        self.networks
    }

    /// How many whole days ago it was built; negative when that lies ahead.
    #[must_use]
    pub fn age_days(&self, now: Timestamp) -> i64 {
        now.duration_since(self.built).as_secs().div_euclid(86_400)
    }
}

/// Two capital letters, and not those of a continent.
fn is_country(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|octet| octet.is_ascii_uppercase()) && !NO_COUNTRY.contains(&code)
}

/// Reads every entry once: how many networks there are, and how many entries name a country. A damaged table is found
/// now and not with the first message of its network.
fn walk(reader: &Reader<Vec<u8>>) -> Result<(u64, u64), TableError> {
    let (mut networks, mut countries) = (0_u64, 0_u64);
    let mut entries = HashSet::new();
    // A tree has at most one network more than nodes, and aliases of its IPv4 part besides.
    let most = u64::from(reader.metadata().node_count).saturating_mul(3).saturating_add(3);
    for found in reader.networks(maxminddb::WithinOptions::default())? {
        let found = found?;
        networks += 1;
        if networks > most {
            return Err(TableError::Damaged("its tree runs in a circle".to_owned()));
        }
        if let Some(offset) = found.offset()
            && entries.insert(offset)
        {
            let country = found.decode_path::<&str>(&path!["country", "iso_code"])?;
            countries += u64::from(country.is_some_and(is_country));
            found.decode_path::<&str>(&path!["registered_country", "iso_code"])?;
        }
    }
    Ok((networks, countries))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use testnet::mmdb::{Entry, Writer};

    use super::*;

    /// 2026-11-20.
    const BUILT: u64 = 1_795_132_800;

    fn table(entries: &[(&str, Entry)]) -> LocationTable {
        LocationTable::read(octets(entries)).unwrap()
    }

    fn octets(entries: &[(&str, Entry)]) -> Vec<u8> {
        let mut writer = Writer::new(BUILT);
        for (network, entry) in entries {
            writer.insert(network, entry.clone());
        }
        writer.to_octets()
    }

    fn small() -> Vec<u8> {
        octets(&[
            ("192.0.2.0/24", Entry::country("NL")),
            ("198.51.100.0/24", Entry::country("US")),
            ("2001:db8:1::/48", Entry::country("IS")),
            ("2001:db8:2::/48", Entry::registered("DE")),
            ("127.1.0.0/16", Entry::country("EU")),
            ("127.2.0.0/16", Entry { country: Some("GB".into()), registered: Some("NL".into()) }),
            ("127.3.0.0/16", Entry::default()),
        ])
    }

    #[test]
    fn the_list_is_the_eu_the_eea_and_what_belongs_to_them() {
        assert!(INSIDE.is_sorted());
        let eu = "AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE";
        assert_eq!(eu.split(' ').count(), 27);
        let more = "IS LI NO AX GF GP MF MQ RE YT";
        assert_eq!(eu.split(' ').chain(more.split(' ')).filter(|code| is_inside(code)).count(), INSIDE.len());
        for outside in ["GB", "CH", "US", "SJ", "GL", "FO", "AW", "CW", "NC", "PF", "GI", "UA", "nl", ""] {
            assert!(!is_inside(outside), "{outside}");
        }
    }

    /// Proves: +LOCA-001 -LOCA-001 +LOCA-002 -LOCA-002
    #[test]
    fn an_address_is_where_the_table_says_its_network_is() {
        use LocationVerdict::{Eea, Outside, Unknown};
        let table = LocationTable::read(small()).unwrap();
        for (address, verdict, country) in [
            ("192.0.2.77", Eea, Some("NL")),
            ("::ffff:192.0.2.77", Eea, Some("NL")),
            ("198.51.100.1", Outside, Some("US")),
            ("2001:db8:1::25", Eea, Some("IS")),
            // Registered inside is not inside, and registered outside not outside.
            ("2001:db8:2::25", Unknown, None),
            ("127.2.0.1", Outside, Some("GB")),
            // A continent is no country.
            ("127.1.0.1", Unknown, None),
            ("127.3.0.1", Unknown, None),
            ("203.0.113.1", Unknown, None),
            ("10.0.0.1", Unknown, None),
            ("2a01::1", Unknown, None),
        ] {
            let place = table.place(address.parse().unwrap());
            assert_eq!((place.verdict, place.country.as_deref()), (verdict, country), "{address}");
            assert_eq!(place.detail.is_some(), verdict == Unknown, "{address}");
        }
        let registered = table.place("2001:db8:2::25".parse().unwrap()).detail.unwrap();
        assert!(registered.ends_with("which is registered in DE"), "{registered}");
    }

    #[test]
    fn a_table_says_what_it_is_and_how_old() {
        let table = LocationTable::read(small()).unwrap();
        assert_eq!((table.kind(), table.networks()), ("Testnet-Country", 7));
        let built = Timestamp::from_second(i64::try_from(BUILT).unwrap()).unwrap();
        assert_eq!(table.built(), built);
        let after = |hours| built + jiff::SignedDuration::from_hours(hours);
        assert_eq!([47, 48, -1].map(|hours| table.age_days(after(hours))), [1, 2, -1]);
        assert_eq!(table, LocationTable::read(small()).unwrap());
        assert_ne!(table, self::table(&[("192.0.2.0/24", Entry::country("NL"))]));
    }

    #[test]
    fn a_table_of_ipv4_knows_nothing_of_ipv6() {
        let mut writer = Writer::ipv4_only(BUILT);
        writer.insert("192.0.2.0/24", Entry::country("NL"));
        let table = LocationTable::read(writer.to_octets()).unwrap();
        assert_eq!(table.place("192.0.2.1".parse().unwrap()).verdict, LocationVerdict::Eea);
        let place = table.place("2001:db8::1".parse().unwrap());
        assert_eq!(place, Place::unknown("the table has IPv4 addresses only"));
    }

    /// Proves: -LOCA-003
    #[test]
    fn what_is_no_table_of_countries_is_refused_with_the_reason() {
        let damaged = |octets: Vec<u8>| matches!(LocationTable::read(octets), Err(TableError::Damaged(_)));
        assert!(damaged(Vec::new()));
        assert!(damaged(b"not a table at all, whatever its name says".repeat(99)));
        let whole = small();
        for cut in [1, whole.len() / 4, whole.len() / 2, whole.len() - 1] {
            assert!(damaged(whole[..cut].to_vec()), "{cut} octets of {}", whole.len());
        }
        let none = octets(&[("192.0.2.0/24", Entry::default())]);
        assert_eq!(
            LocationTable::read(none).unwrap_err(),
            TableError::NoCountries("Testnet-Country".to_owned())
        );
        let timeless = |built| {
            let mut writer = Writer::new(built);
            writer.insert("192.0.2.0/24", Entry::country("NL"));
            LocationTable::read(writer.to_octets()).unwrap_err()
        };
        assert_eq!(timeless(0), TableError::NoTime(0));
        let beyond = 1 << 60;
        assert_eq!(timeless(beyond), TableError::NoTime(beyond));
    }

    /// Whatever a disk or a download does to a table: it is refused, or it answers.
    #[test]
    fn no_changed_octet_of_a_table_stops_the_node() {
        let whole = small();
        let addresses: Vec<IpAddr> =
            ["192.0.2.1", "198.51.100.1", "2001:db8:2::1", "::", "255.255.255.255", "127.3.0.1"]
                .map(|text| text.parse().unwrap())
                .to_vec();
        let mut taken = 0;
        for at in 0..whole.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= flip;
                if let Ok(table) = LocationTable::read(changed) {
                    taken += 1;
                    addresses.iter().for_each(|address| drop(table.place(*address)));
                }
            }
        }
        assert!(taken > 0, "some changes are harmless");
    }

    proptest! {
        /// The tree of the writer and the one of the reader are the same tree.
        #[test]
        fn the_most_specific_network_decides(
            networks in prop::collection::vec((any::<u32>(), 1_u8..=32, 0..INSIDE.len()), 1..20),
            asked in any::<u32>(),
        ) {
            let mask = |bits: u32, prefix: u8| bits & (u32::MAX << (32 - u32::from(prefix)));
            let mut writer = Writer::new(BUILT);
            let mut wanted: Option<(u8, &str)> = None;
            for (bits, prefix, code) in networks {
                let network = std::net::Ipv4Addr::from(mask(bits, prefix));
                writer.insert(&format!("{network}/{prefix}"), Entry::country(INSIDE[code]));
                let holds = mask(asked, prefix) == mask(bits, prefix);
                if holds && wanted.is_none_or(|(longest, _)| longest <= prefix) {
                    wanted = Some((prefix, INSIDE[code]));
                }
            }
            let table = LocationTable::read(writer.to_octets()).unwrap();
            let place = table.place(IpAddr::V4(asked.into()));
            prop_assert_eq!(place.country.as_deref(), wanted.map(|(_, code)| code));
        }
    }
}
