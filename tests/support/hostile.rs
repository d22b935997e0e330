//! Documents of any size that are expensive to parse, for each format.

use std::fmt::Write;

use liveprops::Format;

/// Creates a document of about the given number of bytes.
type Text = Box<dyn Fn(usize) -> String>;

pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) format: Format,
    pub(crate) text: Text,
    /// Whether every few bytes are a value or a table.
    pub(crate) has_many_nodes: bool,
}

/// Repeats a piece between a head and a tail.
fn again(head: &'static str, piece: &'static str, tail: &'static str) -> Text {
    Box::new(move |bytes| {
        let room = bytes.saturating_sub(head.len() + tail.len());
        [head, &piece.repeat(room / piece.len()), tail].concat()
    })
}

/// Repeats a numbered piece between a head and a tail.
fn numbered(head: &'static str, piece: fn(&mut String, usize), tail: &'static str) -> Text {
    Box::new(move |bytes| {
        let mut text = head.to_owned();
        let mut number = 0;
        loop {
            let before = text.len();
            piece(&mut text, number);
            if text.len() + tail.len() > bytes {
                text.truncate(before);
                text.push_str(tail);
                return text;
            }
            number += 1;
        }
    })
}

/// Writes a deeply nested name with its own first segment.
fn deep(text: &mut String, number: usize, separator: &str) {
    let below = format!("{separator}b").repeat(60);
    writeln!(text, "a{number}{below}=1").unwrap();
}

fn many(shape: Shape) -> Shape {
    Shape {
        has_many_nodes: true,
        ..shape
    }
}

fn shape(name: &'static str, format: Format, text: Text) -> Shape {
    Shape {
        name,
        format,
        text,
        has_many_nodes: false,
    }
}

/// Returns the baseline of each format: as many short scalar keys as fit.
pub(crate) fn scalars() -> Vec<Shape> {
    vec![
        #[cfg(feature = "toml")]
        shape(
            "scalars",
            Format::toml(),
            numbered("", |t, i| writeln!(t, "k{i}=1").unwrap(), ""),
        ),
        #[cfg(feature = "json")]
        shape(
            "scalars",
            Format::json(),
            numbered("{\"k\":1", |t, i| write!(t, ",\"k{i}\":1").unwrap(), "}"),
        ),
        #[cfg(feature = "yaml")]
        shape(
            "scalars",
            Format::yaml(),
            numbered("", |t, i| writeln!(t, "k{i}: 1").unwrap(), ""),
        ),
        #[cfg(feature = "properties")]
        shape(
            "scalars",
            Format::properties(),
            numbered("", |t, i| writeln!(t, "k{i}=1").unwrap(), ""),
        ),
        #[cfg(feature = "dotenv")]
        shape(
            "scalars",
            Format::dotenv(),
            numbered("", |t, i| writeln!(t, "k{i}=1").unwrap(), ""),
        ),
    ]
}

/// Returns expensive documents, valid or not.
pub(crate) fn shapes() -> Vec<Shape> {
    #[allow(unused_mut, reason = "every format is a feature")]
    let mut all = Vec::new();
    #[cfg(feature = "toml")]
    all.extend(toml());
    #[cfg(feature = "json")]
    all.extend(json());
    #[cfg(feature = "yaml")]
    all.extend(yaml());
    #[cfg(feature = "properties")]
    all.extend(properties());
    #[cfg(feature = "dotenv")]
    all.extend(dotenv());
    all
}

