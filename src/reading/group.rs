//! Groups, and the partitions that their readings lie in.

use std::sync::Arc;

use super::Bucket;

/// A (location, device type): the sensors whose readings share partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    pub location: String,
    pub device_type: String,
}

/// A partition of the raw table: one group in one bucket of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub group: Arc<Group>,
    pub bucket: Bucket,
}
