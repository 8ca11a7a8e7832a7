//! `mount.asof`: how mount(8) calls asof for a line of `/etc/fstab`.
//!
//! ```text
//! mount.asof REPOSITORY MOUNTPOINT [-sfnv] [-o OPTION[,OPTION=VALUE]…]
//! ```
//!
//! Every option of `asof mount` can stand in the list, without its dashes, and with `_`
//! for `-` if one likes. What mount(8) itself means with an option (`noauto`, `_netdev`,
//! `x-systemd.…`) is passed over. Anything else is an error: a misspelt `allow-other`
//! would otherwise be noticed by whoever cannot look.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::cli::args::Cli;

/// Whether the program was called as mount(8) calls it.
#[must_use]
pub fn is_helper(argv: &[OsString]) -> bool {
    let name = argv.first().and_then(|name| Path::new(name).file_name());
    name.is_some_and(|name| name == "mount.asof")
}

/// Options that are mount(8)'s own, or that a mount of asof always has.
const PASSED_OVER: [&str; 27] = [
    "ro",
    "rw",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "defaults",
    "_netdev",
    "nofail",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "sync",
    "async",
    "nosymfollow",
];

/// The command line of asof that a call of mount(8) means; none if it only asks what would be.
///
/// # Errors
///
/// What is wrong with the call.
pub fn translate(argv: &[OsString]) -> Result<Option<Vec<OsString>>, String> {
    let mut names: Vec<&OsString> = Vec::new();
    let mut options: Vec<OsString> = Vec::new();
    let (mut sloppy, mut fake, mut verbose) = (false, false, false);
    let mut words = argv.iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"-o" => {
                let list = words.next().ok_or("-o needs a list of options")?;
                options.extend(split(list));
            }
            b"-t" | b"-N" => {
                words.next().ok_or("-t and -N need a value")?;
            }
            [b'-', b'o', rest @ ..] => options.extend(split(OsStr::from_bytes(rest))),
            [b'-', flags @ ..] if !flags.is_empty() => {
                for flag in flags {
                    match flag {
                        b's' => sloppy = true,
                        b'f' => fake = true,
                        b'v' => verbose = true,
                        b'n' => {}
                        other => {
                            return Err(format!("mount.asof knows no -{}", char::from(*other)));
                        }
                    }
                }
            }
            _ => names.push(word),
        }
    }
    let [repository, mountpoint] = names.as_slice() else {
        return Err("mount.asof needs a repository and a mount point, and nothing more".to_owned());
    };
    let mut line: Vec<OsString> = vec!["asof".into(), "mount".into(), "--repo".into()];
    line.push((*repository).clone());
    for option in options {
        match meaning(&option) {
            Meaning::Nothing => {}
            Meaning::Option(word) => line.push(word),
            Meaning::Unknown if sloppy => {}
            Meaning::Unknown => {
                return Err(format!(
                    "mount.asof knows no option `{}`; `asof mount --help` lists those that can \
                     stand here, without their dashes",
                    option.display()
                ));
            }
        }
    }
    if verbose {
        line.push("--verbose".into());
    }
    line.push("--".into());
    line.push((*mountpoint).clone());
    Ok((!fake).then_some(line))
}

/// The options of a list: parted by commas, of which `\,` is none.
fn split(list: &OsStr) -> Vec<OsString> {
    let mut options = vec![Vec::new()];
    let mut bytes = list.as_bytes().iter().peekable();
    while let Some(&b) = bytes.next() {
        match b {
            b'\\' if bytes.peek() == Some(&&b',') => {
                bytes.next();
                if let Some(last) = options.last_mut() {
                    last.push(b',');
                }
            }
            b',' => options.push(Vec::new()),
            b => {
                if let Some(last) = options.last_mut() {
                    last.push(b);
                }
            }
        }
    }
    options.into_iter().filter(|o| !o.is_empty()).map(OsString::from_vec).collect()
}

enum Meaning {
    Nothing,
    Option(OsString),
    Unknown,
}

fn meaning(option: &OsStr) -> Meaning {
    let bytes = option.as_bytes();
    let at = bytes.iter().position(|b| *b == b'=');
    let (name, value) = (&bytes[..at.unwrap_or(bytes.len())], at.map(|at| &bytes[at..]));
    let Ok(name) = std::str::from_utf8(name) else { return Meaning::Unknown };
    if PASSED_OVER.contains(&name) || name.starts_with("x-") || name == "comment" {
        return Meaning::Nothing;
    }
    let name = name.replace('_', "-");
    match (is_option(&name), value) {
        (Some(takes_value), value) if takes_value == value.is_some() => {
            let mut word = format!("--{name}").into_bytes();
            word.extend_from_slice(value.unwrap_or_default());
            Meaning::Option(OsString::from_vec(word))
        }
        // One whose value may be left out.
        (Some(true), None) if name == "s3-path-style" => {
            Meaning::Option(format!("--{name}").into())
        }
        _ => Meaning::Unknown,
    }
}

/// Whether `asof mount` has an option of that name, and if so, whether it takes a value.
fn is_option(name: &str) -> Option<bool> {
    use clap::CommandFactory;
    let cli = Cli::command();
    let mount = cli.find_subcommand("mount")?;
    let mut all = mount.get_arguments().chain(cli.get_arguments());
    let found =
        all.find(|argument| argument.get_long() == Some(name) && !argument.is_hide_set())?;
    Some(found.get_action().takes_values())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_line_of_fstab_becomes_a_command_line() {
        let argv = words(
            "/sbin/mount.asof s3://b/p /mnt -n -o rw,noauto,_netdev,x-systemd.automount,allow_other,\
             password-file=/root/a\\,b,timezone=UTC",
        );
        assert!(is_helper(&argv));
        let line = translate(&argv).unwrap().unwrap();
        let meant = "asof mount --repo s3://b/p --allow-other --password-file=/root/a,b \
                     --timezone=UTC -- /mnt";
        assert_eq!(line, words(meant));
        assert!(Cli::read(&line).is_ok());
    }

    #[test]
    fn what_mount_does_not_mean_is_refused_or_passed_over() {
        for (text, part) in [
            ("mount.asof /r", "needs a repository"),
            ("mount.asof /r /m /x", "needs a repository"),
            ("mount.asof /r /m -o alow-other", "alow-other"),
            ("mount.asof /r /m -o allow-other=1", "allow-other=1"),
            ("mount.asof /r /m -o timezone", "timezone"),
            ("mount.asof /r /m -z", "-z"),
            ("mount.asof /r /m -o in-background", "in-background"),
        ] {
            let wrong = translate(&words(text)).unwrap_err();
            assert!(wrong.contains(part), "{text}: {wrong}");
        }
        assert!(translate(&words("mount.asof /r /m -s -o nonsense")).unwrap().is_some());
        assert!(translate(&words("mount.asof /r /m -f")).unwrap().is_none());
        assert!(!is_helper(&words("/usr/bin/asof mount")));
    }
}
