//! Whole classes of forms and of names: what the corpus has one example of, in each combination.

use super::*;

/// What stands before `name:something@host` and is mostly no user's name.
const UNLIKELY_USERS: [&str; 45] = [
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

/// Targets that nothing but a login stands before.
const TARGETS: [&str; 13] = [
    "tcp(db:3306)/app",
    "tcp(db)/",
    "tcp([fe80::1]:3306)/app?timeout=5s",
    "unix(/tmp/mysql.sock)/app",
    "cloudsql(project:region:db)/app",
    "/app",
    "db:5432",
    "db.internal:5432/app",
    "db:${db.port}/app",
    "${db.host}:5432/app",
    "smtp.example.com:587",
    "10.0.0.1",
    "[::1]:5432",
];

/// What explanations and errors show of values at names, each with its name and value.
fn shown(all: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    let all: Vec<_> = all.into_iter().collect();
    let key = |at: usize, name: &str| format!("n{at}n.{name}");
    let keyed = all.iter().enumerate();
    let values = keyed.map(|(at, (name, value))| (key(at, name), value.clone()));
    let props = Properties::builder()
        .source(Memory::from_iter(values))
        .build()
        .unwrap();
    let show = |(at, (name, value)): (usize, (String, String))| {
        let key = key(at, &name);
        let rejected = props.get::<u8>(&key).unwrap_err();
        let explained = props.explain(&key);
        (
            format!("{name} = {value}"),
            format!("{explained} {explained:?} {rejected} {rejected:?}"),
        )
    };
    all.into_iter().enumerate().map(show).collect()
}

fn at_plain_key(text: impl Into<String>) -> (String, String) {
    ("plain.value".to_owned(), text.into())
}

fn assert_masked(texts: impl IntoIterator<Item = String>) {
    let shown = shown(texts.into_iter().map(at_plain_key));
    let leaks = shown.into_iter().filter(|(_, shown)| shown.contains(MARK));
    let leaks: Vec<String> = leaks.map(|(what, _)| what).collect();
    assert!(leaks.is_empty(), "{}:\n{}", leaks.len(), leaks.join("\n"));
}

fn assert_shown<'a>(texts: impl IntoIterator<Item = &'a str>) {
    let shown = shown(texts.into_iter().map(at_plain_key));
    let masked = shown
        .into_iter()
        .filter(|(_, shown)| shown.contains("******"));
    let masked: Vec<String> = masked.map(|(what, _)| what).collect();
    assert!(
        masked.is_empty(),
        "{}:\n{}",
        masked.len(),
        masked.join("\n")
    );
}

/// The names that show their values.
fn plain_names(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let planted = |name: String| (name, MARK.to_owned());
    let shown = shown(names.into_iter().map(planted));
    let plain = shown.into_iter().filter(|(_, shown)| shown.contains(MARK));
    plain
        .map(|(what, _)| what.split(' ').next().unwrap().to_owned())
        .collect()
}

fn each<'a>(
    ones: &'a [&'a str],
    others: &'a [&'a str],
    join: impl Fn(&str, &str) -> String + 'a,
) -> impl Iterator<Item = String> + 'a {
    let pairs = ones
        .iter()
        .flat_map(move |one| others.iter().map(move |other| (*one, *other)));
    pairs.map(move |(one, other)| join(one, other))
}

#[test]
fn a_login_is_masked_whatever_the_name_of_its_user() {
    assert_masked(each(&UNLIKELY_USERS, &TARGETS, |user, target| {
        format!("{user}:{MARK}@{target}")
    }));
    assert_masked(
        UNLIKELY_USERS
            .iter()
            .map(|user| format!("{user}:{MARK}@db/app")),
    );
}

#[test]
fn text_before_a_host_that_is_no_user_is_shown() {
    let texts: Vec<String> = UNLIKELY_USERS
        .iter()
        .map(|name| format!("{name}:jane@example.com"))
        .collect();
    assert_shown(texts.iter().map(String::as_str));
}

