//! The checkpoint of the embedded store: a directory with one small file per room.
//!
//! Files are replaced whole, so a crash or a power cut leaves either the old or the new one. Only for what reserves
//! numbers the directory is forced to disk as well: an older file is no harm otherwise, as what it lacks comes back
//! with the visitors' tickets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::room::name::RoomName;
use crate::room::state::State;
use crate::room::token::MAX_EXACT;

/// The form of the files: another one cannot be read.
const VERSION: u32 = 1;

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    room: T,
}

/// A room as it is kept on disk.
#[derive(Serialize, Deserialize)]
pub struct Image {
    /// Numbers below this one may have been given.
    pub ceiling: u64,
    /// The room.
    pub state: State,
}

/// A checkpoint directory, held by one process at a time.
pub struct Checkpoint {
    rooms: PathBuf,
    /// Locked for as long as this process lives; the system lets go of it even after kill -9.
    _lock: File,
}

/// A checkpoint that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Another process holds the directory.
    #[error("state directory {0} is in use by another process: give each its own --state-dir")]
    InUse(PathBuf),
    /// A file or directory that cannot be read or written.
    #[error("{path}: {error}: the state directory must be readable and writable")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file in the form of another version.
    #[error(
        "{path}: a checkpoint of form {found}, and this version reads form {VERSION}: run the version that wrote it, or move it away to begin this room anew"
    )]
    OtherVersion {
        /// Which.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
    /// A file that is not a checkpoint of this program.
    #[error("{path}: {error}: not a checkpoint; move it away to begin this room anew")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where it goes wrong.
        error: serde_json::Error,
    },
}

impl Checkpoint {
    /// Opens the directory, making it where it is missing.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let rooms = dir.join("rooms");
        fs::create_dir_all(&rooms).map_err(at(&rooms))?;
        let path = dir.join("lock");
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { rooms, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(CheckpointError::InUse(dir.to_owned())),
            Err(fs::TryLockError::Error(error)) => Err(CheckpointError::Io { path, error }),
        }
    }

    /// Every room found.
    pub fn load(&self) -> Result<Vec<(RoomName, Image)>, CheckpointError> {
        let mut images = Vec::new();
        for entry in fs::read_dir(&self.rooms).map_err(at(&self.rooms))? {
            let path = entry.map_err(at(&self.rooms))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(name) = name.strip_suffix(".json").and_then(RoomName::parse) else { continue };
            let bytes = fs::read(&path).map_err(at(&path))?;
            images.push((name, read(&path, &bytes)?));
        }
        Ok(images)
    }

    /// Replaces a room's file; `durably`: it is on disk when this returns. One call per room at a time.
    pub fn write(&self, room: &RoomName, image: &Image, durably: bool) -> Result<(), CheckpointError> {
        let path = self.rooms.join(format!("{room}.json"));
        let draft = self.rooms.join(format!("{room}.draft"));
        let bytes = serde_json::to_vec(&Versioned { version: VERSION, room: image })
            .map_err(|error| CheckpointError::Damaged { path: path.clone(), error })?;
        let mut file = File::create(&draft).map_err(at(&draft))?;
        file.write_all(&bytes).map_err(at(&draft))?;
        // Always: on some file systems a rename comes to disk before the content, and a power cut leaves nothing.
        file.sync_data().map_err(at(&draft))?;
        fs::rename(&draft, &path).map_err(at(&path))?;
        if durably {
            File::open(&self.rooms).and_then(|dir| dir.sync_all()).map_err(at(&self.rooms))?;
        }
        Ok(())
    }
}

/// Reads what a room's file holds; `path` is for messages.
pub fn read(path: &Path, bytes: &[u8]) -> Result<Image, CheckpointError> {
    let damaged = |error| CheckpointError::Damaged { path: path.to_owned(), error };
    // The form first: what another one holds may not even parse.
    let Versioned { version, .. } =
        serde_json::from_slice::<Versioned<serde::de::IgnoredAny>>(bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(CheckpointError::OtherVersion { path: path.to_owned(), found: version });
    }
    let image = serde_json::from_slice::<Versioned<Image>>(bytes).map_err(damaged)?.room;
    match image.state.flaw().or((image.ceiling >= MAX_EXACT).then_some("the ceiling is absurd")) {
        Some(flaw) => Err(damaged(serde::de::Error::custom(flaw))),
        None => Ok(image),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |error| CheckpointError::Io { path, error }
}
