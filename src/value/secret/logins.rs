//! Finds logins without a scheme: `me:pw@tcp(host)/db`, `me:pw@host`, `me/pw@//host/service`.
//!
//! Most logins are one word. A password with a blank, a comma or a quote ends the word. Such a login is
//! found by its target, if only a login can precede that target.

use std::net::IpAddr;

use crate::error::MASK;
use crate::value::secret::values::{OnSecret, is_reference, words};

/// Names in `name:something@host` that are not users, except before some targets.
const NO_USERS: [&str; 45] = [
    "acct",
    "assignee",
    "author",
    "bcc",
    "cc",
    "contact",
    "docker",
    "domain",
    "email",
    "file",
    "from",
    "github",
    "gitlab",
    "group",
    "http",
    "https",
    "image",
    "jdbc",
    "jsr",
    "mail",
    "mailto",
    "maintainer",
    "member",
    "notify",
    "npm",
    "oci",
    "on-call",
    "oncall",
    "owner",
    "pkg",
    "principal",
    "recipient",
    "reply-to",
    "replyto",
    "reviewer",
    "sender",
    "serviceaccount",
    "sip",
    "sips",
    "support",
    "to",
    "user",
    "uses",
    "workspace",
    "xmpp",
];

/// Those of [`NO_USERS`] that a path follows: `github:org/repo@branch/x`.
const BEFORE_PATHS: [&str; 13] = [
    "docker",
    "file",
    "github",
    "gitlab",
    "http",
    "https",
    "image",
    "jsr",
    "npm",
    "oci",
    "pkg",
    "uses",
    "workspace",
];

/// The characters that end a word.
const SEPARATORS: [char; 8] = [' ', '\t', '\n', '\r', '"', '\'', ',', ';'];

/// The characters that end the host and the port of a target.
const HOST_ENDS: [char; 19] = [
    '/', '?', '#', '@', ' ', '\t', '\n', '\r', '"', '\'', ',', ';', '(', ')', '<', '>', '|', '&',
    '\\',
];

/// Networks that Go drivers connect over.
const NETWORKS: [&str; 7] = ["tcp", "tcp4", "tcp6", "udp", "unix", "cloudsql", "memory"];

/// Finds the logins in a text.
pub(super) fn find_logins(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    find_in_words(text, on_secret) && find_across_words(text, on_secret)
}

/// The text behind the `@` of a login.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Target {
    /// A network with an address, or a database alone: `tcp(host)/db`, `/db`.
    Driver,
    /// A host with a port, or an address of a host.
    Host,
    /// A host with a path.
    Path,
    /// A name alone, which may be the host of a mail address.
    Name,
    /// Not a target of a connection.
    None,
}

impl Target {
    fn of(tail: &str) -> Self {
        let is_digest = tail.starts_with("sha256:") || tail.starts_with("sha512:");
        if is_digest || is_version(tail) {
            return Self::None;
        }
        if tail.starts_with('/') || network(tail).is_some() {
            return Self::Driver;
        }
        let is_host = |c: char| c.is_alphanumeric() || c == '[' || c == '_';
        if !(tail.starts_with(is_host) || tail.starts_with("${")) {
            return Self::None;
        }
        let authority = tail.split(HOST_ENDS).next().unwrap_or_default();
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        if is_port(port) || host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
            Self::Host
        } else if tail[authority.len()..].starts_with('/') {
            Self::Path
        } else {
            Self::Name
        }
    }
}

/// The network that a target names.
fn network(tail: &str) -> Option<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "+-_".contains(c);
    let name = tail.split(|c| !is_name(c)).next().unwrap_or_default();
    tail[name.len()..].starts_with('(').then_some(name)
}

fn is_port(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.starts_with("${")
        || (digits > 0 && !text[digits..].starts_with(|c: char| c.is_alphanumeric()))
}

/// Whether a text is the version of a package, and not the address of a host: `1.0.200`, `v4`.
fn is_version(tail: &str) -> bool {
    let number = tail.strip_prefix('v').unwrap_or(tail);
    let core = number.split(['-', '+']).next().unwrap_or_default();
    let parts = core.split('.').count();
    parts < 4
        && core
            .split('.')
            .all(|it| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit()))
}

