//! What only a bucket can do wrong: against the real server, and against one that
//! says what a test tells it to.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use asof::base::{Kind, Stop, UnixTime};
use asof::store::s3::{Credentials, Sse};
use asof::store::{Location, S3Options, Store, open_store};

use crate::ceph::{self, User};

/// The promise to whoever runs a machine that may be stolen: with a credential that may
/// only put, everything that a writer needs works and nothing else does.
#[test]
fn a_writer_can_put_and_nothing_else() {
    let Some(owner_options) = ceph::options(User::Owner) else {
        return;
    };
    let mut writer_options = ceph::options(User::Writer).unwrap();
    writer_options.prefix.clone_from(&owner_options.prefix);
    let (owner, writer) = (ceph::open(owner_options), ceph::open(writer_options));

    let body = Bytes::from_static(b"some bytes");
    for key in ["packs/aa/one", "log/2026-11-21T01-ff"] {
        assert!(writer.put_new(key, body.clone()).unwrap().created, "{key}");
        assert!(!writer.put_new(key, body.clone()).unwrap().created, "{key}, again");
        assert_eq!(owner.get(key, 100).unwrap(), body);
    }
    for error in [
        writer.get("packs/aa/one", 100).unwrap_err(),
        writer.get_range("packs/aa/one", 0..1).unwrap_err(),
        writer.list("packs/", None).unwrap_err(),
        writer.list("", None).unwrap_err(),
        writer.delete("packs/aa/one").unwrap_err(),
        writer.put_new("asof.json", body.clone()).unwrap_err(),
        writer.put_new("keys/one", body.clone()).unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::Denied, "{error}: {}", error.source);
    }
    assert_eq!(owner.get("packs/aa/one", 100).unwrap(), body, "nothing was deleted");
}

#[test]
fn a_writer_without_a_prefix_can_put_too() {
    let Some(mut options) = ceph::options(User::Writer) else {
        return;
    };
    let unique = options.prefix.replace('/', "-");
    options.prefix = String::new();
    let put = ceph::open(options).put_new(&format!("packs/aa/{unique}"), Bytes::from_static(b"x"));
    assert!(put.unwrap().created);
}

#[test]
fn wrong_credentials_are_denied_and_a_missing_bucket_is_named() {
    let Some(options) = ceph::options(User::Owner) else {
        return;
    };
    let credentials = options.credentials.clone().unwrap();

    let wrong_secret = Credentials { secret_key: "wrong".to_owned(), ..credentials.clone() };
    let unknown = Credentials { access_key: "nobody".to_owned(), ..credentials };
    for credentials in [wrong_secret, unknown] {
        let store = ceph::open(S3Options { credentials: Some(credentials), ..options.clone() });
        for error in [
            store.get("asof.json", 10).unwrap_err(),
            store.put_new("packs/aa/one", Bytes::new()).unwrap_err(),
            store.list("", None).unwrap_err(),
        ] {
            assert_eq!(error.kind, Kind::Denied, "{error}: {}", error.source);
        }
    }

    let store = ceph::open(S3Options { bucket: "no-such-bucket".to_owned(), ..options });
    for error in [
        store.get("asof.json", 10).unwrap_err(),
        store.put_new("packs/aa/one", Bytes::new()).unwrap_err(),
        store.list("", None).unwrap_err(),
        store.delete("packs/aa/one").unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::NotFound, "{error}: {}", error.source);
        assert!(error.source.to_string().contains("bucket does not exist"), "{}", error.source);
    }
}

#[test]
fn what_others_put_below_the_prefix_is_listed_as_it_is_named() {
    let Some(options) = ceph::options(User::Owner) else {
        return;
    };
    // Two stores, one below the other: the inner's objects are foreign to the outer.
    let inner =
        ceph::open(S3Options { prefix: format!("{}/keys", options.prefix), ..options.clone() });
    let outer = ceph::open(options);
    inner.put_new("one", Bytes::from_static(b"x")).unwrap();
    assert_eq!(outer.list("", None).unwrap().objects[0].key, "keys/one");
    assert_eq!(inner.list("", None).unwrap().objects[0].key, "one");
}

