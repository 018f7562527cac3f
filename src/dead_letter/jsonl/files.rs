//! The files: appending, rotating, reading back.

use super::{JsonlDeadLettersBuilder, json};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The number of digits at the end of the name of a rotated file: no other program makes such names.
const DIGITS: usize = 10;
/// A longer line is not read, in bytes.
const LONGEST: u64 = json::MAX_LENGTH as u64 + 1024;

/// The position of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Location {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// One file. The last one has the plain name and is appended to.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) size: u64,
    /// Bytes of entry lines that are current.
    pub(super) live: u64,
    /// Bytes of removal lines that are current.
    pub(super) gone: u64,
    /// Lines that cannot be read.
    pub(super) unreadable: Vec<Location>,
}

pub(super) struct Files {
    path: PathBuf,
    max_file: u64,
    pub(super) segments: Vec<Segment>,
    /// `None` after an error, until all files are read again.
    active: Option<File>,
    /// Device and inode of the open file.
    identity: Option<(u64, u64)>,
}

/// What an interrupted write has left at the end of a file.
pub(super) enum Tail {
    /// A whole record without its line break.
    Whole,
    /// A part of a line, which was moved to another file.
    Torn,
}

impl Files {
    pub(super) fn new(path: PathBuf, with: &JsonlDeadLettersBuilder) -> Self {
        Self {
            path,
            max_file: with.max_file_bytes,
            segments: Vec::new(),
            active: None,
            identity: None,
        }
    }

    pub(super) fn live(&self) -> u64 {
        self.segments.iter().map(|segment| segment.live).sum()
    }

    pub(super) fn gone(&self) -> u64 {
        self.segments.iter().map(|segment| segment.gone).sum()
    }

    pub(super) fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    pub(super) fn unreadable(&self) -> u64 {
        let lines = self.segments.iter().map(|segment| segment.unreadable.len());
        lines.fold(0, |sum, lines| sum.saturating_add(lines as u64))
    }

    /// Whether the open file is still the one at the path, with the expected length.
    pub(super) fn is_as_left(&self) -> bool {
        let (Some(_), Some(active)) = (&self.active, self.segments.last()) else {
            return false;
        };
        fs::metadata(&self.path).is_ok_and(|there| {
            there.len() == active.size && Some(identity(&there)) == self.identity
        })
    }

    /// Closes the open file and finds all files: the rotated ones, oldest first, and the one to which lines
    /// are appended, which is created if it is missing.
    pub(super) fn find(&mut self) -> io::Result<()> {
        self.active = None;
        self.segments.clear();
        let mut numbers = self.numbers()?;
        numbers.sort_unstable();
        let next = numbers.last().map_or(1, |last| last.saturating_add(1));
        for number in numbers.into_iter().chain([next]) {
            self.segments.push(Segment {
                number,
                size: 0,
                live: 0,
                gone: 0,
                unreadable: Vec::new(),
            });
        }
        self.open_active()
    }

    /// Makes the next operation read all files again.
    pub(super) fn forget(&mut self) {
        self.active = None;
    }

    /// The file for parts of lines.
    pub(super) fn damaged(&self) -> PathBuf {
        beside(&self.path, ".damaged")
    }

    fn open_active(&mut self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let file = private(&mut options).open(&self.path)?;
        self.identity = Some(identity(&file.metadata()?));
        self.sync_folder()?;
        self.active = Some(file);
        Ok(())
    }

