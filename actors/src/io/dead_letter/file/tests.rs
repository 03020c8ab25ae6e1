use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::wire::dead_letter::{SetAsideLog, Text};

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sls-syslog-letter-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    fn file(&self) -> LetterFile {
        self.limited(1 << 20)
    }

    fn limited(&self, max_bytes: u64) -> LetterFile {
        LetterFile { path: self.0.join("state/dead-letter.jsonl"), max_bytes, allow_readable: false }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn line(place: u64) -> Vec<u8> {
    let text = |text: &str| Text::Utf8(text.to_owned());
    let log = SetAsideLog {
        topic: text(""),
        source: text(""),
        tags: vec![],
        time: 1,
        nanoseconds: None,
        contents: vec![(text("k"), text("v"))],
    };
    let entry = Entry {
        when: "2026-01-02T03:04:05Z".into(),
        project: "p".into(),
        logstore: "l".into(),
        shard: 0,
        cursor: "c".into(),
        place,
        group: 0,
        index: place,
        logs: 9,
        reason: "because".into(),
        log,
    };
    entry.to_line()
}

fn places(file: &LetterFile) -> Vec<u64> {
    let mut lines = file.lines().expect("readable");
    let mut places = Vec::new();
    while let Some(line) = lines.next_line().expect("readable") {
        places.push(Entry::from_line(&line).expect("an entry").place);
    }
    places
}

fn done(places: &[u64]) -> HashMap<Vec<u8>, usize> {
    let mut done = HashMap::new();
    for place in places {
        let mut line = line(*place);
        line.pop();
        *done.entry(line).or_default() += 1;
    }
    done
}

fn mode(file: &LetterFile) -> u32 {
    fs::metadata(file.path()).expect("it exists").mode() & 0o777
}

#[test]
fn the_file_and_its_folder_are_created_for_their_owner_alone_at_the_first_use() {
    let folder = Folder::new();
    let file = folder.file();
    file.check().expect("it could be created");
    assert!(!file.path().exists(), "not before it is used");
    assert_eq!(fs::read_dir(file.folder()).expect("created").count(), 0, "the look leaves nothing behind");
    assert_eq!(places(&file), [] as [u64; 0]);
    file.append(&line(1)).expect("appended");
    file.append(&[line(2), line(3)].concat()).expect("appended");
    assert_eq!(places(&file), [1, 2, 3]);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(fs::metadata(file.folder()).expect("created").mode() & 0o777, 0o700);
    file.check().expect("it can be appended to");
}

#[test]
fn a_file_that_others_can_read_is_refused_unless_that_is_allowed() {
    let folder = Folder::new();
    let mut file = folder.file();
    file.append(&line(1)).expect("appended");
    for wide in [0o640, 0o604, 0o620] {
        fs::set_permissions(file.path(), Permissions::from_mode(wide)).expect("ours");
        for refused in [file.check(), file.append(&line(2)), file.remove(&done(&[1])).map(drop)] {
            assert!(matches!(refused, Err(FileError::Readable { mode, .. }) if mode == wide), "{refused:?}");
        }
    }
    file.allow_readable = true;
    file.append(&line(2)).expect("allowed");
    assert_eq!((places(&file), mode(&file)), (vec![1, 2], 0o620));
}

#[test]
fn a_full_dead_letter_takes_nothing_and_says_what_to_do() {
    let folder = Folder::new();
    let size = line(1).len() as u64;
    let file = folder.limited(2 * size);
    file.append(&line(1)).expect("there is room");
    let refused = file.append(&[line(2), line(3)].concat()).expect_err("too much");
    assert!(
        refused.to_string().contains("dead_letter.max_bytes") && refused.to_string().contains("resend"),
        "{refused}"
    );
    assert_eq!(places(&file), [1], "all of them or none");
    file.append(&line(2)).expect("there is room");
    assert!(matches!(file.check(), Err(FileError::NoRoom { .. })));
    assert_eq!(file.remove(&done(&[1])).expect("removed"), 1);
    file.append(&line(3)).expect("there is room again");
    assert_eq!(places(&file), [2, 3]);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_at_the_start_and_at_each_use() {
    let folder = Folder::new();
    let mut file = folder.file();
    // Root may write everywhere, but not below a file.
    fs::write(folder.0.join("state"), "a file").expect("ours");
    for refused in [file.check(), file.append(&line(1))] {
        let error = refused.expect_err("no folder").to_string();
        assert!(error.contains("state/dead-letter.jsonl"), "{error}");
    }
    file.path = folder.0.clone();
    assert!(file.append(&line(1)).is_err(), "a folder is no file");
}

#[test]
fn a_last_line_that_a_crash_has_torn_is_healed_by_the_next_append() {
    let folder = Folder::new();
    let file = folder.file();
    let whole = line(1);
    for cut in 1..line(2).len() {
        file.append(&whole).expect("appended");
        let torn = OpenOptions::new().append(true).open(file.path()).expect("ours");
        (&torn).write_all(&line(2)[..cut]).expect("written");
        file.append(&line(3)).expect("appended");
        // Without its newline alone it is whole, and kept.
        let expected: &[u64] = if cut == line(2).len() - 1 { &[1, 2, 3] } else { &[1, 3] };
        assert_eq!(places(&file), expected, "cut at {cut}");
        fs::remove_file(file.path()).expect("ours");
    }
}

#[test]
fn a_torn_line_longer_than_a_block_is_healed() {
    let folder = Folder::new();
    let file = folder.file();
    for before in [vec![], line(1)] {
        let torn = [&before[..], &vec![b'x'; 3 * BLOCK as usize]].concat();
        create_folder(file.folder()).expect("ours");
        fs::write(file.path(), torn).expect("ours");
        fs::set_permissions(file.path(), Permissions::from_mode(0o600)).expect("ours");
        file.append(&line(2)).expect("appended");
        assert_eq!(places(&file).last(), Some(&2));
        assert_eq!(places(&file).len(), 1 + usize::from(!before.is_empty()));
    }
}

#[test]
fn who_holds_the_lock_is_not_disturbed() {
    let folder = Folder::new();
    let file = folder.file();
    file.append(&line(1)).expect("appended");
    let other = File::open(file.path()).expect("ours");
    other.lock().expect("free");
    assert!(matches!(file.append(&line(2)), Err(FileError::Busy(_))));
    assert_eq!(fs::read(file.path()).expect("ours"), line(1));
    other.unlock().expect("held");
    file.append(&line(2)).expect("appended");
    assert_eq!(places(&file), [1, 2]);
}

#[test]
fn removing_keeps_what_was_appended_meanwhile_and_what_is_there_twice() {
    let folder = Folder::new();
    let file = folder.file();
    for place in [1, 2, 2, 3] {
        file.append(&line(place)).expect("appended");
    }
    let mut read = file.lines().expect("readable");
    read.next_line().expect("readable");
    file.append(&line(4)).expect("appended");
    assert_eq!(file.remove(&done(&[1, 2])).expect("removed"), 3);
    assert_eq!(places(&file), [2, 3, 4]);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(fs::read_dir(file.folder()).expect("ours").count(), 1, "nothing is left beside it");
    // Who was reading goes on where it was, and does not see what came later.
    let mut seen = 0;
    while read.next_line().expect("still readable").is_some() {
        seen += 1;
    }
    assert_eq!(seen, 3);
}

/// The file may be replaced between opening and locking it: what is written then must not end in the old one.
#[test]
fn nothing_is_appended_to_a_file_that_has_lost_its_name() {
    let folder = Folder::new();
    let file = folder.file();
    file.append(&line(0)).expect("appended");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                file.remove(&HashMap::new()).expect("rewritten");
            }
        });
        for place in 1..=200 {
            while let Err(error) = file.append(&line(place)) {
                assert!(matches!(error, FileError::Busy(_)), "{error}");
                std::thread::yield_now();
            }
        }
    });
    assert_eq!(places(&file), (0..=200).collect::<Vec<u64>>());
}