#[test]
fn a_location_opens_the_bucket_that_it_names() {
    let Some(options) = ceph::options(User::Owner) else {
        return;
    };
    let text = format!("s3://{}/{}/", options.bucket, options.prefix);
    let settings = S3Options { bucket: "other".into(), prefix: "other".into(), ..options };
    let location = Location::parse(&text).unwrap();
    let store = open_store(&location, &settings, true, &Stop::new()).unwrap();
    store.put_new("packs/aa/one", Bytes::from_static(b"x")).unwrap();
    assert_eq!(store.location(), text.trim_end_matches('/'));
}

/// The deadline is not measured: a call that outlived it would answer something else.
#[test]
fn an_endpoint_that_cannot_be_reached_is_unavailable() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = ceph::open(fake_options(port));
    let error = store.get("asof.json", 10).unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{}", error.source);
    assert!(!error.source.to_string().contains('\n'));
}

#[test]
fn a_server_that_never_answers_is_unavailable() {
    // Connections wait in the queue of a listener that never accepts them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let store = ceph::open(S3Options { timeout_seconds: 1, ..fake_options(port) });
    for error in [
        store.get("asof.json", 10).unwrap_err(),
        store.put_new("packs/aa/one", Bytes::new()).unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::Unavailable, "{}", error.source);
        assert!(error.source.to_string().contains("did not answer in time"), "{}", error.source);
    }
}

#[test]
fn a_call_under_way_ends_when_asked_to_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = Stop::new();
    let options = S3Options { timeout_seconds: 3600, ..fake_options(port) };
    let store = asof::store::S3Store::open(options, stop.clone()).unwrap();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| store.get("asof.json", 10).unwrap_err().kind);
        // Only once the request is under way.
        let _connection = listener.accept().unwrap();
        stop.raise();
        assert_eq!(call.join().unwrap(), Kind::Interrupted);
    });
}

/// What any gateway understands: one plain request, its length and hash known before it.
#[test]
fn a_put_is_one_plain_request_signed_over_the_hash_of_its_body() {
    let server = Fake::start([ok("")]);
    let mut options = fake_options(server.port);
    options.storage_class = Some("STANDARD_IA".to_owned());
    options.sse = Sse::Kms;
    options.kms_key = Some("the-key".to_owned());
    let put =
        ceph::open(options).put_new("packs/aa/one", Bytes::from_static(b"0123456789")).unwrap();
    assert_eq!(put.receipt, UnixTime::new(784_111_777, 0), "the receipt is the reply's Date");

    let request = server.requests().remove(0);
    assert_eq!(request.line, "PUT /bucket/some/prefix/packs/aa/one?x-id=PutObject HTTP/1.1");
    assert_eq!(request.body, b"0123456789");
    let hash = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
    assert_eq!(request.header("x-amz-content-sha256"), Some(hash));
    assert_eq!(request.header("if-none-match"), Some("*"));
    assert_eq!(request.header("content-length"), Some("10"));
    assert_eq!(request.header("x-amz-storage-class"), Some("STANDARD_IA"));
    assert_eq!(request.header("x-amz-server-side-encryption"), Some("aws:kms"));
    assert_eq!(request.header("x-amz-server-side-encryption-aws-kms-key-id"), Some("the-key"));
    for absent in [
        "transfer-encoding",
        "content-encoding",
        "x-amz-trailer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-checksum-crc32",
    ] {
        assert_eq!(request.header(absent), None, "{absent}");
    }
}

#[test]
fn only_packs_get_the_storage_class() {
    let server = Fake::start([ok("")]);
    let options =
        S3Options { storage_class: Some("GLACIER_IR".into()), ..fake_options(server.port) };
    ceph::open(options).put_new("log/one", Bytes::from_static(b"x")).unwrap();
    assert_eq!(server.requests()[0].header("x-amz-storage-class"), None);
}

#[test]
fn a_server_that_knows_no_condition_gets_plain_puts_from_then_on() {
    for refusal in [
        error(
            501,
            "NotImplemented",
            "A header you provided implies functionality that is not implemented",
        ),
        error(400, "InvalidArgument", "If-None-Match is not supported"),
    ] {
        let server = Fake::start([refusal, ok(""), ok("")]);
        let store = ceph::open(fake_options(server.port));
        assert!(store.put_new("log/one", Bytes::from_static(b"x")).unwrap().created);
        assert!(store.put_new("log/two", Bytes::from_static(b"x")).unwrap().created);
        let conditions: Vec<bool> =
            server.requests().iter().map(|r| r.header("if-none-match").is_some()).collect();
        assert_eq!(conditions, [true, false, false]);
    }
}

