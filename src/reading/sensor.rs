//! Ids of sensors. A UUID stands for itself, in any spelling; every other name for the version-5 UUID of it in
//! [`NAMESPACE`]: the same name is the same sensor, in whatever message or file it stands.

use uuid::Uuid;

/// Of the ids that are made of names.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x3b1f_6c0a_8f6e_4d53_a1c7_0d2e_94b8_5f66);

/// The id of a sensor by its name, or by the id itself.
pub fn id(name: &str) -> Uuid {
    Uuid::try_parse(name).unwrap_or_else(|_| Uuid::new_v5(&NAMESPACE, name.as_bytes()))
}

/// The id, and the name where it is no UUID.
pub fn identify(name: String) -> (Uuid, Option<String>) {
    match Uuid::try_parse(&name) {
        Ok(id) => (id, None),
        Err(_) => (id(&name), Some(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_itself_and_a_name_is_always_the_same_id() {
        let uuid = "6d0a1c1e-52c4-4b0e-9b57-7f3c8a4e21d5";
        assert_eq!(identify(uuid.to_owned()), (Uuid::parse_str(uuid).unwrap(), None));
        assert_eq!(id(&uuid.to_uppercase()), id(uuid));
        // As any other program computes it; documented in docs/mapping.md.
        assert_eq!(id("sensor-17").to_string(), "b2d36f72-1120-5750-a077-1beae1e9a07c");
        assert_eq!(identify("sensor-17".to_owned()), (id("sensor-17"), Some("sensor-17".to_owned())));
        assert_ne!(id("sensor-17"), id("Sensor-17"));
    }
}
