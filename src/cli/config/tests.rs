//! Configuration files, good and bad.

use super::*;
use crate::base::Kind;

const WHOLE: &str = r#"
default_profile = "home"

[profiles.home]
repository = "s3://bucket/prefix"
password_command = "pass show $asof"
writer_key = "~/web1.key"
cache_dir = "${CACHE}/asof"
cache_size = "10G"
timezone = "UTC"
[profiles.home.s3]
endpoint = "https://s3.example.org"
path_style = true
max_object_size = 16777216
[profiles.home.limits]
upload = "5M"

[profiles.disk]
repository = "backups/repo"
password_file = "secret"

[sources.web1-etc]
kind = "directory"
paths = ["/etc", "~", "data", "/srv/$$x"]
exclude = "*.tmp"
exclude_file = ["$CACHE/excludes"]
exclude_if_present = [".nobackup", ".skip"]
exclude_caches = true
exclude_larger_than = "1G"
one_file_system = true
skip_if_unchanged = true
tags = ["daily"]
host = "web1"
profile = "disk"

[sources.shop]
url = "sqlite:~/kv.db"
interval = "250ms"
spool_limit = "2M"
daily_for = "30d"
sync = true
tags = "db"

[sources.www]
url = "dir:www"

[retention]
keep_within = "3d"
keep_daily = 14
keep_tag = "release"
[retention.sources.web1-etc]
keep_last = 3

[profiles.disk.retention.sources.other]
keep_yearly = 1
"#;

fn env() -> Env {
    Env::of(&[("HOME", "/home/me"), ("CACHE", "/cache")])
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/conf/asof.toml"), &env())
}

#[test]
fn a_whole_file() {
    let config = parse(WHOLE).unwrap();
    let home = &config.profiles["home"];
    assert_eq!(home.repository.as_deref(), Some("s3://bucket/prefix"));
    assert_eq!(home.password_command.as_deref(), Some("pass show $asof"));
    assert_eq!(home.writer_key.as_deref(), Some(Path::new("/home/me/web1.key")));
    assert_eq!(home.cache_dir.as_deref(), Some(Path::new("/cache/asof")));
    assert_eq!(home.cache_size, Some(Size(10 << 30)));
    assert_eq!(home.s3.path_style, Some(true));
    assert_eq!(home.s3.max_object_size, Some(Size(16 << 20)));
    assert_eq!(home.limits.upload, Some(Size(5 << 20)));
    let disk = &config.profiles["disk"];
    assert_eq!(disk.repository.as_deref(), Some("/conf/backups/repo"));
    assert_eq!(disk.password_file.as_deref(), Some(Path::new("/conf/secret")));
    let source = config.source("web1-etc").unwrap();
    let paths =
        |paths: &[&str]| SourceKind::Directory { paths: paths.iter().map(PathBuf::from).collect() };
    assert_eq!(source.kind, paths(&["/etc", "/home/me", "/conf/data", "/srv/$x"]));
    assert_eq!(source.stream, StreamOptions::default());
    assert_eq!(source.exclude, ["*.tmp"]);
    assert_eq!(source.exclude_file, [PathBuf::from("/cache/excludes")]);
    assert_eq!(source.exclude_if_present, [".nobackup", ".skip"]);
    assert_eq!(source.exclude_larger_than, Some(Size(1 << 30)));
    assert!(source.exclude_caches && source.one_file_system && source.skip_if_unchanged);
    let shop = config.source("shop").unwrap();
    assert_eq!(shop.kind, SourceKind::Sqlite { path: "/home/me/kv.db".into() });
    assert_eq!(shop.tags, ["db"]);
    let (interval, spool_limit) = (std::time::Duration::from_millis(250), 2 << 20);
    let thin = ThinSpans {
        daily_for: Some(std::time::Duration::from_secs(30 * 86_400)),
        ..ThinSpans::default()
    };
    assert_eq!(shop.stream, StreamOptions { interval, spool_limit, sync: true, thin });
    assert_eq!(config.source("www").unwrap().kind, paths(&["/conf/www"]));
    let retention = config.retention.as_ref().unwrap();
    assert_eq!(retention.keep_within, Some(std::time::Duration::from_secs(3 * 86_400)));
    assert_eq!(retention.keep_daily.map(std::num::NonZero::get), Some(14));
    assert_eq!(retention.keep_tag, ["release"]);
    assert_eq!(retention.sources["web1-etc"].keep_last.map(std::num::NonZero::get), Some(3));
    assert!(disk.retention.as_ref().unwrap().sources.contains_key("other"));
}

