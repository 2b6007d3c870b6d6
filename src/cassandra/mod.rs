//! The driver, and nothing but the driver: one pooled [`Session`] that keeps its own view of the nodes, routes each
//! request to a replica, gives each a deadline and tries another node where that helps. It writes requests and reads
//! results in wire format on cdrs-tokio's transport. What may not live here: our tables (their CQL is in
//! [`crate::store`]), and anything that prints.
//!
//! - [`session`]: connect, prepare, execute, pages, batches, schema agreement.
//! - `pool`: which node a request is sent to, and which one after it; `discovery`: contact points, and the task that
//!   keeps the topology up to date; [`topology`]: token ring and replicas.
//! - `node`: a node's connections and health; `connection`, `frames`, `tls`: down to a socket. `renewal`: passwords and
//!   certificates that change in their files.
//! - [`statement`], [`values`], [`rows`]: requests, bound values and results in wire format.
//! - [`system`]: Cassandra's own tables. [`probe`]: questions to one node that is starting.
//! - [`error`]: failures, classified.

use cassandra_protocol::frame::Version;

mod connection;
mod discovery;
pub mod error;
mod frames;
mod node;
mod pool;
pub mod probe;
mod renewal;
pub mod rows;
pub mod session;
pub mod statement;
pub mod system;
mod tls;
pub mod topology;
pub mod values;

pub use error::Error;
pub use rows::{CellError, FromCell, Pairs, Row, Rows};
pub use session::{NodeView, Pages, Session};
pub use statement::{Batch, SealedBatch, Statement};
pub use values::Values;

/// Reads bytes as those of a connection, and every answer in them as far as the session and the driver would. How
/// many frames there were.
pub(crate) fn read_answers(bytes: &[u8]) -> usize {
    use cassandra_protocol::frame::Opcode;
    use cassandra_protocol::frame::frame_decoder::FrameDecoder;

    let greeted = frames::Greeted::default();
    greeted.set();
    let frames = frames::Frames::new(greeted)
        .consume(&mut bytes.to_vec(), cassandra_protocol::compression::Compression::None)
        .unwrap_or_default();
    for frame in &frames {
        if frame.opcode == Opcode::Result {
            read_result(&frame.body);
        } else {
            let _ = frame.response_body();
        }
    }
    frames.len()
}

/// Reads a result as each of those that the session asks for.
pub(crate) fn read_result(body: &[u8]) -> usize {
    use std::collections::BTreeMap;

    let _ = statement::prepared(body);
    let Some(rows) = Rows::parse(body.to_vec()) else { return 0 };
    let node = std::net::SocketAddr::from(([127, 0, 0, 1], 9042));
    let _ = topology::members(node, &rows, &rows);
    for row in rows.iter() {
        for index in 0..=rows.columns().len() {
            let _ = row.get::<Option<String>>(index);
            let _ = row.get::<i64>(index);
            let _ = row.get::<f32>(index);
            let _ = row.get::<uuid::Uuid>(index);
            let _ = row.get::<Vec<&str>>(index);
            let _ = row.get::<Option<BTreeMap<&str, f32>>>(index);
            let _ = row.get::<Option<Pairs<std::borrow::Cow<'_, str>, &str>>>(index);
            if let Ok(options) = row.get::<BTreeMap<String, String>>(index) {
                let _ = topology::Replication::parse(options);
            }
        }
    }
    rows.len()
}

/// The native protocol's version; 4 is the first with "not set" values and is spoken by every Cassandra since 2.2.
const VERSION: Version = Version::V4;
