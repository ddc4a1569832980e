"""``rankwise examples DIR``: copies the example files, which a wheel brings along, to a folder of one's own."""

from pathlib import Path

from common.errors import ConfigError
from common.files import read_small, write_bytes

PACKAGE = Path(__file__).parent.parent
INSTALLED = PACKAGE / "examples"
CHECKOUT = PACKAGE.parent / "docs" / "examples"
"""Where the files are in a wheel, and where they come from."""
SLURM = PACKAGE.parent / "slurm"
"""Where the batch scripts are, in both."""


def sources() -> dict[str, Path]:
    """Return the example files by the name that the copy has. Raises ConfigError if this installation has none."""
    folder = INSTALLED if INSTALLED.is_dir() else CHECKOUT
    files = [*(sorted(folder.iterdir()) if folder.is_dir() else ()), *sorted(SLURM.glob("*.sbatch"))]
    found = {path.name: path for path in files if path.is_file()}
    if not found:
        raise ConfigError(f"examples: this installation has none ({INSTALLED}); install rankwise again")
    return found


def copy(folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Copy them; return the copies. What is there and differs stays as it is, unless asked otherwise.

    Raises ConfigError if a file is in the way or cannot be written; then nothing is copied.
    """
    files = sources()
    changed = [name for name, path in files.items() if _differs(path, folder / name)]
    if changed and not overwrite:
        raise ConfigError(
            f"examples: {', '.join(changed)} in {folder} would be overwritten; give another folder, or --overwrite"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in files.items():
            write_bytes(folder / name, path.read_bytes())
    except OSError as error:
        raise ConfigError(f"examples: cannot write to {folder} ({error.strerror}); give another folder") from error
    return [folder / name for name in files]


def _differs(path: Path, there: Path) -> bool:
    try:
        return read_small(there) != path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
