//! Passphrases from every place, and from none.

use super::*;

/// Answers what it was given, in order, and remembers what it was asked.
struct Script(Vec<&'static str>, Vec<String>);

impl Ask for Script {
    fn ask(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
        self.1.push(prompt.to_owned());
        match self.0.len() {
            0 => Err(io::Error::other("no terminal")),
            _ => Ok(Zeroizing::new(self.0.remove(0).to_owned())),
        }
    }
}

const NOWHERE: Places<'static> = Places {
    file: None,
    command: None,
    env: None,
    profile: None,
};

fn find(
    places: &Places<'_>,
    purpose: Purpose,
    answers: &[&'static str],
) -> Result<String, SecretError> {
    let mut script = Script(answers.to_vec(), Vec::new());
    let found = places.passphrase(purpose, "the test", &mut script)?;
    Ok(found.as_str().to_owned())
}

#[test]
fn the_first_place_that_is_given_wins() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{name}\n")).unwrap();
        path
    };
    let (option, variable, profile) = (file("of-option"), file("of-env"), file("of-profile"));
    let variable = variable.to_str().unwrap();
    let profile = Profile {
        password_file: Some(profile),
        password_command: Some("echo profile command".to_owned()),
        ..Profile::default()
    };
    let all = Env::of(&[
        ("ASOF_PASSWORD", "plain"),
        ("ASOF_PASSWORD_FILE", variable),
        ("ASOF_PASSWORD_COMMAND", "echo env command"),
    ]);
    let two = Env::of(&[
        ("ASOF_PASSWORD", ""),
        ("ASOF_PASSWORD_FILE", variable),
        ("ASOF_PASSWORD_COMMAND", "echo env command"),
    ]);
    let one = Env::of(&[("ASOF_PASSWORD_COMMAND", "echo env command")]);
    let none = Env::of(&[]);
    let places = Places {
        file: Some(&option),
        command: Some("echo option command"),
        env: Some(&all),
        profile: Some(&profile),
    };
    assert_eq!(find(&places, Purpose::Open, &[]).unwrap(), "of-option");
    let no_file = Places {
        file: None,
        ..places
    };
    assert_eq!(
        find(&no_file, Purpose::Open, &[]).unwrap(),
        "option command"
    );
    let rest = Places {
        file: None,
        command: None,
        ..places
    };
    for (env, text) in [
        (&all, "plain"),
        (&two, "of-env"),
        (&one, "env command"),
        (&none, "of-profile"),
    ] {
        let now = Places {
            env: Some(env),
            ..rest
        };
        assert_eq!(find(&now, Purpose::Open, &["typed"]).unwrap(), text);
    }
    let command = Profile {
        password_file: None,
        ..profile.clone()
    };
    let now = Places {
        env: Some(&none),
        profile: Some(&command),
        ..rest
    };
    assert_eq!(
        find(&now, Purpose::Open, &["typed"]).unwrap(),
        "profile command"
    );
    assert_eq!(find(&NOWHERE, Purpose::Open, &["typed"]).unwrap(), "typed");
}

#[test]
fn one_line_break_at_the_end_is_dropped_and_nothing_else() {
    for (printed, text) in [
        ("x", "x"),
        ("x\\n", "x"),
        ("x\\r\\n", "x"),
        ("x\\n\\n", "x\n"),
        (" x y \\n", " x y "),
        ("", ""),
    ] {
        let command = format!("printf '{printed}'");
        let places = Places {
            command: Some(&command),
            ..NOWHERE
        };
        assert_eq!(find(&places, Purpose::Open, &[]).unwrap(), text);
    }
}

#[test]
fn a_command_that_fails_is_told_with_what_it_said() {
    let places = Places {
        command: Some("echo secret; echo no such entry >&2; exit 7"),
        ..NOWHERE
    };
    let error = find(&places, Purpose::Open, &["typed"])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no such entry") && error.contains('7'),
        "{error}"
    );
    let places = Places {
        command: Some("printf '\\377'"),
        ..NOWHERE
    };
    let error = find(&places, Purpose::Open, &[]).unwrap_err();
    assert!(error.to_string().contains("not text"), "{error}");
    let places = Places {
        command: Some("head -c 70000 /dev/zero"),
        ..NOWHERE
    };
    let error = find(&places, Purpose::Open, &[]).unwrap_err();
    assert!(error.to_string().contains("64 KiB"), "{error}");
    let places = Places {
        command: Some("cat"),
        ..NOWHERE
    };
    assert_eq!(find(&places, Purpose::Open, &[]).unwrap(), "");
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_nothing_else_is_tried() {
    let places = Places {
        file: Some(Path::new("/nonexistent/pw")),
        ..NOWHERE
    };
    let error = find(&places, Purpose::Open, &["typed"]).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/pw"));
    assert_eq!(error.kind(), Kind::NotFound);
    let places = Places {
        file: Some(Path::new("/dev/zero")),
        ..NOWHERE
    };
    assert!(find(&places, Purpose::Open, &[]).is_err());
}

#[test]
fn a_new_passphrase_is_asked_for_twice_and_is_not_empty() {
    assert_eq!(
        find(&NOWHERE, Purpose::New, &["a b", "a b"]).unwrap(),
        "a b"
    );
    let two = |answers: &[&'static str]| find(&NOWHERE, Purpose::New, answers).unwrap_err();
    assert!(matches!(two(&["a", "b"]), SecretError::Differ));
    assert!(matches!(two(&["", ""]), SecretError::Empty));
    let places = Places {
        command: Some("echo"),
        ..NOWHERE
    };
    assert!(matches!(
        find(&places, Purpose::New, &[]),
        Err(SecretError::Empty)
    ));
    assert_eq!(find(&places, Purpose::Open, &[]).unwrap(), "");
    let mut script = Script(vec!["x"], Vec::new());
    NOWHERE
        .passphrase(Purpose::Open, "s3://b/p", &mut script)
        .unwrap();
    assert_eq!(script.1, ["Passphrase for s3://b/p: "]);
}

#[test]
fn without_a_terminal_every_other_way_is_named() {
    let error = find(&NOWHERE, Purpose::Open, &[]).unwrap_err();
    for way in [
        "the test",
        "--password-file",
        "--password-command",
        "profile",
    ]
    .iter()
    .chain(&VARIABLES)
    {
        assert!(error.to_string().contains(way), "{way}");
    }
}

#[test]
fn a_passphrase_is_never_shown() {
    assert_eq!(
        format!("{:?}", Passphrase::new("x".to_owned())),
        "Passphrase(..)"
    );
}
