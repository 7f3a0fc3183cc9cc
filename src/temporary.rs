//! Temporary files and folders: made exclusively, under a random name, open to this user alone, and gone when the program ends.

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{Error, Result};

/// Folders that are in use.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file without a name, open for reading and writing: it is gone when it is closed, however the program ends.
///
/// # Errors
/// [`Error::File`]: the system's folder for temporary files cannot be written.
pub fn unnamed_file() -> Result<File> {
    let (path, file) =
        exclusively(|path| OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path))?;
    std::fs::remove_file(&path).map_err(|e| Error::io(&path, "remove", &e))?;
    Ok(file)
}

/// A folder that is removed with everything in it.
#[derive(Debug)]
pub struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// # Errors
    /// [`Error::File`]: the system's folder for temporary files cannot be written.
    pub fn new() -> Result<Self> {
        let (path, ()) = exclusively(|path| DirBuilder::new().mode(0o700).create(path))?;
        all().push(path.clone());
        Ok(TemporaryFolder(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // what cannot be removed is the system's to remove
        let _ = std::fs::remove_dir_all(&self.0);
        all().retain(|folder| *folder != self.0);
    }
}

/// Removes the folders that are still there: for an end of the program that drops nothing.
pub fn remove_all() {
    for folder in all().drain(..) {
        let _ = std::fs::remove_dir_all(folder);
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

/// From the system's random numbers (through the keys of the standard hash tables): it decides nothing that is computed.
fn random_name() -> String {
    let word = || RandomState::new().build_hasher().finish();
    format!("ulmfit-{:016x}{:016x}", word(), word())
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
    fn a_file_without_a_name() {
        use std::os::unix::fs::MetadataExt;
        let meta = unnamed_file().unwrap().metadata().unwrap();
        assert_eq!((meta.nlink(), meta.mode() & 0o777), (0, 0o600));
    }
}
