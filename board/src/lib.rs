//! The big screen: a live web page and a JSON API over windlass's results.
//!
//! One poller a process reads one snapshot from a replica when something was committed, folds it
//! into a bounded history ([`screen`]) and sends the same bytes to every viewer. Viewers cost the
//! database nothing. What it does not do: write anywhere, ask a primary, or show a figure that the
//! store did not hold.
//!
//! | file | is |
//! |---|---|
//! | `screen.rs` | pure: snapshots in, frames and totals out |
//! | `trouble.rs` | pure: what is wrong, and since when |
//! | `jobs.rs`, `scaling.rs` | pure: cold starts remembered; a scaler's rows as the page shows them |
//! | `poll.rs` | the poller |
//! | `live.rs` | what it shares with the handlers, and the events that viewers get |
//! | `ask.rs`, `dispatcher.rs`, `watch.rs` | beside it: asks the dispatcher, and the store for a scaler |
//! | `api.rs`, `schema.rs` | HTTP, and the shapes that `/openapi.json` describes |
//! | `guard.rs` | token, headers, where it may listen |
//! | `page.rs` | the page's files, built into the binary |

mod api;
mod ask;
mod dispatcher;
mod guard;
mod jobs;
mod live;
mod money;
mod page;
mod poll;
mod scaling;
pub mod schema;
pub mod screen;
mod serve;
mod trouble;
mod watch;

pub use guard::refuse_open;
pub use serve::{Board, Config};
