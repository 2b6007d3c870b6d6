//! Simulated readings, and how they are sent. In the order the data flows: [`fleet`] (sensors, with the [`clock`]) and
//! [`signals`] (what they measure) or [`recording`] (readings from a file), then [`disorder`] (faults on the way),
//! [`stream`] (readings become messages), [`pace`] (when each is due), [`mod@run`] (sends a [`plan`]), [`deliveries`] (what the broker acknowledged) and [`report`]. Nothing here prints.

pub mod clock;
pub mod deliveries;
pub mod disorder;
pub mod fleet;
pub mod pace;
pub mod plan;
pub mod recording;
pub mod report;
pub mod run;
pub mod signals;
pub mod stream;

pub use disorder::Disorder;
pub use fleet::FleetPlan;
pub use plan::{Feed, Limit, Plan, Target};
pub use report::Report;
pub use run::run;
