"""`make audit`: is a secret in the repository, and is a known vulnerability in what it pins?

Secrets are looked for in every file that git tracks, and with --history in every version of every file; this needs
nothing but git. Vulnerabilities are pip-audit's business, which asks PyPI: where that is out of reach nothing is known,
and it says so. Standard library only, so that it runs before anything is installed.
"""

import argparse
import base64
import binascii
import contextlib
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
PIP_AUDIT = "pip-audit==2.9.0"
# Beside what is no secret: a line that says so is believed, and so are words that say it of themselves.
NOT_A_SECRET = "not a secret"  # noqa: S105
_HARMLESS = re.compile(
    r"only-for-tests|example|placeholder|secret|password|changeme|\$|[<>{}()\[\]*]|^[a-z]+([-_ ][a-z]+)*$", re.IGNORECASE
)
_SHAPES = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50})"),
    "a Slack token": re.compile(r"\bxox[abprs]-[0-9A-Za-z-]{20}"),
    "a Google key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "a PyPI token": re.compile(r"\bpypi-AgEI[0-9A-Za-z_-]{20}"),
    "a signed token": re.compile(r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{20}"),
}
_IN_ADDRESS = re.compile(r"\w://[^/\s:@'\"]*:(?P<secret>[^/\s@'\"]{6,})@[\w.-]")
_ASSIGNED = re.compile(
    r"""(?:passw(?:or)?d|secret|token|api_?key|auth_?key|fernet_?key)\w*['"]?\s*(?:=>|[:=])\s*['"]?(?P<secret>[0-9A-Za-z+/=_-]{20,})""",
    re.IGNORECASE,
)
# Secrets of tests that are over: they stay in the history, and open nothing. By the beginning of their SHA-256.
_THROWN_AWAY = {"2a38e16bd4892e25"}
_MIN_BITS = 3.5  # a character, of hexadecimal digits drawn at random; words of a language and names in code lie below 3.3
_MAX_BYTES = 4_000_000


