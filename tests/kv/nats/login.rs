//! Authentication with NATS. No output shows a secret.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use liveprops::health::Status;
use liveprops::sources::Nats;
use liveprops::{Properties, Source};

use crate::nats::{Wire, at, subject, with_login};
use crate::scenario::{SOON, health, is_up, wait_until};
use crate::server::{Kind, Server};
use crate::support::child::{Child, report, role};

/// A kind of secret: the configuration of the server, of a client and of a source.
struct Kept {
    settings: fn(&str) -> String,
    login: fn(&str) -> String,
    source: fn(Nats, &Path) -> Nats,
}

const TOKEN: Kept = Kept {
    settings: |secret| format!("authorization {{ token: \"{secret}\" }}\n"),
    login: |secret| format!(",\"auth_token\":\"{secret}\""),
    source: |nats, file| nats.token_file(file),
};

const PASSWORD: Kept = Kept {
    settings: |secret| format!("authorization {{ user: me, password: \"{secret}\" }}\n"),
    login: |secret| format!(",\"user\":\"me\",\"pass\":\"{secret}\""),
    source: |nats, file| nats.user_file("me", file),
};

fn put(server: &Server, kept: &Kept, secret: &str, value: &str) {
    let mut wire = Wire::connect(server.port(), &(kept.login)(secret));
    let answer = wire.request(&subject("app/k"), "", value.as_bytes());
    assert!(answer.contains("\"seq\":"), "{answer}");
}

/// Rotates a secret: first on the server, by `renew`, then in the file.
fn is_rotated(kept: &Kept, renew: impl Fn(&mut Server)) {
    let dir = tempfile::tempdir().unwrap();
    let (settings, file) = (dir.path().join("nats.conf"), dir.path().join("secret"));
    let set = |secret: &str| std::fs::write(&settings, (kept.settings)(secret)).unwrap();
    set("0ld-s3cret");
    std::fs::write(&file, "0ld-s3cret\n").unwrap();
    let arguments = ["-c", &settings.display().to_string()];
    let Some(mut server) = Server::start_with(Kind::Nats, &arguments) else {
        return;
    };
    Wire::connect(server.port(), &(kept.login)("0ld-s3cret")).make("");
    put(&server, kept, "0ld-s3cret", "1");
    let source = (kept.source)(at(&server), &file);
    let props = Properties::builder().source(source).build().unwrap();
    let k = || props.get_opt::<u32>("app.k").unwrap();
    assert_eq!(k(), Some(1));

    set("n3w-s3cret");
    renew(&mut server);
    wait_until(SOON, "the old secret is rejected", || !is_up(&props));
    wait_until(SOON, "health reports it", || {
        format!("{:?}", health(&props)).contains("check the credentials")
    });
    assert!(!format!("{:?}", health(&props)).contains("s3cret"));
    assert_eq!(k(), Some(1));
    put(&server, kept, "n3w-s3cret", "2");
    std::fs::write(&file, "n3w-s3cret\n").unwrap();
    wait_until(SOON, "the new one is", || is_up(&props) && k() == Some(2));
}

#[test]
fn a_token_that_is_rotated_in_its_file_needs_no_restart_of_the_program() {
    is_rotated(&TOKEN, |server| {
        // NATS 2.9 answers 503 to all JetStream requests after it reloads its settings.
        if std::env::var_os("LIVEPROPS_OLD_SERVERS").is_some() {
            server.kill();
            assert!(server.restart());
            return;
        }
        let id = server.id().unwrap().to_string();
        let kill = Command::new("sh")
            .args(["-c", "kill -HUP \"$0\"", &id])
            .status();
        assert!(kill.unwrap().success());
    });
}

#[test]
fn a_password_that_is_rotated_in_its_file_needs_no_restart_of_the_program() {
    is_rotated(&PASSWORD, |server| {
        server.kill();
        assert!(server.restart());
    });
}

#[test]
fn a_user_or_a_token_in_the_address_is_shown_unless_another_is_set() {
    let login = ",\"user\":\"me\",\"pass\":\"s3/cr@t\"";
    let arguments = ["--user", "me", "--pass", "s3/cr@t"];
    let Some(server) = with_login(&arguments, login) else {
        return;
    };
    let nats = |user: &str| {
        Nats::bucket("config").address(format!("nats://{user}@127.0.0.1:{}", server.port()))
    };
    assert!(nats("me:s3%2Fcr%40t").load().is_ok());
    let message = nats("me:wr0ng").load().unwrap_err().to_string();
    assert!(
        message.contains("credentials") && !message.contains("wr0ng"),
        "{message}"
    );
    assert!(
        nats("me:wr0ng")
            .user("me", "s3/cr@t".to_owned())
            .load()
            .is_ok()
    );
    let login = ",\"auth_token\":\"s3cr3t\"";
    let Some(server) = with_login(&["--auth", "s3cr3t"], login) else {
        return;
    };
    let address = format!("nats://s3cr3t@127.0.0.1:{}", server.port());
    assert!(Nats::bucket("config").address(address).load().is_ok());
}

/// Everything that was logged.
static LOGGED: Mutex<String> = Mutex::new(String::new());

struct All;

impl log::Log for All {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let _ = writeln!(LOGGED.lock().unwrap(), "{}", record.args());
    }

    fn flush(&self) {}
}

impl tracing::Subscriber for All {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::Id {
        span.record(&mut Fields);
        tracing::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut Fields);
    }

    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Fields);
    }

    fn enter(&self, _: &tracing::Id) {}

    fn exit(&self, _: &tracing::Id) {}
}

struct Fields;

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = writeln!(LOGGED.lock().unwrap(), "{field}: {value:?}");
    }
}

#[test]
fn no_log_of_a_client_shows_a_password_or_a_token() {
    let test = "nats_login::no_log_of_a_client_shows_a_password_or_a_token";
    if role().is_none() {
        // A logger is global to the process.
        return Child::of(test).succeeds();
    }
    log::set_logger(&All).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    tracing::subscriber::set_global_default(All).unwrap();
    tracing::info!("this is seen");
    log::trace!("and so is this");
    let login = ",\"user\":\"me\",\"pass\":\"s3cr3t\"";
    let arguments = ["--user", "me", "--pass", "s3cr3t"];
    let Some(server) = with_login(&arguments, login) else {
        return report("no server");
    };
    let address = format!("nats://me:s3cr3t@127.0.0.1:{}", server.port());
    let wrong = format!("nats://t0ken-s3cr3t@127.0.0.1:{}", server.port());
    let sources = [
        at(&server).address(address),
        at(&server).user("me", "s3cr3t".to_owned()),
        at(&server).address(wrong),
        at(&server).token("s3cr3t".to_owned()),
    ];
    for nats in sources {
        let nats = nats.with(|policy| policy.optional_after(Duration::from_secs(3)));
        let props = Properties::builder().source(nats).build().unwrap();
        let health = health(&props);
        let is_asked = health.last_success.is_some() || !matches!(health.status, Status::Up);
        assert!(is_asked, "{health:?}");
    }
    let logged = LOGGED.lock().unwrap();
    assert!(logged.contains("this is seen") && logged.contains("and so is this"));
    assert!(!logged.contains("s3cr3t"), "{logged}");
    report(format!("{} bytes were logged", logged.len()));
}
