//! The file: reading it, appending to it, replacing it by a snapshot.

use super::{json, line::Line};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

/// A longer line is not read, in bytes.
const LONGEST: u64 = json::MAX_LENGTH as u64 + 1024;

pub(super) struct Journal {
    path: PathBuf,
    /// `None` after an error, until all lines are read again.
    file: Option<File>,
    /// Device and inode of the open file.
    identity: (u64, u64),
    pub(super) size: u64,
    /// How many of its bytes are certainly on the disk.
    synced: u64,
    /// Held as long as the file is used.
    _lock: File,
}

/// A file that is to replace the journal.
pub(super) struct Snapshot {
    file: BufWriter<File>,
    size: u64,
}

impl Journal {
    pub(super) const fn new(path: PathBuf, lock: File) -> Self {
        Self {
            path,
            file: None,
            identity: (0, 0),
            size: 0,
            synced: 0,
            _lock: lock,
        }
    }

    /// Whether the open file is still the one at the path, with the expected length.
    pub(super) fn is_as_left(&self) -> bool {
        self.file.is_some()
            && fs::metadata(&self.path)
                .is_ok_and(|there| there.len() == self.size && identity(&there) == self.identity)
    }

    /// The file for parts of lines.
    pub(super) fn damaged(&self) -> PathBuf {
        beside(&self.path, ".damaged")
    }

    fn snapshot(&self) -> PathBuf {
        beside(&self.path, ".snapshot")
    }

    /// Opens the file, which is created if it is missing, and reads its lines. If it ends in the middle of a line, that
    /// part is moved to [`damaged`](Self::damaged). Returns whether it did.
    pub(super) fn read(&mut self, mut each: impl FnMut(Range<u64>, Line)) -> io::Result<bool> {
        self.file = None;
        let mut file = open(&self.path)?;
        // One that was not finished.
        let _ = fs::remove_file(self.snapshot());
        let numbered = self.numbered()?;
        if !numbered.is_empty() {
            file = self.adopt(&numbered)?;
        }
        self.sync_folder()?;
        let size = file.metadata()?.len();
        let mut last = [b'\n'];
        if size > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        file.rewind()?;
        let mut reader = BufReader::with_capacity(1 << 16, &file);
        let (mut begin, mut line, mut torn) = (0, Vec::new(), false);
        loop {
            line.clear();
            let limited = &mut reader.by_ref().take(LONGEST);
            let mut end = begin + limited.read_until(b'\n', &mut line)? as u64;
            if end - begin == LONGEST && !line.ends_with(b"\n") {
                // Too long to be read.
                end += reader.skip_until(b'\n')? as u64;
                line = b"(too long)".to_vec();
            }
            if end == begin {
                break;
            }
            let read = Line::read(&line);
            if end == size && last != *b"\n" {
                if matches!(read, Line::Unreadable) {
                    put_aside(&file, begin, &self.damaged())?;
                    torn = true;
                    break;
                }
                // But for its line break it is there.
                (&file).write_all(b"\n")?;
                file.sync_data()?;
                end += 1;
            }
            if !line.trim_ascii().is_empty() {
                each(begin..end, read);
            }
            begin = end;
        }
        self.identity = identity(&file.metadata()?);
        (self.size, self.synced) = (begin, begin);
        self.file = Some(file);
        Ok(torn)
    }

