//! What can go wrong between this computer and an object store, by type: what to do next is never read out of a text.

use std::error::Error;
use std::io;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};

/// One request that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The store answered, and said no.
    #[error("{0}")]
    Refused(Refusal),
    /// There is no connection.
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The other side is not who it should be.
    #[error("its certificate is not trusted")]
    Untrusted(#[source] reqwest::Error),
    /// The connection ended within a request. What the store did of it is not known.
    #[error("the connection broke off")]
    Cut(#[source] reqwest::Error),
    /// Nothing moved for too long. What the store did is not known.
    #[error("nothing was sent or received for {} seconds", .0.as_secs())]
    Stalled(Duration),
    /// It answered with something that is no answer.
    #[error("its answer makes no sense: {0}")]
    Nonsense(String),
}

/// An answer with an error in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Of HTTP.
    pub status: u16,
    /// Of S3, such as `AccessDenied`; empty if there is none.
    pub code: String,
    /// In words of the store; empty if there are none.
    pub message: String,
    /// The region that the store names.
    pub region: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "it answered {}", self.status)?;
        if !self.code.is_empty() {
            write!(out, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(out, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// What a failed request means for the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The object is not there.
    Missing,
    /// The condition of the request does not hold: the name is taken.
    Taken,
    /// The range lies behind the end of the object.
    BeyondEnd,
    /// The store does not know such a request.
    Unknown,
    /// Asking again may help.
    Again {
        /// Whether this request may have been carried out all the same.
        is_open: bool,
    },
    /// Asking again does not help.
    Final,
}

impl Refusal {
    /// What an answer says. `body` is what S3 wrote about it, if anything.
    pub(super) fn new(status: u16, region: Option<String>, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let region = region.or_else(|| element(&text, "Region"));
        let field = |name| element(&text, name).unwrap_or_default();
        Self { status, code: field("Code"), message: field("Message"), region }
    }

    fn verdict(&self) -> Verdict {
        match (self.status, self.code.as_str()) {
            (_, "NoSuchBucket") => Verdict::Final,
            (404, _) => Verdict::Missing,
            (412 | 304, _) => Verdict::Taken,
            (416, _) => Verdict::BeyondEnd,
            (501, _) | (_, "NotImplemented") => Verdict::Unknown,
            (408 | 429 | 503, _) | (_, "SlowDown" | "RequestTimeout" | "OperationAborted") => {
                Verdict::Again { is_open: self.status != 429 }
            }
            // Two requests for one name met: neither is known to have won.
            (409, _) => Verdict::Again { is_open: true },
            (500..600, _) => Verdict::Again { is_open: true },
            _ => Verdict::Final,
        }
    }

    /// The kind of a system's error that comes closest.
    fn kind(&self) -> io::ErrorKind {
        match (self.status, self.code.as_str()) {
            (_, "QuotaExceeded" | "XMinioStorageFull") | (507, _) => io::ErrorKind::QuotaExceeded,
            (401 | 403, _) => io::ErrorKind::PermissionDenied,
            (404, _) => io::ErrorKind::NotFound,
            _ => io::ErrorKind::Other,
        }
    }

    /// What a person should look at.
    fn hint(&self) -> Option<String> {
        let text = match (self.status, self.code.as_str()) {
            (_, "InvalidAccessKeyId") => {
                "the store does not know this access key: see AWS_ACCESS_KEY_ID or AWS_PROFILE"
            }
            (_, "SignatureDoesNotMatch") => {
                "the secret does not belong to the access key: see AWS_SECRET_ACCESS_KEY; a proxy that changes requests does the same"
            }
            (_, "RequestTimeTooSkewed") => "the clock of this computer is wrong: set it by NTP",
            (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
                "the session has ended: get new credentials, with their AWS_SESSION_TOKEN"
            }
            (301 | 307, _)
            | (
                _,
                "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
            ) => {
                return Some(match &self.region {
                    Some(region) => format!("the bucket is in region {region}: set AWS_REGION={region}"),
                    None => "the bucket is in another region: set AWS_REGION, or AWS_ENDPOINT_URL".to_owned(),
                });
            }
            (_, "QuotaExceeded" | "XMinioStorageFull") | (507, _) => {
                "the store has no more room for this account: free some there, or raise the quota"
            }
            (401 | 403, _) => {
                "the access key may not do this here: docs/guide.md has a policy for backups and one for prunes; a wrong clock and a wrong key look like this too"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// The text of the first element of this name. Answers of S3 are small, flat and without attributes.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = ["&lt;", "&gt;", "&quot;", "&apos;", "&amp;"]
        .iter()
        .zip(["<", ">", "\"", "'", "&"])
        .fold(inside.to_owned(), |text, (escape, plain)| text.replace(escape, plain));
    Some(plain.chars().take(ELEMENT_CHARS_MAX).collect())
}

/// What a store writes is shown to people, but not without end.
const ELEMENT_CHARS_MAX: usize = 300;

impl Trouble {
    /// What went wrong with a request that has no complete answer.
    pub(super) fn of_transport(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if !error.is_connect() {
            return Self::Cut(error);
        }
        let mut next: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(cause) = next {
            if is_untrusted(cause) {
                return Self::Untrusted(error);
            }
            next = cause.source();
        }
        Self::Unreachable(error)
    }

    /// What it means for the next step.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Refused(refusal) => refusal.verdict(),
            Self::Unreachable(_) => Verdict::Again { is_open: false },
            Self::Untrusted(_) => Verdict::Final,
            Self::Cut(_) | Self::Stalled(_) | Self::Nonsense(_) => Verdict::Again { is_open: true },
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::Unreachable(_) => io::ErrorKind::NotConnected,
            Self::Untrusted(_) => io::ErrorKind::InvalidData,
            Self::Cut(_) => io::ErrorKind::ConnectionAborted,
            Self::Stalled(_) => io::ErrorKind::TimedOut,
            Self::Nonsense(_) => io::ErrorKind::InvalidData,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Refused(refusal) => return refusal.hint(),
            Self::Unreachable(_) => "see AWS_ENDPOINT_URL and AWS_REGION, and whether the network works",
            Self::Untrusted(_) => {
                "AWS_CA_BUNDLE names a file with the certificates to trust; see also the clock of this computer"
            }
            Self::Cut(_) | Self::Stalled(_) => {
                "run it again when the network works: what was stored is found"
            }
            Self::Nonsense(_) => "see whether AWS_ENDPOINT_URL names an S3 store",
        };
        Some(text.to_owned())
    }

    /// Hands it to `object_store`, which passes it on.
    pub(super) fn into_http_error(self) -> HttpError {
        // Never retried by the library: whether to ask again is decided in one place, ours.
        HttpError::new(HttpErrorKind::Unknown, self)
    }
}

/// Some layers keep a cause inside an `io::Error`, whose `source` passes over it.
fn is_untrusted(cause: &(dyn Error + 'static)) -> bool {
    let is_it = |error: &(dyn Error + 'static)| {
        matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
    };
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    is_it(cause) || inner.is_some_and(|inner| is_it(inner))
}

/// Why a call to an object store failed, for people: which bucket, which host, what the matter is.
#[derive(Debug)]
pub struct S3Error {
    bucket: String,
    host: String,
    attempt_count: u32,
    trouble: Found,
}

/// Either ours, or something that the library came upon by itself.
#[derive(Debug)]
pub(super) enum Found {
    /// Seen by the line.
    Trouble(object_store::Error),
    /// An answer whose form the library does not understand.
    Other(object_store::Error),
    /// An answer that fits no question.
    Nonsense(Trouble),
}

impl Found {
    /// What is behind an error of the library.
    pub(super) fn new(error: object_store::Error) -> Self {
        if trouble_in(&error).is_some() { Self::Trouble(error) } else { Self::Other(error) }
    }

    fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Trouble(error) => trouble_in(error),
            Self::Nonsense(trouble) => Some(trouble),
            Self::Other(_) => None,
        }
    }

    /// What it means for the next step.
    pub(super) fn verdict(&self) -> Verdict {
        // A list that does not parse, a header that is missing: a proxy on the way may have done that.
        self.trouble().map_or(Verdict::Again { is_open: true }, Trouble::verdict)
    }

    /// Whether there is not even a connection.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self.trouble(), Some(Trouble::Unreachable(_)))
    }

    /// Whether the bucket does not exist.
    pub(super) fn is_bucket_missing(&self) -> bool {
        matches!(self.trouble(), Some(Trouble::Refused(refusal)) if refusal.code == "NoSuchBucket")
    }
}

fn trouble_in<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Trouble> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(trouble) = cause.downcast_ref() {
            return Some(trouble);
        }
        next = cause.source();
    }
    None
}

