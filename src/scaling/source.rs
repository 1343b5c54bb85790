//! Where the tuning comes from: a file or a ConfigMap, watched. An edit is the whole text of it, as
//! `key: value` lines; whether it is valid is not decided here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use windlass_jobs::kubernetes::config_map::ConfigMap;
use windlass_scaler::tuning::EXAMPLE_KEY;

/// How often a file is read: what is mounted from a ConfigMap, edited over a network or replaced by
/// another file has no other sign of change that can be relied on, and it is small.
const LOOK: Duration = Duration::from_millis(500);

/// The text of the tuning; `None` if there is none any more.
pub type Text = Option<String>;

/// Where the tuning is.
#[derive(Clone, Debug)]
pub enum Source {
    /// Nowhere: the defaults, for ever.
    Defaults,
    /// In a file.
    File(PathBuf),
    /// In a ConfigMap.
    ConfigMap(Box<ConfigMap>),
}

impl Source {
    /// What messages call it.
    pub fn name(&self) -> String {
        match self {
            Self::Defaults => "the defaults".into(),
            Self::File(path) => path.display().to_string(),
            Self::ConfigMap(map) => format!("the ConfigMap {}", map.name()),
        }
    }

    /// The text now.
    ///
    /// # Errors
    /// If it cannot be read; that it is not there is no error.
    pub async fn read(&self) -> anyhow::Result<Text> {
        match self {
            // A text that says nothing is a valid one.
            Self::Defaults => Ok(Some("# defaults\n".into())),
            Self::File(path) => read_file(path),
            Self::ConfigMap(map) => Ok(map.read().await?.map(|pairs| lines(&pairs))),
        }
    }

    /// Sends every later text for as long as anybody listens.
    pub async fn follow(self, texts: watch::Sender<Text>) {
        match self {
            Self::Defaults => texts.closed().await,
            Self::File(path) => follow_file(&path, texts).await,
            Self::ConfigMap(map) => {
                let (sender, mut pairs) = watch::channel(None);
                let told = async {
                    while pairs.changed().await.is_ok() {
                        let text = pairs.borrow_and_update().as_ref().map(lines);
                        texts.send_replace(text);
                    }
                };
                tokio::select! {
                    () = map.follow(sender) => {}
                    () = told => {}
                    () = texts.closed() => {}
                }
            }
        }
    }
}

/// A ConfigMap's pairs as the lines of a file would say them.
pub fn lines(pairs: &BTreeMap<String, String>) -> String {
    let meant = pairs.iter().filter(|(key, _)| *key != EXAMPLE_KEY);
    let mut text: String = meant
        .map(|(key, value)| format!("{key}: {}\n", value.trim()))
        .collect();
    if text.is_empty() && !pairs.is_empty() {
        // An example alone is a tuning that leaves everything at its default, not an emptied one.
        text.push_str("# defaults\n");
    }
    text
}

fn read_file(path: &Path) -> anyhow::Result<Text> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(error).with_context(|| format!("cannot read the tuning {}", path.display()))
        }
    }
}

async fn follow_file(path: &Path, texts: watch::Sender<Text>) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = texts.closed() => return,
        }
        // What cannot be read just now is no edit.
        if let Ok(text) = read_file(path) {
            texts.send_if_modified(|last| {
                let changed = *last != text;
                if changed {
                    *last = text;
                }
                changed
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_reads_as_the_lines_of_a_file() {
        let pairs = BTreeMap::from([
            ("mode".to_owned(), "hpa\n".to_owned()),
            (EXAMPLE_KEY.to_owned(), "# a: b".to_owned()),
        ]);
        assert_eq!(lines(&pairs), "mode: hpa\n");
        let example_alone = BTreeMap::from([(EXAMPLE_KEY.to_owned(), String::new())]);
        assert_eq!(lines(&example_alone), "# defaults\n");
        assert_eq!(lines(&BTreeMap::new()), "", "emptied");
    }

    #[tokio::test]
    async fn every_state_of_a_file_is_seen_its_end_included() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tuning");
        std::fs::write(&path, "mode: off").unwrap();
        let source = Source::File(path.clone());
        assert_eq!(source.read().await.unwrap().as_deref(), Some("mode: off"));
        let (sender, mut texts) = watch::channel(Some("mode: off".to_owned()));
        let following = tokio::spawn(source.follow(sender));
        let other = directory.path().join("other");
        std::fs::write(&other, "mode: hpa").unwrap();
        std::fs::rename(&other, &path).unwrap();
        texts.changed().await.unwrap();
        assert_eq!(texts.borrow_and_update().as_deref(), Some("mode: hpa"));
        std::fs::remove_file(&path).unwrap();
        texts.changed().await.unwrap();
        assert_eq!(*texts.borrow_and_update(), None);
        drop(texts);
        following.await.unwrap();
    }
}
