"""Health check of a container: exit 0 when the named component of Airflow reports in, else 1 with the reason.

Asks the api-server, which reads the heartbeats out of the metadata database; Airflow's own command for this costs five
seconds of processor time a call.
"""

import json
import sys
import urllib.request

URL = "http://api-server:8080/api/v2/monitor/health"


def main(component: str, url: str = URL) -> int:
    """Component: metadatabase, scheduler, triggerer or dag_processor."""
    with urllib.request.urlopen(url, timeout=8) as answer:  # noqa: S310  # an address of our own
        status = json.load(answer)[component]["status"]
    print(status)
    return 0 if status == "healthy" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
