//! The servers that `iotctl` runs, and those whose membership it changes.
//!
//! - [`local`]: real Cassandra and Kafka servers on this machine, for `iotctl up` and for the tests.
//! - [`docker`]: the containers of docker-compose.yml.
//! - [`membership`]: the cluster as every node sees it; nodes in and out of it, journaled.

pub mod docker;
pub mod local;
pub mod membership;
