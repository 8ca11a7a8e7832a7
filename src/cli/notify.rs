//! What the service manager is told: that the service is ready, how it stands, that it is
//! alive, that it stops.
//!
//! systemd's protocol, `sd_notify(3)`: datagrams of `NAME=value` lines to the socket that
//! `NOTIFY_SOCKET` names. These are a few lines of the standard library's; the crates for
//! it either lack abstract sockets or bring an asynchronous runtime along, and they read
//! the process's environment, which a test cannot set. Under no manager every call does
//! nothing.
//!
//! Programs that asof starts inherit the variable, as no program with threads may change
//! its environment; units therefore say `NotifyAccess=main`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::base::Kind;
use crate::cli::env::Env;

/// The service manager, or nobody.
#[derive(Debug, Clone)]
pub struct Manager {
    socket: Option<(OsString, SocketAddr)>,
    watchdog: Option<Duration>,
}

/// The service manager cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The environment says something that is not understood.
    #[error(
        "the environment variable {name} holds {value:?}, which is no {what}; it is for service \
         managers to set: start asof by one, or unset it"
    )]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: OsString,
        /// What it should hold.
        what: &'static str,
    },
    /// The socket does not take it.
    #[error("cannot tell the service manager at {socket:?}")]
    Send {
        /// The socket, as `NOTIFY_SOCKET` names it.
        socket: OsString,
        /// Why.
        source: io::Error,
    },
}

impl NotifyError {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            NotifyError::Variable { .. } => Kind::Invalid,
            NotifyError::Send { source, .. } => Kind::of_io(source),
        }
    }
}

impl Manager {
    /// The manager that started this process, whose id is `pid`, as the environment says.
    ///
    /// # Errors
    ///
    /// [`NotifyError::Variable`].
    pub fn of(env: &Env, pid: u32) -> Result<Manager, NotifyError> {
        let socket = env.get("NOTIFY_SOCKET");
        let socket = socket.map(|name| Ok((name.clone(), address(&name)?))).transpose()?;
        Ok(Manager { socket, watchdog: watchdog(env, pid)? })
    }

    /// How often [`alive`](Manager::alive) must be called at least: half of the time after
    /// which the manager takes the process for hung. `None` if it does not watch.
    #[must_use]
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Tells that the service does its work from now on.
    ///
    /// # Errors
    ///
    /// [`NotifyError::Send`], as of all that tell. Work can go on without.
    pub fn ready(&self) -> Result<(), NotifyError> {
        self.tell("READY=1")
    }

    /// Tells how the service stands, in a line that `systemctl status` shows.
    ///
    /// # Errors
    ///
    /// [`NotifyError::Send`].
    pub fn status(&self, text: &str) -> Result<(), NotifyError> {
        // A line break would begin another assignment.
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.tell(&format!("STATUS={line}"))
    }

    /// Tells that the service is not hung.
    ///
    /// # Errors
    ///
    /// [`NotifyError::Send`].
    pub fn alive(&self) -> Result<(), NotifyError> {
        self.tell("WATCHDOG=1")
    }

    /// Tells that the service ends.
    ///
    /// # Errors
    ///
    /// [`NotifyError::Send`].
    pub fn stopping(&self) -> Result<(), NotifyError> {
        self.tell("STOPPING=1")
    }

    fn tell(&self, assignment: &str) -> Result<(), NotifyError> {
        let Some((name, address)) = &self.socket else { return Ok(()) };
        // A socket each time: the manager may have been started again meanwhile. It never
        // blocks: a manager that does not read must not stop the work.
        let send = || -> io::Result<()> {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.send_to_addr(assignment.as_bytes(), address).map(|_| ())
        };
        send().map_err(|source| NotifyError::Send { socket: name.clone(), source })
    }
}

/// The address that `NOTIFY_SOCKET` names: a path, or after `@` an abstract name.
fn address(name: &OsStr) -> Result<SocketAddr, NotifyError> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] if !rest.is_empty() => SocketAddr::from_abstract_name(rest),
        [b'/', _, ..] => SocketAddr::from_pathname(name),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    address.map_err(|_| NotifyError::Variable {
        name: "NOTIFY_SOCKET",
        value: name.to_owned(),
        what: "socket of this machine",
    })
}

