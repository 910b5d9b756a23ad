"""Every knob of the service, read by `app.main` and `app.lifespan`; everything else gets plain values as arguments."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.cores import num_cores
from app.media.sandbox import JOBS_PER_WORKER

PREFIX = "AFTERFRAME_"

ORIGIN = r"^(\*|null|[a-z][a-z0-9+.-]*://[^/?#\sA-Z]+)$"
"""As browsers write it (RFC 6454, section 6.2): an address with a slash at its end would be that of no page."""


class Settings(BaseSettings):
    """Environment variables `AFTERFRAME_…`; `.env.example` shows them all."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in a container."""
    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    operations_port: int | None = Field(default=None, ge=0, le=65535)
    """TCP port for /health and /metrics only, which are then nowhere else; none: with the rest. 0 takes a free one."""
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    model_store: Path = Path("model_store")
    """Folder of <name>/<version>/model.pt; read only."""
    model_poll_seconds: float = Field(default=10.0, ge=0)
    """How often the folder is searched for new versions, which are served once they are checked and warm; 0: never."""
    models: Annotated[tuple[str, ...], NoDecode] = ()
    """Names to load, separated by commas; empty: all. `name@3` pins a version: it alone is served."""
    default_model_classify: str = ""
    """The model that answers /classify when none is asked for; empty: one that fits any file, else the first."""
    default_model_predict: str = ""
    """The same for /predict."""
    default_model_features: str = ""
    """The same for /features."""
    default_model_caption: str = ""
    """The same for /caption."""
    device: str = Field(default="cpu", pattern="^(cpu|cuda(:[0-9]+)?)$")
    """Where models run."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What classifiers compute in. auto: bfloat16 where that is measured to be faster and changes no score by more than
    0.02; bfloat16: also where it is not faster."""

    deadline_seconds: float = Field(default=30.0, gt=0, le=2**31)
    """From the last byte of the upload to the answer; past it the request ends with 504 and its worker is freed."""
    shutdown_seconds: int = Field(default=45, ge=0)
    """After SIGTERM, accepted requests have this long to finish. Above the deadline, below the container's grace."""
    max_upload_bytes: int = Field(default=512 * 2**20, ge=1)
    """Larger bodies are refused with 413."""
    max_spool_bytes: int = Field(default=16 * 2**30, ge=1)
    """Of all uploads at once, in $TMPDIR; over it 429."""
    max_requests: int = Field(default=32, ge=1)
    """Uploads worked on or waiting at once; the next one gets 429. More: longer waits.

    As many again may be held of those that were let in while there was room and took more than 0.5 s to arrive."""
    max_wait_seconds: float = Field(default=10.0, gt=0)
    """An upload whose turn would come later than this, at the rate measured, gets 429. Short: steady times."""
    max_uploads: int = Field(default=2048, ge=1)
    """Uploads still being sent at once, which need no place yet; the next one gets 429."""
    max_connections: int = Field(default=4096, ge=1)
    """TCP connections at once; the next one ends the one that has been without a request for longest."""
    patience_seconds: float = Field(default=10.0, gt=0)
    """A client has this long for its header, for each part of its upload and to take a part of an answer.

    Up to a fifth more, by chance, so that clients that came together do not all end together."""
    min_upload_bytes_per_second: int = Field(default=16 * 2**10, ge=0)
    """Uploads that are slower for `patience_seconds` end with 408; a connection whose answer is taken more slowly ends
    without one. 0: a byte now and then is enough."""

    api_keys_file: Path | None = None
    """TOML with the hashes of API keys (`python -m app.api.keys NAME`), read again when it changes; none: no keys."""
    cors_origins: Annotated[tuple[Annotated[str, Field(pattern=ORIGIN)], ...], NoDecode] = ()
    """Origins, separated by commas, whose pages may ask; empty: only pages of this service, `*`: all."""

    max_duration_seconds: float = Field(default=4 * 3600.0, gt=0)
    """Longer videos are refused with 422."""
    max_pixels: int = Field(default=4096 * 2304, ge=1, le=2**31 - 1)
    """Width times height of a picture; larger ones are refused with 422 before they are decoded."""
    max_streams: int = Field(default=16, ge=1, le=2**31 - 1)
    """Tracks in one file."""
    decoder_workers: int = Field(default_factory=num_cores, ge=1)
    """Sandboxed decoder processes; by default one per core that the service may use."""
    decoder_memory_bytes: int = Field(default=2**30, ge=256 * 2**20, le=2**47)
    """Address space of one decoder worker. Too low refuses large pictures; too high lets a bomb take it."""
    decoder_jobs_per_worker: int = Field(default=JOBS_PER_WORKER, ge=1)
    """A worker is replaced after this many files, so that nothing a library leaks adds up."""

    arriving_workers: int = Field(default=2, ge=0)
    """Sandboxed processes that decode uploads while they are still being sent, each one upload for as long as it takes.

    While all are taken, and with 0, an upload is decoded once it has arrived."""

    inference_threads: int = Field(default_factory=num_cores, ge=1)
    """Model calls at once, one torch thread each; by default one per core that the service may use."""
    max_batch_size: int = Field(default=16, ge=1)
    """Clips or chunks that share one model call at most."""

    max_feature_values: int = Field(default=2_000_000, ge=1)
    """Numbers in one answer of /features; more are refused with 422. 2 million: 312 s of 64 mel bands every 10 ms."""

    batch_wait_seconds: float = Field(default=0.0, ge=0, le=0.1)
    """How long a batch that is not full waits for more; 0: not at all. A few milliseconds help a GPU."""

    max_sessions: int = Field(default=64, ge=1)
    """Streams at once over WebSocket, those of clients that were cut off included; the next one is closed with 1013."""
    max_live_decoders: int = Field(default=8, ge=1)
    """Of these, streams of encoded chunks: each has a decoder process of its own."""
    picture_workers: int = Field(default=1, ge=1)
    """Sandboxed processes that decode the pictures of streams, so that those never wait behind a file."""
    max_message_bytes: int = Field(default=4 * 2**20, ge=2**16)
    """Of one WebSocket message: a picture, or a part of an encoded stream; larger ones close with 1009."""
    session_idle_seconds: float = Field(default=60.0, gt=0)
    """A stream whose client sends nothing for so long is closed."""
    session_total_seconds: float = Field(default=4 * 3600.0, gt=0, le=2**31)
    """A stream is closed after so long; its client can go on with the state."""
    session_resume_seconds: float = Field(default=30.0, ge=0)
    """How long a stream waits for a client that was cut off; after that only a state goes on."""
    state_keys: Annotated[tuple[Annotated[SecretStr, Field(min_length=32)], ...], NoDecode] = ()
    """Keys of state tokens, separated by commas, of 32 characters or more: the first signs, all verify.

    Empty: a random one, so that no token outlives the process or is taken by another."""
    state_seconds: float = Field(default=24 * 3600.0, gt=0)
    """How long a state token holds."""
    max_state_bytes: int = Field(default=2 * 2**20, ge=1024)
    """Of a state token; a stream whose state is larger (a forecaster's, of large pictures) has none."""

    segment_smoothing_seconds: float | None = Field(default=None, ge=0)
    """Timelines: scores are averaged over this long, centred; 0: raw. Empty, here and for the next two: what suits the
    model's kind of scores."""
    segment_margin: float | None = Field(default=None, ge=0, le=1)
    """Timelines: a new label must once lead by this much (hysteresis); 0: any lead will do, 1: none will."""
    segment_shortest_seconds: float | None = Field(default=None, ge=0)
    """Timelines: a new label must lead for this long; shorter stretches stay with the label before."""

    @field_validator("models", "state_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(name for name in (part.strip() for part in value.split(",")) if name)
            if isinstance(value, str)
            else value
        )


def misspelt(names: Iterable[str]) -> list[str]:
    """A complaint for each variable that is named like a setting and is not one: a misspelt one could leave the service
    without keys, and nobody would notice."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    complaints = []
    for name in sorted(names):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            close = get_close_matches(name.upper(), known, n=1)
            complaints.append(f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else ""))
    return complaints


def refused(error: ValidationError) -> list[str]:
    """What is wrong with the values of settings, without the values: some are secret."""
    return [f"{PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors()]


def doubtful(settings: Settings) -> list[str]:
    """What is allowed and probably not meant."""
    if settings.deadline_seconds <= settings.shutdown_seconds:
        return []
    return [
        f"{PREFIX}DEADLINE_SECONDS ({settings.deadline_seconds:g}) is above {PREFIX}SHUTDOWN_SECONDS "
        f"({settings.shutdown_seconds}): when the service is stopped, accepted requests that take longer are dropped"
    ]
