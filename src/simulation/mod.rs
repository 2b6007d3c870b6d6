//! Where simulated readings come from and how they are sent. In the order the data flows: [`fleet`] (sensors) and
//! [`signals`] (what they measure) or [`recording`] (readings from a file, with [`columns`] and [`units`]), then
//! [`disorder`] (what goes wrong on the way), [`stream`] (readings become messages), [`pace`] (when each is due),
//! [`run`] (sending and the report), [`deliveries`] and [`ledger`] (what the broker acknowledged).
//! Nothing here prints.

pub mod clock;
pub mod columns;
pub mod deliveries;
pub mod disorder;
pub mod fleet;
pub mod pace;
pub mod recording;
pub mod run;
pub mod signals;
pub mod stream;
pub mod units;

pub use disorder::Disorder;
pub use fleet::FleetPlan;
pub use run::{Limit, Plan, Report, Target, run};
