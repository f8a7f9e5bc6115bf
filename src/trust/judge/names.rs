//! What SPF, DKIM and DMARC ask of DNS, and how sure the answer is.

use std::net::IpAddr;

use async_trait::async_trait;

use crate::discovery::{Discovery, LookUp, OwnerName, Trace};

/// Whether DNSSEC vouches for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It does.
    Proven,
    /// The answer lies in a zone that is not signed, or was reached through one.
    Unproven,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<T> {
    /// Records.
    Some(T, Mark),
    /// There are none.
    None(Mark),
    /// Nobody can tell now. Never the same as none.
    Trouble(String),
}

impl<T> Found<T> {
    fn of(answer: LookUp<T>, name: &OwnerName) -> Self
    where
        T: Clone,
    {
        match answer {
            LookUp::Secure(records) => Self::Some(records.get().clone(), Mark::Proven),
            LookUp::Absent(_) => Self::None(Mark::Proven),
            LookUp::Insecure(Some(records)) => Self::Some(records, Mark::Unproven),
            LookUp::Insecure(None) => Self::None(Mark::Unproven),
            LookUp::Trouble(trouble) => Self::Trouble(format!("{name}: {trouble}")),
        }
    }

    fn map<U>(self, read: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Some(records, mark) => Found::Some(read(records), mark),
            Self::None(mark) => Found::None(mark),
            Self::Trouble(detail) => Found::Trouble(detail),
        }
    }
}

/// The questions of a judgement. Answered by discovery; tests answer them from a table.
#[async_trait]
pub(super) trait Names: Send {
    /// TXT records, each with its character-strings joined.
    async fn txt(&mut self, name: &OwnerName) -> Found<Vec<Vec<u8>>>;
    /// MX hosts, without the root.
    async fn mx(&mut self, name: &OwnerName) -> Found<Vec<OwnerName>>;
    /// Addresses of the family of `like`.
    async fn addresses(&mut self, name: &OwnerName, like: IpAddr) -> Found<Vec<IpAddr>>;
}

/// Questions to discovery, all on record.
pub(super) struct Asked<'d> {
    pub discovery: &'d Discovery,
    pub trace: Trace,
}

#[async_trait]
impl Names for Asked<'_> {
    async fn txt(&mut self, name: &OwnerName) -> Found<Vec<Vec<u8>>> {
        let answer = self.discovery.txt(name, &mut self.trace).await;
        Found::of(answer, name).map(|records| records.iter().map(crate::discovery::Txt::joined).collect())
    }

    async fn mx(&mut self, name: &OwnerName) -> Found<Vec<OwnerName>> {
        let answer = self.discovery.mx(name, &mut self.trace).await;
        Found::of(answer, name)
            .map(|records| records.into_iter().map(|(_, host)| host).filter(|host| !host.is_root()).collect())
    }

    async fn addresses(&mut self, name: &OwnerName, like: IpAddr) -> Found<Vec<IpAddr>> {
        let answer = match like {
            IpAddr::V4(_) => self.discovery.ipv4(name, &mut self.trace).await,
            IpAddr::V6(_) => self.discovery.ipv6(name, &mut self.trace).await,
        };
        Found::of(answer, name)
    }
}

#[cfg(test)]
pub(super) mod testing {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    /// Answers from a table; what is not in it does not exist. Names are in lower case, without the final dot.
    #[derive(Default)]
    pub struct Table {
        pub txt: BTreeMap<String, Found<Vec<Vec<u8>>>>,
        pub mx: BTreeMap<String, Found<Vec<OwnerName>>>,
        pub addresses: BTreeMap<String, Found<Vec<IpAddr>>>,
        pub asked: Vec<String>,
    }

    impl Table {
        pub fn new(records: &[(&str, &str)]) -> Self {
            let mut table = Self::default();
            for (name, text) in records {
                table.add(name, text);
            }
            table
        }

        /// One record: `TXT text`, `MX host`, `A address`, or the verdict on all of the name's TXT: `TROUBLE`,
        /// `UNPROVEN` (after its records).
        pub fn add(&mut self, name: &str, record: &str) {
            let key = name.to_owned();
            let (kind, data) = record.split_once(' ').unwrap_or((record, ""));
            match kind {
                "TXT" => push(self.txt.entry(key), data.as_bytes().to_vec()),
                "MX" => push(self.mx.entry(key), data.parse().unwrap()),
                "A" => push(self.addresses.entry(key), data.parse().unwrap()),
                "TROUBLE" => {
                    self.txt.insert(key.clone(), Found::Trouble("SERVFAIL".into()));
                    self.mx.insert(key.clone(), Found::Trouble("SERVFAIL".into()));
                    self.addresses.insert(key, Found::Trouble("SERVFAIL".into()));
                }
                "UNPROVEN" => {
                    let entry = self.txt.entry(key).or_insert(Found::None(Mark::Unproven));
                    if let Found::Some(_, mark) = entry {
                        *mark = Mark::Unproven;
                    }
                }
                other => panic!("{other}"),
            }
        }
    }

    fn push<T>(entry: std::collections::btree_map::Entry<'_, String, Found<Vec<T>>>, value: T) {
        let found = entry.or_insert_with(|| Found::Some(Vec::new(), Mark::Proven));
        let Found::Some(all, _) = found else { panic!("records after a verdict") };
        all.push(value);
    }

    fn answer<T: Clone>(table: &BTreeMap<String, Found<T>>, name: &OwnerName) -> Found<T> {
        table.get(&name.to_string()).cloned().unwrap_or(Found::None(Mark::Proven))
    }

    #[async_trait]
    impl Names for Table {
        async fn txt(&mut self, name: &OwnerName) -> Found<Vec<Vec<u8>>> {
            self.asked.push(format!("{name} TXT"));
            answer(&self.txt, name)
        }

        async fn mx(&mut self, name: &OwnerName) -> Found<Vec<OwnerName>> {
            self.asked.push(format!("{name} MX"));
            answer(&self.mx, name)
        }

        async fn addresses(&mut self, name: &OwnerName, like: IpAddr) -> Found<Vec<IpAddr>> {
            self.asked.push(format!("{name} {}", if like.is_ipv4() { "A" } else { "AAAA" }));
            let same = |all: Vec<IpAddr>| -> Vec<IpAddr> {
                all.into_iter().filter(|address| address.is_ipv4() == like.is_ipv4()).collect()
            };
            match answer(&self.addresses, name).map(same) {
                Found::Some(all, mark) if all.is_empty() => Found::None(mark),
                other => other,
            }
        }
    }
}