#[test]
fn which_profile_is_used() {
    let config = parse(WHOLE).unwrap();
    let home = config.profiles["home"].clone();
    let disk = config.profiles["disk"].clone();
    assert_eq!(config.profile(None, None).unwrap(), home);
    assert_eq!(config.profile(None, Some("other")).unwrap(), home);
    assert_eq!(config.profile(None, Some("web1-etc")).unwrap(), disk);
    assert_eq!(config.profile(Some("home"), Some("web1-etc")).unwrap(), home);
    let error = config.profile(Some("hom"), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no profile `hom` in /conf/asof.toml; did you mean `home`?"
    );
    let only = parse("[profiles.x]\nrepository = '/r'").unwrap();
    assert_eq!(only.profile(None, None).unwrap(), only.profiles["x"]);
    let two = parse("[profiles.x]\n[profiles.y]").unwrap();
    assert_eq!(two.profile(None, None).unwrap(), Profile::default());
    assert_eq!(Config::default().profile(None, None).unwrap(), Profile::default());
    assert!(Config::default().source("web").is_err());
}

#[test]
fn option_beats_environment_beats_profile() {
    let at = |r: &str| Profile { repository: Some(r.to_owned()), ..Profile::default() };
    let env = Env::of(&[("ASOF_REPOSITORY", "env"), ("ASOF_CACHE_SIZE", "1K")]);
    let env = || Profile::from_env(&env).unwrap();
    let profile =
        Profile { timezone: Some("UTC".to_owned()), cache_size: Some(Size(1)), ..at("profile") };
    let all = at("option").over(env()).over(profile.clone());
    assert_eq!(all.repository.as_deref(), Some("option"));
    assert_eq!(all.cache_size, Some(Size(1024)));
    assert_eq!(all.timezone.as_deref(), Some("UTC"));
    let most = Profile::default().over(env()).over(profile.clone());
    assert_eq!(most.repository.as_deref(), Some("env"));
    assert_eq!(Profile::default().over(profile.clone()), profile);
    assert_eq!(profile.clone().over(Profile::default()), profile);
    let bad = Env::of(&[("ASOF_CACHE_SIZE", "big")]);
    let error = Profile::from_env(&bad).unwrap_err();
    assert!(error.to_string().contains("ASOF_CACHE_SIZE"), "{error}");
}

