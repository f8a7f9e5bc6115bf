//! What this version writes is what earlier versions of the same format wrote, and what they wrote is read.
//!
//! `testdata/format-3` is a store that a version of format 3 left behind in the middle of an attempt, and all that stands
//! in it, opened. A field that is added is no new format; one that is missing, renamed or of another kind is, and so is a
//! table, a key or a seal that changed. After a new number of the format, the tests make the next store beside this one
//! when they are run with `SLUIS_BLESS=1`.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use serde_json::{Map, Value, json};

use super::*;
use crate::model::{BodyType, DeliveryId, Digest, IdentityRule, Level, Notify, Outcome, Reason, Ret};
use crate::spool::seal::{SealedKey, Vault};
use crate::spool::seen::{SEEN, SEEN_AT};
use crate::spool::stored::FORMAT;
use crate::spool::tables::{
    CONTENT, DELIVERIES, KEYS, KEYS_COPY, MESSAGES, META, RECORDS, RECORDS_OF, SCHEDULE, delivery_place,
    entry_place, message_place, record_place,
};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const LARGE_OCTETS: usize = 70_000;
/// Random, or decided by settings and not by the format.
const NOT_COMPARED: [&str; 2] = ["content_key", "due"];

fn golden() -> PathBuf {
    of_format(3)
}

fn of_format(number: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/spool/testdata/format-{number}"))
}

fn open_at(dir: &Path, world: &World) -> Spool {
    use std::os::unix::fs::PermissionsExt as _;
    let key = dir.join("the.key");
    std::fs::write(&key, KEY).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = Settings {
        key: KeySource::File(key),
        reserve_octets: 0,
        inline_body_max: 4096,
        ..Settings::at(dir.join("spool"))
    };
    Spool::open(settings, world.clone()).unwrap()
}

/// A decision record in which every field has a value.
fn full_record() -> DecisionRecord {
    let facts = json!({
        "schema": 1, "attempt": AttemptId::from_parts(1, 2), "direction": "outbound",
        "started": "2026-11-22T00:00:00Z", "duration_ms": 1234,
        "message": MessageId::from_parts(1, 3), "digest": Digest::of(b"x"), "size": 17,
        "sender": "jan@a.nl", "peer_domain": "b.nl",
        "discovery": {
            "verdict": "federated", "startdate": "2026-01", "enddate": "2027-01", "provider": "Provider B",
            "source": "ntamx", "hosts": [[10, "nta.b.nl"]],
            "dns": [{"name": "b.nl", "rtype": "TXT", "verdict": "secure", "records": 1, "cached": true}],
        },
        "policy": {"floor": "mutual", "rule": "dane", "peer": "b", "weakened": ["lab.port"]},
        "hosts": [{
            "host": "nta.b.nl", "preference": 10, "address": "127.0.0.1:25", "tlsa_base": "nta.b.nl",
            "tlsa": ["3 1 1"], "tlsa_unusable": 1,
            "tls": {
                "version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "group": "x25519", "peer_key": "00",
                "peer_key_type": "ECDSA P-256", "authenticated_by": "dane 3 1 1", "client_certificate_sent": true,
            },
            "ehlo": ["SIZE"], "peer_confirmed": {"level": "mutual", "names": ["nta.a.nl"]},
            "proven_names": ["nta.b.nl"], "step": "content", "reason": "record_absent", "detail": "seen",
            "code": "250 2.0.0",
        }],
        "assurance": "mutual",
        "trust": {"from_domain": "a.nl", "spf": "pass", "dkim": ["pass d=a.nl"], "dmarc": "pass"},
        "outcome": "delivered", "reason": "record_absent", "requirement": "DISC-001", "acts": "peer",
        "detail": "seen", "warnings": ["tolerated"],
        "recipients": [
            {"address": "piet@b.nl", "outcome": "delivered", "code": "250 2.1.5", "text": "fine"},
        ],
        "content_left": "yes",
        "report": {
            "message": MessageId::from_parts(1, 4),
            "says": [{"address": "piet@b.nl", "action": "delivered"}],
        },
    });
    serde_json::from_value(facts).unwrap()
}

