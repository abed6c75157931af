//! Follows all snapshots down to their chunks. Each node is read once, whatever number of snapshots hold it.
//!
//! Nodes are taken from a stack in batches, ordered by where they lie, so that each frame is opened once for many
//! nodes, and worked on by several threads. The stack holds the siblings of what is being worked on, not whole levels.

use std::collections::HashSet;

use rayon::prelude::*;

use super::findings::{Finding, FindingCode, FindingNumber};
use super::packs::last_cause;
use super::standing::{Loss, Standing};
use super::{CheckError, Look};
use crate::event::Progress;
use crate::format::tree::ChunkRef;
use crate::id::ContentId;
use crate::index::Place;
use crate::index::counts::ReferenceSum;
use crate::repo::names;
use crate::repo::{DamageReason, NodeRef, References, RepoError, TreeReader, references};
use crate::storage::StorageError;

/// Nodes that are worked on together.
const BATCH_COUNT: usize = 1024;

/// A place as one word, exact for the first 16 million packs of an index.
///
/// `None` for others: such a node is simply read again when it is met again.
pub fn place_key(place: Place) -> Option<u64> {
    let pack = u64::from(place.pack.0);
    let fits = pack < 1 << 24 && place.start < 1 << 24;
    fits.then(|| pack << 40 | u64::from(place.frame) << 24 | u64::from(place.start))
}

/// What came of a node.
struct Outcome {
    reference: NodeRef,
    nodes: Vec<NodeRef>,
    chunk_count: u64,
    losses: Vec<(ContentId, Loss)>,
    /// What the node refers to in files, where references are counted.
    references: ReferenceSum,
    /// A chunk for which the node states another length than the pack.
    wrong_len: Option<ContentId>,
    failure: Option<RepoError>,
}

/// Follows all snapshots.
pub fn check(look: &mut Look<'_>) -> Result<(), CheckError> {
    let reader = TreeReader::new(std::sync::Arc::clone(&look.reader));
    let mut pending: Vec<_> =
        look.snapshots.iter().map(|snapshot| NodeRef::Directory(snapshot.root)).collect();
    let mut visited = HashSet::new();
    while !pending.is_empty() {
        look.stop_if_interrupted()?;
        let batch = pending.split_off(pending.len().saturating_sub(BATCH_COUNT));
        let standing = &look.standing;
        let found = batch.into_par_iter().map(|node| Ok((node, standing.find_and_first(&node.content())?)));
        let mut placed = Vec::new();
        for (node, (found, first)) in found.collect::<Result<Vec<_>, RepoError>>()? {
            look.references.as_mut().zip(first).into_iter().for_each(|(sum, first)| sum.add(first));
            match found {
                Ok(place) => {
                    let key = place_key(place);
                    if key.is_none() {
                        // It may be read again, and would then be counted again.
                        look.references = None;
                    }
                    if key.is_none_or(|key| visited.insert(key)) {
                        placed.push((place, node));
                    }
                }
                Err(loss) => drop(lost(look, node.content(), loss, FindingCode::NodeMissing)),
            }
        }
        placed.sort_unstable();
        let standing = &look.standing;
        let frames: Vec<_> =
            placed.chunk_by(|(a, _), (b, _)| (a.pack, a.frame) == (b.pack, b.frame)).collect();
        let is_counting = look.references.is_some();
        let outcomes = frames.into_par_iter().map(|nodes| {
            let read =
                nodes.iter().map(|(place, node)| examine(&reader, standing, *node, *place, is_counting));
            read.collect::<Result<Vec<_>, RepoError>>()
        });
        for outcome in outcomes.collect::<Result<Vec<_>, RepoError>>()?.into_iter().flatten() {
            let Outcome { reference, nodes, chunk_count, losses, references, wrong_len, failure } = outcome;
            look.references.iter_mut().for_each(|sum| sum.merge(references));
            pending.extend(nodes);
            look.report.nodes_checked += 1;
            look.report.chunks_checked += chunk_count;
            for (id, loss) in losses {
                lost(look, id, loss, FindingCode::ChunkMissing);
            }
            if let Some(chunk) = wrong_len {
                let message = format!("the node states another length for chunk {chunk} than its pack");
                let finding = Finding::damage(FindingCode::NodeDamaged, reference.content(), message);
                let finding = look.findings.add(finding);
                look.standing.lose_id(reference.content(), finding);
            }
            if let Some(error) = failure {
                unreadable(look, reference, error)?;
            }
        }
        Progress::add(&look.observer.progress().files_done, placed.len() as u64);
    }
    Ok(())
}

