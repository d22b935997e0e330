use super::*;

#[test]
fn a_document_that_was_never_there_is_an_error_and_one_that_is_deleted_is_not() {
    let mut mapping = Mapping::document("test", '/', "app.lines");
    mapping.set_format(lines());
    let mut mirror = Mirror::new(mapping);
    for _ in 0..2 {
        mirror.replace([]);
        let error = mirror.document("1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let text = error.to_string();
        for part in ["does not exist", "policy.optional()", "test app.lines"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(mirror.update("1").is_err());
    }
    put(&mut mirror, "app.lines", b"a=1", 2);
    assert_eq!(state(&mut mirror).0.len(), 1);
    mirror.delete("app.lines");
    assert_eq!(state(&mut mirror).0.len(), 0);
    assert!(mirror.update("3").unwrap().is_none());
}

#[cfg(feature = "toml")]
#[test]
fn a_document_is_a_subtree_or_everything_and_the_last_good_one_stays() {
    let mut mapping = Mapping::prefix("test", '/', "app");
    mapping.add_document("limits", Format::toml());
    let mut mirror = Mirror::new(mapping);
    put(&mut mirror, "app/limits", b"qps = 1\n[deep]\nx = 2", 1);
    put(&mut mirror, "app/other", b"3", 1);
    let all = ["limits.deep.x=2", "limits.qps=1", "other=\"3\""];
    assert_eq!(state(&mut mirror), (all.map(str::to_owned).to_vec(), 0));
    let origin = mirror
        .document("1")
        .unwrap()
        .origin("limits.qps")
        .unwrap()
        .to_string();
    assert!(origin.contains("app/limits:1:7"), "{origin}");
    let accepted = mirror.document("1").unwrap();
    put(&mut mirror, "app/limits", b"qps = ", 2);
    assert_eq!(state(&mut mirror).1, 1);
    let all = ["limits.deep.x = 2", "limits.qps = 1", "other = \"3\""];
    assert_eq!(restored(&mut mirror, &accepted), all);
    mirror.delete("app/limits");
    assert_eq!(state(&mut mirror), (vec!["other=\"3\"".to_owned()], 0));

    let mut mirror = Mirror::new(Mapping::document("test", '/', "app.toml"));
    put(&mut mirror, "app.toml", b"a = 1", 1);
    assert!(mirror.update("1").unwrap().is_some());
    put(&mut mirror, "app.toml", b"a = ", 2);
    assert!(mirror.update("2").is_err());
    put(&mut mirror, "app.toml", b"a = 3", 3);
    assert!(mirror.update("3").unwrap().is_some());
    assert_eq!(state(&mut mirror).0, ["a=3"]);
}

#[test]
fn a_key_inside_a_document_is_a_clash_and_the_document_stays() {
    let whole = ["limits.burst=\"2\"", "limits.qps=\"1\""].map(str::to_owned);
    for lone in ["app/limits/qps", "app/limits.qps", "app/limits/other"] {
        let mut mirror = mirror_with(&["limits"]);
        put(&mut mirror, "app/limits", b"qps=1\nburst=2", 1);
        assert_eq!(state(&mut mirror), (whole.to_vec(), 0));
        put(&mut mirror, lone, b"9", 2);
        assert_eq!(state(&mut mirror), (whole.to_vec(), 1), "{lone}");
        let text = problems(&mut mirror).remove(0);
        assert!(
            text.contains(lone) && text.contains("`app/limits`"),
            "{text}"
        );
        put(&mut mirror, "app/else", b"1", 3);
        assert_eq!(state(&mut mirror).1, 1);
        mirror.delete("app/else");
        mirror.delete(lone);
        assert_eq!(state(&mut mirror), (whole.to_vec(), 0), "{lone}");
        // It counts once the document is removed, and the document counts once it is set.
        put(&mut mirror, lone, b"9", 4);
        mirror.delete("app/limits");
        let (left, problems) = state(&mut mirror);
        assert_eq!((left.len(), problems), (1, 0), "{left:?}");
        put(&mut mirror, "app/limits", b"qps=1\nburst=2", 5);
        assert_eq!(state(&mut mirror), (whole.to_vec(), 1), "{lone}");
    }
}

#[test]
fn a_document_clashes_with_keys_above_it_and_with_other_documents() {
    let mut mirror = mirror_with(&["a/b", "a/b/c", "a.b"]);
    put(&mut mirror, "app/a/b", b"", 1);
    put(&mut mirror, "app/a", b"up", 1);
    put(&mut mirror, "app/a/b/x", b"in an empty one", 1);
    assert_eq!(state(&mut mirror), (vec![], 2));
    mirror.delete("app/a");
    mirror.delete("app/a/b/x");
    assert_eq!(state(&mut mirror), (vec![], 0));
    put(&mut mirror, "app/a.b", b"x=1", 2);
    put(&mut mirror, "app/a/b/c", b"y=1", 2);
    assert_eq!(state(&mut mirror), (vec!["a.b.c.y=\"1\"".to_owned()], 2));
}
