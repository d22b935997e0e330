use super::*;
use crate::sources::shared::kv::mirror::entries::MAX_KEYS;
use crate::sources::shared::kv::mirror::update::Unassembled;

#[test]
fn a_state_over_the_limit_is_rejected_as_a_whole_until_it_shrinks() {
    let mut mirror = mirror();
    let large = vec![b'x'; 1 << 20];
    for n in 0..9 {
        put(&mut mirror, &format!("app/{n}"), &large, 1);
    }
    put(&mut mirror, "app/names-count", &large[1000..], 1);
    assert!(mirror.update("1").unwrap().is_some());
    put(&mut mirror, "app/more", &large[..1000], 2);
    let error = mirror.update("2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    mirror.delete("app/0");
    assert!(mirror.update("3").unwrap().is_some());
}

#[test]
fn keys_far_over_the_limit_are_dropped_and_need_a_reload() {
    let mut mirror = mirror();
    put(&mut mirror, "app/first", b"1", 1);
    assert!(mirror.update("1").unwrap().is_some());
    let large = vec![b'x'; 1 << 20];
    for n in 0..40 {
        put(&mut mirror, &format!("app/{n}"), &large, 2);
        let _ = mirror.update("2");
        let kept: usize = mirror.entries.items().map(|(_, item)| item.bytes).sum();
        assert!(
            kept == mirror.entries.bytes() && kept <= MAX_KEPT_BYTES,
            "{kept}"
        );
        assert!(!mirror.needs_reload());
    }
    let error = |mirror: &mut Mirror| mirror.update("3").unwrap_err().kind();
    assert_eq!(error(&mut mirror), ErrorKind::TooLarge);
    // What is not known to be there may still be too much.
    (10..40).for_each(|n| mirror.delete(&format!("app/{n}")));
    assert_eq!(error(&mut mirror), ErrorKind::TooLarge);
    assert!(!mirror.needs_reload());
    // Now all may fit, but nobody knows what it is.
    mirror.delete("app/0");
    assert_eq!(error(&mut mirror), ErrorKind::TooLarge);
    assert!(mirror.document("3").is_err() && mirror.needs_reload());
    let all = ["app/first", "app/35"].map(|key| StoreEntry {
        key,
        bytes: b"2",
        revision: 3,
    });
    mirror.replace(all);
    assert!(!mirror.needs_reload());
    assert_eq!(state(&mut mirror).0, ["35=\"2\"", "first=\"2\""]);
    assert!(mirror.entries.bytes() < 200, "{}", mirror.entries.bytes());
}

#[test]
fn names_count_even_of_unreadable_keys() {
    let long = "x".repeat(500);
    for value in [&b""[..], b"\xff"] {
        let mut mirror = mirror();
        for n in 0..50_000 {
            put(&mut mirror, &format!("app/{n}.{long}"), value, 1);
        }
        let kept = mirror.entries.count();
        assert!(kept * 500 <= MAX_KEPT_BYTES, "{kept}");
        assert_eq!(mirror.update("1").unwrap_err().kind(), ErrorKind::TooLarge);
        mirror.replace([]);
        assert_eq!(
            (mirror.entries.bytes(), state(&mut mirror)),
            (0, (vec![], 0))
        );
    }
}

#[test]
fn more_keys_than_the_limit_are_rejected_until_they_are_fewer() {
    let mut mirror = mirror();
    let key = |n: usize| format!("app/{n}");
    (0..MAX_KEYS).for_each(|n| put(&mut mirror, &key(n), b"", 1));
    assert!(mirror.update("1").unwrap().is_some());
    put(&mut mirror, &key(MAX_KEYS), b"", 2);
    let error = mirror.update("2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("150001 keys"), "{error}");
    mirror.delete(&key(0));
    assert!(mirror.update("3").unwrap().is_some());
    // Twice as many are kept, and the mirror knows that there are more.
    for n in 0..MAX_KEPT_KEYS + 10 {
        put(&mut mirror, &key(n), b"", 4);
    }
    assert_eq!(mirror.entries.count(), MAX_KEPT_KEYS);
    assert!(mirror.update("4").is_err() && !mirror.needs_reload());
    (MAX_KEYS..MAX_KEPT_KEYS + 10).for_each(|n| mirror.delete(&key(n)));
    assert!(mirror.update("5").is_err() && mirror.needs_reload());
}

#[test]
fn keys_added_and_removed_over_the_limit_leave_nothing_behind() {
    let mut mirror = mirror();
    let large = vec![b'x'; 1 << 20];
    for n in 0..11 {
        put(&mut mirror, &format!("app/{n}"), &large, 1);
    }
    for n in 0..1000 {
        put(&mut mirror, &format!("app/brief{n}"), b"1", 2);
        mirror.delete(&format!("app/brief{n}"));
        assert!(mirror.update("2").is_err());
    }
    assert!(matches!(mirror.unassembled, Unassembled::All));
    (0..10).for_each(|n| mirror.delete(&format!("app/{n}")));
    assert!(mirror.update("3").unwrap().is_some());
    assert_eq!(state(&mut mirror).0.len(), 1);
}
