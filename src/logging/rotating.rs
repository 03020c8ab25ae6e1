//! The log file: whole lines, rotated by size, never shared with another process.
//!
//! The lock is on the file itself, whatever names lead to it, and goes with it when it is renamed. So what is opened is
//! ours only if it could be locked and its name still leads to it then.

use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use crate::settings::LogFileSettings;

/// Of the files that we create: the owner writes, the group reads.
const MODE: u32 = 0o640;
/// How often the file may be replaced while it is opened.
const MOST_REPLACED: u32 = 100;

/// A log file that is ours alone.
#[derive(Debug)]
pub struct RotatingFile {
    settings: LogFileSettings,
    /// `None` until the next line, when it is to be opened anew.
    file: Option<File>,
    /// The last line lacks its end.
    torn: bool,
}

impl RotatingFile {
    /// Opens it, or creates it; what is in it stays.
    ///
    /// # Errors
    /// It cannot be used, or another process uses it.
    pub fn open(settings: LogFileSettings) -> io::Result<Self> {
        let mut opened = Self { settings, file: None, torn: false };
        opened.current()?;
        Ok(opened)
    }

    /// Its settings.
    pub fn settings(&self) -> &LogFileSettings {
        &self.settings
    }

    /// Leaves the file to whoever has renamed it; the next line goes to what its name leads to then.
    pub fn reopen(&mut self) {
        self.file = None;
    }

    /// Appends a whole line with its end, or nothing of it.
    ///
    /// # Errors
    /// What the system says; the next call tries everything again.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let meta = self.current()?.metadata()?;
        let full = |most: u64| meta.len() > 0 && meta.len() + line.len() as u64 > most;
        if meta.is_file() && self.settings.max_bytes.is_some_and(full) {
            self.rotate()?;
        }
        let torn = self.torn;
        let mut file = self.current()?;
        let mut parts = [if torn { &b"\n"[..] } else { b"" }, line];
        let mut written: u64 = 0;
        let outcome = parts.iter_mut().try_for_each(|part| write_counted(&mut file, part, &mut written));
        self.torn = match outcome {
            Ok(()) => false,
            Err(_) if written == 0 => torn,
            // What went before it is whole again, unless not even that works.
            Err(_) => {
                file.metadata().and_then(|meta| file.set_len(meta.len().saturating_sub(written))).is_err() || torn
            }
        };
        outcome
    }

    /// The file, opened if it is not.
    fn current(&mut self) -> io::Result<&File> {
        match self.file.take() {
            Some(file) => Ok(self.file.insert(file)),
            None => {
                let (file, torn) = open_locked(&self.settings.path)?;
                self.torn = torn;
                Ok(self.file.insert(file))
            }
        }
    }

    /// Gives each old file the next number, the current one number 1, and begins a new one. Wherever this is cut, no line
    /// is lost but those of the oldest file.
    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.settings.files).rev() {
            rename(&self.numbered(number), &self.numbered(number + 1))?;
        }
        rename(&self.settings.path, &self.numbered(1))?;
        self.reopen();
        self.current().map(drop)
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.settings.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn write_counted(file: &mut impl Write, mut bytes: &[u8], written: &mut u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(more) => {
                *written += more as u64;
                bytes = &bytes[more..];
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A name that leads nowhere is no failure: a crash, or an operator, was there before.
fn rename(from: &PathBuf, to: &PathBuf) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens and locks it; answers also whether its last line lacks its end.
fn open_locked(path: &PathBuf) -> io::Result<(File, bool)> {
    for _ in 0..MOST_REPLACED {
        match std::fs::metadata(path) {
            // Opening it would wait for a reader.
            Ok(meta) if meta.file_type().is_fifo() => return Err(io::Error::other("it is a pipe")),
            Ok(_) => {}
            Err(_) => {
                if let Ok(created) = OpenOptions::new().append(true).create_new(true).mode(MODE).open(path) {
                    // Whatever the umask says: who may read it is the group.
                    created.set_permissions(Permissions::from_mode(MODE))?;
                }
            }
        }
        let file = OpenOptions::new().read(true).append(true).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            // A device has no end, and is everybody's.
            return Ok((file, false));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::Error::new(ErrorKind::ResourceBusy, SHARED)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if std::fs::metadata(path).is_ok_and(|named| is_same(&named, &meta)) {
            let mut last = [b'\n'];
            if let Some(end) = file.metadata()?.len().checked_sub(1) {
                file.read_exact_at(&mut last, end)?;
            }
            return Ok((file, last != [b'\n']));
        }
    }
    Err(io::Error::other("it is replaced again and again"))
}

/// What is said of a file that is not ours.
const SHARED: &str =
    "another process writes it; give each its own, for example with {pid} in the name, or stop the other";

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
