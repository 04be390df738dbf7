"""A small client of Airflow's REST API: log in, trigger, wait, look.

Standard library only, so that a command may use it without importing anything heavy.
"""

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from sentiment_core.errors import Permanent, Transient
from sentiment_core.local.component import DIRECT
from sentiment_core.settings import LOCAL_DIR

FINISHED = ("success", "failed")


class AirflowApi:
    """One Airflow, as one user; without a user only what is open to all."""

    def __init__(self, base_url: str, user: str | None = None, password: str | None = None, *, timeout_s: float = 30) -> None:
        self.base_url = base_url.rstrip("/")
        self._user = user
        self._password = password
        self._timeout_s = timeout_s
        self._token: str | None = None

    def get(self, path: str, **query: Any) -> Any:
        """JSON of a GET; raises Transient when the server is away, Permanent when it refuses."""
        return self._call("GET", path + ("?" + urllib.parse.urlencode(query, doseq=True) if query else ""))

    def post(self, path: str, body: Any) -> Any:
        """JSON of a POST."""
        return self._call("POST", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """JSON of a PATCH."""
        return self._call("PATCH", path, body)

    def token(self) -> str:
        """A bearer token, fetched once."""
        if self._token is None:
            answer = self._send("POST", "/auth/token", {"username": self._user, "password": self._password})
            self._token = str(answer["access_token"])
        return self._token

    def unpause(self, dag_id: str, *, timeout_s: float = 60) -> None:
        """Let a DAG run; waits for the DAG to be known, which takes seconds after a first start."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.patch(f"/api/v2/dags/{_quoted(dag_id)}", {"is_paused": False})
            except Permanent as error:
                if "404" not in error.found:
                    raise
                if time.monotonic() > deadline:
                    raise Permanent(
                        f"DAG {dag_id}",
                        expected="a DAG that Airflow has read",
                        found=f"none after {timeout_s:.0f} s{self._import_error_words()}",
                        remedy="see `sentiment doctor`",
                    ) from error
                time.sleep(0.5)
            else:
                return

    def trigger(
        self, dag_id: str, *, conf: dict[str, Any] | None = None, partition_key: str | None = None, run_id: str | None = None
    ) -> dict[str, Any]:
        """Start a run now; gives the run, with `dag_run_id`."""
        body: dict[str, Any] = {"logical_date": None, "conf": conf or {}}
        if partition_key is not None:
            body["partition_key"] = partition_key
        if run_id is not None:
            body["dag_run_id"] = run_id
        run: dict[str, Any] = self.post(f"/api/v2/dags/{_quoted(dag_id)}/dagRuns", body)
        return run

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """One run, with `state`."""
        run: dict[str, Any] = self.get(f"/api/v2/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}")
        return run

    def dag_runs(self, dag_id: str, **query: Any) -> list[dict[str, Any]]:
        """The runs of a DAG, latest first."""
        query = {"limit": 100, "order_by": "-run_after", **query}
        return list(self.get(f"/api/v2/dags/{_quoted(dag_id)}/dagRuns", **query)["dag_runs"])

    def wait(self, dag_id: str, run_id: str, *, timeout_s: float, on_tick: Callable[[dict[str, Any]], None] | None = None) -> str:
        """Wait for a run to end and give its state, `success` or `failed`; raises Transient at the deadline.

        `on_tick` gets the run at every look. A server that is away for a moment is waited for.
        """
        deadline = time.monotonic() + timeout_s
        state = "unknown"
        while time.monotonic() < deadline:
            try:
                run = self.dag_run(dag_id, run_id)
            except Transient:
                time.sleep(1)
                continue
            if on_tick is not None:
                on_tick(run)
            state = str(run["state"])
            if state in FINISHED:
                return state
            time.sleep(0.5)
        raise Transient(
            f"run {run_id} of {dag_id}",
            expected=f"an end within {timeout_s:.0f} s",
            found=f"state {state}",
            remedy=f"see {self.base_url}/dags/{_quoted(dag_id)}/runs/{_quoted(run_id)}",
        )

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The tasks of a run."""
        path = f"/api/v2/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}/taskInstances"
        return list(self.get(path, limit=1000)["task_instances"])

    def task_log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """What a task wrote, one event a line."""
        path = f"/api/v2/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}/taskInstances/{_quoted(task_id)}/logs/{try_number}"
        content = self.get(path, map_index=map_index)["content"]
        return "\n".join(item if isinstance(item, str) else json.dumps(item) for item in content)

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1) -> Any:
        """What a task returned."""
        path = (
            f"/api/v2/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}/taskInstances/{_quoted(task_id)}/xcomEntries/return_value"
        )
        return self.get(path, map_index=map_index, deserialize="true")["value"]

    def backfill(
        self,
        dag_id: str,
        from_date: date,
        to_date: date,
        *,
        reprocess: str = "completed",
        max_active_runs: int = 2,
        conf: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Start a backfill over the dates, both ends included; `reprocess` is none, failed or completed."""
        body = {
            "dag_id": dag_id,
            "from_date": f"{from_date.isoformat()}T00:00:00Z",
            "to_date": f"{to_date.isoformat()}T00:00:00Z",
            "reprocess_behavior": reprocess,
            "max_active_runs": max_active_runs,
            "run_backwards": False,
            "dag_run_conf": conf or {},
        }
        started: dict[str, Any] = self.post("/api/v2/backfills", body)
        return started

    def wait_backfill(self, backfill_id: int, *, timeout_s: float) -> dict[str, Any]:
        """Wait for a backfill to end; raises Transient at the deadline."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                state: dict[str, Any] = self.get(f"/api/v2/backfills/{backfill_id}")
            except Transient:
                time.sleep(1)
                continue
            if state["completed_at"]:
                return state
            time.sleep(1)
        raise Transient(
            f"backfill {backfill_id}",
            expected=f"an end within {timeout_s:.0f} s",
            found="runs that have not ended",
            remedy=f"see {self.base_url}",
        )

    def import_errors(self) -> list[dict[str, Any]]:
        """DAG files that Airflow could not read."""
        return list(self.get("/api/v2/importErrors", limit=100)["import_errors"])

    def _import_error_words(self) -> str:
        errors = self.import_errors()
        return f"; {errors[0]['filename']}: {errors[0]['stack_trace'].strip().splitlines()[-1]}" if errors else ""

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return self._send(method, path, body, token=self.token() if self._user else None)

    def _send(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> Any:
        request = urllib.request.Request(self.base_url + path, method=method)  # noqa: S310  # an http address by construction
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        data = None if body is None else json.dumps(body).encode()
        try:
            with DIRECT.open(request, data, timeout=self._timeout_s) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise self._refusal(error, method, path) from error
        except (OSError, http.client.HTTPException) as error:
            raise Transient(
                f"Airflow at {self.base_url}",
                expected="an answer",
                found=str(getattr(error, "reason", error)),
                remedy="run `sentiment up`, or wait while it restarts",
            ) from error
        return json.loads(content) if content else None

    def _refusal(self, error: urllib.error.HTTPError, method: str, path: str) -> Exception:
        words = error.read().decode("utf-8", "replace")[:500]
        family = Transient if error.code >= http.client.INTERNAL_SERVER_ERROR else Permanent
        if error.code == http.client.UNAUTHORIZED:
            self._token = None
        return family(
            f"{method} {self.base_url}{path}",
            expected="success",
            found=f"{error.code} {words}",
            remedy="see what the answer says",
        )


def local_api(state_dir: Path = LOCAL_DIR) -> AirflowApi:
    """The Airflow of the embedded stack, as admin; raises Permanent when it has never been started."""
    try:
        ports = json.loads((state_dir / "ports.json").read_text(encoding="utf-8"))
        passwords = json.loads((state_dir / "airflow" / "passwords.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Permanent(
            "the embedded stack", expected="one that was started", found="none", remedy="run `make up` (or `sentiment up`)"
        ) from error
    return AirflowApi(f"http://127.0.0.1:{ports['api-server']}", "admin", passwords["admin"])


def _quoted(value: str) -> str:
    return urllib.parse.quote(value, safe="")
