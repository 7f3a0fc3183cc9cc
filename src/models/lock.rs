//! One run in a folder at a time: a lock of the system (`flock`) on a file in the folder, held
//! while the run lasts. It ends with the process, however that ends, so that none is ever stale;
//! and it holds between containers that share a volume.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file's name.
pub const LOCK_FILE: &str = ".lock";

/// A lock that is held; the file goes when it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Open, and so locked.
    _file: File,
}

impl Lock {
    /// Takes the lock of a folder.
    ///
    /// # Errors
    /// Another process holds it: the error names that process. The folder cannot be written.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK_FILE);
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)
                .map_err(|e| Error::io(folder, "write into", &e))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use(folder, file)),
                // a file system without locks: nothing can be promised there
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {}
                Err(TryLockError::Error(e)) => return Err(Error::io(&path, "lock", &e)),
            }
            // the one who held it before may have taken the file away after it was opened here
            if !is_still(&file, &path) {
                continue;
            }
            let owner = format!("process {}{}\n", std::process::id(), host());
            let written = file
                .set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| crate::files::patiently(|| file.write_all(owner.as_bytes())));
            written.map_err(|e| Error::io(&path, "write", &e))?;
            return Ok(Lock { path, _file: file });
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // while it is locked, so that nobody else can have locked this file
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn in_use(folder: &Path, mut file: File) -> Error {
    let mut owner = String::new();
    let known = (&mut file).take(200).read_to_string(&mut owner).is_ok() && !owner.trim().is_empty();
    let by = if known { owner.trim().to_string() } else { "another process".into() };
    Error::file(folder, format!("is in use by another run, {by}"))
        .hint("wait until it ends, stop it, or give another --out")
}

/// Where a process number counts.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { String::new() } else { format!(" on {}", name.trim()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("is in use by another run, process {}", std::process::id())), "{error}");
        drop(lock);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        // the file that a killed process leaves is no lock
        std::fs::write(folder.path().join(LOCK_FILE), "process 1\n").unwrap();
        Lock::take(folder.path()).unwrap();
    }
}