/// Finds logins of one word.
fn find_in_words(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    for word in words(text, &SEPARATORS) {
        let Some(at) = text[word.clone()].rfind('@') else {
            continue;
        };
        let head = &text[word.start..word.start + at];
        let tail = &text[word.start + at + 1..word.end];
        if head.contains("://") {
            continue;
        }
        let begin = match head.split_once(':') {
            Some((name, rest)) if is_jdbc(name, rest) => {
                let login = jdbc_login(head);
                is_oracle(login, tail, false).then_some(head.len() - login.len())
            }
            Some((name, password)) => {
                let user = user_in(name);
                is_login(user, password, tail).then_some(name.len() - user.len())
            }
            None => is_oracle(head, tail, true).then_some(0),
        };
        if begin.is_some_and(|begin| !on_secret(word.start + begin..word.start + at)) {
            return false;
        }
    }
    true
}

/// The part of a text before `:` that names the user: `me` of `dsn=me`.
fn user_in(name: &str) -> &str {
    let begin = name.rfind(['=', '(', '[', '{', '<', '|']);
    &name[begin.map_or(0, |at| at + 1)..]
}

fn is_login(user: &str, password: &str, tail: &str) -> bool {
    let target = Target::of(tail);
    if user.is_empty() || password.is_empty() || is_reference(password) {
        return false;
    }
    match target {
        Target::None => return false,
        Target::Driver => return true,
        Target::Host | Target::Path | Target::Name => {}
    }
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // A time, and not a login: `12:30@10`.
    let is_time = is_number(user) && is_number(password);
    let is_path = password.contains('/') && target != Target::Host;
    // `git@host:org/repo@branch` is a repository, `me@corp:pw@host` a login.
    let is_repository = user.starts_with("git@") || (user.contains('@') && is_path);
    // Single letters are placeholders: `a:b@c`.
    let are_letters =
        target == Target::Name && [user, password, tail].iter().all(|it| it.len() == 1);
    is_user_name(user)
        && !is_repository
        && !is_time
        && !are_letters
        && !is_no_user(user, password, tail, target)
}

/// Whether a text may be the name of a user.
fn is_user_name(user: &str) -> bool {
    let is_name_char = |c: char| c.is_alphanumeric() || "-_.+%$\\@".contains(c);
    !user.is_empty() && user.chars().all(is_name_char)
}

/// Whether a name shows that no login follows: `user:me@example.com` names a member of a team,
/// `user:pw@host:5432` is a login. Any other name counts as a user: `root:job@host`.
fn is_no_user(name: &str, password: &str, tail: &str, target: Target) -> bool {
    let is = |names: &[&str]| names.iter().any(|it| name.eq_ignore_ascii_case(it));
    let first = tail.split('/').next().unwrap_or_default();
    is(&NO_USERS)
        && match target {
            Target::Host => is(&["sip", "sips"]) && is_call(tail),
            Target::Path => is(&BEFORE_PATHS) && (password.contains('/') || is_version(first)),
            _ => true,
        }
}

/// Whether a target is that of a SIP call, by its registered port.
fn is_call(tail: &str) -> bool {
    let authority = tail.split(';').next().unwrap_or_default();
    authority.ends_with(":5060") || authority.ends_with(":5061")
}

/// Whether a text is a JDBC address, by the parts before and behind its first colon.
fn is_jdbc(name: &str, rest: &str) -> bool {
    name.eq_ignore_ascii_case("jdbc") && rest.contains(':')
}

/// The login in a JDBC address: `me/pw` of `jdbc:oracle:thin:me/pw`.
fn jdbc_login(head: &str) -> &str {
    head.splitn(4, ':').last().unwrap_or_default()
}

/// Whether a text before `@` is a user with a password in Oracle's notation.
fn is_oracle(login: &str, tail: &str, needs_service: bool) -> bool {
    login.split_once('/').is_some_and(|(user, password)| {
        let is_login = !user.is_empty() && !password.is_empty() && !is_reference(password);
        is_login && (!needs_service || is_service(tail))
    })
}