/// A store with a message in each condition, as it is on disk during an attempt.
async fn write_store(to: &Path) {
    let (world, _) = world();
    let source = tempfile::tempdir().unwrap();
    let spool = open_at(source.path(), &world);
    let at = |message, route| DeliveryId { message, route };

    // Small, on two routes; one of them has been tried.
    let mut sent = envelope("jan@a.nl", &["piet@b.nl", "kees@c.nl"]);
    sent.recipients[0].notify = Some(Notify { success: true, failure: true, delay: false });
    sent.recipients[0].orcpt = Some("rfc822;piet@b.nl".to_owned());
    sent =
        Envelope { body: BodyType::EightBitMime, ret: Some(Ret::Headers), envid: Some("E1".into()), ..sent };
    let routes = vec![(federation("b.nl"), vec![0]), (federation("c.nl"), vec![1])];
    let small = NewMessage { envelope: sent, routes, ..one_recipient() };
    let small = accept(&spool, small, b"Subject: small\r\n\r\nwaits\r\n").await.unwrap().message();
    let attempt = spool.begin_attempt(spool.claim(at(small, 0)).unwrap()).await.unwrap();
    let mut end = all(&attempt, &spool, Fate::Pending);
    end.recipients[0].note = Some(Note {
        at: spool.world().now(),
        reason: Some(Reason::RecordAbsent),
        code: Some("451 4.7.0".into()),
        text: Some("not now".into()),
        host: Some("nta.b.nl".into()),
    });
    attempt.finish(end).await.unwrap();

    // Large, of another provider, held.
    let arrival = Arrival {
        level: Some(Level::Mutual),
        rule: Some(IdentityRule::Dane),
        domain: Some("b.nl".parse().unwrap()),
        names: vec!["nta.b.nl".parse().unwrap()],
        address: Some([127, 0, 0, 1].into()),
        handoff_fields: vec![("Federation-Assurance".into(), "mutual".into())],
        ..Arrival::default()
    };
    let received = NewMessage {
        envelope: envelope("piet@b.nl", &["jan@a.nl"]),
        routes: vec![(Route::Environment, vec![0])],
        arrival,
        origin: Origin::Peer,
        record: None,
    };
    let large = receive_large(&spool, received).await;
    spool.hold(at(large, 0)).await.unwrap();

    // Delivered: only its records are left.
    let own = NewMessage {
        envelope: envelope("", &["jan@a.nl"]),
        routes: vec![(Route::Fallback, vec![0])],
        origin: Origin::Own,
        ..one_recipient()
    };
    let own = accept(&spool, own, b"Subject: report\r\n\r\n").await.unwrap().message();
    let attempt = spool.begin_attempt(spool.claim(at(own, 0)).unwrap()).await.unwrap();
    let end = AttemptEnd { record: full_record(), ..all(&attempt, &spool, Fate::Delivered) };
    attempt.finish(end).await.unwrap();

    // Under way when the machine stops.
    let last =
        accept(&spool, one_recipient(), b"Subject: last\r\n\r\nunder way\r\n").await.unwrap().message();
    let attempt = spool.begin_attempt(spool.claim(at(last, 0)).unwrap()).await.unwrap();
    std::fs::create_dir_all(to.join("content")).unwrap();
    std::fs::copy(source.path().join("spool/spool.redb"), to.join("spool.redb")).unwrap();
    for entry in std::fs::read_dir(source.path().join("spool/content")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join("content").join(entry.file_name())).unwrap();
    }
    drop(attempt);
    spool.close().await;
}

