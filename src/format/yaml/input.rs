//! The text, as the scanner of `saphyr-parser` wants it.

use std::cell::Cell;

use saphyr_parser::StrInput;
use saphyr_parser::input::SkipTabs;

/// The most marks that the scanner may read ahead of the parser: brackets, braces, commas, colons,
/// quotes, anchors, aliases and tags.
///
/// A list or mapping in brackets may be a key, as in `- [a, b]: c`. The scanner keeps all its tokens
/// until it knows what follows the closing bracket, up to four tokens of 100 bytes for each mark. It
/// keeps none where no key can begin, such as right after `name: `. Words of a quoted scalar that begin
/// with a mark count as well.
pub(super) const MAX_AHEAD: usize = 70_000;

/// How many marks the scanner has read since the last event.
#[derive(Default)]
pub(super) struct Ahead(Cell<usize>);

impl Ahead {
    pub(super) fn reset(&self) {
        self.0.set(0);
    }

    /// Whether the scanner has read too far ahead.
    pub(super) fn is_too_far(&self) -> bool {
        self.0.get() > MAX_AHEAD
    }

    fn count(&self, next: char) {
        if let '[' | ']' | '{' | '}' | ',' | ':' | '?' | '&' | '*' | '!' | '"' | '\'' = next {
            self.0.set(self.0.get() + 1);
        }
    }
}

/// A text in which a tab separates a name from its value as a blank does.
///
/// After `:` the scanner wants a blank beside the tab, unless what follows begins with another
/// character than a letter, a digit or a hyphen. The specification wants neither.
///
/// The text ends where the scanner has read too far ahead.
pub(super) struct Input<'a, 'r>(StrInput<'a>, &'r Ahead);

impl<'a, 'r> Input<'a, 'r> {
    pub(super) fn new(text: &'a str, ahead: &'r Ahead) -> Self {
        Self(StrInput::new(text), ahead)
    }
}

macro_rules! forward {
    ($(fn $name:ident(&self $(, $arg:ident: $of:ty)*) -> $result:ty;)*) => {$(
        #[inline]
        fn $name(&self $(, $arg: $of)*) -> $result {
            self.0.$name($($arg),*)
        }
    )*};
    ($(fn $name:ident(&mut self $(, $arg:ident: $of:ty)*) -> $result:ty;)*) => {$(
        #[inline]
        fn $name(&mut self $(, $arg: $of)*) -> $result {
            self.0.$name($($arg),*)
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

    /// The scanner gives each plain scalar room for this many more bytes.
    #[inline]
    fn bufmaxlen(&self) -> usize {
        16
    }

    /// The scanner asks this once before each token, and before each word of a quoted scalar.
    #[inline]
    fn next_is_z(&self) -> bool {
        if !self.0.next_is_z() {
            self.1.count(self.0.peek());
            return self.1.is_too_far();
        }
        true
    }

    fn skip_ws_to_eol(&mut self, tabs: SkipTabs) -> (usize, Result<SkipTabs, &'static str>) {
        let (count, skipped) = self.0.skip_ws_to_eol(tabs);
        let skipped = skipped.map(|skipped| match skipped {
            SkipTabs::Result(true, _) => SkipTabs::Result(true, true),
            skipped => skipped,
        });
        (count, skipped)
    }
}
