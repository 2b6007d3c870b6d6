//! The only place that knows CQL and cdrs-tokio. One pooled [`Session`] serves every command; what is written and
//! read goes through [`values`] and [`rows`] in wire format. Nothing here prints.

pub mod rows;
pub mod session;
pub mod values;

pub use rows::{CellError, Row, Rows};
pub use session::{Error, NodeView, Pages, Session, Statement};
pub use values::Values;