/// Whether a text is a database in Oracle's notation.
fn is_service(tail: &str) -> bool {
    let has_port = || {
        tail.split_once(':').is_some_and(|(host, rest)| {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            !host.is_empty()
                && digits > 0
                && matches!(rest.as_bytes().get(digits), Some(b'/' | b':'))
        })
    };
    tail.starts_with("//") || tail.starts_with('(') || has_port()
}

/// Finds logins whose password ends a word, in each line of a text.
fn find_across_words(text: &str, on_secret: &mut OnSecret<'_>) -> bool {
    words(text, &['\n', '\r']).all(|line| {
        let start = line.start;
        find_across_words_of_line(&text[line], &mut |part| {
            on_secret(start + part.start..start + part.end)
        })
    })
}

fn find_across_words_of_line(line: &str, on_secret: &mut OnSecret<'_>) -> bool {
    // The first position of the next login, and the position of the last one.
    let (mut from, mut last) = (0, None);
    let mut next = line.find('@');
    while let Some(at) = next {
        next = line[at + 1..].find('@').map(|more| at + 1 + more);
        let tail = &line[at + 1..next.unwrap_or(line.len())];
        let Some(target) = certain_target(tail) else {
            continue;
        };
        let begin = Start::find(&line[from..at], from == 0, target, is_service(tail));
        let begin = begin.map(|begin| from + begin);
        // Without a user, it is the end of the previous login: `root:a@tcp(x,b@tcp(h)/d`.
        let begin = begin.or(last.filter(|_| target == Target::Driver));
        from = at + 1 + tail.find(SEPARATORS).unwrap_or(tail.len());
        last = begin;
        if begin.is_some_and(|begin| !on_secret(begin..at)) {
            return false;
        }
    }
    true
}

/// The target at the start of a text, if a login of several words may precede it.
fn certain_target(tail: &str) -> Option<Target> {
    let target = Target::of(tail);
    let is_certain = match (target, network(tail)) {
        (Target::Driver, Some(network)) => NETWORKS.contains(&network) || tail.contains(")/"),
        (Target::Driver, None) => is_database(tail) || is_service(tail),
        (Target::Host | Target::Path, _) => true,
        _ => false,
    };
    // A description in Oracle's notation has no network.
    (is_certain || tail.starts_with('(')).then_some(target)
}

/// Whether a text is a database alone: `/app?timeout=5s`, and not `/components/x`.
fn is_database(tail: &str) -> bool {
    let name = tail.trim_start_matches('/');
    let end = name.find(|c: char| !c.is_alphanumeric() && !"-_$".contains(c));
    end.is_none_or(|end| name[end..].starts_with('?') || name[end..].starts_with(SEPARATORS))
}

/// Searches the text before a target for the start of a login.
struct Start<'a> {
    /// The text before the `@`.
    text: &'a str,
    /// The length without the blanks at its end.
    end: usize,
    target: Target,
    /// The position of the last `://`.
    address: Option<usize>,
}

impl<'a> Start<'a> {
    /// The position of the first word that may start a login. `is_first`: the text starts a line.
    fn find(text: &'a str, is_first: bool, target: Target, is_service: bool) -> Option<usize> {
        let start = Start {
            text,
            end: text.trim_end().len(),
            target,
            address: text.rfind("://"),
        };
        let words = || words(text, &SEPARATORS);
        if target == Target::Path {
            // A mail address may precede a path.
            let word = words().next().filter(|word| is_first && word.start == 0)?;
            let begin = start.with_colon(word.start, &text[word])?;
            return (!text.ends_with(SEPARATORS) && !text.ends_with(':')).then_some(begin);
        }
        let any = |word: std::ops::Range<usize>| {
            let (begin, word) = (word.start, &text[word]);
            let slash = || is_service.then(|| start.with_slash(begin, word)).flatten();
            start.with_colon(begin, word).or_else(slash)
        };
        let before_blank = || {
            (target == Target::Driver)
                .then(|| start.with_blank())
                .flatten()
        };
        words().find_map(any).or_else(before_blank)
    }