    /// The files to which an earlier release had renamed full ones, oldest first: ten digits follow the name.
    fn numbered(&self) -> io::Result<Vec<PathBuf>> {
        let mut name = OsString::from(self.path.file_name().unwrap_or_default());
        name.push(".");
        let mut found = Vec::new();
        for entry in fs::read_dir(folder(&self.path))? {
            let entry = entry?.file_name();
            let number = entry
                .as_encoded_bytes()
                .strip_prefix(name.as_encoded_bytes());
            if number.is_some_and(|it| it.len() == 10 && it.iter().all(u8::is_ascii_digit)) {
                found.push(self.path.with_file_name(entry));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Puts the lines of numbered files before those of the file. If the process dies before the last one is deleted,
    /// this happens again: replaying the first lines once more before all of them changes nothing.
    fn adopt(&self, numbered: &[PathBuf]) -> io::Result<File> {
        let mut all = self.begin()?;
        for path in numbered {
            io::copy(&mut File::open(path)?, &mut all.file)?;
            // In case its last line has no end.
            all.file.write_all(b"\n")?;
        }
        io::copy(&mut File::open(&self.path)?, &mut all.file)?;
        let file = all.file.into_inner()?;
        file.sync_all()?;
        fs::rename(self.snapshot(), &self.path)?;
        self.sync_folder()?;
        // Oldest last, so that what is left is the beginning of the file.
        for path in numbered.iter().rev() {
            fs::remove_file(path)?;
        }
        Ok(file)
    }

    /// Appends a line. After an error, the file contains no part of it, or all lines are read again before the next
    /// operation.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(ErrorKind::NotFound.into());
        };
        if let Err(error) = file.write_all(line) {
            // Cuts a partial line off, so that the next one does not follow it.
            if file.set_len(self.size).is_err() {
                self.file = None;
            }
            return Err(error);
        }
        self.size += line.len() as u64;
        Ok(())
    }

    /// The number of bytes that were appended since the last [`sync`](Self::sync).
    pub(super) const fn unsynced(&self) -> u64 {
        self.size - self.synced
    }

    /// Returns when what was appended is on the disk. After an error it may not be in the file, whose lines are read
    /// again before the next operation.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced() == 0 {
            return Ok(());
        }
        let result = match &self.file {
            None => Err(ErrorKind::NotFound.into()),
            Some(file) => file.sync_data().inspect_err(|_| {
                let _ = file.set_len(self.synced);
            }),
        };
        if result.is_ok() {
            self.synced = self.size;
        } else {
            (self.file, self.size) = (None, self.synced);
        }
        result
    }

    /// Begins a snapshot.
    pub(super) fn begin(&self) -> io::Result<Snapshot> {
        let file = open(&self.snapshot())?;
        file.set_len(0)?;
        Ok(Snapshot {
            file: BufWriter::with_capacity(1 << 16, file),
            size: 0,
        })
    }

    /// Copies a line into a snapshot. Returns where it is there.
    pub(super) fn copy(&self, line: &Range<u64>, to: &mut Snapshot) -> io::Result<Range<u64>> {
        let mut from = File::open(&self.path)?;
        from.seek(SeekFrom::Start(line.start))?;
        let begin = to.size;
        to.size += io::copy(&mut from.take(line.end - line.start - 1), &mut to.file)?;
        // As it was when the line was read, whatever is there now.
        to.write(b"\n")?;
        Ok(begin..to.size)
    }

    /// Puts a snapshot, which says all that the file says, in its place. If the process dies meanwhile, or after an
    /// error, one or the other is there.
    pub(super) fn replace(&mut self, by: Snapshot) -> io::Result<()> {
        let file = by.file.into_inner()?;
        file.sync_all()?;
        if !self.is_as_left() {
            return Err(ErrorKind::NotFound.into());
        }
        fs::rename(self.snapshot(), &self.path)?;
        self.file = None;
        self.sync_folder()?;
        self.identity = identity(&file.metadata()?);
        (self.size, self.synced) = (by.size, by.size);
        self.file = Some(file);
        Ok(())
    }

    /// Deletes a snapshot that could not be finished: its room may be needed.
    pub(super) fn abandon(&self) {
        let _ = fs::remove_file(self.snapshot());
    }

    /// Makes file names durable. If a folder cannot be opened as a file, the system does this itself.
    fn sync_folder(&self) -> io::Result<()> {
        if cfg!(unix) {
            File::open(folder(&self.path))?.sync_all()?;
        }
        Ok(())
    }
}

impl Snapshot {
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.size += line.len() as u64;
        self.file.write_all(line)
    }
}

/// Moves the bytes from `offset` on to the end of another file, as a line.
fn put_aside(mut from: &File, offset: u64, aside: &Path) -> io::Result<()> {
    from.seek(SeekFrom::Start(offset))?;
    let mut to = open(aside)?;
    io::copy(&mut from, &mut to)?;
    to.write_all(b"\n")?;
    to.sync_all()?;
    // Last: if the process dies before this, the bytes are moved twice, and not lost.
    from.set_len(offset)?;
    from.sync_all()
}

/// Opens a file to read it and to append to it. It is created for the owner alone: bodies hold what customers wrote.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> (u64, u64) {
    (0, 0)
}
