//! What runs in production as well as in the simulator.

pub mod capacity;
pub mod history;
pub mod sample;
