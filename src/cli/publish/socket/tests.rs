//! The socket with clients of all kinds.

use serde_json::Value;

use super::super::test_board;
use super::*;
use crate::ops::follow::status::State;

fn ask(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    UnixStream::connect(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn state(bytes: &[u8]) -> Value {
    let document: Value = serde_json::from_slice(bytes).unwrap();
    document["sources"][0]["state"].clone()
}

/// Serves while `clients` runs.
fn serving(socket: &StatusSocket, board: &StatusBoard, clients: impl FnOnce()) {
    struct Raise<'a>(&'a Stop);
    impl Drop for Raise<'_> {
        fn drop(&mut self) {
            self.0.raise();
        }
    }
    let stop = Stop::new();
    std::thread::scope(|scope| {
        scope.spawn(|| socket.serve(board, &stop));
        // Also if a client fails, so that the test ends.
        let _raise = Raise(&stop);
        clients();
    });
}

#[test]
fn who_connects_gets_how_it_stands_then() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let board = test_board();
    let shop = board.enter("shop");
    let socket = StatusSocket::bind(&path, 0o660, SocketLimits::default()).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    serving(&socket, &board, || {
        assert_eq!(state(&ask(&path)), "starting");
        shop.state(State::Gap);
        assert_eq!(state(&ask(&path)), "gap");
        // Who hangs up at once, or talks, changes nothing.
        drop(UnixStream::connect(&path).unwrap());
        let _ = UnixStream::connect(&path).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(state(&ask(&path)), "gap");
    });
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn the_file_of_a_dead_process_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    std::fs::write(with_ending(&path, ".lock"), "4194304\nmore than it will write").unwrap();
    drop(UnixListener::bind(with_ending(&path, ".new")).unwrap());
    let socket = StatusSocket::bind(&path, 0o600, SocketLimits::default()).unwrap();
    let board = test_board();
    serving(&socket, &board, || assert!(ask(&path).ends_with(b"}\n")));
}

#[test]
fn a_living_process_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = StatusSocket::bind(&path, 0o600, SocketLimits::default()).unwrap();
    let error = StatusSocket::bind(&path, 0o600, SocketLimits::default()).unwrap_err();
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    assert_eq!(error.kind(), Kind::AlreadyExists);
    let board = test_board();
    serving(&socket, &board, || assert!(ask(&path).ends_with(b"}\n")));
    drop(socket);
    StatusSocket::bind(&path, 0o600, SocketLimits::default()).unwrap();
}

#[test]
fn what_is_somebody_elses_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let bind = || StatusSocket::bind(&path, 0o600, SocketLimits::default()).unwrap_err();
    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(bind(), SocketError::NotASocket { .. }));
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    std::fs::remove_file(&path).unwrap();
    // A program that listens and knows of no lock.
    let _listener = UnixListener::bind(&path).unwrap();
    assert!(matches!(bind(), SocketError::InUse { .. }));
    let missing = dir.path().join("missing/s");
    let error = StatusSocket::bind(&missing, 0o600, SocketLimits::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

/// A client that never reads holds one place, until its time is over.
#[test]
fn a_client_that_hangs_takes_one_place_and_not_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let board = test_board();
    // More than the system takes without anybody reading.
    board.enter("shop").failed("x".repeat(4 << 20));
    let patience = Duration::from_millis(100);
    let limits = SocketLimits { clients: 1, patience };
    let socket = StatusSocket::bind(&path, 0o600, limits).unwrap();
    serving(&socket, &board, || {
        let mut hangs = UnixStream::connect(&path).unwrap();
        // Its answer has begun: it has the only place.
        hangs.read_exact(&mut [0]).unwrap();
        assert!(ask(&path).is_empty(), "there is no room");
        let end = monotonic() + Duration::from_secs(60);
        while ask(&path).is_empty() {
            assert!(monotonic() < end, "the place is never free");
        }
        let mut rest = Vec::new();
        let _ = hangs.read_to_end(&mut rest);
        assert!(rest.len() < 4 << 20, "it was cut off");
    });
}

/// While one hangs, the others are answered.
#[test]
fn a_client_that_hangs_holds_up_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let board = test_board();
    let shop = board.enter("shop");
    shop.failed("x".repeat(4 << 20));
    let limits = SocketLimits { clients: 2, patience: Duration::from_secs(60) };
    let socket = StatusSocket::bind(&path, 0o600, limits).unwrap();
    serving(&socket, &board, || {
        let mut hangs = UnixStream::connect(&path).unwrap();
        hangs.read_exact(&mut [0]).unwrap();
        shop.state(State::Active);
        let answer = ask(&path);
        assert_eq!(state(&answer), "active");
        // Hanging up gives the place back at once, and lets this test end.
        drop(hangs);
    });
}
