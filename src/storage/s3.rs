//! Objects in a bucket of S3, or of what speaks like it.
//!
//! The contract of [`Storage`] rests on these requests:
//!
//! - **create** is a PUT on the condition that there is no object of this name (`If-None-Match: *`); 412 means that there
//!   is one. It is one request also for the largest pack, so an object is there as a whole or not at all. The signature
//!   covers the SHA-256 of the bytes, so that the store refuses what was changed on the way.
//! - A PUT without an answer may have been carried out. It is repeated, and if the name is then taken, it is read back:
//!   equal bytes are our own.
//! - **get**, **list** and **delete** are repeated as often as [`Patience`] allows.
//!
//! A store that does not know the condition and says so is asked for the name before each PUT. Two writers could then both
//! get a name, so [`Storage::creates_exclusively`] is no longer true, and a prune demands `--exclusive`. A store that
//! silently ignores the condition is found out by the probe of `init` and of each prune.
//!
//! Everything asynchronous stays in here: one small runtime of the process moves bytes, and callers wait for it.

mod counts;
mod line;
mod listing;
mod patience;
mod throttle;
mod trouble;

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as Location;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig,
};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

pub use patience::Patience;
pub use trouble::S3Error;

use crate::clock::Timestamp;
use crate::storage::s3::counts::Counters;
use crate::storage::s3::line::{Connector, Line, LineOptions};
use crate::storage::s3::listing::Page;
use crate::storage::s3::patience::Attempts;
use crate::storage::s3::trouble::{Found, Trouble, Verdict};
use crate::storage::{
    Action, Created, HeldState, Hold, Listed, MappedObject, ObjectName, RequestCounts, Storage, StorageError,
};
use crate::units::ByteRange;

/// Threads that move bytes for all storages of this process.
const RUNTIME_THREAD_COUNT: usize = 2;

/// Where a bucket is, and how it is reached.
#[derive(Clone)]
pub struct S3Options {
    /// Name of the bucket. It must exist.
    pub bucket: String,
    /// Folders inside it, without slashes at the ends; may be empty.
    pub prefix: String,
    /// Region of the bucket.
    pub region: String,
    /// Address of the store, such as `https://s3.example.org`; Amazon's without it. One with `http://` is taken as
    /// consent to send everything in the clear.
    pub endpoint: Option<String>,
    /// The bucket is a part of the host name instead of the path.
    pub virtual_host: bool,
    /// What proves who we are.
    pub credentials: S3Credentials,
    /// Certificates in PEM to trust instead of those of the system.
    pub ca_bundle: Option<Vec<u8>>,
    /// Bytes a second that may leave, or no limit.
    pub upload_limit: Option<u64>,
    /// Bytes a second that may arrive, or no limit.
    pub download_limit: Option<u64>,
    /// How much of a bad line is borne.
    pub patience: Patience,
}

/// What proves to a store who we are.
#[derive(Clone)]
pub enum S3Credentials {
    /// A key.
    Key {
        /// Its name.
        id: String,
        /// The secret.
        secret: Zeroizing<String>,
        /// Of a session, if it is one.
        token: Option<Zeroizing<String>>,
    },
    /// The role of the machine or container that this runs on. Holds the variables that lead there, by their names.
    Role(Vec<(String, String)>),
}

/// See the module.
pub struct S3Storage {
    runtime: &'static Runtime,
    store: AmazonS3,
    bucket: String,
    /// The beginning of all keys: nothing, or ending in a slash.
    root: String,
    host: String,
    patience: Patience,
    counters: Arc<Counters>,
    has_contact: AtomicBool,
    is_condition_unknown: AtomicBool,
}

/// Why a call did not succeed: the last failure, and how it came to it.
struct GivenUp {
    failure: Found,
    attempts: u32,
    is_open: bool,
}