#[test]
fn a_login_is_masked_whatever_its_user_holds() {
    let users = [
        "me@corp",
        "me@corp.example.com",
        "corp\\me",
        "me%40corp",
        "m$e",
        "dsn=me",
        "--dsn=me",
        "(me",
        "[me",
        "{me",
        "<me",
        "see me",
        "see,me",
        "1000",
    ];
    assert_masked(each(&users, &TARGETS, |user, target| {
        format!("{user}:{MARK}@{target}")
    }));
    let texts = each(&users[5..11], &["db/app", "db.internal"], |user, target| {
        format!("{user}:{MARK}@{target}")
    });
    assert_masked(texts);
    let odd = [
        "m!e", "m#e", "m*e", "m~e", "m(e)", "m&e", "m=e", "m|e", "m\"e", "m'e", "m,e", "m;e",
    ];
    assert_masked(each(&odd, &TARGETS[..6], |user, target| {
        format!("{user}:{MARK}@{target}")
    }));
    assert_masked([
        format!("me@corp:{MARK}@db.mysql.database.azure.com"),
        format!("me:{MARK}@_db/x"),
    ]);
}

/// What passwords hold besides letters and digits.
const SIGNS: [&str; 30] = [
    " ", "\t", ",", ";", "'", "\"", "@", ":", "/", "//", "?", "#", "&", "=", "(", ")", "[", "]",
    "{", "}", "\\", "|", "<", ">", "%", "+", "!", "$", "\u{e4}", "://",
];

#[test]
fn a_password_is_masked_whatever_it_holds() {
    let texts = each(&SIGNS, &TARGETS, |sign, target| {
        format!("root:{MARK}a{sign}{MARK}b{sign}{MARK}c@{target}")
    });
    assert_masked(texts);
    // `://` before the `@` begins an address without a user.
    let texts = each(&SIGNS[..29], &TARGETS, |sign, target| {
        format!("root:{MARK}{sign}@{target}")
    });
    assert_masked(texts);
    let texts = each(&SIGNS, &TARGETS[..6], |sign, target| {
        format!("root:{sign}{MARK}@{target}")
    });
    assert_masked(texts);
    let texts = each(&SIGNS, &TARGETS[..6], |sign, target| {
        format!("gitlab:{MARK}{sign}a:{MARK}@{target}")
    });
    assert_masked(texts);
    let oracle = [
        "//db:1521/svc",
        "db:1521/svc",
        "(DESCRIPTION=(ADDRESS=(HOST=db)))",
    ];
    for scheme in ["", "jdbc:oracle:thin:", "jdbc:oracle:oci:"] {
        let texts = each(&SIGNS, &oracle, |sign, target| {
            format!("{scheme}app/{MARK}a{sign}{MARK}b@{target}")
        });
        assert_masked(texts);
    }
}

#[test]
fn each_login_of_a_text_is_masked() {
    assert_masked([
        format!("a:{MARK}@tcp(h)/d b:{MARK}@tcp(h)/d"),
        format!("a:{MARK}@h1:1,b:p {MARK}@h2:2"),
        format!("a:p;{MARK}@tcp(h)/d,b:p,{MARK}@tcp(h)/d"),
        format!("first\na:p;{MARK}@tcp(h)/d\nlast"),
        format!("gitlab:{MARK}@tcp(h)/d?contact=me@example.com"),
        format!("root:{MARK}@tcp(h)/d?contact=me@"),
        format!("root:a@tcp(x,{MARK}@tcp(h)/d"),
        format!("cannot connect to root:p {MARK}@tcp(h)/d: rejected"),
    ]);
}

#[test]
fn text_like_a_login_that_is_none_is_shown() {
    assert_shown([
        "host: a@b",
        "me@example.com, you@example.com",
        "to: me@example.com; cc: you@example.com",
        "Me <me@example.com>, You <you@example.com>",
        "mailto:me@example.com?subject=a/b",
        "mailto:a@example.com,b@example.com",
        "contact:ops, see me@example.com",
        "repo:tag@sha256:0123456789abcdef",
        "registry.example.com:5000/app:1.2@sha256:0123456789abcdef",
        "image:registry:5000/app@sha256:0123456789abcdef",
        "git@github.com:org/repo",
        "git@github.com:org/repo@v1",
        "git@github.com:org/repo@main",
        "git@github.com:org/repo.git@feature/x",
        "github:org/repo@feature/x",
        "uses:org/repo/sub@feature/x",
        "file:../packages/@scope/name",
        "workspace:packages/@scope/name",
        "npm:@scope/package@1.2.3",
        "npm:preact@10.5.13/hooks",
        "jsr:@std/path@1.0.0/posix",
        "pkg:docker/cassandra@latest?repository_url=gcr.io:443/x",
        "pkg:cargo/serde@1.0.200",
        "eslint:recommended,plugin:@typescript-eslint/recommended",
        "sip:alice@example.com:5060",
        "sip:alice@example.com;transport=tcp",
        "12:30@10",
        "[::1]:80 me@example.com",
        "h1:9092,h2:9092",
        "root@tcp(h)/d",
        "root@10.0.0.1:22",
        "ssh me@host:22 -p 22",
        "@Scheduled(cron)",
        "role:admin and @authz.check(id)",
        "src/main@host",
        "%d{HH:mm:ss} [%thread] %-5level %logger - %msg",
        "https://example.com/x;v=1/y;w=2",
        "https://example.com/x?a=1;b=2&c[]=3",
        "https://example.com/x?a[b]=1",
        "https://example.com/?to=%2Fy%3Fa%3D1",
        "text/html; charset=utf-8; q=1",
        "max-age=5; code=7; path=/",
        "list[0]=a",
    ]);
}

