"""What an application of the API is before anybody asks it."""

import json
import subprocess
import sys

import pytest

from sentiment_core.api import docs
from sentiment_core.api.app import make_app
from sentiment_core.api.server import listen
from sentiment_core.errors import Permanent


def test_a_server_that_mounts_it_pays_little_before_the_first_question():
    code = (
        "import sys\nfrom sentiment_core.api.app import make_app\nmake_app(lambda: 1 / 0)\n"
        "heavy = {'mlflow', 'sklearn', 'scipy', 'numba', 'skops', 'pandas', 'sqlalchemy', 'psycopg2', 'boto3', 'uvicorn'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "loaded: []\n"


def test_the_page_escapes_whatever_the_document_says():
    hostile = "<script>alert('1')</script>"
    document = json.loads(json.dumps(make_app(lambda: None).openapi()).replace("Judge one text.", hostile))
    document["info"]["title"] = hostile
    page = docs.render(document, f"http://{hostile}", is_guarded=True)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_page_quotes_what_a_shell_is_given():
    page = docs.render(make_app(lambda: None).openapi(), "http://a'b", is_guarded=False)
    assert "curl &#x27;http://a&#x27;\\&#x27;&#x27;b/health&#x27;" in page
    assert "Authorization" not in page


def test_a_free_port_is_found_and_given_back():
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(Permanent, match=f"port {port}: expected a free port of 127.0.0.1, found it taken"):
            listen("127.0.0.1", port)
    listen("127.0.0.1", port).close()
