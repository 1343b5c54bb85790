//! Keeps passwords out of the process title, which every user of the machine can read.
//!
//! A flag's value stays in `/proc/PID/cmdline` for as long as the process lives. So a command line
//! that holds a password or a token is carried out by the same program started over in the same
//! process, with the flag's value in the environment, which only this user can read. What remains
//! is the moment before that, and the shell's history.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;

/// Flags whose values may be secret, and the variables that stand for them; that of the token depends
/// on whose it is.
const FLAGS: [(&str, &str); 6] = [
    ("--broker", "WINDLASS_BROKER"),
    ("--store", "WINDLASS_STORE"),
    ("--replica", "WINDLASS_REPLICAS"),
    ("--status-token", "WINDLASS_STATUS_TOKEN"),
    ("--dispatcher-token", "WINDLASS_TOKEN"),
    (TOKEN, ""),
];
const TOKEN: &str = "--token";

/// Starts this process over without secrets among its arguments; returns if there are none. A token
/// moves to the variable `of_token`, which the subcommand reads.
///
/// To be called when the command line is known to be a good one, and before there are threads.
///
/// # Errors
/// If the program cannot be started over.
pub fn hide_secrets(of_token: &'static str) -> anyhow::Result<()> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "windlass".into());
    let Some((kept, moved)) = without_secrets(arguments, of_token) else {
        return Ok(());
    };
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let error = Command::new(program)
        .arg0(name)
        .args(kept)
        .envs(moved)
        .exec();
    Err(error).context(
        "cannot start over with the password out of the process list; set WINDLASS_BROKER, \
         WINDLASS_STORE, WINDLASS_REPLICAS or WINDLASS_TOKEN, or use --config, instead of the flag",
    )
}

type Variables = Vec<(&'static str, OsString)>;

/// The arguments without the flags that hold secrets, and the variables that say the same; `None`
/// if no argument holds one. A flag that may be repeated moves with all its values.
fn without_secrets(
    arguments: impl Iterator<Item = OsString>,
    of_token: &'static str,
) -> Option<(Vec<OsString>, Variables)> {
    let arguments: Vec<(Option<usize>, Vec<OsString>)> = grouped(arguments);
    let secret = |at: usize| {
        arguments
            .iter()
            .any(|(flag, words)| *flag == Some(at) && is_secret(FLAGS[at].0, value(words)))
    };
    let secret: [bool; FLAGS.len()] = std::array::from_fn(secret);
    if !secret.contains(&true) {
        return None;
    }
    let (mut kept, mut moved) = (Vec::new(), Variables::new());
    for (flag, words) in arguments {
        let Some(at) = flag.filter(|at| secret[*at]) else {
            kept.extend(words);
            continue;
        };
        let (flag, name) = FLAGS[at];
        let (name, value) = (if flag == TOKEN { of_token } else { name }, value(&words));
        match moved.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                values.push(",");
                values.push(value);
            }
            None => moved.push((name, value)),
        }
    }
    Some((kept, moved))
}

/// The arguments, a flag of [`FLAGS`] together with its value.
fn grouped(mut arguments: impl Iterator<Item = OsString>) -> Vec<(Option<usize>, Vec<OsString>)> {
    let mut groups = Vec::new();
    while let Some(word) = arguments.next() {
        let flag = FLAGS.iter().position(|(flag, _)| {
            let rest = word.as_bytes().strip_prefix(flag.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
        });
        let apart = flag.is_some_and(|at| word == FLAGS[at].0);
        let mut words = vec![word];
        if apart {
            words.extend(arguments.next());
        }
        groups.push((flag, words));
    }
    groups
}

/// The value in `--flag value` or `--flag=value`.
fn value(words: &[OsString]) -> OsString {
    match words {
        [_, value] => value.clone(),
        [both] => {
            let value = both.as_bytes().split(|byte| *byte == b'=').skip(1);
            OsString::from_vec(value.collect::<Vec<_>>().join(&b'='))
        }
        _ => OsString::new(),
    }
}

/// Whether a flag's value is a token, or an address that names a user.
fn is_secret(flag: &str, value: OsString) -> bool {
    flag.ends_with("token") || OsStr::new(&value).as_bytes().contains(&b'@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Option<(String, Vec<(&'static str, String)>)> {
        let (kept, moved) =
            without_secrets(line.split(' ').map(OsString::from), "WINDLASS_X_TOKEN")?;
        let text = |text: OsString| text.into_string().unwrap();
        let kept: Vec<String> = kept.into_iter().map(text).collect();
        let moved = moved.into_iter().map(|(name, value)| (name, text(value)));
        Some((kept.join(" "), moved.collect()))
    }

    #[test]
    fn a_password_or_a_token_moves_into_the_environment() {
        let line = "dispatch --broker amqp://u:p@h --shards 2 --store=mysql://u:p=q@h/d --token t \
                    --status-token s";
        let (kept, moved) = split(line).unwrap();
        assert_eq!(kept, "dispatch --shards 2");
        let expected = [
            ("WINDLASS_BROKER", "amqp://u:p@h"),
            ("WINDLASS_STORE", "mysql://u:p=q@h/d"),
            ("WINDLASS_X_TOKEN", "t"),
            ("WINDLASS_STATUS_TOKEN", "s"),
        ];
        assert_eq!(moved, expected.map(|(name, value)| (name, value.into())));
    }

    #[test]
    fn a_board_has_a_token_of_its_own_and_its_dispatchers() {
        let (kept, moved) = split("board --token t --dispatcher-token=d").unwrap();
        assert_eq!(kept, "board");
        let expected = [("WINDLASS_X_TOKEN", "t"), ("WINDLASS_TOKEN", "d")];
        assert_eq!(moved, expected.map(|(name, value)| (name, value.into())));
    }

    #[test]
    fn replicas_move_together_since_a_flag_wins_over_the_variable() {
        let line = "query totals --replica mysql://h/d --replica mysql://u:p@i/d --store sqlite:s";
        let (kept, moved) = split(line).unwrap();
        assert_eq!(kept, "query totals --store sqlite:s");
        let replicas = "mysql://h/d,mysql://u:p@i/d".to_owned();
        assert_eq!(moved, [("WINDLASS_REPLICAS", replicas)]);
    }

    #[test]
    fn a_line_without_secrets_stays_as_it_is() {
        for line in [
            "dispatch --broker amqp://h --store sqlite:s",
            "query gmv --province a@b --format csv",
            "function --dispatcher http://h --tokens t",
        ] {
            assert_eq!(split(line), None, "{line}");
        }
    }

    #[test]
    fn what_was_moved_is_not_moved_again() {
        let (kept, _) = split("audit --store mysql://u:p@h/d").unwrap();
        assert_eq!(split(&kept), None);
    }
}
