"""``python -m tests.hostile.schema``: schemathesis over the whole OpenAPI, as each role, on a real server with data.

A server error fails it. What else schemathesis checks (documented status codes, content types, headers, schemas of
answers) is shown, and fails it with ``--strict``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.backend.support import API, Server, Studio, study

SERVER_ERRORS = "not_a_server_error"
# A role's headers, made on the server that is asked. Accounts add theirs: viewer, member of another project, admin.
ROLES: dict[str, Callable[[Studio], dict[str, str]]] = {"anonymous": lambda _: {}}


def check(folder: Path, role: str, *, examples: int, seed: int, strict: bool) -> int:
    """Run schemathesis as one role; return its exit code, or 1 where the log tells of an error nobody foresaw."""
    (folder / "data").mkdir()
    server = Server(folder / "data")
    studio = server.start()
    try:
        studio.ready(study(4))
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{studio.http.base_url}/api/openapi.json",
            "--checks", "all" if strict else SERVER_ERRORS, "--max-examples", str(examples), "--seed", str(seed),
            "--phases", "examples,coverage,fuzzing", "--request-timeout", "60",
        ]  # fmt: skip
        for name, value in ROLES[role](studio).items():
            command += ["--header", f"{name}: {value}"]
        code = subprocess.run(command, check=False, cwd=folder, env={**os.environ, "NO_COLOR": "1"}).returncode
        alive = studio.http.get(f"{API}/health").status_code == 200
        unforeseen = [line for line in server.log().splitlines() if "Unexpected error" in line]
        if unforeseen:
            sys.stderr.write("\n".join(line for line in server.log().splitlines() if " INFO " not in line) + "\n")
        return code if alive and not unforeseen else 1
    finally:
        server.stop(signal.SIGTERM)


def main() -> int:
    """Check as every role; 1 where one of them fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.schema", description=__doc__)
    parser.add_argument("--role", choices=sorted(ROLES), action="append", help="all of them when left out")
    parser.add_argument("--examples", type=int, default=50, help="requests an operation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strict", action="store_true", help="with all checks")
    chosen = parser.parse_args()
    worst = 0
    for role in chosen.role or sorted(ROLES):
        sys.stdout.write(f"as {role}\n")
        sys.stdout.flush()
        with tempfile.TemporaryDirectory(prefix="wara-schema-") as folder:
            worst |= check(Path(folder), role, examples=chosen.examples, seed=chosen.seed, strict=chosen.strict)
    return int(bool(worst))


if __name__ == "__main__":
    sys.exit(main())
