//! What was in a folder of the target, and what of it the snapshot has, too.

/// Names in a folder, each with whether it was seen in the snapshot. Empty where nobody asks.
#[derive(Debug, Default)]
pub(super) struct SeenNames(Vec<(Box<[u8]>, bool)>);

impl SeenNames {
    /// Nothing of these is seen yet. They are in ascending order.
    pub(super) fn new(names: Vec<Box<[u8]>>) -> Self {
        Self(names.into_iter().map(|name| (name, false)).collect())
    }

    /// The snapshot has this name.
    pub(super) fn mark(&mut self, name: &[u8]) {
        if let Ok(at) = self.0.binary_search_by(|(there, _)| there.as_ref().cmp(name))
            && let Some((_, is_seen)) = self.0.get_mut(at)
        {
            *is_seen = true;
        }
    }

    /// What the snapshot does not have.
    pub(super) fn unseen(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(|(_, is_seen)| !is_seen).map(|(name, _)| name.as_ref())
    }
}
