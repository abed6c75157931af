//! The recovery sheet: a key as text, with all that somebody needs who finds it in a safe years later.

use serde_json::json;

use crate::cli::context::Context;
use crate::cli::exit::{Failure, OrFail};
use crate::crypto::{self, KdfParams, Secret};
use crate::format::key_file;
use crate::repo::UnlockSecret;

/// Adds a slot for a new secret and prints the secret. A sheet that could not be printed opens nothing.
pub fn print(context: &Context) -> Result<(), Failure> {
    let repo = context.open_repository()?;
    let secret: Secret<32> = crypto::random_secret().or_fail(|| "there is no new key".to_owned())?;
    let key = key_file::encode(secret.expose());
    let id = repo.add_slot(&UnlockSecret::KeyFile(secret), KdfParams::default(), "recovery sheet")?;
    let place = context.place()?.to_string();
    let report = json!({
        "id": id.to_string(),
        "repository_id": repo.id().to_string(),
        "place": place,
        "key": key.as_str(),
    });
    let shown = context.show(&report, |out| {
        out.line("RECOVERY SHEET of a kluis backup repository")?;
        out.line("")?;
        out.line(&format!("  repository  {}", repo.id()))?;
        out.line(&format!("  place       {place}"))?;
        out.line(&format!("  made        {}", context.now()))?;
        out.line(&format!("  slot        {}", id.short()))?;
        out.line("")?;
        for line in key.lines() {
            out.line(&format!("    {line}"))?;
        }
        out.line("")?;
        out.line(INSTRUCTIONS.trim_end())?;
        out.line(&format!("    repo key remove {}", id.short()))
    });
    if shown.is_err() {
        repo.remove_slot(id)?;
    }
    shown
}

const INSTRUCTIONS: &str = "\
This key opens the repository by itself, without any passphrase. To use it:

 1. Type the four lines of the key into a file, for instance sheet.key.
    Upper and lower case, blanks and dashes do not matter. The last line is
    a checksum: a wrong digit is noticed.
 2. repo --repo PLACE --key-file sheet.key snapshots
 3. repo --repo PLACE --key-file sheet.key restore latest --target FOLDER

PLACE is where the repository is now, which may not be where it was when this
sheet was made. Its id stands in the file config/1 inside it.

Whoever has this sheet can read every backup. Keep it as you keep a will, and
not beside the repository. If it is lost, unlock with another key and run
";
