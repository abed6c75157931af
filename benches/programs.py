"""The programs that `peers` and `growth` measure: where they are, and what they need to know from their environment."""
import os
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
# `{repo}` is the folder of the repository.
ENVIRONMENTS = dict(
    kluis=dict(KLUIS_REPO="{repo}", KLUIS_KEY_FILE="{repo}.key", KLUIS_CACHE_DIR="{repo}.cache"),
    restic=dict(RESTIC_REPOSITORY="{repo}", RESTIC_PASSWORD="x", RESTIC_CACHE_DIR="{repo}.cache"),
    rustic=dict(RUSTIC_REPOSITORY="{repo}", RUSTIC_PASSWORD="x", RUSTIC_CACHE_DIR="{repo}.cache",
                RUSTIC_NO_PROGRESS="true", RUSTIC_LOG_LEVEL="warn"),
    borg=dict(BORG_REPO="{repo}", BORG_PASSPHRASE="x", BORG_BASE_DIR="{repo}.cache"),
    bupstash=dict(BUPSTASH_REPOSITORY="{repo}", BUPSTASH_KEY="{repo}.key", BUPSTASH_SEND_LOG="{repo}.log",
                  BUPSTASH_QUERY_CACHE="{repo}.query"),
)


def find(name):
    """The program of this name: what its variable ($KLUIS, $RESTIC, ...) says, or what is on the PATH; kluis is also
    looked for where it was built."""
    built = str(HERE / "target/release/repo") if name == "kluis" else None
    on_path = shutil.which("repo" if name == "kluis" else name)
    candidates = (os.environ.get(name.upper()), built, on_path)
    return next((found for found in candidates if found and os.access(found, os.X_OK)), None)


def drop_cache():
    """As root, the next command reads from the disk."""
    if os.geteuid() == 0:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
