//! `asof manifest`.

use serde_json::json;

use super::look::{each_entry, find};
use crate::cli::args::ManifestArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::show::{Done, count};
use crate::codec::hash::sha256;
use crate::format::node::{Entry, FileKind};
use crate::source::path::shown;

/// Writes a line for each file.
pub fn manifest(context: &Context, args: &ManifestArgs) -> Result<Done, Failure> {
    let (library, selected, _) = find(context, &args.selector)?;
    let mut files = 0_u64;
    each_entry(context, &library, &selected, true, |listed| {
        let entry = listed.found.entry();
        if entry.kind != FileKind::File {
            return Ok(());
        }
        files += 1;
        let hash = hash_of(entry);
        if context.out.is_json() {
            context.out.json(&json!({ "path": shown(&listed.path), "sha256": hash }))?;
        } else {
            context.out.bytes(&line(&hash, &listed.path))?;
        }
        Ok(())
    })?;
    Ok(Done::new(count(files, "file", "files")).field("files", &files))
}

/// Files of no bytes may have none.
fn hash_of(entry: &Entry) -> String {
    match &entry.sha256 {
        Some(hash) => hex::encode(hash.as_slice()),
        None => hex::encode(sha256(b"")),
    }
}

/// A line as `sha256sum` writes it: names with a line's end or a backslash in them are
/// escaped, which a backslash at its beginning says.
fn line(hash: &str, path: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b'\\' => escaped.extend_from_slice(b"\\\\"),
            b'\n' => escaped.extend_from_slice(b"\\n"),
            b'\r' => escaped.extend_from_slice(b"\\r"),
            other => escaped.push(*other),
        }
    }
    let mark: &[u8] = if escaped.len() > path.len() { b"\\" } else { b"" };
    [mark, hash.as_bytes(), b"  ", &escaped, b"\n"].concat()
}
