//! What a command works with: options, environment and configuration file made one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{Clock, Stop, UnixTime};
use crate::cli::args::Global;
use crate::cli::config::{Config, ConfigError, Limits as LimitsConfig, Profile, S3Config, Size};
use crate::cli::env::Env;
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::cli::secret::Places;
use crate::cli::terminal::{Mode, Watch};
use crate::ops::open::{Place, Reached};
use crate::repo::LocalOptions;
use crate::store::{Limits, Location, Patience, Requests, S3Options};
use crate::view::Zone;

/// How much of a bucket's data is kept on disk if nobody says. Bytes.
const CACHE_BYTES: u64 = 2 << 30;

/// What a command works with.
pub struct Context {
    /// The options that hold for every command.
    pub global: Global,
    /// The command line, to start this program again with.
    pub argv: Vec<std::ffi::OsString>,
    /// Where to write.
    pub out: Arc<Out>,
    /// The environment.
    pub env: Env,
    /// The configuration file.
    pub config: Config,
    /// Where the repository is and how to open it, all places considered.
    pub profile: Profile,
    /// The present.
    pub clock: Clock,
    /// Raised by Ctrl-C.
    pub stop: Stop,
    /// Whether damage was met, although the command went on.
    damage: AtomicBool,
    reached: Mutex<Option<Reached>>,
}