class Finding(NamedTuple):
    """Where a secret may be; the secret itself is not told."""

    place: str
    line: int
    what: str


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: nothing found; 1: something found, or, where CI is set, vulnerabilities could not be looked up."""
    parser = argparse.ArgumentParser(description="Look for secrets in the repository and for vulnerabilities in what it pins.")
    parser.add_argument("--history", action="store_true", help="look into every version of every file too")
    parser.add_argument("--secrets-only", action="store_true", help="do not ask PyPI")
    options = parser.parse_args(arguments)
    found = sorted(set(find_secrets(REPOSITORY, history=options.history)))
    for finding in found:
        print(f"{finding.place}:{finding.line}: looks like {finding.what}; if it is none, say `{NOT_A_SECRET}` in that line")
    if not found:
        print("Secrets: none in what git tracks" + (", nor in its history." if options.history else "."))
    status = 1 if found else 0
    return status if options.secrets_only else max(status, check_dependencies())


def find_secrets(repository: Path, *, history: bool = False) -> Iterator[Finding]:
    """What looks like a secret in tracked files; secrets that this clone has made for itself are known by heart."""
    own = own_secrets(repository)
    tracked = _git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split(b"\0")
    for name in filter(None, tracked):
        path = repository / os.fsdecode(name)
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _MAX_BYTES:
            yield from look_through(os.fsdecode(name), path.read_bytes(), own)
    if history:
        for name, content in _blobs(repository):
            yield from look_through(name, content, own)


def look_through(place: str, content: bytes, own: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """What looks like a secret in one file; files that are no text are passed over."""
    if b"\0" in content:
        return
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        if NOT_A_SECRET not in line:
            yield from (Finding(place, number, what) for what in _in_line(line, own))


def _in_line(line: str, own: frozenset[str]) -> Iterator[str]:
    if any(secret in line for secret in own):
        yield "a secret of this clone's own stack"
    yield from (what for what, shape in _SHAPES.items() if shape.search(line))
    if any(not _HARMLESS.search(match["secret"]) for match in _IN_ADDRESS.finditer(line)):
        yield "a password in an address"
    if any(is_random(match["secret"]) for match in _ASSIGNED.finditer(line)):
        yield "a secret"


def is_random(word: str) -> bool:
    """Whether a word has been drawn rather than written: by the entropy of its characters, in bits.

    >>> is_random("9f8a7c6b5d4e3f2a1b0c9d8e7f6a5b4c"), is_random("sentiment_reader_password"), is_random("aaaaaaaaaaaaaaaaaaaaaaaa")
    (True, False, False)
    """
    decoded = word
    with contextlib.suppress(binascii.Error, UnicodeDecodeError):
        decoded += base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode("ascii")
    if _HARMLESS.search(decoded) or hashlib.sha256(word.encode()).hexdigest()[:16] in _THROWN_AWAY:
        return False
    counts = Counter(word)
    bits = -sum(n / len(word) * math.log2(n / len(word)) for n in counts.values())
    return bits >= _MIN_BITS and any(char.isdigit() for char in word)


def own_secrets(repository: Path) -> frozenset[str]:
    """Secrets that the embedded stack or `make-env` has made in this clone."""
    made: list[str] = []
    stack = repository / ".local" / "secrets.json"
    if stack.is_file():
        made += [str(value) for value in json.loads(stack.read_text(encoding="utf-8")).values()]
    env = repository / ".env"
    if env.is_file():
        lines = [line.partition("=") for line in env.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        made += [value for name, _, value in lines if re.search("PASSWORD|SECRET|KEY", name)]
    return frozenset(value for value in made if len(value) >= 16)  # noqa: PLR2004 (shorter ones may be words)


def check_dependencies() -> int:
    """0 when pip-audit knows of no vulnerability; where it could not ask, that is said, and is a failure only in CI."""
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command = [_uv(), "tool", "run", PIP_AUDIT, "--requirement", str(REPOSITORY / "requirements.txt"), *options]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
        output, complaints = done.stdout, done.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        output, complaints = "", str(error)
    return judge_dependencies(output, complaints, is_ci=bool(os.environ.get("CI")))


def judge_dependencies(output: str, complaints: str, *, is_ci: bool) -> int:
    """What pip-audit said, in words. It passes over what it cannot look up, and calls that no vulnerability."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        packages = []
    known = [package for package in packages if "skip_reason" not in package]
    if len(known) < 0.9 * len(packages) or not packages:
        reason = (complaints.strip().splitlines() or ["no answer"])[-1] if not packages else packages[0].get("skip_reason", "")
        print(f"Dependencies: not checked, {len(known)} of {len(packages)} could be looked up ({reason}).")
        print("  Run `make audit` again where pypi.org answers; the GitHub workflow audit.yaml does it every week.")
        return 1 if is_ci else 0
    vulnerable = [package for package in known if package["vulns"]]
    for package in vulnerable:
        for flaw in package["vulns"]:
            fixed = ", ".join(flaw.get("fix_versions") or ["none"])
            print(f"{package['name']} {package['version']}: {flaw['id']}; mended in {fixed}")
    print(f"Dependencies: {len(vulnerable) or 'none'} of {len(known)} with a known vulnerability.")
    return 1 if vulnerable else 0


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else "uv"


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=repository, check=True, capture_output=True).stdout


def _blobs(repository: Path) -> Iterator[tuple[str, bytes]]:
    """Every version of every file in the history."""
    lines = _git(repository, "rev-list", "--objects", "--all").decode("utf-8", "replace").splitlines()
    names = dict(line.split(" ", 1) for line in lines if " " in line)
    sizes = subprocess.run(
        ["git", "cat-file", "--batch-check"], cwd=repository, check=True, capture_output=True, input="\n".join(names).encode()
    ).stdout
    wanted = [
        digest for digest, kind, size in map(str.split, sizes.decode().splitlines()) if kind == "blob" and int(size) <= _MAX_BYTES
    ]
    with subprocess.Popen(["git", "cat-file", "--batch"], cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as git:
        assert git.stdin  # noqa: S101 (they are pipes)
        assert git.stdout  # noqa: S101
        for digest in wanted:
            git.stdin.write(f"{digest}\n".encode())
            git.stdin.flush()
            size = int(git.stdout.readline().split()[2])
            content = git.stdout.read(size + 1)
            yield f"{names[digest]} ({digest[:12]})", content[:-1]


if __name__ == "__main__":
    sys.exit(main())
