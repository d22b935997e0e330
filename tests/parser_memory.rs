//! The heap of a parser is bounded for every document.
//!
//! The allocator counts all threads, so each measurement runs in its own process.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use liveprops::sources::Memory;
use liveprops::{ErrorKind, Origin, Properties, Value};
use peak_alloc::PeakAlloc;
use support::child::{Child, report, role};
use support::hostile::{self, Shape};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;

/// Returns the peak heap of a call, without the bytes allocated before it.
fn peak_of<R>(call: impl FnOnce() -> R) -> (usize, R) {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let result = call();
    (HEAP.peak_usage() - before, result)
}

/// Parses a document of `bytes` bytes.
fn parse(shape: &Shape, bytes: usize) -> (usize, Option<ErrorKind>) {
    let text = (shape.text)(bytes);
    let origin = Origin::new("test", "");
    let (peak, parsed) = peak_of(|| shape.format.parse(text.as_bytes(), &origin));
    (peak, parsed.err().map(|error| error.kind()))
}

/// The bound in the documentation of `Format`, as a multiple of the heap for scalar keys of the
/// same length.
const HOSTILE: usize = 4;

/// The bound of short documents in the documentation of `Format`.
const SHORT: usize = 192 * MIB;

/// The lengths of the documents: below the limits, and above them in each format.
const HOSTILE_BYTES: [usize; 2] = [MIB / 4, 3 * MIB / 2];

#[test]
fn no_document_needs_more_than_four_times_the_memory_of_scalar_keys() {
    let test = "no_document_needs_more_than_four_times_the_memory_of_scalar_keys";
    let Some(format) = role() else {
        for scalars in hostile::scalars() {
            Child::of(test).role(scalars.format.name()).succeeds();
        }
        return;
    };
    let of_format = |shape: &Shape| shape.format.name() == format;
    let scalars = hostile::scalars().into_iter().find(of_format).unwrap();
    let mut line = format!("{format}:");
    for bytes in HOSTILE_BYTES {
        let (usual, _) = parse(&scalars, bytes);
        let bound = SHORT.max(HOSTILE * usual);
        let mut worst = (0, "");
        for shape in hostile::shapes().iter().filter(|shape| of_format(shape)) {
            if shape.has_many_nodes {
                let (peak, fault) = parse(shape, bytes);
                let is_expected = fault.is_none_or(|kind| kind == ErrorKind::TooLarge);
                assert!(is_expected, "{}: {fault:?}", shape.name);
                assert!(peak <= bound, "{}: {peak}, and {bound} at most", shape.name);
                worst = worst.max((peak, shape.name));
            }
        }
        let times = usual as f64 / bytes as f64;
        let (worst, name) = worst;
        line += &format!(" {bytes} bytes need {worst} at most ({name}), scalars {times:.0} each;");
    }
    report(line);
}

/// The bound of tokens that the YAML parser reads ahead, in the documentation of `Format`.
#[cfg(feature = "yaml")]
const AHEAD: usize = 48 * MIB;

#[cfg(feature = "yaml")]
#[test]
fn memory_is_bounded_for_possible_keys_in_yaml() {
    let test = "memory_is_bounded_for_possible_keys_in_yaml";
    if role().is_none() {
        return Child::of(test).succeeds();
    }
    let (mut worst, mut ahead) = ((0, String::new()), 0);
    for shape in hostile::possible_keys() {
        // A value of a store has at most one mebibyte; less is enough for the limit.
        let bytes = if shape.name == "in a list" {
            MIB
        } else {
            MIB / 4
        };
        let (peak, fault) = parse(&shape, bytes);
        let text = (shape.text)(30);
        assert!(peak <= SHORT, "{}: {text}: {peak}: {fault:?}", shape.name);
        worst = worst.max((peak, format!("{}: {text:?}", shape.name)));
        if fault == Some(ErrorKind::TooLarge) && !shape.name.contains("root") {
            assert!(peak <= AHEAD, "{}: {text}: {peak}", shape.name);
            ahead = ahead.max(peak);
        }
    }
    let (worst, shape) = worst;
    report(format!(
        "{ahead} at most is read ahead; {worst} at most: {shape}"
    ));
}

