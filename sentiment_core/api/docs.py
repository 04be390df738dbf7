"""The page /docs: what the OpenAPI document says, for a person.

HTML without scripts and with one style element, so that it needs nothing from elsewhere and the strictest policy; every
value is escaped. What the API does is said in `app`, `bodies` and `answers`, and read here.
"""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from sentiment_core.api.headers import page_headers

ABOUT = (
    'Errors of every kind are {"detail": why}. A text that is blank or too long is refused with 422, in a batch with its place; '
    "/info says the limits. Without a model the answer is 503. Whatever happens in between, an answer comes from one version."
)
_LOGIN = "Every request needs a login of Airflow's: a cookie, or a token of POST /auth/token. /reload needs an editor's."
_KINDS = {name: name for name in ("string", "number", "integer", "null", "object")} | {"boolean": "true or false"}
_OK = "200"

STYLE = """
:root { color-scheme: light dark; --ground: #f7f7f8; --card: #fff; --edge: #e3e3e8; --ink: #18181b; --muted: #5d5d66;
  --link: #0b5cad; --rail: #eef0f4; --get: #00694f; --post: #7d5c00; }
@media (prefers-color-scheme: dark) { :root { --ground: #101012; --card: #19191c; --edge: #2d2d33; --ink: #ececef;
  --muted: #a2a2ad; --link: #7fb8f5; --rail: #26282f; --get: #35c59b; --post: #e6b422; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 24px 20px 40px; }
h1 { font-size: 22px; line-height: 1.3; font-weight: 650; letter-spacing: -.01em; margin: 0 0 6px; }
h2 { font: 600 16px/1.4 ui-monospace, "Liberation Mono", Menlo, monospace; margin: 0 0 4px; overflow-wrap: anywhere; }
h3 { font-size: 13px; font-weight: 600; color: var(--muted); margin: 14px 0 4px; }
p { margin: 0 0 8px; max-width: 76ch; text-wrap: pretty; }
a { color: var(--link); text-underline-offset: 2px; }
.method { color: var(--get); } .method.post { color: var(--post); }
section { background: var(--card); border: 1px solid var(--edge); border-radius: 10px; padding: 16px 20px; margin: 16px 0 0; }
pre { background: var(--rail); border-radius: 6px; padding: 9px 12px; margin: 0; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 13px/1.5 ui-monospace, "Liberation Mono", Menlo, monospace; }
table { width: 100%; border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: 4px 14px 4px 0; border-top: 1px solid var(--edge); font-weight: 400; }
tr:first-child th, tr:first-child td { border-top: 0; }
th { font: 13px/1.6 ui-monospace, "Liberation Mono", Menlo, monospace; white-space: nowrap; width: 1%; }
td.kind { color: var(--muted); white-space: nowrap; width: 1%; }
@media (max-width: 600px) { main { padding: 16px 12px 32px; } section { padding: 12px 14px; }
  tr { display: block; padding: 5px 0; border-top: 1px solid var(--edge); } tr:first-child { border-top: 0; }
  th, td, td.kind { display: inline; border: 0; padding: 0 8px 0 0; } td:last-child { display: block; } }
"""
HEADERS = page_headers(STYLE)


def render(document: dict[str, Any], address: str, *, is_guarded: bool) -> str:
    """The page of an OpenAPI document.

    Args:
        document: as FastAPI makes it.
        address: where the API is, without the last slash.
        is_guarded: it asks for a login.
    """
    title = f"{document['info']['title']} API"
    sections = "\n".join(
        "\n".join(_section(document, method, path, operation, address, is_guarded=is_guarded))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p>Version {escape(document["info"]["version"])}. What the champion of the registry makes of texts.</p>
<p>{escape(ABOUT)}</p>
{f"<p>{escape(_LOGIN)}</p>" if is_guarded else ""}
<p>For programs: <a href="openapi.json">openapi.json</a>.</p>
{sections}
</main>
</body>
</html>
"""


def _section(
    document: dict[str, Any], method: str, path: str, operation: dict[str, Any], address: str, *, is_guarded: bool
) -> Iterator[str]:
    yield f'<section>\n<h2><span class="method {escape(method)}">{escape(method.upper())}</span> {escape(path)}</h2>'
    yield f"<p>{escape(operation['summary'])}</p>"
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    asked = _resolved(document, content.get("schema", {}))
    if asked:
        yield f"<h3>Asked</h3>\n{_fields(document, asked)}"
    yield f"<h3>Try it</h3>\n<pre>{escape(_command(address + path, _example(asked), is_guarded=is_guarded))}</pre>"
    answered = operation["responses"][_OK]["content"]
    schema = _resolved(document, answered.get("application/json", {}).get("schema", {}))
    yield f"<h3>Answered</h3>\n{_fields(document, schema)}" if schema else "<h3>Answered</h3>\n<p>Text.</p>"
    refusals = {status: found["description"] for status, found in operation["responses"].items() if status != _OK}
    if refusals:
        rows = (f"<tr><th>{escape(status)}</th><td>{escape(why)}</td></tr>" for status, why in sorted(refusals.items()))
        yield f"<h3>Refused</h3>\n<table>\n{chr(10).join(rows)}\n</table>"
    yield "</section>"


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> str:
    rows = (
        f'<tr><th>{escape(name)}</th><td class="kind">{escape(_kind(field))}</td>'
        f"<td>{escape(field.get('description') or ', '.join(_resolved(document, field).get('properties', ())))}</td></tr>"
        for name, field in schema["properties"].items()
    )
    return f"<table>\n{chr(10).join(rows)}\n</table>"


def _kind(field: dict[str, Any]) -> str:
    """What a field holds, in words.

    >>> _kind({"type": "array", "items": {"type": "string"}}), _kind({"anyOf": [{"type": "string"}, {"type": "null"}]})
    ('list of strings', 'string or null')
    """
    if "anyOf" in field:
        return " or ".join(map(_kind, field["anyOf"]))
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}s"
    return _KINDS[field.get("type", "object")]  # a reference leads to an object


def _example(schema: dict[str, Any]) -> Any:
    return {name: field["examples"][0] for name, field in schema.get("properties", {}).items() if field.get("examples")}


def _command(address: str, example: Any, *, is_guarded: bool) -> str:
    """A line for a shell; words in it are quoted as POSIX has it."""
    options = ['-H "Authorization: Bearer $TOKEN"'] if is_guarded else []
    if example:
        options += ["-H 'Content-Type: application/json'", f"-d {_quoted(json.dumps(example))}"]
    return " ".join(["curl", *options, _quoted(address)])


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "'\\''") + "'"


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema, or the one that a reference leads to."""
    found: Any = schema
    if "$ref" in schema:
        found = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
    return dict(found)
