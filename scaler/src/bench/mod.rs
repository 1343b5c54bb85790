//! The benchmark: every policy on every pattern and seed, training included.

pub mod player;
pub mod score;
pub mod train;

pub use player::Player;
pub use score::{Cases, Line, Score};
pub use train::Training;