#[test]
fn a_symbolic_link_stays_one() {
    let folder = Folder::new();
    let file = folder.file();
    file.append(&line(1)).expect("appended");
    let link = LetterFile { path: folder.0.join("link"), ..file.clone() };
    std::os::unix::fs::symlink(file.path(), link.path()).expect("a new link");
    link.append(&line(2)).expect("appended");
    assert_eq!(link.remove(&done(&[1])).expect("removed"), 1);
    assert!(fs::symlink_metadata(link.path()).expect("there").file_type().is_symlink());
    assert_eq!(places(&file), [2]);
}

/// A disk that fails at one step, and notes what is asked of it.
#[derive(Default)]
struct Noted {
    fails_at: Option<&'static str>,
    steps: std::cell::RefCell<Vec<&'static str>>,
}

impl Noted {
    fn step(&self, step: &'static str) -> io::Result<()> {
        self.steps.borrow_mut().push(step);
        if self.fails_at == Some(step) { Err(io::Error::other("as planned")) } else { Ok(()) }
    }
}

impl Disk for Noted {
    fn write(&self, _: &[u8]) -> io::Result<()> {
        self.step("write")
    }

    fn sync_file(&self) -> io::Result<()> {
        self.step("sync the file")
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.step("sync the folder")
    }

    fn take_back(&self) {
        self.steps.borrow_mut().push("take back");
    }
}

/// Whoever is told that lines are kept commits behind them: a disk that has not taken them for good has not kept them.
#[test]
fn lines_count_as_kept_only_once_file_and_folder_are_synced() {
    let steps = ["write", "sync the file", "sync the folder"];
    let disk = Noted::default();
    write_lasting(&disk, b"lines").expect("nothing fails");
    assert_eq!(disk.steps.into_inner(), steps);
    for (done, fails_at) in steps.into_iter().enumerate() {
        let disk = Noted { fails_at: Some(fails_at), ..Noted::default() };
        write_lasting(&disk, b"lines").expect_err("a step fails");
        let expected: Vec<_> = steps[..=done].iter().copied().chain(["take back"]).collect();
        assert_eq!(disk.steps.into_inner(), expected);
    }
}
