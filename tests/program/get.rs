//! `ulmfit get`, against a server within the test.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::{json_lines, random_bytes, text};

/// The behaviour of a server.
#[derive(Clone, Debug)]
enum Deed {
    /// Answers as it should.
    Serve,
    /// Ends the connection after so many bytes of the body.
    Cut(usize),
    /// Ends the connection without an answer.
    Close,
    /// Names another address.
    Redirect(String),
    Status(u16),
}

/// The files of a server, what it does next, and what it was asked.
struct Site {
    content: Mutex<Vec<u8>>,
    tag: Mutex<&'static str>,
    deeds: Mutex<VecDeque<Deed>>,
    requests: Mutex<Vec<String>>,
}

struct Server {
    address: String,
    site: Arc<Site>,
}

impl Server {
    /// Serves these bytes under every name.
    fn of(content: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let site = Site {
            content: Mutex::new(content),
            tag: Mutex::new("\"one\""),
            deeds: Mutex::default(),
            requests: Mutex::default(),
        };
        let site = Arc::new(site);
        let of_thread = site.clone();
        // ends with the process
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|stream| answer(stream, &of_thread));
            }
        });
        Server { address, site }
    }

    fn does(&self, deeds: &[Deed]) {
        self.site.deeds.lock().unwrap().extend(deeds.iter().cloned());
    }

    /// The `Range` of every request since the last call; empty where there was none.
    fn ranges(&self) -> Vec<String> {
        let of = |request: &String| {
            let line = request.lines().find(|line| line.to_lowercase().starts_with("range:"));
            line.map_or(String::new(), |line| line[6..].trim().to_string())
        };
        std::mem::take(&mut *self.site.requests.lock().unwrap()).iter().map(of).collect()
    }

    fn hash(&self) -> String {
        Sha256::digest(&*self.site.content.lock().unwrap()).iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// One request of a connection, whatever its path.
fn answer(mut stream: TcpStream, site: &Site) -> std::io::Result<()> {
    let mut head = head(&mut stream)?;
    if head.starts_with("CONNECT") {
        // a proxy: what comes then is for the other side, which is this server, too
        site.requests.lock().unwrap().push(head);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        head = self::head(&mut stream)?;
    }
    site.requests.lock().unwrap().push(head.clone());
    let deed = site.deeds.lock().unwrap().pop_front().unwrap_or(Deed::Serve);
    let (content, tag) = (site.content.lock().unwrap().clone(), *site.tag.lock().unwrap());
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)))
            .map(|(_, v)| v)
    };
    let from = field("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let from = from.filter(|_| field("if-range").is_none_or(|asked| asked == tag));
    let cut = match deed {
        Deed::Close => return Ok(()),
        Deed::Redirect(to) => {
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        }
        Deed::Status(status) => {
            return write!(stream, "HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
        Deed::Cut(n) => n,
        Deed::Serve => usize::MAX,
    };
    let total = content.len();
    let body = &content[from.unwrap_or(0).min(total)..];
    let (status, range) = match from {
        Some(from) if from >= total => {
            let range = format!("content-range: bytes */{total}\r\n");
            return write!(stream, "HTTP/1.1 416 Beyond\r\n{range}content-length: 0\r\nconnection: close\r\n\r\n");
        }
        Some(from) => ("206 Part", format!("content-range: bytes {from}-{}/{total}\r\n", total - 1)),
        None => ("200 OK", String::new()),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\netag: {tag}\r\n{range}content-length: {length}\r\nconnection: close\r\n\r\n")?;
    stream.write_all(&body[..cut.min(length)])
}

fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(text(&head))
}

/// The program, with nothing of this machine's network settings.
fn get(cache: &Path, mirror: &str, flags: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("ulmfit"));
    command.arg("get").args(flags).arg("--cache").arg(cache).env("ULMFIT_MIRROR", mirror).env_remove("ULMFIT_LOG");
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
}

/// The result of a command that succeeds.
fn got(mut command: std::process::Command) -> Value {
    let output = command.args(["--json", "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    json_lines(&text(&output.stdout)).pop().unwrap()
}

/// The message of a command that fails; never more than two lines.
fn fails(mut command: std::process::Command, status: i32, parts: &[&str]) -> String {
    let output = command.arg("--quiet").output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{message}");
    assert!(message.starts_with("error: ") && message.lines().count() <= 2, "{message}");
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
    message
}

/// Without size and checksum in the table: three files.
const ENTRY: &str = "wt103-paper";
const FIRST: &str = "fwd_wt103.h5";

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_broken_transfer_goes_on_where_it_was() {
    let server = Server::of(random_bytes(300_000));
    let cache = tempfile::tempdir().unwrap();
    // within one command, as long as something comes
    server.does(&[Deed::Cut(100_000), Deed::Cut(50_000), Deed::Serve]);
    let found = got(get(cache.path(), &server.address, &[ENTRY]));
    assert_eq!(server.ranges()[..3], ["", "bytes=100000-", "bytes=150000-"]);
    let first = &found["files"][0];
    assert_eq!((&first["sha256"], &first["bytes"]), (&server.hash().into(), &300_000.into()));
    assert!(first["transferred"] == 300_000 && first["checked"].is_null(), "{first}");
    let folder = cache.path().join(ENTRY);
    assert_eq!(std::fs::read(folder.join(FIRST)).unwrap(), *server.site.content.lock().unwrap());
    assert_eq!(names(&folder), ["bwd_wt103.h5", FIRST, "itos_wt103.pkl"], "nothing else is left");
    // a file that is there is not fetched again
    let again = got(get(cache.path(), &server.address, &[ENTRY]));
    assert!(again["files"][0]["transferred"] == 0 && server.ranges().is_empty(), "{again}");

    // and by the next command, where nothing more came
    let cache = tempfile::tempdir().unwrap();
    server.does(&[Deed::Cut(120_000), Deed::Close]);
    fails(get(cache.path(), &server.address, &[ENTRY]), 1, &["cannot get", FIRST]);
    assert_eq!(names(&cache.path().join(ENTRY)), [format!("{FIRST}.part"), format!("{FIRST}.part.version")]);
    server.ranges();
    let found = got(get(cache.path(), &server.address, &[ENTRY]));
    assert_eq!(server.ranges()[0], "bytes=120000-");
    assert!(found["files"][0]["sha256"] == server.hash() && found["files"][0]["transferred"] == 180_000, "{found}");
}

/// A file that has changed meanwhile is not put together of two.
#[test]
fn a_changed_file_is_fetched_anew() {
    let server = Server::of(random_bytes(200_000));
    let cache = tempfile::tempdir().unwrap();
    server.does(&[Deed::Cut(90_000), Deed::Close]);
    fails(get(cache.path(), &server.address, &[ENTRY]), 1, &["cannot get"]);
    let other: Vec<u8> = random_bytes(210_000).into_iter().rev().collect();
    *server.site.content.lock().unwrap() = other.clone();
    *server.site.tag.lock().unwrap() = "\"two\"";
    server.ranges();
    let found = got(get(cache.path(), &server.address, &[ENTRY]));
    assert_eq!(server.ranges()[0], "bytes=90000-");
    assert!(found["files"][0]["sha256"] == server.hash() && found["files"][0]["transferred"] == 210_000, "{found}");
    assert_eq!(std::fs::read(cache.path().join(ENTRY).join(FIRST)).unwrap(), other);
}

#[test]
fn a_wrong_checksum_or_size_leaves_nothing() {
    let server = Server::of(random_bytes(1000));
    let cache = tempfile::tempdir().unwrap();
    let (right, wrong) = (format!("{FIRST}={}", server.hash()), format!("{FIRST}={}", "0".repeat(64)));
    let parts = [&server.hash()[..], "is expected", "removed"];
    fails(get(cache.path(), &server.address, &[ENTRY, "--sha256", &wrong]), 1, &parts);
    assert!(names(&cache.path().join(ENTRY)).is_empty());
    let found = got(get(cache.path(), &server.address, &[ENTRY, "--sha256", &right]));
    assert_eq!((&found["files"][0]["checked"], &found["files"][1]["checked"]), (&"given".into(), &Value::Null));
    // a file that lies there is checked as well
    fails(get(cache.path(), &server.address, &[ENTRY, "--sha256", &wrong]), 1, &["is expected", "remove it"]);
    // of another size than published
    fails(get(cache.path(), &server.address, &["trec"]), 1, &["has 1000 bytes, but 335858 are published"]);
    // of the right size, and other content than published
    let server = Server::of(random_bytes(335_858));
    let message = fails(get(cache.path(), &server.address, &["trec"]), 1, &["9e4c8bdcaffb", "is expected"]);
    assert!(message.contains(&server.hash()) && names(&cache.path().join("trec")).is_empty(), "{message}");
}

#[test]
fn other_addresses_and_other_answers() {
    let server = Server::of(random_bytes(5000));
    let cache = tempfile::tempdir().unwrap();
    server.does(&[Deed::Redirect(format!("{}/elsewhere", server.address)), Deed::Serve]);
    let found = got(get(cache.path(), &server.address, &[ENTRY]));
    assert_eq!(found["files"][0]["sha256"], server.hash());
    assert!(server.site.requests.lock().unwrap()[1].starts_with("GET /elsewhere "));

    let cache = tempfile::tempdir().unwrap();
    server.does(&vec![Deed::Redirect(format!("{}/round", server.address)); 12]);
    fails(get(cache.path(), &server.address, &[ENTRY]), 1, &["more than 10 redirections"]);
    server.site.deeds.lock().unwrap().clear();
    server.does(&[Deed::Status(404)]);
    fails(get(cache.path(), &server.address, &[ENTRY]), 1, &["the server answers with status 404"]);
    // nobody listens
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    fails(get(cache.path(), &closed, &[ENTRY]), 1, &["cannot get", &closed, "ULMFIT_MIRROR"]);
    assert!(!cache.path().join(ENTRY).join(FIRST).exists());
}

#[test]
fn a_proxy_is_asked() {
    let server = Server::of(random_bytes(5000));
    let cache = tempfile::tempdir().unwrap();
    let mut command = get(cache.path(), "http://no-such-host.invalid", &[ENTRY]);
    command.env("HTTPS_PROXY", &server.address);
    assert_eq!(got(command)["files"][0]["sha256"], server.hash());
    let requests = server.site.requests.lock().unwrap().clone();
    assert!(requests[0].contains("no-such-host.invalid"), "{requests:?}");
    let mut command = get(cache.path(), "http://no-such-host.invalid", &[ENTRY]);
    command.env("HTTPS_PROXY", "no address");
    fails(command, 2, &["HTTPS_PROXY is set, but 'no address' is no address of a proxy"]);
}

/// A full disk: what came is kept, and the next command goes on from there.
#[test]
fn no_space_is_said_and_what_came_is_kept() {
    let server = Server::of(random_bytes(400_000));
    let cache = tempfile::tempdir().unwrap();
    let mut command = get(cache.path(), &server.address, &[ENTRY]);
    command.env("LD_PRELOAD", crate::reliability::faults()).env("FAULTS_PATH", format!("{FIRST}.part"));
    // the first writes are those of its version
    command.env("FAULTS_OPS", "write").env("FAULTS_N", "5").env("FAULTS_MODE", "ENOSPC").env("FAULTS_STICKY", "1");
    fails(command, 1, &["no space left on the device", "the same command goes on"]);
    let partial = cache.path().join(ENTRY).join(format!("{FIRST}.part"));
    let kept = std::fs::metadata(&partial).unwrap().len();
    assert!(kept > 0 && kept < 400_000, "{kept}");
    server.ranges();
    let found = got(get(cache.path(), &server.address, &[ENTRY]));
    assert_eq!(server.ranges()[0], format!("bytes={kept}-"));
    assert_eq!(found["files"][0]["sha256"], server.hash());
}

#[test]
fn what_there_is_and_what_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let mut list = std::process::Command::new(assert_cmd::cargo::cargo_bin("ulmfit"));
    let listed = got({
        list.args(["get", "--list"]);
        list
    });
    let entries = listed["entries"].as_array().unwrap();
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
    for name in ["imdb", "trec", "ag-news", "dbpedia", "yelp-polarity", "yelp-full", "wt103-fwd", "wt103-bwd"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let server = Server::of(Vec::new());
    let none = "0".repeat(64);
    let cases: [(&[&str], &str); 6] = [
        (&["nothing"], "there is nothing named 'nothing'"),
        (&[ENTRY, "--sha256", "12"], "a SHA-256 has 64 hexadecimal digits"),
        (&[ENTRY, "--sha256", &none], "has the files fwd_wt103.h5"),
        (&[ENTRY, "--sha256", &format!("other={none}")], "has the files fwd_wt103.h5"),
        (&["imdb", "--sha256", &none], "is published"),
        (&["imdb", "--list"], "--list"),
    ];
    for (flags, part) in cases {
        fails(get(cache.path(), &server.address, flags), 2, &[part]);
    }
    fails(get(cache.path(), "ftp://x", &[ENTRY]), 2, &["ULMFIT_MIRROR=ftp://x is no address of a server"]);
    assert!(server.ranges().is_empty(), "nothing was asked of a server");
}
