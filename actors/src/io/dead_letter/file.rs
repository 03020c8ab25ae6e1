//! The dead letter's file: JSON lines that only their owner can read, shared by processes through a lock.
//!
//! Everything here blocks. What was appended outlasts a crash of the machine; what a crash tore is healed by the next one
//! who appends. Lines are removed by a new file that takes the old one's name, so whoever holds the lock looks whether the
//! name still leads to what was locked.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Take, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::config::DeadLetterConfig;
use crate::wire::dead_letter::Entry;

/// The dead letter's file; it need not exist.
#[derive(Debug, Clone)]
pub struct LetterFile {
    path: PathBuf,
    max_bytes: u64,
    allow_readable: bool,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Another process uses it just now.
    #[error("the dead letter {0} is locked by another process")]
    Busy(String),
    /// The largest size is reached.
    #[error(
        "the dead letter {path} holds {used} bytes and has no room for {more} more within dead_letter.max_bytes, which is \
         {most}; send its logs again (sls-syslog dead-letter resend), or raise dead_letter.max_bytes"
    )]
    NoRoom {
        /// The file.
        path: String,
        /// Its size.
        used: u64,
        /// What was to be added.
        more: u64,
        /// Its largest size.
        most: u64,
    },
    /// The disk or the owner's quota is full.
    #[error("there is no space for the dead letter {path}: {error}; make space on its disk")]
    NoSpace {
        /// The file.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// Others can read it.
    #[error(
        "the dead letter {path} can be read by others than its owner (mode {mode:o}); chmod 600 it, or set \
         allow_readable_secrets = true"
    )]
    Readable {
        /// The file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// Anything else.
    #[error("the dead letter {path} cannot be used: {error}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        error: io::Error,
    },
}

/// Bits of the mode that let others than the owner in.
const OTHERS: u32 = 0o077;
/// How a torn line's beginning is looked for.
const BLOCK: u64 = 64 << 10;
/// How often the file may be replaced while it is opened.
const MOST_REPLACED: u32 = 100;

/// Whether to wait for another process that holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

impl LetterFile {
    /// The file that the settings name, if they name one.
    pub fn new(config: &DeadLetterConfig) -> Option<Self> {
        let path = config.path.clone()?;
        Some(Self { path, max_bytes: config.max_bytes, allow_readable: config.allow_readable })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether lines could be appended now. Creates the folder, but not the file.
    ///
    /// # Errors
    /// What would keep it from being appended to: no room, rights, no folder.
    pub fn check(&self) -> Result<(), FileError> {
        match OpenOptions::new().append(true).open(&self.path) {
            Ok(file) => {
                self.check_file(&file)?;
                let used = self.told(file.metadata())?.len();
                if used >= self.max_bytes { Err(self.no_room(used, 1)) } else { Ok(()) }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.told(create_folder(self.folder()))?;
                let probe = self.beside("probe");
                self.told(OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&probe))?;
                self.told(fs::remove_file(&probe))
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Appends whole lines, all of them or none, and makes sure that they last. Does not wait for the lock.
    ///
    /// # Errors
    /// No room, or the file cannot be written or locked; then none of the lines is in it.
    pub fn append(&self, lines: &[u8]) -> Result<(), FileError> {
        self.told(create_folder(self.folder()))?;
        let file = self.open_locked(Wait::No, true)?;
        self.told(heal(&file))?;
        let used = self.told(file.metadata())?.len();
        let more = lines.len() as u64;
        if used.saturating_add(more) > self.max_bytes {
            return Err(self.no_room(used, more));
        }
        let end = End { file: &file, folder: self.folder(), used };
        write_lasting(&end, lines).map_err(|error| self.failed(error))
    }

    /// The lines that it holds now; none if there is no file. Waits for the lock.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub fn lines(&self) -> Result<Lines, FileError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lines(None)),
            Err(error) => return Err(self.failed(error)),
        };
        // Not while somebody is half way through a line. A file that is replaced meanwhile stays readable as it was.
        self.told(file.lock_shared())?;
        let length = self.told(file.metadata())?.len();
        self.told(file.unlock())?;
        Ok(Lines(Some(BufReader::new(file.take(length)))))
    }

    /// Removes lines (each as often as counted, without its newline), whoever has appended others meanwhile; answers how
    /// many are left. Waits for the lock. Interrupted at any moment, either the old lines are there or the new ones.
    ///
    /// # Errors
    /// The file cannot be read, locked or written; then it is as it was.
    pub fn remove(&self, done: &HashMap<Vec<u8>, usize>) -> Result<usize, FileError> {
        let file = self.open_locked(Wait::Yes, false)?;
        self.told(heal(&file))?;
        self.told(self.replace_without(&file, done))
    }

    fn replace_without(&self, file: &File, done: &HashMap<Vec<u8>, usize>) -> io::Result<usize> {
        // A symbolic link stays one.
        let path = fs::canonicalize(&self.path)?;
        let new_path = LetterFile { path: path.clone(), ..self.clone() }.beside("new");
        let new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new_path)?;
        let (old_meta, new_meta) = (file.metadata()?, new.metadata()?);
        new.set_permissions(Permissions::from_mode(old_meta.mode() & 0o777))?;
        if (old_meta.uid(), old_meta.gid()) != (new_meta.uid(), new_meta.gid()) {
            // Its owner has to be able to go on appending.
            fchown(&new, Some(old_meta.uid()), Some(old_meta.gid()))?;
        }
        let (mut done, mut left) = (done.clone(), 0);
        let mut old = file.try_clone()?;
        old.seek(SeekFrom::Start(0))?;
        let mut lines = Lines(Some(BufReader::new(old.take(old_meta.len()))));
        let mut writer = BufWriter::new(&new);
        while let Some(line) = lines.next_line()? {
            match done.get_mut(&line) {
                Some(times) if *times > 0 => *times -= 1,
                _ => {
                    writer.write_all(&line)?;
                    writer.write_all(b"\n")?;
                    left += 1;
                }
            }
        }
        writer.flush()?;
        drop(writer);
        new.sync_all()?;
        fs::rename(&new_path, &path)?;
        sync_folder(path.parent().unwrap_or(Path::new("/")))?;
        Ok(left)
    }

