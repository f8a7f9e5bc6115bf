//! Sealing by itself; what it means for a spool is in `spool/tests/at_rest.rs`.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::model::MessageId;

const FIRST: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const SECOND: &str = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=";

fn masters(lines: &[&str]) -> MasterKeys {
    MasterKeys::parse(&lines.join("\n")).unwrap()
}

fn place(key: &[u8]) -> Place<'_> {
    Place { table: "table", key }
}

/// Proves: +SPOOL-020 -SPOOL-020
#[test]
fn a_value_opens_in_its_place_only_and_unchanged_only() {
    let vault = Vault::make(&masters(&[FIRST])).unwrap().vault;
    let sealed = vault.seal(place(b"a"), b"jan@b.nl").unwrap();
    assert_eq!(vault.open(place(b"a"), &sealed).unwrap(), b"jan@b.nl");
    assert!(vault.open(place(b"b"), &sealed).is_none());
    assert!(vault.open(Place { table: "other", key: b"a" }, &sealed).is_none());
    for position in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[position] ^= 1;
        assert!(vault.open(place(b"a"), &changed).is_none(), "octet {position}");
        assert!(vault.open(place(b"a"), &sealed[..position]).is_none(), "cut at {position}");
    }
    let again = vault.seal(place(b"a"), b"jan@b.nl").unwrap();
    assert_ne!(sealed, again, "equal values do not look equal");
}

/// Proves: +SPOOL-021 -SPOOL-021
#[test]
fn a_new_key_in_front_opens_what_the_old_one_sealed_and_then_needs_it_no_more() {
    let old = Vault::make(&masters(&[FIRST])).unwrap();
    let (stored, before) = (old.store.unwrap(), old.vault.seal(place(b"a"), b"old").unwrap());

    let opened = Vault::unlock(&stored, &masters(&[FIRST])).unwrap();
    assert!(opened.store.is_none(), "nothing to do");
    assert_eq!(opened.vault.open(place(b"a"), &before).unwrap(), b"old");

    let error = Vault::unlock(&stored, &masters(&[SECOND])).err().unwrap();
    assert!(matches!(&error, SpoolError::Key(why) if why.contains("sealed with key")), "{error}");

    let turned = Vault::unlock(&stored, &masters(&[SECOND, FIRST])).unwrap();
    let after = turned.vault.seal(place(b"a"), b"new").unwrap();
    assert_eq!(turned.vault.name(b"x"), old.vault.name(b"x"));
    let stored = turned.store.unwrap();
    let alone = Vault::unlock(&stored, &masters(&[SECOND])).unwrap();
    assert!(alone.store.is_none());
    assert_eq!(alone.vault.open(place(b"a"), &before).unwrap(), b"old");
    assert_eq!(alone.vault.open(place(b"a"), &after).unwrap(), b"new");
    assert!(
        old.vault.open(place(b"a"), &after).is_none(),
        "the old key opens nothing that is sealed from now on"
    );
    assert!(Vault::unlock(&stored, &masters(&[FIRST])).is_err());
}

#[test]
fn a_damaged_key_is_damage_and_not_a_wrong_key() {
    let stored = Vault::make(&masters(&[FIRST])).unwrap().store.unwrap();
    let mut changed = stored.clone();
    *changed[0].octets.last_mut().unwrap() ^= 1;
    assert!(matches!(Vault::unlock(&changed, &masters(&[FIRST])), Err(SpoolError::Damaged(_))));
    changed[0].octets.truncate(3);
    assert!(matches!(Vault::unlock(&changed, &masters(&[FIRST])), Err(SpoolError::Damaged(_))));
    assert!(matches!(Vault::unlock(&[], &masters(&[FIRST])), Err(SpoolError::Damaged(_))));
}

fn id(number: u64) -> MessageId {
    MessageId::from_parts(number, 1)
}

fn sealed(key: &ContentKey, content: &[u8], piece: usize) -> Vec<u8> {
    let (mut sealer, mut out) = (Sealer::new(key, id(1)).unwrap(), Vec::new());
    for piece in content.chunks(piece) {
        sealer.push(piece, &mut out).unwrap();
    }
    sealer.finish(&mut out).unwrap();
    out
}

/// The content in `octets`, if every chunk opens.
fn opened(key: &ContentKey, message: MessageId, size: usize, octets: &[u8]) -> Option<Vec<u8>> {
    let mut opener = Opener::new(key, message, size as u64).unwrap();
    let mut content = Vec::new();
    for chunk in octets.chunks(CHUNK_OCTETS + TAG_OCTETS) {
        let mut chunk = chunk.to_vec();
        opener.open(&mut chunk)?;
        content.extend(chunk);
    }
    opener.is_complete().then_some(content)
}