impl S3Error {
    pub(super) fn new(bucket: &str, host: &str, attempt_count: u32, trouble: Found) -> Self {
        Self { bucket: bucket.to_owned(), host: host.to_owned(), attempt_count, trouble }
    }

    /// The same for callers who know errors of the system.
    pub(super) fn into_io(self) -> io::Error {
        let kind = self.trouble.trouble().map_or(io::ErrorKind::InvalidData, Trouble::kind);
        io::Error::new(kind, self)
    }

    /// What to look at: credentials, clock, permission, region, network.
    pub fn hint(&self) -> Option<String> {
        self.trouble.trouble().and_then(Trouble::hint)
    }
}

impl std::fmt::Display for S3Error {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "bucket {} at {}: ", self.bucket, self.host)?;
        match &self.trouble {
            Found::Trouble(_) | Found::Nonsense(_) => match self.trouble.trouble() {
                Some(trouble) => write!(out, "{trouble}")?,
                None => write!(out, "something is wrong")?,
            },
            Found::Other(error) => write!(out, "{error}")?,
        }
        match self.attempt_count {
            0 | 1 => Ok(()),
            count => write!(out, " ({count} attempts)"),
        }
    }
}

impl Error for S3Error {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.trouble.trouble().and_then(Error::source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: &str) -> Refusal {
        let body = format!("<Error><Code>{code}</Code><Message>a &lt;b&gt;</Message></Error>");
        Refusal::new(status, None, body.as_bytes())
    }

