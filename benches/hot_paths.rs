//! What each message costs on the pipeline's one thread: decode, detect, bind and batch; and what each request costs in
//! planning. `cargo bench --bench hot_paths`

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use iotctl::alerting::{Detector, Rules};
use iotctl::cassandra::topology::Topology;
use iotctl::cassandra::{Batch, Statement, Values};
use iotctl::kafka::TopicPartition;
use iotctl::reading::Bucket;
use iotctl::reading::decode::{DecodeLimits, decode};
use iotctl::reading::encode::Encoder;
use iotctl::store::writes::bind_reading;

const NOW: i64 = 1_793_491_200_000;
const MESSAGE: &[u8] = br#"{"location":"plant-3","device_type":"weather-station","iot_sensor_id":"6f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0","recorded_timestamp":"2026-10-31T23:59:59.250Z","temperature":21.53,"humidity":48.2,"pressure":1013.25,"light_level":312.5,"other_metrics":{"battery_voltage":3.31,"wind_speed":4.2}}"#;

fn limits() -> DecodeLimits {
    DecodeLimits {
        max_message_bytes: 1 << 20,
        max_future_skew: Duration::from_secs(3600),
        is_any_time: false,
    }
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    group.bench_function("a reading of 290 bytes", |bencher| {
        bencher
            .iter(|| decode(black_box(MESSAGE), &limits(), NOW).map(|decoded| decoded.reading.recorded_at));
    });
    group.bench_function("a malformed message", |bencher| {
        bencher.iter(|| decode(black_box(&MESSAGE[..200]), &limits(), NOW).is_err());
    });
    group.finish();
}

fn detecting(criterion: &mut Criterion) {
    const SENSORS: u128 = 1_000;
    let mut reading = decode(MESSAGE, &limits(), NOW).expect("a good message").reading.into_owned();
    let mut group = criterion.benchmark_group("detect");
    group.throughput(Throughput::Elements(1));
    for (name, condition) in [
        ("a threshold", "threshold = { above = 28, hysteresis = 0.5 }"),
        ("a robust z-score of 120 readings", "robust-z = { readings = 120 }"),
        ("a change within 10 minutes", "change = { rise = 5, fall = 5, within = \"10m\" }"),
        ("the online detector", "online = {}"),
    ] {
        let rules = format!("[[rule]]\nname = \"r\"\nmetric = \"temperature\"\n{condition}");
        let mut detector = Detector::new(Rules::parse(&rules).expect("good rules"));
        detector.note_changes();
        let (mut count, mut alerts) = (0_u128, 0_u64);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                reading.sensor = uuid::Uuid::from_u128(count % SENSORS);
                reading.recorded_at = NOW + (count / SENSORS) as i64 * 10_000;
                reading.temperature = Some(21.0 + ((count * 7_919) % 101) as f32 / 50.0);
                count += 1;
                detector.observe(TopicPartition::new("readings", 0), &reading, |_| alerts += 1);
                alerts
            });
        });
    }
    group.finish();
}

fn batching(criterion: &mut Criterion) {
    let reading = decode(MESSAGE, &limits(), NOW).expect("a good message").reading;
    let bucket = Bucket::containing(reading.recorded_at, Duration::from_secs(3600));
    let statement = Statement::sample(vec![0, 1, 11]);
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(64));
    group.bench_function("bind and push 64 rows", |bencher| {
        let mut values = Values::new();
        bencher.iter_batched(
            || Batch::new(&statement, &[b"plant-3", b"weather-station", &bucket.start.to_be_bytes()]),
            |mut batch| {
                for _ in 0..64 {
                    bind_reading(&mut values, &reading, bucket);
                    batch.push(&values);
                }
                batch
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn planning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for nodes in [3, 100] {
        let topology = Topology::sample(nodes, 16, 3);
        let mut token = 0_i64;
        group.bench_function(format!("{nodes} nodes, RF 3"), |bencher| {
            bencher.iter(|| {
                token = token.wrapping_add(0x1234_5678_9ABC_DEF1);
                topology.plan_length(token)
            });
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let reading = decode(MESSAGE, &limits(), NOW).expect("a good message").reading;
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    group.bench_function("a reading", |bencher| {
        let (mut encoder, mut buffer) = (Encoder::new(), Vec::with_capacity(512));
        bencher.iter(|| {
            buffer.clear();
            encoder.encode(black_box(&reading), &mut buffer);
            buffer.len()
        });
    });
    group.finish();
}

criterion_group!(hot_paths, decoding, detecting, batching, planning, encoding);
criterion_main!(hot_paths);
