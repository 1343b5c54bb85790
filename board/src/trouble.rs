//! What is wrong, and since when. Pure: it is told the time.

use crate::schema::Trouble;

/// Remembers since when each trouble has lasted.
#[derive(Debug, Default)]
pub struct Troubles(Vec<Trouble>);

impl Troubles {
    /// Takes what is wrong now, as (kind, text); a trouble that was there before keeps its
    /// start, also when its text has changed. Troubles of a kind are
    /// told apart by what their text says before the first colon.
    pub fn update(&mut self, now: i64, found: Vec<(&'static str, String)>) {
        let mut before = std::mem::take(&mut self.0);
        let mut kept: Vec<Trouble> = found
            .into_iter()
            .map(|(kind, text)| {
                // The subject is what comes before the colon.
                let subject = |text: &str| text.split(": ").next().map(str::to_owned);
                let old = before
                    .iter()
                    .position(|old| old.kind == kind && subject(&old.text) == subject(&text));
                let since = old.map_or(now, |index| before.swap_remove(index).since);
                Trouble {
                    kind: kind.to_owned(),
                    text,
                    since,
                }
            })
            .collect();
        kept.sort_by_key(|trouble| trouble.since);
        self.0 = kept;
    }

    /// What is wrong, oldest first.
    pub fn now(&self) -> &[Trouble] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_keeps_its_start_while_it_lasts_and_loses_it_when_it_ends() {
        let mut troubles = Troubles::default();
        let lag = |n: u32| ("replica", format!("replica a: lags {n} commits"));
        troubles.update(10, vec![lag(1)]);
        troubles.update(
            20,
            vec![lag(5), ("dispatcher", "dispatcher d: gone".into())],
        );
        assert_eq!(troubles.now()[0].since, 10);
        assert_eq!(troubles.now()[0].text, "replica a: lags 5 commits");
        assert_eq!(troubles.now()[1].since, 20);
        troubles.update(30, vec![]);
        assert!(troubles.now().is_empty());
        troubles.update(40, vec![lag(1)]);
        assert_eq!(troubles.now()[0].since, 40);
    }
}
