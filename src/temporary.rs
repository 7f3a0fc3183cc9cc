//! Temporary files and folders: made exclusively, under a random name, open to this user alone, and
//! gone when the program ends.

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{Error, Result};

/// Folders that are in use.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file without a name, open for reading and writing: it is gone when it is closed, however the
/// program ends.
///
/// # Errors
/// [`Error::File`]: the system's folder for temporary files cannot be written.
pub fn unnamed_file() -> Result<File> {
    let (path, file) =
        exclusively(|path| OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path))?;
    std::fs::remove_file(&path).map_err(|e| Error::io(&path, "remove", &e))?;
    Ok(file)
}

/// A folder that is removed with everything in it. A process that was killed cannot do so: the next
/// one that makes such a folder does.
#[derive(Debug)]
pub struct TemporaryFolder {
    path: PathBuf,
    /// Locked while the process lives.
    _lock: File,
}

/// In a folder: whoever has it locked uses the folder.
const LOCK: &str = ".lock";

impl TemporaryFolder {
    /// # Errors
    /// [`Error::File`]: the system's folder for temporary files cannot be written.
    pub fn new() -> Result<Self> {
        let (path, ()) = exclusively(|path| DirBuilder::new().mode(0o700).create(path))?;
        all().push(path.clone());
        let lock = path.join(LOCK);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock);
        let file = made.and_then(|file| file.lock().map(|()| file)).map_err(|e| Error::io(&lock, "lock", &e));
        let folder = TemporaryFolder { path, _lock: file.inspect_err(|_| remove_all())? };
        remove_abandoned(&folder.path);
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        remove(&self.path);
        all().retain(|folder| *folder != self.path);
    }
}

/// Removes the folders that are still there: for an end of the program that drops nothing.
pub fn remove_all() {
    for folder in all().drain(..) {
        remove(&folder);
    }
}

/// Removes a folder, also while another thread still writes into it or removes it, too: one try
/// then stops at a file that has come or gone. A file that cannot be removed is left to the system.
fn remove(folder: &Path) {
    const TRIES: usize = 1000;
    let gone = |_: &usize| std::fs::remove_dir_all(folder).is_ok() || !folder.exists();
    (0..TRIES).find(gone);
}

/// Removes folders of this user's processes that are gone. A folder that cannot be read stays.
fn remove_abandoned(own: &Path) {
    let Some(user) = std::fs::metadata(own).ok().map(|own| own.uid()) else { return };
    let Some(entries) = own.parent().and_then(|folder| std::fs::read_dir(folder).ok()) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_ours = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()));
        // a link is followed by nobody, and nobody waits for a pipe
        let meta = |path: &Path| std::fs::symlink_metadata(path).ok().filter(|meta| meta.uid() == user);
        let lock = path.join(LOCK);
        let is_whole = || meta(&path).is_some_and(|m| m.is_dir()) && meta(&lock).is_some_and(|m| m.is_file());
        if is_ours && path != own && is_whole() {
            // held until the folder is gone, so that two do not remove it at once
            if let Some(_lock) = File::open(&lock).ok().filter(|file| file.try_lock().is_ok()) {
                let _ = std::fs::remove_dir_all(&path);
            }
        }
    }
}

fn all() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    FOLDERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes something under a name that nothing had.
fn exclusively<T>(make: impl Fn(&Path) -> std::io::Result<T>) -> Result<(PathBuf, T)> {
    let folder = std::env::temp_dir();
    loop {
        let path = folder.join(random_name());
        match make(&path) {
            Ok(made) => return Ok((path, made)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(Error::io(&folder, "make a temporary file in", &e).hint("set TMPDIR to a folder for them"));
            }
        }
    }
}

const PREFIX: &str = "ulmfit-";

/// From the system's random numbers (through the keys of the standard hash tables): it decides
/// nothing that is computed.
fn random_name() -> String {
    let word = || RandomState::new().build_hasher().finish();
    format!("{PREFIX}{:016x}{:016x}", word(), word())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn names_are_not_met_twice() {
        let names: std::collections::HashSet<String> = (0..1000).map(|_| random_name()).collect();
        assert_eq!(names.len(), 1000);
    }

    #[test]
    fn a_folder_is_private_and_goes_with_its_content() {
        let folder = TemporaryFolder::new().unwrap();
        let path = folder.path().to_path_buf();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(path.join("x"), "y").unwrap();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_process_left_goes_with_the_next() {
        let dead = std::env::temp_dir().join(random_name());
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join(LOCK), "").unwrap();
        let unfinished = std::env::temp_dir().join(random_name());
        std::fs::create_dir(&unfinished).unwrap();
        let alive = TemporaryFolder::new().unwrap();
        let other = TemporaryFolder::new().unwrap();
        assert!(!dead.exists() && alive.path().exists() && other.path().exists() && unfinished.exists());
        std::fs::remove_dir(unfinished).unwrap();
    }

    #[test]
    fn a_file_without_a_name() {
        let meta = unnamed_file().unwrap().metadata().unwrap();
        assert_eq!((meta.nlink(), meta.mode() & 0o777), (0, 0o600));
    }
}
