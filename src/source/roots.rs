//! What a backup was asked to store, as one tree of wanted names.
//!
//! Roots may repeat, contain each other, be files, or be a hundred thousand lines
//! of a list. They are folded into a tree of names in which some nodes are
//! *whole*: everything below is wanted. The walk follows this tree from its top and
//! leaves it wherever a whole directory begins.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::source::Error;
use crate::source::meta::{FileKind, Meta, stat_fd};
use crate::source::path::{absolute, names, open};

/// The number of a node of [`Roots`].
pub(crate) type Node = usize;

/// What the roots have in common, and so what the tree of a backup looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One directory, whose contents are the tree.
    Directory,
    /// One file, alone in a tree that is otherwise made up.
    File,
    /// Several roots, each under its absolute path.
    Several,
}

/// The roots of a backup, checked to exist.
#[derive(Debug)]
pub struct Roots {
    pub(crate) shape: Shape,
    /// Where the walk starts: a root, the directory of a root, or `/`.
    pub(crate) top: Vec<u8>,
    /// The stat of the single root, when it is a file.
    pub(crate) file: Option<Meta>,
    nodes: Vec<Wanted>,
    paths: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Wanted {
    whole: bool,
    children: BTreeMap<Box<[u8]>, Node>,
}

impl Roots {
    /// Folds paths into the tree of what is wanted.
    ///
    /// One directory gives a tree that begins with that directory. One file gives a
    /// tree that holds the file under its own name. Several roots give a tree that
    /// begins at `/`, in which each root stands under its absolute path, the
    /// directories between have their real attributes, and nothing else is there.
    ///
    /// A root that is a symlink to a directory stands for the directory, as it does
    /// with `rsync LINK/`; the tree calls it by the link's name. A symlink to
    /// anything else, or to nothing, is stored as a symlink, and so is every symlink
    /// that is found below a root.
    ///
    /// # Errors
    ///
    /// [`Error::Root`] for the first root that does not exist or cannot be looked
    /// at, and [`Error::NoRoots`] if there are none.
    pub fn new(paths: &[PathBuf]) -> Result<Roots, Error> {
        let mut roots: Vec<(Vec<u8>, Meta)> = Vec::with_capacity(paths.len());
        for path in paths {
            let refused = |source| Error::Root { path: path.clone(), source };
            let at = absolute(path).map_err(refused)?;
            let meta = look(&at).map_err(refused)?;
            roots.push((at, meta));
        }
        roots.sort_by(|a, b| a.0.cmp(&b.0));
        roots.dedup_by(|a, b| a.0 == b.0);
        let (shape, top, file) = match &roots[..] {
            [] => return Err(Error::NoRoots),
            [(path, meta)] if meta.kind == FileKind::Dir => (Shape::Directory, path.clone(), None),
            [(path, meta)] => (Shape::File, parent(path).to_vec(), Some(*meta)),
            _ => (Shape::Several, b"/".to_vec(), None),
        };
        let paths = roots.into_iter().map(|(path, _)| path).collect();
        let mut tree = Roots { shape, top, file, nodes: vec![Wanted::default()], paths };
        for i in 0..tree.paths.len() {
            tree.want(i);
        }
        Ok(tree)
    }

    /// The absolute paths, sorted, each once.
    #[must_use]
    pub fn paths(&self) -> &[Vec<u8>] {
        &self.paths
    }

    fn want(&mut self, root: usize) {
        let below = &self.paths[root][self.top.len()..];
        let mut node = 0;
        for name in names(below) {
            let next = self.nodes.len();
            let child = *self.nodes[node].children.entry(name.into()).or_insert(next);
            if child == next {
                self.nodes.push(Wanted::default());
            }
            node = child;
        }
        self.nodes[node].whole = true;
    }

    /// Whether everything below a node is wanted.
    pub(crate) fn is_whole(&self, node: Node) -> bool {
        self.nodes[node].whole
    }

    /// Whether something below a node is wanted by name.
    pub(crate) fn has_children(&self, node: Node) -> bool {
        !self.nodes[node].children.is_empty()
    }

    /// The node of a name below a node.
    pub(crate) fn child(&self, node: Node, name: &[u8]) -> Option<Node> {
        self.nodes[node].children.get(name).copied()
    }

    /// The names that are wanted below a node, in byte order.
    pub(crate) fn children(&self, node: Node) -> impl Iterator<Item = &[u8]> {
        self.nodes[node].children.keys().map(|name| &**name)
    }
}

/// Stats a root, and what it points to if that is a directory.
fn look(path: &[u8]) -> std::io::Result<Meta> {
    let meta = stat_fd(open(path, OFlags::PATH | OFlags::NOFOLLOW)?.as_fd())?;
    if meta.kind == FileKind::Symlink
        && let Ok(fd) = open(path, OFlags::PATH)
    {
        let target = stat_fd(fd.as_fd())?;
        if target.kind == FileKind::Dir {
            return Ok(target);
        }
    }
    Ok(meta)
}

fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) | None => b"/",
        Some(slash) => &path[..slash],
    }
}

/// Reads a list of paths: `-` is standard input.
///
/// Paths end with a newline, or with a NUL if the list has any, as `find -print0`
/// writes it. A path is taken as it stands: no remarks, no patterns, no trimming.
///
/// # Errors
///
/// [`Error::List`] if the list cannot be read.
pub fn read_list(list: &Path) -> Result<Vec<PathBuf>, Error> {
    let refused = |source| Error::List { path: list.to_owned(), source };
    let mut bytes = Vec::new();
    if list.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(refused)?;
    } else {
        bytes = std::fs::read(list).map_err(refused)?;
    }
    Ok(split_list(&bytes))
}

fn split_list(bytes: &[u8]) -> Vec<PathBuf> {
    let end = if bytes.contains(&0) { 0 } else { b'\n' };
    let lines = bytes.split(|b| *b == end).filter(|line| !line.is_empty());
    lines.map(|line| PathBuf::from(std::ffi::OsString::from_vec(line.to_vec()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_its_paths_with_newlines_unless_it_has_nuls() {
        assert_eq!(split_list(b"a b\n\n#c\n"), [Path::new("a b"), Path::new("#c")]);
        assert_eq!(split_list(b"a\nb\0c\0"), [Path::new("a\nb"), Path::new("c")]);
        assert!(split_list(b"").is_empty());
    }

    #[test]
    fn a_missing_root_is_named_and_no_roots_are_refused() {
        let text = Roots::new(&["/usr".into(), "/no/such".into()]).unwrap_err().to_string();
        assert!(text.contains("/no/such"), "{text}");
        assert!(matches!(Roots::new(&[]), Err(Error::NoRoots)));
    }

    #[test]
    fn roots_that_repeat_or_spell_one_path_differently_fold_into_one() {
        let roots = Roots::new(&["/usr".into(), "/usr/".into(), "//usr/.".into()]).unwrap();
        assert_eq!(roots.shape, Shape::Directory);
        assert_eq!(roots.paths(), [b"/usr".to_vec()]);
    }
}