    /// The numbers of the rotated files.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let name = self.path.file_name().unwrap_or_default();
        let mut prefix = name.as_encoded_bytes().to_vec();
        prefix.push(b'.');
        let mut numbers = Vec::new();
        for entry in fs::read_dir(folder(&self.path))? {
            let found = entry?.file_name();
            let digits = found.as_encoded_bytes().strip_prefix(&*prefix);
            let digits = digits.filter(|digits| digits.len() == DIGITS);
            let number = digits
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse::<u64>().ok());
            numbers.extend(number);
        }
        Ok(numbers)
    }

    fn path_of(&self, number: u64) -> PathBuf {
        match self.segments.last() {
            Some(active) if active.number == number => self.path.clone(),
            _ => beside(&self.path, &format!(".{number:0DIGITS$}")),
        }
    }

    /// Reads a file line by line, sets its size, and repairs its end.
    pub(super) fn scan(
        &mut self,
        index: usize,
        mut each: impl FnMut(Location, &[u8]),
        is_record: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Option<Tail>> {
        let Some(segment) = self.segments.get(index) else {
            return Ok(None);
        };
        let number = segment.number;
        let path = self.path_of(number);
        let mut reader = BufReader::with_capacity(1 << 16, File::open(&path)?);
        let (mut offset, mut line) = (0_u64, Vec::new());
        loop {
            line.clear();
            let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
            let mut length = read as u64;
            let mut ended = line.ends_with(b"\n");
            if !ended && length == LONGEST {
                // Too long to be read.
                line = b"(too long)".to_vec();
                let rest = reader.skip_until(b'\n')? as u64;
                length += rest;
                let mut last = [0];
                let mut file = File::open(&path)?;
                file.seek(SeekFrom::Start(offset + length - 1))?;
                file.read_exact(&mut last)?;
                ended = last == *b"\n";
            }
            let location = Location {
                segment: number,
                offset,
                length,
            };
            if ended {
                each(location, &line);
                offset += length;
                continue;
            }
            if let Some(segment) = self.segments.get_mut(index) {
                segment.size = offset;
            }
            if length == 0 {
                return Ok(None);
            }
            if is_record(&line) {
                let mut file = OpenOptions::new().append(true).open(&path)?;
                file.write_all(b"\n")?;
                file.sync_data()?;
                let location = Location {
                    length: length + 1,
                    ..location
                };
                each(location, &line);
                if let Some(segment) = self.segments.get_mut(index) {
                    segment.size = offset + length + 1;
                }
                return Ok(Some(Tail::Whole));
            }
            put_aside(&path, offset, &self.damaged())?;
            return Ok(Some(Tail::Torn));
        }
    }

    /// Appends lines and syncs them. Returns the position of the first one. After an error, the file
    /// contains no part of them, or all files are read again before the next operation.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<Location> {
        let grown = |segment: &Segment| segment.size.saturating_add(lines.len() as u64);
        let full = |segment: &Segment| segment.size > 0 && grown(segment) > self.max_file;
        if self.segments.last().is_some_and(full) {
            self.rotate()?;
        }
        let (Some(file), Some(segment)) = (&mut self.active, self.segments.last_mut()) else {
            return Err(ErrorKind::NotFound.into());
        };
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Cuts a partial line off, so that the next one does not follow it.
            let undone = file.set_len(segment.size).and_then(|()| file.sync_data());
            if undone.is_err() {
                self.active = None;
            }
            return Err(error);
        }
        let location = Location {
            segment: segment.number,
            offset: segment.size,
            length: lines.len() as u64,
        };
        segment.size += location.length;
        Ok(location)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let Some(number) = self.segments.last().map(|active| active.number) else {
            return Ok(());
        };
        self.active = None;
        fs::rename(
            &self.path,
            beside(&self.path, &format!(".{number:0DIGITS$}")),
        )?;
        self.segments.push(Segment {
            number: number.saturating_add(1),
            size: 0,
            live: 0,
            gone: 0,
            unreadable: Vec::new(),
        });
        self.open_active()
    }

    pub(super) fn read(&self, at: Location) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path_of(at.segment))?;
        file.seek(SeekFrom::Start(at.offset))?;
        let mut line = Vec::new();
        file.take(at.length).read_to_end(&mut line)?;
        if line.len() as u64 == at.length {
            Ok(line)
        } else {
            Err(ErrorKind::UnexpectedEof.into())
        }
    }

    pub(super) fn lives(&mut self, at: Location) {
        if let Some(segment) = self.segment(at.segment) {
            segment.live = segment.live.saturating_add(at.length);
        }
    }

    pub(super) fn died(&mut self, at: Location) {
        if let Some(segment) = self.segment(at.segment) {
            segment.live = segment.live.saturating_sub(at.length);
        }
    }

    /// Counts a removal line.
    pub(super) fn remembers(&mut self, at: Location) {
        if let Some(segment) = self.segment(at.segment) {
            segment.gone = segment.gone.saturating_add(at.length);
        }
    }

    pub(super) fn forgets(&mut self, at: Location) {
        if let Some(segment) = self.segment(at.segment) {
            segment.gone = segment.gone.saturating_sub(at.length);
        }
    }

    /// Stops counting an unreadable line.
    pub(super) fn is_past(&mut self, at: Location) {
        let Some(segment) = self.segment(at.segment) else {
            return;
        };
        let found = segment.unreadable.iter().position(|known| *known == at);
        if let Some(index) = found {
            segment.unreadable.swap_remove(index);
            segment.live = segment.live.saturating_sub(at.length);
        }
    }

    pub(super) fn cannot_read(&mut self, at: Location) {
        self.lives(at);
        if let Some(segment) = self.segment(at.segment) {
            segment.unreadable.push(at);
        }
    }

    fn segment(&mut self, number: u64) -> Option<&mut Segment> {
        let mut segments = self.segments.iter_mut();
        segments.find(|segment| segment.number == number)
    }

    /// Deletes the oldest rotated file.
    pub(super) fn delete_oldest(&mut self) -> io::Result<()> {
        if self.segments.len() < 2 {
            return Ok(());
        }
        let path = self.path_of(self.segments[0].number);
        fs::remove_file(path)?;
        self.segments.remove(0);
        self.sync_folder()
    }

    /// Makes a new file name durable. If a folder cannot be opened as a file, the system does this itself.
    fn sync_folder(&self) -> io::Result<()> {
        if cfg!(unix) {
            File::open(folder(&self.path))?.sync_all()?;
        }
        Ok(())
    }
}

/// Moves the bytes from `offset` on to the end of another file, as a line.
fn put_aside(path: &Path, offset: u64, aside: &Path) -> io::Result<()> {
    let mut from = OpenOptions::new().read(true).write(true).open(path)?;
    from.seek(SeekFrom::Start(offset))?;
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    let mut to = private(&mut options).open(aside)?;
    io::copy(&mut from, &mut to)?;
    to.write_all(b"\n")?;
    to.sync_all()?;
    // Last: if the process dies before this, the bytes are moved twice, and not lost.
    from.set_len(offset)?;
    from.sync_all()
}

/// Readable by the owner alone: bodies hold what customers wrote.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
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
