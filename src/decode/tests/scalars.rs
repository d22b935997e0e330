//! What each type accepts, and what it rejects.

use super::*;

/// Counts the rows, so that the table cannot shrink unnoticed.
#[derive(Default)]
struct Rows(usize);

impl Rows {
    fn good<T: DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        rows: impl IntoIterator<Item = (impl Into<Value>, T)>,
    ) {
        for (value, expected) in rows {
            let value = value.into();
            self.0 += 1;
            match read::<T>(value.clone()) {
                Ok(found) => assert_eq!(found, expected, "{value}"),
                Err(error) => panic!("{value} as {}: {error}", std::any::type_name::<T>()),
            }
        }
    }

    fn bad<T: DeserializeOwned + std::fmt::Debug>(
        &mut self,
        rows: impl IntoIterator<Item = impl Into<Value>>,
    ) {
        for value in rows {
            let value = value.into();
            self.0 += 1;
            let Err(error) = read::<T>(value.clone()) else {
                panic!("{value} became a {}", std::any::type_name::<T>());
            };
            for error in error.iter() {
                assert_eq!(error.kind(), ErrorKind::Mismatch, "{value}: {error}");
                assert!(
                    error.key_text().is_some_and(|key| key.starts_with('k')),
                    "{error}"
                );
                assert!(error.expected().is_some(), "{value}: {error}");
                assert!(error.found().is_some(), "{value}: {error}");
                let at = error.origin().map(ToString::to_string);
                assert_eq!(at.as_deref(), Some("file app.toml:3:7"), "{value}");
            }
        }
    }
}