impl S3Storage {
    /// Gets ready to use a bucket. Nothing is sent yet.
    ///
    /// # Errors
    /// [`StorageError::Failed`] if something in the options makes no sense.
    pub fn new(options: &S3Options) -> Result<Self, StorageError> {
        let refuse = |source: io::Error| StorageError::Failed {
            action: Action::Open,
            what: place_of(&options.bucket, &options.prefix),
            source,
        };
        let counters = Arc::new(Counters::default());
        let line_options = LineOptions {
            upload: options.upload_limit,
            download: options.download_limit,
            stall: options.patience.stall,
            ca_bundle: options.ca_bundle.clone(),
        };
        let line = Line::new(&line_options, Arc::clone(&counters))
            .map_err(|error| refuse(io::Error::other(error)))?;
        let store = build(options, line).map_err(|error| refuse(io::Error::other(error)))?;
        let root = if options.prefix.is_empty() { String::new() } else { format!("{}/", options.prefix) };
        Ok(Self {
            runtime: runtime().map_err(refuse)?,
            store,
            bucket: options.bucket.clone(),
            root,
            host: host_of(options),
            patience: options.patience.clone(),
            counters,
            has_contact: AtomicBool::new(false),
            is_condition_unknown: AtomicBool::new(false),
        })
    }

    fn location(&self, name: &ObjectName) -> Location {
        Location::from(format!("{}{name}", self.root))
    }

    /// Makes a request until it succeeds, cannot succeed, or patience ends.
    fn persist<T, F>(&self, request: impl Fn() -> F) -> Result<T, GivenUp>
    where
        F: Future<Output = Result<T, Found>>,
    {
        let mut attempts = Attempts::new(&self.patience);
        self.runtime.block_on(async {
            loop {
                let failure = match request().await {
                    Ok(value) => {
                        self.has_contact.store(true, Ordering::Relaxed);
                        return Ok(value);
                    }
                    Err(failure) => failure,
                };
                if !failure.is_unreachable() {
                    self.has_contact.store(true, Ordering::Relaxed);
                }
                match attempts.after(&failure, self.has_contact.load(Ordering::Relaxed)) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => {
                        return Err(GivenUp { failure, attempts: attempts.count, is_open: attempts.is_open });
                    }
                }
                self.counters.repeat();
            }
        })
    }

    fn put(&self, name: &ObjectName, bytes: &Bytes, mode: &PutMode) -> Result<(), GivenUp> {
        let location = self.location(name);
        self.persist(|| async {
            let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
            let payload = PutPayload::from(bytes.clone());
            self.store.put_opts(&location, payload, options).await.map(drop).map_err(Found::new)
        })
    }

    fn head(&self, name: &ObjectName) -> Result<ObjectMeta, GivenUp> {
        let location = self.location(name);
        self.persist(|| async { self.store.head(&location).await.map_err(Found::new) })
    }

    fn fetch(&self, name: &ObjectName, range: Option<std::ops::Range<u64>>) -> Result<Bytes, GivenUp> {
        let location = self.location(name);
        self.persist(|| async {
            let options = GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
            let answer = self.store.get_opts(&location, options).await.map_err(Found::new)?;
            let (stated, size) = (answer.range.clone(), answer.meta.size);
            let bytes = answer.bytes().await.map_err(Found::new)?;
            // The library asks for the part that exists; whether that is all of it is for the caller.
            if bytes.len() as u64 == stated.end - stated.start {
                return Ok(bytes);
            }
            let text = format!("{} bytes of {size} came, not {stated:?}", bytes.len());
            Err(Found::Nonsense(Trouble::Nonsense(text)))
        })
    }

    /// For a store that knows no condition: asks first.
    fn put_after_asking(&self, name: &ObjectName, bytes: &Bytes) -> Result<Created, StorageError> {
        match self.head(name) {
            Ok(_) => return Ok(Created::Exists),
            Err(given_up) if given_up.is(Verdict::Missing) => {}
            Err(given_up) => return Err(self.failed(Action::Create, name, given_up)),
        }
        self.put(name, bytes, &PutMode::Overwrite)
            .map(|()| Created::Created)
            .map_err(|given_up| self.failed(Action::Create, name, given_up))
    }

    fn page(&self, prefix: &str, after: Option<&str>, token: Option<&str>) -> Result<Page, GivenUp> {
        self.persist(|| async {
            let options = PaginatedListOptions {
                offset: after.map(str::to_owned),
                page_token: token.map(str::to_owned),
                ..PaginatedListOptions::default()
            };
            let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
            let page = self.store.list_paginated(prefix, options).await.map_err(Found::new)?;
            Ok(Page { objects: page.result.objects, token: page.page_token })
        })
    }

    /// What a listing says of one object; nothing for what is no object of a repository.
    fn listed(&self, object: &ObjectMeta) -> Option<Listed> {
        let name = ObjectName::new(object.location.as_ref().strip_prefix(&self.root)?).ok()?;
        let stored_at = Timestamp {
            seconds: object.last_modified.timestamp(),
            nanoseconds: object.last_modified.timestamp_subsec_nanos().min(999_999_999),
        };
        Some(Listed { name, len: object.size, stored_at })
    }

    fn error(&self, given_up: GivenUp) -> io::Error {
        S3Error::new(&self.bucket, &self.host, given_up.attempts, given_up.failure).into_io()
    }

    fn failed(&self, action: Action, what: &(impl ToString + ?Sized), given_up: GivenUp) -> StorageError {
        if given_up.failure.is_bucket_missing() {
            return StorageError::NoBucket { bucket: self.bucket.clone(), host: self.host.clone() };
        }
        StorageError::Failed { action, what: what.to_string(), source: self.error(given_up) }
    }

    fn read_failed(&self, name: &ObjectName, end: u64, given_up: GivenUp) -> StorageError {
        match given_up.failure.verdict() {
            Verdict::Missing => StorageError::Missing { name: name.clone() },
            Verdict::BeyondEnd => StorageError::Short { name: name.clone(), end },
            Verdict::Taken | Verdict::Unknown | Verdict::Again { .. } | Verdict::Final => {
                self.failed(Action::Read, name, given_up)
            }
        }
    }
}

