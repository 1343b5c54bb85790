//! The benchmark: every policy on every pattern and seed, training included.

pub mod contender;
pub mod player;
pub mod score;
pub mod train;

pub use contender::{Contender, Scenario};
pub use player::Player;
pub use score::{Cases, Line, Score};
pub use train::Training;
