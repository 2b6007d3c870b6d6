//! A web page with a live view of the fleet, and the API behind it. All that it changes is who has seen an alert.
//!
//! - [`server`]: the listener, who may ask (`Host`), the headers of every answer, the embedded page.
//! - [`app`]: what all requests share. [`request`]: parameters, bounds and the deadline of a request.
//! - [`routes`]: one file per route.
//! - [`fleet`]: each sensor's newest reading, read once for all pages. [`health`]: Kafka and Cassandra.
//! - [`alerts`]: what fires, read once for all pages. [`compress`]: answers as gzip.
//! - [`feed`]: server-sent events to every open page. [`poll`]: what the events report.
//! - [`rows`]: answers of many rows, as JSON, NDJSON, CSV or Arrow.
//! - [`problem`]: errors as RFC 9457 defines them, with the remedy.

mod alerts;
mod app;
mod compress;
mod feed;
mod fleet;
mod health;
mod poll;
mod problem;
mod request;
mod routes;
mod rows;
pub mod server;

pub use server::serve;