#[cfg(feature = "toml")]
fn toml() -> Vec<Shape> {
    let numbers =
        |name, head, piece, tail| shape(name, Format::toml(), numbered(head, piece, tail));
    let again = |name, head, piece, tail| shape(name, Format::toml(), again(head, piece, tail));
    vec![
        many(numbers(
            "tables at any depth",
            "",
            |t, i| deep(t, i, "."),
            "",
        )),
        many(again("tables in an array", "", "[[a]]\nb = 1\n", "")),
        again("empty tables in an array", "", "[[a]]\n", ""),
        again("nested arrays of tables", "[[a]]\n", "[[a.b]]\n", ""),
        numbers("headers", "", |t, i| writeln!(t, "[a{i}]").unwrap(), ""),
        numbers(
            "small tables",
            "",
            |t, i| writeln!(t, "[a{i}]\nb=1").unwrap(),
            "",
        ),
        many(numbers(
            "dotted keys",
            "",
            |t, i| writeln!(t, "a{i}.b=1").unwrap(),
            "",
        )),
        numbers(
            "dotted keys below one",
            "",
            |t, i| writeln!(t, "a.b.k{i}=1").unwrap(),
            "",
        ),
        numbers(
            "dotted headers",
            "",
            |t, i| writeln!(t, "[a.b.k{i}]").unwrap(),
            "",
        ),
        numbers(
            "keys of one section",
            "[s]\n",
            |t, i| writeln!(t, "k{i}=1").unwrap(),
            "",
        ),
        numbers(
            "inline tables",
            "a = {",
            |t, i| write!(t, "k{i}={{}},").unwrap(),
            "}\n",
        ),
        numbers(
            "long keys",
            "",
            |t, i| writeln!(t, "{}{i}=1", "k".repeat(900)).unwrap(),
            "",
        ),
        numbers(
            "long quoted keys",
            "",
            |t, i| writeln!(t, "\"{}{i}\"=1", "k".repeat(900)).unwrap(),
            "",
        ),
        again("empty inline tables", "a = [", "{},", "]\n"),
        many(again("inline tables in a list", "a = [", "{a=1},", "]\n")),
        again("empty lists", "a = [", "[],", "]\n"),
        again("empty texts", "a = [", "'',", "]\n"),
        many(again("numbers", "a = [", "1,", "]\n")),
        many(again("numbers in a nested list", "a = [[", "1,", "]]\n")),
        many(again("tables in a nested list", "a = [[", "{a=1},", "]]\n")),
        many(again("lists in a nested list", "a = [[", "[],", "]]\n")),
        again("empty keys", "a = [", "{''=0},", "]\n"),
        again("double quotes", "a = ", "\"", ""),
        again("single quotes", "a = ", "'", ""),
        again("open quotes", "", "a = \"\n", ""),
        again("open long quotes", "", "a = \"\"\"\n", ""),
        again("quotes after quotes", "a = ", "\"\" ", ""),
        again("quotes as a key", "", "\"", ""),
        again("single quotes as a key", "", "'", ""),
        again("backslashes", "a = \"", "\\", "\""),
        again("backslashes in long text", "a = \"\"\"", "\\", "\"\"\""),
        again("line ends in long text", "a = \"\"\"", "\\\n", "\"\"\"\n"),
        again("quotes in long text", "a = \"\"\"", "\"\"\\\"", "\"\"\"\n"),
        again("open brackets", "a = ", "[", ""),
        again("open braces", "a = ", "{", ""),
        again("closed brackets", "a = ", "]", ""),
        again("brackets at line starts", "", "[\n", ""),
        again("open headers", "", "[a\n", ""),
        again("dots", "", "a.", "b = 1"),
        again("dots alone", "a", ".", "= 1"),
        again("equal signs", "a ", "=", ""),
        again("commas", "a = [", ",", "]"),
        again("comments", "", "# c\n", ""),
        again("number signs", "", "#", ""),
        again("comments in a list", "a = [", "#\n", "]\n"),
        again("empty lines", "", "\n", ""),
        again("line ends of other systems", "", "\r\n", ""),
        again("carriage returns", "", "\r", ""),
        again("blanks", "a = 1", " ", ""),
        again("digits", "a = ", "1", ""),
        again("underscores", "a = 1", "_1", ""),
        again("zeros", "a = 0.", "0", ""),
        again("repeated keys", "", "a = 1\n", ""),
        again("repeated tables", "", "[a]\n", ""),
        again("repeated tables with keys", "", "[a]\nb = 1\n", ""),
        again("lines without a value", "", "a\n", ""),
        again("letters", "a = ", "x", ""),
        again("escapes", "a = \"", "\\u00e9", "\"\n"),
    ]
}