#[test]
fn content_of_every_size_comes_back_whatever_pieces_it_came_in() {
    let key = ContentKey::make().unwrap();
    for size in [0, 1, CHUNK_OCTETS - 1, CHUNK_OCTETS, CHUNK_OCTETS + 1, 3 * CHUNK_OCTETS] {
        let content: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for piece in [1000, CHUNK_OCTETS, 1 << 20] {
            let sealed = sealed(&key, &content, piece);
            assert_eq!(sealed.len() as u64, sealed_size(size as u64), "{size}");
            assert_eq!(opened(&key, id(1), size, &sealed).unwrap(), content, "{size} in pieces of {piece}");
        }
    }
}

/// Proves: -SPOOL-013 -SPOOL-020
#[test]
fn t37_chunks_that_are_moved_missing_doubled_or_changed_do_not_open() {
    const SEALED: usize = CHUNK_OCTETS + TAG_OCTETS;
    let key = ContentKey::make().unwrap();
    let size = 2 * CHUNK_OCTETS + 100;
    let good = sealed(&key, &vec![7; size], 4096);
    let (one, rest) = good.split_at(SEALED);
    let (two, three) = rest.split_at(SEALED);
    assert!(opened(&key, id(1), size, &good).is_some());
    for (what, octets) in [
        ("reordered", [two, one, three].concat()),
        ("cut at a chunk", [one, two].concat()),
        ("the middle missing", [one, three].concat()),
        ("doubled", [one, one, three].concat()),
        ("something behind", [one, two, three, three].concat()),
        ("cut inside", good[..good.len() - 1].to_vec()),
    ] {
        assert!(opened(&key, id(1), size, &octets).is_none(), "{what}");
    }
    for position in [0, SEALED - 1, SEALED, good.len() - 1] {
        let mut changed = good.clone();
        changed[position] ^= 1;
        assert!(opened(&key, id(1), size, &changed).is_none(), "octet {position}");
    }
    assert!(opened(&key, id(2), size, &good).is_none(), "of another message");
    assert!(opened(&key, id(1), size - CHUNK_OCTETS, &good).is_none(), "of another size");
    assert!(opened(&ContentKey::make().unwrap(), id(1), size, &good).is_none(), "another key");
}

#[test]
fn a_key_file_says_what_is_wrong_with_it() {
    for (text, wanted) in [
        ("", "holds no key"),
        ("# nothing\n\n", "holds no key"),
        ("MDEy", "line 1 is no key"),
        ("# a comment\nnot base64!", "line 2 is no key"),
    ] {
        let error = MasterKeys::parse(text).unwrap_err();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
    let keys = masters(&["# new", SECOND, "", "  # old", FIRST]);
    assert_eq!(keys.names().split(", ").count(), 2);
    assert!(!format!("{keys:?}").contains("YWJj"));
}

/// Proves: +SPOOL-020 -SPOOL-020
#[test]
fn a_key_file_is_made_for_a_new_spool_only_and_must_not_be_readable_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.key");
    let source = KeySource::File(path.clone());
    let error = source.load(Absent::Refuse).unwrap_err().to_string();
    assert!(error.contains("is not there") && error.contains("spool.key"), "{error}");
    assert!(!path.exists());

    let made = source.load(Absent::Make).unwrap().names();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(source.load(Absent::Refuse).unwrap().names(), made);
    assert_eq!(source.load(Absent::Make).unwrap().names(), made, "a key that is there is kept");

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = source.load(Absent::Refuse).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn a_command_gives_the_key_or_a_reason() {
    let command = |script: &str| KeySource::Command(["sh", "-c", script].map(str::to_owned).to_vec());
    assert_eq!(
        command(&format!("echo {FIRST}")).load(Absent::Refuse).unwrap().names(),
        masters(&[FIRST]).names()
    );
    for (script, wanted) in
        [("exit 3", "exit status: 3"), ("echo nothing", "line 1 is no key"), ("true", "holds no key")]
    {
        let error = command(script).load(Absent::Refuse).unwrap_err().to_string();
        assert!(error.contains(wanted), "{script}: {error}");
    }
    let missing = KeySource::Command(vec!["/nowhere/key-program".to_owned()]);
    assert!(missing.load(Absent::Refuse).is_err());
}
