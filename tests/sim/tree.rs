//! Sources: small trees whose contents come from few pieces, so that what one party
//! stores is often what another stores too, and what was forgotten comes back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::rng::Rng;

/// How many different pieces there are.
const PIECES: usize = 14;

/// What a snapshot holds: path → bytes.
pub type Content = BTreeMap<String, Vec<u8>>;

/// A source on disk.
pub struct Tree {
    pub path: PathBuf,
    /// The pieces of each file.
    files: BTreeMap<String, Vec<usize>>,
}

impl Tree {
    pub fn new(path: &Path, rng: &mut Rng) -> Tree {
        fs::create_dir_all(path).unwrap();
        let mut tree = Tree { path: path.to_owned(), files: BTreeMap::new() };
        for _ in 0..3 {
            tree.change(rng);
        }
        tree.set_times();
        tree
    }

    pub fn content(&self) -> Arc<Content> {
        let content = |pieces: &Vec<usize>| pieces.iter().flat_map(|n| piece(*n)).collect();
        Arc::new(self.files.iter().map(|(path, pieces)| (path.clone(), content(pieces))).collect())
    }

    /// Changes the tree a little.
    pub fn change(&mut self, rng: &mut Rng) {
        for _ in 0..=rng.below(2) {
            let path = format!("{}/{}", rng.pick(&["a", "b", "c/d"]), rng.pick(&["x", "y", "z"]));
            match rng.below(8) {
                0 | 1 => {
                    self.files.remove(&path);
                    let _ = fs::remove_file(self.path.join(&path));
                }
                2 => self.clear(),
                _ => {
                    let count = 1 + rng.below(2);
                    let pieces = (0..count).map(|_| rng.below(PIECES)).collect();
                    self.write(&path, pieces);
                }
            }
        }
        if self.files.is_empty() {
            self.write("a/x", vec![rng.below(PIECES)]);
        }
        self.set_times();
    }

    /// Makes the tree hold one file, of that piece.
    pub fn become_piece(&mut self, n: usize) {
        self.clear();
        self.write("a/x", vec![n]);
        self.set_times();
    }

    /// Adds a file of that piece.
    pub fn gain_piece(&mut self, n: usize) {
        self.write("b/x", vec![n]);
        self.set_times();
    }

    fn clear(&mut self) {
        for path in std::mem::take(&mut self.files).into_keys() {
            fs::remove_file(self.path.join(path)).unwrap();
        }
    }

    fn write(&mut self, path: &str, pieces: Vec<usize>) {
        let file = self.path.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, pieces.iter().flat_map(|n| piece(*n)).collect::<Vec<_>>()).unwrap();
        self.files.insert(path.to_owned(), pieces);
    }

    /// Times follow from content: what is equal looks equal, what changed looks changed.
    fn set_times(&self) {
        for (path, pieces) in &self.files {
            set_time(&self.path.join(path), pieces.iter().fold(7, |sum, n| sum * 31 + *n as u64));
        }
        for dir in ["c/d", "c", "b", "a", ""] {
            let path = self.path.join(dir);
            if path.exists() {
                let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
                let below = self.files.iter().filter(|(path, _)| path.starts_with(&prefix));
                let names = below.flat_map(|(path, pieces)| {
                    path[prefix.len()..]
                        .bytes()
                        .map(u64::from)
                        .chain(pieces.iter().map(|n| *n as u64))
                });
                set_time(&path, names.fold(5, |sum, n| (sum * 131 + n) % 99_999_989));
            }
        }
    }
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// Bytes of a file: too many to stand in its entry, and enough for several chunks.
fn piece(n: usize) -> Vec<u8> {
    let mut rng = Rng::new(1000 + n as u64);
    (0..600 + 40 * n).map(|_| rng.next() as u8).collect()
}
