"""``python -m backend users ...``, ``backup FILE``, ``restore FILE``: what is done beside a server or without one."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from backend import told
from backend.accounts.people import People
from backend.backup import back_up, restore
from backend.db import Database, User
from backend.settings import Settings
from backend.storage import DATABASE_FILE
from wara.errors import InputError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
                  help="What is done beside the server; without a command the server starts.")  # fmt: skip
users = typer.Typer(no_args_is_help=True, help="The accounts. A server beside sees each change within a second.")
app.add_typer(users, name="users")
Name = Annotated[str, typer.Argument(help="The account's name.")]


@users.command("add")
def add_user(name: Name, role: Annotated[str, typer.Option(help="admin, member or viewer.")] = "member") -> None:
    """Make an account; the password is asked for, or read from standard input. The first account is an admin."""
    with _people() as people:
        first = not people.exist()
        user = people.add(name, _password(), "admin" if first else role)
    typer.echo(f"{user.name} ({user.role})")
    if first:
        typer.echo("From now on everybody signs in. What was here before belongs to this account.")


@users.command("list")
def list_users() -> None:
    """List the accounts."""
    with _people() as people:
        for user in people.list():
            state = ", disabled" if user.disabled else ""
            typer.echo(f"{user.name}\t{user.role}{state}\tsince {user.created:%Y-%m-%d}")


@users.command("password")
def set_password(name: Name) -> None:
    """Set a new password; the account's sessions end."""
    with _people() as people:
        user = people.change(_find(people, name).id, password=_password())
    typer.echo(f"{user.name} has a new password")


@users.command("role")
def set_role(name: Name, role: Annotated[str, typer.Argument(help="admin, member or viewer.")]) -> None:
    """Give an account another role."""
    with _people() as people:
        user = people.change(_find(people, name).id, role=role)
    typer.echo(f"{user.name} ({user.role})")


@users.command("disable")
def disable_user(
    name: Name, undo: Annotated[bool, typer.Option("--undo", help="Let the account in again.")] = False
) -> None:
    """Let an account in no more; what it owns stays."""
    with _people() as people:
        user = people.change(_find(people, name).id, disabled=not undo)
    typer.echo(f"{user.name} {'can sign in again' if undo else 'is disabled'}")


@app.command("backup")
def backup(file: Annotated[Path, typer.Argument(help="New file to write, e.g. studio.tar.")]) -> None:
    """Write all that the data folder holds into one file, while the server runs."""
    counts = back_up(Settings().data_dir, file)
    typer.echo(f"{file}: {counts.files:,} files, {counts.bytes / 2**20:,.1f} MiB")


@app.command("restore")
def restore_command(file: Annotated[Path, typer.Argument(help="A file that backup wrote.")]) -> None:
    """Unpack a backup into the data folder (WARA_DATA_DIR), which must be empty or not there."""
    counts = restore(file, Settings().data_dir)
    typer.echo(f"{Settings().data_dir}: {counts.files:,} files, {counts.bytes / 2**20:,.1f} MiB. Start the server now.")


def run() -> int:
    """Run the command line; wrong input becomes a sentence and exit status 2."""
    try:
        app(standalone_mode=False)
    except told.EXPECTED as error:
        sys.stderr.write(f"Error: {told.sentence(error)}\n")
        return 2
    except typer.Abort:
        return 1
    except Exception as error:
        # Click's own words about a wrong command line.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        return 2
    return 0


@contextmanager
def _people() -> Iterator[People]:
    settings = Settings()
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "The data folder cannot be used", seen=f"{settings.data_dir}: {error.strerror}",
            remedy="Set WARA_DATA_DIR to a folder that this user may write to.", code="data-folder-unusable",
        ) from error  # fmt: skip
    database = Database(settings.data_dir / DATABASE_FILE)
    try:
        database.upgrade()
        yield People(database)
    finally:
        database.close()


def _find(people: People, name: str) -> User:
    found = next((user for user in people.list() if user.key == name.strip().casefold()), None)
    if found is None:
        known = ", ".join(user.name for user in people.list()) or "none"
        raise InputError(
            "There is no account of this name", seen=name[:80], remedy=f"Accounts are: {known}.", code="no-account"
        )
    return found


def _password() -> str:
    """Ask twice at a terminal, else take a line of standard input; never the command line, which everybody can list."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise InputError("The two passwords differ", remedy="Try again.", code="password-differs")
    return password
