//! The containers of docker-compose.yml, by the programs `docker` and `docker compose` (or `docker-compose`): what they
//! are told is what a person would type, so that both can be mixed.
//!
//! [`compose`] runs the programs, [`container`] reads what the engine says of containers, [`nodes`] is the second compose
//! file, in which `iotctl node` keeps the nodes that it has added and taken out, and [`up`](fn@up) waits for health.

mod compose;
mod container;
mod nodes;
mod up;

pub use compose::Compose;
pub use container::Container;
pub use nodes::NodesFile;
pub use up::{down, up};