#[test]
fn a_parameter_of_an_address_is_masked_however_it_is_separated() {
    let names = [
        "sig",
        "signature",
        "code",
        "key",
        "ticket",
        "X-Amz-Signature",
        "x-goog-credential",
        "assertion",
        "SAMLResponse",
        "password",
        "access_token",
        "api_key",
        "oauth_signature",
        "x.sig",
        "jsessionid",
        "PHPSESSID",
    ];
    let places = [
        "https://h/x?NAME=VALUE",
        "https://h/x?a=1&NAME=VALUE",
        "https://h/x?a=1;NAME=VALUE",
        "https://h/x?a=1;b=2;NAME=VALUE;c=3",
        "https://h/x?a=1&b=2;NAME=VALUE",
        "https://h/x?a=1&amp;NAME=VALUE",
        "https://h/x?a=1&amp;b=2&amp;NAME=VALUE&amp;c=3",
        "https://h/x?a=1&#38;NAME=VALUE",
        "https://h/x?a=1&#x26;NAME=VALUE",
        "https://h/x?a=1\\u0026NAME=VALUE",
        "https://h/x?NAME[]=VALUE",
        "https://h/x?a=1&NAME[0]=VALUE",
        "https://h/x?a=1;NAME[a]=VALUE",
        "https://h/x?user[NAME]=VALUE",
        "https://h/x?user[a][NAME]=VALUE",
        "https://h/x?NAME%5B%5D=VALUE",
        "https://h/x;NAME=VALUE",
        "https://h/x;a=1;NAME=VALUE",
        "https://h/x;NAME=VALUE/y?b=1",
        "https://h/x#a=1;NAME=VALUE",
        "https://h/x#a=1&amp;NAME=VALUE",
        "/x?a=1;NAME=VALUE",
        "h/x?a=1;NAME=VALUE",
        "see https://h/x?a=1;NAME=VALUE or not",
        "<a href=\"https://h/x?a=1&amp;NAME=VALUE\">",
        "https://h/x?to=https%3A%2F%2Fh%2F%3FNAME%3DVALUE",
        "https://h/x?to=%2Fy%3fa%3d1%26NAME%3dVALUE",
        "https://h/x?to=%2Fy%253Fa%253D1%2526NAME%253DVALUE",
        "a=1&amp;NAME=VALUE",
    ];
    assert_masked(each(&names, &places, |name, place| {
        place.replace("NAME", name).replace("VALUE", MARK)
    }));
    assert_masked([
        format!("https://h/x?a=1;password=p w{MARK}"),
        format!("jdbc:sqlserver://h;password=p {MARK}"),
        format!("jdbc:sqlserver://h;password={{p;{MARK}}}"),
        format!("Server=h?x;Pwd=p {MARK}"),
        format!("$conf['password'] = '{MARK}'"),
        format!("os.environ[\"DB_PASSWORD\"] = \"{MARK}\""),
        format!("user[password]={MARK}"),
    ]);
}

/// The spellings of a name of two words.
fn spellings(one: &str, two: &str) -> Vec<String> {
    let capital = |word: &str| format!("{}{}", word[..1].to_uppercase(), &word[1..]);
    vec![
        format!("{one}{two}"),
        format!("{one}{two}").to_uppercase(),
        format!("{one}{}", capital(two)),
        format!("{}{}", capital(one), capital(two)),
        format!("{one}_{two}"),
        format!("{one}_{two}").to_uppercase(),
        format!("{one}-{two}"),
        format!("{one}.{two}"),
        format!("app.{one}{two}"),
        format!("app.{one}{}", capital(two)),
        format!("{one}{two}2"),
    ]
}

