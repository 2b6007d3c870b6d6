//! What others wrote, hostile: every reader returns, without a panic, and in memory of a few times the input. What is
//! counted is bytes and not seconds, so that a slow machine changes nothing.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Once;

use iotctl::fuzzing;
use proptest::prelude::*;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static TOTAL: Cell<usize> = const { Cell::new(0) };
}

fn count(grown: isize) {
    // Gone while a thread ends: what is allocated then is nobody's concern.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + grown);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
    if let Ok(grown) = usize::try_from(grown) {
        let _ = TOTAL.try_with(|total| total.set(total.get() + grown));
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches thread-local numbers alone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `read` held at once, and all that it allocated.
fn memory(read: impl FnOnce()) -> (usize, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    TOTAL.set(0);
    read();
    (usize::try_from(PEAK.get() - before).unwrap_or(0), TOTAL.get())
}

/// A reader, and how many bytes it may hold at once and allocate in all: for each byte of input, and beside.
struct Reader {
    name: &'static str,
    read: fn(&[u8]) -> bool,
    peak: (usize, usize),
    total: (usize, usize),
}

fn text(read: fn(&str) -> bool, bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(read)
}

const KIB: usize = 1 << 10;

const READERS: [Reader; 9] = [
    Reader { name: "decode", read: fuzzing::decode, peak: (8, 16 * KIB), total: (40, 64 * KIB) },
    Reader {
        name: "filter",
        read: |bytes| text(fuzzing::filter, bytes),
        peak: (40, 64 * KIB),
        total: (200, 64 * KIB),
    },
    Reader {
        name: "time_range",
        read: |bytes| text(fuzzing::time_range, bytes),
        // The names of all zones, among which the one most like an unknown name is looked for.
        peak: (16, 96 * KIB),
        total: (120, 512 * KIB),
    },
    Reader {
        name: "config",
        read: |bytes| text(fuzzing::config, bytes),
        peak: (120, 256 * KIB),
        total: (400, 512 * KIB),
    },
    Reader {
        name: "schema",
        read: |bytes| text(fuzzing::schema, bytes),
        peak: (120, 64 * KIB),
        total: (400, 64 * KIB),
    },
    Reader { name: "recording", read: fuzzing::recording, peak: (16, 512 * KIB), total: (200, 1024 * KIB) },
    Reader { name: "frames", read: fuzzing::frames, peak: (120, 256 * KIB), total: (400, 256 * KIB) },
    Reader { name: "rows", read: fuzzing::rows, peak: (60, 16 * KIB), total: (400, 64 * KIB) },
    Reader { name: "ledger", read: fuzzing::ledger, peak: (4, 1024 * KIB), total: (200, 1024 * KIB) },
];

/// Loads the zones that a reader may ask for, once. They stay in memory, and are no memory of the input that comes first.
fn know_zones() {
    static KNOWN: Once = Once::new();
    KNOWN.call_once(|| {
        for zone in ["12", "Europe/Berlin", "America/St_Johns", "Asia/Nowhere"] {
            let _ = fuzzing::time_range(zone);
        }
    });
}

fn check(reader: &Reader, input: &[u8], what: &str) -> bool {
    know_zones();
    let mut understood = false;
    let (peak, total) = memory(|| understood = (reader.read)(input));
    for (kind, bytes, (each, beside)) in [("held", peak, reader.peak), ("allocated", total, reader.total)] {
        let bound = each * input.len() + beside;
        assert!(
            bytes <= bound,
            "{} of {what}: {} bytes {kind} {bytes}, over {bound}",
            reader.name,
            input.len()
        );
    }
    understood
}

const ID: &str = "6f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0";

/// A message's required fields, to be followed by others and a brace.
fn message_start() -> String {
    format!(r#"{{"location":"l","device_type":"d","iot_sensor_id":"{ID}","recorded_timestamp":1749981600250"#)
}

/// Inputs that each reader is given, whosever they are.
fn giants() -> Vec<(&'static str, Vec<u8>)> {
    const MANY: usize = 2 << 20;
    let start = message_start();
    let member = |body: String| format!("{start},{body}}}").into_bytes();
    vec![
        ("2 MB of one letter", vec![b'x'; MANY]),
        ("2 MB of zeros", vec![0; MANY]),
        ("2 MB of 0xFF", vec![0xFF; MANY]),
        ("2 MB of brackets", vec![b'['; MANY]),
        ("2 MB of braces", br#"{"a":"#.repeat(MANY / 5)),
        ("2 MB of parentheses", vec![b'('; MANY]),
        ("2 MB of quotes", vec![b'"'; MANY]),
        ("2 MB of new lines", vec![b'\n'; MANY]),
        ("2 MB of not", b"not ".repeat(MANY / 4)),
        (
            "2 MB of list types",
            [&[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1][..], &[0, 0x20].repeat(MANY / 2)].concat(),
        ),
        ("a string of 2 MB", format!("\"{}\"", "x".repeat(MANY)).into_bytes()),
        ("a string of escapes", format!("\"{}\"", "\\u0001".repeat(MANY / 6)).into_bytes()),
        ("a message with a name of 2 MB", member(format!("\"{}\":1", "n".repeat(MANY)))),
        (
            "a message with metrics of 2 MB",
            member(format!("\"other_metrics\":\"{}\"", "\\n".repeat(MANY / 2))),
        ),
        ("a message with a number of 2 MB", member(format!("\"temperature\":{}", "9".repeat(MANY)))),
        ("a message with a field many times", member(vec!["\"humidity\":1"; 200_000].join(","))),
        ("a message with one metric many times", member(vec!["\"rpm\":1"; 200_000].join(","))),
        ("a message with many ignored fields", member(vec!["\"a\":[{}]"; 200_000].join(","))),
        ("a config key of 1 MB", format!("[kafka]\n{}topic = 1", "a".repeat(1 << 20)).into_bytes()),
        ("a config with many entries", {
            let entries: String = (0..20_000).map(|index| format!("a{index} = 1\n")).collect();
            format!("[kafka.properties]\n{entries}").into_bytes()
        }),
        (
            "a config with a deep key",
            format!("[kafka.properties]\na{} = 1", ".a".repeat(100_000)).into_bytes(),
        ),
        ("a comment that never ends", format!("/*{}", "/*".repeat(MANY / 2)).into_bytes()),
        ("a CSV quote that is never closed", {
            format!("recorded_timestamp,a\n0,\"{}", "0,1\n".repeat(MANY / 4)).into_bytes()
        }),
        ("a CSV line of many columns", vec![b','; 1 << 20]),
    ]
}

#[test]
fn memory_is_bounded_by_the_size_of_whatever_is_read() {
    for (what, input) in giants() {
        for reader in &READERS {
            check(reader, &input, what);
        }
    }
}

/// Each reader understands something that is well meant; else the bounds above would bound nothing.
#[test]
fn what_is_well_meant_is_understood() {
    let good: [&[u8]; 9] = [
        &format!("{}}}", message_start()).into_bytes(),
        b"temperature > 28 and not (humidity is missing or location = 'a''b')",
        b"2026-01-31 12:00",
        b"[kafka.properties]\nlinger.ms = 20\n\0kafka.topic=readings",
        include_bytes!("../schema.cql"),
        b"recorded_timestamp,temperature\n1750000000,300\n",
        &[0x84, 0, 0, 7, 0x08, 0, 0, 0, 4, 0, 0, 0, 1],
        &rows(&[(b"a", 9)], &[Some(&[0, 0, 0, 1])], 1),
        include_bytes!("../fuzz/seeds/ledger/two_and_a_torn_one"),
    ];
    for (reader, input) in READERS.iter().zip(good) {
        assert!(check(reader, input, "an example"), "{}", reader.name);
    }
}

/// A page with one table: columns by name and type, and cells row by row.
fn rows(columns: &[(&[u8], u16)], cells: &[Option<&[u8]>], count: i32) -> Vec<u8> {
    let mut body = [2_i32, 1, columns.len() as i32].map(i32::to_be_bytes).concat();
    let short = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    body.extend([short(b"ks"), short(b"t")].concat());
    for (name, kind) in columns {
        body.extend(short(name));
        body.extend(kind.to_be_bytes());
    }
    body.extend(count.to_be_bytes());
    for cell in cells {
        body.extend(cell.map_or(-1, |cell| cell.len() as i32).to_be_bytes());
        body.extend(cell.unwrap_or_default());
    }
    body
}

/// JSON of any shape, in which the wire format's own names, and numbers that no type holds, are likely.
fn json() -> impl Strategy<Value = String> {
    let number = prop::sample::select(vec![
        "0",
        "-0.0",
        "1e39",
        "-1e39",
        "1e999",
        "1e-999",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "9223372036854775807",
        "253402300800000",
        "1749981600250.75",
        "-999",
        "-999.0",
        "NaN",
        "Infinity",
        "-Infinity",
        "0x10",
        "1_000",
        "01",
        ".5",
        "5.",
        "+1",
        "3.4028236e38",
    ])
    .prop_map(str::to_owned);
    let word = prop::sample::select(vec![
        "null",
        "true",
        "false",
        r#""2025-06-15T12:00:00+02:00""#,
        r#""9999-12-31T23:59:60Z""#,
        r#""-0001-01-01T00:00:00Z""#,
        r#""\u0000""#,
        r#""\ud800""#,
        r#""\ud83d\ude00""#,
        r#""nan""#,
        "\"\"",
        r#""6f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0""#,
        "\"\u{feff}l\"",
    ])
    .prop_map(str::to_owned);
    let leaf = prop_oneof![
        number,
        word,
        any::<f64>().prop_map(|it| it.to_string()),
        any::<u64>().prop_map(|it| it.to_string())
    ];
    let name = prop_oneof![
        prop::sample::select(vec![
            "location",
            "device_type",
            "iot_sensor_id",
            "recorded_timestamp",
            "temperature",
            "humidity",
            "pressure",
            "motion_detected",
            "light_level",
            "gas_concentration",
            "other_metrics",
            "t\\u0065mperature",
            "rpm",
            "",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,4}",
    ];
    leaf.prop_recursive(4, 40, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((name.clone(), inner), 0..10).prop_map(object),
        ]
    })
}

fn object(members: Vec<(String, String)>) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// A message that is good up to the fields which are put into it.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "location",
        "device_type",
        "iot_sensor_id",
        "recorded_timestamp",
        "temperature",
        "pressure",
        "motion_detected",
        "other_metrics",
        "rpm",
    ]);
    prop::collection::vec((name, json()), 0..4).prop_map(|fields| {
        let fields: String = fields.iter().map(|(name, value)| format!(",\"{name}\":{value}")).collect();
        format!("{}{fields}}}", message_start()).into_bytes()
    })
}

