//! A text in which a secret stands that was read as one: no part of the text shows it, however the text
//! is read later.

use super::*;

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Account {
    #[serde(default)]
    n: u32,
    code: Secret<String>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Plain {
    #[serde(default)]
    n: u8,
    code: u8,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Counted {
    n: u8,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
enum Variant {
    #[serde(rename = "code")]
    Code(u8),
    #[serde(rename = "n")]
    N(u8),
    Other,
}

fn with_text(text: &str) -> Properties {
    let vars = [("APP_LIST", text)];
    Properties::builder()
        .source(Env::prefix("APP_").vars(vars))
        .build()
        .unwrap()
}

/// Reads a text in each way in which it can be cut, and shows the errors.
fn read_in_all_ways(out: &Outputs, props: &Properties) {
    macro_rules! read {
        ($($t:ty),* $(,)?) => {
            $(
                out.rejection(stringify!($t), props.get::<$t>("list"));
                out.rejection(stringify!($t), props.get::<BTreeMap<String, $t>>(""));
                out.rejection(stringify!($t), props.snapshot().get::<Option<$t>>("list"));
            )*
        };
    }
    read!(
        u8,
        bool,
        char,
        Duration,
        Vec<u8>,
        Vec<char>,
        Vec<Vec<u8>>,
        Vec<Vec<Vec<u8>>>,
        Vec<Vec<Vec<Vec<u8>>>>,
        Vec<(u8, u8)>,
        Vec<(String, u8)>,
        (u8, u8),
        BTreeMap<String, u8>,
        BTreeMap<String, Vec<u8>>,
        BTreeMap<String, BTreeMap<String, u8>>,
        BTreeMap<u8, u8>,
        BTreeMap<u8, Vec<u8>>,
        Vec<BTreeMap<String, u8>>,
        Vec<BTreeMap<String, Vec<u8>>>,
        Vec<BTreeMap<u8, u8>>,
        Plain,
        Vec<Plain>,
        Vec<Vec<Plain>>,
        Counted,
        Vec<Counted>,
        Variant,
        Vec<Variant>,
        Vec<Vec<Variant>>,
        BTreeMap<String, Variant>,
    );
    out.text("explain", props.explain("list"));
    out.debug("explain", &props.explain("list"));
}

/// Reads a text as secrets, then in all ways; returns what shows a part of it.
fn leaks<T: serde::de::DeserializeOwned + 'static>(text: &str) -> Vec<String> {
    let props = with_text(text);
    assert!(props.get::<T>("list").is_ok(), "{text}");
    let out = Outputs::default();
    read_in_all_ways(&out, &props);
    let all = out.0.lock().unwrap();
    assert!(all.len() > 100, "{} errors are too few", all.len());
    let shown = all.iter().filter(|(_, said)| said.contains(MARK));
    let shown: BTreeSet<_> = shown
        .map(|(what, said)| format!("{text} as {what}: {said}"))
        .collect();
    shown.into_iter().collect()
}

fn assert_hidden<T: serde::de::DeserializeOwned + 'static>(texts: &[String]) {
    let leaks: Vec<String> = texts.iter().flat_map(|text| leaks::<T>(text)).collect();
    assert!(leaks.is_empty(), "{}:\n{}", leaks.len(), leaks.join("\n"));
}

#[test]
fn no_part_of_a_list_of_structs_shows_their_secret() {
    assert_hidden::<Vec<Account>>(&[
        format!("[{{n=3,code={MARK}}}]"),
        format!("[{{code={MARK},n=3}}]"),
        format!("[{{n=3,code={MARK}}},{{n=4,code={MARK}b}}]"),
        format!("[{{n = 3, code = \"{MARK}\"}}]"),
        format!("[{{\"n\":3,\"code\":\"{MARK}\"}}]"),
        format!("[{{\"code\":\"{MARK}\"}},{{\"n\":4,\"code\":\"{MARK}b\"}}]"),
        format!("{{n=3,code={MARK}}}"),
    ]);
}

#[test]
fn no_part_of_a_struct_shows_its_secret() {
    assert_hidden::<Account>(&[
        format!("{{n=3,code={MARK}}}"),
        format!("{{code={MARK}}}"),
        format!("{{\"n\":3,\"code\":\"{MARK}\"}}"),
        format!("n=3,code={MARK}"),
        format!("code={MARK}"),
    ]);
}

#[test]
fn no_part_of_a_map_or_list_of_secrets_shows_one() {
    assert_hidden::<BTreeMap<String, Secret<String>>>(&[
        format!("{{n={MARK},code={MARK}}}"),
        format!("n={MARK},code={MARK}"),
        format!("{{\"n\":\"{MARK}\",\"code\":\"{MARK}b\"}}"),
    ]);
    assert_hidden::<Vec<Secret<String>>>(&[
        format!("{{n={MARK},code={MARK}}}"),
        format!("n={MARK},code={MARK}"),
        format!("[\"{MARK}\",\"{MARK}b\"]"),
        format!("[{{n=3,code={MARK}}}]"),
        format!("[{{\"n\":3,\"code\":\"{MARK}\"}}]"),
    ]);
    assert_hidden::<BTreeMap<String, BTreeMap<String, Secret<String>>>>(&[
        format!("{{a={{n={MARK},code={MARK}}}}}"),
        format!("{{\"a\":{{\"n\":\"{MARK}\",\"code\":\"{MARK}\"}}}}"),
    ]);
    assert_hidden::<Vec<(String, Secret<String>)>>(&[format!(
        "[[\"a\",\"{MARK}\"],[\"b\",\"{MARK}\"]]"
    )]);
    assert_hidden::<Secret<String>>(&[format!("[{{n=3,code={MARK}}}]"), format!("code={MARK}")]);
}

#[test]
fn an_item_that_comes_later_beside_a_secret_one_is_hidden() {
    let memory = Memory::from([("list", format!("[{{n=3,code={MARK}}}]"))]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    props.get::<Vec<Account>>("list").unwrap();
    memory
        .set("list", format!("[{{n=3,code=old}},{{n=4,code={MARK}}}]"))
        .unwrap();
    props.refresh_now().unwrap();
    let out = Outputs::default();
    read_in_all_ways(&out, &props);
    let all = out.0.lock().unwrap();
    let shown: Vec<_> = all.iter().filter(|(_, said)| said.contains(MARK)).collect();
    assert!(shown.is_empty(), "{shown:#?}");
}

#[test]
fn the_other_fields_of_a_text_with_a_secret_are_shown() {
    for text in [
        format!("[{{n=3,code={MARK}}},{{n=999,code={MARK}}}]"),
        format!("[{{\"n\":3,\"code\":\"{MARK}\"}},{{\"n\":999,\"code\":\"{MARK}\"}}]"),
    ] {
        let props = with_text(&text);
        props.get::<Vec<Account>>("list").unwrap();
        let error = props.get::<Vec<Counted>>("list").unwrap_err().to_string();
        assert!(
            error.contains("list.1.n") && error.contains("999"),
            "{error}"
        );
    }
}
