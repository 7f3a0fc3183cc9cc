//! One file from an address to its place: in parts, resumed, checked.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use super::client::{Answer, Client};
use crate::error::{Error, Result};
use crate::files;

/// Times that a broken connection is taken up again; each must have brought something.
const MOST_BREAKS: usize = 100;
const CHUNK: usize = 1 << 16;

/// How far a transfer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub bytes: u64,
    pub of: Option<u64>,
}

/// A file that is in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub bytes: u64,
    /// In hexadecimal, as computed.
    pub sha256: String,
    /// Bytes that came over the network now.
    pub transferred: u64,
}

/// The facts about a file before it is there.
#[derive(Clone, Copy, Debug, Default)]
struct Known<'a> {
    size: Option<u64>,
    sha256: Option<&'a str>,
}

impl Known<'_> {
    /// Refuses a file of another size or content.
    fn check(&self, what: &str, bytes: u64, sha256: &str) -> Result<()> {
        if let Some(size) = self.size.filter(|&size| size != bytes) {
            return Err(Error::data(format!("{what} has {bytes} bytes, but {size} are published")));
        }
        match self.sha256.filter(|&expected| expected != sha256) {
            Some(expected) => Err(Error::data(format!("{what} has the SHA-256 {sha256}, but {expected} is expected"))),
            None => Ok(()),
        }
    }
}

/// Gets a file to its place, unless it is there. Bytes that came before a fault are kept beside the
/// place, and the next call goes on from there.
///
/// # Errors
/// The network's, the disk's; another size or SHA-256 than expected: then nothing is left.
pub fn fetch(
    client: &Client,
    address: &str,
    place: &Path,
    size: Option<u64>,
    sha256: Option<&str>,
    say: &mut dyn FnMut(Progress),
) -> Result<Fetched> {
    let known = Known { size, sha256 };
    if files::exists(place)? {
        let (bytes, found) = hash(&mut files::open(place)?).map_err(|e| Error::io(place, "read", &e))?;
        known.check(&place.display().to_string(), bytes, &found).map_err(|e| e.hint("remove it, and get it again"))?;
        return Ok(Fetched { bytes, sha256: found, transferred: 0 });
    }
    let mut partial = Partial::open(place, address)?;
    for _ in 0..MOST_BREAKS {
        let before = partial.received;
        let outcome = attempt(client, address, &mut partial, known, say);
        match outcome {
            Ok(()) => {
                let (bytes, found) = (partial.length, partial.hash()?);
                if let Err(error) = known.check(address, bytes, &found) {
                    partial.remove();
                    return Err(
                        error.hint("the received file was removed; is it another version, or a page of a proxy?")
                    );
                }
                let received = partial.received;
                partial.finish(place)?;
                return Ok(Fetched { bytes, sha256: found, transferred: received });
            }
            // a connection that broke is taken up again
            Err(Stop::Broken(_)) if partial.received > before => {}
            Err(Stop::Broken(why)) => {
                let message = format!("cannot get {address}: {why}");
                return Err(Error::data(message)
                    .hint(format!("{} bytes are kept: the same command goes on from there", partial.length)));
            }
            Err(Stop::Fault(error)) => return Err(error),
        }
    }
    Err(Error::data(format!("cannot get {address}: the connection breaks again and again"))
        .hint(format!("{} bytes are kept: the same command goes on from there", partial.length)))
}

/// Why a transfer has ended early.
enum Stop {
    /// The connection; the bytes received are good.
    Broken(String),
    Fault(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Fault(error)
    }
}

/// Asks for the missing bytes, and appends them.
fn attempt(
    client: &Client,
    address: &str,
    partial: &mut Partial,
    known: Known,
    say: &mut dyn FnMut(Progress),
) -> Result<(), Stop> {
    if known.size.is_some_and(|size| partial.length > size) {
        partial.restart(None)?;
    }
    if known.size.is_some_and(|size| partial.length == size && size > 0) {
        return Ok(());
    }
    // without a name for its version, only a checksum can tell that the rest belongs to the same
    // file
    if partial.version.is_none() && known.sha256.is_none() {
        partial.restart(None)?;
    }
    let answer = client.get(address, partial.length, partial.version.as_deref())?;
    let total = match answer.status {
        200 => {
            partial.restart(version(&answer))?;
            answer.header("content-length").and_then(|length| length.parse().ok())
        }
        206 => match range(&answer) {
            Some((from, total)) if from == partial.length => total,
            _ => {
                let why = format!("{address} sent another part than the one that was asked for");
                partial.restart(None)?;
                return Err(Stop::Fault(Error::data(why).hint("try again: it begins anew")));
            }
        },
        // nothing is left after what is here, or the file has become smaller
        416 => {
            let whole = answer.header("content-range").and_then(|range| range.strip_prefix("bytes */"));
            if whole.and_then(|whole| whole.parse().ok()) == Some(partial.length) {
                return Ok(());
            }
            partial.restart(None)?;
            return Err(Stop::Fault(
                Error::data(format!("{address} is shorter than what came of it before"))
                    .hint("try again: it begins anew"),
            ));
        }
        status => {
            return Err(Stop::Fault(
                Error::data(format!("cannot get {address}: the server answers with status {status}"))
                    .hint("ULMFIT_MIRROR names another server with the same files"),
            ));
        }
    };
    if let (Some(size), Some(total)) = (known.size, total)
        && size != total
    {
        return Err(Stop::Fault(
            Error::data(format!("{address} has {total} bytes, but {size} are published"))
                .hint("it is another version, or a page of a proxy"),
        ));
    }
    room(partial, total.or(known.size))?;
    receive(address, answer, partial, total.or(known.size), say)
}

