"""The database: typed tables, sessions and migrations."""

from backend.db.engine import Database
from backend.db.models import Backbone, Base, Dataset, Happening, Job, Model
from backend.db.people import ApiToken, AuditEntry, LoginSession, Share, User

__all__ = [
    "ApiToken", "AuditEntry", "Backbone", "Base", "Database", "Dataset", "Happening", "Job", "LoginSession", "Model",
    "Share", "User",
]  # fmt: skip