    /// The position of a user with `:` behind the name in a word.
    fn with_colon(&self, begin: usize, word: &str) -> Option<usize> {
        let (name, rest) = word.split_once(':')?;
        let user = user_in(name);
        let behind = begin + name.len() + 1;
        let is_bare = rest.is_empty() && self.text[behind..].starts_with([' ', '\t']);
        let is_driver = self.target == Target::Driver;
        let is_address = rest.starts_with("//")
            || is_jdbc(name, &self.text[behind..])
            || (!is_driver && self.address.is_some_and(|at| at >= behind));
        let is_number = user.bytes().all(|byte| byte.is_ascii_digit());
        let is_user = if is_driver {
            !user.is_empty()
        } else {
            let is_host = is_number || user.parse::<IpAddr>().is_ok();
            let spans_words = self.text[begin..].contains(SEPARATORS);
            let is_path = self.target == Target::Path;
            is_user_name(user) && !is_host && spans_words && !(is_path && is_listed(user))
        };
        let begins = is_user && !is_bare && !is_address && self.is_password(behind);
        begins.then(|| begin + name.len() - user.len())
    }

    /// The position of a user with `/` behind the name in a word.
    fn with_slash(&self, begin: usize, word: &str) -> Option<usize> {
        let is_jdbc = word
            .get(..5)
            .is_some_and(|it| it.eq_ignore_ascii_case("jdbc:"));
        let login = if is_jdbc { jdbc_login(word) } else { word };
        let (user, _) = login.split_once('/')?;
        let begin = begin + word.len() - login.len();
        (is_user_name(user) && self.is_password(begin + user.len() + 1)).then_some(begin)
    }

    /// The position of a user whose password starts with a blank, as the value of a field does.
    fn with_blank(&self) -> Option<usize> {
        let named = |word: std::ops::Range<usize>| {
            let behind = word.end;
            let name = self.text[word.clone()].strip_suffix(':')?;
            (is_user_name(name) && self.is_password(behind)).then_some(word.start)
        };
        words(self.text, &SEPARATORS).find_map(named)
    }

    /// Whether the text between a position and the `@` may be a password.
    fn is_password(&self, begin: usize) -> bool {
        let password = self.text.get(begin..self.end).unwrap_or_default();
        let password = password.trim_start();
        !password.is_empty() && password != MASK && !is_reference(password)
    }
}

/// Whether a name is one of [`NO_USERS`].
fn is_listed(name: &str) -> bool {
    NO_USERS.iter().any(|it| name.eq_ignore_ascii_case(it))
}

#[cfg(test)]
mod tests {
    use crate::value::secret::forms::mask_text;

    #[test]
    fn only_the_login_is_masked() {
        for (text, masked) in [
            (
                "cannot connect to root:pw@tcp(h)/d: refused",
                "cannot connect to ******@tcp(h)/d: refused",
            ),
            ("at: root:pw@tcp(h)/d", "at: ******@tcp(h)/d"),
            ("at=root:pw@tcp(h)/d", "at=******@tcp(h)/d"),
            ("root:p,w@tcp(h)/d", "******@tcp(h)/d"),
            ("use root:p w@h:3306/d", "use ******@h:3306/d"),
            ("a:p@h1:1,b:q@h2:2", "******@h1:1,******@h2:2"),
            (
                "a:p@tcp(h)/d b:q@tcp(h)/e",
                "******@tcp(h)/d ******@tcp(h)/e",
            ),
            ("gitlab:p@tcp(h)/d?a=b@c", "******@tcp(h)/d?a=b@c"),
            (
                "jdbc:oracle:thin:me/p,w@//h/s",
                "jdbc:oracle:thin:******@//h/s",
            ),
            (
                "jdbc:oracle:thin:me/p:w@//h/s",
                "jdbc:oracle:thin:******@//h/s",
            ),
        ] {
            assert_eq!(mask_text(text), masked);
            assert_eq!(mask_text(masked), masked, "masked twice");
        }
    }
}