/// The same octets each time, so that they are one message.
async fn receive_large(spool: &Spool, message: NewMessage) -> MessageId {
    let content = body(1, LARGE_OCTETS);
    let imprint =
        Imprint::new(Level::Mutual, &"b.nl".parse().unwrap(), Digest::of(&content), &message.envelope);
    let mut draft = spool.draft(spool.world().message_id(), b"Received: here\r\n");
    draft.write(&content).await.unwrap();
    match draft.accept_once(message, imprint).await.unwrap() {
        Arrived::New(accepted) => accepted.message(),
        Arrived::Again(repeated) => repeated.first(),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A sealed value: its version, and what is in it.
fn opened(vault: &Vault, place: crate::spool::seal::Place<'_>, octets: &[u8]) -> Value {
    let (version, sealed) = octets.split_first().unwrap();
    let json = vault.open(place, sealed).unwrap();
    json!({"version": version, "value": serde_json::from_slice::<Value>(&json).unwrap()})
}

/// A row of the schedule: its version, and its parts.
fn opened_row(vault: &Vault, key: &[u8; 18], octets: &[u8]) -> Value {
    let (version, sealed) = octets.split_first().unwrap();
    let row = vault.open(entry_place(key), sealed).unwrap();
    json!({
        "version": version, "state": row[0], "flags": row[1], "accepted": hex(&row[2..10]),
        "due": hex(&row[10..18]), "size": hex(&row[18..26]), "route": hex(&row[26..]),
    })
}

/// All that stands in a store.
fn dump(dir: &Path) -> Value {
    let database = redb::Builder::new().open(dir.join("spool.redb")).unwrap();
    let transaction = database.begin_read().unwrap();
    let mut tables: Vec<_> =
        transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    tables.sort_unstable();
    let numbered = |table: TableDefinition<u32, &'static [u8]>| {
        let table = transaction.open_table(table).unwrap();
        let entries = table.iter().unwrap().map(Result::unwrap);
        entries.map(|(epoch, octets)| (epoch.value(), octets.value().to_vec())).collect::<Vec<_>>()
    };
    let keys: Vec<_> =
        numbered(KEYS).into_iter().map(|(epoch, octets)| SealedKey { epoch, octets }).collect();
    let vault = Vault::unlock(&keys, &MasterKeys::parse(KEY).unwrap()).unwrap().vault;
    let mut all = Map::new();
    let mut put = |name: &str, entries: Map<String, Value>| all.insert(name.to_owned(), entries.into());
    macro_rules! each {
        ($table:expr, |$key:ident, $octets:ident| $entry:expr) => {{
            let table = transaction.open_table($table).unwrap();
            let entries = table.iter().unwrap().map(Result::unwrap);
            let entries = entries.map(|(key, octets)| {
                let ($key, $octets) = (key.value(), octets.value());
                $entry
            });
            put($table.name(), entries.collect())
        }};
    }
    each!(META, |key, octets| (key.to_owned(), hex(octets).into()));
    each!(MESSAGES, |key, octets| (hex(key), opened(&vault, message_place(key), octets)));
    each!(CONTENT, |key, octets| (hex(key), octets.len().into()));
    each!(DELIVERIES, |key, octets| (hex(key), opened(&vault, delivery_place(key), octets)));
    each!(SCHEDULE, |key, octets| (hex(key), opened_row(&vault, key, octets)));
    each!(RECORDS, |key, octets| (hex(key), opened(&vault, record_place(key), octets)));
    each!(RECORDS_OF, |key, _unit| (hex(key), Value::Null));
    // Under a random key.
    each!(SEEN, |key, octets| (format!("{} octets", key.len()), hex(octets).into()));
    each!(SEEN_AT, |key, _unit| (hex(&key[..8]), (key.len() - 8).into()));
    for (name, table) in [("keys", KEYS), ("keys_copy", KEYS_COPY)] {
        let entries = numbered(table).into_iter();
        put(name, entries.map(|(epoch, octets)| (epoch.to_string(), octets.len().into())).collect());
    }
    let files = std::fs::read_dir(dir.join("content")).unwrap().map(Result::unwrap);
    let files =
        files.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len().into()));
    put("content files", files.collect());
    all.insert("tables".to_owned(), tables.into());
    all.into()
}

/// Whether `new` has everything that `old` has, the same; else where it has not.
fn holds(new: &Value, old: &Value, path: &str) -> Result<(), String> {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => old.iter().try_for_each(|(name, old)| {
            let path = format!("{path}/{name}");
            let new = new.get(name).ok_or_else(|| format!("{path} is gone"))?;
            let same_kind = std::mem::discriminant(new) == std::mem::discriminant(old);
            if NOT_COMPARED.contains(&name.as_str()) && same_kind { Ok(()) } else { holds(new, old, &path) }
        }),
        (Value::Array(new), Value::Array(old)) if new.len() == old.len() => {
            new.iter().zip(old).try_for_each(|(new, old)| holds(new, old, path))
        }
        (new, old) if new == old => Ok(()),
        (new, old) => Err(format!("{path} was {old} and is {new}")),
    }
}