#[test]
fn an_existing_object_is_not_created_and_a_conflict_is_tried_again() {
    let server = Fake::start([
        error(409, "ConditionalRequestConflict", "another write is under way"),
        error(412, "PreconditionFailed", "exists"),
    ]);
    let put = ceph::open(fake_options(server.port)).put_new("log/one", Bytes::new()).unwrap();
    assert!(!put.created);
    let answered = UnixTime::new(784_111_777, 0);
    assert_eq!(put.latest, answered);
    // The conflict may have been with this call's own object: 100 ms at least were waited.
    let back = std::time::Duration::from_millis(1100);
    assert!(put.receipt <= answered.minus(back), "{}", put.receipt);
}

/// The SDK sends the request again by itself, and the answer to that is all it tells.
#[test]
fn a_put_whose_reply_was_lost_does_not_get_a_later_receipt() {
    let lost = "HTTP/1.1 200 OK\r\nConnection: close".to_owned();
    let server = Fake::start([lost, error(412, "PreconditionFailed", "exists")]);
    let put = ceph::open(fake_options(server.port)).put_new("log/one", Bytes::new()).unwrap();
    assert_eq!((put.created, server.requests().len()), (false, 2));
    let answered = UnixTime::new(784_111_777, 0);
    assert!(put.receipt <= answered.minus(std::time::Duration::from_secs(1)));
    assert_eq!(put.latest, answered);
}

/// Safety rests on receipts, so this machine's clock must not stand in for one.
#[test]
fn a_reply_without_a_date_is_an_error() {
    for headers in ["", "Date: yesterday\r\n"] {
        let reply = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\n\r\n");
        let server = Fake::start([reply]);
        let store = ceph::open(fake_options(server.port));
        let error = store.put_new("log/one", Bytes::from_static(b"x")).unwrap_err();
        assert_eq!(error.kind, Kind::Damaged);
        assert!(error.source.to_string().contains("Date"), "{}", error.source);
    }
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let server = Fake::start([error(503, "SlowDown", "reduce your rate"), ok("hello")]);
    assert_eq!(ceph::open(fake_options(server.port)).get("asof.json", 10).unwrap(), "hello");
    assert_eq!(server.requests().len(), 2);
}

/// The SDK's own retries end with the reply's headers; a body may still break off.
#[test]
fn a_body_that_breaks_off_is_read_again_from_its_beginning() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123".to_owned();
    let server = Fake::start([cut.clone(), ok("0123456789")]);
    assert_eq!(ceph::open(fake_options(server.port)).get("asof.json", 10).unwrap(), "0123456789");

    let server = Fake::start([cut.clone(), cut]);
    let store = ceph::open(S3Options { max_attempts: 2, ..fake_options(server.port) });
    let error = store.get("asof.json", 10).unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.source.to_string().contains("broke off"), "{}", error.source);
}

#[test]
fn a_server_that_ignores_the_range_or_the_limit_is_not_believed() {
    let server = Fake::start([ok("0123456789")]);
    let error = ceph::open(fake_options(server.port)).get_range("log/one", 2..5).unwrap_err();
    assert_eq!(error.kind, Kind::Damaged, "{}", error.source);

    // No length is said beforehand, so the limit must be kept while reading.
    let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(100_000));
    let server = Fake::start([endless]);
    let error = ceph::open(fake_options(server.port)).get("asof.json", 1000).unwrap_err();
    assert_eq!(error.kind, Kind::Damaged, "{}", error.source);
}

