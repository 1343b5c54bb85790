//! What runs in production as well as in the simulator.

pub mod batches;
pub mod capacity;
pub mod controller;
pub mod decision;
pub mod explain;
pub mod features;
pub mod forecast;
pub mod history;
pub mod layout;
pub mod learner;
pub mod meter;
pub mod presets;
pub mod record;
pub mod risk;
pub mod sample;
pub mod sarsa;
pub mod snapshot;
pub mod table;
