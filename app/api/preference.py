"""`Prefer: wait=SECONDS` (RFC 7240, section 4.3): the client takes the best answer that there is by then."""

from fastapi import Request

PARTIAL_HEADER = "X-Partial"
"""`true` where time was up, in every format; JSON says so too."""

MAX_DIGITS = 9
"""Of a wait: decades. A longer one is passed over, as what is no number is: it cannot be complied with (section 2)."""


def wait_preference(request: Request) -> int | None:
    """For how many seconds the client would wait for a better answer; None: until there is none."""
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
        name, _, value = preference.split(";")[0].partition("=")
        seconds = value.strip().strip('"')
        if name.strip().lower() == "wait" and seconds.isascii() and seconds.isdigit() and len(seconds) <= MAX_DIGITS:
            return int(seconds)
    return None


def applied(wait_seconds: int | None, *, is_partial: bool = False) -> dict[str, str]:
    """The headers that tell the client so."""
    headers = {} if wait_seconds is None else {"Preference-Applied": f"wait={wait_seconds}"}
    return headers | ({PARTIAL_HEADER: "true"} if is_partial else {})
