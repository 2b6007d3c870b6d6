//! One page for people who would rather look than type, and the JSON behind it. Read-only.
//!
//! - [`server`]: the routes, who may ask (`Host`), the headers of every answer, the embedded page.
//! - [`fleet`]: each sensor's newest reading, read once for all who look; [`health`]: Kafka and Cassandra.
//! - [`events`]: both, pushed to every open page by server-sent events.
//! - [`api`]: series, extremes, silent sensors, anomalies: each request bounded in time, points and neighbours.
//! - [`forecast`]: what a sensor will do next.
//! - [`downsample`]: a long series in as many columns as a screen has, extremes kept.
//! - [`problem`]: what went wrong as RFC 9457 tells it, with the remedy.

pub mod api;
pub mod events;
pub mod fleet;
pub mod forecast;
pub mod health;
pub mod problem;
pub mod server;

pub use server::serve;