#[test]
fn errors_name_file_line_and_key_and_what_was_probably_meant() {
    for (text, parts) in [
        (
            "\n\n[profiles.home]\nrepositry = 'x'",
            &["/conf/asof.toml, line 4", "`repositry`", "did you mean `repository`?"][..],
        ),
        ("defaultprofile = 'x'", &["line 1", "did you mean `default_profile`?"]),
        ("[profile.x]", &["line 1", "did you mean `profiles`?"]),
        ("[sources.a]\npaths = ['/a']\nexcludes = ['x']", &["line 3", "did you mean `exclude`?"]),
        ("[profiles.x]\nwhatever = 1", &["line 2", "`whatever`", "expected one of"]),
        (
            "[profiles.x]\ncache_size = 'big'",
            &["line 2", "`profiles.x.cache_size`", "`big` is not a size"],
        ),
        ("[profiles.x]\ncache_size = -1", &["line 2", "negative"]),
        (
            "[profiles.x]\nrepository = 5",
            &["line 2", "`profiles.x.repository`", "expected a string"],
        ),
        ("[sources.a]\npaths = '/a'", &["line 2", "`sources.a.paths`"]),
        ("[sources.a]\npaths = ['/a']\ntags = 7", &["line 3", "a string or an array of strings"]),
        (
            "[sources.a]\nkind = 'directroy'\npaths = ['/a']",
            &["line 2", "did you mean `directory`?"],
        ),
        ("[profiles.x\n", &["line 1"]),
        ("a = 'x", &["line 1"]),
        ("[profiles.x]\n[profiles.x]", &["line 2"]),
        ("[sources.a]", &["`sources.a.paths` is missing"]),
        (
            "[sources.a]\nurl = 'sqlite:/a'\npaths = ['/b']",
            &["`sources.a.url` and `paths` both say where"],
        ),
        ("[sources.a]\nurl = 'sqlit:/a'", &["`sources.a.url`", "did you mean `sqlite`?"]),
        ("[sources.a]\nurl = 'sqlite:$NONE'", &["`sources.a.url`", "NONE, which is not set"]),
        ("[sources.a]\nkind = 'sqlite'", &["`sources.a.url` is missing"]),
        ("[sources.a]\nkind = 'sqlite'\nurl = '/a'", &["`sources.a.kind`", "is directory"]),
        ("[sources.a]\nkind = 'directory'\nurl = 'sqlite:/a'", &["`sources.a.kind`", "is sqlite"]),
        ("[sources.a]\npaths = ['/a']\nsync = false", &["`sources.a.sync` is for databases"]),
        (
            "[sources.a]\nurl = 'sqlite:/a'\nexclude = 'x'",
            &["`sources.a.exclude` is for directories"],
        ),
        (
            "[sources.a]\nurl = 'sqlite:/a'\ninterval = '1ms'",
            &["`sources.a.interval` must be from 100ms to 1d"],
        ),
        ("[sources.a]\nurl = 'sqlite:/a'\nspool_limit = 5", &["`sources.a.spool_limit`", "1M"]),
        ("[sources.'a/b']\npaths = ['/']", &["cannot name a source"]),
        ("[sources.latest]\npaths = ['/']", &["cannot name a source"]),
        ("default_profile = 'x'", &["no profile `x` in /conf/asof.toml"]),
        ("[sources.a]\npaths = ['/']\nprofile = 'x'", &["no profile `x`"]),
        ("[profiles.x]\ntimezone = 'Mars'", &["`profiles.x.timezone`", "Europe/Berlin"]),
        (
            "[profiles.x]\nwriter_key = '$NONE/k'",
            &["`profiles.x.writer_key`", "NONE, which is not set"],
        ),
        ("[profiles.x]\nwriter_key = '${NONE'", &["`$` without a name"]),
        ("[profiles.x]\nwriter_key = 'a$'", &["`$` without a name"]),
        ("[profiles.x]\nwriter_key = '~you/k'", &["begins with `~` and a name"]),
        ("[profiles.x]\nwriter_key = ''", &["is empty"]),
        ("[retention]\nkeep_dayly = 1", &["line 2", "did you mean `keep_daily`?"]),
        ("[retention]\nkeep_daily = 0", &["line 2", "`retention.keep_daily`", "nonzero"]),
        ("[retention]\nkeep_within = '1y'", &["line 2", "`1y` is not a duration"]),
        ("[retention]", &["`retention` keeps nothing"]),
        ("[retention.sources.a]", &["`retention.sources.a` keeps nothing"]),
        ("[retention.sources.'a/b']\nkeep_last = 1", &["cannot name a source"]),
        (
            "[profiles.x.retention.sources.a.sources.b]\nkeep_last = 1",
            &["`profiles.x.retention.sources.a.sources` makes no sense"],
        ),
    ] {
        let error = parse(text).unwrap_err();
        for part in parts {
            assert!(error.to_string().contains(part), "{text}\n{error}\n{part}");
        }
        assert_eq!(error.kind(), Kind::Invalid);
    }
}

#[test]
fn where_the_file_is() {
    let files = |env: &[(&str, &str)], root| candidates(&Env::of(env), root);
    let paths = |p: &[&str]| p.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert_eq!(
        files(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")], false),
        paths(&["/x/asof/config.toml"])
    );
    assert_eq!(
        files(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "relative")], true),
        paths(&["/h/.config/asof/config.toml", "/etc/asof/config.toml"])
    );
    assert_eq!(files(&[], false), paths(&[]));
    let env = Env::of(&[("ASOF_CONFIG", "/e")]);
    assert_eq!(named(Some(Path::new("/o")), &env), Some(PathBuf::from("/o")));
    assert_eq!(named(None, &env), Some(PathBuf::from("/e")));
}

#[test]
fn a_named_file_must_exist_and_not_be_writable_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("asof.toml");
    let load = || Config::load(Some(&file), &env());
    assert!(matches!(load(), Err(ConfigError::Missing { .. })));
    std::fs::write(&file, "[profiles.x]\nrepository = 'r'").unwrap();
    let repository = load().unwrap().profiles["x"].repository.clone();
    assert_eq!(repository, dir.path().join("r").to_str().map(str::to_owned));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(load(), Err(ConfigError::WritableByAll { .. })));
    let home = Env::of(&[("XDG_CONFIG_HOME", "/nonexistent")]);
    assert_eq!(Config::load(None, &home).unwrap(), Config::default());
    std::fs::create_dir(dir.path().join("d")).unwrap();
    let error = Config::load(Some(&dir.path().join("d")), &env()).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }));
}