#[cfg(feature = "json")]
fn json() -> Vec<Shape> {
    let numbers =
        |name, head, piece, tail| shape(name, Format::json(), numbered(head, piece, tail));
    let again = |name, head, piece, tail| shape(name, Format::json(), again(head, piece, tail));
    vec![
        many(again(
            "small objects",
            "{\"a\":[{\"\":0}",
            ",{\"\":0}",
            "]}",
        )),
        again("empty objects", "{\"a\":[{}", ",{}", "]}"),
        again("empty lists", "{\"a\":[[]", ",[]", "]}"),
        again("empty texts", "{\"a\":[\"\"", ",\"\"", "]}"),
        again("nulls", "{\"a\":[null", ",null", "]}"),
        many(again("numbers", "{\"a\":[1", ",1", "]}")),
        many(again("numbers in a nested list", "{\"a\":[[1", ",1", "]]}")),
        many(again(
            "objects in a nested list",
            "{\"a\":[[{\"\":0}",
            ",{\"\":0}",
            "]]}",
        )),
        many(again("lists in a nested list", "{\"a\":[[[]", ",[]", "]]}")),
        again("objects without a list", "", "{\"\":0}", ""),
        again("repeated names", "{\"\":0", ",\"\":0", "}"),
        numbers(
            "names with objects",
            "{\"a\":1",
            |t, i| write!(t, ",\"a{i}\":{{}}").unwrap(),
            "}",
        ),
        many(numbers(
            "names with small objects",
            "{\"a\":1",
            |t, i| write!(t, ",\"a{i}\":{{\"\":0}}").unwrap(),
            "}",
        )),
        numbers(
            "names with lists",
            "{\"a\":1",
            |t, i| write!(t, ",\"a{i}\":[]").unwrap(),
            "}",
        ),
        numbers(
            "long names",
            "{\"a\":1",
            |t, i| write!(t, ",\"{}{i}\":1", "k".repeat(900)).unwrap(),
            "}",
        ),
        numbers(
            "names of a list item",
            "{\"a\":[{\"a\":1",
            |t, i| write!(t, ",\"a{i}\":1").unwrap(),
            "}]}",
        ),
        again("quotes", "{\"a\":", "\"", "}"),
        again("backslashes", "{\"a\":\"", "\\\\", "\"}"),
        again("open brackets", "{\"a\":", "[", ""),
        again("open braces", "", "{\"a\":", ""),
        again("closed brackets", "{\"a\":1", "]", ""),
        again("digits", "{\"a\":", "1", "}"),
        again("fractions", "{\"a\":0.", "1", "}"),
        again("escapes", "{\"a\":\"", "\\u00e9", "\"}"),
        again("blanks", "{\"a\":1", " ", "}"),
        again("commas", "{\"a\":[1", ",", "]}"),
        again("empty lines", "{\"a\":1", "\n", "}"),
    ]
}

/// Returns lists and mappings in brackets that may be keys. A parser has to read one completely to know.
#[cfg(feature = "yaml")]
pub(crate) fn possible_keys() -> Vec<Shape> {
    let pieces = [
        ":,", "1,", "[],", "{},", "\"a\":1,", "a: 1,", "a:,", "? ,", "'',", "'a'\n", "a,", "&a ",
        "*a ", "!a ", "&a 1,", "[1],", "[a ", "{a: ",
    ];
    let around = [
        ("in a list", "a: [[", "]]\n"),
        ("in a mapping", "a: {b: [{", "}]}\n"),
        ("in an item", "- [", "]\n"),
        ("on a line of its own", "a:\n  [", "]\n"),
        ("as the root", "{", "}\n"),
        ("as a list at the root", "[", "]\n"),
        ("as the root after a document marker", "---\n{", "}\n"),
        ("as a key", "? [", "]\n"),
        ("as JSON", "{\"a\": {\"b\": [[", "]]}}\n"),
    ];
    let of = |(name, head, tail)| {
        let shape = move |piece| shape(name, Format::yaml(), again(head, piece, tail));
        pieces.into_iter().map(shape)
    };
    around.into_iter().flat_map(of).collect()
}

