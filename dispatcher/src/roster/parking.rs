//! Who is parked: there, but given nothing, while a pool of pods is about to shrink.
//!
//! Which pods leave when a Deployment is made smaller is the cluster's choice, and it prefers those that
//! are not ready. So whoever is about to make it smaller says first how many workers are to stay at work.
//! Idle ones above that number are parked, and their pods' readiness fails; busy ones are left alone until
//! they have answered. What was said holds for [`KEPT_MS`] unless it is said again, and parked workers
//! return to work as soon as fewer than that number are there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Present, Roster};

/// How long a number of workers to keep at work holds, ms: whoever means it says so every second.
pub const KEPT_MS: u64 = 5_000;

/// What a worker that asks for work says of its parking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parking {
    /// Nothing: it cannot show it, so it is never parked.
    Unable,
    /// It shows that it is at work.
    Active,
    /// It shows that it is parked.
    Parked,
}

/// Of the workers that can be parked, how many are and how many are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lot {
    /// Workers at work, busy or idle.
    pub active: u32,
    /// Workers that are given nothing.
    pub parked: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    size: u32,
    until_ms: u64,
}

impl Present {
    fn may_be_parked(&self) -> bool {
        let idle = self.waiting > 0 && self.busy_since.is_none();
        idle && self.parkable && !self.parked
    }
}

impl Roster {
    /// For the time being `size` of the workers that can be parked are to stay at work. Whether anyone
    /// was parked or returned to work.
    pub fn keep(&mut self, size: u32, now_ms: u64) -> bool {
        self.keep = Some(Keep {
            size,
            until_ms: now_ms + KEPT_MS,
        });
        self.park(now_ms)
    }

    /// Whether this worker is given nothing for the time being.
    pub fn is_parked(&self, name: &str) -> bool {
        self.present.get(name).is_some_and(|present| present.parked)
    }

    /// The workers that can be parked.
    pub fn lot(&self) -> Lot {
        let mut lot = Lot::default();
        for (name, present) in &self.present {
            match (present.parked, present.parkable) {
                _ if self.is_leaving(name) => {}
                (true, _) => lot.parked += 1,
                (false, true) => lot.active += 1,
                (false, false) => {}
            }
        }
        lot
    }

    /// Parks and returns to work as the number in force has it, if one is. Whether anything changed.
    pub(super) fn park(&mut self, now_ms: u64) -> bool {
        let Some(keep) = self.keep else { return false };
        let Lot { active, parked } = self.lot();
        if now_ms >= keep.until_ms {
            self.keep = None;
            for present in self.present.values_mut() {
                present.parked = false;
            }
            return parked > 0;
        }
        let leaving = &self.leaving;
        let staying = self.present.iter_mut();
        let staying = staying.filter(|(name, _)| !leaving.contains_key(*name));
        let staying = staying.map(|(_, present)| present);
        let (chosen, parks): (Vec<&mut Present>, bool) = match active.checked_sub(keep.size) {
            Some(surplus) => {
                let idle = staying.filter(|present| present.may_be_parked());
                (idle.take(surplus as usize).collect(), true)
            }
            None => {
                let parked = staying.filter(|present| present.parked);
                let missing = keep.size - active;
                (parked.take(missing as usize).collect(), false)
            }
        };
        let changed = !chosen.is_empty();
        for present in chosen {
            present.parked = parks;
        }
        changed
    }

    /// A worker begins to wait for work, and says this of its parking. Whether anyone was parked or
    /// returned to work by that.
    pub fn waits_as(&mut self, name: &Arc<str>, parking: Parking, now_ms: u64) -> bool {
        self.waits(name, now_ms);
        if let Some(present) = self.present.get_mut(name) {
            present.parkable = parking != Parking::Unable;
            present.parked &= present.parkable;
        }
        self.park(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::Ended;

    fn names() -> Vec<Arc<str>> {
        ["a", "b", "c", "d"].map(Arc::from).to_vec()
    }

    /// Four workers that wait, the last of which cannot be parked.
    fn four() -> (Roster, Vec<Arc<str>>) {
        let (mut roster, names) = (Roster::default(), names());
        for (at, name) in names.iter().enumerate() {
            let parking = [Parking::Active, Parking::Unable][usize::from(at == 3)];
            assert!(!roster.waits_as(name, parking, 0));
        }
        (roster, names)
    }

    fn take(roster: &mut Roster, name: &Arc<str>, now_ms: u64) {
        roster.stopped_waiting(name, now_ms);
        roster.took(name, now_ms);
    }

    fn answer(roster: &mut Roster, name: &Arc<str>, now_ms: u64) {
        let ended = Ended {
            since_ms: 0,
            job: false,
            answered: Some(1),
        };
        roster.ended(name, ended, now_ms);
    }

    fn lot(active: u32, parked: u32) -> Lot {
        Lot { active, parked }
    }

    #[test]
    fn only_the_idle_are_parked_and_the_busy_when_they_have_answered() {
        let (mut roster, names) = four();
        take(&mut roster, &names[0], 10);
        take(&mut roster, &names[1], 10);
        assert!(roster.keep(1, 20));
        assert_eq!(roster.lot(), lot(2, 1));
        assert!(roster.is_parked("c") && !roster.is_parked("d"));
        assert_eq!(roster.ready(), 3, "who is parked takes nothing");
        answer(&mut roster, &names[0], 30);
        assert!(!roster.is_parked("a"), "it may be about to ask again");
        assert!(roster.waits_as(&names[0], Parking::Active, 40));
        assert!(roster.is_parked("a"));
        answer(&mut roster, &names[1], 50);
        assert!(!roster.waits_as(&names[1], Parking::Active, 60));
        assert_eq!(roster.lot(), lot(1, 2), "one is to stay at work");
    }

    #[test]
    fn the_parked_return_when_fewer_are_left_or_more_are_wanted() {
        let (mut roster, names) = four();
        assert!(roster.keep(1, 0));
        let active = names[..3].iter().find(|name| !roster.is_parked(name));
        let active = Arc::clone(active.unwrap());
        roster.gone(&active);
        assert!(roster.tick(200), "somebody returned to work");
        assert_eq!(roster.lot(), lot(1, 1));
        assert!(roster.keep(2, 300));
        assert_eq!(roster.lot(), lot(2, 0));
        assert!(!roster.keep(9, 400), "there are no more");
    }

    #[test]
    fn what_was_said_holds_until_nobody_says_it_any_more() {
        let (mut roster, _) = four();
        assert!(roster.keep(1, 0));
        assert!(!roster.keep(1, 4_000));
        assert!(!roster.tick(KEPT_MS));
        assert_eq!(roster.lot(), lot(1, 2));
        assert!(roster.tick(4_000 + KEPT_MS));
        assert_eq!(roster.lot(), lot(3, 0));
        assert!(!roster.tick(4_200 + KEPT_MS));
    }

    #[test]
    fn who_leaves_is_not_counted_as_at_work() {
        let (mut roster, names) = four();
        assert!(roster.keep(2, 0));
        let active = names[..3].iter().find(|name| !roster.is_parked(name));
        let active = Arc::clone(active.unwrap());
        roster.dismiss(&active, 10);
        assert!(roster.tick(20));
        assert_eq!(roster.lot(), lot(2, 0));
        roster.dismiss(&names[0], 30);
        roster.dismiss(&names[1], 30);
        roster.dismiss(&names[2], 30);
        assert_eq!(roster.lot(), lot(0, 0));
    }
}
