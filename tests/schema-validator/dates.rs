//! Dates of TOML are read by the types of `chrono`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};
use liveprops::{Properties, sources::File};

fn read<T: serde::de::DeserializeOwned + 'static>(date: &str) -> T {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dates.toml");
    fs::write(&path, format!("at = {date}\n")).unwrap();
    let props = Properties::builder()
        .source(File::new(path))
        .build()
        .unwrap();
    props.get("at").unwrap()
}

#[test]
fn a_toml_date_reads_as_a_date_of_chrono() {
    let day = NaiveDate::from_ymd_opt(1979, 5, 27).unwrap();
    let moment = day.and_hms_opt(7, 32, 0).unwrap();
    for date in [
        "1979-05-27 07:32:00",
        "1979-05-27T07:32:00",
        "1979-05-27t07:32:00",
    ] {
        assert_eq!(read::<NaiveDateTime>(date), moment, "{date}");
    }
    assert_eq!(read::<NaiveDate>("1979-05-27"), day);
    assert_eq!(read::<NaiveTime>("07:32:00"), moment.time());
    let offset: DateTime<FixedOffset> = read("1979-05-27 00:32:00-07:00");
    assert_eq!(offset.naive_utc(), moment);
}
