//! The address map's journal: an append-only file, and the thread that writes it.
//!
//! | bytes | field |
//! | --- | --- |
//! | 8 | the head `TARNADR1`, once |
//! | 2 | LE: bytes of the name |
//! | 4 | LE: slot |
//! | 8 | LE: last answer, seconds since 1970 |
//! | n | the name, UTF-8 |
//! | 8 | the first bytes of the hash of all of the above |
//!
//! Every line is there twice: an append writes it twice in a row, a rewritten file has the
//! whole list twice. Reading takes every line that matches its hash and looks for the next
//! one byte by byte where one does not: a torn tail costs what was never acknowledged, at
//! whatever byte it was torn, and a place that rotted costs nothing, since the other copy of
//! its line is elsewhere. The file is rewritten without its repetitions at start, beside the
//! old one and renamed over it; a damaged one is kept. Appends that arrive together share one
//! `fdatasync`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tarnet_core::crypto::hash;
use tokio::sync::{mpsc, oneshot};

use super::address::{Entry, Slot};
use super::limits::{JOURNAL_QUEUE_LEN, NAME_BYTES_MAX};

/// The head of the file.
const MAGIC: &[u8; 8] = b"TARNADR1";
/// Bytes of a line before its name.
const LINE_HEAD: usize = 14;
/// Bytes of a line's hash.
const LINE_HASH: usize = 8;
/// Bytes of a journal that are read at most: every slot of a /15, many times over.
const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes at which a line is looked for in vain before the rest is given up: more than a broken
/// disk's block, less than what would delay a start.
const SEARCH_BYTES_MAX: usize = 1024 * 1024;

/// Appends one line.
fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let start = out.len();
    // Names are bounded by NAME_BYTES_MAX before they get here.
    let length = u16::try_from(entry.name.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&entry.slot.0.to_le_bytes());
    out.extend_from_slice(&entry.answered_s.to_le_bytes());
    out.extend_from_slice(entry.name.as_bytes());
    let sum = hash(&out[start..]);
    out.extend_from_slice(&sum[..LINE_HASH]);
}

/// The file's content for a list of entries.
#[must_use]
pub fn encode_all(entries: &[Entry]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for _ in 0..2 {
        entries.iter().for_each(|entry| encode(entry, &mut out));
    }
    out
}

/// What one append writes: each line twice in a row, so that whichever copy is lost, the order
/// of different lines stays.
#[must_use]
pub fn encode_append<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        encode(entry, &mut out);
        encode(entry, &mut out);
    }
    out
}

/// Reads one line and the rest; `None` at the first that is torn.
fn decode_line(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (head, _) = bytes.split_first_chunk::<LINE_HEAD>()?;
    let length = usize::from(u16::from_le_bytes([head[0], head[1]]));
    if length > NAME_BYTES_MAX {
        return None;
    }
    let (line, rest) = bytes.split_at_checked(LINE_HEAD + length)?;
    let (sum, rest) = rest.split_at_checked(LINE_HASH)?;
    if hash(line)[..LINE_HASH] != *sum {
        return None;
    }
    let slot = Slot(u32::from_le_bytes([head[2], head[3], head[4], head[5]]));
    let answered_s = u64::from_le_bytes(head[6..LINE_HEAD].try_into().ok()?);
    let name = std::str::from_utf8(&line[LINE_HEAD..]).ok()?.into();
    Some((Entry { slot, answered_s, name }, rest))
}

/// What a journal's bytes hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Every whole line, in order, with its repetitions.
    pub entries: Vec<Entry>,
    /// Bytes that belong to no line.
    pub damaged: usize,
}

/// Reads a file's content.
#[must_use]
pub fn decode_all(bytes: &[u8]) -> Decoded {
    let mut rest = bytes.strip_prefix(MAGIC).unwrap_or(bytes);
    let mut decoded = Decoded::default();
    while !rest.is_empty() && decoded.damaged < SEARCH_BYTES_MAX {
        match decode_line(rest) {
            Some((entry, after)) => {
                decoded.entries.push(entry);
                rest = after;
            }
            None => {
                decoded.damaged += 1;
                rest = &rest[1..];
            }
        }
    }
    decoded
}

/// Reads a journal; a missing file is an empty one.
///
/// # Errors
/// The file cannot be read.
pub fn load(path: &Path) -> std::io::Result<Decoded> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(decode_all(&bytes))
}

/// Writes `bytes` to `path` so that a power cut leaves the old content or the new.
///
/// # Errors
/// The folder cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// An append and where its outcome goes; without entries it only waits for those before it.
struct Append {
    entries: Vec<Entry>,
    done: oneshot::Sender<bool>,
}

/// The way to the thread that writes the journal. When the last is dropped, the thread ends.
#[derive(Clone)]
pub struct Journal {
    appends: mpsc::Sender<Append>,
}

