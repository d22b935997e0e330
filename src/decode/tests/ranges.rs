//! Errors about sizes and about integers beyond 64 bits say what is wrong.

use super::*;

const BEYOND: i128 = 1 << 64;

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Big<T> {
    big: T,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Flat<T> {
    #[serde(flatten)]
    inner: Big<T>,
}

fn message<T: DeserializeOwned + std::fmt::Debug>(value: impl Into<Value>) -> String {
    read::<T>(value).unwrap_err().to_string()
}

#[test]
fn a_size_of_an_ambiguous_unit_names_the_units_of_its_letter() {
    for (text, units) in [
        ("10k", "kB for 1000 or KiB for 1024"),
        ("10M", "MB for 1000 kB or MiB"),
        ("10g", "GB for 1000 MB or GiB"),
        ("10 T", "TB for 1000 GB or TiB"),
        ("1P", "PB for 1000 TB or PiB"),
        ("1e", "EB for 1000 PB or EiB"),
    ] {
        let message = message::<ByteSize>(text);
        assert!(message.contains(units), "{message}");
    }
}

#[test]
fn a_size_beyond_64_bits_is_out_of_range_and_a_boolean_is_of_the_wrong_type() {
    for value in [Value::from(BEYOND), Value::from(2e19)] {
        let message = message::<ByteSize>(value);
        assert!(message.contains("out of range"), "{message}");
    }
    let boolean = message::<ByteSize>(true);
    assert!(boolean.contains("wrong type"), "{boolean}");
    let error = bind::<Flat<ByteSize>>(&[("big", true.into())]).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("wrong type"), "{error}");
}

#[test]
fn an_integer_beyond_64_bits_that_serde_buffers_is_out_of_range() {
    let error = bind::<Flat<u64>>(&[("big", Value::from(BEYOND))]).unwrap_err();
    assert_eq!(keys(&error), ["big"], "{error}");
    assert_eq!(error.expected(), Some("u64"), "{error}");
    assert!(error.to_string().contains("out of range"), "{error}");
}