/// Reads a node and looks up what it refers to.
fn examine(
    reader: &TreeReader,
    standing: &Standing,
    reference: NodeRef,
    place: Place,
    is_counting: bool,
) -> Result<Outcome, RepoError> {
    let mut outcome = Outcome {
        reference,
        nodes: Vec::new(),
        chunk_count: 0,
        losses: Vec::new(),
        references: ReferenceSum::default(),
        wrong_len: None,
        failure: None,
    };
    match reader.examine_node(reference, place) {
        Ok(node) => {
            let References { mut nodes, chunks } = references(node);
            // A node that is referred to twice is one reference.
            let mut seen = HashSet::new();
            nodes.retain(|node| seen.insert(*node));
            outcome.nodes = nodes;
            outcome.chunk_count = chunks.len() as u64;
            let mut firsts = Vec::with_capacity(if is_counting { chunks.len() } else { 0 });
            for ChunkRef { id, len } in chunks {
                let (found, first) = standing.find_and_first(&id.content())?;
                if is_counting {
                    firsts.extend(first.map(|first| (id, first)));
                }
                match found {
                    Ok(place) if place.len == len => {}
                    Ok(_) => outcome.wrong_len = Some(id.content()),
                    Err(loss) => outcome.losses.push((id.content(), loss)),
                }
            }
            firsts.sort_unstable();
            firsts.dedup_by_key(|(id, _)| *id);
            firsts.into_iter().for_each(|(_, first)| outcome.references.add(first));
        }
        Err(error) => outcome.failure = Some(error),
    }
    Ok(outcome)
}

/// Something that a snapshot needs has no readable place.
fn lost(look: &mut Look<'_>, id: ContentId, loss: Loss, code: FindingCode) -> FindingNumber {
    match loss {
        Loss::Found(finding) => finding,
        Loss::Nowhere(base) => {
            let is_itself = base == id;
            let code = if is_itself { code } else { FindingCode::ChunkMissing };
            let finding = Finding::damage(code, base, "it is needed, and no pack holds it");
            let finding = look.findings.add(finding);
            // A base may have a copy that lies too deep for this frame, and is good for everybody else.
            if is_itself || matches!(look.standing.find(&base), Ok(Err(_))) {
                look.standing.lose_id(base, finding);
            }
            finding
        }
    }
}

/// A node that has a place could not be read there.
fn unreadable(look: &mut Look<'_>, reference: NodeRef, error: RepoError) -> Result<(), CheckError> {
    let id = reference.content();
    let finding = match error {
        RepoError::DamagedFrame { pack, frame, source } => {
            let name = names::pack(crate::index::PackKind::Meta, &pack);
            let message = format!("frame {frame}: {source}");
            let finding = Finding::damage(FindingCode::FrameDamaged, name, message);
            look.findings.add_part(finding, frame)
        }
        RepoError::Damaged { source, .. } => {
            look.findings.add(Finding::damage(FindingCode::NodeDamaged, id, source.to_string()))
        }
        RepoError::Storage(
            StorageError::Missing { .. } | StorageError::Short { .. } | StorageError::Failed { .. },
        )
        | RepoError::MissingContent { .. } => {
            let reason = DamageReason::Unreadable(last_cause(&error));
            look.findings.add(Finding::damage(FindingCode::NodeDamaged, id, reason.to_string()))
        }
        error => return Err(error.into()),
    };
    look.standing.lose_id(id, finding);
    Ok(())
}