impl Journal {
    /// Rewrites the file as `entries` and opens it for appends, on a thread of its own.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn start(path: PathBuf, entries: &[Entry]) -> std::io::Result<Self> {
        replace(&path, &encode_all(entries))?;
        let mut file = OpenOptions::new().write(true).open(&path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let (appends, queue) = mpsc::channel(JOURNAL_QUEUE_LEN);
        std::thread::Builder::new().name("tun-journal".into()).spawn(move || write(&mut file, length, queue))?;
        Ok(Self { appends })
    }

    /// Appends without waiting. False when the queue is full: then nothing is written.
    #[must_use]
    pub fn note(&self, entry: Entry) -> bool {
        let (done, _) = oneshot::channel();
        self.appends.try_send(Append { entries: vec![entry], done }).is_ok()
    }

    /// Whether `entries`, and all that was appended before, have reached the disk. Not cancel-safe
    /// in one respect: a dropped call may still write.
    pub async fn append(&self, entries: Vec<Entry>) -> bool {
        let (done, outcome) = oneshot::channel();
        self.appends.send(Append { entries, done }).await.is_ok() && outcome.await.unwrap_or(false)
    }
}

/// Writes appends until nobody can send more. `length` is the file's good length: a write
/// that failed half-way is cut off before the next.
fn write(file: &mut File, mut length: u64, mut queue: mpsc::Receiver<Append>) {
    let mut waiting = Vec::new();
    while queue.blocking_recv_many(&mut waiting, JOURNAL_QUEUE_LEN) > 0 {
        let bytes = encode_append(waiting.iter().flat_map(|append| &append.entries));
        let written = bytes.is_empty() || append(file, length, &bytes).is_ok();
        if written {
            length += u64::try_from(bytes.len()).unwrap_or(0);
        }
        for append in waiting.drain(..) {
            // The asker may be gone.
            let _ = append.done.send(written);
        }
    }
}

/// Writes at the good end and waits for the disk; on failure the file is as before.
fn append(file: &mut File, length: u64, bytes: &[u8]) -> std::io::Result<()> {
    let outcome =
        file.seek(SeekFrom::Start(length)).and_then(|_| file.write_all(bytes)).and_then(|()| file.sync_data());
    if outcome.is_err() {
        // A torn tail is ignored by the reader anyway; this keeps it from hiding later lines.
        let _ = file.set_len(length);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(slot: u32, name: &str) -> Entry {
        Entry { slot: Slot(slot), answered_s: 7, name: name.into() }
    }

    #[test]
    fn a_journal_torn_at_any_byte_keeps_every_whole_line_before_it() {
        let entries = [entry(3, "alice"), entry(4, "blog.alice"), entry(70_000, "blög.bob")];
        let bytes = [MAGIC.to_vec(), encode_append(&entries)].concat();
        let written: Vec<Entry> = entries.iter().flat_map(|entry| [entry.clone(), entry.clone()]).collect();
        assert_eq!(decode_all(&bytes), Decoded { entries: written.clone(), damaged: 0 });
        let mut ends = vec![MAGIC.len()];
        for entry in &written {
            let mut line = Vec::new();
            encode(entry, &mut line);
            ends.push(ends[ends.len() - 1] + line.len());
        }
        for cut in MAGIC.len()..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            assert_eq!(decode_all(&bytes[..cut]).entries, written[..whole], "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_costs_one_copy_of_one_line_and_never_gives_another_entry() {
        let entries = [entry(3, "alice"), entry(4, "bob")];
        for bytes in [encode_all(&entries), [MAGIC.to_vec(), encode_append(&entries)].concat()] {
            let whole = decode_all(&bytes).entries;
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let read = decode_all(&bad);
                assert!(read.damaged > 0, "bit {bit}");
                assert!(read.entries.len() + 1 >= whole.len(), "bit {bit}");
                assert!(entries.iter().all(|entry| read.entries.contains(entry)), "bit {bit}");
                assert!(read.entries.iter().all(|entry| entries.contains(entry)), "bit {bit}");
            }
        }
    }

    #[test]
    fn rubbish_is_given_up_in_the_end() {
        let bytes = [vec![0; SEARCH_BYTES_MAX + 9], encode_append(&[entry(3, "alice")])].concat();
        assert_eq!(decode_all(&bytes), Decoded { entries: Vec::new(), damaged: SEARCH_BYTES_MAX });
    }

    #[tokio::test]
    async fn appends_survive_in_the_file_and_start_compacts_it() {
        let folder = std::env::temp_dir().join(format!("tarnet-journal-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("names.journal");
        let _ = std::fs::remove_file(&path);
        let journal = Journal::start(path.clone(), &[]).unwrap();
        let (first, second) =
            tokio::join!(journal.append(vec![entry(3, "alice")]), journal.append(vec![entry(3, "alice")]));
        assert!(first && second && journal.append(Vec::new()).await);
        assert_eq!(load(&path).unwrap().entries, vec![entry(3, "alice"); 4]);
        let again = Journal::start(path.clone(), &[entry(3, "alice")]).unwrap();
        assert!(again.append(vec![entry(4, "bob")]).await);
        let both = |slot, name| vec![entry(slot, name); 2];
        assert_eq!(load(&path).unwrap().entries, [both(3, "alice"), both(4, "bob")].concat());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
