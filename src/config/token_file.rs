//! The file with the operators' token, as the service and its client read it.

use std::path::Path;

use super::{Grade, Mistake, yaml};
use crate::admin::AdminToken;

/// The largest file read, in bytes: a token with room around it.
const MAX_FILE: u64 = 4 * 1024;

/// Reads the token, and gives its text without what stands around it. The mistake tells nothing of what the file holds.
pub(super) fn read(file: &Path) -> Result<(AdminToken, String), Mistake> {
    let rule = AdminToken::rule();
    let text = yaml::read_file_within(file, MAX_FILE, "is too large to be a token", &rule)?;
    let token = AdminToken::parse(&text).map_err(|remedy| Mistake {
        file: Some(file.display().to_string().into()),
        line: None,
        key: String::new(),
        problem: "is no token".to_owned(),
        remedy,
        grade: Grade::Mistake,
    })?;
    Ok((token, text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_no_token_is_told_so_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("admin.token");
        let token = "correct-horse-battery";
        std::fs::write(&file, format!(" {token}\n")).unwrap();
        assert_eq!(read(&file).unwrap().1, token);
        for wrong in ["battery".to_owned(), "horse ".repeat(100), "x".repeat(1_025), "y".repeat(10 << 20)] {
            std::fs::write(&file, &wrong).unwrap();
            let mistake = read(&file).unwrap_err().to_string();
            assert!(mistake.contains("token") && mistake.contains("openssl rand -hex 32"), "{mistake}");
            assert!(!mistake.contains(&wrong[..5]) && !mistake.contains("smaller files"), "{mistake}");
            assert!(mistake.starts_with(file.to_str().unwrap()), "{mistake}");
        }
        // As endless as a file can be.
        assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("too large"));
        assert!(read(&dir.path().join("nowhere")).unwrap_err().to_string().contains("cannot be read"));
    }
}