/// After how long without a sign of life the manager ends the process `pid`.
fn watchdog(env: &Env, pid: u32) -> Result<Option<Duration>, NotifyError> {
    let number = |name: &'static str| -> Result<Option<u64>, NotifyError> {
        let Some(value) = env.get(name) else { return Ok(None) };
        match value.to_str().and_then(|text| text.parse().ok()) {
            Some(number) if number > 0 => Ok(Some(number)),
            _ => Err(NotifyError::Variable { name, value, what: "number above 0" }),
        }
    };
    let Some(micros) = number("WATCHDOG_USEC")? else { return Ok(None) };
    // Another process is watched, which this one inherited the variables from.
    let other = number("WATCHDOG_PID")?.is_some_and(|watched| watched != u64::from(pid));
    Ok((!other).then(|| Duration::from_micros(micros)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn tells_all(name: &str, socket: &UnixDatagram) {
        let manager = Manager::of(&Env::of(&[("NOTIFY_SOCKET", name)]), 1).unwrap();
        manager.ready().unwrap();
        manager.status("following shop\nREADY=0").unwrap();
        manager.alive().unwrap();
        manager.stopping().unwrap();
        for line in ["READY=1", "STATUS=following shop READY=0", "WATCHDOG=1", "STOPPING=1"] {
            assert_eq!(read(socket), line);
        }
    }

    #[test]
    fn a_socket_with_a_path_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        tells_all(path.to_str().unwrap(), &socket);
    }

    #[test]
    fn an_abstract_socket_is_told() {
        let name = format!("asof-test-{}", hex::encode(crate::codec::random::bytes::<8>()));
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        tells_all(&format!("@{name}"), &socket);
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let manager = Manager::of(&Env::of(&[]), 1).unwrap();
        manager.ready().unwrap();
        manager.alive().unwrap();
        assert_eq!(manager.alive_every(), None);
    }

    /// Its queue is full; the work goes on.
    #[test]
    fn a_manager_that_does_not_read_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let env = Env::of(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        let manager = Manager::of(&env, 1).unwrap();
        let refused = (0..100_000).find_map(|_| manager.alive().err()).unwrap();
        assert_eq!(refused.kind(), Kind::of_io(&io::ErrorKind::WouldBlock.into()));
    }

    #[test]
    fn a_manager_that_is_gone_is_named() {
        let env = Env::of(&[("NOTIFY_SOCKET", "/nonexistent/notify")]);
        let error = Manager::of(&env, 1).unwrap().ready().unwrap_err();
        assert!(error.to_string().contains("/nonexistent/notify"), "{error}");
    }

    #[test]
    fn how_often_it_wants_to_hear() {
        let every = |usec, pid| {
            let env = Env::of(&[("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)]);
            Manager::of(&env, 7).map(|manager| manager.alive_every())
        };
        assert_eq!(every("60000000", "7").unwrap(), Some(Duration::from_secs(30)));
        assert_eq!(every("60000000", "").unwrap(), Some(Duration::from_secs(30)));
        assert_eq!(every("60000000", "8").unwrap(), None);
        assert_eq!(every("", "7").unwrap(), None);
        for (usec, pid, name) in [
            ("0", "7", "WATCHDOG_USEC"),
            ("soon", "7", "WATCHDOG_USEC"),
            ("5", "x", "WATCHDOG_PID"),
        ] {
            assert!(every(usec, pid).unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn sockets_of_other_kinds_are_refused_by_name() {
        for name in ["relative", "@", "/", "vsock:2:9999"] {
            let error = Manager::of(&Env::of(&[("NOTIFY_SOCKET", name)]), 1).unwrap_err();
            assert!(error.to_string().contains("NOTIFY_SOCKET"), "{error}");
            assert_eq!(error.kind(), Kind::Invalid);
        }
    }
}
