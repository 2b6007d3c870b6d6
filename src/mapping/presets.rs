//! Mappings that come with the program.

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    pub text: &'static str,
}

macro_rules! preset {
    ($name:literal, $about:literal) => {
        Preset { name: $name, about: $about, text: include_str!(concat!("presets/", $name, ".toml")) }
    };
}

/// All, in order of their names.
pub const ALL: [Preset; 12] = [
    preset!("chirpstack-v4", "uplinks of ChirpStack v4 (JSON)"),
    preset!("line-protocol", "InfluxDB line protocol, of Telegraf and others"),
    preset!("otlp-json", "OpenTelemetry metrics, OTLP as JSON: gauges and sums"),
    preset!("senml", "SenML (RFC 8428) as JSON"),
    preset!("senml-cbor", "SenML (RFC 8428) as CBOR, of LwM2M and others"),
    preset!("shelly", "Shelly devices of all generations, with the MQTT topic as key"),
    preset!("sparkplug-b", "Sparkplug B through a bridge from MQTT"),
    preset!("tasmota", "telemetry of Tasmota devices (tele/DEVICE/SENSOR)"),
    preset!("telegraf-json", "Telegraf's JSON output"),
    preset!("thingsboard-gateway", "telemetry of the ThingsBoard gateway API"),
    preset!("ttn-v3", "uplinks of The Things Stack v3"),
    preset!("zigbee2mqtt", "Zigbee2MQTT through a bridge from MQTT, with the MQTT topic as key"),
];

/// By its name.
pub fn find(name: &str) -> Option<Preset> {
    ALL.into_iter().find(|preset| preset.name == name)
}
