//! Listing: pages of a thousand names, several ranges of names at once where there are many.
//!
//! The names of a folder are spread evenly over the hexadecimal digits that they begin with. So the first page tells how
//! many more there will be. If they are many, the rest is cut into ranges, and each range is listed by a thread of its
//! own. A range ends at a boundary that belongs to it and begins after one that does not, so that each name is in
//! exactly one range, whatever names there are.

use std::ops::ControlFlow;

use crossbeam_channel::bounded;
use object_store::ObjectMeta;

/// With fewer pages to come one thread is enough.
const PAGE_COUNT_PARALLEL_MIN: usize = 8;
/// Threads that list at the same time.
const RANGE_COUNT_MAX: usize = 16;
/// Pages in memory that nobody has looked at yet.
const PAGES_WAITING_MAX: usize = 4;

/// A part of the names of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Range {
    /// Begins after this name.
    pub after: Option<String>,
    /// Ends with this name, included.
    pub last: Option<String>,
}

/// One answer.
pub(super) struct Page {
    pub objects: Vec<ObjectMeta>,
    /// Where to go on, if there is more.
    pub token: Option<String>,
}

/// Calls `visit` with all pages of a folder. `fetch` asks for one page, after a name or where a token says.
///
/// `prefix` is the beginning of all full names, ending in a slash, or nothing.
pub(super) fn pages<E: Send>(
    prefix: &str,
    fetch: &(impl Fn(Option<&str>, Option<&str>) -> Result<Page, E> + Sync),
    visit: &mut dyn FnMut(Vec<ObjectMeta>),
) -> Result<(), E> {
    let first = fetch(None, None)?;
    let Some(token) = first.token else {
        visit(first.objects);
        return Ok(());
    };
    let last = first.objects.iter().map(|object| object.location.as_ref()).max().map(str::to_owned);
    visit(first.objects);
    let ranges = last.map(|last| ranges_after(prefix, &last)).unwrap_or_default();
    if ranges.len() < 2 {
        return follow(&Range::default(), Some(token), fetch, &mut |objects| {
            visit(objects);
            ControlFlow::Continue(())
        });
    }
    std::thread::scope(|scope| {
        let (pages, arrived) = bounded(PAGES_WAITING_MAX);
        for range in &ranges {
            let pages = pages.clone();
            scope.spawn(move || {
                let outcome = follow(range, None, fetch, &mut |objects| match pages.send(Ok(objects)) {
                    Ok(()) => ControlFlow::Continue(()),
                    // Another range has failed, and nobody listens any more.
                    Err(_) => ControlFlow::Break(()),
                });
                if let Err(error) = outcome {
                    let _ = pages.send(Err(error));
                }
            });
        }
        drop(pages);
        for page in arrived {
            visit(page?);
        }
        Ok(())
    })
}

/// All pages of one range, one after the other.
fn follow<E>(
    range: &Range,
    token: Option<String>,
    fetch: &impl Fn(Option<&str>, Option<&str>) -> Result<Page, E>,
    visit: &mut dyn FnMut(Vec<ObjectMeta>) -> ControlFlow<()>,
) -> Result<(), E> {
    let mut token = token;
    loop {
        let page = fetch(range.after.as_deref(), token.as_deref())?;
        let count = page.objects.len();
        let inside: Vec<_> = page.objects.into_iter().filter(|object| range.reaches(object)).collect();
        let is_past = inside.len() < count;
        if visit(inside).is_break() || is_past || page.token.is_none() {
            return Ok(());
        }
        token = page.token;
    }
}

impl Range {
    fn reaches(&self, object: &ObjectMeta) -> bool {
        self.last.as_deref().is_none_or(|last| object.location.as_ref() <= last)
    }
}

/// What is left after `last`, in so many ranges as are worth it.
fn ranges_after(prefix: &str, last: &str) -> Vec<Range> {
    let digits = last.strip_prefix(prefix).and_then(|rest| rest.get(..2));
    let Some(value) = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok()) else {
        return Vec::new();
    };
    let pages_left = (256 - value) / (value + 1);
    if pages_left < PAGE_COUNT_PARALLEL_MIN {
        return Vec::new();
    }
    let count = (pages_left / 2).min(RANGE_COUNT_MAX);
    let boundaries: Vec<String> =
        (1..count).map(|number| format!("{prefix}{:02x}", value + (256 - value) * number / count)).collect();
    let ends = boundaries.iter().cloned().map(Some).chain([None]);
    let starts = std::iter::once(last.to_owned()).chain(boundaries.iter().cloned());
    starts.zip(ends).map(|(after, last)| Range { after: Some(after), last }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A store that pages as S3 does: by order of names, with a token that is the last name.
    fn listed(names: &BTreeSet<String>, page_len: usize, prefix: &str) -> (Vec<String>, usize) {
        let requests = AtomicUsize::new(0);
        let fetch = |after: Option<&str>, token: Option<&str>| -> Result<Page, ()> {
            requests.fetch_add(1, Ordering::Relaxed);
            let from = token.or(after).unwrap_or("");
            let mut rest = names.iter().filter(|name| name.starts_with(prefix) && name.as_str() > from);
            let objects: Vec<ObjectMeta> = rest.by_ref().take(page_len).map(|name| meta(name)).collect();
            let token = rest.next().and(objects.last()).map(|object| object.location.to_string());
            Ok(Page { objects, token })
        };
        let mut found = Vec::new();
        pages(prefix, &fetch, &mut |objects| {
            found.extend(objects.iter().map(|object| object.location.to_string()));
        })
        .unwrap();
        (found, requests.into_inner())
    }

    fn meta(name: &str) -> ObjectMeta {
        let location = object_store::path::Path::parse(name).unwrap();
        ObjectMeta { location, last_modified: Default::default(), size: 1, e_tag: None, version: None }
    }

    #[test]
    fn every_name_is_listed_exactly_once() {
        let spread = |number: u32| number.wrapping_mul(0x9e37_79b1);
        let mut names: BTreeSet<String> =
            (0..5000).map(|number| format!("r/data/{:02x}/{:08x}", spread(number) >> 24, number)).collect();
        // Boundaries themselves, and names that nobody expects.
        names.extend((0..256).map(|value| format!("r/data/{value:02x}")));
        names.extend(["r/data/zz", "r/data/0", "r/data/ff~", "r/data/5f.x"].map(str::to_owned));
        let wanted: Vec<String> = names.iter().cloned().collect();
        for page_len in [7, 50, 400, 1000, 9000] {
            let (mut found, requests) = listed(&names, page_len, "r/data/");
            found.sort();
            assert_eq!(found, wanted, "pages of {page_len}");
            let fewest = wanted.len().div_ceil(page_len);
            assert!(requests <= fewest + RANGE_COUNT_MAX, "{requests} requests for {fewest} pages");
        }
    }

    #[test]
    fn an_error_in_one_range_is_an_error_of_the_listing() {
        let fetch = |after: Option<&str>, _: Option<&str>| match after {
            None => Ok(Page { objects: vec![meta("data/00/a")], token: Some("more".to_owned()) }),
            Some(after) if after > "data/80" => Err("gone"),
            Some(_) => Ok(Page { objects: Vec::new(), token: None }),
        };
        assert_eq!(pages("data/", &fetch, &mut |_| {}), Err("gone"));
    }

    #[test]
    fn few_names_are_listed_by_one() {
        assert!(ranges_after("data/", "data/80/a").is_empty());
        assert!(ranges_after("data/", "data/zz").is_empty());
        assert_eq!(ranges_after("data/", "data/00/a").len(), 16);
    }
}