    /// Opens and locks the file to which the name leads.
    fn open_locked(&self, wait: Wait, create: bool) -> Result<File, FileError> {
        for _ in 0..MOST_REPLACED {
            let file =
                self.told(OpenOptions::new().read(true).append(true).create(create).mode(0o600).open(&self.path))?;
            self.check_file(&file)?;
            match wait {
                Wait::Yes => self.told(file.lock())?,
                Wait::No => match file.try_lock() {
                    Ok(()) => {}
                    Err(TryLockError::WouldBlock) => return Err(self.busy()),
                    Err(TryLockError::Error(error)) => return Err(self.failed(error)),
                },
            }
            let locked = self.told(file.metadata())?;
            // What has lost its name while we waited for the lock is nobody's dead letter any more.
            if fs::metadata(&self.path).is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
                return Ok(file);
            }
        }
        Err(self.busy())
    }

    fn check_file(&self, file: &File) -> Result<(), FileError> {
        let meta = self.told(file.metadata())?;
        if !meta.is_file() {
            return Err(self.failed(io::Error::other("it is not a regular file")));
        }
        let mode = meta.mode() & 0o777;
        if mode & OTHERS != 0 && !self.allow_readable {
            return Err(FileError::Readable { path: self.shown(), mode });
        }
        Ok(())
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// Another file in the same folder.
    fn beside(&self, what: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{what}"))
    }

    fn shown(&self) -> String {
        self.path.to_string_lossy().escape_debug().to_string()
    }

    fn busy(&self) -> FileError {
        FileError::Busy(self.shown())
    }

    fn no_room(&self, used: u64, more: u64) -> FileError {
        FileError::NoRoom { path: self.shown(), used, more, most: self.max_bytes }
    }

    fn failed(&self, error: io::Error) -> FileError {
        let path = self.shown();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                FileError::NoSpace { path, error }
            }
            _ => FileError::Io { path, error },
        }
    }

    fn told<T>(&self, result: io::Result<T>) -> Result<T, FileError> {
        result.map_err(|error| self.failed(error))
    }
}

/// Where lines are appended.
trait Disk {
    fn write(&self, lines: &[u8]) -> io::Result<()>;
    fn sync_file(&self) -> io::Result<()>;
    fn sync_folder(&self) -> io::Result<()>;
    /// Takes back what was written, as far as that is possible.
    fn take_back(&self);
}

/// Comes back without an error only when the lines outlast a crash of the machine.
fn write_lasting(disk: &impl Disk, lines: &[u8]) -> io::Result<()> {
    // The folder each time: who created the file may have ended before it did this.
    let written = disk.write(lines).and_then(|()| disk.sync_file()).and_then(|()| disk.sync_folder());
    if written.is_err() {
        disk.take_back();
    }
    written
}

/// The end of the file.
struct End<'a> {
    file: &'a File,
    folder: &'a Path,
    used: u64,
}

impl Disk for End<'_> {
    fn write(&self, lines: &[u8]) -> io::Result<()> {
        let mut file = self.file;
        file.write_all(lines)
    }

    fn sync_file(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn sync_folder(&self) -> io::Result<()> {
        sync_folder(self.folder)
    }

    fn take_back(&self) {
        // Best effort: what stays is healed, or is a repetition.
        let _ = self.file.set_len(self.used);
    }
}

/// The lines that a dead letter held at one moment.
#[derive(Debug)]
pub struct Lines(Option<BufReader<Take<File>>>);

impl Lines {
    /// The next line, without its newline.
    ///
    /// # Errors
    /// The file cannot be read, or a line is longer than any that was written.
    pub fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(reader) = &mut self.0 else { return Ok(None) };
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(Some(line))
    }
}

/// Ends a last line that a crash has torn: an entry that is whole is kept, anything else was never relied upon.
fn heal(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let Some(last) = length.checked_sub(1) else { return Ok(()) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    if byte == *b"\n" {
        return Ok(());
    }
    let mut at = length;
    let begin = loop {
        let from = at.saturating_sub(BLOCK);
        let mut block = vec![0; (at - from) as usize];
        file.read_exact_at(&mut block, from)?;
        match memchr::memrchr(b'\n', &block) {
            Some(newline) => break from + newline as u64 + 1,
            None if from == 0 => break 0,
            None => at = from,
        }
    };
    let mut torn = Vec::new();
    let mut reader = file.try_clone()?;
    reader.seek(SeekFrom::Start(begin))?;
    reader.take(length - begin).read_to_end(&mut torn)?;
    match Entry::from_line(&torn) {
        Ok(_) => (&mut &*file).write_all(b"\n"),
        Err(_) => file.set_len(begin),
    }
}

/// Creates a folder that is missing, with those above it, so that it lasts.
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.is_dir()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for created in missing {
        match created.parent() {
            Some(above) if !above.as_os_str().is_empty() => sync_folder(above)?,
            _ => sync_folder(Path::new("."))?,
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
