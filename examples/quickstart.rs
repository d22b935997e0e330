//! A live configuration from end to end: a file, the environment and the command line as layers, readers
//! under load, an edit of the file, and what the readers and the callbacks saw.
//!
//! `cargo run --example quickstart` or `cargo run --example quickstart -- --ratelimit.burst=7`

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use liveprops::sources::{Args, Env, File};
use liveprops::{Properties, Secret};

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
struct RateLimit {
    qps: u32,
    burst: u32,
    window: Duration,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("liveprops-quickstart-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let path = dir.join("checkout.toml");
    fs::write(&path, config(100))?;

    let props = Properties::builder()
        .default("ratelimit.burst", 5)
        .source(File::new(&path)) // lowest
        .source(Env::prefix("CHECKOUT_")) // CHECKOUT_RATELIMIT__QPS=...
        .source(Args::new()) // --ratelimit.qps=..., highest
        .build()?;

    println!(
        "By name:    ratelimit.qps = {}",
        props.get::<u32>("ratelimit.qps")?
    );
    println!(
        "As struct:  {:?}",
        props.bind::<RateLimit>("ratelimit").build()?.get()
    );
    println!(
        "A secret:   {}",
        props.get::<Secret<String>>("db.password")?
    );
    println!("Explained:  {}\n", props.explain("ratelimit.burst"));

    // A read of a handle costs an atomic load. Two threads read without a pause.
    let qps = props
        .property::<u32>("ratelimit.qps")
        .validate(|qps| match qps {
            1..=10_000 => Ok(()),
            _ => Err("must be 1 to 10,000".into()),
        })
        .build()?;
    let stop = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (qps, stop, reads) = (qps.clone(), Arc::clone(&stop), Arc::clone(&reads));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..1_000 {
                        std::hint::black_box(qps.get());
                    }
                    reads.fetch_add(1_000, Ordering::Relaxed);
                }
            })
        })
        .collect();

    let (sender, changes) = mpsc::channel();
    let _subscription = qps.on_change(move |change| {
        let origin = change
            .new_origin()
            .map(ToString::to_string)
            .unwrap_or_default();
        let text = format!(
            "{} -> {} ({origin})",
            change.old_value(),
            change.new_value()
        );
        // The receiver is gone only when the program ends.
        let _ = sender.send((Instant::now(), text));
    });

    for new in [500, 2_000] {
        println!("Editing the file: qps = {new}");
        let edited = Instant::now();
        replace(&path, &config(new))?;
        match changes.recv_timeout(Duration::from_secs(10)) {
            Ok((seen, text)) => println!("  callback after {:?}: {text}", seen - edited),
            // A stronger layer, such as the command line, hides the file.
            Err(_) => println!("  no change: {}", props.explain("ratelimit.qps")),
        }
    }

    println!("Breaking the file: qps = \"plenty\"");
    let (sender, events) = mpsc::channel();
    let _subscription = props.on_source_event(move |event| {
        let _ = sender.send(format!("{:?}", event.kind));
    });
    replace(&path, "[ratelimit]\nqps = \"plenty\"\n")?;
    if let Ok(event) = events.recv_timeout(Duration::from_secs(10)) {
        println!("  {event}");
    }
    println!("  the handle still reads {}\n", qps.get());

    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().map_err(|_| "a reader panicked")?;
    }
    println!(
        "Meanwhile the readers read {} million times.",
        reads.load(Ordering::Relaxed) / 1_000_000
    );
    println!("{}", props.explain("ratelimit.qps"));
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn config(qps: u32) -> String {
    format!(
        "[ratelimit]\nqps = {qps}\nburst = 10\nwindow = \"1m 30s\"\n\n[db]\npassword = \"hunter2\"\n"
    )
}

/// Replaces a file as a whole, so that nobody ever sees half of it.
fn replace(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}
