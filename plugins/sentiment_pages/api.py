"""The REST API behind Airflow's own login: whoever may see the pages may ask, who may trigger a retrain may reload.

The model comes from MLFLOW_TRACKING_URI as for tasks, and is opened by the first question: whoever never asks pays
next to nothing. No connection of Airflow's is read, and no database.
"""

import os
import threading
from functools import lru_cache

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from sentiment_core.api.answers import refuse
from sentiment_core.api.app import make_app
from sentiment_core.settings import ModelSettings
from sentiment_core.stages.serving import ModelService, open_service
from sentiment_pages.login import LOGIN_REQUIRED, to_login

# Which model answers is decided by whoever may decide which becomes champion.
EDITOR_REQUIRED = Depends(requires_access_dag("POST", DagAccessEntity.RUN, param_dag_id="retrain_model"))

_opening = threading.Lock()  # two first questions at a time are asked of one service


def make_api() -> FastAPI:
    """The application that Airflow mounts under /sentiment/api."""
    app = make_app(_service, everywhere=[LOGIN_REQUIRED], to_reload=[EDITOR_REQUIRED])
    app.add_exception_handler(StarletteHTTPException, _refuse)
    return app


def _service() -> ModelService:
    with _opening:
        return _opened()


@lru_cache(maxsize=1)  # what fails is tried again, so that a policy that is mended counts
def _opened() -> ModelService:
    return open_service(ModelSettings.from_environment(os.environ))


def _refuse(request: Request, error: Exception) -> Response:
    return to_login(request, error) or refuse(request, error)
