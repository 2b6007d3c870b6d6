//! A read-only web page with a live view of the fleet, and the JSON API behind it.
//!
//! - [`server`]: the listener, who may ask (`Host`), the headers of every answer, the embedded page.
//! - [`app`]: what all requests share. [`request`]: parameters, bounds and the deadline of a request.
//! - [`routes`]: one file per route.
//! - [`fleet`]: each sensor's newest reading, read once for all pages. [`health`]: Kafka and Cassandra.
//! - [`alerts`]: what fires, read once for all pages. [`compress`]: answers as gzip.
//! - [`feed`]: server-sent events to every open page. [`poll`]: what the events report.
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
pub mod server;

pub use server::serve;
