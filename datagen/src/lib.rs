//! Orders to feed windlass with: generated, or read from files; published with confirms; and a
//! manifest of what was sent, against which a database can be checked exactly.
//!
//! [`workload`], [`message`] and [`manifest`] are pure: no clock, no IO, the same seed gives the
//! same bytes. [`files`] touches the file system, [`broker`] alone knows RabbitMQ.

pub mod broker;
pub mod feed;
pub mod files;
pub mod manifest;
pub mod message;
pub mod pattern;
pub mod provinces;
pub mod publish;
pub mod workload;