/// Pieces of a grammar in any order.
fn pieces(of: &'static [&'static str], separator: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![9 => prop::sample::select(of).prop_map(str::to_owned), 1 => "\\PC{0,6}"];
    prop::collection::vec(piece, 0..30).prop_map(move |pieces| pieces.join(separator).into_bytes())
}

const CONDITION: &[&str] = &[
    "temperature",
    "motion_detected",
    "location",
    "iot_sensor_id",
    "recorded_timestamp",
    "other_metrics",
    "rpm",
    "and",
    "or",
    "not",
    "(",
    ")",
    "is",
    "missing",
    "=",
    "!=",
    "<>",
    "<=",
    ">",
    "=>",
    "28",
    "-3.5e3",
    "-nan",
    "+inf",
    "1e99",
    "'a''b'",
    "\"2026-01-31 12:00\"",
    "'-2h'",
    "true",
    "FALSE",
    "'",
    "\"",
    "é",
    "\u{feff}",
];
const MOMENT: &[&str] = &[
    "now",
    "-",
    "+",
    "2026",
    "-01",
    "-31",
    " ",
    "T",
    "12",
    ":00",
    ":60",
    ".999999999",
    "Z",
    "+01:00",
    "+24:00",
    "ago",
    "2h",
    "30m",
    "7d",
    "18446744073709551615",
    "999999999999y",
    "ns",
    "+262142",
    "-262143",
    "9999",
    "1e300",
    "0000",
];
const SETTINGS: &[&str] = &[
    "[kafka]",
    "[kafka.properties]",
    "[cassandra.tls]",
    "[[kafka]]",
    "topic = \"a\"",
    "topic.a = 1",
    "linger.ms = 20",
    "a = { b = { c = 1 } }",
    "request_timeout = \"99999999999y\"",
    "batch_bytes = 99999999999999999999",
    "max_message_bytes = \"1e400TiB\"",
    "ttl = -1",
    "contact_points = [[[1]]]",
    "password = nan",
    "partitions = inf",
    "partitions = 0xFFFFFFFFFFFFFFFF",
    "group = 1979-05-27T07:32:00Z",
    "\"\\u0000\" = 1",
    "[schema]",
    "[ingest]",
    "\0",
    "ingest.linger=1ns",
    "=",
];
const CQL: &[&str] = &[
    "CREATE",
    "TABLE",
    "KEYSPACE",
    "MATERIALIZED VIEW",
    "IF NOT EXISTS",
    "ks.t",
    "(",
    ")",
    "a text",
    ",",
    "PRIMARY KEY",
    "((a, b), c)",
    "WITH",
    "CLUSTERING ORDER BY (c DESC)",
    "AND",
    "compaction = {'class': 'X'}",
    "{",
    "}",
    "<",
    ">>",
    "map<text, frozen<list<int>>>",
    "'",
    "''",
    "\"",
    "$$",
    "/*",
    "*/",
    "--",
    "//",
    "\n",
    ";",
    "é",
    "AS SELECT a FROM ks.t WHERE",
    "replication = {",
    "default_time_to_live = 99999999999999999999",
];
const AVRO: &[&str] = &[
    "{\"type\": \"record\", \"name\": \"R\", \"fields\": [",
    "{\"name\": \"a\", \"type\": ",
    "\"R\"",
    "\"null\"",
    "\"long\"",
    "\"bytes\"",
    "[\"null\", \"R\"]",
    "{\"type\": \"array\", \"items\": ",
    "{\"type\": \"map\", \"values\": ",
    "{\"type\": \"fixed\", \"name\": \"F\", \"size\": 4000000000}",
    "{\"type\": \"bytes\", \"logicalType\": \"decimal\", \"precision\": 4, \"scale\": 400}",
    "{\"type\": \"enum\", \"name\": \"E\", \"symbols\": [\"A\"]}",
    ",",
    "}",
    "]",
    "]}",
];

