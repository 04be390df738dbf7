"""What every answer carries, of the API and of the pages: nothing is loaded from elsewhere, framed elsewhere or cached.

Constants and one function; light to import.
"""

import base64
import hashlib

COMMON_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'self'",  # of what is no page: nothing to load
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",  # nothing of it may come out of a cache after a logout
}


def page_headers(style: str) -> dict[str, str]:
    """Headers of a page without scripts, whose one style element says this."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return COMMON_HEADERS | {
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self' data:; frame-src 'self'; "
            "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
        ),
    }