fn unpack(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("content")).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".gz") else { continue };
        let mut octets = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(&path).unwrap()).read_to_end(&mut octets).unwrap();
        let place = if name == "spool.redb" { to.join(name) } else { to.join("content").join(name) };
        std::fs::write(place, octets).unwrap();
    }
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(golden().join("expected.json")).unwrap()).unwrap()
}

/// Proves: +SPOOL-022
#[tokio::test]
async fn a_store_that_an_earlier_version_of_this_format_left_is_read_with_every_field() {
    write_the_golden_store().await;
    let dir = tempfile::tempdir().unwrap();
    unpack(&golden(), &dir.path().join("spool"));
    assert_eq!(dump(&dir.path().join("spool")), expected());
    check_golden(&open_at(dir.path(), &world().0)).await;
}

/// The golden store of this format or the one before, after the start.
async fn check_golden(spool: &Spool) {
    let counts = spool.counts();
    assert_eq!((counts.messages, counts.held, counts.damaged), (3, 1, 0));
    let listed = spool.list(Filter::default()).await.unwrap();
    let phases: Vec<_> = listed.iter().map(|view| view.phase).collect();
    assert_eq!(phases, [Phase::Waiting, Phase::Waiting, Phase::Held, Phase::Waiting]);
    let [small, other, large, last] = [0, 1, 2, 3].map(|row: usize| listed[row].delivery.message);
    assert_eq!(small, other);
    for id in [small, large, last] {
        let message = spool.message(id).await.unwrap();
        let content = content_of(spool, id).await.unwrap();
        assert_eq!((content.len() as u64, Digest::of(&content)), (message.size, message.content_digest));
    }
    assert_eq!(listed[0].recipients[0].note.as_ref().unwrap().reason, Some(Reason::RecordAbsent));
    let ended = spool.records_of(last).await.unwrap();
    assert_eq!(ended.iter().map(|record| record.outcome).collect::<Vec<_>>(), [Outcome::Unknown]);
    let full = spool.recent_records(10).await.unwrap();
    let full = full.into_iter().find(|record| record.outcome == Outcome::Delivered).unwrap();
    let named = DecisionRecord { attempt: full.attempt, message: full.message, ..full_record() };
    assert_eq!(full, named);
    // It knows the large one when it comes again.
    let again = NewMessage { envelope: envelope("piet@b.nl", &["jan@a.nl"]), ..one_recipient() };
    assert_eq!(receive_large(spool, again).await, large);
    assert_eq!(spool.scrub().await.unwrap().damaged, [""; 0]);
    spool.close().await;
}

/// The store that a version of format 2 left behind: all that was in it is in it, and what is new besides.
/// Proves: +SPOOL-022
#[tokio::test]
async fn a_store_of_format_2_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    unpack(&of_format(2), &dir.path().join("spool"));
    check_golden(&open_at(dir.path(), &world().0)).await;
    check_golden(&open_at(dir.path(), &world().0)).await;
    assert_eq!(dump(&dir.path().join("spool"))["meta"], json!({"format": "00000003"}));
}

/// The same on a disk that loses power.
fn format_2() -> PowerDisk {
    let dir = tempfile::tempdir().unwrap();
    unpack(&of_format(2), dir.path());
    let files = std::fs::read_dir(dir.path().join("content")).unwrap().map(Result::unwrap);
    let files = files
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .collect();
    PowerDisk::on_platter(std::fs::read(dir.path().join("spool.redb")).unwrap(), files)
}

/// Proves: +SPOOL-022 -SPOOL-022
#[tokio::test]
async fn t36_an_upgrade_from_format_2_is_done_completely_or_not_at_all_wherever_the_power_goes() {
    let world = world().0;
    let whole = format_2();
    check_golden(&open(&whole, &world)).await;
    let (mut before, mut after) = (0, 0);
    for point in 0.. {
        let disk = format_2();
        disk.cut_at(point);
        let opened = Spool::open_on(disk.disk(), &keys(), settings(), world.clone());
        if let Ok(spool) = opened {
            spool.close().await;
            break;
        }
        assert!(disk.is_dead(), "{point}");
        let disk = disk.after_cut(point);
        let formats = {
            let database = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
            let transaction = database.begin_read().unwrap();
            let format = layout::format_of(&transaction).unwrap();
            let schedule = transaction.list_tables().unwrap().any(|table| table.name() == SCHEDULE.name());
            (format, schedule)
        };
        match formats {
            (Some(2), false) => before += 1,
            (Some(FORMAT), true) => after += 1,
            half => panic!("cut {point}: {half:?}"),
        }
        check_golden(&open(&disk, &world)).await;
    }
    assert!(before > 0 && after > 0, "both sides of the commit were cut: {before} before, {after} after");
}

