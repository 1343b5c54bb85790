//! Carries messages to the broker and keeps each until it is confirmed.
//!
//! Messages are kept in the order of their sending. When the connection is lost, all that are not
//! confirmed go out again in that order before anything new: a message may arrive twice, none is
//! skipped, and no source's later tuples overtake its earlier ones. (One that the broker refuses by
//! itself is sent again behind those already on their way.)

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::Progress;
use crate::broker::{BrokerError, Pending, Publisher, Target, Verdict};
use crate::manifest::Recorder;
use crate::message::Message;

/// Most messages, and bytes of bodies, on their way at a time.
const WINDOW_MESSAGES: usize = 4_096;
const WINDOW_BYTES: usize = 32 << 20;

/// Pauses between attempts to connect: doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How often messages behind an unconfirmed one are looked at: the broker may have returned them.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A connection that is silent about a message for so long is made anew, unless the broker has said
/// that it is short of memory or disk. RabbitMQ 3.10 can stop reading from a channel for good when a
/// quorum queue is deleted under load, and forgets messages that meet a queue in its last moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes with a window of outstanding messages.
///
/// Every method may be cancelled at any await: what was begun is completed by the next call.
pub(super) struct Courier {
    target: Target,
    publisher: Option<Publisher>,
    /// Not confirmed yet. The first `sent` of them are on their way, and have a `Pending`.
    outstanding: VecDeque<Outstanding>,
    sent: usize,
    bytes: usize,
    looked: Instant,
    recorder: Recorder,
    pub(super) progress: Progress,
}

struct Outstanding {
    message: Message,
    pending: Option<Pending>,
    /// The broker's word, if it was heard before its turn.
    verdict: Option<Verdict>,
}

impl Outstanding {
    fn unsent(message: Message) -> Self {
        Self {
            message,
            pending: None,
            verdict: None,
        }
    }

    /// The broker's word, if it has spoken.
    fn heard(&mut self) -> Result<Option<Verdict>, BrokerError> {
        if let (None, Some(pending)) = (self.verdict, &mut self.pending) {
            self.verdict = pending.verdict().now_or_never().transpose()?;
        }
        Ok(self.verdict)
    }
}

impl Courier {
    /// Connects. The first attempt must succeed, so that a wrong URL shows at once.
    pub(super) async fn open(target: Target, recorder: Recorder) -> Result<Self, BrokerError> {
        Ok(Self {
            publisher: Some(target.open().await?),
            target,
            outstanding: VecDeque::new(),
            sent: 0,
            bytes: 0,
            looked: Instant::now(),
            recorder,
            progress: Progress::default(),
        })
    }

    /// Takes `message` and sends it; returns as soon as the window has room for another.
    pub(super) async fn send(&mut self, message: Message) -> Result<(), BrokerError> {
        self.bytes += message.body.len();
        self.outstanding.push_back(Outstanding::unsent(message));
        self.settle_until(|courier| {
            courier.outstanding.len() < WINDOW_MESSAGES && courier.bytes < WINDOW_BYTES
        })
        .await
    }

    /// Waits until everything is confirmed.
    pub(super) async fn drain(&mut self) -> Result<(), BrokerError> {
        self.settle_until(|courier| courier.outstanding.is_empty())
            .await
    }

    /// The record of what was confirmed; what was not is recorded as such.
    pub(super) async fn finish(mut self) -> (Recorder, Progress) {
        for Outstanding { message, .. } in &self.outstanding {
            self.recorder.unconfirmed(&message.orders);
        }
        if let Some(publisher) = self.publisher {
            publisher.close().await;
        }
        (self.recorder, self.progress)
    }

    async fn settle_until(&mut self, enough: impl Fn(&Self) -> bool) -> Result<(), BrokerError> {
        loop {
            match self.step(&enough).await {
                Ok(()) => return Ok(()),
                Err(BrokerError::Lost(reason)) => {
                    tracing::warn!(%reason, unconfirmed = self.outstanding.len(), "broker lost");
                    self.publisher = None;
                }
                Err(refused) => return Err(refused),
            }
        }
    }

    /// Sends what is not on its way, then takes confirms until it is `enough`.
    async fn step(&mut self, enough: impl Fn(&Self) -> bool) -> Result<(), BrokerError> {
        let publisher = match &self.publisher {
            Some(publisher) => publisher,
            None => &*self.publisher.insert({
                self.progress.resent += self.sent as u64;
                self.sent = 0;
                let publisher = reopen(&self.target).await?;
                self.progress.reconnected += 1;
                publisher
            }),
        };
        while let Some(next) = self.outstanding.get_mut(self.sent) {
            next.pending = Some(publisher.publish(&next.message).await?);
            next.verdict = None;
            self.sent += 1;
        }
        while let Some(first) = self.outstanding.front_mut() {
            if first.pending.is_none() {
                // Refused and put back; a broker short of something is not to be hammered.
                tokio::time::sleep(FIRST_PAUSE).await;
                return Box::pin(self.step(enough)).await;
            }
            let verdict = match first.heard()? {
                Some(verdict) => verdict,
                None if enough(self) => {
                    if self.looked.elapsed() >= LOOK_EVERY {
                        self.look_ahead()?;
                    }
                    return Ok(());
                }
                None => self.first_verdict().await?,
            };
            self.settle(verdict);
        }
        Ok(())
    }

    /// The broker's word on the oldest message.
    async fn first_verdict(&mut self) -> Result<Verdict, BrokerError> {
        let mut asked = Instant::now();
        loop {
            let first = self.outstanding.front_mut();
            let pending = first.and_then(|first| first.pending.as_mut());
            let pending = pending.expect("the oldest message is on its way");
            if let Ok(verdict) = tokio::time::timeout(LOOK_EVERY, pending.verdict()).await {
                return verdict;
            }
            self.look_ahead()?;
            if asked.elapsed() < PATIENCE {
                continue;
            }
            let silence = format!("no confirm for {} s", PATIENCE.as_secs());
            if !self.publisher.as_ref().is_some_and(Publisher::is_blocked) {
                return Err(BrokerError::Lost(silence));
            }
            tracing::warn!("{silence}: the broker is short of memory or disk");
            asked = Instant::now();
        }
    }

    /// Hears what the broker has said about messages behind the oldest: it may have returned one.
    fn look_ahead(&mut self) -> Result<(), BrokerError> {
        self.looked = Instant::now();
        for message in self.outstanding.iter_mut().skip(1) {
            message.heard()?;
        }
        Ok(())
    }

    fn settle(&mut self, verdict: Verdict) {
        let Some(Outstanding { message, .. }) = self.outstanding.pop_front() else {
            return;
        };
        self.sent -= 1;
        match verdict {
            Verdict::Confirmed => {
                self.bytes -= message.body.len();
                self.progress.messages += 1;
                self.progress.tuples += message.orders.len() as u64;
                self.progress.bytes += message.body.len() as u64;
                self.recorder.record(&message.orders);
            }
            Verdict::Refused => {
                self.progress.resent += 1;
                self.outstanding.push_back(Outstanding::unsent(message));
            }
        }
    }
}

/// Tries until it is connected. Even a refusal is tried again: a broker that is starting refuses
/// users and vhosts that it will know in a moment.
async fn reopen(target: &Target) -> Result<Publisher, BrokerError> {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        match target.reopen().await {
            Ok(publisher) => return Ok(publisher),
            Err(error) => tracing::warn!(%error, "cannot connect again yet"),
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
