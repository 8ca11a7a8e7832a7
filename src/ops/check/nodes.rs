//! One chunk, one node: whether it can be read, and if not, what is to blame.

use std::sync::Arc;

use super::Check;
use crate::base::{ChunkId, error_chain};
use crate::codec::hash::ChunkKind;
use crate::format::names;
use crate::index::Spoiled;
use crate::ops::Result;
use crate::repo::LoadedNode;

impl Check<'_> {
    /// What is to blame that a chunk cannot be read; nothing if it can, as far as is
    /// known. It is read only where there is doubt. `length` is what it must have.
    pub(super) fn chunk(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        length: Option<u64>,
    ) -> Result<Vec<i64>> {
        if let Some(objects) = self.survey.lost(id)? {
            return Ok(objects);
        }
        let claims = self.survey.chunk(id)?;
        let fits = |found: u64| length.is_none_or(|length| length == found);
        if claims.iter().any(|claim| claim.bad.is_none() && fits(claim.length.into())) {
            return Ok(Vec::new());
        }
        let mut objects: Vec<i64> =
            claims.iter().filter_map(|claim| claim.bad.map(|(object, _)| object)).collect();
        if claims.is_empty() {
            let why = "chunks that snapshots need are in no pack that is claimed: the records that \
                       claim them are missing or damaged";
            objects.push(self.suspect(names::LOG, why)?);
        } else if claims.iter().any(|claim| claim.bad.is_none_or(|(_, doubt)| doubt)) {
            match self.reader.chunk(kind, id) {
                Ok(bytes) if fits(bytes.len() as u64) => objects.clear(),
                Ok(_) => {
                    let why = "it has another length than the file that refers to it says";
                    objects = vec![self.damaged(format!("chunk {id}"), why)?];
                }
                Err(error) if error.is_damage() && objects.is_empty() => {
                    objects = vec![self.damaged(format!("chunk {id}"), error_chain(&error))?];
                }
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error.into()),
            }
        }
        objects.sort_unstable();
        objects.dedup();
        self.survey.set_lost(id, &objects)?;
        Ok(objects)
    }

    /// A node, or what is to blame that it cannot be read.
    pub(super) fn load(
        &self,
        id: &ChunkId,
    ) -> Result<std::result::Result<Arc<LoadedNode>, Vec<i64>>> {
        let error = match self.reader.node(id) {
            Ok(node) => return Ok(Ok(node)),
            Err(error) if error.is_damage() => error,
            Err(error) => return Err(error.into()),
        };
        let known = self.chunk(ChunkKind::Node, id, None)?;
        if !known.is_empty() {
            return Ok(Err(known));
        }
        let object = match self.reader.chunk(ChunkKind::Node, id) {
            Ok(_) => self.damaged(format!("the node in chunk {id}"), error_chain(&error))?,
            Err(error) if error.is_damage() => {
                let index = self.repo.index();
                let place = index.chunk_places(id)?.first().map(|place| place.pack);
                match place.map(|number| index.pack(number)).transpose()?.flatten() {
                    Some(pack) => {
                        let object = self.damaged(names::pack(pack.id), error_chain(&error))?;
                        self.survey.spoil(&pack.id, Spoiled::Doubtful, object)?;
                        index.distrust_pack(&pack.id)?;
                        object
                    }
                    None => self.damaged(format!("chunk {id}"), error_chain(&error))?,
                }
            }
            Err(error) => return Err(error.into()),
        };
        self.survey.set_lost(id, &[object])?;
        Ok(Err(vec![object]))
    }
}