/// Proves: -SPOOL-022
#[tokio::test]
async fn t37_what_was_damaged_in_a_store_of_format_2_stays_for_whoever_repairs_it() {
    let dir = tempfile::tempdir().unwrap();
    unpack(&of_format(2), dir.path());
    let disk = format_2();
    let (mut keys, mut all) = (Vec::new(), Vec::new());
    tamper(&disk, |transaction| {
        for (key, _) in transaction.open_table(DELIVERIES).unwrap().iter().unwrap().map(Result::unwrap) {
            all.push(*key.value());
        }
        // A route of the first message, and the message of the last delivery.
        let (first, last) = (all[0], all[all.len() - 1]);
        transaction.open_table(DELIVERIES).unwrap().insert(&first, b"damaged".as_slice()).unwrap();
        let last = <&[u8; 16]>::try_from(&last[..16]).unwrap();
        transaction.open_table(MESSAGES).unwrap().insert(last, b"damaged".as_slice()).unwrap();
        keys.push(first);
    });
    let world = world().0;
    for _ in 0..2 {
        let spool = open(&disk, &world);
        let counts = spool.counts();
        assert_eq!((counts.messages, counts.damaged), (3, 1), "the delivery; the message is not read");
        assert_eq!((counts.waiting, counts.held, disk.file_names().len()), (1, 2, 1));
        let damaged = spool.scrub().await.unwrap().damaged;
        assert_eq!(damaged.len(), 2, "{damaged:?}");
        spool.close().await;
    }
}

/// Proves: +SPOOL-022
#[tokio::test]
async fn what_is_written_changes_only_with_the_number_of_the_format() {
    assert_eq!(
        FORMAT, 3,
        "a new format: make its golden store beside this one, and test the upgrade from this one"
    );
    let dir = tempfile::tempdir().unwrap();
    write_store(dir.path()).await;
    let (written, expected) = (dump(dir.path()), expected());
    holds(&written, &expected, "").unwrap();
    // New tables are a new format too; only values may grow.
    for level in [|value: &Value| value.clone(), |value: &Value| value["messages"].clone()] {
        let names = |value: &Value| level(value).as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&written), names(&expected));
    }
}

#[test]
fn a_field_that_is_gone_renamed_or_of_another_kind_is_noticed() {
    let old = json!({"a": {"b": [1, "x"], "due": "2026"}});
    for (new, fits) in [
        (json!({"a": {"b": [1, "x"], "due": "2027", "new": null}}), true),
        (json!({"a": {"b": [1, "y"], "due": "2026"}}), false),
        (json!({"a": {"b": [1], "due": "2026"}}), false),
        (json!({"a": {"c": [1, "x"], "due": "2026"}}), false),
        (json!({"a": {"b": [1, "x"], "due": 2026}}), false),
    ] {
        assert_eq!(holds(&new, &old, "").is_ok(), fits, "{new}");
    }
}

/// Makes the store when asked to (`SLUIS_BLESS=1`), once for each number of the format: what is there is not replaced.
async fn write_the_golden_store() {
    if std::env::var_os("SLUIS_BLESS").is_none() || golden().exists() {
        return;
    }
    std::fs::create_dir(golden()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_store(dir.path()).await;
    let content = std::fs::read_dir(dir.path().join("content")).unwrap().map(|entry| entry.unwrap().path());
    for file in content.chain([dir.path().join("spool.redb")]) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let packed = std::fs::File::create(golden().join(format!("{name}.gz"))).unwrap();
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::best());
        packed.write_all(&std::fs::read(&file).unwrap()).unwrap();
        packed.finish().unwrap();
    }
    let text = serde_json::to_string_pretty(&dump(dir.path())).unwrap();
    std::fs::write(golden().join("expected.json"), text + "\n").unwrap();
}