const PROTOBUF: &[&str] = &[
    "syntax = \"proto3\";",
    "import \"google/protobuf/struct.proto\";",
    "import \"google/protobuf/timestamp.proto\";",
    "message M {",
    "message N {",
    "M m = 1;",
    "repeated N n = 2;",
    "repeated M l = 3;",
    "map<string, M> p = 4;",
    "google.protobuf.Value v = 5;",
    "oneof o {",
    "int32 i = 536870911;",
    "enum E { A = 0; }",
    "extensions 100 to max;",
    "}",
    ";",
];

const CSV: &[&str] = &[
    "recorded_timestamp",
    "temperature",
    "pressure",
    "motion_detected",
    "location",
    ",",
    ",",
    ",",
    "\n",
    "\n",
    "\r\n",
    "\"",
    "0",
    "1e300",
    "-1e300",
    "3e38",
    "NaN",
    "inf",
    "-999.0",
    "2026-01-31 12:00:00",
    "yes",
    "\u{feff}",
    "\0",
];

/// A page whose counts, lengths or types may lie.
fn page() -> impl Strategy<Value = Vec<u8>> {
    let kind =
        prop::sample::select(vec![1_u16, 2, 9, 0x0B, 0x0C, 0x0D, 0x10, 0x20, 0x21, 0x22, 0x30, 0x31, 0]);
    let cell = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    (
        prop::collection::vec(kind, 0..5),
        prop::collection::vec(cell, 0..20),
        prop_oneof![0_i32..8, any::<i32>()],
        prop::option::of((0_usize..60, any::<u8>())),
    )
        .prop_map(|(kinds, cells, count, lie)| {
            let columns: Vec<_> = kinds.iter().map(|kind| (&b"c"[..], *kind)).collect();
            let cells: Vec<_> = cells.iter().map(Option::as_deref).collect();
            let mut body = rows(&columns, &cells, count);
            if let Some((at, byte)) = lie {
                let length = body.len();
                body[at % length] = byte;
            }
            body
        })
}

