//! Runs the example that follows a store.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use crate::consul::Client;
use crate::scenario::{SOON, Scenario};
use crate::support::example::example;

#[test]
fn an_error_about_an_address_hides_its_password() {
    for url in [
        "ftp://me:s3cret@h/x",
        "me:s3cret@h/x",
        "ftp://me:s3/cret@h/x",
    ] {
        let watch = Command::new(example("kv_watch")).arg(url).output().unwrap();
        let message = String::from_utf8_lossy(&watch.stderr).into_owned();
        assert!(
            !watch.status.success() && !message.contains("s3"),
            "{message}"
        );
        assert!(
            message.contains("ftp://h`") || message.contains("no scheme"),
            "{message}"
        );
    }
}

#[test]
fn the_example_prints_values_and_changes() {
    let Some(scenario) = Scenario::<Client>::with(&[("app/rate/qps", "100")]) else {
        return;
    };
    let url = format!("consul://127.0.0.1:{}/app", scenario.proxy.port());
    let mut watch = Command::new(example("kv_watch"))
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(watch.stdout.take().unwrap());
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    let wait_for = |wanted: &str| {
        let mut seen = Vec::new();
        while let Ok(line) = lines.recv_timeout(SOON) {
            let found = line.contains(wanted);
            seen.push(line);
            if found {
                return;
            }
        }
        panic!("no `{wanted}` in {seen:?}");
    };
    wait_for("rate.qps = \"100\"");
    wait_for("watching");
    crate::scenario::Store::put(&scenario.store, "app/rate/qps", "200");
    wait_for("rate.qps: \"100\" -> \"200\" (consul app/rate/qps @");
    drop(watch.stdin.take());
    assert!(watch.wait().unwrap().success());
}
