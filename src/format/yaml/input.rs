//! Adapts a text to the scanner of `saphyr-parser`.

use std::cell::Cell;

use saphyr_parser::StrInput;
use saphyr_parser::input::SkipTabs;

/// The maximum number of indicators that the scanner may read ahead of the parser.
///
/// A list or mapping in brackets may be a key, as in `- [a, b]: c`. The scanner buffers its tokens until it
/// has read the text behind the closing bracket: up to four tokens of 100 bytes for each indicator. It
/// buffers nothing where no key can begin, such as right after `name: `. A word of a quoted scalar that
/// begins with an indicator counts as well.
pub(super) const MAX_LOOKAHEAD: usize = 70_000;

/// Counts the indicators that the scanner has read since the last event.
#[derive(Default)]
pub(super) struct Lookahead(Cell<usize>);

impl Lookahead {
    pub(super) fn reset(&self) {
        self.0.set(0);
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.0.get() > MAX_LOOKAHEAD
    }

    /// Counts a character if it is an indicator: one that starts a token other than a plain scalar.
    fn count(&self, next: char) {
        if let '[' | ']' | '{' | '}' | ',' | ':' | '?' | '&' | '*' | '!' | '"' | '\'' = next {
            self.0.set(self.0.get() + 1);
        }
    }
}

/// A text in which a tab separates a name from its value, as the specification allows.
///
/// The scanner itself requires a blank beside a tab after `:` if the value begins with a letter, a digit or
/// a hyphen. The text ends where [`MAX_LOOKAHEAD`] is exceeded.
pub(super) struct Input<'a, 'r> {
    text: StrInput<'a>,
    lookahead: &'r Lookahead,
}

impl<'a, 'r> Input<'a, 'r> {
    pub(super) fn new(text: &'a str, lookahead: &'r Lookahead) -> Self {
        let text = StrInput::new(text);
        Self { text, lookahead }
    }
}

macro_rules! forward {
    ($(fn $name:ident(&self $(, $arg:ident: $of:ty)*) -> $result:ty;)*) => {$(
        #[inline]
        fn $name(&self $(, $arg: $of)*) -> $result {
            self.text.$name($($arg),*)
        }
    )*};
    ($(fn $name:ident(&mut self $(, $arg:ident: $of:ty)*) -> $result:ty;)*) => {$(
        #[inline]
        fn $name(&mut self $(, $arg: $of)*) -> $result {
            self.text.$name($($arg),*)
        }
    )*};
}

impl saphyr_parser::Input for Input<'_, '_> {
    forward! {
        fn buflen(&self) -> usize;
        fn buf_is_empty(&self) -> bool;
        fn peek(&self) -> char;
        fn peek_nth(&self, n: usize) -> char;
        fn peek_opt(&self) -> Option<char>;
        fn next_char_is(&self, c: char) -> bool;
        fn nth_char_is(&self, n: usize, c: char) -> bool;
        fn next_2_are(&self, c1: char, c2: char) -> bool;
        fn next_3_are(&self, c1: char, c2: char, c3: char) -> bool;
        fn next_is_document_indicator(&self) -> bool;
        fn next_is_document_start(&self) -> bool;
        fn next_is_document_end(&self) -> bool;
        fn next_can_be_plain_scalar(&self, in_flow: bool) -> bool;
        fn next_is_blank_or_break(&self) -> bool;
        fn next_is_blank_or_breakz(&self) -> bool;
        fn next_is_blank(&self) -> bool;
        fn next_is_break(&self) -> bool;
        fn next_is_breakz(&self) -> bool;
        fn next_is_flow(&self) -> bool;
        fn next_is_digit(&self) -> bool;
        fn next_is_alpha(&self) -> bool;
    }

    forward! {
        fn lookahead(&mut self, count: usize) -> ();
        fn raw_read_ch(&mut self) -> char;
        fn raw_read_non_breakz_ch(&mut self) -> Option<char>;
        fn skip(&mut self) -> ();
        fn skip_n(&mut self, count: usize) -> ();
        fn look_ch(&mut self) -> char;
        fn skip_while_non_breakz(&mut self) -> usize;
        fn skip_while_blank(&mut self) -> usize;
        fn fetch_while_is_alpha(&mut self, out: &mut String) -> usize;
        fn fetch_while_is_yaml_non_space(&mut self, out: &mut String) -> usize;
    }

    /// The scanner reserves this many bytes for each plain scalar.
    #[inline]
    fn bufmaxlen(&self) -> usize {
        16
    }

    /// The scanner calls this once before each token, and before each word of a quoted scalar.
    #[inline]
    fn next_is_z(&self) -> bool {
        if self.text.next_is_z() {
            return true;
        }
        self.lookahead.count(self.text.peek());
        self.lookahead.is_exceeded()
    }

    fn skip_ws_to_eol(&mut self, tabs: SkipTabs) -> (usize, Result<SkipTabs, &'static str>) {
        let (count, skipped) = self.text.skip_ws_to_eol(tabs);
        let skipped = skipped.map(|skipped| match skipped {
            SkipTabs::Result(true, _) => SkipTabs::Result(true, true),
            skipped => skipped,
        });
        (count, skipped)
    }
}
