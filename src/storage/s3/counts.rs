//! What calls cost: stores charge by the request.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::storage::RequestCounts;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestKind {
    Put,
    Get,
    Head,
    List,
    Delete,
    /// Credentials and the like, which nobody charges for.
    Other,
}

/// Counts of one storage since it was opened.
#[derive(Debug, Default)]
pub(super) struct Counters {
    puts: AtomicU64,
    gets: AtomicU64,
    heads: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    repeated: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

impl Counters {
    /// A request begins.
    pub(super) fn begin(&self, kind: RequestKind) {
        let counter = match kind {
            RequestKind::Put => &self.puts,
            RequestKind::Get => &self.gets,
            RequestKind::Head => &self.heads,
            RequestKind::List => &self.lists,
            RequestKind::Delete => &self.deletes,
            RequestKind::Other => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The request that comes next was made before.
    pub(super) fn repeat(&self) {
        self.repeated.fetch_add(1, Ordering::Relaxed);
    }

    /// So many bytes of a body left.
    pub(super) fn sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes of a body arrived.
    pub(super) fn received(&self, bytes: usize) {
        self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The counts as they are now.
    pub(super) fn read(&self) -> RequestCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            puts: of(&self.puts),
            gets: of(&self.gets),
            heads: of(&self.heads),
            lists: of(&self.lists),
            deletes: of(&self.deletes),
            repeated: of(&self.repeated),
            bytes_sent: of(&self.bytes_sent),
            bytes_received: of(&self.bytes_received),
        }
    }
}
