//! What a repository says in the clear, to somebody without a key. Nothing proves it.

use crate::format::repository_config::RepositoryConfig;
use crate::repo::RepoError;
use crate::repo::names::{self, Named};
use crate::storage::{Storage, StorageError};

/// The newest settings that parse, or the copy of those; `None` if none do.
///
/// [`RepoError::NoRepository`] where there are none at all.
pub fn newest_settings(storage: &dyn Storage) -> Result<Option<RepositoryConfig>, RepoError> {
    let mut numbers = Vec::new();
    for folder in [names::CONFIG.to_owned(), format!("{}/{}", names::COPY, names::CONFIG)] {
        storage.list(&folder, &mut |listed| {
            let name = listed.name.as_str().strip_prefix("copy/").unwrap_or(listed.name.as_str());
            let name = crate::storage::ObjectName::new(name).ok();
            if let Some(Named::Config(number)) = name.and_then(|name| names::parse(&name)) {
                numbers.push(number);
            }
        })?;
    }
    if numbers.is_empty() {
        return Err(RepoError::NoRepository { place: storage.place() });
    }
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers.dedup();
    let names = numbers.into_iter().map(names::config);
    for name in names.flat_map(|name| [name.clone(), names::copy(&name)]) {
        let bytes = match storage.get(&name) {
            Ok(bytes) => bytes,
            Err(StorageError::Missing { .. } | StorageError::Short { .. } | StorageError::Failed { .. }) => {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if let Ok(config) = RepositoryConfig::decode(&bytes) {
            return Ok(Some(config));
        }
    }
    Ok(None)
}
