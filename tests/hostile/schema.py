"""``python -m tests.hostile.schema``: schemathesis over the whole OpenAPI, as each role, on a real server with data.

A server error fails it, so does a role that sees or changes what belongs to somebody else, and so does an answer that
the OpenAPI does not announce: its status, content type, headers or form; bad input that is taken; a method that is.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from backend.accounts.people import People
from backend.db import Database
from backend.storage import DATABASE_FILE
from tests.backend.support import API, Server, Studio, study, wait_until

# What schemathesis checks beside these is not ours: that all which fits the schema is accepted (a class, finding or
# backbone that does not exist fits as any text does, and is rightly refused), and that Allow names the methods of one
# operation (GET datasets/demo is documented as GET datasets/{dataset_id}, so that address does take GET).
NOT_OURS = "positive_data_acceptance,allow_header_conformance"
# Whoever is not signed in is told so, and not which methods there are.
NOT_FOR_NOBODY = ",unsupported_method"
# Who asks. "nobody" has a server with accounts before it and none of its own; the data belong to the first admin.
ROLES = ("anonymous", "nobody", "viewer", "member", "admin")
# By these whoever asks would take away their own account, token or session, and be nobody for the rest.
ENDS_THE_ASKER = r"/api/v1/(session|me/|accounts/\{)"
PASSWORD = "correct horse battery staple"


def tokens(data: Path) -> dict[str, str]:
    """Make accounts beside the running server; return a token for the admin who owns what is there, and each role's."""
    database = Database(data / DATABASE_FILE)
    people = People(database)
    try:
        made = {}
        for name, role in (("owner", "admin"), ("admin", "admin"), ("member", "member"), ("viewer", "viewer")):
            user = people.add(name, PASSWORD, role)
            made[name], _ = people.issue(user.id, "schema", sorted(people.scopes(role)), 1)
        return made
    finally:
        database.close()


def objects(studio: Studio, headers: dict[str, str]) -> list[dict[str, Any]]:
    """Return the data sets that somebody sees."""
    answer = studio.http.get(f"{API}/datasets", headers=headers)
    return list(answer.json()["items"]) if answer.status_code == 200 else []


def check(folder: Path, role: str, *, examples: int, seed: int) -> int:
    """Run schemathesis as one role; return its exit code, or 1 where the log tells of an error nobody foresaw."""
    (folder / "data").mkdir()
    server = Server(folder / "data")
    studio = server.start()
    try:
        studio.ready(study(4))
        headers, owner = {}, {}
        if role != "anonymous":
            made = tokens(folder / "data")
            owner = {"Authorization": f"Bearer {made['owner']}"}
            headers = {"Authorization": f"Bearer {made[role]}"} if role in made else {}
            # A server looks for the first account about once a second.
            wait_until(lambda: studio.http.get(f"{API}/datasets").status_code == 401, 30)
        before = objects(studio, owner)
        described = folder / "openapi.json"  # which whoever is not signed in may not read
        described.write_bytes(studio.http.get("/api/openapi.json", headers=owner).content)
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", str(described), "--url", str(studio.http.base_url),
            "--suppress-health-check", "all",
            "--checks", "all", "--exclude-checks", NOT_OURS + NOT_FOR_NOBODY * (role == "nobody"),
            "--max-examples", str(examples), "--seed", str(seed),
            "--phases", "examples,coverage,fuzzing", "--request-timeout", "60",
            "--max-response-time", "60",  # how fast a machine is, is no finding; the benchmarks tell it
        ]  # fmt: skip
        if headers:
            command += ["--exclude-path-regex", ENDS_THE_ASKER]
        for name, value in headers.items():
            command += ["--header", f"{name}: {value}"]
        code = subprocess.run(command, check=False, cwd=folder, env={**os.environ, "NO_COLOR": "1"}).returncode
        alive = studio.http.get(f"{API}/health/live").status_code == 200
        unforeseen = [line for line in server.log().splitlines() if "Unexpected error" in line]
        if unforeseen:
            sys.stderr.write("\n".join(line for line in server.log().splitlines() if " INFO " not in line) + "\n")
        if role in ("nobody", "viewer", "member"):
            kept = [found for found in objects(studio, owner) if found["id"] in {each["id"] for each in before}]
            if kept != before or (objects(studio, headers) and role != "member"):
                sys.stderr.write(f"as {role}: what belongs to somebody else was seen or changed\n")
                sys.stderr.write(f"before: {before}\nafter: {kept}\n")
                return 1
        return code if alive and not unforeseen else 1
    finally:
        server.stop(signal.SIGTERM)


def main() -> int:
    """Check as every role; 1 where one of them fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.schema", description=__doc__)
    parser.add_argument("--role", choices=ROLES, action="append", help="all of them when left out")
    parser.add_argument("--examples", type=int, default=50, help="requests an operation")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    worst = 0
    for role in chosen.role or ROLES:
        sys.stdout.write(f"as {role}\n")
        sys.stdout.flush()
        with tempfile.TemporaryDirectory(prefix="wara-schema-") as folder:
            worst |= check(Path(folder), role, examples=chosen.examples, seed=chosen.seed)
    return int(bool(worst))


if __name__ == "__main__":
    sys.exit(main())
