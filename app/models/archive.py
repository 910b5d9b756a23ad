"""Looks into `model.pt` before anything of it runs."""

import io
import re
import zipfile
import zlib

from app.errors import ModelRejected

_REACHES_OUT = re.compile(r"\b(from_file|save|load_tensor|rpc_async|rpc_remote|rpc_sync)\s*\(")
"""TorchScript's operators that name a file or another machine. Some of them already run when a module is loaded."""


def check_archive(model_bytes: bytes) -> None:
    """Raises ModelRejected unless this is a TorchScript archive whose code reaches for no files and no other machines.

    TorchScript is code, and a list of what it may not call is no sandbox: a model is trusted for its hash. This finds
    models that should never have been published.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(model_bytes)) as archive:
            for name in archive.namelist():
                if "/code/" in name and name.endswith(".py"):
                    found = _REACHES_OUT.search(archive.read(name).decode("utf-8"))
                    if found:
                        raise ModelRejected(
                            f"model.pt calls {found[1]}: a model has no business with files or networks"
                        )
    except (zipfile.BadZipFile, zlib.error, UnicodeDecodeError, NotImplementedError, OSError) as error:
        raise ModelRejected(f"model.pt is not a TorchScript module: {error}") from error
