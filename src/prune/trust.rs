//! Before a copy goes because there is another one, the pack with the other one is asked itself what it holds.
//!
//! Counts and edges come from index objects. One that lies - authentic, and wrong, because the computer that wrote it was
//! faulty - could say that a chunk lies where it does not. Then the copy that is really there would count as not needed.
//! So for everything that is doomed here and needed elsewhere, the directories of the packs elsewhere are read. That costs
//! one ranged read for each of them, and nothing where nothing is stored twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::prune::look::Look;
use crate::prune::{PackName, PruneError};
use crate::repo::{Repo, RepoError, index_agrees, names};

/// Whether the packs that take the place of what is doomed hold what the index says. `look` takes the doomed packs for
/// absent.
pub fn confirm(repo: &Repo, look: &Look, doomed: &BTreeMap<PackName, u64>) -> Result<(), PruneError> {
    let view = look.index.view().map_err(RepoError::from)?;
    let mut relied_on = BTreeSet::new();
    for (_, id) in doomed.keys() {
        if let Some(number) = view.pack_number(id).map_err(RepoError::from)? {
            relied_on.extend(look.index.packs_used_instead(number).map_err(RepoError::from)?);
        }
    }
    for number in relied_on {
        let Some(row) = view.pack(number).map_err(RepoError::from)? else { continue };
        let described = repo.read_pack_directory(row.kind, row.id)?;
        if index_agrees(&view, &described)? == Some(false) {
            return Err(PruneError::IndexLies { pack: names::pack(row.kind, &row.id).to_string() });
        }
    }
    Ok(())
}