    #[test]
    fn an_answer_is_read_without_its_xml() {
        let denied = refusal(403, "AccessDenied");
        assert_eq!(denied.to_string(), "it answered 403 AccessDenied: a <b>");
        let bare = Refusal::new(503, None, b"");
        assert_eq!(bare.to_string(), "it answered 503");
        let moved = Refusal::new(301, None, b"<Error><Region>eu-west-1</Region></Error>");
        assert!(moved.hint().unwrap().contains("AWS_REGION=eu-west-1"));
        let endless = Refusal::new(500, None, format!("<Code>{}</Code>", "x".repeat(9999)).as_bytes());
        assert_eq!(endless.code.len(), ELEMENT_CHARS_MAX);
    }

    #[test]
    fn what_to_do_next_follows_from_the_type_of_an_answer() {
        let again = |is_open| Verdict::Again { is_open };
        let cases = [
            (404, "NoSuchKey", Verdict::Missing),
            (404, "NoSuchBucket", Verdict::Final),
            (412, "PreconditionFailed", Verdict::Taken),
            (409, "ConditionalRequestConflict", again(true)),
            (416, "InvalidRange", Verdict::BeyondEnd),
            (403, "AccessDenied", Verdict::Final),
            (403, "RequestTimeTooSkewed", Verdict::Final),
            (400, "RequestTimeout", again(true)),
            (429, "", again(false)),
            (503, "SlowDown", again(true)),
            (500, "InternalError", again(true)),
            (501, "NotImplemented", Verdict::Unknown),
            (301, "PermanentRedirect", Verdict::Final),
        ];
        for (status, code, verdict) in cases {
            assert_eq!(refusal(status, code).verdict(), verdict, "{status} {code}");
        }
    }

    #[test]
    fn a_person_is_told_what_to_look_at() {
        for (status, code, word) in [
            (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
            (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
            (403, "RequestTimeTooSkewed", "clock"),
            (400, "ExpiredToken", "AWS_SESSION_TOKEN"),
            (403, "AccessDenied", "policy"),
            (403, "QuotaExceeded", "quota"),
            (301, "PermanentRedirect", "AWS_REGION"),
        ] {
            let hint = refusal(status, code).hint().unwrap();
            assert!(hint.contains(word), "{code}: {hint}");
        }
        assert_eq!(refusal(500, "InternalError").hint(), None);
    }
}
