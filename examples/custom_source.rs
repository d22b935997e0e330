//! A source of your own: the load average of the machine, polled twice a second.
//!
//! `cargo run --example custom_source`

use std::fs;
use std::time::Duration;

use liveprops::{Document, Error, ErrorKind, Origin, Properties, Source, Watching};

/// Values from a file that the kernel generates for each reading.
struct LoadAverage {
    path: &'static str,
}

impl Source for LoadAverage {
    fn origin(&self) -> Origin {
        Origin::new("kernel", self.path)
    }

    fn load(&self) -> Result<Document, Error> {
        let text = fs::read_to_string(self.path).map_err(|cause| {
            Error::new(ErrorKind::Unavailable, "cannot be read")
                .with_origin(self.origin())
                .with_cause(cause)
        })?;
        let mut document = Document::new();
        for (column, (name, value)) in ["one", "five", "fifteen"]
            .into_iter()
            .zip(text.split_whitespace())
            .enumerate()
        {
            // A read of a number parses the text.
            document.set(
                &format!("load.{name}"),
                value,
                self.origin().at(1, column as u32 + 1),
            )?;
        }
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(Duration::from_millis(500))
    }
}

fn main() -> Result<(), Error> {
    let props = Properties::builder()
        .default("load.one", 0.0)
        .source(LoadAverage {
            path: "/proc/loadavg",
        })
        .build()?;
    let load = props.property::<f64>("load.one").build()?;
    println!("the load is {}", load.get());
    println!("{}", props.explain("load.one"));

    println!("waiting for it to change, 10 seconds at most ...");
    let mut changes = load.changes();
    match changes.recv_timeout(Duration::from_secs(10)) {
        Ok(now) => println!("the load is {} ({:?})", now.value, now.origin()),
        Err(error) => println!("{error}"),
    }
    Ok(())
}