#[test]
fn a_listing_is_decoded_and_folders_are_no_objects() {
    let object = |key: &str| {
        format!(
            "<Contents><Key>some/prefix/{key}</Key><Size>3</Size>\
             <LastModified>1994-11-06T08:49:37.250Z</LastModified></Contents>"
        )
    };
    let listing = |more: bool, objects: &[&str]| {
        let objects: String = objects.iter().copied().map(object).collect();
        ok(&format!(
            "<?xml version=\"1.0\"?><ListBucketResult><EncodingType>url</EncodingType>\
             <IsTruncated>{more}</IsTruncated>{objects}</ListBucketResult>"
        ))
    };
    let server = Fake::start([listing(true, &["", "a/"]), listing(false, &["b%20c%2Bd", "e+f"])]);
    let page = ceph::open(fake_options(server.port)).list("", None).unwrap();
    let keys: Vec<_> = page.objects.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["b c+d", "e f"]);
    assert_eq!(page.objects[0].receipt, UnixTime::new(784_111_777, 250_000_000));
    assert!(server.requests()[1].line.contains("start-after=some%2Fprefix%2Fa%2F"));
    assert_eq!(page.at, Some(UnixTime::new(784_111_777, 0)), "the Date of the reply");

    let undated = listing(false, &["a"]).replace(DATE, "X: y");
    let later = listing(true, &["a/"]).replace("08:49:37", "09:49:37");
    let server = Fake::start([undated, later, listing(false, &["b"])]);
    let store = ceph::open(fake_options(server.port));
    assert_eq!(store.list("", None).unwrap().at, None);
    let page = store.list("", None).unwrap();
    assert_eq!(page.at, Some(UnixTime::new(784_115_377, 0)), "of the first of its replies");

    let server = Fake::start([listing(false, &["b", "a"])]);
    let error = ceph::open(fake_options(server.port)).list("", None).unwrap_err();
    assert_eq!(
        error.kind,
        Kind::Damaged,
        "names that are out of order would be lost between pages"
    );
}

#[test]
fn an_object_that_is_too_large_for_the_server_is_not_sent() {
    let server = Fake::start([]);
    let store = ceph::open(S3Options { max_object_bytes: Some(5), ..fake_options(server.port) });
    assert_eq!(
        store.put_new("log/one", Bytes::from_static(b"123456")).unwrap_err().kind,
        Kind::Invalid
    );
    assert!(server.requests().is_empty());
}

#[test]
fn options_that_make_no_sense_are_refused_before_anything_is_sent() {
    let endpoint = |text: &str| S3Options { endpoint: Some(text.into()), ..fake_options(1) };
    for options in [
        S3Options::default(),
        endpoint("127.0.0.1:7480"),
        endpoint("http://"),
        endpoint("http://a host/"),
    ] {
        assert_eq!(
            asof::store::S3Store::open(options, Stop::new()).unwrap_err().kind,
            Kind::Invalid
        );
    }
}

/// The bucket is in the host's name unless that is switched off or the endpoint is one's own.
#[test]
fn virtual_host_style_puts_the_bucket_into_the_name_of_the_host() {
    let server = Fake::start([]);
    let options = S3Options {
        endpoint: Some(format!("http://localhost:{}", server.port)),
        path_style: Some(false),
        timeout_seconds: 1,
        max_attempts: 1,
        ..fake_options(server.port)
    };
    // Most resolvers do not know bucket.localhost; the name that was looked for is what counts.
    let error = ceph::open(options).get("asof.json", 10).unwrap_err();
    let line = server.requests().first().map(|r| r.line.clone());
    match line {
        Some(line) => assert!(line.starts_with("GET /some/prefix/asof.json"), "{line}"),
        None => assert_eq!(error.kind, Kind::Unavailable, "{}", error.source),
    }
}

fn fake_options(port: u16) -> S3Options {
    S3Options {
        bucket: "bucket".to_owned(),
        prefix: "some/prefix".to_owned(),
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        timeout_seconds: 20,
        max_attempts: 3,
        credentials: Some(Credentials {
            access_key: "access".to_owned(),
            secret_key: "secret".to_owned(),
            session_token: None,
        }),
        ..S3Options::default()
    }
}

const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{DATE}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn error(status: u16, code: &str, message: &str) -> String {
    let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let length = body.len();
    format!("HTTP/1.1 {status} Error\r\n{DATE}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A request as it came over the wire.
#[derive(Clone)]
struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A server that gives prepared replies in order, and keeps the requests.
struct Fake {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    fn start<const N: usize>(replies: [String; N]) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(Mutex::new(VecDeque::from(replies)));
        let kept = Arc::clone(&requests);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (replies, kept) = (Arc::clone(&replies), Arc::clone(&kept));
                std::thread::spawn(move || serve(stream, &replies, &kept));
            }
        });
        Fake { port, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, replies: &Mutex<VecDeque<String>>, kept: &Mutex<Vec<Request>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = receive(&mut reader) {
        kept.lock().unwrap().push(request);
        let Some(reply) = replies.lock().unwrap().pop_front() else {
            return;
        };
        let sent = writer.write_all(reply.as_bytes());
        if sent.is_err() || reply.contains("Connection: close") {
            return;
        }
    }
}

fn receive(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut request = Request { line: line.trim_end().to_owned(), headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}