#[test]
fn a_password_is_known_by_the_name_of_any_product() {
    let products = [
        "db",
        "pg",
        "postgres",
        "mysql",
        "maria",
        "mariadb",
        "redis",
        "mongo",
        "mssql",
        "sql",
        "oracle",
        "rabbit",
        "rabbitmq",
        "amqp",
        "kafka",
        "nats",
        "mqtt",
        "smtp",
        "imap",
        "mail",
        "ldap",
        "ftp",
        "sftp",
        "ssh",
        "http",
        "proxy",
        "web",
        "admin",
        "root",
        "user",
        "my",
        "app",
        "elastic",
        "influx",
        "couch",
        "neo4j",
        "cassandra",
        "clickhouse",
        "zk",
        "etcd",
        "consul",
        "vault",
        "jenkins",
        "git",
        "gitlab",
        "docker",
        "registry",
        "firewall",
        "phone",
        "token",
        "key",
        "store",
        "trust",
        "bind",
        "wifi",
        "vpn",
        "login",
        "system",
        "default",
    ];
    let words = [
        "pass",
        "pwd",
        "pw",
        "psw",
        "pswd",
        "passwd",
        "passw",
        "password",
        "passphrase",
        "passcode",
        "secret",
        "token",
        "dsn",
        "creds",
        "cred",
        "credentials",
        "psk",
        "otp",
        "jwt",
        "hmac",
        "apikey",
        "privatekey",
        "sharedkey",
    ];
    let names = products.iter().flat_map(|product| {
        let spelled = |word: &&str| spellings(product, word).into_iter().take(5);
        words.iter().flat_map(spelled)
    });
    let shown = plain_names(names);
    assert!(shown.is_empty(), "{}: {}", shown.len(), shown.join(" "));
}

#[test]
fn a_secret_is_known_by_its_name_in_every_spelling() {
    let pairs = [
        ("preshared", "key"),
        ("shared", "key"),
        ("access", "key"),
        ("admin", "key"),
        ("aes", "key"),
        ("api", "key"),
        ("app", "key"),
        ("auth", "key"),
        ("consumer", "key"),
        ("decryption", "key"),
        ("deploy", "key"),
        ("encryption", "key"),
        ("function", "key"),
        ("hmac", "key"),
        ("integration", "key"),
        ("jwt", "key"),
        ("license", "key"),
        ("master", "key"),
        ("private", "key"),
        ("session", "key"),
        ("sign", "key"),
        ("signing", "key"),
        ("ssh", "key"),
        ("storage", "key"),
        ("subscription", "key"),
        ("unseal", "key"),
        ("cipher", "key"),
        ("cookie", "key"),
        ("crypto", "key"),
        ("openai", "key"),
        ("stripe", "key"),
        ("webhook", "key"),
        ("write", "key"),
        ("serviceaccount", "key"),
        ("storageaccount", "key"),
        ("shared", "access"),
        ("session", "id"),
        ("connection", "string"),
        ("auth", "token"),
        ("require", "pass"),
        ("master", "auth"),
        ("basic", "auth"),
        ("pass", "key"),
        ("kenn", "wort"),
    ];
    let names = pairs.iter().flat_map(|(one, two)| spellings(one, two));
    let more = [
        "preshared",
        "presharedKey",
        "PRESHARED_KEY",
        "dockerConfigJson",
        "dockerCfg",
        "jsessionid",
        "JSESSIONID",
        "PHPSESSID",
        "sessId",
        "myApiKey",
        "openaiapi_key",
        "sharedAccessSignature",
    ];
    let names = names.chain(more.map(str::to_owned));
    let shown = plain_names(names);
    assert!(shown.is_empty(), "{}: {}", shown.len(), shown.join(" "));
}

#[test]
fn a_word_that_only_ends_like_a_secret_is_shown() {
    let names = [
        "compass",
        "encompass",
        "bypass",
        "trespass",
        "overpass",
        "underpass",
        "surpass",
        "lowpass",
        "highpass",
        "bandpass",
        "allpass",
        "multipass",
        "singlepass",
        "onepass",
        "twopass",
        "subpass",
        "renderpass",
        "keepass.path",
        "lastpass.url",
        "basalt",
        "sacred",
        "monkey",
        "turkey",
        "hotkey",
        "hotkeys",
        "overwrite.key",
        "stopword",
        "sharedAccessMode",
        "shared_access_mode",
        "mysqlpass_file",
        "PGPASSFILE",
        "redispass.length",
        "dsn_name",
    ];
    assert_eq!(plain_names(names.map(str::to_owned)), names);
}
