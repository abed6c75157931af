//! `repo init`: makes a repository.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::units::ByteCount;

/// Create a new, empty repository.
///
/// Asks twice for a passphrase, or takes it from where the options and variables say. With --key-file and no such
/// file yet it makes one, readable by you only, and needs no passphrase. The folder must be empty or not exist.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo init
  repo init --repo /mnt/usb/backup
  repo init --repo /mnt/usb/backup --key-file ~/backup.key")]
pub struct InitArgs {
    /// Store no parity, which repairs damaged places of a disk and costs 3 %.
    #[arg(long)]
    pub no_parity: bool,

    /// Cut files into chunks of about SIZE, a power of two, such as 512K.
    #[arg(long, value_name = "SIZE")]
    pub chunk_size: Option<ByteCount>,

    /// Put chunks together in packs of about SIZE, such as 32M.
    #[arg(long, value_name = "SIZE")]
    pub pack_size: Option<ByteCount>,
}

/// Not connected yet: only finds out where the repository shall be and what shall open it.
pub fn run(_args: &InitArgs, context: &Context) -> Result<Exit, Failure> {
    let place = context.place()?;
    let _credential = context.first_credential(&place)?;
    Err(Failure::usage("init is not a part of this version yet"))
}
