#![allow(missing_docs, clippy::unwrap_used)]
use liveprops::{Format, Origin};
use std::time::Instant;
fn main() {
    let mut text = String::new();
    let mut section = 0;
    while text.len() < 8_000_000 {
        text.push_str(&format!("[section{section}]\n"));
        for i in 0..50 {
            text.push_str(&format!(
                "number_of_things_{i} = {i}\nname_of_thing_{i} = \"the value of {i}\"\n"
            ));
        }
        section += 1;
    }
    let json = serde_json::to_string(&toml::from_str::<toml::Table>(&text).unwrap()).unwrap();
    let mut m: Vec<Vec<f64>> = vec![vec![]; 8];
    for _ in 0..9 {
        let t = Instant::now();
        let a = toml::from_str::<toml::Table>(&text).unwrap();
        m[0].push(t.elapsed().as_secs_f64());
        let t = Instant::now();
        drop(a);
        m[1].push(t.elapsed().as_secs_f64());
        let t = Instant::now();
        let a = Format::toml()
            .parse(text.as_bytes(), &Origin::new("f", "x"))
            .unwrap();
        m[2].push(t.elapsed().as_secs_f64());
        let t = Instant::now();
        drop(a);
        m[3].push(t.elapsed().as_secs_f64());
        let t = Instant::now();
        let a = serde_json::from_str::<serde_json::Value>(&json).unwrap();
        m[4].push(t.elapsed().as_secs_f64());
        let t = Instant::now();
        drop(a);
        m[5].push(t.elapsed().as_secs_f64());
        let t = Instant::now();
        let a = Format::json()
            .parse(json.as_bytes(), &Origin::new("f", "x"))
            .unwrap();
        m[6].push(t.elapsed().as_secs_f64());
        let t = Instant::now();
        drop(a);
        m[7].push(t.elapsed().as_secs_f64());
    }
    let med: Vec<f64> = m
        .iter_mut()
        .map(|v| {
            v.sort_by(f64::total_cmp);
            v[4] * 1e3
        })
        .collect();
    println!(
        "toml parse {:.0} drop {:.0} | ours {:.0} drop {:.0} | json {:.0} drop {:.0} | ours {:.0} drop {:.0}  ms",
        med[0], med[1], med[2], med[3], med[4], med[5], med[6], med[7]
    );
    println!(
        "{:.2} {:.2} with drop {:.2} {:.2}",
        med[2] / med[0],
        med[6] / med[4],
        (med[2] + med[3]) / (med[0] + med[1]),
        (med[6] + med[7]) / (med[4] + med[5])
    );
}
