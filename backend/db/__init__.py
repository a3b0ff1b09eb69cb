"""The database: typed tables, sessions and migrations."""

from backend.db.engine import Database
from backend.db.models import Backbone, Base, Dataset, Happening, Job, Model

__all__ = ["Backbone", "Base", "Database", "Dataset", "Happening", "Job", "Model"]
