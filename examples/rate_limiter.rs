//! A token bucket that follows its property under load. Each phase sets another rate, and the number of
//! accepted requests follows.
//!
//! `cargo run --release --example rate_limiter`

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use liveprops::{DynamicProperty, Error, Properties, sources::Memory};

/// Admits `rate` requests a second, at most `burst` of them at once.
struct TokenBucket {
    rate: DynamicProperty<f64>,
    burst: DynamicProperty<f64>,
    state: Mutex<(f64, Instant)>,
}

impl TokenBucket {
    fn new(props: &Properties) -> Result<Self, Error> {
        let positive = |value: &f64| {
            if *value > 0.0 {
                Ok(())
            } else {
                Err("must be positive".to_owned())
            }
        };
        let rate = props
            .property("ratelimit.qps")
            .default(100.0)
            .validate(positive)
            .build()?;
        let burst = props
            .property("ratelimit.burst")
            .default(10.0)
            .validate(positive)
            .build()?;
        let full = burst.get();
        Ok(Self {
            rate,
            burst,
            state: Mutex::new((full, Instant::now())),
        })
    }

    fn admits(&self) -> bool {
        // Following the configuration costs these two atomic loads.
        let (rate, burst) = (self.rate.get(), self.burst.get());
        let Ok(mut state) = self.state.lock() else {
            return false;
        };
        let now = Instant::now();
        let (tokens, last) = *state;
        let tokens = (tokens + rate * (now - last).as_secs_f64()).min(burst);
        let admits = tokens >= 1.0;
        *state = (if admits { tokens - 1.0 } else { tokens }, now);
        admits
    }
}

fn main() -> Result<(), Error> {
    let config = Memory::from([("ratelimit.qps", 500.0), ("ratelimit.burst", 5.0)]);
    let props = Properties::builder().source(config.clone()).build()?;
    let bucket = TokenBucket::new(&props)?;

    for rate in [500.0, 5_000.0, 1_000.0] {
        config.set("ratelimit.qps", rate)?;
        let started = Instant::now();
        let phase = Duration::from_secs(1);
        let admitted: usize = thread::scope(|scope| {
            let workers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut admitted = 0;
                        while started.elapsed() < phase {
                            admitted += usize::from(bucket.admits());
                            thread::sleep(Duration::from_micros(50));
                        }
                        admitted
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or(0))
                .sum()
        });
        println!(
            "limit {rate:>6} a second: {admitted:>6} admitted in {:?}",
            started.elapsed()
        );
    }

    // The validator rejects a negative rate, so it never reaches the limiter.
    let rejected = config.set("ratelimit.qps", -1.0);
    println!(
        "limit -1: {}; the limiter stays at {}",
        rejected.err().map(|e| e.to_string()).unwrap_or_default(),
        bucket.rate.get()
    );
    Ok(())
}
