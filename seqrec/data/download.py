"""Download of a raw file: to a temporary name, checked, then renamed."""

import os
from collections.abc import Callable
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

from seqrec.utils.errors import UserError


def download(url: str, path: Path, approve: Callable[[Path], None]) -> None:
    """Fetch `url` into the file `path`, with a progress bar on terminals; raises UserError on failure, leaving no file.

    `approve` checks the file before it is renamed, and raises UserError to refuse it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with tqdm(desc=path.name, total=0, unit="B", unit_scale=True, leave=False, disable=None) as bar:
                pooch.HTTPDownloader(progressbar=bar)(url, str(temporary), None)
            approve(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except requests.RequestException as error:
        reason = str(error) if isinstance(error, requests.HTTPError) else type(error).__name__
        raise UserError(f"cannot download {url} ({reason})") from error
    except OSError as error:
        raise UserError(f"data_dir={path.parent}: cannot write there ({error.strerror or error})") from error
