//! `iotctl config show`: the effective values with their origin, secrets redacted.
