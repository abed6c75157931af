//! `repo init`: makes a repository.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueHint};
use serde_json::json;

use crate::chunker::ChunkSizes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::json_name;
use crate::cli::repository::Created;
use crate::cli::secrets::{SecretOptions, Variables};
use crate::crypto::{KdfParams, stretch};
use crate::limits;
use crate::repo::{InitOptions, UnlockSecret};
use crate::units::ByteCount;

/// What a try of a passphrase shall take on this computer.
const KDF_TIME: Duration = Duration::from_secs(1);
const PACK_BYTES: RangeInclusive<u64> = 1 << 20..=limits::PACK_BYTES_MAX / 2;

/// Create a new, empty repository.
///
/// Asks twice for a passphrase, or takes it from where the options and variables say. With --key-file and no such
/// file yet it makes one, readable by you only, and needs no passphrase. The folder must be empty or not exist.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo init
  repo init --repo /mnt/usb/backup
  repo init --repo /mnt/usb/backup --key-file ~/backup.key
  repo init --repo /mnt/usb/backup --like /srv/backup")]
pub struct InitArgs {
    /// Store no parity, which repairs damaged places of a disk and costs 3 %.
    #[arg(long)]
    pub no_parity: bool,

    /// Cut files into chunks of about SIZE, a power of two; 512K unless told otherwise.
    #[arg(long, value_name = "SIZE")]
    pub chunk_size: Option<ByteCount>,

    /// Put chunks together in packs of about SIZE, such as 32M.
    #[arg(long, value_name = "SIZE")]
    pub pack_size: Option<ByteCount>,

    /// Make a second place for what is in the repository at PLACE: `repo copy` then takes over what is stored there as it is.
    ///
    /// The new repository knows the same content by the same ids; it has keys and passphrases of its own. The other one is
    /// opened by the same passphrase or key file, unless one of the options below or a variable names another.
    #[arg(long, value_name = "PLACE", value_hint = ValueHint::DirPath, conflicts_with = "chunk_size")]
    pub like: Option<OsString>,

    /// The first line of FILE is the passphrase of --like. [env: KLUIS_LIKE_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "like")]
    #[arg(conflicts_with_all = ["like_password_command", "like_key_file"])]
    pub like_password_file: Option<PathBuf>,

    /// The first line that CMD prints is the passphrase of --like. [env: KLUIS_LIKE_PASSWORD_COMMAND]
    #[arg(long, value_name = "CMD", value_hint = ValueHint::CommandString, requires = "like")]
    #[arg(conflicts_with = "like_key_file")]
    pub like_password_command: Option<OsString>,

    /// This key file opens --like. [env: KLUIS_LIKE_KEY_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "like")]
    pub like_key_file: Option<PathBuf>,
}

/// Makes the repository and says where it is and what to do next.
pub fn run(args: &InitArgs, context: &Context) -> Result<Exit, Failure> {
    let mut options = args.options()?;
    if let Some(place) = &args.like {
        let like = context.open_other(place, args.like_secrets(), Variables::Like)?;
        options.like = Some(like.identities()?);
    }
    let created = context.create_repository(|secret| with_measured_kdf(options, secret, context))?;
    show(&created, context)?;
    Ok(Exit::Done)
}

/// Tells of a new repository.
fn show(created: &Created, context: &Context) -> Result<(), Failure> {
    let Created { repo, place, new_key_file } = created;
    let config = repo.config();
    let report = json!({
        "id": repo.id().to_string(),
        "place": place.to_string(),
        "key_file": new_key_file.as_ref().map(|path| json_name(path.as_os_str().as_encoded_bytes())),
        "parity": config.parity,
        "chunk_bytes_average": config.chunker.bytes_average,
        "pack_bytes": config.packs.data_bytes,
    });
    context.show(&report, |out| out.line(&format!("created repository {} at {place}", repo.id())))?;
    match new_key_file {
        Some(path) => context.note(&format!(
            "{} is the only key: keep a copy of it elsewhere; without it nobody can read the backups",
            path.display()
        )),
        None => {
            context.note("without the passphrase or a key file nobody can read the backups, not even you")
        }
    }
    context.note("`repo key recovery-sheet` prints a key to keep on paper");
    Ok(())
}

impl InitArgs {
    fn like_secrets(&self) -> SecretOptions<'_> {
        SecretOptions {
            password_file: self.like_password_file.as_deref(),
            password_command: self.like_password_command.as_deref(),
            key_file: self.like_key_file.as_deref(),
        }
    }

    fn options(&self) -> Result<InitOptions, Failure> {
        let mut options = InitOptions { parity: !self.no_parity, ..InitOptions::default() };
        if let Some(ByteCount(average)) = self.chunk_size {
            let average = usize::try_from(average).unwrap_or(usize::MAX);
            options.chunk_sizes = ChunkSizes::new(average / 4, average, average.saturating_mul(4))
                .map_err(|error| Failure::of(Exit::Usage, &error))?;
        }
        if let Some(ByteCount(bytes)) = self.pack_size {
            if !PACK_BYTES.contains(&bytes) {
                let sentence = format!(
                    "packs cannot have {}: --pack-size goes from {} to {}",
                    ByteCount(bytes),
                    ByteCount(*PACK_BYTES.start()),
                    ByteCount(*PACK_BYTES.end())
                );
                return Err(Failure::usage(sentence));
            }
            options.pack_bytes = bytes;
        }
        Ok(options)
    }
}

/// The options with costs of a passphrase that this computer needs about a second for.
pub fn with_measured_kdf(options: InitOptions, secret: &UnlockSecret, context: &Context) -> InitOptions {
    match secret {
        UnlockSecret::Passphrase(_) => InitOptions { kdf: measured_kdf(context), ..options },
        UnlockSecret::KeyFile(_) => options,
    }
}

/// Costs of a passphrase that this computer needs about a second for.
pub fn measured_kdf(context: &Context) -> KdfParams {
    context.note("measuring how fast this computer can try passphrases");
    KdfParams::measure(KDF_TIME, |params| {
        let begun = Instant::now();
        // Out of memory: the time is then short, and so the costs stay what is possible.
        let _ = stretch(b"a passphrase", &[0; 32], params);
        begun.elapsed()
    })
}