fn framed(body: Vec<u8>, flags: u8, opcode: u8, length: Option<i32>) -> Vec<u8> {
    let length = length.unwrap_or(body.len() as i32).to_be_bytes();
    [&[0x84, flags, 0, 1, opcode][..], &length, &body].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn messages(input in prop_oneof![message(), json().prop_map(String::into_bytes)]) {
        check(&READERS[0], &input, "a message");
    }

    #[test]
    fn damaged_messages(mut input in message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let at = at.index(input.len());
        input[at] = byte;
        check(&READERS[0], &input, "a damaged message");
    }

    #[test]
    fn conditions(input in pieces(CONDITION, " ")) {
        check(&READERS[1], &input, "a condition");
    }

    #[test]
    fn moments(input in pieces(MOMENT, "")) {
        check(&READERS[2], &input, "a moment");
    }

    #[test]
    fn settings(input in pieces(SETTINGS, "\n")) {
        check(&READERS[3], &input, "a config");
    }

    #[test]
    fn schemas(input in pieces(CQL, " ")) {
        check(&READERS[4], &input, "a schema");
    }

    #[test]
    fn schemas_of_a_registry_and_data_by_them(
        schema in prop_oneof![Just(Vec::new()), pieces(AVRO, ""), pieces(PROTOBUF, " ")],
        data in prop::collection::vec(prop_oneof![3 => 0_u8..8, 1 => any::<u8>()], 0..400),
    ) {
        let length = u16::try_from(schema.len()).unwrap_or(0).to_be_bytes();
        let input = [&length[..], &schema, &data].concat();
        for (name, read) in [("avro", fuzzing::avro as fn(&[u8]) -> bool), ("protobuf", fuzzing::protobuf)] {
            check(&Reader { name, read, peak: (2_000, 4096 * KIB), total: (20_000, 16_384 * KIB) }, &input, "data by a schema");
        }
    }

    #[test]
    fn recordings(input in prop_oneof![
        pieces(CSV, ""),
        prop::collection::vec(message(), 0..4).prop_map(|lines| lines.join(&b"\n"[..])),
    ]) {
        check(&READERS[5], &input, "a recording");
    }

    #[test]
    fn answers(body in page(), flags in prop_oneof![4 => Just(0_u8), 1 => any::<u8>()],
               opcode in prop_oneof![3 => Just(8_u8), 1 => 0_u8..0x12], length in prop::option::weighted(0.1, any::<i32>())) {
        check(&READERS[7], &body, "a page");
        check(&READERS[6], &framed(body, flags, opcode, length), "a frame");
    }
}