impl Context {
    /// Reads environment and configuration file. `source` is the name of the source that
    /// is backed up, if it is one of the file: its profile is used if none is named. With
    /// `makes_config` the command makes the file if it is missing, so one that is named
    /// need not be there.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn new(
        global: Global,
        argv: Vec<std::ffi::OsString>,
        out: Arc<Out>,
        stop: Stop,
        source: Option<&str>,
        makes_config: bool,
    ) -> Result<Context, Failure> {
        let env = Env::process();
        let config = match Config::load(global.config.as_deref(), &env) {
            Err(ConfigError::Missing { .. }) if makes_config => Config::default(),
            other => other?,
        };
        let named = match &global.profile {
            Some(name) => Some(name.clone()),
            None => env.text("ASOF_PROFILE")?,
        };
        let file = config.profile(named.as_deref(), source)?;
        let profile = typed(&global).over(Profile::from_env(&env)?).over(file);
        if let Some(zone) = &profile.timezone {
            // Told before anything is done, and not when its end is to be shown.
            Zone::parse(zone)?;
        }
        Ok(Context {
            global,
            argv,
            out,
            env,
            config,
            profile,
            clock: Clock::system(),
            stop,
            damage: AtomicBool::new(false),
            reached: Mutex::new(None),
        })
    }

    /// Where the repository is.
    ///
    /// # Errors
    ///
    /// If nobody says, or it is no place.
    pub fn location(&self) -> Result<Location, Failure> {
        match &self.profile.repository {
            Some(text) => Ok(Location::parse(text)?),
            None => Err(Failure::usage("no repository was named").hint(
                "give one with -r PLACE, as /srv/backup or s3://bucket/prefix, with \
                 ASOF_REPOSITORY, or in a profile of the configuration file",
            )),
        }
    }

    /// Where the repository is and how to reach it.
    ///
    /// # Errors
    ///
    /// As [`Context::location`], and for options that make no sense.
    pub fn place(
        &self,
        patience: Option<Patience>,
        copies: Option<PathBuf>,
    ) -> Result<Place, Failure> {
        let s3 = &self.profile.s3;
        let mut options = S3Options {
            endpoint: s3.endpoint.clone(),
            region: s3.region.clone(),
            path_style: s3.path_style,
            profile: s3.profile.clone(),
            storage_class: s3.storage_class.clone(),
            kms_key: s3.kms_key.clone(),
            max_object_bytes: s3.max_object_size.map(|size| size.0),
            ..S3Options::default()
        };
        if let Some(sse) = &s3.sse {
            options.sse = sse
                .parse()
                .map_err(|e: crate::store::s3::NotAnSse| Failure::usage(e.to_string()))?;
        }
        if let Some(connections) = s3.connections {
            options.max_requests = connections.max(1) as usize;
        }
        let location = self.location()?;
        let patience = patience.filter(|_| matches!(location, Location::S3 { .. }));
        let limits = Limits {
            up: self.profile.limits.upload.map(|size| size.0),
            down: self.profile.limits.download.map(|size| size.0),
            requests: None,
        };
        let copies = copies.filter(|_| matches!(location, Location::S3 { .. }));
        Ok(Place { location, s3: options, limits, copies, patience })
    }

    /// Where this machine keeps what it knows.
    ///
    /// # Errors
    ///
    /// If there is no home to keep it in.
    pub fn local(&self) -> Result<LocalOptions, Failure> {
        let home = || self.env.path("HOME").filter(|home| home.is_absolute());
        let xdg = || self.env.path("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
        let root = rustix::process::geteuid().is_root();
        let dir = self
            .profile
            .cache_dir
            .clone()
            .or_else(|| xdg().map(|dir| dir.join("asof")))
            .or_else(|| home().map(|home| home.join(".cache/asof")))
            .or_else(|| root.then(|| PathBuf::from("/var/cache/asof")));
        let Some(dir) = dir else {
            let what =
                "there is no directory for the index: neither HOME nor XDG_CACHE_HOME is set";
            return Err(Failure::usage(what).hint("give one with --cache-dir or ASOF_CACHE_DIR"));
        };
        let cache_dir = std::path::absolute(&dir).map_err(super::failure::file(&dir))?;
        let cache_bytes = self.profile.cache_size.map_or(CACHE_BYTES, |size| size.0);
        Ok(LocalOptions { cache_dir, cache_bytes })
    }

    /// Where the passphrase may come from.
    #[must_use]
    pub fn places(&self) -> Places<'_> {
        Places {
            file: self.global.password_file.as_deref(),
            command: self.global.password_command.as_deref(),
            env: Some(&self.env),
            profile: Some(&self.profile),
        }
    }

    /// The zone of dates that name none.
    ///
    /// # Errors
    ///
    /// If there is no such zone.
    pub fn zone(&self) -> Result<Zone, Failure> {
        match &self.profile.timezone {
            Some(text) => Ok(Zone::parse(text)?),
            None => Ok(Zone::local()?),
        }
    }

    /// The zone in which times are shown after something was done: a backup must not fail
    /// because the machine's zone cannot be known.
    #[must_use]
    pub fn zone_to_show(&self) -> Zone {
        self.zone().unwrap_or_else(|failure| {
            self.out.warning(&format!("times are shown in UTC: {}", failure.message()));
            Zone::utc()
        })
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// Begins to show progress.
    #[must_use]
    pub fn watch(&self) -> Watch {
        let mode = self.global.progress.unwrap_or(Mode::Auto).settle(&self.out, &self.env);
        Watch::start(mode, &self.out, &self.clock)
    }

    /// Notes that damage was met, for the exit code.
    pub fn met_damage(&self) {
        self.damage.store(true, Ordering::Relaxed);
    }

    /// Whether damage was met.
    #[must_use]
    pub fn has_met_damage(&self) -> bool {
        self.damage.load(Ordering::Relaxed)
    }

    /// Remembers the store, for the report.
    pub fn remember(&self, reached: &Reached) {
        let mut slot = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(reached.clone());
    }

    /// What was asked of the store so far; none if it was not reached.
    #[must_use]
    pub fn requests(&self) -> Option<Requests> {
        let slot = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().map(Reached::requests)
    }
}

/// What was typed, as a profile.
fn typed(global: &Global) -> Profile {
    Profile {
        repository: global.repo.clone(),
        writer_key: global.writer_key.clone(),
        cache_dir: global.cache_dir.clone(),
        cache_size: global.cache_size.map(Size),
        timezone: global.timezone.clone(),
        s3: S3Config {
            endpoint: global.s3_endpoint.clone(),
            region: global.s3_region.clone(),
            path_style: global.s3_path_style,
            profile: global.s3_profile.clone(),
            storage_class: global.s3_storage_class.clone(),
            sse: global.s3_sse.clone(),
            kms_key: global.s3_kms_key.clone(),
            max_object_size: global.s3_max_object_size.map(Size),
            connections: global.s3_connections,
        },
        limits: LimitsConfig {
            upload: global.limit_upload.map(Size),
            download: global.limit_download.map(Size),
        },
        ..Profile::default()
    }
}