#[cfg(feature = "yaml")]
fn yaml() -> Vec<Shape> {
    let numbers =
        |name, head, piece, tail| shape(name, Format::yaml(), numbered(head, piece, tail));
    let again = |name, head, piece, tail| shape(name, Format::yaml(), again(head, piece, tail));
    vec![
        again("flow pairs", "a: [", "b: 1,", "]\n"),
        many(again("flow pairs without values", "a: [", "b:,", "]\n")),
        again("explicit flow pairs", "a: [", "? b,", "]\n"),
        many(again("small mappings", "a: [", "{b: 1},", "]\n")),
        again("empty mappings", "a: [", "{},", "]\n"),
        again("empty lists", "a: [", "[],", "]\n"),
        again("empty texts", "a: [", "'',", "]\n"),
        many(again("numbers", "a: [", "1,", "]\n")),
        again("items", "a:\n", "- 1\n", ""),
        many(again("items without values", "a:\n", "-\n", "")),
        many(again("pairs in a nested list", "a: [[", ":,", "]]\n")),
        many(again("numbers in a nested list", "a: [[", "1,", "]]\n")),
        many(again("names in a list of items", "- [", "a:,", "]\n")),
        many(numbers(
            "names of the root",
            "{",
            |t, i| write!(t, "a{i},").unwrap(),
            "}\n",
        )),
        many(again("numbers of the root", "{\"a\":[1", ",1", "]}\n")),
        again("items with mappings", "a:\n", "- b: 1\n", ""),
        again("nested items", "a:\n", "- - - 1\n", ""),
        numbers(
            "mappings",
            "",
            |t, i| writeln!(t, "a{i}: {{}}").unwrap(),
            "",
        ),
        numbers(
            "small block mappings",
            "",
            |t, i| writeln!(t, "a{i}:\n b: 1").unwrap(),
            "",
        ),
        many(numbers(
            "flow names",
            "a: {",
            |t, i| write!(t, "a{i},").unwrap(),
            "}\n",
        )),
        numbers(
            "long keys",
            "",
            |t, i| writeln!(t, "{}{i}: 1", "k".repeat(900)).unwrap(),
            "",
        ),
        numbers(
            "anchors",
            "",
            |t, i| writeln!(t, "a{i}: &a{i} 1").unwrap(),
            "",
        ),
        many(numbers(
            "anchors with aliases",
            "a: &a 1\n",
            |t, i| writeln!(t, "a{i}: *a").unwrap(),
            "",
        )),
        again("one anchor again", "a:\n", "- &a 1\n", ""),
        many(again(
            "aliases of a list",
            "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\nb:\n",
            "- *a\n",
            "",
        )),
        again(
            "aliases of a large list",
            "a: &a [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]\nb:\n",
            "- [*a,*a,*a]\n",
            "",
        ),
        again("merge keys", "a: &a {b: 1}\nc:\n", "- <<: *a\n", ""),
        numbers(
            "merges of merges",
            "a0: &a0 {b: 1}\n",
            |t, i| writeln!(t, "c{i}: {{<<: [*a0, *a0], d: 1}}").unwrap(),
            "",
        ),
        again("unknown aliases", "a:\n", "- *a\n", ""),
        again("tags", "a:\n", "- !!str 1\n", ""),
        again("documents", "", "---\n", ""),
        again("document ends", "a: 1\n", "...\n", ""),
        again("directives", "", "%A b\n", ""),
        again("tag directives", "", "%TAG !a! b\n", "--- \na: 1\n"),
        again("lines of a block", "a: |\n", " x\n", ""),
        again("lines of a folded block", "a: >\n", " x\n", ""),
        again("empty lines of a block", "a: |\n", "\n", ""),
        again("blanks of a block", "a: |\n  x\n", "  \n", ""),
        again("lines of a plain scalar", "a: b\n", " c\n", ""),
        again("empty lines of a plain scalar", "a: b\n", "\n", " c\n"),
        again("lines of a quoted scalar", "a: \"b\n", " c\n", "\"\n"),
        again("double quotes", "a: ", "\"", ""),
        again("single quotes", "a: ", "'", ""),
        again("backslashes", "a: \"", "\\\\", "\"\n"),
        again("escapes", "a: \"", "\\u00e9", "\"\n"),
        again("open brackets", "a: ", "[", ""),
        again("open braces", "a: ", "{", ""),
        again("closed brackets", "a: ", "]", ""),
        again("dashes", "a: ", "- ", "1\n"),
        again("dashes without blanks", "a: ", "-", "\n"),
        again("question marks", "", "? ", "1\n"),
        again("colons", "a", ":", "\n"),
        again("colons with blanks", "a", ": ", "\n"),
        again("ampersands", "a: ", "&", ""),
        again("anchors of nothing", "a: ", "&a ", ""),
        again("tags of nothing", "a: ", "!a ", ""),
        again("exclamation marks", "a: ", "!", ""),
        again("comments", "", "# c\n", ""),
        again("comments after items", "a:\n", "- 1 # c\n", ""),
        again("number signs", "", "#", ""),
        again("empty lines", "", "\n", ""),
        again("blanks", "a: 1", " ", ""),
        again("tabs", "a:", "\t", "1\n"),
        again("digits", "a: ", "1", ""),
        again("letters", "a: ", "x", ""),
        again("words", "a: ", "x ", ""),
        again("letters without a key", "", "x", ""),
        again("commas", "a: [1", ",", "]"),
        again("repeated keys", "", "a: 1\n", ""),
        again("lines without a value", "", "a\n", ""),
    ]
}