#[cfg(feature = "yaml")]
#[test]
fn a_list_too_long_for_a_yaml_key_is_rejected_with_its_line() {
    let long = "1,".repeat(200_000);
    for (text, origin) in [
        (format!("a: 1\nb: # [\n  - [0]\n  - [{long}]\n"), "f:4:5"),
        (format!("a: [0, [{long}]]\n"), "f:1:8"),
        (format!("# {{\n---\n{{a: 1, b: [{long}]}}\n"), "f:3:1"),
    ] {
        let parsed = liveprops::Format::yaml().parse(text.as_bytes(), &Origin::new("f", ""));
        let error = parsed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert_eq!(
            error.origin().map(ToString::to_string).as_deref(),
            Some(origin),
            "{error}"
        );
    }
}

#[cfg(feature = "yaml")]
#[test]
fn a_long_document_of_json_can_be_read_as_yaml() {
    let fields = |count| {
        let fields: Vec<_> = (0..count).map(|i| format!("\n  \"k{i}\": {i}")).collect();
        fields.join(",")
    };
    let list = "1,".repeat(100_000);
    let text = format!(
        "# c\n  {{\"list\": [{list}1], \"all\": {{{}\n}},{}\n}}\n",
        fields(100_000),
        fields(100_000)
    );
    let origin = Origin::new("f", "");
    let parsed = liveprops::Format::yaml().parse(text.as_bytes(), &origin);
    let document = parsed.unwrap();
    assert_eq!(document.len(), 200_001);
    assert_eq!(document.get("k99999"), Some(&99_999.into()));
    let origin = |key: &str| {
        let mut all = document.iter();
        let (_, _, at) = all.find(|(it, _, _)| it.as_str() == key).unwrap();
        at.to_string()
    };
    assert_eq!(origin("list"), "f:2:12");
    assert_eq!(origin("all.k0"), "f:3:9");
}

#[cfg(all(feature = "http", feature = "yaml"))]
#[test]
fn the_server_of_these_tests() {
    support::web::serve_as_child();
}

#[cfg(all(feature = "http", feature = "yaml"))]
#[test]
fn a_document_of_a_web_server_needs_no_more_memory_than_its_format_documents() {
    use liveprops::Source;
    use liveprops::sources::Http;

    let test = "a_document_of_a_web_server_needs_no_more_memory_than_its_format_documents";
    if let Some(url) = role() {
        let http = Http::new(url).without_proxy();
        let (peak, loaded) = peak_of(|| http.load());
        let error = loaded.unwrap_err();
        report(format!("{peak} at most: {error}"));
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        // The document itself and the buffers of the client.
        return assert!(peak <= AHEAD + 20 * MIB, "{peak}");
    }
    let web = support::web::Web::start("the_server_of_these_tests");
    for (name, head, piece) in [("pairs", "a: [[", "a:,"), ("root", "---\n{", "a: 1,")] {
        let name = format!("{name}.yaml");
        let text = [head, &piece.repeat(9 * MIB / piece.len())].concat();
        web.set(&name, "ok", text);
        Child::of(test).role(web.url("http", &name)).succeeds();
    }
}

/// The length of the texts; with the shortest items they exceed the limit.
const TEXT_BYTES: usize = 9 * MIB / 4;

/// Returns the peak heap of reading such a text as a list or a table.
const SPELLED: usize = 128 * MIB;

#[test]
fn memory_is_bounded_for_a_text_that_spells_lists_and_tables() {
    let test = "memory_is_bounded_for_a_text_that_spells_lists_and_tables";
    let Some(role) = role() else {
        for form in ["list", "table"] {
            Child::of(test).role(form).succeeds();
        }
        return;
    };
    let mut worst = (0, "");
    for (head, piece, tail) in [
        ("[", "1,", "0]"),
        ("[", "{\"\":0},", "0]"),
        ("{a=[", "{a=1},", "0]}"),
        ("{a=[", "1,", "0]}"),
    ] {
        if head.starts_with("{") == (role == "table") {
            let room = TEXT_BYTES - head.len() - tail.len();
            let text = [head, &piece.repeat(room / piece.len()), tail].concat();
            let memory = Memory::from([("a", text)]);
            let props = Properties::builder().source(memory).build().unwrap();
            let (peak, _) = peak_of(|| match head.starts_with('{') {
                true => props.get::<BTreeMap<String, Value>>("a").is_ok(),
                false => props.get::<Vec<Value>>("a").is_ok(),
            });
            worst = worst.max((peak, piece));
        }
    }
    let (worst, piece) = worst;
    assert!(worst <= SPELLED, "{worst} for {piece}");
    report(format!("{worst} at most, for {piece}"));
}