impl GivenUp {
    fn is(&self, verdict: Verdict) -> bool {
        self.failure.verdict() == verdict
    }
}

impl Storage for S3Storage {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        let bytes = Bytes::copy_from_slice(bytes);
        if self.is_condition_unknown.load(Ordering::Relaxed) {
            return self.put_after_asking(name, &bytes);
        }
        match self.put(name, &bytes, &PutMode::Create) {
            Ok(()) => Ok(Created::Created),
            // An earlier attempt may have done it. Who holds the same bytes holds the name.
            Err(given_up) if given_up.is(Verdict::Taken) && given_up.is_open => {
                let stored = self.get(name)?;
                Ok(if stored == *bytes { Created::Created } else { Created::Exists })
            }
            Err(given_up) if given_up.is(Verdict::Taken) => Ok(Created::Exists),
            Err(given_up) if given_up.is(Verdict::Unknown) => {
                self.is_condition_unknown.store(true, Ordering::Relaxed);
                self.put_after_asking(name, &bytes)
            }
            Err(given_up) => Err(self.failed(Action::Create, name, given_up)),
        }
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.fetch(name, None).map(Vec::from).map_err(|given_up| self.read_failed(name, 0, given_up))
    }

    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError> {
        let short = |end| StorageError::Short { name: name.clone(), end };
        let Some(end) = range.end().filter(|end| *end > range.start) else {
            // There is no request for nothing, nor for more than there can be.
            let end = range.end().unwrap_or(u64::MAX);
            return if end <= self.len(name)? { Ok(()) } else { Err(short(end)) };
        };
        let bytes = self
            .fetch(name, Some(range.start..end))
            .map_err(|given_up| self.read_failed(name, end, given_up))?;
        if bytes.len() as u64 != range.len {
            return Err(short(end));
        }
        into.extend_from_slice(&bytes);
        Ok(())
    }

    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        let head = self.head(name).map_err(|given_up| self.read_failed(name, 0, given_up))?;
        Ok(head.size)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        let what = if prefix.is_empty() { "everything" } else { prefix };
        if !prefix.is_empty() {
            ObjectName::new(prefix).map_err(|error| StorageError::Failed {
                action: Action::List,
                what: what.to_owned(),
                source: io::Error::new(io::ErrorKind::InvalidInput, error),
            })?;
        }
        let full = if prefix.is_empty() { self.root.clone() } else { format!("{}{prefix}/", self.root) };
        listing::pages(&full, &|after, token| self.page(&full, after, token), &mut |objects| {
            objects.iter().filter_map(|object| self.listed(object)).for_each(&mut *visit);
        })
        .map_err(|given_up| self.failed(Action::List, what, given_up))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        let location = self.location(name);
        match self.persist(|| async { self.store.delete(&location).await.map_err(Found::new) }) {
            Ok(()) => Ok(()),
            Err(given_up) if given_up.is(Verdict::Missing) => Ok(()),
            Err(given_up) => Err(self.failed(Action::Delete, name, given_up)),
        }
    }

    /// A name that somebody deletes between the question and the answer comes back: the store has no request for both.
    /// Only packs and the like are ever replaced, and one that comes back is garbage, which the next prune collects.
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        self.len(name)?;
        self.put(name, &Bytes::copy_from_slice(bytes), &PutMode::Overwrite)
            .map_err(|given_up| self.failed(Action::Replace, name, given_up))
    }

    fn hold(&self, _: &ObjectName) -> Result<Option<Hold>, StorageError> {
        Ok(None)
    }

    fn held(&self, _: &ObjectName) -> Result<HeldState, StorageError> {
        Ok(HeldState::Unknown)
    }

    fn map(&self, _: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        Ok(None)
    }

    fn space_left(&self) -> Result<Option<u64>, StorageError> {
        Ok(None)
    }

    fn listing_lags(&self) -> bool {
        false
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn creates_exclusively(&self) -> bool {
        !self.is_condition_unknown.load(Ordering::Relaxed)
    }

    fn requests(&self) -> Option<RequestCounts> {
        Some(self.counters.read())
    }

    fn place(&self) -> String {
        format!("{} at {}", place_of(&self.bucket, self.root.trim_end_matches('/')), self.host)
    }
}

