//! Which keys sign: those of the keys file, else the one kept in the state directory, else one made now.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::AppError;
use crate::config::keys;
use crate::room::token::Key;

/// Chooses the keys, and says so where nobody has chosen them.
pub(super) fn choose(given: Option<&[Key]>, state_dir: Option<&Path>) -> Result<Vec<Key>, AppError> {
    if let Some(given) = given {
        return Ok(given.to_vec());
    }
    let Some(dir) = state_dir else {
        let (key, _) = keys::generate();
        tracing::warn!(
            kid = key.kid,
            "no --keys: signing with a key made now; tickets and passes end with this process"
        );
        return Ok(vec![key]);
    };
    let path = dir.join("keys.yaml");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let kept = keys::parse(&text, &path).map_err(|mistakes| {
                let why = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                AppError::KeptKey { path: path.clone(), why }
            })?;
            tracing::info!(path = %path.display(), "no --keys: signing with the key kept in the state directory");
            Ok(kept)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (key, text) = keys::generate();
            keep(&path, &text).map_err(|error| AppError::File { path: path.clone(), error })?;
            tracing::warn!(
                kid = key.kid,
                path = %path.display(),
                "no --keys: made a key and kept it in the state directory"
            );
            Ok(vec![key])
        }
        Err(error) => Err(AppError::File { path, error }),
    }
}

/// Writes the key so that nobody else can read it, and so that no half of it is ever found.
fn keep(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_made_once_is_kept_and_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let first = choose(None, Some(dir.path())).unwrap();
        let again = choose(None, Some(dir.path())).unwrap();
        assert_eq!(first, again);
        let mode = fs::metadata(dir.path().join("keys.yaml")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(choose(None, None).unwrap(), first);
    }

    #[test]
    fn a_broken_key_is_an_error_and_not_a_new_key() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("keys.yaml"), "keys: [").unwrap();
        assert!(matches!(choose(None, Some(dir.path())), Err(AppError::KeptKey { .. })));
    }
}