#[test]
fn every_input_of_the_table_reads_as_it_says() {
    let mut rows = Rows::default();
    rows.good::<u8>([
        ("0", 0),
        ("255", 255),
        ("+5", 5),
        (" 7 ", 7),
        ("\t7\n", 7),
        ("012", 12),
        ("01", 1),
        ("1_0", 10),
        ("0xff", 255),
        ("0XFF", 255),
        ("0o17", 15),
        ("0b101", 5),
    ]);
    rows.bad::<u8>([
        "256",
        "-1",
        "",
        " ",
        "1.5",
        "1e1",
        "abc",
        "0x",
        "0x100",
        "_1",
        "1_",
        "1__0",
        "--1",
        "+-1",
        "+",
        "-",
        "1 0",
        "1,0",
        "٣",
        "0x_1",
        "1\u{0}",
        "nan",
        "true",
        "12:30",
        "9999999999999999999999",
        "999999999999999999999999999999999999999999999999",
    ]);
    rows.good::<i8>([("-128", -128), ("127", 127), ("-0", 0), ("-0x10", -16)]);
    rows.bad::<i8>(["-129", "128", "- 5"]);
    rows.good::<u32>([
        ("1_000_000", 1_000_000),
        ("4294967295", u32::MAX),
        ("0000000000000000000000001", 1),
    ]);
    rows.bad::<u32>(["4294967296", "-1"]);
    rows.good::<i64>([
        ("-9223372036854775808", i64::MIN),
        ("9223372036854775807", i64::MAX),
    ]);
    rows.bad::<i64>(["-9223372036854775809", "9223372036854775808"]);
    rows.good::<u64>([("18446744073709551615", u64::MAX)]);
    rows.bad::<u64>(["18446744073709551616"]);
    rows.good::<i128>([("-170141183460469231731687303715884105728", i128::MIN)]);
    rows.bad::<i128>([
        "-170141183460469231731687303715884105729",
        "170141183460469231731687303715884105728",
    ]);
    rows.good::<u128>([("340282366920938463463374607431768211455", u128::MAX)]);
    rows.bad::<u128>(["340282366920938463463374607431768211456", "-1"]);
    rows.good::<usize>([("5", 5)]);
    rows.good::<u16>([
        (Value::from(65535), 65535),
        (Value::from(2.0), 2),
        (Value::from(-0.0), 0),
    ]);
    rows.bad::<u16>([
        Value::from(65536),
        Value::from(-1),
        Value::from(2.5),
        Value::from(65536.0),
        Value::from(-1.0),
        Value::from(f64::NAN),
        Value::from(f64::INFINITY),
        Value::from(true),
    ]);
    rows.good::<u64>([(Value::from(u64::MAX), u64::MAX)]);
    rows.bad::<u64>([Value::from(i128::MAX)]);
    rows.bad::<NonZeroU32>(["0"]);
    rows.good::<NonZeroU32>([("3", NonZeroU32::new(3).unwrap())]);
    rows.good::<f64>([
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-0.25", -0.25),
        (" 2 ", 2.0),
        ("1_000.5", 1000.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("inf", f64::INFINITY),
        ("-inf", f64::NEG_INFINITY),
        ("1E-3", 0.001),
        ("9007199254740992", 9_007_199_254_740_992.0),
        ("0e-999", 0.0),
    ]);
    assert!(read::<f64>("nan").unwrap().is_nan());
    rows.bad::<f64>([
        "1e400",
        "-1e400",
        "NaN",
        "infinity",
        "Inf",
        "",
        "1,5",
        "1.5.5",
        "e5",
        "9007199254740993",
        "1_.5",
        "1._5",
        "abc",
        "1e-999",
        "0x1p3",
        ".",
    ]);
    rows.good::<f64>([
        (Value::from(3), 3.0),
        (Value::from(1i64 << 53), 9_007_199_254_740_992.0),
    ]);
    rows.bad::<f64>([
        Value::from((1i64 << 53) + 1),
        Value::from(i128::MAX),
        Value::from(true),
    ]);
    rows.good::<f32>([("0.1", 0.1), ("16777216", 16_777_216.0)]);
    rows.good::<f32>([(Value::from(0.1), 0.1)]);
    rows.bad::<f32>(["1e39", "16777217"]);
    rows.bad::<f32>([Value::from(1e39), Value::from(16_777_217)]);
    rows.good::<bool>([
        ("true", true),
        ("T", true),
        ("Yes", true),
        ("y", true),
        ("ON", true),
        ("1", true),
        (" on ", true),
        ("false", false),
        ("f", false),
        ("NO", false),
        ("N", false),
        ("off", false),
        ("0", false),
    ]);
    rows.bad::<bool>(["", "2", "01", "yess", "enabled", "null", "-1"]);
    rows.bad::<bool>([Value::from(1), Value::from(0), Value::from(1.0)]);
    rows.good::<char>([("x", 'x'), (" ", ' '), (" é ", 'é'), ("🦀", '🦀')]);
    rows.good::<char>([(Value::from(5), '5')]);
    rows.bad::<char>(["", "ab", "  "]);
    rows.good::<String>([
        ("", String::new()),
        (" a ", " a ".into()),
        ("007", "007".into()),
        ("true", "true".into()),
    ]);
    rows.good::<String>([
        (Value::from(1234), "1234".to_string()),
        (Value::from(true), "true".into()),
        (Value::from(1.5), "1.5".into()),
        (Value::from(i128::MAX), i128::MAX.to_string()),
    ]);
    rows.bad::<String>([Value::from(vec!["a"])]);
    let seconds = Duration::from_secs;
    rows.good::<Duration>([
        ("30s", seconds(30)),
        ("1h 5m", seconds(3900)),
        ("250ms", Duration::from_millis(250)),
        ("1.5s", Duration::from_millis(1500)),
        ("2d", seconds(172_800)),
        ("PT1H5M", seconds(3900)),
        ("0", seconds(0)),
    ]);
    rows.good::<Duration>([(Value::from(0), seconds(0))]);
    rows.bad::<Duration>([
        "",
        "30",
        "1.5",
        "-1s",
        "5 parsecs",
        "0.0000000001s",
        "18446744073709551616s",
    ]);
    rows.bad::<Duration>([Value::from(30), Value::from(0.5), Value::from(true)]);
    rows.good::<ByteSize>([
        ("10 MiB", ByteSize::from_bytes(10 << 20)),
        ("512", ByteSize::from_bytes(512)),
    ]);
    rows.good::<ByteSize>([(Value::from(7), ByteSize::from_bytes(7))]);
    rows.good::<IpAddr>([
        ("::1", "::1".parse().unwrap()),
        ("10.0.0.1", "10.0.0.1".parse().unwrap()),
    ]);
    rows.bad::<IpAddr>(["localhost", "", "10.0.0"]);
    rows.good::<SocketAddr>([("[::1]:80", "[::1]:80".parse().unwrap())]);
    rows.good::<PathBuf>([("/etc/x", PathBuf::from("/etc/x"))]);
    rows.good::<Option<u8>>([("5", Some(5))]);
    rows.bad::<Option<u8>>(["", "x"]);
    rows.good::<()>([("", ()), (" ", ())]);
    rows.bad::<()>(["x"]);
    rows.good::<(u8, String)>([("1, a", (1, "a".to_string())), ("[2,'b']", (2, "b".into()))]);
    rows.bad::<(u8, String)>(["1", "1,a,b", "x,a", ""]);
    rows.good::<BTreeMap<u8, bool>>([
        ("1=on, 2=off", BTreeMap::from([(1, true), (2, false)])),
        ("", BTreeMap::new()),
    ]);
    rows.bad::<BTreeMap<u8, bool>>(["1", "x=on", "1=maybe", "1=on,1=off"]);
    assert!(rows.0 >= 150, "only {} rows", rows.0);
}

#[test]
fn a_value_reads_back_as_itself() {
    let value = Value::from(BTreeMap::from([
        ("a", Value::from(u64::MAX)),
        ("b", Value::from(i128::MIN)),
        (
            "c",
            Value::from(vec![Value::from(1.5), "x".into(), Value::Unset]),
        ),
        ("d", Value::from("5")),
    ]));
    assert_eq!(read::<Value>(value.clone()).unwrap(), value);
    assert_eq!(
        from_node::<Value>("k", None, false).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_duration_reads_from_a_table_too() {
    let table = BTreeMap::from([("nanos", Value::from(5)), ("secs", Value::from(1))]);
    assert_eq!(read::<Duration>(table).unwrap(), Duration::new(1, 5));
}