fn place_of(bucket: &str, prefix: &str) -> String {
    if prefix.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{prefix}") }
}

/// The host that a person would look for in a configuration.
fn host_of(options: &S3Options) -> String {
    match &options.endpoint {
        None => format!("s3.{}.amazonaws.com", options.region),
        Some(endpoint) => {
            let rest = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
            rest.split('/').next().unwrap_or(rest).to_owned()
        }
    }
}

fn build(options: &S3Options, line: Line) -> Result<AmazonS3, object_store::Error> {
    // One attempt: we repeat requests ourselves, by the type of what went wrong.
    let once = RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_http_connector(Connector(line))
        .with_retry(once)
        .with_bucket_name(&options.bucket)
        .with_region(&options.region)
        .with_virtual_hosted_style_request(options.virtual_host)
        .with_disable_bulk_delete(true);
    if let Some(endpoint) = &options.endpoint {
        let endpoint = match options.virtual_host {
            true => with_bucket_in_host(endpoint, &options.bucket),
            false => endpoint.clone(),
        };
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    match &options.credentials {
        S3Credentials::Key { id, secret, token } => {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.as_str());
            if let Some(token) = token {
                builder = builder.with_token(token.as_str());
            }
        }
        S3Credentials::Role(variables) => {
            for (name, value) in variables {
                builder = builder.with_config(name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()?, value);
            }
        }
    }
    builder.build()
}

fn with_bucket_in_host(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{bucket}.{rest}"),
        None => endpoint.to_owned(),
    }
}

/// The one runtime of the process. It lives as long as that does.
fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: Mutex<Option<&'static Runtime>> = Mutex::new(None);
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = *runtime {
        return Ok(runtime);
    }
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREAD_COUNT)
        .thread_name("s3")
        .enable_io()
        .enable_time()
        .build()?;
    Ok(runtime.insert(Box::leak(Box::new(built))))
}
