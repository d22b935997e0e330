use super::*;
use crate::format::Format;
use crate::format::tests::golden;

fn parse(text: &str) -> Result<Document, Error> {
    Format::dotenv().parse(text.as_bytes(), &Origin::new("f", ""))
}

#[test]
fn every_value_has_its_place() {
    let text = "# c\n; c\nA=1\r\n  export B__C_D = x y # c\nE='$x \\n # \u{e9}'\nF=\"\u{e9}\\n\\\"\\$\\q\r\nl\\\r\nm\" # c\nG=\nH= # c\nI=#no\nexport=1\nJ.K=a#b";
    assert_eq!(
        golden(Format::dotenv(), text),
        "a = \"1\" @3:3\n\
         b.c_d = \"x y\" @4:19\n\
         e = \"$x \\\\n # \u{e9}\" @5:3\n\
         export = \"1\" @12:8\n\
         f = \"\u{e9}\\n\\\"$\\\\q\\nlm\" @6:3\n\
         g = \"\" @9:3\n\
         h = \"\" @10:4\n\
         i = \"#no\" @11:3\n\
         j.k = \"a#b\" @13:5\n"
    );
}

#[test]
fn lines_gone_wrong_are_rejected_without_a_word_of_them() {
    for text in [
        "A=1\nhunter2",
        "hunter2",
        "A='hunter2",
        "A=\"hunter2\nB=1",
        "A='x\nB='hunter2'\nC=1",
        "A=\"x\nB=\"hunter2\"\nC=1",
        "A=1\nhunter2 x",
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn a_line_that_sets_no_key_is_reported_and_left_out() {
    for line in [
        "A-B=hunter2",
        "hunter2",
        "__NEXT=hunter2",
        "A___B=hunter2",
        "1A=1",
        "=1",
        "A__=1",
        "a b=1",
        "\u{e9}=1",
        "A-B='x\ny=hunter2' # c",
        "A-B='x' hunter2",
        "Ww_hunter2.==",
    ] {
        let document = parse(&format!("FIRST=1\n{line}\nLAST=2\n")).unwrap();
        assert_eq!(document.len(), 2, "{line}");
        let [problem] = document.problems() else {
            panic!("{line}: {:?}", document.problems());
        };
        assert_eq!(problem.origin().unwrap().to_string(), "f:2:1", "{line}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn the_padded_line_of_a_pem_block_without_quotes_sets_no_key() {
    for data in [
        "WwQq9hunter2==",
        "WwQq9hunter2=",
        "WwQq9hunter2== \t",
        "  WwQq9hunter2==\r",
        "WwQq9hunter2==\\",
        "Ww+/hunter2==",
        "9Whunter2==",
        "WwQq9hunter2==\"",
    ] {
        for begin in [
            "KEY=-----BEGIN PRIVATE KEY-----",
            "export KEY = -----BEGIN RSA PRIVATE KEY-----\\",
            "-----BEGIN CERTIFICATE-----",
            "-----BEGIN A-----\nMIIE\n-----END A-----\n-----BEGIN B-----",
            "KEY=-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEhunter2",
        ] {
            for end in ["-----END PRIVATE KEY-----\n", ""] {
                let text = format!("{begin}\nMIIEpAIBAA\n{data}\n{end}LAST=2\n");
                let document = parse(&text).unwrap();
                let keys: Vec<_> = document.iter().map(|(key, _, _)| key.to_string()).collect();
                assert!(
                    keys.iter().all(|key| ["key", "last"].contains(&&**key)),
                    "{text}"
                );
                assert!(keys.iter().any(|key| key == "last"), "{text}");
                let line = text.lines().position(|line| line.contains(data.trim()));
                let at = format!("f:{}:", line.unwrap() + 1);
                let problems = document.problems();
                let is_here = |it: &&Error| {
                    it.origin()
                        .is_some_and(|it| it.to_string().starts_with(&at))
                };
                assert_eq!(
                    problems.iter().filter(is_here).count(),
                    1,
                    "{text}: {problems:?}"
                );
                assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
            }
        }
    }
}

#[test]
fn a_line_that_looks_like_padded_base64_sets_its_key_outside_of_a_pem_block() {
    for before in [
        "",
        "-----BEGIN A-----\nMIIE\n-----END A-----",
        "KEY='-----BEGIN A-----\nMIIE\n-----END A-----'",
        "KEY=\"-----BEGIN A-----\nAbc==\n-----END A-----\"",
        "KEY=-----BEGIN A-----MIIE==-----END A-----",
        "KEY=-----BEGIN A-----\nNAME=x",
        "-----BEGIN A-----\nAbc==",
        "# -----BEGIN A-----",
    ] {
        let document = parse(&format!("{before}\nEMPTY=\nToken==\n")).unwrap();
        assert_eq!(document.get("empty"), Some(&"".into()), "{before}");
        assert_eq!(document.get("token"), Some(&"=".into()), "{before}");
    }
}

#[test]
fn text_after_a_closing_quote_costs_its_key_only() {
    for line in [
        "A=\"a\"hunter2",
        "A='hunter2'\\''s'",
        "A='x'hunter2'z'",
        "A='don't hunter2'",
        "A=\"a\" hunter2 \"B=3\" # c",
        "A=''x\r",
    ] {
        let document = parse(&format!("FIRST=1\n{line}\nLAST=2")).unwrap();
        let keys: Vec<_> = document.iter().map(|(key, _, _)| key.to_string()).collect();
        assert_eq!(keys, ["first", "last"], "{line}");
        let [problem] = document.problems() else {
            panic!("{line}: {:?}", document.problems());
        };
        assert_eq!(problem.key_text(), Some("a"), "{problem}");
        assert!(
            problem.origin().unwrap().to_string().starts_with("f:2:"),
            "{problem}"
        );
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn a_carriage_return_within_a_line_is_reported() {
    for (line, keys, key) in [
        ("A=hunter2\rB=2", &["first", "last"][..], Some("a")),
        ("A=hunter2\rB=2\r", &["first", "last"], Some("a")),
        ("A=x # c\rB=hunter2", &["first", "a", "last"], None),
        ("A=x\r# c", &["first", "a", "last"], None),
        ("A='x' # c\rB=hunter2", &["first", "a", "last"], None),
        ("# c\rB=hunter2", &["first", "last"], None),
    ] {
        let document = parse(&format!("FIRST=1\n{line}\nLAST=2\n")).unwrap();
        let found: Vec<_> = document.iter().map(|(key, _, _)| key.to_string()).collect();
        let mut expected = keys.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{line:?}");
        let [problem] = document.problems() else {
            panic!("{line:?}: {:?}", document.problems());
        };
        assert_eq!(problem.key_text(), key, "{problem}");
        let text = problem.to_string();
        assert!(
            text.contains("carriage return") && text.contains("f:2:"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
    // At the end of a line it is a part of that, and in quotes it is one of the text.
    for line in [
        "A=x\r",
        "A=x\r\r",
        "\r",
        "# c\r",
        "A=x # c\r",
        "A='x\ry'",
        "A=\"x\ry\"",
    ] {
        let document = parse(&format!("FIRST=1\n{line}\nLAST=2\n")).unwrap();
        assert!(
            document.problems().is_empty(),
            "{line:?}: {:?}",
            document.problems()
        );
    }
    // A text whose lines all end in one.
    let document = parse("A=1\rB=2\r").unwrap();
    assert!(document.is_empty() && document.problems().len() == 1);
}

#[test]
fn of_a_name_that_is_given_twice_the_last_value_counts_and_the_repetition_is_reported() {
    for text in ["A=1\nB=2\nA=3", "a='${x}'\nB=2\nA=3", "A=1\nA=4\nB=2\nA=3"] {
        let document = parse(text).unwrap();
        assert_eq!(document.get("a"), Some(&"3".into()), "{text}");
        assert_eq!(document.get("b"), Some(&"2".into()), "{text}");
        assert_eq!(
            document.problems().len(),
            text.matches("\nA=").count(),
            "{text}"
        );
        let problem = document.problems().last().unwrap();
        assert_eq!(problem.key_text(), Some("a"), "{problem}");
        assert!(
            problem.to_string().contains("the last one counts"),
            "{problem}"
        );
    }
    let literal = parse("A=3\nA='${x}'").unwrap();
    assert_eq!(literal.get("a"), Some(&"$${x}".into()));
}

#[test]
fn of_a_value_and_a_table_the_first_line_counts_and_the_other_is_reported() {
    for (text, key) in [("A=1\nA__B=2\nC=3", "a.b"), ("A__B=1\nA=2\nC=3", "a")] {
        let document = parse(text).unwrap();
        assert_eq!(document.len(), 2, "{text}");
        let [problem] = document.problems() else {
            panic!("{text}: {:?}", document.problems());
        };
        assert_eq!(problem.key_text(), Some(key), "{problem}");
        assert!(problem.to_string().contains("f:1:"), "{problem}");
    }
}

#[test]
fn many_lines_that_set_no_key_are_counted() {
    let document = parse(&"x\n".repeat(1_000)).unwrap();
    assert_eq!(document.problems().len(), MAX_PROBLEMS + 1);
    let last = document.problems().last().unwrap().to_string();
    assert!(last.contains("900 more"), "{last}");
}