#[cfg(feature = "properties")]
fn properties() -> Vec<Shape> {
    let numbers =
        |name, head, piece, tail| shape(name, Format::properties(), numbered(head, piece, tail));
    let again =
        |name, head, piece, tail| shape(name, Format::properties(), again(head, piece, tail));
    vec![
        many(numbers(
            "tables at any depth",
            "",
            |t, i| deep(t, i, "."),
            "",
        )),
        many(numbers(
            "tables",
            "",
            |t, i| writeln!(t, "a{i}.b=1").unwrap(),
            "",
        )),
        numbers(
            "keys below one",
            "",
            |t, i| writeln!(t, "a.b.k{i}=1").unwrap(),
            "",
        ),
        many(numbers(
            "keys without a value",
            "",
            |t, i| writeln!(t, "k{i}").unwrap(),
            "",
        )),
        numbers(
            "long keys",
            "",
            |t, i| writeln!(t, "{}{i}=1", "k".repeat(900)).unwrap(),
            "",
        ),
        again("joined lines", "a=1", "\\\n", ""),
        again("joined lines of a key", "a", "\\\n", "b=1\n"),
        again("joined lines with text", "a=", "b\\\n", ""),
        again("joined lines with an indent", "a=", "\\\n ", ""),
        again("backslashes", "a=", "\\\\", ""),
        again("backslashes alone", "", "\\\n\n", ""),
        again("backslashes in a key", "", "\\\\", "=1"),
        again("escapes", "a=", "\\u00e9", ""),
        again("comments", "", "# c\n", ""),
        again("number signs", "", "#", ""),
        again("equal signs", "a", "=", ""),
        again("colons", "a", ":", ""),
        again("dots", "a", ".", "=1"),
        again("blanks", "a", " ", "=1"),
        again("empty lines", "", "\n", ""),
        again("carriage returns", "", "\r", ""),
        again("letters", "", "x", ""),
        again("repeated keys", "", "a=1\n", ""),
        numbers(
            "a value and then tables",
            "",
            |t, i| writeln!(t, "a.b{i}=1").unwrap(),
            "a=1\n",
        ),
    ]
}

#[cfg(feature = "dotenv")]
fn dotenv() -> Vec<Shape> {
    let numbers =
        |name, head, piece, tail| shape(name, Format::dotenv(), numbered(head, piece, tail));
    let again = |name, head, piece, tail| shape(name, Format::dotenv(), again(head, piece, tail));
    vec![
        many(numbers(
            "tables at any depth",
            "",
            |t, i| deep(t, i, "__"),
            "",
        )),
        many(numbers(
            "tables",
            "",
            |t, i| writeln!(t, "A{i}__B=1").unwrap(),
            "",
        )),
        numbers(
            "keys below one",
            "",
            |t, i| writeln!(t, "A__B__K{i}=1").unwrap(),
            "",
        ),
        many(numbers(
            "empty values",
            "",
            |t, i| writeln!(t, "K{i}=").unwrap(),
            "",
        )),
        numbers(
            "long names",
            "",
            |t, i| writeln!(t, "{}{i}=1", "K".repeat(900)).unwrap(),
            "",
        ),
        again("double quotes", "A=", "\"", ""),
        again("single quotes", "A=", "'", ""),
        again("lines in quotes", "A='", "b\n", "'\n"),
        again("backslashes", "A=\"", "\\\\", "\"\n"),
        again("joined lines", "A=\"", "\\\n", "\"\n"),
        again("comments", "", "# c\n", ""),
        again("number signs", "A=1", "#", ""),
        again("number signs after blanks", "A=1", " #", ""),
        again("number signs in quotes", "A='1'", " #", ""),
        again("equal signs", "A", "=", ""),
        again("underscores", "A", "_", "=1"),
        again("blanks", "A=", " ", "1"),
        again("blanks after a value", "A=1", " ", ""),
        again("exports", "", "export ", "A=1"),
        again("empty lines", "", "\n", ""),
        again("blank lines", "", " \n", ""),
        again("letters", "", "x", ""),
        again("lines without a value", "", "A\n", ""),
        again("repeated names", "", "A=1\n", ""),
    ]
}
