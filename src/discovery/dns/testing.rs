//! A resolver for simulations: a table, whose every answer counts as proven.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Absence, Answer, Content, DnsTrouble, OwnerName, Question, RecordType, Records, SecureDns, TroubleKind,
    Verdict,
};

/// How long an answer may be kept.
const TTL: Duration = Duration::from_secs(300);

/// The table. Clones are handles to the same one.
#[derive(Clone, Default)]
pub(crate) struct TableDns(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    records: BTreeMap<(String, &'static str), Records>,
    trouble: BTreeMap<String, TroubleKind>,
}

impl TableDns {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nobody panics while it is held")
    }

    /// Publishes records in place of those that were there.
    pub(crate) fn publish(&self, name: &OwnerName, rtype: RecordType, records: Records) {
        self.table().records.insert((name.to_string(), rtype.as_str()), records);
    }

    /// From now on questions about this domain and all below it have no answer that can be believed; `None`: they have.
    pub(crate) fn trouble(&self, domain: &str, kind: Option<TroubleKind>) {
        let mut table = self.table();
        match kind {
            Some(kind) => table.trouble.insert(domain.to_owned(), kind),
            None => table.trouble.remove(domain),
        };
    }
}

#[async_trait]
impl SecureDns for TableDns {
    async fn query(&self, question: &Question) -> Result<Answer, DnsTrouble> {
        let name = question.name.to_string();
        let below = |domain: &str| name == domain || name.ends_with(&format!(".{domain}"));
        let trouble = self.table().trouble.iter().find(|(domain, _)| below(domain)).map(|(_, kind)| *kind);
        if let Some(kind) = trouble {
            let wait = if kind == TroubleKind::Timeout { Duration::from_secs(10) } else { Duration::ZERO };
            tokio::time::sleep(wait).await;
            return Err(DnsTrouble::new(kind, "by the table"));
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
        let found = self.table().records.get(&(name, question.rtype.as_str())).cloned();
        Ok(Answer {
            verdict: Verdict::Secure,
            content: found.map_or(Content::Absent(Absence::Type), Content::Records),
            aliases: Vec::new(),
            ttl: TTL,
            proven_until: None,
            cached: false,
        })
    }

    fn forget(&self) {}
}