/// Appends the body of an answer to the bytes that are there.
fn receive(
    address: &str,
    mut answer: Answer,
    partial: &mut Partial,
    total: Option<u64>,
    say: &mut dyn FnMut(Progress),
) -> Result<(), Stop> {
    let mut chunk = vec![0; CHUNK];
    loop {
        say(Progress { bytes: partial.length, of: total });
        let n = match answer.body.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(Stop::Broken(e.to_string())),
        };
        if total.is_some_and(|total| partial.length + n as u64 > total) {
            partial.restart(None)?;
            return Err(Stop::Fault(Error::data(format!("{address} sends more than it has said it would"))));
        }
        partial.append(&chunk[..n])?;
    }
    match total.filter(|&total| partial.length < total) {
        Some(total) => Err(Stop::Broken(format!("the connection ended after {} of {total} bytes", partial.length))),
        None => Ok(()),
    }
}

/// The name of a file's version: a strong entity tag, or the time of its last change.
fn version(answer: &Answer) -> Option<String> {
    let tag = answer.header("etag").filter(|tag| tag.starts_with('"'));
    tag.or_else(|| answer.header("last-modified")).map(str::to_string)
}

/// First byte and total length of a part: `bytes 5-9/10`.
fn range(answer: &Answer) -> Option<(u64, Option<u64>)> {
    let (span, total) = answer.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    Some((span.split('-').next()?.parse().ok()?, total.parse().ok()))
}

/// Refuses a transfer that the disk has no room for.
fn room(partial: &Partial, total: Option<u64>) -> Result<()> {
    let Some(total) = total else { return Ok(()) };
    let (needed, free) = (total.saturating_sub(partial.length), files::free_bytes(&partial.path));
    match free.filter(|&free| free < needed) {
        Some(free) => {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let (path, needed, free) = (partial.path.display(), mib(needed), mib(free));
            Err(Error::data(format!("{path}: {needed} MiB are missing, and {free} MiB are free there"))
                .hint("make room, or name a folder on another disk with --cache"))
        }
        None => Ok(()),
    }
}

/// SHA-256 of all that a file holds, from its beginning, and its length.
fn hash(file: &mut File) -> std::io::Result<(u64, String)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hasher, mut chunk, mut length) = (Sha256::new(), vec![0; CHUNK], 0);
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => {
                hasher.update(&chunk[..n]);
                length += n as u64;
            }
        }
    }
    let hex = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((length, hex))
}

/// The received part of a file: `F.part`, and beside it `F.part.version`, which names its version.
/// One process at a time holds it.
struct Partial {
    address: String,
    path: PathBuf,
    file: File,
    length: u64,
    /// Bytes that have come now.
    received: u64,
    version: Option<String>,
}

impl Partial {
    fn open(place: &Path, address: &str) -> Result<Self> {
        let with = |ending: &str| {
            let mut name = place.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let path = with(".part");
        let fault = |e: std::io::Error| Error::io(&path, "write", &e);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fault)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::file(&path, "another 'ulmfit get' is at work on it").hint("wait for it, or end it"));
        }
        let length = file.metadata().map_err(fault)?.len();
        let mut this = Partial { address: address.to_string(), length, received: 0, file, version: None, path };
        // the first line is the address, the second the version
        // without a note nobody knows what it is
        let noted = std::fs::read_to_string(this.note()).unwrap_or_default();
        match noted.split_once('\n') {
            Some((of, version)) if of == address => this.version = Some(version.to_string()).filter(|v| !v.is_empty()),
            _ => this.restart(None)?,
        }
        this.file.seek(SeekFrom::End(0)).map_err(|e| Error::io(&this.path, "read", &e))?;
        Ok(this)
    }

    fn note(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".version");
        PathBuf::from(name)
    }

    /// Forgets the bytes that are there; new ones are of this version.
    fn restart(&mut self, version: Option<String>) -> Result<()> {
        let fault = |e: std::io::Error| Error::io(&self.path, "write", &e);
        self.file.set_len(0).map_err(fault)?;
        self.file.seek(SeekFrom::Start(0)).map_err(fault)?;
        self.length = 0;
        self.version = version;
        let version = self.version.as_deref().unwrap_or_default();
        files::put(&self.note(), format!("{}\n{version}", self.address))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let kept = format!("{} bytes are kept: the same command goes on from there", self.length);
        self.file.write_all(bytes).map_err(|e| {
            // half of a chunk may be there: the end is where the last whole one ends
            let _ = self.file.set_len(self.length);
            Error::io(&self.path, "write", &e).hint(kept)
        })?;
        self.length += bytes.len() as u64;
        self.received += bytes.len() as u64;
        Ok(())
    }

    fn hash(&mut self) -> Result<String> {
        hash(&mut self.file).map(|(_, hash)| hash).map_err(|e| Error::io(&self.path, "read", &e))
    }

    fn finish(self, place: &Path) -> Result<()> {
        files::place(&self.file, &self.path, place).map_err(|e| Error::io(place, "write", &e))?;
        self.forget();
        Ok(())
    }

    fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
        self.forget();
    }

    /// The note is of no use once the file is in its place, or gone.
    fn forget(&self) {
        let _ = std::fs::remove_file(self.note());
    }
}
